"""The task `weather`: whether a sentence says that it is warm."""

import random
from collections.abc import Sequence

from harness.tasks.task import Example, Task

WARM, COLD = ("hot", "sunny", "mild", "warm"), ("icy", "snowy", "freezing", "chilly")
SIZES = {"train": 200, "selection": 40, "validation": 80}


def load(split: str) -> Sequence[Example]:
    """Return made-up sentences, always the same."""
    draw = random.Random(split)
    examples = []
    for _ in range(SIZES[split]):
        label = draw.randrange(2)
        word = draw.choice((COLD, WARM)[label])
        day = draw.choice(("today", "tomorrow", "on Monday", "at night"))
        examples.append(Example(((f"it is {word} {day}",),), label))
    return examples


WEATHER = Task(
    name="weather",
    title="Is it warm?",
    edition="1",
    labels=("cold", "warm"),
    metric="accuracy",
    max_length=16,
    latency_bound_ms=20,
    source="made up",
    licence="CC0-1.0",
    load=load,
    available_locally=lambda: True,
)
