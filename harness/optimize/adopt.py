"""Adopting a fine-tuned checkpoint as it is; nothing is trained."""

import inspect
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError
from harness.models.label_order import find_label_order
from harness.models.model_spec import ModelSpec
from harness.models.pretrained import GRAPH, get_padding_id, is_plain_bert
from harness.optimize.base import Inputs, Step, StepContext, StepParams
from harness.progress import Log
from harness.store import untrusted
from harness.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from harness.models.model_inputs import Forward

WEIGHTS = "model.safetensors"

GRAPH_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
"""Inputs that a graph may have."""

MAX_TEXTS = 64
"""Training texts from which a sample is tried."""


class Adopt(StepParams):
    """Take a fine-tuned classifier with its own classification layer; nothing is trained.

    A BERT becomes `safetensors`, which every step takes; another architecture `transformers`, which
    `export` takes; an ONNX graph `onnx`. Its labels are put into the task's order by their names
    (`id2label` in config.json), or are in that order if they are called LABEL_0, LABEL_1, ...
    """


def run(inputs: Inputs, task: Task, params: Adopt, context: StepContext) -> dict[str, Any]:
    """Write the model with the labels in the task's order.

    Raises:
        BuildError: the labels are not the task's, or the graph has an unknown input.
    """
    from harness.models import classifier, tokenization
    from harness.models.model_inputs import find_tokenizer_inputs, load_tokenizer_config
    from harness.optimize.training import encoders

    assert inputs.encoder is not None, "a manifest without a checkpoint is refused earlier"
    folder = inputs.encoder.folder
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    order = find_label_order(config, task, folder)
    tokenizer_config = load_tokenizer_config(folder)
    names = find_tokenizer_inputs(tokenizer_config, config)
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", task.max_length)
    truncation_side = tokenizer_config.get("truncation_side")
    if truncation_side in tokenization.SIDES:
        tokenization.set_truncation(tokenizer, task.max_length, truncation_side)
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
        forward, names, limit = _load_transformers(folder, names, context.threads)
        metadata: dict[str, Any] = {"format": "transformers"}
        parameters = _count_parameters(folder / WEIGHTS)
    else:
        for name in GRAPH:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, context.out / name)
        parameters, is_quantized = _inspect_graph(context.out / GRAPH[0])
        metadata = {"format": "onnx", "dtype": "int8" if is_quantized else "fp32"}
        forward = _load_graph(context.out / GRAPH[0], context.threads)
        positions = config.get("max_position_embeddings")
        limit = positions if isinstance(positions, int) else 0
    length = min(task.max_length, limit) if limit > 0 else task.max_length
    spec = {
        "parameters": parameters,
        "order": order,
        "architecture": str(config.get("model_type", "unknown")),
        "inputs": names,
    }
    padding_id = get_padding_id(config, tokenizer.get_vocab_size())
    try:
        length, padding = _find_length_and_padding(
            forward, tokenizer, task, padding_id, length, len(order), context.log
        )
    except BuildError as error:
        raise BuildError(f"{folder}: {error}") from None
    except Exception as error:  # every runtime has its own exceptions
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BuildError(f"{folder}: the model fails on texts of {task.name} ({reason}).") from None
    return metadata | {"max_length": length, "model": spec | {"padding": padding}}


def _find_length_and_padding(
    forward: "Forward",
    tokenizer: "Tokenizer",
    task: Task,
    padding_id: int | None,
    limit: int,
    labels: int,
    log: Log,
) -> tuple[int, dict[str, Any] | None]:
    """Return the longest input in tokens, and the padding, found by trying some training texts.

    Args:
        forward: the model.
        tokenizer: its tokenizer; gets the truncation.
        task: has the texts.
        padding_id: the id of the padding token; None if there is none.
        limit: the longest input to try, in tokens.
        labels: the number of labels.
        log: takes a warning about padding.

    Raises:
        BuildError: the model fails on the texts, or does not return one logit per label.
    """
    from harness.models import tokenization
    from harness.models.model_inputs import (
        PADDING_TOLERANCE,
        SAMPLE_SIZE,
        find_longest_input,
        find_padding,
    )

    texts = list(islice(task.texts(transfer=False), MAX_TEXTS))
    length = find_longest_input(forward, tokenizer, texts, padding_id, limit)
    tokenization.set_truncation(tokenizer, length)
    by_length = sorted(texts, key=lambda text: sum(map(len, text)))
    sample = by_length[:: max(1, len(texts) // SAMPLE_SIZE)][:SAMPLE_SIZE]
    padding = None
    if padding_id is not None:
        padding, difference = find_padding(forward, tokenizer, sample, padding_id, length)
        if difference > PADDING_TOLERANCE:
            log(f"padding changes this architecture's logits by up to {difference:.2g}")
    logits = forward(tokenization.pad(tokenization.tokenize(tokenizer, sample[:1])))
    if logits.shape != (1, labels):
        raise BuildError(
            f"the model gives logits of shape {logits.shape} for one text, but its id2label has "
            f"{labels} names. Correct config.json."
        )
    if not bool((abs(logits) < math.inf).all()):
        raise BuildError("the model's logits are not finite. Take another checkpoint.")
    return length, asdict(padding) if padding else None


def _load_graph(path: Path, threads: int) -> "Forward":
    from harness.engines import onnxruntime

    try:
        graph = onnxruntime.load_graph(path, threads)
    except Exception as error:  # of onnxruntime; a KeyError for inputs of an unknown type
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BuildError(f"{path.name}: onnxruntime cannot use the graph ({reason}).") from None
    return lambda batch: graph(batch.feeds)[0]


def _load_transformers(
    folder: Path, names: Sequence[str], threads: int
) -> "tuple[Forward, tuple[str, ...], int]":
    """Load a checkpoint into its class of transformers.

    Args:
        folder: the checkpoint.
        names: the inputs that the tokenizer provides.
        threads: cores that the model may use.

    Returns:
        The forward pass, those of the inputs that it takes, and its number of positions (0 if it
        does not state one).

    Raises:
        BuildError: weights are missing or do not fit; transformers would draw them at random.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, logging

    from harness.engines.pytorch import build_forward
    from harness.models.classifier import find_nonfinite

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of any library that it uses
        raise BuildError(
            f"{folder}: not a fine-tuned classifier ({' '.join(str(error).split())[:300]})."
        ) from None
    if missing := sorted(loading["missing_keys"]):
        raise BuildError(
            f"{folder / WEIGHTS}: it lacks {', '.join(missing[:3])}, so this is not a fine-tuned "
            "classifier. Fine-tune it first."
        )
    if name := find_nonfinite(model.state_dict()):
        raise BuildError(
            f"{folder / WEIGHTS}: weight {name} is not finite. Take another checkpoint."
        )
    parameters = inspect.signature(model.forward).parameters
    limit = getattr(model.config, "max_position_embeddings", None) or 0
    inputs = tuple(name for name in names if name in parameters)
    return build_forward(model, inputs), inputs, int(limit)


def _count_parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _inspect_graph(path: Path) -> tuple[int, bool]:
    """Return the number of weights of a graph, and whether some of them are quantized."""
    import onnx

    untrusted.check_graph(path)
    model = onnx.load(path)
    if unknown := {tensor.name for tensor in model.graph.input} - GRAPH_INPUTS:
        raise BuildError(
            f"{path}: the graph has the inputs {', '.join(sorted(unknown))}. Export it with the "
            f"inputs {', '.join(sorted(GRAPH_INPUTS))} and the logits as first output."
        )
    weights = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    kinds = {node.op_type for node in model.graph.node}
    return weights, any("QuantizeLinear" in kind or "Integer" in kind for kind in kinds)


def output_spec(params: Adopt, spec: ModelSpec) -> ModelSpec:
    """Return the specification of the adopted model."""
    return replace(spec, format=spec.becomes, finetuned=True)


def validate(params: Adopt, spec: ModelSpec) -> list[str]:
    """Return the error of a checkpoint that is not a model as transformers saves it."""
    return [spec.unfit.rstrip(".")] if spec.unfit else []


STEP = Step("adopt", 2, Adopt, ("checkpoint",), run, validate, output_spec)
