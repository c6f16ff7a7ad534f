"""Taking a fine-tuned checkpoint as it is: nothing is trained."""

import inspect
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError
from harness.models.label_order import find_label_order
from harness.models.pretrained import GRAPH, get_padding_id, is_plain_bert
from harness.optimize.base import Inputs, Step, StepContext
from harness.store import untrusted
from harness.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from harness.models.model_inputs import Forward

WEIGHTS = "model.safetensors"

TAKES = {"input_ids", "attention_mask", "token_type_ids"}
"""Inputs that a graph may have."""

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


def run(inputs: Inputs, task: Task, params: Adopt, context: StepContext) -> dict[str, Any]:
    """Write the model in the task's order of labels.

    Raises: BuildError if the labels are not the task's, or the graph takes something unknown.
    """
    from harness.models import classifier, tokenization
    from harness.models.model_inputs import find_tokenizer_inputs, load_tokenizer_config
    from harness.optimize.training import encoders

    assert inputs.encoder is not None, "a manifest without a checkpoint is refused before"
    folder = inputs.encoder.folder
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    order = find_label_order(config, task, folder)
    described = load_tokenizer_config(folder)
    names = find_tokenizer_inputs(described, config)
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", task.max_length)
    if described.get("truncation_side") in tokenization.SIDES:
        tokenization.set_truncation(tokenizer, task.max_length, described["truncation_side"])
    if "token_type_ids" not in names:
        tokenizer = tokenization.remove_token_types(tokenizer)
    if (folder / WEIGHTS).is_file() and is_plain_bert(config):
        model = classifier.from_checkpoint(folder, order)
        length = min(task.max_length, model.spec.positions)
        return {"max_length": length} | encoders.save_model(model, tokenizer, context.out)
    tokenization.save_tokenizer(tokenizer, context.out / "tokenizer.json")
    if (folder / WEIGHTS).is_file():
        for name in ("config.json", WEIGHTS):
            shutil.copyfile(folder / name, context.out / name)
        run, names, limit = _transformers(folder, names, context.threads)
        about: dict[str, Any] = {"format": "transformers"}
        parameters = _parameters(folder / WEIGHTS)
    else:
        for name in GRAPH:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, context.out / name)
        parameters, quantized = _graph(context.out / GRAPH[0])
        about = {"format": "onnx", "dtype": "int8" if quantized else "fp32"}
        run = _onnxruntime(context.out / GRAPH[0], context.threads)
        positions = config.get("max_position_embeddings")
        limit = positions if isinstance(positions, int) else 0
    length = min(task.max_length, limit) if limit > 0 else task.max_length
    kind = str(config.get("model_type", "unknown"))
    model_about = {"parameters": parameters, "order": order, "architecture": kind, "inputs": names}
    token = get_padding_id(config, tokenizer.get_vocab_size())
    try:
        length, padding = _tried(run, tokenizer, task, token, length, len(order), context.log)
    except BuildError as error:
        raise BuildError(f"{folder}: {error}") from None
    except Exception as error:  # every runtime has its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BuildError(f"{folder}: the model fails on texts of {task.name} ({reason}).") from None
    return about | {"max_length": length, "model": model_about | {"padding": padding}}


def _tried(
    run: "Forward",
    tokenizer: "Tokenizer",
    task: Task,
    token: int | None,
    limit: int,
    labels: int,
    log: Callable[[str], None],
) -> tuple[int, dict[str, Any] | None]:
    """The longest input and the padding, found on some training texts.

    Raises: BuildError if the model does not take them, or gives other logits than one a label.
    """
    from harness.models import tokenization
    from harness.models.model_inputs import (
        PADDING_TOLERANCE,
        SAMPLE_SIZE,
        find_longest_input,
        find_padding,
    )

    texts = list(islice(task.texts(transfer=False), TEXTS))
    length = find_longest_input(run, tokenizer, texts, token, limit)
    tokenization.set_truncation(tokenizer, length)
    by_length = sorted(texts, key=lambda each: sum(map(len, each)))
    some = by_length[:: max(1, len(texts) // SAMPLE_SIZE)][:SAMPLE_SIZE]
    padding = None
    if token is not None:
        padding, moved = find_padding(run, tokenizer, some, token, length)
        if moved > PADDING_TOLERANCE:
            log(f"padding changes this architecture's logits by up to {moved:.2g}")
    logits = run(tokenization.pad(tokenization.tokenize(tokenizer, some[:1])))
    if logits.shape != (1, labels):
        raise BuildError(
            f"the model gives logits of shape {logits.shape} for one text, but its id2label has "
            f"{labels} names. Correct config.json."
        )
    if not bool((abs(logits) < math.inf).all()):
        raise BuildError("the model's logits are not finite. Take another checkpoint.")
    return length, asdict(padding) if padding else None


def _onnxruntime(path: Path, threads: int) -> "Forward":
    from harness.engines import onnxruntime

    try:
        graph = onnxruntime.load_graph(path, threads)
    except Exception as error:  # of onnxruntime; a KeyError for inputs of an unknown type
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BuildError(f"{path.name}: onnxruntime cannot use the graph ({reason}).") from None
    return lambda batch: graph(batch.feeds)[0]


def _transformers(
    folder: Path, names: Sequence[str], threads: int
) -> "tuple[Forward, tuple[str, ...], int]":
    """The class that transformers has for it: its forward pass, those of the tokenizer's inputs
    that it takes, and how many positions it says it has (0: it does not).

    Raises: BuildError if weights are missing or misfit: transformers would draw them at random.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, logging

    from harness.engines.pytorch import build_forward
    from harness.models.classifier import find_nonfinite

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of any of the libraries that it is made of
        raise BuildError(
            f"{folder}: not a fine-tuned classifier ({' '.join(str(error).split())[:300]})."
        ) from None
    if missing := sorted(found["missing_keys"]):
        raise BuildError(
            f"{folder / WEIGHTS}: {', '.join(missing[:3])} must be in it, but "
            "is not: this is no fine-tuned classifier. Fine-tune it first."
        )
    if name := find_nonfinite(model.state_dict()):
        raise BuildError(
            f"{folder / WEIGHTS}: weight {name} is not finite. Take another checkpoint."
        )
    takes = inspect.signature(model.forward).parameters
    limit = getattr(model.config, "max_position_embeddings", None) or 0
    fed = tuple(name for name in names if name in takes)
    return build_forward(model, fed), fed, int(limit)


def _parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _graph(path: Path) -> tuple[int, bool]:
    """The number of weights, and whether some of them are quantized."""
    import onnx

    untrusted.check_graph(path)
    model = onnx.load(path)
    if unknown := {each.name for each in model.graph.input} - TAKES:
        raise BuildError(
            f"{path}: the graph takes {', '.join(sorted(unknown))}. Export it so that it takes "
            f"{', '.join(sorted(TAKES))} and gives the logits first."
        )
    weights = sum(math.prod(each.dims) for each in model.graph.initializer)
    kinds = {node.op_type for node in model.graph.node}
    return weights, any("QuantizeLinear" in kind or "Integer" in kind for kind in kinds)


def output_spec(params: Adopt, shape: dict[str, Any]) -> dict[str, Any]:
    """What of the shape is another afterwards."""
    return {"format": shape.get("becomes", "safetensors"), "finetuned": True}


def validate(params: Adopt, shape: dict[str, Any]) -> list[str]:
    """Weights must be a model as transformers saves it."""
    return [shape["unfit"].rstrip(".")] if "unfit" in shape else []


STEP = Step("adopt", 2, Adopt, ("checkpoint",), run, validate, output_spec)
