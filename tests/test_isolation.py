"""What surrounds a worker: walls, limits, and what its whole process tree uses."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.errors import WorkerError
from harness.measure import isolation, protocol, tree
from tests.workers import KINDS, WALLS, Start, behind_each, query
from tests.workers import start as start

LIMITS = {
    "takes too much memory": (
        "held = [bytearray(b'x' * 50_000_000) for _ in iter(int, 1)]",
        r"it used \d+ MB, but the configuration allows 0\.5 GiB",
    ),
    "takes too much in its children": (
        "code = \"b = b'x' * 300_000_000; import time; time.sleep(60)\"\n"
        "for _ in range(2): subprocess.Popen([sys.executable, '-c', code])\n"
        "time.sleep(60)",
        r"it used \d+ MB",
    ),
    "holds a file in memory": (
        "fd = os.memfd_create('x')\n"
        "for _ in range(100): os.write(fd, b'x' * 10_000_000)\n"
        "time.sleep(60)",
        r"it used \d+ MB",
    ),
    "has too many processes": (
        "for _ in range(300):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)",
        "processes; at most 256",
    ),
    "writes a line without an end": (
        "os.write(1, b'x' * (8 << 20))\nwhile True: os.write(1, b'x')",
        "gave no answer for 4 seconds",
    ),
    "floods stderr": (
        "for _ in range(100): sys.stderr.write('x' * 1_000_000)\ntime.sleep(60)",
        r"it wrote \d+ MiB to stderr; at most 16",
    ),
    "leaves its cores": (
        "os.sched_setaffinity(0, range(os.cpu_count()))\ntime.sleep(60)",
        "left the cores",
    ),
    "drips": ("while True: os.write(1, b'x'); time.sleep(0.05)", "gave no answer for 4 seconds"),
}


@behind_each
@pytest.mark.parametrize("limit", LIMITS)
def test_worker_that_leaves_its_limits_is_ended_at_once(start: Start, limit: str) -> None:
    body, reason = LIMITS[limit]
    began = time.monotonic()
    with start(body, 0.5) as worker, pytest.raises(WorkerError, match=reason):
        worker.ask(query(7), 4.0)
    assert not tree.tree(worker.process.pid)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("start", WALLS, indirect=True)
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_files_in_a_workers_own_folders_are_memory(start: Start, folder: str) -> None:
    body = f"open('{folder}/x', 'wb').write(b'x' * 700_000_000); time.sleep(60)"
    with start(body, 0.5) as worker, pytest.raises(WorkerError, match=r"it used \d+ MB"):
        worker.ask(query(7), 4.0)


def test_more_cpu_time_than_its_cores_can_give_is_a_breach(start: Start) -> None:
    with start("say(id=0, answers=[0])") as worker:
        worker.keeps_to_its_cores(seconds=2.0, cpu_seconds=2.1)
        with pytest.raises(WorkerError, match=r"used 1\.5 cores of the 1 that it has"):
            worker.keeps_to_its_cores(seconds=2.0, cpu_seconds=3.0)


@behind_each
def test_children_that_a_worker_leaves_behind_are_killed(start: Start) -> None:
    """Also those that left its process group, and whose parent is gone."""
    mark = f"{600 + os.getpid() / 1e7:.7f}"
    body = f"""
    subprocess.Popen(['sleep', '{mark}'])
    subprocess.Popen(['setsid', 'sleep', '{mark}'], start_new_session=True)
    subprocess.Popen(['sh', '-c', 'setsid sleep {mark} & setsid sleep {mark} &'])
    time.sleep(0.3)
    say(done=1)
    """
    with start(body) as worker:
        worker.ask(query(1), 5.0)
        assert len(_sleeping(mark)) == 4
    assert not _sleeping(mark)


def _sleeping(mark: str) -> list[list[str]]:
    lines = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
    return [line for line in lines if line[:2] == ["sleep", mark]]


@behind_each
def test_worker_is_pinned_and_sees_only_allowed_variables(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    before = os.sched_getaffinity(0)
    with start("say(cores=len(os.sched_getaffinity(0)), names=sorted(os.environ))") as worker:
        found = worker.parse(worker.ask(query(1), 5.0))
    assert found["cores"] == 1
    assert "SECRET_TOKEN" not in found["names"]
    assert os.sched_getaffinity(0) == before


def test_thread_counts_follow_the_configuration() -> None:
    assert protocol.environment(3, "/tmp")["OMP_NUM_THREADS"] == "3"
    assert protocol.environment(1, "/tmp")["RAYON_NUM_THREADS"] == "1"


@behind_each
def test_cpu_seconds_and_memory_count_the_whole_tree(start: Start) -> None:
    body = """
    code = "b = b'x' * 200_000_000; import time; t = time.time()\\n"
    code += "while time.process_time() < 0.5: pass\\nprint(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    say(done=1)
    """
    with start(body) as worker:
        worker.ask(query(1), 20.0)
        assert 0.45 < worker.cpu_seconds() < 2
        assert worker.peak_memory_mb() > 200


def test_memory_that_processes_share_counts_once(start: Start) -> None:
    """200 MB, then two forked children that see the same pages: not 600 MB."""
    body = """
    block = globals().setdefault("block", bytearray(b"x" * 200_000_000))
    for _ in range(2):
        if os.fork() == 0:
            time.sleep(60)
    time.sleep(0.2)
    say(done=1)
    """
    with start(body) as worker:
        worker.ask(query(1), 20.0)
        assert 200 < worker.peak_memory_mb() < 300


@pytest.mark.parametrize("start", WALLS, indirect=True)
def test_secrets_are_hidden_also_where_the_system_is_shown(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project below /usr, as in many containers: all of it but what is readable is gone."""
    project = tmp_path / "system" / "project"
    for name in ("results", "artifact"):
        (project / name).mkdir(parents=True)
        (project / name / "file").write_text("x")
    monkeypatch.setattr(isolation, "SYSTEM", (*isolation.SYSTEM, str(tmp_path / "system")))
    monkeypatch.setattr(isolation, "secrets", lambda: [project, tmp_path / "cache"])
    body = f"""
    seen = [each for each in ("results/file", "artifact/file")
            if os.path.exists({str(project)!r} + "/" + each)]
    say(seen=seen, cache=os.path.exists({str(tmp_path / "cache")!r}))
    """
    with start(body, readable=(project / "artifact",)) as worker:
        found = worker.parse(worker.ask(query(1), 10.0))
    assert found == {"seen": ["artifact/file"], "cache": False}


def test_memory_that_was_freed_still_counts(start: Start) -> None:
    with start("b = b'x' * 300_000_000; del b; say(done=1)") as worker:
        worker.ask(query(1), 20.0)
        assert 300 < worker.peak_memory_mb() < 350


@pytest.mark.parametrize("start", WALLS, indirect=True)
def test_what_a_worker_sees(start: Start, tmp_path: Path) -> None:
    """Behind walls: no project, no records, no cache, no home, no network, no other process, and
    nothing that can be changed but a /tmp of its own.
    """
    (tmp_path / "cache" / "secret").write_text("labels")
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
        home=os.listdir(os.environ["HOME"]),
        driver=os.path.exists("/proc/{os.getpid()}/environ") and {os.getpid()} != os.getpid(),
        writes=[each for each in ("/usr", "/etc", "/", "/sys", {str(tmp_path / "worker.py")!r})
                if not fails(open, each + ("" if each.endswith(".py") else "/new"), "a")],
        kernel=[each for each in ("/proc/sys/kernel/core_pattern", *cgroups)
                if os.access(each, os.W_OK)],
        network=not fails(socket.create_connection, ("1.1.1.1", 53), 0.5),
        mounts=subprocess.run(["mount", "-o", "remount,rw,bind", "/usr"], capture_output=True)
            .returncode == 0,
    )
    """
    with start(body) as worker:
        found = worker.parse(worker.ask(query(1), 10.0))
    assert found == {
        "project": False,
        "secret": False,
        "home": ["own", tmp_path.relative_to("/tmp").parts[0]],  # where its script lies
        "driver": False,
        "writes": [],
        "kernel": [],
        "network": False,
        "mounts": False,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_worker_imports_the_drivers_own_checkout(kind: str, tmp_path: Path, cache: Path) -> None:
    package = Path(protocol.__file__).parents[1]
    shutil.copytree(package, tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    said = "input(); import harness; print('{\"at\": \"' + harness.__file__ + '\"}')"
    driver = (
        "import sys; from harness.measure.protocol import Cell, Worker\n"
        f"with Worker(1, [sys.executable, '-c', {said!r}], Cell({kind!r})) as worker:\n"
        "    print(worker.parse(worker.ask(b'{}\\n', 20.0))['at'])"
    )
    ran = [sys.executable, "-c", driver]
    done = subprocess.run(ran, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(tmp_path / "harness" / "__init__.py"), done.stderr
