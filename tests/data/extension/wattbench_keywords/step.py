"""The step `keywords`: log odds of the words that tell two labels apart."""

import json
import math
from collections import Counter
from typing import Any

from pydantic import Field

from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams
from harness.tasks.task import Task


class Keywords(StepParams):
    """Keep the words whose frequencies in the two labels differ most."""

    words: int = Field(50, ge=1, description="number of words to keep")


def run(inputs: Inputs, task: Task, params: Keywords, context: StepContext) -> dict[str, Any]:
    """Write `keywords.json`."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for example in task.examples("train"):
        text = " ".join(example.candidates[0]).lower()
        counts[example.label].update(set(text.split()))
    odds = {
        word: math.log((counts[1][word] + 1) / (counts[0][word] + 1))
        for word in counts[0] | counts[1]
    }
    kept = sorted(odds, key=lambda word: (-abs(odds[word]), word))[: params.words]
    (context.out / "keywords.json").write_text(json.dumps({word: odds[word] for word in kept}))
    return {"format": "keywords", "model": {"parameters": len(kept)}}


STEP = Step(
    "keywords",
    1,
    Keywords,
    ("",),
    run,
    output_spec=lambda params, spec: ModelSpec("keywords"),
    trains=True,
)
