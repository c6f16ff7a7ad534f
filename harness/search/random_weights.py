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

from harness.errors import BuildError, HarnessError
from harness.models import pretrained
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext, get_step
from harness.search.candidate import Shape, Size, list_later_steps
from harness.tasks.registry import get_task
from harness.tasks.task import Example, Task

SELECTION_EXAMPLES = 16
"""Examples of the selection slice that a step sees; the step `quantize` answers all of them."""


def write_random_artifact(
    shape: Shape, teacher: Path, address: str, vocabulary: bool, out: Path, threads: int
) -> Artifact:
    """Write what a student of this shape is served from, with random weights.

    The steps that follow training are run as in a build.

    Args:
        shape: the student.
        teacher: the folder of the teacher's artifact.
        address: of the task.
        vocabulary: whether embeddings that the task's text does not need are removed.
        out: an empty folder.
        threads: cores to use.

    Raises:
        BuildError: a step cannot be applied to such a student.
    """
    request = {
        "shape": [[*vars(shape.size).values()], shape.form, shape.batch, shape.instances],
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
    if process.returncode:
        reason = (process.stdout or process.stderr).strip()[-400:]
        raise BuildError(f"a student of {shape.size.layers} layers as {shape.form}: {reason}")
    return Artifact.read(Path(process.stdout.splitlines()[-1]))  # libraries may print, too


def _write(request: dict[str, Any]) -> Path:
    """Write the artifact, and return its folder, below the folder of the request."""
    import torch

    from harness.models import tokenization
    from harness.models.classifier import Classifier
    from harness.models.encoder_spec import EncoderSpec
    from harness.optimize.training import encoders

    size, form, batch, instances = request["shape"]
    shape = Shape(Size(*size), form, batch, instances)
    teacher = Artifact.read(Path(request["teacher"]))
    task, out, threads = get_task(request["task"]), Path(request["out"]), int(request["threads"])
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


def _main() -> int:
    try:
        print(_write(json.load(sys.stdin)))
    except HarnessError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
