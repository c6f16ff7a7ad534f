"""The driver's side of docs/protocol.md: start a worker, load, ask, end it.

Labels never cross this border.
"""

import json
import os
import secrets
import selectors
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from harness.errors import HarnessError, WorkerError
from harness.results.record import Timing
from harness.store.cache import scratch_folder
from harness.worker import process_tree, sandbox
from harness.worker.sandbox import SandboxSpec

PASSED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
"""Environment variables that a worker gets from the driver; all others stay out."""

BUILT_IN = (sys.executable, "-m", "harness.worker.process")
LEAVE_SECONDS = 2.0
PIPE_BYTES, READ_BYTES = 1 << 20, 1 << 16
STDERR_LINES = 12
LINE_BYTES = 64 << 20


def environment(threads: int, home: str) -> dict[str, str]:
    """What a worker's environment holds: the allow-list, an empty home, and the thread counts of
    every library that would take all cores.
    """
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    fixed = {
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # else custom code would change its own folder
        "HOME": home,
        "TMPDIR": home,
    }
    if path := sandbox.python_path():
        fixed["PYTHONPATH"] = path
    if site.ENABLE_USER_SITE:
        fixed["PYTHONUSERBASE"] = site.getuserbase()
    return (
        {name: os.environ[name] for name in PASSED if name in os.environ}
        | dict.fromkeys(counts, str(threads))
        | fixed
    )


class Worker:
    """A worker process, pinned to the first `cores` logical CPUs that the driver may use.

    Every method raises WorkerError, with the last lines of the worker's stderr, if the worker dies,
    hangs, breaks the protocol or leaves its limits.

    `reports`: whether its examples may leave early, so that it is asked where they did.
    """

    def __init__(
        self, cores: int, command: Sequence[str] = BUILT_IN, spec: SandboxSpec = SandboxSpec()
    ) -> None:
        sandboxed = spec.isolation != "process"
        self.sandbox_processes = sandbox.SANDBOX_PROCESSES if sandboxed else 0
        self.buffer, self.reports, self.cores = bytearray(), False, cores
        self.home = scratch_folder()
        home = Path("/tmp") if sandboxed else self.home  # noqa: S108
        folder = spec.folder or home
        readable = (*sandbox.python_paths(), *spec.readable)
        try:
            full = sandbox.sandbox_command(command, replace(spec, readable=readable, folder=folder))
        except HarnessError:
            shutil.rmtree(self.home, ignore_errors=True)
            raise
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        allowed = os.sched_getaffinity(0)
        pinned = sorted(allowed)[:cores]
        process_tree.adopt_orphans()
        self.mark = f"WATTBENCH_WORKER={secrets.token_hex(8)}"
        # the child inherits it, and so is pinned from its first instruction on
        os.sched_setaffinity(0, pinned)
        try:
            self.process = subprocess.Popen(
                full,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                cwd="/" if sandboxed else folder,
                env=environment(cores, str(home)) | dict([self.mark.split("=")]),
                start_new_session=True,
                pipesize=PIPE_BYTES,
            )
        except OSError as error:
            self.stderr.close()
            shutil.rmtree(self.home, ignore_errors=True)
            raise WorkerError(f"the worker cannot be started: {error}") from None
        finally:
            os.sched_setaffinity(0, allowed)
        limits = process_tree.Limits(spec.memory_gb * 2**30, frozenset(pinned))
        self.watch = process_tree.Watch(self.process.pid, self.stderr, limits)
        self.watch.start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.to, False)
        os.set_blocking(self.back, False)
        self.writable, self.readable = selectors.DefaultSelector(), selectors.DefaultSelector()
        self.writable.register(self.to, selectors.EVENT_WRITE)
        self.writable.register(self.back, selectors.EVENT_READ)
        self.readable.register(self.back, selectors.EVENT_READ)

    def load(self, message: dict[str, Any], timeout: float = Timing.load_timeout) -> None:
        """Send a load message and wait (at most `timeout` seconds) until the worker is ready."""
        line = json.dumps({"op": "load", **message}).encode() + b"\n"
        reply = self.parse(self.ask(line, timeout))
        if reply.get("ready") is not True:
            raise self.fault(
                f"it answered {str(reply)[:100]!r} to the load message instead of ready"
            )
        if self.sandbox_processes:
            for pid in process_tree.worker_processes(self.process.pid, self.sandbox_processes):
                self.watch.tmpfs = process_tree.own_tmpfs(pid) or self.watch.tmpfs

    def report(self) -> list[int]:
        """How many examples left at each stage since the last report (early exit, cascades)."""
        reply = self.parse(self.ask(b'{"op":"report"}\n', Timing.load_timeout)).get("report")
        left = reply.get("left") if isinstance(reply, dict) else None
        if not isinstance(left, list) or not all(type(each) is int for each in left):
            raise self.fault(f"it reported {reply!r}; `left` must be a list of whole numbers")
        return left

    def ask(self, line: bytes, timeout: float) -> bytes:
        """Send one line, sleep until its reply is there, and return that line unread."""
        if self.buffer or self.readable.select(0):
            raise self.fault("it sent something before it was asked, or closed its output")
        replies = self.exchange([line], timeout)
        return replies[0]

    def exchange(self, lines: Sequence[bytes], timeout: float) -> list[bytes]:
        """Send many lines, reading while writing, and return as many replies in the order they
        came.

        timeout: seconds that all of it may take before the worker counts as hung.
        """
        replies: list[bytes] = []
        position, offset = 0, 0
        deadline = time.monotonic() + timeout
        while len(replies) < len(lines):
            if position < len(lines):
                offset += self.push(memoryview(lines[position])[offset:])
                if offset == len(lines[position]):
                    position, offset = position + 1, 0
            waiting = self.readable if position == len(lines) else self.writable
            left = deadline - time.monotonic()
            ready = waiting.select(left) if left > 0 else []
            if not ready:
                missing = f" to {len(lines) - len(replies)} of {len(lines)}" if lines[1:] else ""
                raise self.fault(f"it gave no answer{missing} for {timeout:.0f} seconds")
            if any(key.fd == self.back for key, _ in ready):
                replies += self.replies()
        self.settled(len(replies) - len(lines))
        return replies

    def push(self, data: bytearray | memoryview) -> int:
        """Write what the pipe takes now. Returns: how many bytes."""
        try:
            return os.write(self.to, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise self.fault("it closed its input") from None

    def replies(self) -> list[bytes]:
        """The lines that are there, unread; to be called when there is something."""
        data = os.read(self.back, READ_BYTES)
        if not data:
            raise self.fault("it closed its output")
        if b"\n" not in data:
            self.buffer += data
            lines = []
        else:
            *lines, rest = (self.buffer + data).split(b"\n")
            self.buffer = bytearray(rest)
        if len(self.buffer) > LINE_BYTES:
            raise self.fault(f"it sent a line longer than {LINE_BYTES >> 20} MiB")
        return [bytes(each) for each in lines]

    def settled(self, surplus: int) -> None:
        """After the last reply: nothing more may have come."""
        if surplus > 0 or self.buffer:
            raise self.fault("it sent more than was asked for")

    def parse(self, line: bytes) -> dict[str, Any]:
        """A reply as JSON."""
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
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
        return process_tree.cpu_seconds(self.process.pid)

    def peak_memory_mb(self) -> float:
        """Peak resident memory of the worker's process tree, in 10^6 bytes; not to be called in a
        window.

        Also looks once more whether the worker keeps to its limits.
        """
        if reason := self.watch.reason or self.watch.look():
            raise self.fault(reason)
        return process_tree.peak_memory(self.process.pid, self.sandbox_processes) / 1e6

    def keeps_to_its_cores(self, seconds: float, cpu_seconds: float) -> None:
        """Raises: WorkerError if a window holds more CPU time than its cores can give."""
        if cpu_seconds > 1.1 * self.cores * seconds + 0.1:
            raise self.fault(
                f"it used {cpu_seconds / seconds:.1f} cores of the {self.cores} that it has"
            )

    def fault(self, reason: str) -> WorkerError:
        """The error to raise, with how the process ended and the last lines of its stderr; where it
        left its limits that is the reason.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
        ended = self.process.poll()
        if broken := self.watch.reason or self.watch.look():
            reason = broken
        elif ended is not None:
            number = -ended if ended < 0 else ended - 128  # bubblewrap: 128 + signal
            known = number in {each.value for each in signal.Signals}
            name = f"signal {signal.Signals(number).name}" if known else f"status {ended}"
            reason = f"{reason} (the worker ended with {name})"
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, size - 8192))
        tail = self.stderr.read().decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        error = WorkerError(_printable(reason))
        error.add_note("\n".join(map(_printable, tail)))
        return error

    def close(self) -> None:
        """End of input, two seconds to leave, then all processes are killed that came of it.

        Nothing is left behind.
        """
        members = set(process_tree.tree(self.process.pid))
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LEAVE_SECONDS)
        self.watch.end()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        left = process_tree.tree(self.process.pid)
        process_tree.kill(left)
        self.process.wait()
        mine = (members | set(left)) & set(
            process_tree.children(os.getpid())
        )  # not a number used anew
        process_tree.bury(mine | process_tree.orphans(self.mark))
        shutil.rmtree(self.home, ignore_errors=True)
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


def _printable(text: str) -> str:
    """Without what no file and no terminal should be sent: lone surrogates, control characters."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(each if each.isprintable() else " " for each in whole)
