"""Taking a fine-tuned checkpoint as it is: nothing is trained."""

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import untrusted
from harness.errors import BuildError
from harness.optimize.step import Context, Inputs, Step
from harness.pretrained import FILES, GRAPH
from harness.tasks.task import Task

FEEDS = {"input_ids", "attention_mask", "token_type_ids"}


@dataclass(frozen=True)
class Adopt:
    """Take over a fine-tuned classifier with its own classification layer; nothing is trained.

    A BERT becomes `safetensors`, which every step takes; another architecture `transformers`, which
    `export` takes; an ONNX graph `onnx`. Its labels are put into the task's order by their names
    (`id2label` in config.json), or are in that order where they are called LABEL_0, LABEL_1, ...
    No parameters.
    """


def run(inputs: Inputs, task: Task, params: Adopt, context: Context) -> dict[str, Any]:
    """Write the model in the task's order of labels.

    Raises: BuildError if the labels are not the task's, or the graph takes something unknown.
    """
    assert inputs.encoder is not None, "a manifest without a checkpoint is refused before"
    folder = inputs.encoder.folder
    config = json.loads((folder / "config.json").read_text())
    order = label_order(config, task, folder)
    longest = int(config.get("max_position_embeddings") or task.max_length)
    if "roberta" in _kind(config):
        longest -= 2  # its positions begin after that of the padding token
    about: dict[str, Any] = {"max_length": min(task.max_length, longest)}
    if (folder / "model.safetensors").is_file() and config.get("model_type") == "bert":
        from harness import models, text
        from harness.optimize import training

        model = models.from_checkpoint(folder, order)
        tokenizer = text.load_tokenizer(folder / "tokenizer.json", task.max_length)
        return about | training.written(model, tokenizer, context.out)
    _copy_tokenizer(folder, context.out)
    if (folder / "model.safetensors").is_file():
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(folder / name, context.out / name)
        parameters = _parameters(folder / "model.safetensors")
        return about | {
            "format": "transformers",
            "model": {"parameters": parameters, "order": order, "architecture": _kind(config)},
        }
    for name in GRAPH:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, context.out / name)
    parameters, quantized = _graph(context.out / GRAPH[0])
    return about | {
        "format": "onnx",
        "dtype": "int8" if quantized else "fp32",
        "model": {"parameters": parameters, "order": order, "architecture": _kind(config)},
    }


def label_order(config: dict[str, Any], task: Task, folder: Path) -> list[int]:
    """For each label of the task the model's own number of it.

    Raises: BuildError if they are other labels.
    """
    given = config.get("id2label") or {str(n): f"LABEL_{n}" for n in range(len(task.labels))}
    names = [str(given[key]) for key in sorted(given, key=int)]
    bare = [re.sub(r"[\W_]", "", name.lower()) for name in names]
    wanted = [re.sub(r"[\W_]", "", name.lower()) for name in task.labels]
    if len(names) == len(wanted) and set(bare) == set(wanted):
        return [bare.index(name) for name in wanted]
    if len(names) == len(wanted) and all(re.fullmatch(r"label\d+", name) for name in bare):
        return list(range(len(names)))
    raise BuildError(
        f"{folder / 'config.json'}: id2label has {', '.join(names)}, but {task.name} has "
        f"{', '.join(task.labels)}. Rename one of them, or take another task."
    )


def _kind(config: dict[str, Any]) -> str:
    return str(config.get("model_type", "unknown"))


def _copy_tokenizer(folder: Path, out: Path) -> None:
    from harness import text

    tokenizer = text.load_tokenizer(folder / FILES[2], 512)
    text.save_tokenizer(tokenizer, out / FILES[2])


def _parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _graph(path: Path) -> tuple[int, bool]:
    """The number of weights, and whether some of them are quantized."""
    import onnx

    untrusted.check_graph(path)
    model = onnx.load(path)
    if unknown := {each.name for each in model.graph.input} - FEEDS:
        raise BuildError(
            f"{path}: the graph takes {', '.join(sorted(unknown))}. Export it so that it takes "
            f"{', '.join(sorted(FEEDS))} and gives the logits first."
        )
    weights = sum(math.prod(each.dims) for each in model.graph.initializer)
    kinds = {node.op_type for node in model.graph.node}
    return weights, any("QuantizeLinear" in kind or "Integer" in kind for kind in kinds)


def reshape(params: Adopt, shape: dict[str, Any]) -> dict[str, Any]:
    """What of the shape is another afterwards."""
    return {"format": shape.get("becomes", "safetensors"), "finetuned": True}


def validate(params: Adopt, shape: dict[str, Any]) -> list[str]:
    """Weights must be a model as transformers saves it."""
    return [shape["unfit"].rstrip(".")] if "unfit" in shape else []


STEP = Step("adopt", 1, Adopt, ("checkpoint",), run, validate, reshape)
