"""The epoch loop that all trainings share: updates, selection of the best epoch, checkpoints."""

import copy
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from harness.errors import BuildError
from harness.optimize.training.checkpoint import Checkpoint, Progress
from harness.progress import Log, ProgressLine

LOG_SECONDS = 5.0
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Training:
    """What the loop trains, and how.

    Attributes:
        model: ends with the weights of the best epoch.
        epochs: number of epochs.
        updates: number of updates of all epochs together.
        learning_rate: the peak, for the error message.
        draw_batches: returns the row numbers of each batch of the next epoch. It is called once per
            epoch and in order, also for the epochs before a checkpoint, because a random order
            depends on the draws before it.
        update: trains on a batch; from its row numbers and the number of updates so far to the sum
            of the rows' losses.
        score: returns the selection score.
        divergence: returns the divergence from the teacher on the selection slice. The best epoch
            is the first with the lowest divergence; without a teacher, that with the highest score.
    """

    model: nn.Module
    epochs: int
    updates: int
    learning_rate: float
    draw_batches: Callable[[], list[list[int]]]
    update: Callable[[list[int], int], float]
    score: Callable[[], float]
    divergence: Callable[[], float] | None = None


def fix_seed_and_threads(seed: int, threads: int) -> None:
    """Seed Python, NumPy and PyTorch, and set PyTorch's number of threads."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def run_epochs(
    training: Training, log: Log, checkpoint: Checkpoint | None = None
) -> list[dict[str, float]]:
    """Train in place, resuming from the checkpoint if there is one.

    Args:
        training: what to train.
        log: receives lines of progress.
        checkpoint: is written once a minute and after every epoch.

    Returns:
        For each epoch `loss` (mean over the rows), `selection` (score), `divergence` (of a student,
        in nats), `seconds` and `examples_per_second`.

    Raises:
        BuildError: the loss is not finite.
    """
    model, epochs, updates = training.model, training.epochs, training.updates
    progress, best = Progress(), copy.deepcopy(model.state_dict())
    if checkpoint and (restored := checkpoint.restore()):
        progress, best = restored
        log(f"resuming in epoch {progress.epoch}/{epochs}, update {progress.update}/{updates}")
    for epoch in range(1, epochs + 1):
        batches = training.draw_batches()
        if epoch < progress.epoch:
            continue
        model.train()
        started = logged = saved = time.perf_counter()
        first_update = progress.update
        for rows in batches[progress.batch :]:
            progress.losses += training.update(rows, progress.update)
            progress.seen += len(rows)
            progress.batch += 1
            progress.update += 1
            if not np.isfinite(progress.losses):
                raise BuildError(
                    f"the loss is not finite in epoch {epoch}. Lower learning_rate (it is "
                    f"{training.learning_rate})."
                )
            now = time.perf_counter()
            if now - logged > LOG_SECONDS:
                logged = now
                per_update = (now - started) / (progress.update - first_update)
                text = f"epoch {epoch}/{epochs}, loss {progress.losses / progress.seen:.3f}"
                seconds_left = per_update * (updates - progress.update)
                log(ProgressLine(text, progress.update / updates, seconds_left))
            if checkpoint and now - saved > CHECKPOINT_SECONDS:
                progress.seconds += now - started
                started = saved = now
                first_update = progress.update
                checkpoint.save(progress, best)
        scores, rank = _score_epoch(training)
        progress.seconds += time.perf_counter() - started
        _finish_epoch(progress, scores)
        latest = progress.history[-1]
        texts = [f"{name} {value:.4f}" for name, value in scores.items()]
        log(
            f"epoch {epoch}/{epochs}: loss {latest['loss']:.3f}, {', '.join(texts)}, "
            f"{latest['seconds']:.0f} s"
        )
        if rank > progress.best_rank:
            progress.best_rank, best = rank, copy.deepcopy(model.state_dict())
        if checkpoint:
            checkpoint.save(progress, best)
    model.load_state_dict(best)
    return progress.history


def _score_epoch(training: Training) -> tuple[dict[str, float], float]:
    """Return the figures of an epoch on the selection slice, and its rank, higher for better."""
    scores = {"selection": training.score()}
    if training.divergence is None:
        return scores, scores["selection"]
    scores["divergence"] = training.divergence()
    return scores, -scores["divergence"]


def _finish_epoch(progress: Progress, scores: dict[str, float]) -> None:
    """Add the epoch to the history, and start the next."""
    progress.history.append(
        {
            "loss": progress.losses / progress.seen,
            **scores,
            "seconds": progress.seconds,
            "examples_per_second": progress.seen / progress.seconds,
        }
    )
    progress.epoch += 1
    progress.batch, progress.losses, progress.seen, progress.seconds = 0, 0.0, 0, 0.0
