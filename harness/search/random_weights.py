"""Students with random weights: the speed of a model does not depend on its weights.

Run as a program in a process of its own, so that the process that measures does not load PyTorch.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.models import pretrained
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext, get_step
from harness.progress import Log
from harness.search.candidate import Shape, Size, list_later_steps
from harness.tasks.registry import get_task
from harness.tasks.task import Example, Task

SELECTION_EXAMPLES = 16
"""Examples of the selection slice that a step sees; the step `quantize` answers all of them."""


def write_random_artifacts(
    shapes: Sequence[Shape],
    teacher: Path,
    address: str,
    vocabulary: bool,
    out: Path,
    threads: int,
    log: Log,
) -> list[Artifact | None]:
    """Write what students of these shapes are served from, with random weights.

    The steps that follow training are run as in a build.

    Args:
        shapes: the students.
        teacher: the folder of the teacher's artifact.
        address: of the task.
        vocabulary: whether embeddings that the task's text does not need are removed.
        out: an empty folder.
        threads: cores to use.
        log: takes a line for each student to which a step cannot be applied.

    Returns:
        An artifact for each shape; None for one that failed.
    """
    request = {
        "shapes": [
            [[*vars(shape.size).values()], shape.form, shape.batch, shape.instances]
            for shape in shapes
        ],
        "teacher": str(teacher),
        "task": address,
        "vocabulary": vocabulary,
        "out": str(out),
        "threads": threads,
    }
    process = subprocess.run(
        [sys.executable, "-m", "harness.search.random_weights"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    artifacts: list[Artifact | None] = []
    for number, shape in enumerate(shapes):
        result = {"folder": "", "error": process.stderr.strip()[-400:]}
        file = out / f"{number}.json"
        if file.is_file():
            result = json.loads(file.read_text())
        if not result["folder"]:
            student = f"a student of {shape.size.layers} layers as {shape.form}"
            log(f"left out: {student}: {result['error']}")
        artifacts.append(Artifact.read(Path(result["folder"])) if result["folder"] else None)
    return artifacts


def _write_all(request: dict[str, Any]) -> None:
    """Write the artifacts, and a file for each one that has its folder or what failed."""
    out = Path(request["out"])
    for number, (size, form, batch, instances) in enumerate(request["shapes"]):
        folder = out / str(number)
        folder.mkdir()
        result = {"folder": "", "error": ""}
        try:
            result["folder"] = str(
                _write(Shape(Size(*size), form, batch, instances), request, folder)
            )
        except HarnessError as error:
            result["error"] = str(error)
        (out / f"{number}.json").write_text(json.dumps(result))


def _write(shape: Shape, request: dict[str, Any], out: Path) -> Path:
    """Write the artifact of a shape, and return its folder, below `out`."""
    import torch

    from harness.models import tokenization
    from harness.models.classifier import Classifier
    from harness.models.encoder_spec import EncoderSpec
    from harness.optimize.training import encoders

    teacher = Artifact.read(Path(request["teacher"]))
    task, threads = get_task(request["task"]), int(request["threads"])
    folder, labels = teacher.folder, teacher.metadata.labels
    spec = EncoderSpec.from_dict(teacher.metadata.model)
    if shape.size.start:
        folder = pretrained.fetch(shape.size.start, Path()).folder
        spec = EncoderSpec.from_config(json.loads((folder / "config.json").read_text()), labels)
    layers = shape.size.layers
    spec = replace(
        spec, heads=(shape.size.heads,) * layers, ffn=(shape.size.ffn,) * layers, exits=(), keep=()
    )
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    length = min(task.max_length, spec.positions)
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", length)
    step_folder = out / "weights"
    step_folder.mkdir()
    values: dict[str, Any] = encoders.save_model(Classifier(spec), tokenizer, step_folder)
    values |= {"max_length": length, "labels": labels}
    artifact = _finish(step_folder, values, teacher.metadata)
    few = replace(task, load=lambda split: _load_few(task, split))
    for number, step in enumerate(list_later_steps(shape, request["vocabulary"])):
        kind = get_step(step["use"])
        params = kind.params(**{key: value for key, value in step.items() if key != "use"})
        step_folder = out / str(number)
        step_folder.mkdir()
        values = kind.run(Inputs(artifact), few, params, StepContext(step_folder, 0, threads))
        artifact = _finish(step_folder, {"max_length": length, **values}, teacher.metadata)
    return artifact.folder


def _load_few(task: Task, split: str) -> Sequence[Example]:
    """Return the training split, or the beginning of another one, on which nothing depends here."""
    examples = task.examples(split)
    return examples if split == "train" else examples[:SELECTION_EXAMPLES]


def _finish(folder: Path, values: dict[str, Any], like: ArtifactMeta) -> Artifact:
    """Write the metadata of a step."""
    metadata = replace(ArtifactMeta.from_dict(values), labels=like.labels, task=like.task)
    (folder / "artifact.json").write_text(json.dumps(metadata.to_dict()))
    return Artifact(folder, metadata)


if __name__ == "__main__":
    _write_all(json.load(sys.stdin))
