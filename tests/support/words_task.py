"""The task `words` as files, and the tiny encoder fine-tuned on it as a user's checkpoint."""

import json
import shutil
from pathlib import Path

from harness.optimize.base import Artifact
from tests.support.words import TASK

TASK_FILE = """
name = "words"
title = "Is the word a good one?"
labels = ["no", "yes"]
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


def write_words_task(folder: Path) -> Path:
    """Write the splits and the `task.toml`; return the path of the latter."""
    folder.mkdir(parents=True)
    for split in ("train", "selection", "validation"):
        rows = [
            {"text": example.candidates[0][0], "label": TASK.labels[example.label]}
            for example in TASK.examples(split)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.toml").write_text(TASK_FILE)
    return folder / "task.toml"


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
