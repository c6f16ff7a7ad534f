"""A worker in simulated time, for what a busy machine must not disturb: schedules and latencies."""

import json
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import WorkerError
from harness.loadgen import server
from harness.worker.driver import Worker


class SimulatedWorker(Worker):
    """Answers one query after the other, each when its service time is over.

    Args:
        service: seconds that a query takes, by its number; infinite if it is never answered.
        pipe: bytes that the pipe holds unread while the worker is busy.

    Attributes:
        sent: when each query reached the worker.
    """

    def __init__(self, service: Callable[[int], float], pipe: float = math.inf) -> None:
        self.service, self.pipe = service, pipe
        self.now = self.free = 0.0
        self.sent: list[float] = []
        self.waiting: list[tuple[float, bytes, int]] = []
        self.unfinished = bytearray()
        self.has_stages, self.output_fd, self.input_fd = False, 0, 1

    def write_available(self, data: bytearray | memoryview) -> int:
        unread = sum(size for start, _, size in self.waiting if start > self.now)
        taken = min(len(data), int(min(self.pipe - unread, 1 << 40)))
        self.unfinished += data[:taken]
        *lines, rest = bytes(self.unfinished).split(b"\n")
        self.unfinished = bytearray(rest)
        for line in lines:
            number = json.loads(line)["id"]
            self.free = max(self.free, self.now) + self.service(number)
            reply = json.dumps({"id": number, "answers": [0]}).encode()
            self.waiting.append((self.free, reply, len(line)))
            self.sent.append(self.now)
        return taken

    def read_replies(self) -> list[bytes]:
        done = [reply for done_at, reply, _ in self.waiting if done_at <= self.now]
        self.waiting = self.waiting[len(done) :]
        return done

    def check_surplus(self, surplus: int) -> None:
        assert surplus == 0
        assert not self.waiting

    def cpu_seconds(self) -> float:
        return 0.0

    def check_cores(self, seconds: float, cpu_seconds: float) -> None:
        pass

    def make_error(self, reason: str) -> WorkerError:
        return WorkerError(reason)

    def select(
        self, read: Sequence[int], write: Sequence[int], _: Sequence[int], timeout: float
    ) -> tuple[list[int], list[int], list[int]]:
        """Sleep until a reply has arrived, or the time is over."""
        following = self.waiting[0][0] if self.waiting else math.inf
        self.now = max(self.now, min(following, self.now + timeout))
        return ([self.output_fd] if following <= self.now else []), [], []

    def keep_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the scenario `server` run in the time of this worker."""
        clock: Any = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(server, "time", clock)
        monkeypatch.setattr(server, "select", SimpleNamespace(select=self.select))
