"""The driver's side of the worker protocol (docs/methodology/protocol.md): start, load, query and
end a worker.

Labels are never sent.
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
from harness.store.cache import create_scratch_folder
from harness.worker import limits, process_tree, sandbox
from harness.worker.sandbox import SandboxSpec

PASSED_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "TORCHINDUCTOR_CACHE_DIR",
)
"""Environment variables that a worker gets from the driver; it gets no others."""

BUILT_IN = (sys.executable, "-m", "harness.worker.process")
EXIT_SECONDS = 2.0
PIPE_BYTES, READ_BYTES = 1 << 20, 1 << 16
STDERR_LINES = 12
CPU_TOLERANCE, CPU_SLACK_SECONDS = 1.1, 0.1
"""How much more CPU time a window may have than its cores provide: clocks are not exact."""

LINE_BYTES = 64 << 20


def make_environment(threads: int, home: str) -> dict[str, str]:
    """Return the environment variables of a worker.

    Args:
        threads: the number of threads for every library that would otherwise use all cores.
        home: its home directory and folder of temporary files.
    """
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    fixed = {
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as NVML, see telemetry/gpu.py
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # else custom code would change its own folder
        "HOME": home,
        "TMPDIR": home,
    }
    if path := sandbox.make_python_path():
        fixed["PYTHONPATH"] = path
    if site.ENABLE_USER_SITE:
        fixed["PYTHONUSERBASE"] = site.getuserbase()
    return (
        {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
        | dict.fromkeys(counts, str(threads))
        | fixed
    )


class Worker:
    """A worker process, pinned to the first logical CPUs that the driver may use.

    Every method raises WorkerError, with the last lines of the worker's stderr, if the worker dies,
    hangs, violates the protocol or exceeds its limits.

    Args:
        cores: the number of logical CPUs.
        command: the program.
        spec: the sandbox.

    Attributes:
        has_stages: whether its examples may leave early, so that it can report at which stage.
        input_fd: the descriptor that queries are written to.
        output_fd: the descriptor that replies are read from.
    """

    def __init__(
        self, cores: int, command: Sequence[str] = BUILT_IN, spec: SandboxSpec = SandboxSpec()
    ) -> None:
        sandboxed = spec.isolation != "process"
        self.sandbox_processes = sandbox.SANDBOX_PROCESSES if sandboxed else 0
        self.buffer = bytearray()  # the beginning of a reply
        self.has_stages = False
        self.cores = cores
        self.home = create_scratch_folder()
        home = Path("/tmp") if sandboxed else self.home  # noqa: S108
        folder = spec.folder or home
        readable = (*sandbox.find_python_paths(), *spec.readable)
        try:
            full_command = sandbox.sandbox_command(
                command, replace(spec, readable=readable, folder=folder)
            )
        except HarnessError:
            shutil.rmtree(self.home, ignore_errors=True)
            raise
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        allowed = os.sched_getaffinity(0)
        pinned = sorted(allowed)[:cores]
        limits.adopt_orphans()
        self.marker = f"WATTBENCH_WORKER={secrets.token_hex(8)}"
        # the child inherits it, and so is pinned from its first instruction on
        os.sched_setaffinity(0, pinned)
        try:
            self.process = subprocess.Popen(
                full_command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                cwd="/" if sandboxed else folder,
                env=make_environment(cores, str(home)) | dict([self.marker.split("=")]),
                start_new_session=True,
                pipesize=PIPE_BYTES,
            )
        except OSError as error:
            self.stderr.close()
            shutil.rmtree(self.home, ignore_errors=True)
            raise WorkerError(f"the worker cannot be started: {error}") from None
        finally:
            os.sched_setaffinity(0, allowed)
        allowed_use = limits.Limits(spec.memory_gb * 2**30, frozenset(pinned))
        self.monitor = limits.LimitsMonitor(self.process.pid, self.stderr, allowed_use)
        self.monitor.start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input_fd, self.output_fd = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.input_fd, False)
        os.set_blocking(self.output_fd, False)
        self.io_selector = selectors.DefaultSelector()
        self.reply_selector = selectors.DefaultSelector()
        self.io_selector.register(self.input_fd, selectors.EVENT_WRITE)
        self.io_selector.register(self.output_fd, selectors.EVENT_READ)
        self.reply_selector.register(self.output_fd, selectors.EVENT_READ)

    def load(self, message: dict[str, Any], timeout: float = Timing.load_timeout) -> None:
        """Send a load message and wait until the worker is ready.

        Args:
            message: the keys of the load message (docs/methodology/protocol.md).
            timeout: seconds until the worker counts as hung.
        """
        line = json.dumps({"op": "load", **message}).encode() + b"\n"
        reply = self.parse_reply(self.ask(line, timeout))
        if reply.get("ready") is not True:
            raise self.make_error(
                f"it answered {str(reply)[:100]!r} to the load message instead of ready"
            )
        if self.sandbox_processes:
            for pid in process_tree.find_worker_processes(self.process.pid, self.sandbox_processes):
                self.monitor.tmpfs = process_tree.find_private_tmpfs(pid) or self.monitor.tmpfs

    def read_stage_counts(self) -> list[int]:
        """Return how many examples left at each stage since the last call."""
        report = self.parse_reply(self.ask(b'{"op":"report"}\n', Timing.load_timeout)).get("report")
        counts = report.get("left") if isinstance(report, dict) else None
        if not isinstance(counts, list) or not all(type(count) is int for count in counts):
            raise self.make_error(f"it reported {report!r}; `left` must be a list of integers")
        return counts

    def ask(self, line: bytes, timeout: float) -> bytes:
        """Send one line and return the line of its reply; sleeps meanwhile.

        Args:
            line: a message, with its line end.
            timeout: seconds until the worker counts as hung.
        """
        if self.buffer or self.reply_selector.select(0):
            raise self.make_error("it sent a line before it got a message, or closed its output")
        return self.exchange([line], timeout)[0]

    def exchange(self, lines: Sequence[bytes], timeout: float) -> list[bytes]:
        """Send lines, reading while writing, and return as many replies in the order of arrival.

        Args:
            lines: messages, each with its line end.
            timeout: seconds that the whole exchange may take before the worker counts as hung.
        """
        replies: list[bytes] = []
        position, offset = 0, 0
        deadline = time.monotonic() + timeout
        while len(replies) < len(lines):
            if position < len(lines):
                offset += self.write_available(memoryview(lines[position])[offset:])
                if offset == len(lines[position]):
                    position, offset = position + 1, 0
            selector = self.reply_selector if position == len(lines) else self.io_selector
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                missing = len(lines) - len(replies)
                count = f" to {missing} of {len(lines)} queries" if lines[1:] else ""
                raise self.make_error(f"it gave no answer{count} within {timeout:g} s")
            if any(key.fd == self.output_fd for key, _ in ready):
                replies += self.read_replies()
        self.check_surplus(len(replies) - len(lines))
        return replies

    def write_available(self, data: bytearray | memoryview) -> int:
        """Write as much as the pipe takes now, and return the number of bytes."""
        try:
            return os.write(self.input_fd, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise self.make_error("it closed its input") from None

    def read_replies(self) -> list[bytes]:
        """Return the whole lines that have arrived; to be called when something can be read."""
        data = os.read(self.output_fd, READ_BYTES)
        if not data:
            raise self.make_error("it closed its output")
        if b"\n" not in data:
            self.buffer += data
            lines = []
        else:
            *lines, rest = (self.buffer + data).split(b"\n")
            self.buffer = bytearray(rest)
        if len(self.buffer) > LINE_BYTES:
            raise self.make_error(f"it sent a line longer than {LINE_BYTES >> 20} MiB")
        return [bytes(line) for line in lines]

    def check_surplus(self, surplus: int) -> None:
        """Check after the last reply that nothing more has arrived.

        Args:
            surplus: the number of replies less that of queries.
        """
        if surplus > 0 or self.buffer:
            raise self.make_error("it sent more replies than it got queries")

    def parse_reply(self, line: bytes) -> dict[str, Any]:
        """Return a reply as a JSON object."""
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            raise self.make_error(f"it sent a line that is not JSON: {line[:80]!r}") from None
        if not isinstance(reply, dict):
            raise self.make_error(f"it sent {line[:80]!r}, which is not a JSON object")
        if "error" in reply:
            raise self.make_error(str(reply["error"])[:500])
        return reply

    def parse_answers(
        self, line: bytes, choices: Mapping[int, Sequence[int]]
    ) -> tuple[int, list[int]]:
        """Return the id and the answers of a reply.

        Args:
            line: the reply.
            choices: by the id of each pending query, how many answers each of its examples has.
        """
        reply = self.parse_reply(line)
        number, answers = reply.get("id"), reply.get("answers")
        if not isinstance(number, int) or number not in choices:
            raise self.make_error(
                f"it answered id {number!r}, which was not sent, or was answered before"
            )
        example_choices = choices[number]
        if not isinstance(answers, list) or len(answers) != len(example_choices):
            count = len(answers) if isinstance(answers, list) else "no list"
            raise self.make_error(
                f"wrong number of answers to query {number}: expected {len(example_choices)} (one "
                f"per example), got {count}"
            )
        for answer, limit in zip(answers, example_choices, strict=True):
            if type(answer) is not int or not 0 <= answer < limit:
                raise self.make_error(
                    f"it answered {answer!r}; an answer is an integer in 0..{limit - 1}"
                )
        return number, answers

    def cpu_seconds(self) -> float:
        """Return user and system time of the worker's process tree so far."""
        return process_tree.read_cpu_seconds(self.process.pid)

    def peak_memory_mb(self) -> float:
        """Return the peak resident memory of the worker's process tree, in 10^6 bytes.

        Also checks its limits once more. Not to be called in a timed window.
        """
        if violation := self.monitor.violation or self.monitor.find_violation():
            raise self.make_error(violation)
        return process_tree.peak_memory_bytes(self.process.pid, self.sandbox_processes) / 1e6

    def check_cores(self, seconds: float, cpu_seconds: float) -> None:
        """Check that a window holds no more CPU time than the worker's cores can provide."""
        if cpu_seconds > CPU_TOLERANCE * self.cores * seconds + CPU_SLACK_SECONDS:
            raise self.make_error(
                f"it used {cpu_seconds / seconds:.1f} cores; the configuration has {self.cores}"
            )

    def make_error(self, reason: str) -> WorkerError:
        """Return the error to raise, with how the process ended and the last lines of its stderr.

        A limit that the worker exceeded replaces the reason.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
        status = self.process.poll()
        if violation := self.monitor.violation or self.monitor.find_violation():
            reason = violation
        elif status is not None:
            number = -status if status < 0 else status - 128  # bubblewrap: 128 + signal
            is_signal = number in {known.value for known in signal.Signals}
            end = f"signal {signal.Signals(number).name}" if is_signal else f"status {status}"
            reason = f"{reason} (the worker ended with {end})"
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, size - 8192))
        tail = self.stderr.read().decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        error = WorkerError(_make_printable(reason))
        error.add_note("\n".join(map(_make_printable, tail)))
        return error

    def close(self) -> None:
        """End the worker: end of input, two seconds to exit, then all its processes are killed."""
        members = set(process_tree.find_tree(self.process.pid))
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(EXIT_SECONDS)
        self.monitor.stop()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        left = process_tree.find_tree(self.process.pid)
        limits.kill(left)
        self.process.wait()
        # children that are not reaped yet, so that none of these pids was reused
        adopted = (members | set(left)) & set(process_tree.find_children(os.getpid()))
        limits.kill_and_reap(adopted | process_tree.find_marked_children(self.marker))
        shutil.rmtree(self.home, ignore_errors=True)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.io_selector.close()
        self.reply_selector.close()
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


def _make_printable(text: str) -> str:
    """Return text without lone surrogates and control characters."""
    valid = text.encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else " " for char in valid)
