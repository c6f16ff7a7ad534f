"""Training of the static student; its forward pass in NumPy is in models/static.py."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from harness.errors import BuildError
from harness.models import hashed_features
from harness.models.answers import compute_accuracy
from harness.models.classifier import Classifier
from harness.models.static import StaticModel, StaticSpec, StaticWeights
from harness.optimize.base import StepContext
from harness.optimize.training import losses
from harness.optimize.training.loop import Training, run_epochs
from harness.tasks.task import Candidate, Example

CHUNK = 4096
"""Number of rows that are hashed at once."""

WORD_SCALE = 0.1
"""Initial root mean square of a word's row of the table."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a static student is trained.

    Attributes:
        epochs: passes over the rows.
        batch: rows per update.
        learning_rate: of the table, at the start; it falls to 0. The MLP has a fifth of it.
        dropout: share of a text's features that are left out.
        temperature: softens the distributions of student and teacher.
    """

    epochs: int
    batch: int
    learning_rate: float
    dropout: float
    temperature: float


class HashedRows:
    """The hashed features of many rows, and for pairs the shares of words in common."""

    def __init__(self, rows: Sequence[Candidate], spec: StaticSpec) -> None:
        ids: list[list[np.ndarray]] = [[] for _ in range(spec.sides)]
        counts: list[list[np.ndarray]] = [[] for _ in range(spec.sides)]
        overlaps = []
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            sides = spec.hash_sides(chunk)
            for number, side in enumerate(sides):
                ids[number].append(side.ids.astype(np.int32))
                counts[number].append(side.counts)
            overlaps.append(
                hashed_features.compute_overlaps(*sides)
                if len(sides) == 2
                else np.zeros((len(chunk), 0), np.float32)
            )
        self.ids = [np.concatenate(parts) for parts in ids]  # of each side, all rows in order
        self.ends = [np.cumsum(np.concatenate(parts)) for parts in counts]
        self.overlaps = np.concatenate(overlaps)

    def __len__(self) -> int:
        return len(self.overlaps)

    def batch(
        self, rows: Sequence[int], dropout: float, generator: np.random.Generator
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Return some rows as the student takes them.

        Args:
            rows: numbers of the rows.
            dropout: share of the features to leave out at random.
            generator: source of the dropout.

        Returns:
            For each side the ids, int32 [features], and where each row starts, int64 [rows]; and
            the overlaps, float32 [rows, 0 or 2].
        """
        sides = []
        for ids, ends in zip(self.ids, self.ends, strict=True):
            parts = [ids[ends[row - 1] if row else 0 : ends[row]] for row in rows]
            if dropout:
                parts = [part[generator.random(len(part)) >= dropout] for part in parts]
            offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
            sides.append((torch.from_numpy(np.concatenate(parts)), torch.from_numpy(offsets)))
        return sides, torch.from_numpy(self.overlaps[list(rows)])


class StaticStudent(nn.Module):
    """The student in PyTorch: sums of rows of a table, and an MLP."""

    def __init__(self, spec: StaticSpec, width: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(spec.features.buckets, width, mode="sum", sparse=True)
        nn.init.zeros_(self.table.weight)
        inputs = width if spec.sides == 1 else 4 * width + 2
        self.mlp = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, labels))

    def forward(self, sides: Sequence[tuple[Tensor, Tensor]], overlaps: Tensor) -> Tensor:
        """Return logits [rows, labels] of a batch of `HashedRows`."""
        sums = []
        for ids, offsets in sides:
            counts = torch.diff(offsets, append=torch.tensor([len(ids)])).clamp(min=1)
            sums.append(self.table(ids, offsets) / counts.sqrt()[:, None])
        hidden = sums[0]
        if len(sums) == 2:
            first, second = sums
            difference = (first - second).abs()
            hidden = torch.cat([first, second, difference, first * second, overlaps], 1)
        logits: Tensor = self.mlp(hidden)
        return logits

    def quantize(self) -> StaticWeights:
        """Return the weights as they are served: with the table in int8."""
        layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in self.mlp
            if isinstance(layer, nn.Linear)
        ]
        return StaticWeights.quantize(self.table.weight.detach().numpy(), layers)


def initialize_words(
    model: StaticStudent,
    rows: Sequence[Candidate],
    teacher: Classifier,
    tokenizer: Tokenizer,
    buckets: int,
) -> None:
    """Initialize the row of each word with the teacher's token vectors.

    It becomes the mean of the word's token vectors, projected to the table's width on the principal
    components of all words (at most as many as there are; as in model2vec).

    Args:
        model: the student; changed in place.
        rows: the texts whose words are initialized; the rows of other words stay zero.
        teacher: has the token vectors.
        tokenizer: the teacher's.
        buckets: number of rows of the table.
    """
    words = sorted({word for row in rows for side in row for word in _split_words(side)})
    vectors = teacher.bert.embeddings.word_embeddings.weight.detach().numpy()
    encodings = tokenizer.encode_batch_fast(words, add_special_tokens=False)
    unknown = np.zeros(vectors.shape[1], np.float32)
    means = np.stack(
        [vectors[encoding.ids].mean(0) if encoding.ids else unknown for encoding in encodings]
    )
    means -= means.mean(0)
    _, _, directions = np.linalg.svd(means[:: max(1, len(means) // 20_000)], full_matrices=False)
    width = model.table.weight.shape[1]
    projected = means @ directions[:width].T
    projected *= WORD_SCALE / np.sqrt(np.mean(projected**2))
    features = hashed_features.hash_features(words, buckets, 1, ())
    single = np.flatnonzero(features.counts == 1)  # one word for the hashing, too
    ids = torch.from_numpy(features.ids[features.ends[single] - 1])
    initial = torch.from_numpy(projected[single].astype(np.float32))
    model.table.weight.data[:, : initial.shape[1]].index_add_(0, ids, initial)


def _split_words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def train(
    model: StaticStudent,
    spec: StaticSpec,
    data: HashedRows,
    teacher_logits: Tensor,
    selection: Sequence[Example],
    settings: TrainingSettings,
    context: StepContext,
) -> list[dict[str, float]]:
    """Train in place on the teacher's logits; the weights end as those of the best epoch.

    The best epoch is the one with the highest accuracy on the selection slice as it is served, with
    the table in int8.

    Args:
        model: the student.
        spec: its specification.
        data: the training rows.
        teacher_logits: float32 [rows, labels].
        selection: the selection slice.
        settings: how to train.
        context: seed and log.

    Returns:
        For each epoch `loss` (mean over the rows) and `selection` (accuracy).

    Raises:
        BuildError: the loss is not finite, or the selection slice is empty.
    """
    if not len(selection):
        raise BuildError("the selection slice is empty. Check the task.")
    rates = (settings.learning_rate, settings.learning_rate / 5)
    table_optimizer = torch.optim.SparseAdam([model.table.weight], lr=rates[0])
    mlp_optimizer = torch.optim.AdamW(model.mlp.parameters(), lr=rates[1])
    generator = np.random.default_rng(context.seed)
    updates = settings.epochs * -(-len(data) // settings.batch)
    candidates = [candidate for example in selection for candidate in example.candidates]
    counts = [len(example.candidates) for example in selection]
    labels = [label for example in selection for label in example.candidate_labels]

    def draw_batches() -> list[list[int]]:
        order = generator.permutation(len(data)).tolist()
        return [
            order[start : start + settings.batch] for start in range(0, len(order), settings.batch)
        ]

    def update(rows: list[int], number: int) -> float:
        logits = model(*data.batch(rows, settings.dropout, generator))
        loss = losses.soft_cross_entropy(logits, teacher_logits[rows], settings.temperature)
        for optimizer, rate in zip((table_optimizer, mlp_optimizer), rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * (1 - number / updates)
            optimizer.zero_grad()
        torch.autograd.backward(loss)
        table_optimizer.step()  # type: ignore[no-untyped-call]
        mlp_optimizer.step()
        return loss.item() * len(rows)

    def score() -> float:
        logits = StaticModel(spec, model.quantize()).logits(candidates)
        return compute_accuracy(logits, counts, labels)

    training = Training(
        model, settings.epochs, updates, settings.learning_rate, draw_batches, update, score
    )
    history = run_epochs(training, context.log)
    return [{key: epoch[key] for key in ("loss", "selection")} for epoch in history]
