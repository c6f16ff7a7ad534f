import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.errors import WorkerError
from harness.measure import isolation, protocol, tree
from harness.measure.protocol import Cell, Worker

Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, cache: Path, request: pytest.FixtureRequest) -> Start:
    """Start a worker from the body of a loop over messages (`line`, `say`), behind the walls of
    `behind_each`, else the strongest that there are.
    """
    kind = getattr(request, "param", isolation.strongest())

    def begin(body: str, memory_gb: float = math.inf, readable: tuple[Path, ...] = ()) -> Worker:
        script = tmp_path / "worker.py"
        script.write_text(
            "import json, os, signal, subprocess, sys, time\n"
            "def say(**reply): print(json.dumps(reply), flush=True)\n"
            "for line in sys.stdin:\n"
            "    message = json.loads(line)\n" + textwrap.indent(textwrap.dedent(body), "    ")
        )
        cell = Cell(kind, (script, *readable), memory_gb=memory_gb)
        return Worker(1, [sys.executable, str(script)], cell)

    return begin


WALLS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            not isolation.works(kind) and "CI" not in os.environ,
            reason="apt install bubblewrap, and allow user namespaces",
        ),
    )
    for kind in isolation.KINDS[:-1]
]
KINDS = [*WALLS, "process"]
behind_each = pytest.mark.parametrize("start", KINDS, indirect=True)


def query(number: int, count: int = 1) -> bytes:
    return json.dumps({"id": number, "examples": [[["text"]]] * count}).encode() + b"\n"


FAULTS = {
    "dies before the first word": ("return", r"closed its (in|out)put.*status 1"),
    "dies at once": ("sys.exit(3)", r"closed its output.*status 3"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", r"closed its output.*SIGKILL"),
    "hangs": ("time.sleep(60)", r"gave no answer for 1 second"),
    "prints garbage": ("print('Loading weights...', flush=True)", "not JSON: b'Loading"),
    "nests without an end": ("print('[' * 200_000, flush=True)", "not JSON"),
    "sends no object": ("print('[1]', flush=True)", "no JSON object"),
    "answers too few": ("say(id=7, answers=[1])", "gave 1 answers to 2 examples"),
    "answers too many": ("say(id=7, answers=[1, 0, 1])", "gave 3 answers to 2 examples"),
    "answers out of range": ("say(id=7, answers=[0, 2])", r"answered 2; .* 0\.\.1"),
    "answers a float": ("say(id=7, answers=[0, 1.0])", r"answered 1\.0"),
    "answers a boolean": ("say(id=7, answers=[0, True])", "answered True"),
    "answers nothing": ("say(id=7)", "gave no answers"),
    "answers another id": ("say(id=8, answers=[0, 0])", "id 8, which was not asked"),
    "says its error": ("say(error='out of luck'); sys.exit(1)", "out of luck"),
    "speaks twice": (
        "line = json.dumps({'id': 7, 'answers': [0, 0]}) + chr(10)\n"
        "print(line * 2, end='', flush=True)\n"
        "time.sleep(5)",
        "more",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_breach_ends_in_a_reason_and_leaves_no_process(start: Start, fault: str) -> None:
    body, reason = FAULTS[fault]
    began = time.monotonic()
    with start(body) as worker, pytest.raises(WorkerError, match=reason):
        worker.answers(worker.ask(query(7, 2), 1.0), {7: [2, 2]})
        worker.ask(query(8, 2), 1.0)
    assert not psutil.pid_exists(worker.process.pid)
    assert not worker.home.exists()
    assert time.monotonic() - began < 8


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


def test_what_a_worker_says_of_its_error_can_be_printed_and_kept(start: Start) -> None:
    body = "print('\\x1b[2J', file=sys.stderr); say(error='\\ud800 \\x1b[31m red')"
    with start(body) as worker, pytest.raises(WorkerError) as caught:
        worker.parse(worker.ask(query(7), 4.0))
    for text in (str(caught.value), *caught.value.__notes__):
        assert text.isprintable()
        text.encode()


def test_answer_before_its_question_is_a_breach(start: Start) -> None:
    with start("say(id=0, answers=[0]); time.sleep(0.2); say(id=1, answers=[0])") as worker:
        worker.ask(query(0), 4.0)
        time.sleep(0.4)
        with pytest.raises(WorkerError, match="before it was asked"):
            worker.ask(query(1), 4.0)


def test_more_cpu_time_than_its_cores_can_give_is_a_breach(start: Start) -> None:
    with start("say(id=0, answers=[0])") as worker:
        worker.keeps_to_its_cores(seconds=2.0, cpu_seconds=2.1)
        with pytest.raises(WorkerError, match=r"used 1\.5 cores of the 1 that it has"):
            worker.keeps_to_its_cores(seconds=2.0, cpu_seconds=3.0)


def test_worker_that_never_gets_ready_is_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LOAD_SECONDS", 0.5)
    with start("time.sleep(60)") as worker, pytest.raises(WorkerError, match="gave no answer"):
        worker.load({})


def test_last_lines_of_stderr_come_with_the_reason(start: Start) -> None:
    body = "for n in range(100_000): print('line', n, file=sys.stderr)\nsys.exit(1)"
    with start(body) as worker, pytest.raises(WorkerError) as caught:
        worker.ask(query(1), 20.0)
    assert "line 99999" in caught.value.__notes__[0]
    assert len(caught.value.__notes__[0].splitlines()) <= protocol.STDERR_LINES


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


def test_worker_that_ignores_the_end_of_input_is_ended_in_bounded_time(start: Start) -> None:
    worker = start("signal.signal(signal.SIGTERM, signal.SIG_IGN); say(id=1); time.sleep(600)")
    worker.ask(query(1), 5.0)
    began = time.monotonic()
    worker.close()
    assert time.monotonic() - began < protocol.LEAVE_SECONDS + 2


def test_many_in_flight_come_back_in_any_order(start: Start) -> None:
    body = """
    held = globals().setdefault("held", [])
    held.append(message["id"])
    if len(held) == 50:
        for number in reversed(held):
            say(id=number, answers=[number % 2])
    """
    with start(body) as worker:
        replies = worker.exchange([query(number) for number in range(50)], 10.0)
        found = [worker.answers(reply, {number: [2] for number in range(50)}) for reply in replies]
    assert sorted(found) == [(number, [number % 2]) for number in range(50)]
    assert found[0][0] == 49


def test_full_pipes_in_both_directions_do_not_deadlock(start: Start) -> None:
    lines = [json.dumps({"id": n, "text": "x" * 200_000}).encode() + b"\n" for n in range(40)]
    with start("say(id=message['id'], echo=message['text'])") as worker:
        replies = worker.exchange(lines, 20.0)
    assert [json.loads(reply)["id"] for reply in replies] == list(range(40))


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


@pytest.mark.parametrize("kind", KINDS)
def test_command_that_does_not_exist_is_a_worker_error(kind: str, cache: Path) -> None:
    with Worker(1, ["/no/such/program"], Cell(kind)) as worker:
        with pytest.raises(WorkerError, match="status") as caught:
            worker.load({})
        assert "/no/such/program" in caught.value.__notes__[0]


def test_built_in_worker_keeps_chatter_off_the_line(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(
        "import numpy\nprint('hello from a library')\n"
        "class Engine:\n"
        "    def scores(self, examples):\n"
        "        print('again'); return numpy.eye(2, dtype='float32')[[1] * len(examples)]\n"
        "def load(what): return Engine()\n"
    )
    script = (
        "from harness.engines import engine; from harness.measure import worker\n"
        "engine.ENGINES['chatty'] = engine.EngineKind('chatty', ())\nworker.main()"
    )
    with Worker(
        1, [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r})\n{script}"]
    ) as it:
        it.load({"artifact": "", "about": {}, "serve": {"engine": "chatty"}, "threads": 1})
        assert it.answers(it.ask(query(5, 2), 5.0), {5: [2, 2]}) == (5, [1, 1])


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


def test_built_in_worker_runs_its_instances_side_by_side_and_loads_again(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import numpy, time\n"
        "class Engine:\n"
        "    def scores(self, examples):\n"
        "        time.sleep(0.2); return numpy.eye(2, dtype='float32')[[1] * len(examples)]\n"
        "def load(what): return Engine()\n"
    )
    script = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "from harness.engines import engine; from harness.measure import worker\n"
        "engine.ENGINES['slow'] = engine.EngineKind('slow', (), shares=True)\nworker.main()"
    )
    seconds = []
    with Worker(2, [sys.executable, "-c", script]) as it:
        for instances in (1, 4, 1):
            serve = {"engine": "slow", "instances": instances}
            it.load({"artifact": "", "about": {}, "serve": serve, "threads": 4})
            began = time.monotonic()
            replies = it.exchange([query(number) for number in range(4)], 5.0)
            seconds.append(time.monotonic() - began)
            sizes = {number: [2] for number in range(4)}
            assert sorted(it.answers(each, sizes) for each in replies) == [
                (number, [1]) for number in range(4)
            ]
    assert seconds == pytest.approx([0.8, 0.2, 0.8], abs=0.1)
