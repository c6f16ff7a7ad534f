"""What every engine shares: how an artifact is served, and the protocols.

A worker imports this module before it is ready, so it needs NumPy alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harness.models.answers import Scores

Candidates = Sequence[Sequence[str]]
"""The candidates of one example as the protocol sends them: each a text, or a text and its pair."""


@dataclass(frozen=True)
class ServeConfig:
    """How an artifact is served; the table `[serve]` of a manifest.

    Attributes:
        engine: name of the engine: `pytorch`, `onnxruntime`, `openvino`, `cascade`, `static`,
            `model2vec`, `tfidf` or `constant`.
        padding: `longest` pads to the longest input of the batch, `max` to the task's maximum
            length (the default of most libraries).
        batch: largest number of inputs in one forward pass, 1..4096.
        tokens: largest number of tokens in one forward pass, including padding (a longer input
            forms a batch of its own); 0 for no limit.
        order: `given`, or `by-length` to batch inputs of similar length.
        instances: copies of the engine that answer in parallel, each on its share of the threads
            (multi-instance inference: Kim & Hassan 2020): a number, or `per-core`. They are threads
            over one model if the engine allows it, otherwise processes. `single_stream` always has
            one instance on all threads.
        spin: whether onnxruntime's threads wait actively for the next operator of a call instead of
            sleeping. That is faster, but costs more CPU time where calls come with pauses. Without
            it in the manifest: in `single_stream` and `offline`, not in `server`.
        threshold: the confidence at which an example exits early: `chosen` by the step `calibrate`
            or `cascade`, `never`, or a number for all exits.
        compile: whether the engine `pytorch` serves the model through `torch.compile`, which fuses
            operations. Loading then takes seconds to a minute longer, and needs a C++ compiler.
        cuda_graphs: whether the engine `pytorch` records the forward pass once for every length and
            then replays it, so that the host launches one graph instead of some hundred kernels.
            Lengths are rounded up to a multiple of 16. Only on a GPU.
        module: custom code instead of an engine: a Python file in the submission's folder that
            defines a class with `load` and `predict`.
        command: custom code instead of an engine: a program that implements the worker protocol
            (docs/methodology/protocol.md), and its arguments.
    """

    engine: str
    padding: str = "longest"
    batch: int = 1
    tokens: int = 0
    order: str = "given"
    instances: int | str = 1
    spin: bool = True
    threshold: float | str = "chosen"
    compile: bool = False
    cuda_graphs: bool = False
    module: str = ""
    command: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; those of `OPTIONAL_SERVE_KEYS` only where they are
        set.
        """
        values = {**asdict(self), "command": list(self.command)}
        return {
            key: value for key, value in values.items() if value or key not in OPTIONAL_SERVE_KEYS
        }

    def count_instances(self, threads: int) -> int:
        """Return the number of instances on this many threads: at most one per thread."""
        wanted = threads if isinstance(self.instances, str) else self.instances
        return min(wanted, threads)


OPTIONAL_SERVE_KEYS = ("compile", "cuda_graphs", "module", "command")
"""Fields of `ServeConfig` that a record states only where they are set."""


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is loaded from.

    Attributes:
        folder: the artifact's folder; empty if there is none.
        metadata: the part of `artifact.json` that engines need (`ENGINE_METADATA_KEYS`).
        serve: how to serve the artifact.
        threads: number of threads that all instances together may use.
        device: `cpu` or `cuda`.
        submission: the submission's folder, for custom code.
    """

    folder: Path
    metadata: dict[str, Any]
    serve: ServeConfig
    threads: int
    device: str = "cpu"
    submission: Path | None = None

    @property
    def instances(self) -> int:
        """Number of instances."""
        return self.serve.count_instances(self.threads)

    @property
    def threads_per_instance(self) -> int:
        """Number of threads of one instance."""
        return self.threads // self.instances


class Engine(Protocol):
    """A loaded artifact that scores examples."""

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels]: the candidates of all examples in order."""


@runtime_checkable
class AnsweringEngine(Protocol):
    """An engine that answers instead of scoring: custom code of a submission."""

    def predict(self, examples: Sequence[Candidates]) -> list[int]:
        """Return one answer per example."""


@runtime_checkable
class ReportingEngine(Protocol):
    """An engine that reports statistics of the examples that it has answered."""

    def report(self) -> dict[str, Any]:
        """Return `left`: how many examples exited at each stage since the last report."""
