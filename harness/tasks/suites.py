"""Suites: tasks that are scored together, and the systems that are compared on them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """Tasks that are scored together.

    Attributes:
        name: the name, also in records.
        tasks: names of the tasks.
        reference: name of the reference system.
        unpadded_reference: name of the unpadded reference.
        systems: names of the systems that are measured by default; `--all` measures every system
            that declares one of the tasks.
        ladder: names of systems, each of which adds one optimization to the one before.
        gpu_systems: like `systems`, under a GPU configuration.
        gpu_ladder: like `ladder`, under a GPU configuration.
        model: what `--model` is, if the references are systems of a user's model: the path of a
            folder, or `organisation/name@revision`.
        model_name: what `--name` is.
    """

    name: str
    tasks: tuple[str, ...]
    reference: str
    unpadded_reference: str
    systems: tuple[str, ...]
    ladder: tuple[str, ...] = ()
    gpu_systems: tuple[str, ...] = ()
    gpu_ladder: tuple[str, ...] = ()
    model: str = ""
    model_name: str = ""

    def default_systems(self, device: str, ladder: bool) -> tuple[str, ...]:
        """Return the systems that are measured where none is named.

        Args:
            device: of the configuration, `cpu` or `gpu`.
            ladder: the ladder's systems instead of all.
        """
        if device == "gpu":
            return self.gpu_ladder if ladder else self.gpu_systems
        return self.ladder if ladder else self.systems


REFERENCES = ("minilm-l6", "minilm-l6-unpadded")
SYSTEMS = (
    *REFERENCES,
    *("minilm-l6-batched", "majority", "tfidf-logreg", "null"),
    *("onnx-fp32", "onnx-int8"),
)
LADDER = (*REFERENCES, "distilled", "distilled-int8", "distilled-int8-multi", "fastformers")

QUICK_SYSTEMS = (
    *REFERENCES,
    *("minilm-l6-batched", "majority", "tfidf-logreg", "null"),
    *("onnx-int8", "closed-int8", "fastformers", "static", "cascade"),
)

GPU_LADDER = (
    *(*REFERENCES, "minilm-l6-batched", "cuda-fp16", "cuda-fp16-graphs", "cuda-fp16-compiled"),
    "cuda-fastformers",
)
GPU_SYSTEMS = (*GPU_LADDER, "cuda-bf16", "null")

FURTHER_DEFAULTS = (LADDER, GPU_SYSTEMS, GPU_LADDER)

LARGE_REFERENCES = ("mpnet-base", "mpnet-base-unpadded")
LARGE_SYSTEMS = (
    *LARGE_REFERENCES,
    *("mpnet-base-batched", "minilm-l6", "majority", "tfidf-logreg", "null"),
    *("mpnet-closed-int8", "mpnet-fastformers"),
)
LARGE_LADDER = (
    *LARGE_REFERENCES,
    *("mpnet-distilled", "mpnet-distilled-int8", "mpnet-distilled-int8-multi"),
    *("mpnet-fastformers", "mpnet-fastformers-small"),
)
LARGE_GPU_SYSTEMS = (*LARGE_REFERENCES, "mpnet-base-batched", "minilm-l6", "null")

SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")

SUITES = (
    Suite("quick", ("sentiment",), *REFERENCES, QUICK_SYSTEMS, *FURTHER_DEFAULTS),
    Suite("embedded", ("sentiment", "privacyqa", "boolq"), *REFERENCES, SYSTEMS, *FURTHER_DEFAULTS),
    Suite(
        "superglue",
        SUPERGLUE,
        *LARGE_REFERENCES,
        LARGE_SYSTEMS,
        LARGE_LADDER,
        LARGE_GPU_SYSTEMS,
        LARGE_GPU_SYSTEMS,
    ),
)
