import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.models import classifier, tokenization
from harness.models.classifier import Classifier, EncoderSpec
from harness.optimize import distill, exits, static
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.distill import Distill
from harness.optimize.exits import Exits
from harness.optimize.training import encoders, teacher_logits, tokens
from harness.optimize.training.tokens import Tokens
from harness.store.inventory import list_items, remove_item
from tests.support.words import QUICK, STATIC, TASK, TEXTS, run_step
from tests.support.workers import ENOUGH

SINGLES = [(text,) for text in TEXTS]
PAIRS = [(text, TEXTS[0]) for text in TEXTS]

Compute = Callable[..., torch.Tensor]


@pytest.fixture
def teacher(finetuned: Artifact, cache: Path) -> Classifier:
    return classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs are computed, call by call."""
    counts: list[int] = []
    compute = teacher_logits._compute

    def count(teacher: Classifier, rows: Tokens, missing: list[int], context: StepContext):
        counts.append(len(missing))
        return compute(teacher, rows, missing, context)

    monkeypatch.setattr(teacher_logits, "_compute", count)
    return counts


@pytest.fixture
def compute(teacher: Classifier, finetuned: Artifact, tmp_path: Path) -> Compute:
    def compute(
        texts: Sequence[Sequence[str]], length: int = 64, key: str = "teacher"
    ) -> torch.Tensor:
        rows = tokenize(finetuned, texts, length)
        return teacher_logits.compute_teacher_logits(
            teacher, rows, key, StepContext(tmp_path, 0, 1)
        )

    return compute


def tokenize(teacher: Artifact, texts: Sequence[Sequence[str]], length: int = 64) -> Tokens:
    tokenizer = tokenization.load_tokenizer(teacher.folder / "tokenizer.json", length)
    return tokens.tokenize(tokenizer, lambda: [(tuple(text), -1, 1) for text in texts])


def test_logits_are_those_of_single_inputs_in_fp32_up_to_rounding(
    teacher: Classifier, finetuned: Artifact, compute: Compute
) -> None:
    texts = [*SINGLES, *PAIRS]
    rows = tokenize(finetuned, texts)
    with torch.inference_mode():
        expected = torch.cat(
            [encoders.compute_logits(teacher, rows, [row], bf16=False) for row in range(len(rows))]
        )
    logits = compute(texts)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=0.05)
    assert expected.std() > 0.3  # far more than the tolerance


def test_each_input_is_computed_once(compute: Compute, computed: list[int]) -> None:
    first = compute([*SINGLES, *SINGLES[:3]])
    again = compute([*PAIRS[:2], *SINGLES[2:]])
    assert computed == [len(SINGLES), 2]
    assert torch.equal(first[: len(SINGLES)][2:], again[2:])
    assert torch.equal(first[len(SINGLES) :], first[:3])


def test_interrupted_computation_continues(
    compute: Compute, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_logits, "SAVE_SECONDS", 0.0)
    whole = compute([*SINGLES, *PAIRS], key="whole")
    calls = []
    compute_logits = encoders.compute_logits

    def interrupt(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(len(set(args[2])))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return compute_logits(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoders, "compute_logits", interrupt)
        compute([*SINGLES, *PAIRS])
    again = compute([*SINGLES, *PAIRS])
    texts = len(SINGLES) + len(PAIRS)
    assert computed == [texts, texts, texts - sum(calls[:3])]
    assert torch.equal(again, whole)


def test_logits_do_not_depend_on_what_else_is_computed(compute: Compute) -> None:
    examples = [example.candidates[0] for example in TASK.examples("train")]
    texts = [*dict.fromkeys(examples), *SINGLES, *PAIRS]
    together = compute(texts, key="together")
    for part in (texts[::-1], texts[::3], texts[5:9], texts):  # the last finds all of it
        parts = compute(part, key="in parts")
        assert torch.equal(parts, together[[texts.index(text) for text in part]])


def test_other_teachers_segments_and_lengths_are_apart(
    compute: Compute, computed: list[int]
) -> None:
    compute([("good bad", "film"), TEXTS[:1]])
    compute([("good", "bad film"), TEXTS[:1]])  # with another side of the same words
    compute([TEXTS[:1], ("bad",)], length=8)  # TEXTS[0] is longer, the other is new
    compute([TEXTS[:1]], key="another teacher")
    assert computed == [2, 1, 2, 1]


def test_steps_share_them(
    finetuned: Artifact, tmp_path: Path, computed: list[int], cache: Path
) -> None:
    inputs = Inputs(finetuned, teacher=finetuned)

    def run(step, params) -> int:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        before = sum(computed)
        run_step(out, step, inputs, params)
        return sum(computed) - before

    originals = {example.candidates[0] for example in TASK.examples("train")}
    assert run(distill, Distill(**QUICK, layers=1)) == len(originals)  # type: ignore[arg-type]
    assert run(distill, Distill(**QUICK, layers=1, augment=1)) > 0  # type: ignore[arg-type]
    assert run(distill, Distill(**QUICK, student="", layers=(0,), augment=1)) == 0  # type: ignore[arg-type]
    assert run(static, STATIC) == 0
    assert run(exits, Exits(**QUICK, after=(0,), augment=1)) == 0  # type: ignore[arg-type]
    (item,) = list_items(["outputs"])
    assert remove_item(item)
    assert run(static, STATIC) > len(originals)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np
from harness.models import classifier, tokenization
from harness.optimize.base import Artifact, StepContext
from harness.optimize.training import teacher_logits, tokens

folder, number, kill = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "kill"
teacher = Artifact.read(folder)
model = classifier.load(folder, classifier.EncoderSpec.from_dict(teacher.metadata.model))
tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 64)
texts = [("good " * repeats,) for repeats in range(1, number + 1)]
rows = tokens.tokenize(tokenizer, lambda: [(text, -1, 1) for text in texts])
if kill:
    save = np.save
    def save_and_die(path, values):
        save(path, values[:1])
        os.kill(os.getpid(), signal.SIGKILL)
    np.save = save_and_die
context = StepContext(Path(), 0, 1, lambda line: print(line, flush=True))
logits = teacher_logits.compute_teacher_logits(model, rows, "teacher", context)
assert logits.isfinite().all()
"""
"""Computes the logits of a number of texts, and if told so, is killed while it writes them."""


def start(teacher: Artifact, texts: int, kill: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(teacher.folder), str(texts), kill]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    with process:
        lines = process.communicate(timeout=ENOUGH)[0].splitlines()
    return process.returncode, lines


def test_killed_process_leaves_nothing_that_is_read(
    finetuned: Artifact, teacher: Classifier, cache: Path
) -> None:
    assert finish(start(finetuned, 5, "kill"))[0] == -signal.SIGKILL
    assert not (cache / "outputs").exists() or not list((cache / "outputs").glob("*/*"))
    assert finish(start(finetuned, 5))[0] == 0
    parts = list((cache / "outputs").glob("*/*"))
    assert [len(np.load(part / teacher_logits.LOGITS)) for part in parts] == [5]
    assert not list((cache / "tmp").iterdir())  # what the killed one left is gone


def test_processes_at_once_compute_each_input_once(
    finetuned: Artifact, teacher: Classifier
) -> None:
    processes = [start(finetuned, texts) for texts in (20, 30)]
    results = [finish(process) for process in processes]
    assert [status for status, _ in results] == [0, 0]
    words = [line.split() for _, lines in results for line in lines if "computing" in line]
    assert sum(int(line[-2]) for line in words) == 30
