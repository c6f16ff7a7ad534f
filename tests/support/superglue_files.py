"""Small files in SuperGLUE's official layout, of invented sentences."""

import json
from pathlib import Path
from typing import Any

FIRST = 5
"""Rows are not numbered from 0, so the files are a sample, and not files that were cut off."""

NAMES = ["Ada", "Bela", "Cora", "Dana", "Edda"]


def make_rows(task: str, split: str, count: int) -> list[dict[str, Any]]:
    """Return the rows of one file; those of `test` have no label."""
    rows = []
    for number in range(FIRST, FIRST + count):
        row = MAKERS[task](number + {"train": 0, "val": 100, "test": 200}[split])
        row["idx"] = number
        if split == "test":
            row.pop("label", None)
            passage = row.get("passage")
            for question in passage.get("questions", []) if isinstance(passage, dict) else []:
                for answer in question["answers"]:
                    del answer["label"]
            for query in row.get("qas", []):
                del query["answers"]
        rows.append(row)
    return rows


def write_superglue(folder: Path, train: int = 24, count: int = 8) -> Path:
    """Write all tasks and both diagnostics; return the folder."""
    for task in MAKERS:
        (folder / task).mkdir(parents=True)
        if task.startswith("AX"):
            write_jsonl(folder / task / f"{task}.jsonl", make_rows(task, "val", count))
            continue
        for split in ("train", "val", "test"):
            rows = make_rows(task, split, train if split == "train" else count)
            write_jsonl(folder / task / f"{split}.jsonl", rows)
    return folder


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _name(number: int) -> str:
    return NAMES[number % len(NAMES)]


def _boolq(number: int) -> dict[str, Any]:
    passage = f"Film -- {_name(number)} made film {number} in one year."
    return {"question": f"is film {number} good", "passage": passage, "label": number % 2 == 0}


def _cb(number: int) -> dict[str, Any]:
    label = ["entailment", "contradiction", "neutral"][number % 3]
    return {"premise": f"{_name(number)} said it {number}.", "hypothesis": "It is.", "label": label}


def _copa(number: int) -> dict[str, Any]:
    return {
        "premise": f"The film {number} was long.",
        "choice1": "The people slept.",
        "choice2": "The story was thin.",
        "question": ["cause", "effect"][number % 2],
        "label": number % 2,
    }


def _multirc(number: int) -> dict[str, Any]:
    questions = [
        {
            "question": f"who made {number}, {which}?",
            "idx": 2 * number + which,
            "answers": [
                {"text": name, "idx": 20 * number + 10 * which + place, "label": place % 2}
                for place, name in enumerate(NAMES[: 2 + which])
            ],
        }
        for which in range(2)
    ]
    return {"passage": {"text": f"Passage {number} of {_name(number)}.", "questions": questions}}


def _record(number: int) -> dict[str, Any]:
    first, second = _name(number), _name(number + 1)
    text = f"{first} met {second} twice.\n@highlight\n{first} left {number}"
    spans = []
    for name in (first, second):
        start = -1
        while (start := text.find(name, start + 1)) >= 0:
            spans.append({"start": start, "end": start + len(name) - 1})
    answer = {"start": 0, "end": len(first) - 1, "text": first}
    text_with_gap = f"It was @placeholder who left {number}."
    query = {"query": text_with_gap, "answers": [answer], "idx": 900 + number}
    return {"source": "x", "passage": {"text": text, "entities": spans}, "qas": [query]}


def _rte(number: int) -> dict[str, Any]:
    label = ["entailment", "not_entailment"][number % 2]
    return {"premise": f"{_name(number)} left {number}.", "hypothesis": "She left.", "label": label}


def _wic(number: int) -> dict[str, Any]:
    return {
        "word": "film",
        "sentence1": f"A film number {number}.",
        "sentence2": "Films of oil.",
        "start1": 2,
        "end1": 6,
        "start2": 0,
        "end2": 5,
        "version": 1.1,
        "label": number % 2 == 0,
    }


def _wsc(number: int) -> dict[str, Any]:
    text = f"{_name(number)} told {_name(number + 1)} of film {number} that she had seen."
    target = {"span1_index": 0, "span1_text": _name(number), "span2_index": 6, "span2_text": "she"}
    return {"text": text, "target": target, "label": number % 2 == 0}


def _axb(number: int) -> dict[str, Any]:
    row = _rte(number)
    return {"sentence1": row["premise"], "sentence2": row["hypothesis"], "label": row["label"]}


MAKERS = {
    "BoolQ": _boolq,
    "CB": _cb,
    "COPA": _copa,
    "MultiRC": _multirc,
    "ReCoRD": _record,
    "RTE": _rte,
    "WiC": _wic,
    "WSC": _wsc,
    "AX-b": _axb,
    "AX-g": _rte,
}
