"""The static student while it learns; its forward pass when served is in engines/static.py."""

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from harness.engines import base
from harness.engines.static import StaticEngine, sides_of
from harness.errors import BuildError
from harness.models import hashed_features
from harness.models.classifier import Classifier
from harness.optimize.base import StepContext, accuracy
from harness.optimize.training import losses
from harness.tasks.task import Candidate, Task

if TYPE_CHECKING:
    from harness.optimize.static import Static

PART = 4096
"""Rows that are hashed at once."""

WORD_SCALE = 0.1
"""Root mean square of a word's row as it begins."""


class Hashed:
    """Features of many rows: of each side the ids of all rows in one array, and where each row's
    end; of pairs also the shares of common words.
    """

    def __init__(self, rows: Sequence[Candidate], about: dict[str, Any]) -> None:
        parts, left = [], iter(rows)
        while part := list(islice(left, PART)):
            sides = sides_of(part, about)
            shares = (
                hashed_features.overlaps(*sides) if len(sides) == 2 else np.zeros((len(part), 0))
            )
            parts.append(([(each.ids.astype(np.int32), each.counts) for each in sides], shares))
        self.overlaps = np.concatenate([shares for _, shares in parts]).astype(np.float32)
        self.ids = [
            np.concatenate([sides[side][0] for sides, _ in parts]) for side in _sides(about)
        ]
        self.ends = [
            np.cumsum(np.concatenate([sides[side][1] for sides, _ in parts]))
            for side in _sides(about)
        ]

    def __len__(self) -> int:
        return len(self.overlaps)

    def batch(
        self, rows: Sequence[int], dropout: float, draw: np.random.Generator
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Of each side ids and offsets, a share of the features left out; and the overlaps."""
        sides = []
        for ids, ends in zip(self.ids, self.ends, strict=True):
            chosen = [ids[ends[row - 1] if row else 0 : ends[row]] for row in rows]
            if dropout:
                chosen = [each[draw.random(len(each)) >= dropout] for each in chosen]
            offsets = np.cumsum([0, *(len(each) for each in chosen[:-1])])
            sides.append((torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(offsets)))
        return sides, torch.from_numpy(self.overlaps[list(rows)])


def _sides(about: dict[str, Any]) -> range:
    return range(about["sides"])


class Bag(nn.Module):
    """Sums of a table's rows, and an MLP over them."""

    def __init__(self, buckets: int, width: int, hidden: int, sides: int, labels: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(buckets, width, mode="sum", sparse=True)
        nn.init.zeros_(self.table.weight)
        wide = width if sides == 1 else 4 * width + 2
        self.mlp = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, labels))

    def forward(self, sides: Sequence[tuple[Tensor, Tensor]], overlaps: Tensor) -> Tensor:
        """Logits [rows, labels]."""
        sums = []
        for ids, offsets in sides:
            counts = torch.diff(offsets, append=torch.tensor([len(ids)])).clamp(min=1)
            sums.append(self.table(ids, offsets) / counts.sqrt()[:, None])
        hidden = sums[0]
        if len(sums) == 2:
            one, other = sums
            hidden = torch.cat([one, other, (one - other).abs(), one * other, overlaps], 1)
        logits: Tensor = self.mlp(hidden)
        return logits


def begin_words(
    model: Bag,
    rows: Sequence[Candidate],
    teacher: Classifier,
    tokenizer: Tokenizer,
    buckets: int,
) -> None:
    """Let the row of each word be the mean of the teacher's vectors of its tokens, projected to the
    table's width on their principal components (at most as many as they have).
    """
    words = sorted({word for row in rows for side in row for word in _words(side)})
    vectors = teacher.bert.embeddings.word_embeddings.weight.detach().numpy()
    means = np.stack(
        [
            vectors[each.ids].mean(0) if each.ids else np.zeros(vectors.shape[1], np.float32)
            for each in tokenizer.encode_batch_fast(words, add_special_tokens=False)
        ]
    )
    means -= means.mean(0)
    _, _, directions = np.linalg.svd(means[:: max(1, len(means) // 20_000)], full_matrices=False)
    width = model.table.weight.shape[1]
    projected = means @ directions[:width].T
    projected *= WORD_SCALE / np.sqrt(np.mean(projected**2))
    found = hashed_features.features(words, buckets, 1, ())
    single = np.flatnonzero(found.counts == 1)  # words as the features know them
    ids = torch.from_numpy(found.ids[found.ends[single] - 1])
    begun = torch.from_numpy(projected[single].astype(np.float32))
    model.table.weight.data[:, : begun.shape[1]].index_add_(0, ids, begun)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def train(
    model: Bag,
    data: Hashed,
    answers: Tensor,
    task: Task,
    about: dict[str, Any],
    params: "Static",
    context: StepContext,
) -> list[dict[str, float]]:
    """Train in place on the teacher's logits, [rows, labels]; the weights end as those of the epoch
    with the best selection accuracy, as it is served: with the table in int8.

    Returns: per epoch mean loss and selection accuracy. Raises: BuildError if the loss is not
    finite, or there is no selection slice.
    """
    examples = task.examples("selection")
    if not len(examples):
        raise BuildError("the selection slice is empty. Check the task.")
    tables = torch.optim.SparseAdam([model.table.weight], lr=params.learning_rate)
    others = torch.optim.AdamW(model.mlp.parameters(), lr=params.learning_rate / 5)
    draw = np.random.default_rng(context.seed)
    updates, done = params.epochs * -(-len(data) // params.batch), 0
    history: list[dict[str, float]] = []
    best: tuple[float, dict[str, Tensor]] = (-1.0, {})
    for epoch in range(1, params.epochs + 1):
        order, total = draw.permutation(len(data)), 0.0
        for start in range(0, len(order), params.batch):
            rows = order[start : start + params.batch]
            found = model(*data.batch(rows.tolist(), params.dropout, draw))
            loss = losses.soft_cross_entropy(found, answers[rows], params.temperature)
            for each, rate in ((tables, params.learning_rate), (others, params.learning_rate / 5)):
                each.param_groups[0]["lr"] = rate * (1 - done / updates)
                each.zero_grad()
            torch.autograd.backward(loss)
            tables.step()  # type: ignore[no-untyped-call]
            others.step()
            total, done = total + loss.item() * len(rows), done + 1
        if not np.isfinite(total):
            raise BuildError(f"the loss is not finite in epoch {epoch}. Lower learning_rate.")
        score = selection_accuracy(model, about, examples, context.out)
        history.append({"loss": total / len(data), "selection": score})
        context.log(
            f"epoch {epoch}/{params.epochs}: loss {total / len(data):.3f}, selection {score:.4f}"
        )
        if score > best[0]:
            best = score, {name: each.clone() for name, each in model.state_dict().items()}
    model.load_state_dict(best[1])
    return history


def selection_accuracy(
    model: Bag, about: dict[str, Any], examples: Sequence[Any], out: Path
) -> float:
    """Share of the selection slice that is answered right, by the engine that will serve it."""
    save(model, about, out)
    served = StaticEngine(base.EngineConfig(out, {}, base.ServeConfig("static"), 1))
    return accuracy(served.scores([each.candidates for each in examples]), examples)


def save(model: Bag, about: dict[str, Any], out: Path) -> None:
    """Write `static.json` and `weights.npz`: `table` int8 [buckets, width], `scale` float32
    [width], `weight0` [in, out], `bias0`, `weight1`, `bias1`.
    """
    table: NDArray[np.float32] = model.table.weight.detach().numpy()
    scale = np.maximum(np.abs(table).max(0), 1e-8) / 127
    layers: dict[str, Any] = {}
    for number, layer in enumerate(each for each in model.mlp if isinstance(each, nn.Linear)):
        layers[f"weight{number}"] = layer.weight.detach().numpy().T
        layers[f"bias{number}"] = layer.bias.detach().numpy()
    (out / "static.json").write_text(json.dumps(about))
    np.savez(
        out / "weights.npz",
        table=np.round(table / scale).astype(np.int8),
        scale=scale.astype(np.float32),
        **layers,
    )
