"""What an engine is, and the registry of all."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Candidates = Sequence[Sequence[str]]
"""The candidates of one example, as they come over the wire: each a text, or a text and its pair.
"""

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Serve:
    """How an artifact is served; a manifest's `[serve]`.

    engine: `pytorch`, `onnxruntime`, `tfidf` or `constant`.
    padding: `longest` pads to the longest input of the batch, `max` to the task's max length (what
    one has out of the box).
    batch: most inputs in one forward pass, 1..4096.
    order: `given`, or `by-length` so that a batch holds inputs of similar length.
    spin: let onnxruntime's threads spin between calls (faster at times, and never idle).
    """

    engine: str
    padding: str = "longest"
    batch: int = 1
    order: str = "given"
    spin: bool = False


CHOICES = {"padding": ("longest", "max"), "order": ("given", "by-length")}
KEYS = tuple(each.name for each in fields(Serve))


@dataclass(frozen=True)
class Load:
    """What an engine is told: the artifact's folder, what its `artifact.json` says, how to serve
    it, and the threads it may use.
    """

    folder: Path
    about: dict[str, Any]
    serve: Serve
    threads: int


class Engine(Protocol):
    """A loaded artifact."""

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]: the candidates of all examples one after the other."""


@dataclass(frozen=True)
class EngineKind:
    """An engine's module (which has `load(Load) -> Engine`) and the artifact formats it takes."""

    module: str
    takes: tuple[str, ...]


ENGINES = {
    "pytorch": EngineKind("harness.engines.pytorch", ("safetensors",)),
    "onnxruntime": EngineKind("harness.engines.ort", ("onnx",)),
    "tfidf": EngineKind("harness.engines.tfidf", ("tfidf",)),
    "constant": EngineKind("harness.engines.constant", ("constant", "")),
}
"""`constant` takes no artifact too: then it always answers 0 and measures the harness."""


def load(what: Load) -> Engine:
    """Load an artifact with the engine that its manifest names."""
    loaded: Engine = importlib.import_module(ENGINES[what.serve.engine].module).load(what)
    return loaded


def answers(scores: Scores, candidates: Sequence[int]) -> list[int]:
    """One integer an example: the best label, or, where it has several candidates, the candidate
    most surely of label 1.

    scores: float32 [candidates, labels]; candidates: how many each example has.
    """
    if len(scores) == len(candidates):
        best: list[int] = scores.argmax(axis=1).tolist()
        return best
    margins = scores[:, 1] - scores[:, 0]
    ends = np.cumsum(candidates)
    return [
        int(scores[end - 1].argmax()) if count == 1 else int(margins[end - count : end].argmax())
        for end, count in zip(ends, candidates, strict=True)
    ]
