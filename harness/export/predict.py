"""Answer with the exported model that lies beside this file.

    python predict.py TEXT [PAIR]    prints the label
    python predict.py < texts.txt    prints the label of each line; an empty line has an empty one

A line (UTF-8) is a text as it is written, unless it is a JSON string (a text, which may have line
breaks) or a JSON list of one or two strings (a text, and its pair).

In Python: `from predict import predict`. Call it below `if __name__ == "__main__":`, because some
engines start processes.
"""

import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

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

    Raises:
        ValueError: a candidate is empty, has the wrong number of texts, or cannot be encoded.
    """
    for position, candidates in enumerate(examples):
        for texts in candidates:
            if fault := find_fault(texts):
                raise ValueError(f"example {position}: {fault}")
    counts = [len(candidates) for candidates in examples]
    answers = answers_from_scores(load().scores(examples), counts)
    labels = load_settings()["labels"]
    return [
        labels[answer] if count == 1 else answer
        for answer, count in zip(answers, counts, strict=True)
    ]


def find_fault(texts: Sequence[str]) -> str:
    """Return why the model cannot answer these texts, or ''."""
    expected = load_settings().get("texts") or len(texts)
    if len(texts) != expected:
        takes = "one text" if expected == 1 else "a text and its pair, as a JSON list of both"
        return f"{len(texts)} texts. The model takes {takes}."
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        return "not a text: it has half of a surrogate pair, or is not UTF-8."
    if not "".join(texts).strip():
        return "an empty text has no answer."
    return ""


def parse_line(line: str) -> list[str]:
    """Return the texts of a line; none if it is empty."""
    if not line.strip():
        return []
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return [line]
    texts = value if isinstance(value, list) else [value]
    is_texts = len(texts) in (1, 2) and all(isinstance(text, str) for text in texts)
    return texts if is_texts else [line]


def main(arguments: Sequence[str]) -> str:
    """Return what to print.

    Args:
        arguments: the texts; without any they are read from the standard input.
    """
    if list(arguments) in (["-h"], ["--help"]):
        return __doc__ or ""
    if len(arguments) > 2:
        fail(f"{len(arguments)} texts. Quote each, as in: predict.py 'a text' 'its pair'")
    lines = [list(arguments)]
    if not arguments:
        content = sys.stdin.buffer.read().decode("utf-8-sig", errors="surrogateescape")
        lines = [parse_line(line.removesuffix("\r")) for line in content.split("\n")]
        lines = lines if lines[-1] else lines[:-1]
    for number, texts in enumerate(lines, start=1):
        if fault := texts and find_fault(texts):
            fail(fault if arguments else f"line {number}: {fault}")
    examples = [[texts] for texts in lines if texts]
    answers = iter(predict(examples) if examples else ())
    return "".join(f"{next(answers) if texts else ''}\n" for texts in lines)


def fail(message: str) -> NoReturn:
    """End with a message and the exit status 2."""
    print(f"predict.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(main(sys.argv[1:]))
