"""`wattbench fleet` on one machine."""

import re
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.optimize.training import schedule
from harness.results import record
from harness.tasks.task import Task
from tests.conftest import MIN_UPDATES
from tests.support.systems import write_submission


def find_scores(project: Path) -> dict[str, object]:
    """Return the scores of the only session of a project, and remove it."""
    (session,) = (project / "results" / "smoke" / "records").iterdir()
    rows = {path.stem: record.read_record(path) for path in session.glob("*/offline/*.json")}
    assert [row.failure for row in rows.values()] == [None] * len(rows)
    session.rename(project / session.name)
    return {name: row.score for name, row in rows.items()}


@pytest.mark.slow
def test_two_nodes_of_this_machine_build_what_run_measures_with_the_same_scores(
    project: Path,
    reviews: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(schedule, "MIN_UPDATES", MIN_UPDATES)
    monkeypatch.setenv("WATTBENCH_STORE", "../store")
    monkeypatch.chdir(project)
    options = ["--smoke", "--task", reviews.address, "--configuration", "cpu-1"]
    options += ["--system", "onnx-int8", "--system", "majority"]
    write_submission(
        project,
        '[[step]]\nuse = "distill"\nlayers = 1\nepochs = 1\nlearning_rate = 1e30',
        'engine = "pytorch"',
        "diverging",
    )
    assert main(["fleet", "--local", "2", *options, "--system", "diverging"]) == 1
    printed = capsys.readouterr().out
    assert "left off: diverging: distill reviews" in printed
    assert "measured: session" in printed
    assert list((project.parent / "store" / "artifacts").glob("*.json"))
    assert main(["fleet", "status"]) == 0
    assert capsys.readouterr().out.startswith("ended after")
    scores = find_scores(project)
    assert scores.keys() == {"onnx-int8", "majority", "minilm-l6", "minilm-l6-unpadded", "null"}

    monkeypatch.setenv("WATTBENCH_CACHE", str(tmp_path / "another"))
    assert main(["bench", *options]) == 0
    assert find_scores(project) == scores


def test_what_is_missing_is_said_before_anything_is_built(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("WATTBENCH_STORE", "")
    store = ["--store", str(project.parent / "store")]
    for arguments, message in (
        ([], "give --address of a Ray cluster, or --local N"),
        (["--address", "auto", "--local", "2"], "give --address of a Ray cluster, or --local N"),
        (["--address", "auto"], "a fleet needs a store that all its machines reach"),
        (["--address", "127.0.0.1:1", *store], r"there is no cluster \(.* refused\)"),
        (["--address", "ray://127.0.0.1", *store], "give auto, or HOST:PORT"),
        (["--address", "auto", *store, "--configuration", "cpu-3"], "'cpu-3' does not exist"),
        (["--local", "2", "--configuration", "cpu-3"], "'cpu-3' does not exist"),
        (
            ["--address", "auto", *store, "--configuration", "gpu-1", "--configuration", "cpu-2"],
            "give those with a GPU in a command of their own",
        ),
        (["--local", "2", "--store", "s4://bucket"], "Protocol not known: s4"),
        (["stauts"], "'stauts' is not an action"),
        (["status"], "no fleet was started with this cache"),
    ):
        assert main(["fleet", *arguments]) == 2
        assert re.search(message, capsys.readouterr().err)
