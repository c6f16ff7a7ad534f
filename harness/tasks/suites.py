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
    """

    name: str
    tasks: tuple[str, ...]
    reference: str
    unpadded_reference: str
    systems: tuple[str, ...]
    ladder: tuple[str, ...] = ()


REFERENCES = ("minilm-l6", "minilm-l6-unpadded")
SYSTEMS = (
    *REFERENCES,
    *("minilm-l6-batched", "majority", "tfidf-logreg", "null"),
    *("onnx-fp32", "onnx-int8"),
)
LADDER = (*REFERENCES, "distilled", "distilled-int8", "distilled-int8-multi", "fastformers")

SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")

SUITES = (
    Suite("quick", ("sentiment",), *REFERENCES, SYSTEMS, LADDER),
    Suite("embedded", ("sentiment", "privacyqa", "boolq"), *REFERENCES, SYSTEMS, LADDER),
    Suite("superglue", SUPERGLUE, *REFERENCES, SYSTEMS, LADDER),
)
