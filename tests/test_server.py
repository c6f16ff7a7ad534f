"""The server scenario: what is sent when, what counts as late, and which rates are probed."""

import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.board.ranking import load_rows, sections
from harness.build import build
from harness.configuration import choose
from harness.energy import Meter
from harness.errors import WorkerError
from harness.manifest import read_system
from harness.measure import run, scenarios, server, worker
from harness.measure.protocol import Worker
from harness.measure.run import Effort
from harness.measure.scenarios import Questions, Window
from harness.measure.server import Search
from harness.record import read, read_side, write
from harness.tasks.task import Example, suite, task
from tests.records import make, serve

QUESTIONS = Questions.of([Example((("text",),), 0)] * 50, 2)
Play = Callable[..., Window]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a schedule against a worker whose loop over lines is given."""

    def begin(
        body: str,
        rate: float,
        count: int,
        bound: float = 1.0,
        questions: Questions = QUESTIONS,
    ) -> Window:
        script = tmp_path / "worker.py"
        script.write_text(
            "import json, sys, time\n"
            "def answer(line): print(json.dumps({'id': json.loads(line)['id'], 'answers': [0]}), "
            "flush=True)\n" + textwrap.dedent(body)
        )
        meter = Meter(choose("cpu-1"))
        with Worker(1, [sys.executable, str(script)]) as started:
            started.ask(questions.line(0, [0]), 10.0)
            return server.poisson(started, questions, range(50), rate, count, 1, bound, meter)

    return begin


PROMPT = "for line in sys.stdin: answer(line)"
SLOW = "for line in sys.stdin: time.sleep(0.01); answer(line)"


def test_arrivals_are_poisson_and_the_same_for_every_system(play: Play, monkeypatch) -> None:
    sent: list[list[float]] = []
    push = Worker.push

    def noted(self: Worker, data: bytearray) -> int:
        sent[-1].extend([time.perf_counter()] * bytes(data).count(b"\n"))
        return push(self, data)

    monkeypatch.setattr(Worker, "push", noted)
    for body in (PROMPT, SLOW):
        sent.append([])
        play(body, 90.0, 300)
    first, second = (np.diff(times) for times in sent)
    assert scipy_stats.kstest(first, "expon", args=(0, 1 / 90.0)).pvalue > 0.01
    assert np.median(np.abs(first - second)) < 0.003, "also where the worker is slow"


def test_latency_runs_from_the_scheduled_arrival(play: Play) -> None:
    """A worker that stands still for half a second makes all who arrive meanwhile wait."""
    body = """
    for number, line in enumerate(sys.stdin):
        if number == 50: time.sleep(0.5)
        answer(line)
    """
    window = play(body, 200.0, 200)
    late = np.array(window.latencies)
    assert len(late) == 200
    waiting = late > 0.05
    assert 60 < waiting.sum() < 130, "about 200/s times half a second, not the one query alone"
    assert late.max() == pytest.approx(0.5, abs=0.05)
    assert np.median(late[:40]) < 0.01


def test_waiting_time_is_that_of_queueing_theory(play: Play) -> None:
    """M/D/1 at half load (Pollaczek-Khinchine): the mean wait is half a service time."""
    window = play(SLOW, 47.0, 450)
    service = 0.0103
    load = 47.0 * service
    expected = service + load * service / (2 * (1 - load))
    assert np.mean(window.latencies) == pytest.approx(expected, rel=0.25)


def test_writer_never_blocks_though_the_worker_does_not_read(play: Play) -> None:
    """More text than both pipes hold comes while the worker sleeps."""
    body = """
    for number, line in enumerate(sys.stdin):
        if number == 1: time.sleep(1.0)
        answer(line)
    """
    large = Questions.of([Example((("x" * 20_000,),), 0)] * 50, 2)
    window = play(body, 200.0, 300, bound=10.0, questions=large)
    assert len(window.latencies) == 300
    assert window.seconds < 3.0, "all arrived on time, and were answered after the pause"
    assert window.driver_cpu_seconds < 0.25 * window.seconds


def test_hopeless_rate_is_given_up_and_everything_sent_is_answered(play: Play) -> None:
    window = play(SLOW, 400.0, 1000, bound=0.05)
    assert len(window.latencies) == len(window.rows) < 300
    assert sum(each > 0.05 for each in window.latencies) > 30


def test_worker_that_hangs_is_a_fault(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUERY_SECONDS", 1.0)
    body = "answer(sys.stdin.readline())\ntime.sleep(60)"
    with pytest.raises(WorkerError, match="no answer for 1 second"):
        play(body, 100.0, 20)


def test_driver_sleeps_between_arrivals(play: Play) -> None:
    """It wakes twice a query, for the arrival and for the answer."""
    window = play(PROMPT, 100.0, 150)
    assert window.driver_cpu_seconds / window.seconds < 0.04


def searched(truth: float, start: float | None = None) -> tuple[Search, list[float]]:
    """Search where rates up to `truth` of the offline rate hold; also what it probed."""
    search = Search(1000.0, start)
    while (share := search.following()) is not None:
        search.seen[share] = share <= truth
    return search, list(search.seen)


@pytest.mark.parametrize("start", [None, 0.5, 0.72, 0.95])
@pytest.mark.parametrize("truth", [0.07, 0.3, 0.5, 0.62, 0.71, 0.86, 0.93])
def test_search_closes_the_bracket_to_five_percent(truth: float, start: float | None) -> None:
    search, probed = searched(truth, start)
    low, high = search.bracket
    assert low is not None
    assert high is not None
    assert low <= truth < high
    assert high - low <= 0.05 * high + 1e-6
    assert len(probed) <= server.PROBES


def test_search_begins_with_the_shares_of_the_design() -> None:
    assert searched(0.93)[1][:4] == [0.5, 0.7, 0.8, 0.9]


def test_search_that_begins_where_the_last_round_ended_takes_two_probes() -> None:
    first, _ = searched(0.71)
    low, _ = first.bracket
    _, probed = searched(0.71, low)
    assert probed == [low, pytest.approx(low / 0.95)]


@pytest.mark.parametrize("offline", [1213.5583, 37.1234, 0.7])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.8, 0.9])
def test_rate_that_the_last_round_held_is_not_probed_twice(offline: float, share: float) -> None:
    """Also where the record has it rounded."""
    rate = Search(offline).rate(share)
    search = Search(offline, round(rate / offline, 4))
    first = search.following()
    assert first == share
    search.seen[first] = False
    following = search.following()
    assert following is not None
    assert search.rate(following) < 0.95 * rate


def test_rate_is_never_above_the_offline_rate() -> None:
    for start in (None, 0.9, 0.95):
        search, probed = searched(5.0, start)
        low, high = search.bracket
        assert low is not None
        assert low >= 0.95
        assert high is None
        assert max(probed) < 1


def test_system_that_holds_nothing_is_given_up() -> None:
    search, probed = searched(0.0)
    assert search.bracket[0] is None
    assert probed[-1] == server.LOWEST


def test_rate_holds_where_its_99th_percentile_does() -> None:
    for late in range(12):
        latencies = [0.01] * (700 - late) + [0.09] * late
        if server.holds(700, late):
            assert np.quantile(latencies, 0.99) <= 0.05
        assert server.holds(700, late) == (late < 7)


@pytest.mark.parametrize(
    ("blocks", "queries"), [(1, 662), (2, 331), (5, 133), (20, 133), (None, 133)]
)
def test_rounds_share_the_queries_that_a_p99_needs(blocks: int | None, queries: int) -> None:
    assert server.queries_a_round(blocks) == queries


def test_probe_is_long_enough_but_not_endless() -> None:
    assert server.probe_seconds(1000.0, 133) == 3
    assert server.probe_seconds(20.0, 133) == pytest.approx(6.65)
    assert server.probe_seconds(1.0, 133) == 15


def test_session_with_server_from_worker_to_board(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tfidf-logreg` with a batch of 8 queued queries."""
    for name in ("WINDOW_SECONDS", "PLENTY_SECONDS"):
        monkeypatch.setattr(scenarios, name, 0.2)
    monkeypatch.setattr(server, "LEAST_SECONDS", 0.3)
    manifest = project / "baselines" / "tfidf-logreg" / "submission.toml"
    manifest.write_text(manifest.read_text() + "\n[serve.server]\nbatch = 8\n")
    names = ("tfidf-logreg", "null")
    systems = [read_system(project / "baselines" / name, project) for name in names]
    asked, one, results = task("sentiment"), choose("cpu-1"), project / "results"
    build(systems, [asked], one, project, say=lambda line: None)
    name = ""
    for blocks in (1, 2):
        name = run.measure(
            systems,
            [asked],
            suite("quick"),
            one,
            project,
            results,
            Effort(blocks, server=True),
            name,
            say=lambda line: None,
        )
    it = read(results / "records" / name / "sentiment" / "server" / "tfidf-logreg.json")
    assert it.failure is None
    assert it.sustained is not None
    assert it.system["serve"]["batch"] == 8
    assert {each.block for each in it.rounds} == {1, 2}, "the second helping goes on"
    assert it.sustained["offline"] == 5000.0
    assert it.sustained["capped"]
    assert set(it.sustained["rates"]) == {"1", "2"}
    for block, rate in it.sustained["rates"].items():
        own = [each for each in it.rounds if each.block == int(block)]
        good = [each.rate for each in own if server.holds(each.examples, each.late or 0)]
        assert (rate is None) == (not good)
        assert rate is None or rate in good
    side = read_side(results / "records" / name / "sentiment" / "server" / "tfidf-logreg.json")
    assert [len(each) for each in side["latency_us"]] == [each.examples for each in it.rounds]
    if it.latency_ms and it.latency_ms["p99"]:
        assert it.latency_ms["p99"] <= 50


def test_speedup_of_server_is_the_ratio_of_the_blocks_rates(tmp_path: Path) -> None:
    rates: dict[str, list[float | None]] = {
        "ref": [10.0, 11.0, 10.0],
        "fast": [50.0, 55.0, 50.0],
        "once": [None, None, 40.0],
        "dead": [None, None, None],
    }
    for name, sustained in rates.items():
        it, side = make(name, [1.0] * 3, 0.9, scenario="server")
        serve(it, sustained)
        write(it, side, tmp_path)
    (section,) = sections(load_rows(tmp_path)[0])
    rows = {row.name: row for row in section.rows}
    found = rows["fast"].speedup
    assert (found.value, found.low, found.high) == pytest.approx((5.0, 5.0, 5.0))
    assert rows["fast"].throughput == pytest.approx((50 * 55 * 50) ** (1 / 3))
    for name in ("once", "dead"):
        assert rows[name].speedup is None
        assert rows[name].columns().get("throughput") is None
        assert rows[name].qualified, "its answers are good, it is only too slow"
    ranks = {name: row.rank for name, row in rows.items()}
    assert ranks == {"fast": 1, "ref": 2, "once": None, "dead": None}
    expected = 0.0846 / 3600 / rows["fast"].throughput * 1e8
    assert rows["fast"].columns()["usd_per_100m"] == pytest.approx(expected)


def test_worker_takes_at_most_a_batch_of_the_waiting_queries(tmp_path: Path) -> None:
    """Twenty queries wait while the first is answered; the engine sees them by eights."""
    sizes: list[int] = []

    class Counting:
        def scores(self, examples: list[object]) -> np.ndarray:
            sizes.append(len(examples))
            if len(sizes) == 1:
                time.sleep(0.2)
            return np.zeros((len(examples), 2), np.float32)

    queries, to = os.pipe()
    back, replies = os.pipe()
    wire = worker.Wire(queries, replies)
    thread = threading.Thread(target=worker._answer, args=(wire, Counting(), 8))
    thread.start()
    os.write(to, QUESTIONS.line(0, [0]))
    time.sleep(0.05)
    for number in range(1, 21):
        os.write(to, QUESTIONS.line(number, [0]))
    os.close(to)
    thread.join(5)
    assert sizes == [1, 8, 8, 4]
    assert os.read(back, 1 << 16).count(b"\n") == 21
