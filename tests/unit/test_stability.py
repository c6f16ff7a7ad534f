"""What records, caches and published tables rest on, and what no change of structure may change.

A recipe, a configuration or a task that is changed on purpose updates its file in `tests/data/
stability` in the same commit: `python -m tests.unit.test_stability` writes them anew.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.leaderboard.columns import CSV_COLUMNS
from harness.optimize import quantize
from harness.reports.results_folder import write_board
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import plan_system
from harness.submissions.staleness import StalenessCheck
from harness.tasks.registry import builtin_tasks
from harness.telemetry.configuration import configurations
from tests.support.figures import figures
from tests.support.records import GOLDEN, golden_records
from tests.support.systems import REPOSITORY

STABLE = Path(__file__).parent.parent / "data" / "stability"
RESULTS = REPOSITORY / "results"


def artifact_keys() -> dict[str, list[str]]:
    keys = {}
    for name, folder in find_systems(REPOSITORY).items():
        system = read_system(folder, REPOSITORY)
        for task in builtin_tasks().values():
            if task.content is None and task.training_task is task and system.declares_task(task):
                steps = plan_system(system, task, 0).steps
                keys[f"{name}/{task.name}"] = [f"{step.use} {step.key}" for step in steps]
    return keys


def configuration_hashes() -> dict[str, str]:
    return {configuration.name: configuration.hash for configuration in configurations().values()}


def task_versions() -> dict[str, str]:
    """Of data that is not pinned the part that is declared."""
    return {task.name: task.edition for task in builtin_tasks().values()}


def golden_figures(folder: Path) -> dict[str, Any]:
    golden_records(folder / "records")
    drawn = write_board(folder).files
    return {name: figures(name, (folder / name).read_text()) for name in _readable(drawn)}


def _readable(names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".svg")]


def _one_line(found: re.Match[str]) -> str:
    return f"[{re.sub(chr(10) + ' +', ' ', found[1])}]"


def stable(name: str) -> Any:
    return json.loads((STABLE / name).read_text())


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of quantized models name the instruction set."""
    monkeypatch.setattr(quantize, "has_vnni", lambda: True)


@pytest.mark.usefixtures("vnni")
def test_artifact_keys_of_the_shipped_recipes_are_what_they_were() -> None:
    keys = artifact_keys()
    assert keys == stable("artifact-keys.json")
    assert {key.partition("/")[0] for key in keys} == find_systems(REPOSITORY).keys()


def test_configuration_hashes_are_what_they_were() -> None:
    assert configuration_hashes() == stable("configurations.json")
    assert configuration_hashes()["cpu-2"] == "b8e609a257d9"


def test_task_versions_are_what_they_were() -> None:
    assert task_versions() == stable("tasks.json")


def test_csv_columns_are_what_they_were() -> None:
    assert list(CSV_COLUMNS) == stable("csv-columns.json")


def test_golden_board_has_the_figures_that_it_had(tmp_path: Path) -> None:
    drawn, expected = golden_figures(tmp_path), stable("golden-board.json")
    assert drawn.keys() == expected.keys()
    for name, rows in expected.items():
        assert drawn[name] == rows, name


def test_committed_results_have_the_figures_of_their_records(tmp_path: Path) -> None:
    (tmp_path / "records").symlink_to(RESULTS / "records")
    find_state = StalenessCheck(REPOSITORY).find_state
    for name in _readable(write_board(tmp_path, find_state).files):
        drawn, committed = ((folder / name).read_text() for folder in (tmp_path, RESULTS))
        assert figures(name, drawn) == figures(name, committed), name


def test_figures_of_each_kind_of_file_are_found() -> None:
    assert GOLDEN.is_dir()
    for name, rows in stable("golden-board.json").items():
        assert len(rows) > 5, name
    assert figures("a.md", "| a 1 | b |\n|---|---|\n| x | 2.5 ± 0.1 |\n") == [["2.5 ± 0.1"]]


if __name__ == "__main__":
    import tempfile

    quantize.has_vnni = lambda: True
    with tempfile.TemporaryDirectory() as scratch:
        for name, value in {
            "artifact-keys.json": artifact_keys(),
            "configurations.json": configuration_hashes(),
            "tasks.json": task_versions(),
            "csv-columns.json": list(CSV_COLUMNS),
            "golden-board.json": golden_figures(Path(scratch)),
        }.items():
            text = json.dumps(value, indent=1)
            if name == "golden-board.json":  # a row a line
                text = re.sub(r"\[\n {3,}(.*?)\n {2}\]", _one_line, text, flags=re.S)
            (STABLE / name).write_text(text + "\n")
