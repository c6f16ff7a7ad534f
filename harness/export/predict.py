"""Answer with the exported model that lies beside this file.

    python predict.py TEXT [PAIR]    prints the label
    python predict.py < texts.txt    prints one label per line; a line is a text, a JSON string, or
                                     a JSON list of a text and its pair

In Python: `from predict import predict`. Call it below `if __name__ == "__main__":`, because some
engines start processes.
"""

import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.engines.base import Candidates, Engine, EngineConfig, ServeConfig
from harness.engines.registry import load_engine
from harness.models.answers import answers_from_scores

FOLDER = Path(__file__).parent


@cache
def load_settings() -> dict[str, Any]:
    """Return the names of the labels, the metadata and key of the artifact, and how to serve it."""
    settings: dict[str, Any] = json.loads((FOLDER / "predict.json").read_text(encoding="utf-8"))
    return settings


@cache
def load() -> Engine:
    """Load the engine, once, on all cores that this process may use."""
    settings = load_settings()
    threads = len(os.sched_getaffinity(0))
    serve = ServeConfig(**settings["serve"])
    return load_engine(EngineConfig(FOLDER / "model", settings["metadata"], serve, threads))


def predict(examples: Sequence[Candidates]) -> list[str | int]:
    """Return one answer per example: the name of the label, or the index of the best candidate.

    Args:
        examples: an example is a list of candidates: one, or several in a multiple-choice task. A
            candidate is a list of one text, or of a text and its pair.
    """
    counts = [len(candidates) for candidates in examples]
    answers = answers_from_scores(load().scores(examples), counts)
    labels = load_settings()["labels"]
    return [
        labels[answer] if count == 1 else answer
        for answer, count in zip(answers, counts, strict=True)
    ]


def parse_line(line: str) -> list[str]:
    """Return the text of a line, and its pair if the line is a JSON list of both."""
    try:
        value = json.loads(line)
    except ValueError:
        value = line.strip()
    return value if isinstance(value, list) else [str(value)]


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    if sys.argv[1:]:
        inputs = [sys.argv[1:]]
    else:
        inputs = [parse_line(line) for line in sys.stdin if line.strip()]
    for label in predict([[texts] for texts in inputs]) if inputs else ():
        print(label)
