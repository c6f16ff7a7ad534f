"""Training of encoder classifiers: AdamW, a linear schedule, bf16, batches of similar length.

It runs on the device of the configuration. On a CPU it is fast for four reasons: bf16 matrix
products where the processor has them (`has_bf16`); attention without dropout, in plain form for
short inputs (`get_plain_attention`) and by the fused kernel for long ones; batches of similar
length, which need little padding; and an allocator that keeps its memory (build.py starts the
process with `MALLOC_TUNABLES`). The encoder's other dropout is unchanged, unless `dropout` is off.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from harness.errors import BuildError
from harness.models import classifier, tokenization
from harness.models.classifier import Classifier
from harness.optimize.base import Artifact, StepContext
from harness.optimize.training import tokens
from harness.optimize.training.checkpoint import Checkpoint
from harness.optimize.training.loop import Training, run_epochs
from harness.optimize.training.schedule import Schedule
from harness.optimize.training.tokens import Tokens
from harness.tasks.task import Example, Task
from harness.telemetry.kernel import has_bf16_products

BATCHES_SORTED_TOGETHER = 50
"""Number of batches whose examples are sorted by length together, after shuffling."""

PLAIN_ATTENTION_BF16, PLAIN_ATTENTION_FP32 = 256, 128
"""Number of tokens up to which attention is computed without PyTorch's fused kernel on a CPU. In
bf16 that kernel's backward pass takes seven to nine times as long there for 27 to 145 tokens; in
fp32 both passes together take up to a half longer for 27 (docs/methodology/recipe.md). Long inputs
need less memory with it."""

MOST_TOKENS = 4096
"""Number of tokens, with padding, of a forward and backward pass. A batch with more is divided into
several passes: the gradients are the same, and MPNet-base in fp32 needs 7 GB instead of 10."""

Loss = Callable[[list[int]], Tensor]
"""From row numbers to the mean loss of these rows, a scalar."""


def load_model(artifact: Artifact, task: Task, max_length: int = 0) -> tuple[Classifier, Tokenizer]:
    """Load an artifact's model and tokenizer.

    Args:
        artifact: safetensors weights of a BERT-like classifier.
        task: its maximum length applies if `max_length` is 0.
        max_length: number of tokens to truncate inputs to.

    Raises:
        BuildError: the weights do not fit the specification.
    """
    spec = classifier.EncoderSpec.from_dict(artifact.metadata.model)
    model = classifier.load(artifact.folder, spec)
    length = min(max_length or task.max_length, model.spec.positions)
    return model, tokenization.load_tokenizer(artifact.folder / "tokenizer.json", length)


def save_model(model: Classifier, tokenizer: Tokenizer, out: Path) -> dict[str, object]:
    """Write weights and tokenizer, and return their part of the artifact's metadata."""
    classifier.save(model, out)
    tokenization.save_tokenizer(tokenizer, out / "tokenizer.json")
    return {"format": "safetensors", "model": classifier.describe(model)}


def tokenize_examples(tokenizer: Tokenizer, examples: Sequence[Example]) -> Tokens:
    """Encode examples; a choice becomes one row per candidate, with label 1 for the right ones."""
    return tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(examples))


def train(
    model: Classifier,
    lengths: NDArray[np.int64],
    loss: Loss,
    selection: Tokens,
    params: Schedule,
    context: StepContext,
    helpers: Sequence[nn.Module] = (),
    score: Callable[[], float] | None = None,
    divergence: Callable[[], float] | None = None,
) -> list[dict[str, float]]:
    """Train in place; the weights end as those of the best epoch on the selection slice.

    Resumes from the context's checkpoint if there is one.

    Args:
        model: the classifier to train.
        lengths: int64 [rows], number of tokens of each training row.
        loss: the loss of some of these rows.
        selection: the selection slice.
        params: the schedule.
        context: seed, log and folder of the checkpoint.
        helpers: modules that are trained with the model and then discarded.
        score: the selection score; by default the accuracy on the selection slice.
        divergence: of a student from its teacher on the selection slice; if given, the best epoch
            is that with the lowest, because it varies less than the accuracy.

    Returns:
        The history of the epochs, see `run_epochs`.

    Raises:
        BuildError: there is nothing to train or to select on, or the loss is not finite.
    """
    if not len(lengths) or not len(selection):
        raise BuildError("the training split or the selection slice is empty. Check the task.")
    trained = nn.ModuleList([model, *helpers]).to(context.device)
    if not params.dropout:
        _disable_dropout(trained)
    model.plain_attention = get_plain_attention(context.device)
    optimizer = _build_optimizer(trained, params)
    updates_per_epoch, epochs = params.count_updates(len(lengths))
    updates = epochs * updates_per_epoch
    shuffler = random.Random(context.seed)

    def update(rows: list[int], number: int) -> float:
        rate = params.learning_rate * _schedule(number, updates, params.warmup)
        parts = split_by_tokens(rows, lengths, params.accumulate)
        return _update(trained, optimizer, loss, parts, rate)

    training = Training(
        model,
        epochs,
        updates,
        params.learning_rate,
        draw_batches=lambda: draw_batches(lengths.tolist(), params.batch, shuffler),
        update=update,
        score=score or (lambda: compute_accuracy(model, selection, params.batch)),
        divergence=divergence,
    )
    folder = context.checkpoints
    checkpoint = Checkpoint(folder, trained, optimizer) if folder else None
    history = run_epochs(training, context.log, checkpoint)
    trained.to("cpu")
    model.eval().plain_attention = 0
    return history


def _disable_dropout(trained: nn.Module) -> None:
    for module in trained.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _update(
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    parts: Sequence[list[int]],
    rate: float,
) -> float:
    """Make one update on a batch with this learning rate, in one pass for each part of the batch.

    Returns:
        The sum of the rows' losses.
    """
    total, rows = 0.0, sum(len(part) for part in parts)
    for part in parts:
        mean = loss(part)
        torch.autograd.backward(mean * (len(part) / rows))
        total += mean.item() * len(part)
    nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return total


def build_cross_entropy(model: Classifier, data: Tokens) -> Loss:
    """Return the cross-entropy of the model's logits against the labels."""
    labels = torch.from_numpy(data.labels)

    def loss(rows: list[int]) -> Tensor:
        logits = compute_logits(model, data, rows)
        return nn.functional.cross_entropy(logits, labels[rows].to(logits.device))

    return loss


def has_bf16(device: str) -> bool:
    """Return whether a device multiplies bf16 matrices.

    A processor without such instructions takes about four times as long for them as for fp32.
    """
    return device != "cpu" or has_bf16_products()


def get_plain_attention(device: str) -> int:
    """Return the number of tokens up to which training does without the fused kernel."""
    if device != "cpu":
        return 0
    return PLAIN_ATTENTION_BF16 if has_bf16(device) else PLAIN_ATTENTION_FP32


def compute_logits(
    model: Classifier,
    data: Tokens,
    rows: Sequence[int],
    bf16: bool = True,
    length: int | None = None,
) -> Tensor:
    """Return float32 [rows, labels] on the model's device.

    They are computed in bf16 where the device has it, unless that is off. The rows are padded to
    the longest of them, or to `length`.
    """
    feeds = make_feeds(model, data, rows, length)
    device = feeds[0].device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16 and has_bf16(device)):
        logits: Tensor = model(*feeds)
    return logits.float()


def make_feeds(
    model: Classifier, data: Tokens, rows: Sequence[int], length: int | None = None
) -> tuple[Tensor, ...]:
    """Return ids, mask and segments on the model's device, each int64 [rows, length]."""
    batch, device = data.batch(rows, length), next(model.parameters()).device
    return tuple(
        torch.from_numpy(values).to(device) for values in (batch.ids, batch.mask, batch.segments)
    )


def compute_accuracy(model: Classifier, data: Tokens, batch: int) -> float:
    """Return the share of the examples that are answered correctly, in evaluation mode."""
    model.eval()
    return data.compute_accuracy(compute_all_logits(model, data, batch))


def compute_all_logits(model: Classifier, data: Tokens, batch: int) -> NDArray[np.float32]:
    """Return float32 [rows, labels] for all rows, computed in batches of similar length."""
    logits = np.empty((len(data), model.spec.labels), np.float32)
    with torch.inference_mode():
        for rows in group_by_length(data, batch):
            logits[rows] = compute_logits(model, data, rows).cpu().numpy()
    return logits


def group_by_length(data: Tokens, batch: int) -> list[list[int]]:
    """Return the numbers of all rows in batches of similar length, which need little padding."""
    order: list[int] = np.argsort(data.lengths, kind="stable").tolist()
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def split_by_tokens(rows: list[int], lengths: NDArray[np.int64], parts: int = 1) -> list[list[int]]:
    """Divide a batch into parts that have at most MOST_TOKENS tokens each, with padding.

    Args:
        rows: the row numbers of the batch.
        lengths: int64 [all rows], number of tokens of each.
        parts: number of parts at least, as far as the batch has as many rows.
    """
    fitting = max(1, MOST_TOKENS // int(lengths[rows].max()))
    parts = max(min(parts, len(rows)), -(-len(rows) // fitting))
    size = -(-len(rows) // parts)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def draw_batches(lengths: Sequence[int], batch: int, shuffler: random.Random) -> list[list[int]]:
    """Return every row once, in batches of rows of similar length, in random order.

    Args:
        lengths: number of tokens of each row.
        batch: number of rows in a batch; the last one may be smaller.
        shuffler: source of the order.
    """
    rows = list(range(len(lengths)))
    shuffler.shuffle(rows)
    batches = []
    size = batch * BATCHES_SORTED_TOGETHER
    for start in range(0, len(rows), size):
        group = sorted(rows[start : start + size], key=lambda row: lengths[row])
        batches += [group[first : first + batch] for first in range(0, len(group), batch)]
    shuffler.shuffle(batches)
    return batches


def _build_optimizer(trained: nn.Module, params: Schedule) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in trained.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in trained.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)


def _schedule(update: int, updates: int, warmup: float) -> float:
    """Return the share of the peak rate: it rises during the warm-up, then falls to 0."""
    rising = max(1, int(updates * warmup))
    if update < rising:
        return (update + 1) / rising
    return max(0.0, (updates - update) / max(1, updates - rising))
