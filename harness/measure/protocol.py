"""The driver's side of docs/protocol.md: start a worker, load, ask, end it.

Labels never cross this border.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from harness.errors import WorkerError

PASSED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
"""Environment variables that a worker gets from the driver; all others stay out."""

BUILT_IN = (sys.executable, "-m", "harness.measure.worker")
LOAD_SECONDS = 300.0
LEAVE_SECONDS = 2.0
PIPE_BYTES = 1 << 20
STDERR_LINES = 12
LINE_BYTES = 64 << 20


def environment(threads: int) -> dict[str, str]:
    """What a worker's environment holds: the allow-list, and the thread counts of every library
    that would take all cores.
    """
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    fixed = {
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
    }
    return (
        {name: os.environ[name] for name in PASSED if name in os.environ}
        | dict.fromkeys(counts, str(threads))
        | fixed
    )


class Worker:
    """A worker process, pinned to the first `cores` logical CPUs that the driver may use.

    Every method raises WorkerError, with the last lines of the worker's stderr, if the worker dies,
    hangs or breaks the protocol.
    """

    def __init__(self, cores: int, command: Sequence[str] = BUILT_IN) -> None:
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self.buffer = b""
        allowed = os.sched_getaffinity(0)
        # the child inherits it, and so is pinned from its first instruction on
        os.sched_setaffinity(0, sorted(allowed)[:cores])
        try:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                env=environment(cores),
                start_new_session=True,
                pipesize=PIPE_BYTES,
            )
        except OSError as error:
            self.stderr.close()
            raise WorkerError(f"the worker cannot be started: {error}") from None
        finally:
            os.sched_setaffinity(0, allowed)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.to, False)
        os.set_blocking(self.back, False)
        self.writable, self.readable = selectors.DefaultSelector(), selectors.DefaultSelector()
        self.writable.register(self.to, selectors.EVENT_WRITE)
        self.writable.register(self.back, selectors.EVENT_READ)
        self.readable.register(self.back, selectors.EVENT_READ)

    def load(self, message: dict[str, Any]) -> float:
        """Send a load message. Returns: seconds until the worker was ready."""
        started = time.perf_counter()
        reply = self.parse(
            self.ask(json.dumps({"op": "load", **message}).encode() + b"\n", LOAD_SECONDS)
        )
        if reply.get("ready") is not True:
            raise self.fault(
                f"it answered {str(reply)[:100]!r} to the load message instead of ready"
            )
        return time.perf_counter() - started

    def ask(self, line: bytes, timeout: float) -> bytes:
        """Send one line, sleep until its reply is there, and return that line unread."""
        replies = self.exchange([line], timeout)
        return replies[0]

    def exchange(self, lines: Sequence[bytes], timeout: float) -> list[bytes]:
        """Send many lines, reading while writing, and return as many replies in the order they
        came.

        timeout: seconds without a byte in either direction before the worker counts as hung.
        """
        replies: list[bytes] = []
        position, offset = 0, 0
        while len(replies) < len(lines):
            if position < len(lines):
                try:
                    offset += os.write(self.to, memoryview(lines[position])[offset:])
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    raise self.fault("it closed its input") from None
                if offset == len(lines[position]):
                    position, offset = position + 1, 0
            waiting = self.readable if position == len(lines) else self.writable
            ready = waiting.select(timeout)
            if not ready:
                raise self.fault(f"it gave no answer for {timeout:.0f} seconds")
            if any(key.fd == self.back for key, _ in ready):
                replies += self._read_lines()
        if len(replies) > len(lines) or self.buffer:
            raise self.fault("it sent more than was asked for")
        return replies

    def parse(self, line: bytes) -> dict[str, Any]:
        """A reply as JSON."""
        try:
            reply = json.loads(line)
        except ValueError:
            raise self.fault(f"it sent a line that is not JSON: {line[:80]!r}") from None
        if not isinstance(reply, dict):
            raise self.fault(f"it sent {line[:80]!r}, which is no JSON object")
        if "error" in reply:
            raise self.fault(str(reply["error"])[:500])
        return reply

    def answers(self, line: bytes, sizes: Mapping[int, Sequence[int]]) -> tuple[int, list[int]]:
        """The id and the answers of a reply. sizes: for each id that was asked, how many answers
        are possible for each example.
        """
        reply = self.parse(line)
        number, given = reply.get("id"), reply.get("answers")
        if not isinstance(number, int) or number not in sizes:
            raise self.fault(
                f"it answered id {number!r}, which was not asked, or was answered before"
            )
        possible = sizes[number]
        if not isinstance(given, list) or len(given) != len(possible):
            count = len(given) if isinstance(given, list) else "no"
            raise self.fault(f"it gave {count} answers to {len(possible)} examples (id {number})")
        for answer, limit in zip(given, possible, strict=True):
            if type(answer) is not int or not 0 <= answer < limit:
                raise self.fault(
                    f"it answered {answer!r}; an answer is a whole number in 0..{limit - 1}"
                )
        return number, given

    def cpu_seconds(self) -> float:
        """User and system time of the worker and all its children so far."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
                if process.pid == self.process.pid:
                    total += times.children_user + times.children_system
        return total

    def peak_memory_mb(self) -> float:
        """Sum of the peak resident memory of the worker and its children, in 10^6 bytes."""
        total = 0
        for process in self._tree():
            with suppress(OSError):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return total * 1024 / 1e6

    def fault(self, reason: str) -> WorkerError:
        """The error to raise, with how the process ended and the last lines of its stderr."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
        ended = self.process.poll()
        if ended is not None:
            name = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"status {ended}"
            reason = f"{reason} (the worker ended with {name})"
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, size - 8192))
        tail = self.stderr.read().decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        error = WorkerError(reason)
        error.add_note("\n".join(tail))
        return error

    def close(self) -> None:
        """End of input, two seconds to leave, then the whole process group is killed.

        Nothing is left behind.
        """
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LEAVE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.writable.close()
        self.readable.close()
        self.stderr.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read_lines(self) -> list[bytes]:
        data = os.read(self.back, PIPE_BYTES)
        if not data:
            raise self.fault("it closed its output")
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        if len(self.buffer) > LINE_BYTES:
            raise self.fault(f"it sent a line longer than {LINE_BYTES >> 20} MiB")
        return lines

    def _tree(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.Error:
            return []
