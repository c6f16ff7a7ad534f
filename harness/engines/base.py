"""What an engine is, and the registry of all."""

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError

Candidates = Sequence[Sequence[str]]
"""The candidates of one example, as they come over the wire: each a text, or a text and its pair.
"""

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class ServeConfig:
    """How an artifact is served; a manifest's `[serve]`.

    engine: `pytorch`, `onnxruntime`, `openvino`, `cascade`, `static`, `model2vec`, `tfidf` or
        `constant`.
    padding: `longest` pads to the longest input of the batch, `max` to the task's max length (what
    one has out of the box).
    batch: most inputs in one forward pass, 1..4096.
    tokens: most tokens in one forward pass, padding counted (a longer input goes alone); 0: no
        limit.
    order: `given`, or `by-length` so that a batch holds inputs of similar length.
    instances: copies that answer side by side, each on its share of the threads: a number, or
        `per-core` (multi-instance inference: Kim & Hassan 2020). They are threads over
        one model where the engine allows it, else processes. `single_stream` always has one
        instance on all threads.
    spin: let onnxruntime's threads spin between calls (faster at times, and never idle).
    threshold: of confidence, where examples may leave early: `chosen` by the step `calibrate` or
        `cascade`, `never`, or a number for all exits.
    module, command: code of the submission's own instead of an engine: a Python file of its folder
        with a class that has `load` and `predict`, or a program that speaks docs/protocol.md.
    """

    engine: str
    padding: str = "longest"
    batch: int = 1
    tokens: int = 0
    order: str = "given"
    instances: int | str = 1
    spin: bool = False
    threshold: float | str = "chosen"
    module: str = ""
    command: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can say it, without own code where there is none."""
        own = {"module": self.module, "command": list(self.command)}
        plain = {key: value for key, value in asdict(self).items() if key not in own}
        return plain | {key: value for key, value in own.items() if value}

    def count(self, threads: int) -> int:
        """The instances on this many threads; never more than one a thread."""
        wanted = threads if isinstance(self.instances, str) else self.instances
        return min(wanted, threads)


CHOICES = {"padding": ("longest", "max"), "order": ("given", "by-length")}
KEYS = tuple(each.name for each in fields(ServeConfig))


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is told: the artifact's folder, what its `artifact.json` says, how to serve
    it, the threads it may use (all instances together), the device, `cpu` or `cuda`, and, for code
    of one's own, the submission's folder.
    """

    folder: Path
    about: dict[str, Any]
    serve: ServeConfig
    threads: int
    device: str = "cpu"
    submission: Path | None = None

    @property
    def threads_each(self) -> int:
        """Threads of one instance."""
        return self.threads // self.serve.count(self.threads)


class Engine(Protocol):
    """A loaded artifact."""

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]: the candidates of all examples one after the other."""


@runtime_checkable
class AnsweringEngine(Protocol):
    """An engine that answers by itself instead of scoring: code of a submission's own."""

    def predict(self, examples: Sequence[Candidates]) -> list[int]:
        """One answer an example."""


@runtime_checkable
class ReportingEngine(Protocol):
    """An engine that has something to say of the examples it answered."""

    def report(self) -> dict[str, Any]:
        """`left`: how many examples left at each stage since the last report."""


@dataclass(frozen=True)
class EngineKind:
    """An engine's module (which has `load(Load) -> Engine`) and the artifact formats it takes.

    extra: the optional dependencies it needs. shares: whether instances are threads over one model,
    since the engine lets go of the interpreter's lock; else they are processes.
    """

    module: str
    takes: tuple[str, ...]
    extra: str = ""
    shares: bool = False


ENGINES = {
    "pytorch": EngineKind("harness.engines.pytorch", ("safetensors", "transformers")),
    "onnxruntime": EngineKind("harness.engines.onnxruntime", ("onnx", "stages"), shares=True),
    "openvino": EngineKind(
        "harness.engines.openvino", ("onnx", "openvino"), extra="openvino", shares=True
    ),
    "cascade": EngineKind("harness.engines.cascade", ("cascade",), shares=True),
    "static": EngineKind("harness.engines.static", ("static",), shares=True),
    "model2vec": EngineKind("harness.engines.model2vec", ("model2vec",), extra="model2vec"),
    "tfidf": EngineKind("harness.engines.tfidf", ("tfidf",)),
    "constant": EngineKind("harness.engines.constant", ("constant", "")),
}
"""`constant` takes no artifact too: then it always answers 0 and measures the harness."""

CUSTOM_CODE = {"module": EngineKind("harness.engines.custom", (), shares=True), "command": None}
"""Code of a submission's own. A command is no engine: it takes the worker's place."""


def load_engine(what: EngineConfig) -> Engine:
    """Load an artifact with the engine that its manifest names.

    Raises: HarnessError if the engine's optional dependencies are missing.
    """
    kind = CUSTOM_CODE.get(what.serve.engine) or ENGINES[what.serve.engine]
    if what.serve.count(what.threads) > 1 and not kind.shares:
        from harness.engines.processes import Processes

        return Processes(what)
    try:
        loaded: Engine = importlib.import_module(kind.module).load(what)
    except ModuleNotFoundError as error:
        if not kind.extra:
            raise
        raise HarnessError(
            f"engine {what.serve.engine!r} needs {error.name}, which is not installed. Run: pip "
            f"install 'wattbench[{kind.extra}]'"
        ) from None
    return loaded


def answers_from_scores(scores: Scores, candidates: Sequence[int]) -> list[int]:
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
