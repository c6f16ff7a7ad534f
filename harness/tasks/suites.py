"""Suites: tasks that are scored together, with the systems they are compared with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """Tasks that are scored together, with the systems they are compared with.

    systems: the default set; `--all` measures every system that names one of the tasks.
    ladder: systems of which each adds one optimization to the one before.
    """

    name: str
    tasks: tuple[str, ...]
    reference: str
    unpadded_reference: str
    systems: tuple[str, ...]
    ladder: tuple[str, ...] = ()


REFERENCES = ("minilm-l6", "minilm-l6-unpadded")
DEFAULT = (*REFERENCES, "minilm-l6-batched", "majority", "tfidf-logreg", "null")
GRAPHS = ("onnx-fp32", "onnx-int8")
STUDENTS = ("distilled", "distilled-int8", "distilled-int8-multi", "fastformers")

SUITES = (
    Suite("quick", ("sentiment",), *REFERENCES, (*DEFAULT, *GRAPHS), (*REFERENCES, *STUDENTS)),
    Suite(
        "embedded",
        ("sentiment", "privacyqa", "boolq"),
        *REFERENCES,
        (*DEFAULT, *GRAPHS),
        (*REFERENCES, *STUDENTS),
    ),
    Suite(
        "superglue",
        ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"),
        *REFERENCES,
        (*DEFAULT, *GRAPHS),
        (*REFERENCES, *STUDENTS),
    ),
)
