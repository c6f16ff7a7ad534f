"""Taking a fine-tuned checkpoint as it is: nothing is trained."""

import inspect
import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from harness import text, untrusted
from harness.engines import ort
from harness.engines.pytorch import forward_of
from harness.errors import BuildError
from harness.optimize.inputs import (
    ALIKE,
    KNOWN,
    SAMPLE,
    Run,
    described,
    fitting_padding,
    longest_input,
    tokenizer_inputs,
)
from harness.optimize.step import Context, Inputs, Step
from harness.pretrained import GRAPH, padding_id
from harness.tasks.task import Task

TEXTS = 64
"""Training texts of which some are tried."""


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
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    order = label_order(config, task, folder)
    names = tokenizer_inputs(folder, config)
    tokenizer = text.load_tokenizer(folder / "tokenizer.json", task.max_length)
    if "token_type_ids" not in names:
        tokenizer = text.without_token_types(tokenizer)
    weights = folder / "model.safetensors"
    if weights.is_file() and config.get("model_type") == "bert":
        from harness import models
        from harness.optimize import training

        model = models.from_checkpoint(folder, order)
        length = min(task.max_length, model.shape.positions)
        return {"max_length": length} | training.written(model, tokenizer, context.out)
    torch.set_num_threads(context.threads)
    text.save_tokenizer(tokenizer, context.out / "tokenizer.json")
    if weights.is_file():
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(folder / name, context.out / name)
        run, names, limit = _transformers(folder, names)
        about: dict[str, Any] = {"format": "transformers"}
        parameters = _parameters(weights)
    else:
        for name in GRAPH:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, context.out / name)
        parameters, quantized = _graph(context.out / GRAPH[0])
        about = {"format": "onnx", "dtype": "int8" if quantized else "fp32"}
        graph = ort.opened(context.out / GRAPH[0], context.threads)

        def run(batch: text.Batch) -> Any:
            return graph(batch.feeds)[0]

        limit = int(config.get("max_position_embeddings") or 0)
    length = min(task.max_length, limit) if limit > 0 else task.max_length
    texts = list(islice(task.texts(transfer=False), TEXTS))
    token = padding_id(config, tokenizer.get_vocab_size())
    length = longest_input(run, tokenizer, texts, token, length)
    tokenizer.enable_truncation(length)
    some = sorted(texts, key=lambda each: sum(map(len, each)))[:: max(1, len(texts) // SAMPLE)]
    columns = run(text.pad(text.tokenize(tokenizer, some[:1]))).shape[-1]
    if columns != len(order):
        raise BuildError(
            f"{folder}: the model gives {columns} logits, but its id2label has {len(order)} names. "
            "Correct config.json."
        )
    padding = None
    if token is not None:
        padding, moved = fitting_padding(run, tokenizer, some[:SAMPLE], token, length)
        if moved > ALIKE:
            context.say(f"padding changes this architecture's logits by up to {moved:.2g}")
    kind = str(config.get("model_type", "unknown"))
    model_about = {"parameters": parameters, "order": order, "architecture": kind}
    return about | {"max_length": length, "model": model_about | described(names, padding)}


def label_order(config: dict[str, Any], task: Task, folder: Path) -> list[int]:
    """For each label of the task the model's own number of it.

    Names are compared as they are; then without regard to capitals; then also to punctuation that
    separates words. A comparison counts only where it keeps all names apart. LABEL_0, LABEL_1, ...
    are positions.

    Raises: BuildError if they are other labels, or `id2label` is no table of numbers and names.
    """
    place = folder / "config.json"
    given = config.get("id2label")
    if given is None:
        given = {str(n): f"LABEL_{n}" for n in range(len(task.labels))}
    numbers = [str(number) for number in range(len(given))] if isinstance(given, dict) else []
    if not numbers or sorted(map(str, given), key=str) != sorted(numbers):
        raise BuildError(
            f"{place}: id2label is {json.dumps(given)[:80]}, not a table from 0, 1, ... to names. "
            'Write {"0": ..., "1": ...}.'
        )
    by_number = {str(number): str(name) for number, name in given.items()}
    names = [by_number[number] for number in numbers]
    for form in (str, _folded, _words):
        own, wanted = [form(name) for name in names], [form(name) for name in task.labels]
        if len(set(own)) == len(own) == len(wanted) and set(own) == set(wanted):
            return [own.index(name) for name in wanted]
    places = [re.sub(r"^label_?", "", name.lower()) for name in names]
    if len(names) == len(task.labels) and places == numbers and places != names:
        return list(range(len(names)))
    raise BuildError(
        f"{place}: id2label has {', '.join(names)}, but {task.name} has "
        f"{', '.join(task.labels)}. Rename one of them, or take another task."
    )


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _words(name: str) -> str:
    """Without blanks and punctuation beside a letter; what may be a sign (-1, C++, C#, A-, .5)
    stays.
    """
    letter = r"[^\W\d_]"
    name = re.sub(rf"(?<={letter})[-\s]+(?=\w)|(?<=\w)[-\s]+(?={letter})", "", name.casefold())
    marks = r"""[\s_.,:;!?'"()\[\]/]+"""
    return re.sub(rf"(?<={letter}){marks}|{marks}(?={letter})", "", name)


def _transformers(folder: Path, names: Sequence[str]) -> tuple[Run, tuple[str, ...], int]:
    """The class that transformers has for it: its forward pass, those of the tokenizer's inputs
    that it takes, and how many positions it says it has (0: it does not).

    Raises: BuildError if weights are missing or misfit: transformers would draw them at random.
    """
    from transformers import AutoModelForSequenceClassification, logging

    logging.set_verbosity_error()
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BuildError(
            f"{folder}: not a fine-tuned classifier ({' '.join(str(error).split())[:300]})."
        ) from None
    if missing := sorted(found["missing_keys"]):
        raise BuildError(
            f"{folder / 'model.safetensors'}: {', '.join(missing[:3])} must be in it, but "
            "is not: this is no fine-tuned classifier. Fine-tune it first."
        )
    takes = inspect.signature(model.forward).parameters
    limit = getattr(model.config, "max_position_embeddings", None) or 0
    fed = tuple(name for name in names if name in takes)
    return forward_of(model, fed), fed, int(limit)


def _parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _graph(path: Path) -> tuple[int, bool]:
    """The number of weights, and whether some of them are quantized."""
    import onnx

    untrusted.check_graph(path)
    model = onnx.load(path)
    if unknown := {each.name for each in model.graph.input} - set(KNOWN):
        raise BuildError(
            f"{path}: the graph takes {', '.join(sorted(unknown))}. Export it so that it takes "
            f"{', '.join(KNOWN)} and gives the logits first."
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


STEP = Step("adopt", 2, Adopt, ("checkpoint",), run, validate, reshape)
