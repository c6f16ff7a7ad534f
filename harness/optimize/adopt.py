"""Adopting a fine-tuned checkpoint as it is; nothing is trained."""

import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError, SourceError
from harness.models import onnx_graph
from harness.models.checkpoint_files import (
    CONFIG,
    GRAPH,
    TOKENIZER,
    copy_weights,
    find_graph,
    find_weights,
    read_config,
)
from harness.models.label_order import find_label_order
from harness.models.model_spec import WEIGHTS, ModelSpec
from harness.models.pretrained import get_padding_id, is_supported
from harness.optimize.base import Inputs, Step, StepContext, StepParams
from harness.progress import Log
from harness.tasks.task import Candidate, Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from harness.models.model_inputs import Forward
    from harness.models.tokenization import Batch, Padding

MAX_TEXTS = 64
"""Training texts from which a sample is tried."""


class Adopt(StepParams):
    """Take a fine-tuned classifier with its own classification layer; nothing is trained.

    A BERT or MPNet becomes `safetensors`, which every step takes; another architecture
    `transformers`, which `export` takes; an ONNX graph `onnx`. Its labels are put into the task's
    order by their names (`id2label` in config.json), or are in that order if they are called
    LABEL_0, LABEL_1, ...
    """


KERNEL_KEYS = ("_attn_implementation", "_attn_implementation_internal", "attn_implementation")
"""Keys of config.json that name a kernel of the machine on which it was written."""


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint of another architecture, or a graph.

    Attributes:
        forward: from a padded batch to logits.
        inputs: the names of its inputs.
        parameters: the number of its weights.
        limit: the longest input in tokens; 0 if it does not state one.
        metadata: format and precision of the artifact.
    """

    forward: "Forward"
    inputs: tuple[str, ...]
    parameters: int
    limit: int
    metadata: dict[str, Any]


def run(inputs: Inputs, task: Task, params: Adopt, context: StepContext) -> dict[str, Any]:
    """Write the model with the labels in the task's order.

    Raises:
        BuildError: the labels are not the task's, or the model cannot answer the task's texts.
    """
    from harness.models import load_checkpoint, tokenization
    from harness.models.model_inputs import (
        MIN_TOKENS,
        find_tokenizer_inputs,
        load_tokenizer_config,
    )
    from harness.optimize.training import encoders

    assert inputs.encoder is not None, "a manifest without a checkpoint is refused earlier"
    folder = inputs.encoder.folder
    config = read_config(folder)
    order = find_label_order(config, task, folder)
    tokenizer_config = load_tokenizer_config(folder)
    names = find_tokenizer_inputs(tokenizer_config, config)
    tokenizer = tokenization.load_tokenizer(folder / TOKENIZER, task.max_length)
    truncation_side = tokenizer_config.get("truncation_side")
    if truncation_side in tokenization.SIDES:
        tokenization.set_truncation(tokenizer, task.max_length, truncation_side)
    if "token_type_ids" not in names:
        tokenizer = tokenization.remove_token_types(tokenizer)
    if find_weights(folder) and is_supported(config):
        encoder = load_checkpoint.from_checkpoint(folder, order)
        tokenization.check_tokens(tokenizer, encoder.spec.vocabulary, folder)
        length = min(task.max_length, encoder.spec.positions)
        return {"max_length": length} | encoders.save_model(encoder, tokenizer, context.out)
    tokenization.save_tokenizer(tokenizer, context.out / TOKENIZER)
    texts = list(islice(task.texts(transfer=False), MAX_TEXTS))
    padding_id = get_padding_id(config, tokenizer.get_vocab_size())
    padding, fixed = None, {}
    graph = None if find_weights(folder) else find_graph(folder)
    if graph and (length := onnx_graph.read_spec(graph).shape[1]):
        side = str(tokenizer_config.get("padding_side", "right"))
        padding = tokenization.Padding(padding_id or 0, side)
        fixed = {"padding": asdict(padding), "length": length}
    try:
        if graph:
            tokenization.set_truncation(tokenizer, MIN_TOKENS)
            sample = tokenization.pad(tokenization.tokenize(tokenizer, texts[:1]))
            model = _load_graph(graph, config, context, sample, len(order), padding)
        else:
            model = _load_transformers(folder, names, context)
        length = min(task.max_length, model.limit or task.max_length)
        length, padding = _find_length_and_padding(
            model.forward, tokenizer, texts, padding_id, length, len(order), context.log
        )
    except SourceError:
        raise
    except BuildError as error:
        raise BuildError(f"{folder}: {error}") from None
    except Exception as error:  # every runtime has its own exceptions
        raise BuildError(
            f"{folder}: the model fails on texts of {task.name} ({_describe(error)})."
        ) from None
    spec = {
        "parameters": model.parameters,
        "order": order,
        "architecture": str(config.get("model_type", "unknown")),
        "inputs": model.inputs,
        "padding": asdict(padding) if padding else None,
    }
    return model.metadata | {"max_length": length, "model": spec | fixed}


def _find_length_and_padding(
    forward: "Forward",
    tokenizer: "Tokenizer",
    texts: Sequence[Candidate],
    padding_id: int | None,
    limit: int,
    labels: int,
    log: Log,
) -> "tuple[int, Padding | None]":
    """Return the longest input in tokens, and the padding, found by trying some training texts.

    Args:
        forward: the model.
        tokenizer: its tokenizer; gets the truncation.
        texts: some of the task's training texts.
        padding_id: the id of the padding token; None if there is none.
        limit: the longest input to try, in tokens.
        labels: the number of labels.
        log: takes a warning about padding.

    Raises:
        BuildError: the model fails on the texts or on a token of its tokenizer, or does not return
            one logit per label.
    """
    from harness.models import tokenization
    from harness.models.model_inputs import (
        PADDING_TOLERANCE,
        SAMPLE_SIZE,
        find_longest_input,
        find_padding,
    )

    length = find_longest_input(forward, tokenizer, texts, padding_id, limit)
    tokenization.set_truncation(tokenizer, length)
    by_length = sorted(texts, key=lambda text: sum(map(len, text)))
    sample = by_length[:: max(1, len(texts) // SAMPLE_SIZE)][:SAMPLE_SIZE]
    padding = None
    if padding_id is not None:
        padding, difference = find_padding(forward, tokenizer, sample, padding_id, length)
        if difference > PADDING_TOLERANCE:
            log(f"padding changes this architecture's logits by up to {difference:.2g}")
    batch = tokenization.pad(tokenization.tokenize(tokenizer, sample[:1]))
    logits = forward(batch)
    if logits.shape != (1, labels):
        raise BuildError(
            f"the model gives logits of shape {logits.shape} for one text, but its id2label has "
            f"{labels} names. Correct config.json."
        )
    if not bool((abs(logits) < math.inf).all()):
        raise BuildError("the model's logits are not finite. Take another checkpoint.")
    token, batch.ids[0, 0] = tokenization.find_last_token(tokenizer)
    try:
        forward(batch)
    except Exception as error:  # every runtime has its own exceptions
        raise BuildError(
            f"the model fails on the token {token!r} of its own tokenizer, whose id is "
            f"{batch.ids[0, 0]} ({_describe(error)}). {tokenization.TOKENS_REMEDY}"
        ) from None
    return length, padding


def _describe(error: Exception) -> str:
    """Return a library's error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def _load_graph(
    path: Path,
    config: dict[str, Any],
    context: StepContext,
    sample: "Batch",
    labels: int,
    padding: "Padding | None",
) -> LoadedModel:
    """Write a graph as engines expect it, and load it.

    Args:
        path: the graph of the checkpoint.
        config: the content of config.json.
        context: has the folder to write to.
        sample: one text, unpadded.
        labels: the number of labels.
        padding: how inputs are padded, for a graph that takes only one length.

    Raises:
        BuildError: onnxruntime cannot use the graph, or no output holds one number per label.
    """
    from harness.engines import onnxruntime
    from harness.models import tokenization

    spec = onnx_graph.read_spec(path)
    target = context.out / GRAPH
    outputs = onnx_graph.write_graph(path, target)
    length = spec.shape[1]

    def compute_outputs(batch: "Batch") -> list[Any]:
        return graph(
            tokenization.pad_batch(batch, length, padding).feeds if padding else batch.feeds
        )

    try:
        graph = onnxruntime.load_graph(target, context.threads)
        values = compute_outputs(sample)
    except Exception as error:  # every runtime has its own exceptions
        raise BuildError(f"onnxruntime cannot use {path.name} ({_describe(error)}).") from None
    number = onnx_graph.find_logits(outputs, values, labels)
    if number is None:
        shapes = ", ".join(
            f"{name} {list(value.shape)}" for name, value in zip(outputs, values, strict=True)
        )
        raise BuildError(
            f"{path.name} gives {shapes} for one text, but config.json has {labels} labels. Export "
            "the graph with the logits, [batch, labels], as output."
        )
    onnx_graph.keep_output(target, number)
    positions = length or config.get("max_position_embeddings")
    return LoadedModel(
        lambda batch: compute_outputs(batch)[number].astype("float32", copy=False),
        onnx_graph.INPUTS,
        spec.parameters,
        max(0, positions) if isinstance(positions, int) else 0,
        {"format": "onnx", "dtype": spec.dtype},
    )


def _load_transformers(folder: Path, names: Sequence[str], context: StepContext) -> LoadedModel:
    """Copy a checkpoint, and load it into its class of transformers.

    Args:
        folder: the checkpoint.
        names: the inputs that the tokenizer provides.
        context: has the folder to copy to.

    Raises:
        BuildError: weights are missing or do not fit; transformers would draw them at random.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, logging

    from harness.engines.pytorch import build_forward
    from harness.models.classifier import find_nonfinite

    config = {key: value for key, value in read_config(folder).items() if key not in KERNEL_KEYS}
    (context.out / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    copy_weights(folder, context.out / WEIGHTS)
    logging.set_verbosity(logging.CRITICAL)
    torch.set_num_threads(context.threads)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            context.out,
            local_files_only=True,
            trust_remote_code=False,  # otherwise transformers asks for it
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, with names and shapes
            output_loading_info=True,
        )
    except Exception as error:  # of any library that it uses
        reason = _describe(error).replace(str(context.out), str(folder))
        raise BuildError(f"not a fine-tuned classifier ({reason}).") from None
    for name, stored, expected in loading["mismatched_keys"]:
        raise BuildError(
            f"the weights of {name} have the shape {list(stored)}, but {CONFIG} says "
            f"{list(expected)}. Correct {CONFIG}, or take the weights that belong to it."
        )
    if missing := sorted(loading["missing_keys"]):
        unexpected = sorted(loading["unexpected_keys"])[:2]
        others = f" (but have {', '.join(unexpected)})" if unexpected else ""
        raise BuildError(
            f"the weights lack {', '.join(missing[:3])}{others}, so this is not a fine-tuned "
            "classifier. Fine-tune it first."
        )
    if name := find_nonfinite(model.state_dict()):
        raise BuildError(f"weight {name} is not finite. Take another checkpoint.")
    parameters = inspect.signature(model.forward).parameters
    limit = getattr(model.config, "max_position_embeddings", None) or 0
    inputs = tuple(name for name in names if name in parameters)
    return LoadedModel(
        build_forward(model, inputs),
        inputs,
        _count_parameters(context.out / WEIGHTS),
        max(0, int(limit)),
        {"format": "transformers"},
    )


def _count_parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def output_spec(params: Adopt, spec: ModelSpec) -> ModelSpec:
    """Return the specification of the adopted model."""
    return replace(spec, format=spec.becomes, finetuned=True)


def validate(params: Adopt, spec: ModelSpec) -> list[str]:
    """Return the error of a checkpoint that is not a model as transformers saves it."""
    return [spec.unfit.rstrip(".")] if spec.unfit else []


STEP = Step("adopt", 3, Adopt, ("checkpoint",), run, validate, output_spec)
