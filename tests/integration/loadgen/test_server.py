"""The scenario `server` with real workers."""

import sys
import textwrap
from pathlib import Path

import pytest

from harness.leaderboard.ranking import group_sections, load_rows
from harness.loadgen import server
from harness.loadgen.scenarios import QuerySamples, Window
from harness.results.record import read_record, read_side_file
from harness.tasks.task import Example, Task
from harness.telemetry.configuration import choose_configuration
from harness.telemetry.energy import EnergyMeter
from harness.worker.driver import Worker
from tests.support.systems import build_all, measure


def play(folder: Path, body: str, rate: float, count: int, text: str = "text") -> Window:
    """Play a schedule against a real worker whose loop over lines is given."""
    samples = QuerySamples.from_examples([Example(((text,),), 0)] * 50, 2)
    script = folder / "worker.py"
    script.write_text(
        "import json, sys, time\n"
        "def answer(line): print(json.dumps({'id': json.loads(line)['id'], 'answers': [0]}), "
        "flush=True)\n" + textwrap.dedent(body)
    )
    meter = EnergyMeter(choose_configuration("cpu-1"))
    with Worker(1, [sys.executable, str(script)]) as worker:
        worker.ask(samples.query(0, [0]), 60.0)
        return server.poisson(worker, samples, range(50), rate, count, 1, 60.0, meter)


def test_writer_never_blocks_though_the_worker_does_not_read(tmp_path: Path) -> None:
    """More text than both pipes hold comes while the worker sleeps; nothing is lost."""
    body = """
    for number, line in enumerate(sys.stdin):
        if number == 1: time.sleep(1.0)
        answer(line)
    """
    window = play(tmp_path, body, 200.0, 300, "x" * 20_000)
    assert len(window.latencies) == 300
    assert max(window.latencies) > 0.5, "those that came meanwhile waited"


@pytest.mark.serial
def test_driver_sleeps_between_arrivals(tmp_path: Path) -> None:
    """It wakes twice a query, for the arrival and for the answer: 1 to 2% of a core, not 100%."""
    window = play(tmp_path, "for line in sys.stdin: answer(line)", 100.0, 150)
    assert window.driver_cpu_seconds / window.seconds < 0.1


def test_session_with_server_from_worker_to_board(built_project: Path, reviews: Task) -> None:
    """`tfidf-logreg` with a batch of 8 queued queries, in two runs of one block."""
    manifest = built_project / "baselines" / "tfidf-logreg" / "submission.toml"
    manifest.write_text(manifest.read_text() + "\n[serve.server]\nbatch = 8\n")
    names = ("tfidf-logreg", "null")
    build_all(built_project, names, reviews)
    session = measure(built_project, names, reviews, server=True)
    assert measure(built_project, names, reviews, session, blocks=2, server=True) == session
    folder = built_project / "results" / "records" / session / "reviews" / "server"
    for name in names:
        record = read_record(folder / f"{name}.json")
        assert record.failure is None
        assert record.sustained is not None
        assert {window.block for window in record.rounds} == {1, 2}, "the second run goes on"
        assert set(record.sustained["rates"]) == {"1", "2"}
        for block, rate in record.sustained["rates"].items():
            windows = [window for window in record.rounds if window.block == int(block)]
            held = [
                example.rate
                for example in windows
                if server.meets_bound(example.examples, example.late or 0)
            ]
            assert (rate is None) == (not held)
            assert rate is None or rate in held
        side = read_side_file(folder / f"{name}.json")
        sizes = [window.examples for window in record.rounds]
        assert [len(latencies) for latencies in side["latency_us"]] == sizes
        if record.latency_ms and record.latency_ms["p99"]:
            assert record.latency_ms["p99"] <= 50
    assert read_record(folder / "tfidf-logreg.json").system["serve"]["batch"] == 8
    sustained = read_record(folder / "null.json").sustained
    assert sustained is not None
    assert (sustained["offline"], sustained["capped"]) == (server.MAX_DRIVER_RATE, True)
    rows, faults = load_rows(built_project / "results" / "records")
    assert not faults
    assert "server" in {section.scenario for section in group_sections(rows)}
