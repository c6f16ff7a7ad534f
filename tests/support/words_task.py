"""Tasks as files, `words` among them, and the tiny encoder fine-tuned on it as a user saves it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.optimize.base import Artifact
from tests.support.words import TASK

Rows = Sequence[tuple[str, str]]
"""Texts with their labels."""

TASK_FILE = """
name = "{name}"
title = "{title}"
labels = {labels}
metric = "accuracy"
max_length = 64
[fields]
text = "text"
label = "label"
[splits]
train = "train.jsonl"
selection = "selection.jsonl"
validation = "validation.jsonl"
"""


def write_task(
    folder: Path, name: str, title: str, labels: Sequence[str], splits: Mapping[str, Rows]
) -> Path:
    """Write a task of single texts.

    Args:
        folder: an existing folder.
        name: of the task.
        title: of the task.
        labels: of the task.
        splits: text and label of the examples of each split.

    Returns:
        The `task.toml`.
    """
    for split, rows in splits.items():
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    path = folder / "task.toml"
    path.write_text(TASK_FILE.format(name=name, title=title, labels=json.dumps(list(labels))))
    return path


def write_words_task(folder: Path) -> Path:
    """Write the task `words` into a new folder; return its `task.toml`."""
    folder.mkdir(parents=True)
    splits = {
        split: [(part.candidates[0][0], TASK.labels[part.label]) for part in TASK.examples(split)]
        for split in ("train", "selection", "validation")
    }
    return write_task(folder, "words", "Is the word a good one?", TASK.labels, splits)


def write_checkpoint(folder: Path, finetuned: Artifact, encoder: Path) -> Path:
    """Write a fine-tuned artifact as transformers would save it."""
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(finetuned.folder / name, folder / name)
    config = json.loads((encoder / "config.json").read_text())
    labels = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    architecture = {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config | labels | architecture))
    return folder
