"""The sandbox of a worker, its limits, and the resources of its process tree."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.errors import HarnessError, WorkerError
from harness.worker import driver, process_tree, sandbox
from tests.support.workers import ENOUGH, KINDS, Start, in_sandbox, query, with_each_isolation

LIMITS = {
    "uses too much memory": (
        "held = [bytearray(b'x' * 50_000_000) for _ in iter(int, 1)]",
        r"it used \d+ MB, but the configuration allows 0\.5 GiB",
    ),
    "uses too much memory in its children": (
        "code = \"b = b'x' * 300_000_000; import time; time.sleep(600)\"\n"
        "for _ in range(2): subprocess.Popen([sys.executable, '-c', code])\n"
        "time.sleep(600)",
        r"it used \d+ MB",
    ),
    "holds a file in memory": (
        "fd = os.memfd_create('x')\n"
        "for _ in range(100): os.write(fd, b'x' * 10_000_000)\n"
        "time.sleep(600)",
        r"it used \d+ MB",
    ),
    "has too many processes": (
        "for _ in range(300):\n    if os.fork() == 0: time.sleep(600)\ntime.sleep(600)",
        "processes; the limit is 256",
    ),
    "writes an endless line": (
        "os.write(1, b'x' * (8 << 20))\nwhile True: os.write(1, b'x')",
        "gave no answer within 1 s",
    ),
    "floods stderr": (
        "for _ in range(100): sys.stderr.write('x' * 1_000_000)\ntime.sleep(600)",
        r"it wrote \d+ MiB to stderr; the limit is 16",
    ),
    "leaves its cores": (
        "os.sched_setaffinity(0, range(os.cpu_count()))\ntime.sleep(600)",
        "left the cores",
    ),
    "writes slowly without end": (
        "while True: os.write(1, b'x'); time.sleep(0.05)",
        "gave no answer within 1 s",
    ),
}


@with_each_isolation
@pytest.mark.parametrize("limit", LIMITS)
def test_worker_that_exceeds_a_limit_is_killed(start: Start, limit: str) -> None:
    body, reason = LIMITS[limit]
    timeout = 1.0 if "no answer" in reason else ENOUGH
    with start(body, 0.5) as worker, pytest.raises(WorkerError, match=reason):
        worker.ask(query(7), timeout)
    assert not process_tree.find_tree(worker.process.pid)


@in_sandbox
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "{hidden}"])
def test_files_in_a_workers_own_folders_are_memory(
    start: Start, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the empty folders that cover hidden ones."""
    hidden = tmp_path / "system" / "hidden"
    hidden.mkdir(parents=True)
    monkeypatch.setattr(sandbox, "SYSTEM_PATHS", (*sandbox.SYSTEM_PATHS, str(tmp_path / "system")))
    monkeypatch.setattr(sandbox, "find_hidden_paths", lambda: [hidden])
    path = f"{folder.format(hidden=hidden)}/x"
    body = f"open({path!r}, 'wb').write(b'x' * 700_000_000); time.sleep(600)"
    with start(body, 0.5) as worker:
        worker.load({})
        with pytest.raises(WorkerError, match=r"it used \d+ MB"):
            worker.ask(query(7), ENOUGH)


@in_sandbox
def test_file_systems_of_the_machine_do_not_count_as_memory(start: Start) -> None:
    """Those of the worker count once it is ready, and none before: a sandbox that is still being
    set up has the /tmp of the machine.
    """
    assert process_tree.find_private_tmpfs(os.getpid()) == {}
    with start("say(id=7, answers=[0])") as worker:
        assert worker.monitor.tmpfs == {}
        worker.load({})
        worker_pid = process_tree.find_worker_processes(
            worker.process.pid, worker.sandbox_processes
        )[0]
        assert {"/tmp", "/dev/shm"} <= set(worker.monitor.tmpfs)
        assert process_tree.memory_file_bytes([worker_pid], worker.monitor.tmpfs) < 1 << 20


@in_sandbox
def test_files_count_also_after_an_orphaned_process_has_ended(start: Start) -> None:
    body = """
    if message["id"] == 1:
        subprocess.run(["sh", "-c", "setsid sleep 0.5 &"])
        say(id=1, answers=[0])
    else:
        time.sleep(1)
        open("/tmp/x", "wb").write(b"x" * 700_000_000)
        time.sleep(600)
    """
    with start(body, 0.5) as worker:
        worker.ask(query(1), ENOUGH)
        worker.load({})
        with pytest.raises(WorkerError, match=r"it used \d+ MB"):
            worker.ask(query(7), ENOUGH)


@pytest.fixture
def start_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that ends with the test."""
    with contextlib.ExitStack() as stack:

        def begin(*command: str) -> subprocess.Popen[str]:
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


@pytest.mark.usefixtures("start")
@in_sandbox
def test_tmpfs_counts_where_it_is_the_processs_own(
    start_process: Callable[..., subprocess.Popen[str]],
) -> None:
    """In a mount namespace that begins with the machine's file systems, as a sandbox's does."""
    script = "echo begun; read go; mount -t tmpfs own /mnt; echo mounted; read go"
    process = start_process("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    assert process_tree.find_private_tmpfs(process.pid) == {}
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "mounted\n"
    assert list(process_tree.find_private_tmpfs(process.pid)) == ["/mnt"]


def test_process_without_a_sandbox_has_no_tmpfs_of_its_own(
    start_process: Callable[..., subprocess.Popen[str]],
) -> None:
    assert process_tree.find_private_tmpfs(start_process("sleep", "600").pid) == {}


def test_more_cpu_time_than_its_cores_can_give_is_a_breach(start: Start) -> None:
    with start("say(id=0, answers=[0])") as worker:
        worker.check_cores(seconds=2.0, cpu_seconds=2.1)
        with pytest.raises(WorkerError, match=r"used 1\.5 cores; the configuration has 1"):
            worker.check_cores(seconds=2.0, cpu_seconds=3.0)


@with_each_isolation
def test_children_that_a_worker_leaves_behind_are_killed(start: Start) -> None:
    """Also those that left its process group, and whose parent is gone."""
    mark = f"{600 + os.getpid() / 1e7:.7f}"
    body = f"""
    subprocess.Popen(['sleep', '{mark}'])
    subprocess.Popen(['setsid', 'sleep', '{mark}'], start_new_session=True)
    subprocess.Popen(['sh', '-c', 'setsid sleep {mark} & setsid sleep {mark} &'])
    say(done=1)
    """
    with start(body) as worker:
        worker.ask(query(1), ENOUGH)
        deadline = time.monotonic() + ENOUGH
        while len(_sleeping(mark)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not _sleeping(mark)


def _sleeping(mark: str) -> list[list[str]]:
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if line[:2] == ["sleep", mark]]


@with_each_isolation
def test_worker_is_pinned_and_sees_only_allowed_variables(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    before = os.sched_getaffinity(0)
    with start("say(cores=len(os.sched_getaffinity(0)), names=sorted(os.environ))") as worker:
        found = worker.parse_reply(worker.ask(query(1), ENOUGH))
    assert found["cores"] == 1
    assert "SECRET_TOKEN" not in found["names"]
    assert os.sched_getaffinity(0) == before


def test_thread_counts_follow_the_configuration() -> None:
    assert driver.make_environment(3, "/tmp")["OMP_NUM_THREADS"] == "3"
    assert driver.make_environment(1, "/tmp")["RAYON_NUM_THREADS"] == "1"


@with_each_isolation
def test_cpu_seconds_and_memory_count_the_whole_tree(start: Start) -> None:
    body = """
    code = "b = b'x' * 200_000_000; import time; t = time.time()\\n"
    code += "while time.process_time() < 0.5: pass\\nprint(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    say(done=1)
    """
    with start(body) as worker:
        worker.ask(query(1), ENOUGH)
        assert 0.45 < worker.cpu_seconds() < 5
        assert worker.peak_memory_mb() > 200


def test_memory_that_processes_share_counts_once(start: Start) -> None:
    """200 MB, then two forked children that see the same pages: not 600 MB."""
    body = """
    block = globals().setdefault("block", bytearray(b"x" * 200_000_000))
    for _ in range(2):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(0.2)
    say(done=1)
    """
    with start(body) as worker:
        worker.ask(query(1), ENOUGH)
        assert 200 < worker.peak_memory_mb() < 300


@in_sandbox
def test_secrets_are_hidden_also_where_the_system_is_shown(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project below /usr, as in many containers: all of it but what is readable is gone."""
    project = tmp_path / "system" / "project"
    for name in ("results", "artifact"):
        (project / name).mkdir(parents=True)
        (project / name / "file").write_text("x")
    monkeypatch.setattr(sandbox, "SYSTEM_PATHS", (*sandbox.SYSTEM_PATHS, str(tmp_path / "system")))
    monkeypatch.setattr(sandbox, "find_hidden_paths", lambda: [project, tmp_path / "cache"])
    body = f"""
    seen = [path for path in ("results/file", "artifact/file")
            if os.path.exists({str(project)!r} + "/" + path)]
    say(seen=seen, cache=os.path.exists({str(tmp_path / "cache")!r}))
    """
    with start(body, readable=(project / "artifact",)) as worker:
        found = worker.parse_reply(worker.ask(query(1), ENOUGH))
    assert found == {"seen": ["artifact/file"], "cache": False}


@in_sandbox
def test_folder_behind_a_symbolic_link_is_readable(start: Start, tmp_path: Path) -> None:
    """As a virtual environment on another disk may be."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file").write_text("content")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    with start(f"say(text=open({str(link / 'file')!r}).read())", readable=(link,)) as worker:
        assert worker.parse_reply(worker.ask(query(1), ENOUGH)) == {"text": "content"}


def test_memory_that_was_freed_still_counts(start: Start) -> None:
    with start("b = b'x' * 300_000_000; del b; say(done=1)") as worker:
        worker.ask(query(1), ENOUGH)
        assert 300 < worker.peak_memory_mb() < 350


@in_sandbox
def test_what_a_worker_sees(start: Start, tmp_path: Path) -> None:
    """No project, no records, no cache, no home, no network, no other process, and nothing that can
    be changed but a /tmp of its own.
    """
    (tmp_path / "cache" / "secret").write_text("labels")
    readable = [str(path) for path in (tmp_path / "worker.py", *sandbox.find_python_paths())]
    body = f"""
    import glob, socket
    cgroups = glob.glob("/sys/fs/cgroup/*") + glob.glob("/sys/fs/cgroup/*/cgroup.procs")
    def fails(act, *given):
        try: act(*given)
        except OSError: return True
        return False
    open(os.environ["TMPDIR"] + "/own", "w").close()
    say(
        project=os.path.exists({str(Path(__file__).parent)!r}),
        secret=os.path.exists({str(tmp_path / "cache" / "secret")!r}),
        home=os.environ["HOME"],
        files=[os.path.join(at, name) for at, _, names in os.walk("/tmp") for name in names
               if not os.path.join(at, name).startswith(tuple({readable!r}))],
        driver=os.path.exists("/proc/{os.getpid()}/environ") and {os.getpid()} != os.getpid(),
        writes=[path for path in ("/usr", "/etc", "/", "/sys", {str(tmp_path / "worker.py")!r})
                if not fails(open, path + ("" if path.endswith(".py") else "/new"), "a")],
        kernel=[path for path in ("/proc/sys/kernel/core_pattern", *cgroups)
                if os.access(path, os.W_OK)],
        network=not fails(socket.create_connection, ("1.1.1.1", 53), 0.5),
        mounts=subprocess.run(["mount", "-o", "remount,rw,bind", "/usr"], capture_output=True)
            .returncode == 0,
    )
    """
    with start(body) as worker:
        found = worker.parse_reply(worker.ask(query(1), ENOUGH))
    assert found == {
        "project": False,
        "secret": False,
        "home": "/tmp",
        "files": ["/tmp/own"],
        "driver": False,
        "writes": [],
        "kernel": [],
        "network": False,
        "mounts": False,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_worker_imports_the_drivers_own_checkout(kind: str, tmp_path: Path, cache: Path) -> None:
    package = Path(driver.__file__).parents[1]
    shutil.copytree(package, tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    said = "input(); import harness; print('{\"at\": \"' + harness.__file__ + '\"}')"
    program = (
        "import sys; from harness.worker.driver import Worker\n"
        "from harness.worker.sandbox import SandboxSpec\n"
        f"with Worker(1, [sys.executable, '-c', {said!r}], SandboxSpec({kind!r})) as worker:\n"
        "    print(worker.parse_reply(worker.ask(b'{}\\n', 60.0))['at'])"
    )
    ran = [sys.executable, "-c", program]
    done = subprocess.run(ran, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(tmp_path / "harness" / "__init__.py"), done.stderr


def test_missing_sandbox_is_said_once_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    sandbox.check_sandbox.cache_clear()
    try:
        assert sandbox.choose_isolation("auto", [], lines.append) == "process"
        (line,) = lines
        assert line.startswith("isolation: process, since bubblewrap is not installed. Install ")
        assert "apt install bubblewrap" in line
        assert sandbox.choose_isolation("auto", ["mine"], lines.append) == "process"
        assert lines[2].startswith("warning: custom code runs without a sandbox (mine)")
        with pytest.raises(HarnessError, match="apt install bubblewrap"):
            sandbox.choose_isolation("sandbox", [], lines.append)
        assert sandbox.choose_isolation("process", [], lines.append) == "process"
        assert len(lines) == 3, "who wants no sandbox need not be told how to get one"
    finally:
        sandbox.check_sandbox.cache_clear()


def test_sandbox_that_does_not_work_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    program.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    sandbox.check_sandbox.cache_clear()
    sandbox._bubblewrap_options.cache_clear()
    try:
        fault = sandbox.check_sandbox()
    finally:
        sandbox.check_sandbox.cache_clear()
        sandbox._bubblewrap_options.cache_clear()
    assert fault
    assert "No permissions to create new namespace)" in fault.reason
    assert fault.remedy == sandbox.ALLOW


@pytest.mark.usefixtures("start")
@in_sandbox
def test_sandbox_is_used_where_it_works() -> None:
    lines: list[str] = []
    assert {
        sandbox.choose_isolation(name, ["x"], lines.append) for name in ("auto", "sandbox")
    } == {"bubblewrap"}
    assert not lines
