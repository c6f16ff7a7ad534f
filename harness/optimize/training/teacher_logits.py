"""A teacher's logits, kept by input in the cache: each input is computed once for a teacher.

All steps and systems that learn from the same teacher share them. The kernels that multiply
matrices round differently for another shape, most of all in bf16. So the shape of a batch depends
only on the length of its inputs, and the logits of an input not on what else is computed.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.models.classifier import Classifier
from harness.optimize.base import StepContext
from harness.optimize.training import encoders
from harness.optimize.training.tokens import Tokens
from harness.progress import track
from harness.store import shared
from harness.store.cache import cache_dir, create_folder_atomically, digest, hold_lock

LENGTH_STEP = 4
"""Inputs are padded to a multiple of this number of tokens."""

BATCH_TOKENS = 1024
"""Number of tokens of a batch, with padding. A batch that is not full is filled up, so that many
more tokens would cost more in a small training set than they gain in a large one."""

SAVE_SECONDS = 120.0
"""How often the logits are saved: an interrupted build continues from there."""

INPUTS, LOGITS = "inputs.npy", "logits.npy"


def compute_teacher_logits(
    teacher: Classifier, rows: Tokens, teacher_key: str, context: StepContext
) -> Tensor:
    """Return the teacher's logits, float32 [rows, labels]; what the cache holds is not computed.

    Args:
        teacher: the classifier.
        rows: tokenized with the teacher's tokenizer.
        teacher_key: artifact key of the teacher.
        context: has the device, and receives a line of progress.

    Raises:
        HarnessError: the disk is full, or the cache cannot be written.
    """
    name = digest(["logits", teacher_key])
    folder = cache_dir() / "outputs" / name
    inputs = [_digest_input(rows, row) for row in range(len(rows))]
    with hold_lock(name):  # another process may be computing the same inputs
        _fetch_parts(folder)
        known = _load(folder)
        missing = {key: row for row, key in enumerate(inputs) if key not in known}
        if missing:
            context.log(f"computing the teacher's logits of {len(missing)} texts")
            for part in _compute(teacher, rows, list(missing.values()), context):
                computed = {inputs[row]: logits for row, logits in part.items()}
                _save(folder, computed)
                known.update(computed)
    return torch.from_numpy(np.stack([known[key] for key in inputs]))


def _digest_input(rows: Tokens, row: int) -> bytes:
    """Return 16 bytes for the token ids and segments of a row, which truncation changes, too."""
    encoded = rows[row]
    hasher = hashlib.blake2b(np.asarray(encoded.ids, "<i4").tobytes(), digest_size=16)
    hasher.update(int(np.sum(encoded.type_ids)).to_bytes(4, "little"))
    return hasher.digest()


def _compute(
    teacher: Classifier, rows: Tokens, missing: list[int], context: StepContext
) -> Iterator[dict[int, NDArray[np.float32]]]:
    """Yield the logits of some rows by row, float32 [labels] each, until all missing ones are."""
    encoder = teacher.bert.encoder
    teacher.eval().to(context.device).first_only = True
    encoder.always_masked = True  # another kernel is used without a mask
    part: dict[int, NDArray[np.float32]] = {}
    saved = time.monotonic()
    text = f"logits of {len(missing)} texts"
    batches = _draw_batches(rows, missing, teacher.spec.positions)
    for batch, length, size in track(batches, context.log, text):
        filled = batch + batch[:1] * (size - len(batch))
        with torch.inference_mode():
            logits = encoders.compute_logits(teacher, rows, filled, length=length)
        part.update(zip(batch, logits[: len(batch)].cpu().numpy(), strict=True))
        if time.monotonic() - saved > SAVE_SECONDS:
            yield part
            part, saved = {}, time.monotonic()
    if part:
        yield part
    encoder.always_masked = False
    teacher.to("cpu").first_only = False


def _draw_batches(
    rows: Tokens, missing: list[int], longest: int
) -> list[tuple[list[int], int, int]]:
    """Return the rows, the length and the size of each batch; those of one length are one shape."""
    by_length: dict[int, list[int]] = {}
    for row in missing:
        length = -(-int(rows.lengths[row]) // LENGTH_STEP) * LENGTH_STEP
        by_length.setdefault(min(length, longest), []).append(row)
    batches = []
    for length, group in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        batches += [
            (group[start : start + size], length, size) for start in range(0, len(group), size)
        ]
    return batches


def _fetch_parts(folder: Path) -> None:
    """Copy the parts that other machines have computed from the shared store."""
    store = shared.get_shared_store()
    for part in store.list_folders(folder) if store else ():
        if store and not part.is_dir():
            store.fetch(part)


def _load(folder: Path) -> dict[bytes, NDArray[np.float32]]:
    """Return the logits of all parts of the folder by input."""
    known: dict[bytes, NDArray[np.float32]] = {}
    for part in sorted(folder.iterdir()) if folder.is_dir() else ():
        inputs = np.load(part / INPUTS, allow_pickle=False)
        logits = np.load(part / LOGITS, allow_pickle=False)
        known.update(zip((row.tobytes() for row in inputs), logits, strict=True))
    return known


def _save(folder: Path, logits: dict[bytes, NDArray[np.float32]]) -> None:
    """Add a part to the folder: `inputs.npy`, uint8 [inputs, 16], and their `logits.npy`."""
    joined = b"".join(logits)
    part = folder / hashlib.sha256(joined).hexdigest()
    with create_folder_atomically(part) as out:
        np.save(out / INPUTS, np.frombuffer(joined, np.uint8).reshape(len(logits), -1))
        np.save(out / LOGITS, np.stack(list(logits.values())))
    shared.publish_folder(part)
