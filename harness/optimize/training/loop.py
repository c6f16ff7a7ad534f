"""The training loop: AdamW with a linear schedule, bf16 autocast, batches of similar length.

On CPU the loop is fast for four reasons: bf16 matrix products; no attention dropout, so that the
fused attention kernel is used; batches of similar length, so that little is padded; and an
allocator that keeps its memory (build.py starts the process with `MALLOC_TUNABLES`). Dropout
elsewhere stays as the encoder has it.
"""

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from harness.errors import BuildError
from harness.models import classifier, tokenization
from harness.models.classifier import Classifier
from harness.optimize.base import Artifact, StepContext
from harness.optimize.training import checkpoint, tokens
from harness.optimize.training.schedule import Schedule
from harness.optimize.training.tokens import Tokens
from harness.tasks.task import Example, Task

SORTED_TOGETHER = 50
"""Batches whose examples are sorted by length together, after shuffling."""

CHECKPOINT_SECONDS = 60.0

LEAST_UPDATES = 200
"""Fewest updates of a training: a data set of some hundred examples needs more than three epochs
(Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning)."""

Loss = Callable[[list[int]], Tensor]
"""The mean loss of these rows, as a scalar."""


def opened(artifact: Artifact, task: Task, max_length: int = 0) -> tuple[Classifier, Tokenizer]:
    """An artifact's model and tokenizer. Raises: BuildError if the weights cannot be used."""
    model = classifier.load(artifact.folder, classifier.EncoderShape.read(artifact.about["model"]))
    length = min(max_length or task.max_length, model.shape.positions)
    return model, tokenization.load_tokenizer(artifact.folder / "tokenizer.json", length)


def written(model: Classifier, tokenizer: Tokenizer, out: Path) -> dict[str, object]:
    """Write weights and tokenizer. Returns: what `artifact.json` shall say of them."""
    classifier.save(model, out)
    tokenization.save_tokenizer(tokenizer, out / "tokenizer.json")
    return {"format": "safetensors", "model": classifier.describe(model)}


def prepare(seed: int, threads: int) -> None:
    """Fix threads and seeds."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def tokenized(tokenizer: Tokenizer, examples: Sequence[Example]) -> Tokens:
    """Encode examples; a choice among candidates becomes one row a candidate (label 1 for the right
    ones).
    """
    return tokens.tokenized(tokenizer, lambda: tokens.of_examples(examples))


def train(
    model: Classifier,
    lengths: NDArray[np.int64],
    loss: Loss,
    selection: Tokens,
    params: Schedule,
    context: StepContext,
    helpers: Sequence[nn.Module] = (),
    judged: Callable[[], float] | None = None,
) -> list[dict[str, float]]:
    """Train in place; the weights end as those of the epoch with the best selection score (the
    first of equals). Goes on from the checkpoint of `context` where there is one.

    lengths: tokens of each row of the text; loss: of some of these rows. A small text is gone
    through more often than `params.epochs`, until there are LEAST_UPDATES.
    helpers: modules that are trained too and thrown away. judged: the selection score, where it is
    not that of the model's answers.

    Returns: per epoch: mean training loss, selection accuracy, seconds, examples per second.
    Raises: BuildError if there is nothing to train or select on, or the loss is not finite.
    """
    if not len(lengths) or not len(selection):
        raise BuildError("the training split or the selection slice is empty. Check the task.")
    trained = nn.ModuleList([model, *helpers])
    optimizer = _optimizer(trained, params)
    each = -(-len(lengths) // params.batch)
    epochs = max(params.epochs, -(-LEAST_UPDATES // each))
    updates = epochs * each
    shuffler, at = random.Random(context.seed), checkpoint.Position()
    best = copy.deepcopy(model.state_dict())
    if context.kept and (found := checkpoint.restore(context.kept, trained, optimizer)):
        at, best = found
        context.log(f"goes on in epoch {at.epoch}/{epochs}, update {at.update}/{updates}")
    for epoch in range(1, epochs + 1):
        # an epoch's order depends on the orders before it, so those are drawn again after a restart
        batches = list(batches_of_similar_length(lengths.tolist(), params.batch, shuffler))
        if epoch < at.epoch:
            continue
        model.train()
        started = told = kept = time.perf_counter()
        begun = at.update
        for rows in batches[at.batch :]:
            rate = params.learning_rate * _rate(at.update, updates, params.warmup)
            at.losses += _update(trained, optimizer, loss, rows, params, rate)
            at.seen, at.batch, at.update = at.seen + len(rows), at.batch + 1, at.update + 1
            if not np.isfinite(at.losses):
                raise BuildError(
                    f"the loss is not finite in epoch {epoch}. Lower learning_rate (it is "
                    f"{params.learning_rate})."
                )
            now = time.perf_counter()
            if now - told > 5:
                told = now
                left = (now - started) / (at.update - begun) * (updates - at.update) / 60
                context.log(
                    f"epoch {epoch}/{epochs}, loss {at.losses / at.seen:.3f}, "
                    f"{at.update / updates:.0%}, about {left:.0f} min left"
                )
            if context.kept and now - kept > CHECKPOINT_SECONDS:
                at.seconds, started, begun, kept = at.seconds + now - started, now, at.update, now
                checkpoint.save(context.kept, at, trained, optimizer, best)
        score = judged() if judged else selection_accuracy(model, selection, params.batch)
        seconds = at.seconds + time.perf_counter() - started
        at.history.append(
            {
                "loss": at.losses / at.seen,
                "selection": score,
                "seconds": seconds,
                "examples_per_second": at.seen / seconds,
            }
        )
        context.log(
            f"epoch {epoch}/{epochs}: loss {at.losses / at.seen:.3f}, selection "
            f"{score:.4f}, {seconds:.0f} s"
        )
        if score > at.best_score:
            best, at.best_score = copy.deepcopy(model.state_dict()), score
        at.epoch, at.batch, at.losses, at.seen, at.seconds = epoch + 1, 0, 0.0, 0, 0.0
        if context.kept:
            checkpoint.save(context.kept, at, trained, optimizer, best)
    model.load_state_dict(best)
    model.eval()
    return at.history


def _update(
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    rows: list[int],
    params: Schedule,
    rate: float,
) -> float:
    """One update at this learning rate. Returns: the sum of the rows' losses."""
    total, size = 0.0, -(-len(rows) // params.accumulate)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        mean = loss(part)
        torch.autograd.backward(mean * (len(part) / len(rows)))
        total += mean.item() * len(part)
    nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return total


def cross_entropy(model: Classifier, rows: Tokens) -> Loss:
    """The loss against the labels."""
    labels = torch.from_numpy(rows.labels)

    def loss(asked: list[int]) -> Tensor:
        return nn.functional.cross_entropy(logits(model, rows, asked), labels[asked])

    return loss


def logits(model: Classifier, data: Tokens, rows: Sequence[int], half: bool = True) -> Tensor:
    """float32 [rows, labels], computed in bf16 unless `half` is off."""
    batch = data.batch(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out: Tensor = model(
            torch.from_numpy(batch.ids),
            torch.from_numpy(batch.mask),
            torch.from_numpy(batch.segments),
        )
    return out.float()


def selection_accuracy(model: Classifier, data: Tokens, batch: int) -> float:
    """Share of the examples answered right."""
    model.eval()
    return data.right(all_logits(model, data, batch))


def all_logits(model: Classifier, data: Tokens, batch: int) -> NDArray[np.float32]:
    """float32 [rows, labels], computed in batches of similar length."""
    order = np.argsort(data.lengths, kind="stable").tolist()
    found = np.empty((len(order), model.shape.labels), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            found[rows] = logits(model, data, rows).numpy()
    return found


def batches_of_similar_length(
    lengths: Sequence[int], batch: int, shuffler: random.Random
) -> Iterator[list[int]]:
    """Every row once, in batches whose rows have about the same length, in random order."""
    rows = list(range(len(lengths)))
    shuffler.shuffle(rows)
    batches = []
    for start in range(0, len(rows), batch * SORTED_TOGETHER):
        together = sorted(
            rows[start : start + batch * SORTED_TOGETHER], key=lambda row: lengths[row]
        )
        batches += [together[at : at + batch] for at in range(0, len(together), batch)]
    shuffler.shuffle(batches)
    yield from batches


def _optimizer(trained: nn.Module, params: Schedule) -> torch.optim.Optimizer:
    matrices = [each for each in trained.parameters() if each.ndim > 1]
    vectors = [each for each in trained.parameters() if each.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)


def _rate(update: int, updates: int, warmup: float) -> float:
    """Share of the peak rate: it rises over the warm-up, then falls to 0."""
    rising = max(1, int(updates * warmup))
    if update < rising:
        return (update + 1) / rising
    return max(0.0, (updates - update) / max(1, updates - rising))
