"""A constant answer: the most frequent label of the training split."""

from collections import Counter
from typing import Any

from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams
from harness.tasks.task import Task


class Majority(StepParams):
    """Count the labels of the training split and always answer the most frequent one; for a choice,
    the first candidate.
    """


def run(inputs: Inputs, task: Task, params: Majority, context: StepContext) -> dict[str, Any]:
    """Return the answer as metadata; no other file is written."""
    examples = task.examples("train")
    counts = Counter(label for example in examples for label in example.candidate_labels)
    return {"format": "constant", "answer": min(counts, key=lambda label: (-counts[label], label))}


STEP = Step(
    "majority",
    1,
    Majority,
    ("",),
    run,
    output_spec=lambda params, spec: ModelSpec("constant"),
    trains=True,
)
