"""The driver's side of the protocol: breaches, times, and order."""

import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.errors import WorkerError
from harness.worker import driver
from harness.worker.driver import Worker
from harness.worker.sandbox import SandboxSpec
from tests.support.workers import ENOUGH, KINDS, Start, query, with_each_isolation

FAULTS = {
    "dies before the first word": ("return", r"closed its (in|out)put.*status 1"),
    "dies at once": ("sys.exit(3)", r"closed its output.*status 3"),
    "hangs": ("time.sleep(60)", r"gave no answer within 1 s"),
    "prints garbage": ("print('Loading weights...', flush=True)", "not JSON: b'Loading"),
    "nests without an end": ("print('[' * 200_000, flush=True)", "not JSON"),
    "sends no object": ("print('[1]', flush=True)", "not a JSON object"),
    "answers too few": ("say(id=7, answers=[1])", r"query 7: expected 2 .* got 1$"),
    "answers too many": ("say(id=7, answers=[1, 0, 1])", r"query 7: expected 2 .* got 3$"),
    "answers out of range": ("say(id=7, answers=[0, 2])", r"answered 2; .* 0\.\.1"),
    "answers a float": ("say(id=7, answers=[0, 1.0])", r"answered 1\.0"),
    "answers a boolean": ("say(id=7, answers=[0, True])", "answered True"),
    "answers nothing": ("say(id=7)", "got no list"),
    "answers another id": ("say(id=8, answers=[0, 0])", "id 8, which was not sent"),
    "says its error": ("say(error='out of luck'); sys.exit(1)", "out of luck"),
    "speaks twice": (
        "line = json.dumps({'id': 7, 'answers': [0, 0]}) + chr(10)\n"
        "print(line * 2, end='', flush=True)\n"
        "time.sleep(5)",
        "more",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_protocol_violation_has_a_reason_and_leaves_no_process(start: Start, fault: str) -> None:
    body, reason = FAULTS[fault]
    timeout = 1.0 if fault == "hangs" else ENOUGH
    with start(body) as worker, pytest.raises(WorkerError, match=reason):
        worker.parse_answers(worker.ask(query(7, 2), timeout), {7: [2, 2]})
        worker.ask(query(8, 2), timeout)
    assert not psutil.pid_exists(worker.process.pid)
    assert not worker.home.exists()


def test_error_of_a_worker_can_be_printed_and_stored(start: Start) -> None:
    body = "print('\\x1b[2J', file=sys.stderr); say(error='\\ud800 \\x1b[31m red')"
    with start(body) as worker, pytest.raises(WorkerError) as caught:
        worker.parse_reply(worker.ask(query(7), ENOUGH))
    for text in (str(caught.value), *caught.value.__notes__):
        assert text.isprintable()
        text.encode()


def test_answer_before_its_question_is_a_breach(start: Start) -> None:
    with start("say(id=0, answers=[0]); time.sleep(0.2); say(id=1, answers=[0])") as worker:
        worker.ask(query(0), ENOUGH)
        assert worker.reply_selector.select(ENOUGH)
        with pytest.raises(WorkerError, match="before it got a message"):
            worker.ask(query(1), ENOUGH)


@with_each_isolation
def test_worker_that_is_killed_says_by_what(start: Start) -> None:
    body = "os.kill(os.getpid(), signal.SIGKILL)"
    with start(body) as worker, pytest.raises(WorkerError, match=r"closed its output.*SIGKILL"):
        worker.ask(query(7), ENOUGH)


def test_worker_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with Worker(1, command) as worker, pytest.raises(WorkerError, match="no answer within 1 s"):
        worker.load({}, 1.0)


def test_last_lines_of_stderr_come_with_the_reason(start: Start) -> None:
    body = "for n in range(100_000): print('line', n, file=sys.stderr)\nsys.exit(1)"
    with start(body) as worker, pytest.raises(WorkerError) as caught:
        worker.ask(query(1), ENOUGH)
    assert "line 99999" in caught.value.__notes__[0]
    assert len(caught.value.__notes__[0].splitlines()) <= driver.STDERR_LINES


def test_worker_that_ignores_the_end_of_input_is_ended_in_bounded_time(start: Start) -> None:
    worker = start("signal.signal(signal.SIGTERM, signal.SIG_IGN); say(id=1); time.sleep(600)")
    worker.ask(query(1), ENOUGH)
    began = time.monotonic()
    worker.close()
    assert time.monotonic() - began < ENOUGH


def test_many_in_flight_come_back_in_any_order(start: Start) -> None:
    body = """
    held = globals().setdefault("held", [])
    held.append(message["id"])
    if len(held) == 50:
        for number in reversed(held):
            say(id=number, answers=[number % 2])
    """
    with start(body) as worker:
        replies = worker.exchange([query(number) for number in range(50)], ENOUGH)
        found = [
            worker.parse_answers(reply, {number: [2] for number in range(50)}) for reply in replies
        ]
    assert sorted(found) == [(number, [number % 2]) for number in range(50)]
    assert found[0][0] == 49


def test_full_pipes_in_both_directions_do_not_deadlock(start: Start) -> None:
    lines = [json.dumps({"id": n, "text": "x" * 200_000}).encode() + b"\n" for n in range(40)]
    with start("say(id=message['id'], echo=message['text'])") as worker:
        replies = worker.exchange(lines, ENOUGH)
    assert [json.loads(reply)["id"] for reply in replies] == list(range(40))


@pytest.mark.parametrize("kind", KINDS)
def test_command_that_does_not_exist_is_a_worker_error(kind: str, cache: Path) -> None:
    with Worker(1, ["/no/such/program"], SandboxSpec(kind)) as worker:
        with pytest.raises(WorkerError, match="status") as caught:
            worker.load({})
        assert "/no/such/program" in caught.value.__notes__[0]


def test_built_in_worker_keeps_chatter_off_the_line(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(
        "import numpy\nprint('hello from a library')\n"
        "class Engine:\n"
        "    def scores(self, examples):\n"
        "        print('again'); return numpy.eye(2, dtype='float32')[[1] * len(examples)]\n"
        "def load(config): return Engine()\n"
    )
    script = (
        "from harness.engines import registry; from harness.worker import process\n"
        "registry.ENGINES['chatty'] = registry.EngineKind('chatty', ())\nprocess.main()"
    )
    with Worker(
        1, [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r})\n{script}"]
    ) as it:
        it.load({"artifact": "", "about": {}, "serve": {"engine": "chatty"}, "threads": 1})
        assert it.parse_answers(it.ask(query(5, 2), ENOUGH), {5: [2, 2]}) == (5, [1, 1])


def test_built_in_worker_runs_its_instances_side_by_side_and_loads_again(tmp_path: Path) -> None:
    """An engine that answers 1 where as many calls are inside at once as there are instances, and
    never more.
    """
    (tmp_path / "counting.py").write_text(
        "import numpy, threading\n"
        "class Engine:\n"
        "    def __init__(self, instances):\n"
        "        self.instances, self.inside = instances, 0\n"
        "        self.lock, self.all = threading.Lock(), threading.Barrier(instances)\n"
        "    def scores(self, examples):\n"
        "        with self.lock:\n"
        "            self.inside += 1\n"
        "            right = self.inside <= self.instances\n"
        "        self.all.wait(60)\n"
        "        with self.lock: self.inside -= 1\n"
        "        return numpy.eye(2, dtype='float32')[[int(right)] * len(examples)]\n"
        "def load(config): return Engine(config.instances)\n"
    )
    script = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "from harness.engines import registry; from harness.worker import process\n"
        "registry.ENGINES['counting'] = registry.EngineKind('counting', (), shares_model=True)\n"
        "process.main()"
    )
    with Worker(2, [sys.executable, "-c", script]) as it:
        for instances in (1, 4, 1):
            serve = {"engine": "counting", "instances": instances}
            it.load({"artifact": "", "about": {}, "serve": serve, "threads": 4})
            replies = it.exchange([query(number) for number in range(4)], ENOUGH)
            sizes = {number: [2] for number in range(4)}
            assert sorted(it.parse_answers(reply, sizes) for reply in replies) == [
                (number, [1]) for number in range(4)
            ]


def test_engine_that_is_replaced_gives_its_memory_back(tmp_path: Path) -> None:
    """Scenarios that are served differently load one engine after the other."""
    (tmp_path / "model.py").write_text(
        "import numpy\n"
        "class Model:\n"
        "    def load(self, artifact, metadata, serve, threads):\n"
        "        self.weights = numpy.ones(25_000_000)\n"  # 200 MB
        "    def predict(self, examples):\n"
        "        return [0] * len(examples)\n"
    )
    message = {
        "artifact": "",
        "about": {"labels": 2, "max_length": 8},
        "serve": {"engine": "module", "module": "model.py"},
        "threads": 1,
        "folder": str(tmp_path),
    }
    with Worker(1) as worker:
        for _ in range(3):
            worker.load(message)
            worker.parse_answers(worker.ask(query(1), ENOUGH), {1: [2]})
        assert 200 < worker.peak_memory_mb() < 400
