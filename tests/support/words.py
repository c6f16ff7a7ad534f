"""A task of invented texts, whose label one word tells, and what the tests of steps do with it."""

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.optimize import distill
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.distill import Distill
from harness.optimize.static import Static
from harness.tasks.task import Example, Task

TEXTS = [
    "a wonderful film with a warm heart and a clever script",
    "dull, dreary and far too long",
    "the actors are good but the story is thin",
    "one of the best pictures of the year",
    "it never finds its feet, and neither did i",
    "quick",
    "an ordinary tale that is told with uncommon care by people who know what they do, all evening",
    "bad",
]

POSITIVE = ("wonderful", "good", "clever", "best", "warm")
NEGATIVE = ("dull", "bad", "thin", "dreary", "long")


def load_split(split: str) -> tuple[Example, ...]:
    """400 examples to train on, 100 of each other split."""
    draw = random.Random(split)
    examples = []
    for _ in range(400 if split == "train" else 100):
        label = draw.randrange(2)
        word = draw.choice((NEGATIVE, POSITIVE)[label])
        filler = draw.choice(TEXTS[5:7])
        examples.append(Example(((f"{filler} {word}",),), label))
    return tuple(examples)


TASK = Task(
    "words", "Words", "1", ("no", "yes"), "accuracy", 64, 50, "-", "-", load_split, lambda: True
)


def only_selection(split: str) -> Any:
    """The task's data for a step that may look at nothing but the selection slice."""
    assert split == "selection", f"calibration looked at the {split} split"
    return TASK.examples(split)


def keep(folder: Path, about: dict[str, Any]) -> Artifact:
    """Make an artifact of a step's folder, as building does."""
    described = {"key": folder.name, "max_length": 64, "labels": 2, "recipe": [], **about}
    (folder / "artifact.json").write_text(json.dumps(described))
    return Artifact.read(folder)


def run_step(
    out: Path, step: ModuleType, inputs: Inputs, params: Any, task: Task = TASK
) -> Artifact:
    """The artifact of a step on one core, with seed 0."""
    return keep(out, step.run(inputs, task, params, StepContext(out, 0, 1)))


def scores(artifact: Artifact, split: str = "validation", **serve: Any) -> Any:
    """An artifact's scores of a split [examples, labels]."""
    name = "pytorch" if artifact.format == "safetensors" else "onnxruntime"
    loaded = registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig(name, **serve), 1)
    )
    return loaded.scores([example.candidates for example in TASK.examples(split)])


def share_right(logits: Any) -> float:
    """Accuracy on the validation split."""
    labels = [example.label for example in TASK.examples("validation")]
    return float(np.mean(logits.argmax(1) == labels))


QUICK = {"epochs": 2, "batch": 16, "learning_rate": 1e-3, "transfer": False}
"""Parameters of a short distillation."""


def distilled(teacher: Artifact, out: Path, seed: int = 0, **params: object) -> Artifact:
    """A student of a teacher."""
    inputs = Inputs(teacher, teacher=teacher)
    params_of_step = Distill(**{**QUICK, **params})  # type: ignore[arg-type]
    return keep(out, distill.run(inputs, TASK, params_of_step, StepContext(out, seed, 1)))


STATIC = Static(
    buckets=4096,
    width=16,
    hidden=16,
    epochs=3,
    batch=16,
    learning_rate=1e-2,
    transfer=False,
    augment=1,
)
"""A static student small enough for TASK."""
