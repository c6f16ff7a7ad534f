"""`wattbench cache`: what is listed, and what may be removed."""

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from harness.cli.main import main
from harness.store.cache import create_scratch_folder, hold_lock
from harness.store.inventory import KINDS, list_items, remove_item
from tests.support.data_files import load_task, write_rows, write_task


def write_item(cache: Path, kind: str, name: str, size: int, days_ago: float = 0.0) -> Path:
    path = cache / kind / name / "data"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    moment = time.time() - 86400 * days_ago
    os.utime(path, (moment, moment))
    os.utime(path.parent, (moment, moment))
    return path.parent


def test_sizes_are_those_of_the_files_and_shared_files_count_once(cache: Path) -> None:
    first = write_item(cache, "artifacts", "aa", 1000)
    second = write_item(cache, "artifacts", "bb", 500)
    os.link(first / "data", second / "linked")
    assert [item.size for item in list_items(["artifacts"])] == [1000, 500]


def test_artifacts_say_task_steps_and_seed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTBENCH_CACHE", str(built.parent))
    described = {item.description for item in list_items(["artifacts"])}
    assert {"reviews: finetune, seed 0", "reviews: majority, seed 0"} <= described
    assert "reviews: finetune > export > quantize, seed 0" in described


def test_data_sets_say_task_split_and_file(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, "csv", ["good", "bad"])
    write_rows(tmp_path / "rows.csv", [{"text": "fine", "label": "good"}])
    load_task(task).examples("validation")
    write_item(cache, "datasets", "aa", 10)
    assert main(["cache", "datasets"]) == 0
    lines = capsys.readouterr().out
    assert f"validation of {task}: {tmp_path / 'rows.csv'}" in lines
    assert "of an unknown task" in lines, "stored by an earlier version"


def test_damaged_artifact_is_listed(cache: Path) -> None:
    write_item(cache, "artifacts", "aa", 10)
    assert [item.description for item in list_items()] == ["not an artifact"]


def test_every_folder_that_a_build_makes_is_a_kind(built: Path) -> None:
    folders = {path.name for path in built.parent.iterdir()}
    assert "artifacts" in folders
    assert folders - {"locks"} <= set(KINDS)


def test_only_old_items_are_listed_and_pruned(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_item(cache, "tokens", "old", 2_000_000, days_ago=40)
    new = write_item(cache, "tokens", "new", 1_000_000, days_ago=2)
    assert main(["cache", "tokens", "--older-than", "30"]) == 0
    out = capsys.readouterr().out
    assert "tokens/old" in out
    assert "tokens/new" not in out
    assert "1 item, 2.0 MB" in out
    assert main(["cache", "tokens", "--older-than", "30", "--prune"]) == 0
    assert "removed: 1 item, 2.0 MB" in capsys.readouterr().out
    assert not old.exists()
    assert new.exists()


def test_all_prunes_every_kind_and_nothing_else(cache: Path) -> None:
    for kind in KINDS:
        write_item(cache, kind, f"{kind}-aa", 10)
    with hold_lock("xyz"):
        pass
    assert main(["cache", "all", "--prune"]) == 0
    assert list(list_items()) == []
    assert (cache / "locks" / "xyz").exists()


def test_prune_needs_a_kind_and_removes_nothing_without(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_item(cache, "tokens", "aa", 10)
    assert main(["cache", "--prune"]) == 2
    assert "--prune needs a KIND" in capsys.readouterr().err
    assert main(["cache", "token", "--prune"]) == 2
    assert "Did you mean 'tokens'" in capsys.readouterr().err
    assert folder.exists()


def test_item_whose_lock_is_held_stays(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = write_item(cache, "checkpoints", "abc123", 10)
    source = write_item(cache, "sources", "vader-abc123", 10)
    (cache / "locks").mkdir()
    with FileLock(cache / "locks" / "abc123456"):  # a source's folder has a part of the key
        assert main(["cache", "checkpoints", "sources", "--prune"]) == 0
    out = capsys.readouterr().out
    assert f"kept, since a process uses it: {artifact}" in out
    assert source.exists()
    assert main(["cache", "checkpoints", "sources", "--prune"]) == 0
    assert not artifact.exists()
    assert not source.exists()


@pytest.mark.usefixtures("cache")
def test_what_a_running_process_writes_stays() -> None:
    folder = create_scratch_folder()
    (item,) = list_items(["tmp"])
    assert not remove_item(item)
    folder.rename(folder.with_name("4194305.killed"))  # above the largest process number
    (item,) = list_items(["tmp"])
    assert remove_item(item)


def test_interrupted_removal_is_completed(cache: Path) -> None:
    write_item(cache, "artifacts", ".removed-aa", 10)
    (item,) = list_items(["artifacts"])
    assert item.description == "its removal was interrupted"
    assert remove_item(item)
    assert list(list_items()) == []


def test_empty_cache_is_listed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"0 items, 0.0 MB in {cache}\n"
