"""The training loop: AdamW with a linear schedule, bf16 autocast, batches of similar length.

On CPU the loop is fast for four reasons: bf16 matrix products; no attention dropout, so that the
fused attention kernel is used; batches of similar length, so that little is padded; and an
allocator that keeps its memory (build.py starts the process with `MALLOC_TUNABLES`). Dropout
elsewhere stays as the encoder has it.
"""

import copy
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from harness import text
from harness.errors import BuildError
from harness.models import Classifier
from harness.optimize.step import Context
from harness.tasks.task import Example

SORTED_TOGETHER = 50
"""Batches whose examples are sorted by length together, after shuffling."""


class Schedule(Protocol):
    """The parameters that the loop needs; each training step's dataclass has them."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


@dataclass(frozen=True)
class Tokenized:
    """Encoded candidates, one to a row, with their labels."""

    encodings: list[Encoding]
    labels: list[int]


@dataclass(frozen=True)
class Data:
    """What to train on, and what to select the best epoch on."""

    train: Tokenized
    selection: Tokenized


def prepare(seed: int, threads: int) -> None:
    """Fix threads and seeds."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def tokenized(tokenizer: Tokenizer, examples: Sequence[Example]) -> Tokenized:
    """Encode examples; a choice among candidates becomes one row a candidate (label 1 for the right
    one).
    """
    rows: list[Sequence[str]] = []
    labels: list[int] = []
    for example in examples:
        rows.extend(example.candidates)
        if len(example.candidates) == 1:
            labels.append(example.label)
        else:
            labels.extend(int(index == example.label) for index in range(len(example.candidates)))
    return Tokenized(text.tokenize(tokenizer, rows), labels)


def train(
    model: Classifier, data: Data, params: Schedule, context: Context
) -> list[dict[str, float]]:
    """Train in place; the weights end as those of the epoch with the best selection score (the
    first of equals).

    Returns: per epoch: mean training loss, selection accuracy, seconds, examples per second.
    Raises: BuildError if the loss is not finite.
    """
    optimizer = _optimizer(model, params)
    updates = params.epochs * -(-len(data.train.labels) // params.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda update: _rate(update, updates, params.warmup)
    )
    shuffler, begun = random.Random(context.seed), time.perf_counter()
    best, best_score, history = copy.deepcopy(model.state_dict()), -1.0, []
    for epoch in range(1, params.epochs + 1):
        started, losses, seen, told = time.perf_counter(), 0.0, 0, time.perf_counter()
        model.train()
        for rows in batches_of_similar_length(
            [len(e.ids) for e in data.train.encodings], params.batch, shuffler
        ):
            loss = functional.cross_entropy(
                logits(model, data.train, rows),
                torch.tensor([data.train.labels[row] for row in rows]),
            )
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses, seen = losses + loss.item() * len(rows), seen + len(rows)
            if not np.isfinite(losses):
                raise BuildError(
                    f"the loss is not finite in epoch {epoch}. Lower learning_rate (it is "
                    f"{params.learning_rate})."
                )
            if time.perf_counter() - told > 5:
                told = time.perf_counter()
                share = (epoch - 1 + seen / len(data.train.labels)) / params.epochs
                left = (told - begun) * (1 / share - 1) / 60
                context.say(
                    f"epoch {epoch}/{params.epochs}, loss {losses / seen:.3f}, {share:.0%}, about "
                    f"{left:.0f} min left"
                )
        score = selection_accuracy(model, data.selection, params.batch)
        seconds = time.perf_counter() - started
        history.append(
            {
                "loss": losses / seen,
                "selection": score,
                "seconds": seconds,
                "examples_per_second": seen / seconds,
            }
        )
        context.say(
            f"epoch {epoch}/{params.epochs}: loss {losses / seen:.3f}, selection {score:.4f}, "
            f"{seconds:.0f} s"
        )
        if score > best_score:
            best, best_score = copy.deepcopy(model.state_dict()), score
    model.load_state_dict(best)
    model.eval()
    return history


def logits(model: Classifier, data: Tokenized, rows: Sequence[int], half: bool = True) -> Tensor:
    """float32 [rows, labels], computed in bf16 unless `half` is off."""
    batch = text.pad([data.encodings[row] for row in rows])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out: Tensor = model(
            torch.from_numpy(batch.ids),
            torch.from_numpy(batch.mask),
            torch.from_numpy(batch.segments),
        )
    return out.float()


def selection_accuracy(model: Classifier, data: Tokenized, batch: int) -> float:
    """Share of rows answered right."""
    model.eval()
    order = sorted(range(len(data.labels)), key=lambda row: len(data.encodings[row].ids))
    right = 0
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            answers = logits(model, data, rows).argmax(1).tolist()
            right += sum(
                answer == data.labels[row] for answer, row in zip(answers, rows, strict=True)
            )
    return right / len(order)


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


def _optimizer(model: Classifier, params: Schedule) -> torch.optim.Optimizer:
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)


def _rate(update: int, updates: int, warmup: float) -> float:
    rising = max(1, int(updates * warmup))
    return (
        (update + 1) / rising
        if update < rising
        else max(0.0, (updates - update) / max(1, updates - rising))
    )
