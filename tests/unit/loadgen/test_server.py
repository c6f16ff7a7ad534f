"""The server scenario: what is sent when, what counts as late, and which rates are probed."""

import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.errors import WorkerError
from harness.leaderboard.columns import get_figures
from harness.leaderboard.ranking import group_sections, load_rows
from harness.loadgen import server
from harness.loadgen.scenarios import QuerySamples, Window
from harness.loadgen.server import RateSearch
from harness.results.record import write_record
from harness.tasks.task import Example
from harness.telemetry.configuration import configurations
from harness.telemetry.energy import EnergyMeter
from harness.worker import process
from tests.support.records import make_record, set_server_rates
from tests.support.simulated import SimulatedWorker
from tests.support.workers import ENOUGH

SAMPLES = QuerySamples.from_examples([Example((("text",),), 0)] * 50, 2)
Play = Callable[..., Window]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Play a schedule against a simulated worker, in its time."""

    def begin(
        worker: SimulatedWorker,
        rate: float,
        count: int,
        bound: float = 1.0,
        samples: QuerySamples = SAMPLES,
    ) -> Window:
        worker.keep_time(monkeypatch)
        meter = EnergyMeter(configurations()["cpu-1"])
        return server.poisson(worker, samples, range(50), rate, count, 1, bound, meter)

    return begin


def steady(seconds: float) -> SimulatedWorker:
    """Every query takes so long."""
    return SimulatedWorker(lambda number: seconds)


def test_arrivals_are_poisson_and_the_same_for_every_system(play: Play) -> None:
    prompt, slow = steady(0.0001), steady(0.01)
    for simulated in (prompt, slow):
        play(simulated, 90.0, 2000)
    gaps = np.diff(prompt.sent)
    assert scipy_stats.kstest(gaps, "expon", args=(0, 1 / 90.0)).pvalue > 0.01
    np.testing.assert_allclose(prompt.sent, slow.sent, atol=1e-9)


def test_latency_runs_from_the_scheduled_arrival(play: Play) -> None:
    """A worker that stands still for half a second makes all who arrive meanwhile wait."""
    window = play(SimulatedWorker(lambda number: 0.5 if number == 50 else 0.0001), 200.0, 200)
    late = np.array(window.latencies)
    assert len(late) == 200
    assert 60 < (late > 0.05).sum() < 130, "about 200/s times half a second, not that query alone"
    assert late.max() == pytest.approx(0.5, abs=1e-6)
    assert late[:50].max() < 0.001


def test_waiting_time_is_that_of_queueing_theory(play: Play) -> None:
    """M/D/1 at half load (Pollaczek-Khinchine): the mean wait is half a service time."""
    service, load = 0.01, 0.5
    window = play(steady(service), load / service, 40_000)
    expected = service + load * service / (2 * (1 - load))
    assert np.mean(window.latencies) == pytest.approx(expected, rel=0.03)


def test_queries_that_the_pipe_cannot_hold_wait_and_the_schedule_goes_on(play: Play) -> None:
    """More text than the pipe holds comes while the worker stands still for a second."""
    large = QuerySamples.from_examples([Example((("x" * 20_000,),), 0)] * 50, 2)
    worker = SimulatedWorker(lambda number: 1.0 if number == 1 else 0.0001, pipe=300_000)
    window = play(worker, 200.0, 300, bound=10.0, samples=large)
    due = np.cumsum(np.diff(worker.sent, prepend=0.0))
    assert len(window.latencies) == 300
    assert due[-1] < 1.7, "the last one is sent when it is due, after 1.5 seconds"


def test_hopeless_rate_ends_early_and_all_sent_queries_are_answered(play: Play) -> None:
    window = play(steady(0.01), 400.0, 1000, bound=0.05)
    assert len(window.latencies) == len(window.rows) < 300
    assert sum(latency > 0.05 for latency in window.latencies) > 30


def test_worker_that_hangs_fails(play: Play) -> None:
    hanging = SimulatedWorker(lambda number: 0.001 if number < 5 else math.inf)
    with pytest.raises(WorkerError, match="gave no answer within 60 s"):
        play(hanging, 100.0, 20)


def run_search(truth: float, start: float | None = None) -> tuple[RateSearch, list[float]]:
    """Return a search in which shares up to `truth` meet the bound, and what it probed."""
    search = RateSearch(1000.0, start)
    while (share := search.next_share()) is not None:
        search.results[share] = share <= truth
    return search, list(search.results)


@pytest.mark.parametrize("start", [None, 0.5, 0.72, 0.95])
@pytest.mark.parametrize("truth", [0.07, 0.3, 0.5, 0.62, 0.71, 0.86, 0.93])
def test_search_closes_the_bracket_to_five_percent(truth: float, start: float | None) -> None:
    search, probed = run_search(truth, start)
    low, high = search.bracket
    assert low is not None
    assert high is not None
    assert low <= truth < high
    assert high - low <= 0.05 * high + 1e-6
    assert len(probed) <= server.MAX_PROBES


def test_search_begins_with_the_first_shares() -> None:
    assert run_search(0.93)[1][:4] == [0.5, 0.7, 0.8, 0.9]


def test_search_that_begins_where_the_last_round_ended_takes_two_probes() -> None:
    first, _ = run_search(0.71)
    low, _ = first.bracket
    _, probed = run_search(0.71, low)
    assert probed == [low, pytest.approx(low / 0.95)]


@pytest.mark.parametrize("offline", [1213.5583, 37.1234, 0.7])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.8, 0.9])
def test_rate_that_met_the_bound_last_time_is_not_probed_twice(
    offline: float, share: float
) -> None:
    """Also if the record has it rounded."""
    rate = RateSearch(offline).rate(share)
    search = RateSearch(offline, round(rate / offline, 4))
    first = search.next_share()
    assert first == share
    search.results[first] = False
    next_share = search.next_share()
    assert next_share is not None
    assert search.rate(next_share) < 0.95 * rate


def test_rate_is_never_above_the_offline_rate() -> None:
    for start in (None, 0.9, 0.95):
        search, probed = run_search(5.0, start)
        low, high = search.bracket
        assert low is not None
        assert low >= 0.95
        assert high is None
        assert max(probed) < 1


def test_search_ends_if_no_rate_meets_the_bound() -> None:
    search, probed = run_search(0.0)
    assert search.bracket[0] is None
    assert probed[-1] == server.LOWEST_SHARE


def test_rate_meets_the_bound_if_its_99th_percentile_does() -> None:
    for late in range(12):
        latencies = [0.01] * (700 - late) + [0.09] * late
        if server.meets_bound(700, late):
            assert np.quantile(latencies, 0.99) <= 0.05
        assert server.meets_bound(700, late) == (late < 7)


@pytest.mark.parametrize(
    ("blocks", "queries"), [(1, 662), (2, 331), (5, 133), (20, 133), (None, 133)]
)
def test_rounds_share_the_queries_that_a_p99_needs(blocks: int | None, queries: int) -> None:
    assert server.queries_per_rate(blocks) == queries


def test_probe_is_long_enough_but_bounded() -> None:
    assert server.probe_seconds(1000.0, 133) == 3
    assert server.probe_seconds(20.0, 133) == pytest.approx(6.65)
    assert server.probe_seconds(1.0, 133) == 15


def test_speedup_of_server_is_the_ratio_of_the_blocks_rates(tmp_path: Path) -> None:
    rates: dict[str, list[float | None]] = {
        "ref": [10.0, 11.0, 10.0],
        "fast": [50.0, 55.0, 50.0],
        "once": [None, None, 40.0],
        "dead": [None, None, None],
    }
    for name, sustained in rates.items():
        record, side = make_record(name, [1.0] * 3, 0.9, scenario="server")
        set_server_rates(record, sustained)
        write_record(record, side, tmp_path)
    (section,) = group_sections(load_rows(tmp_path)[0])
    rows = {row.name: row for row in section.rows}
    speedup = rows["fast"].speedup
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx((5.0, 5.0, 5.0))
    assert rows["fast"].throughput == pytest.approx((50 * 55 * 50) ** (1 / 3))
    for name in ("once", "dead"):
        assert rows[name].speedup is None
        assert get_figures(rows[name]).get("throughput") is None
        assert rows[name].qualified, "its answers are good, it is only too slow"
    ranks = {name: row.rank for name, row in rows.items()}
    assert ranks == {"fast": 1, "ref": 2, "once": None, "dead": None}
    expected = 0.0846 / 3600 / rows["fast"].throughput * 1e8
    assert get_figures(rows["fast"])["usd_per_100m"] == pytest.approx(expected)


def test_worker_takes_at_most_a_batch_of_the_waiting_queries(tmp_path: Path) -> None:
    """Twenty queries wait while the first is answered; the engine gets them in eights."""
    sizes: list[int] = []
    taken, sent = threading.Event(), threading.Event()

    class Counting:
        def scores(self, examples: list[object]) -> np.ndarray:
            sizes.append(len(examples))
            taken.set()
            assert sent.wait(ENOUGH)
            return np.zeros((len(examples), 2), np.float32)

    queries, query_end = os.pipe()
    reply_end, replies = os.pipe()
    connection = process.Connection(queries, replies)
    thread = threading.Thread(target=process._run_instance, args=(connection, Counting(), 8))
    thread.start()
    os.write(query_end, SAMPLES.query(0, [0]))
    assert taken.wait(ENOUGH)
    for number in range(1, 21):
        os.write(query_end, SAMPLES.query(number, [0]))
    os.close(query_end)
    sent.set()
    thread.join(ENOUGH)
    assert sizes == [1, 8, 8, 4]
    assert os.read(reply_end, 1 << 16).count(b"\n") == 21
