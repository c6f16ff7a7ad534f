import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from harness import models, text
from harness.errors import BuildError, ManifestError
from harness.manifest import read_system
from harness.models import Classifier, Shape
from harness.optimize import distill, losses, training, vocabulary
from harness.optimize.distill import Distill
from harness.optimize.step import Artifact, Context, Inputs
from harness.optimize.vocabulary import Vocabulary
from harness.pretrained import Encoder
from harness.tasks.task import Transfer
from tests.test_optimize import NEGATIVE, POSITIVE, TASK, keep, scores, share_right
from tests.test_optimize import finetuned as finetuned

QUICK = {"epochs": 2, "batch": 16, "learning_rate": 1e-3, "transfer": False}


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    """Teachers' answers are kept in the store."""


def distilled(teacher: Artifact, out: Path, seed: int = 0, **params: object) -> Artifact:
    inputs = Inputs(teacher, teacher=teacher)
    chosen = Distill(**{**QUICK, **params})  # type: ignore[arg-type]
    return keep(out, distill.run(inputs, TASK, chosen, Context(out, seed, 1)))


def test_soft_cross_entropy_equals_a_calculation_by_hand() -> None:
    student, teacher = (
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[2.0, 0.0], [0.0, 4.0]]),
    )
    # T = 2; first row: teacher (e/(e+1), 1/(e+1)); student (sqrt e/(sqrt e+1), ...)
    e, root = math.e, math.exp(0.5)
    first = -(e / (e + 1) * math.log(root / (root + 1)) + 1 / (e + 1) * math.log(1 / (root + 1)))
    second = math.log(2)  # a student that is undecided, whatever the teacher says
    expected = 4 * (first + second) / 2
    assert losses.soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(expected)


def test_hidden_mse_equals_a_calculation_by_hand_and_leaves_padding_aside() -> None:
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [3.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert losses.hidden_mse(student, teacher, mask).item() == pytest.approx((4 + 1 + 4) / 6)


def test_relation_equals_a_calculation_by_hand() -> None:
    """One head, two tokens of one column: products 1, 2 / 2, 4 against 0, 0 / 0, 0."""
    teacher, student = torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 1)
    mask = torch.ones(1, 2, dtype=torch.bool)

    def apart(a: float, b: float) -> float:
        p = math.exp(a) / (math.exp(a) + math.exp(b))
        return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))

    expected = (apart(1, 2) + apart(2, 4)) / 2
    found = losses.relation([student], [teacher], mask, heads=1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert losses.relation([teacher], [teacher], mask, heads=1).item() == pytest.approx(0, abs=1e-6)


def test_relation_does_not_see_padding() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 3, 4), torch.randn(1, 3, 8)
    short = losses.relation([student], [teacher], torch.ones(1, 3, dtype=torch.bool), heads=2)
    longer = [
        torch.cat([each, torch.randn(1, 2, each.shape[-1])], 1) for each in (student, teacher)
    ]
    mask = torch.tensor([[True, True, True, False, False]])
    found = losses.relation([longer[0]], [longer[1]], mask, heads=2)
    assert found.item() == pytest.approx(short.item(), rel=1e-5)


def test_layers_spread_evenly_up_to_the_last() -> None:
    assert distill.spread(3, 6) == (1, 3, 5)
    assert distill.spread(2, 12) == (5, 11)
    assert distill.spread(6, 6) == (0, 1, 2, 3, 4, 5)


def test_student_begins_as_the_chosen_layers(finetuned: Artifact) -> None:
    teacher = models.load(finetuned.folder, Shape.read(finetuned.about["model"]))
    student = distill.keep_layers(teacher, [1])
    assert student.shape.layers == 1
    kept = "bert.encoder.layer.0.output.dense.weight"
    given = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(student.state_dict()[kept], teacher.state_dict()[given])
    with pytest.raises(BuildError, match=r"choose from 0\.\.1"):
        distill.keep_layers(teacher, [2])


def test_student_of_all_layers_answers_as_the_teacher(finetuned: Artifact) -> None:
    teacher = models.load(finetuned.folder, Shape.read(finetuned.about["model"]))
    student = distill.keep_layers(teacher, [0, 1]).eval()
    ids = torch.tensor([[2, 7, 9, 3]])
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert torch.equal(student(*given), teacher(*given))


def test_first_only_gives_the_same_logits_and_gradients(finetuned: Artifact) -> None:
    model = models.load(finetuned.folder, Shape.read(finetuned.about["model"]))
    ids = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    given = (ids, (ids > 0).long(), torch.zeros_like(ids))
    found = []
    for first_only in (False, True):
        model.first_only = first_only
        model.zero_grad()
        logits = model(*given)
        functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        gradients = [each.grad.clone() for each in model.parameters() if each.grad is not None]
        found.append((logits.detach(), gradients))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"layers": (1,)},
        {"layers": 1, "hard": 0.5},
        {"layers": 1, "hidden": 1.0, "embedding": 1.0, "attention": 1.0},
        {"layers": 1, "augment": 1, "activation": "relu"},
    ],
    ids=["logits", "hard", "inside", "augment"],
)
def test_student_learns_what_the_teacher_knows(
    finetuned: Artifact, tmp_path: Path, params: dict[str, object]
) -> None:
    student = distilled(finetuned, tmp_path, **params)
    assert share_right(scores(student)) > 0.9
    assert student.about["model"]["layers"] == 1
    assert student.about["model"]["activation"] == params.get("activation", "gelu")


def test_hidden_states_come_nearer_to_the_teachers(finetuned: Artifact, tmp_path: Path) -> None:
    def apart(folder: str, weight: float) -> float:
        out = tmp_path / folder
        out.mkdir()
        student = distilled(finetuned, out, layers=1, hidden=weight, embedding=weight)
        pair = [
            models.load(each.folder, Shape.read(each.about["model"]))
            for each in (student, finetuned)
        ]
        ids = torch.tensor([[2, 7, 9, 3]])
        taps = []
        for model in pair:
            with losses.tapped(model) as seen:
                model(ids, torch.ones_like(ids), torch.zeros_like(ids))
            taps.append(seen)
        return functional.mse_loss(taps[0].hidden[0], taps[1].hidden[1]).item()

    assert apart("with", 10.0) < 0.7 * apart("without", 0.0)


def test_teacher_of_another_width_teaches_through_a_projection(
    finetuned: Artifact, tiny_encoder: Path, tmp_path: Path
) -> None:
    from transformers import BertConfig, BertModel

    folder = tmp_path / "encoder"
    torch.manual_seed(0)
    rows = models.load(finetuned.folder, Shape.read(finetuned.about["model"])).shape.vocabulary
    config = BertConfig(
        vocab_size=rows,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((tiny_encoder / "tokenizer.json").read_bytes())
    inputs = Inputs(finetuned, Encoder(folder, "small"), finetuned)
    params = Distill(
        **{**QUICK, "epochs": 10, "learning_rate": 5e-3}, student="small", hidden=1.0, attention=1.0
    )  # type: ignore[arg-type]
    out = tmp_path / "out"
    out.mkdir()
    student = keep(out, distill.run(inputs, TASK, params, Context(out, 0, 1)))
    assert student.about["model"]["width"] == 16
    assert share_right(scores(student)) > 0.9


def test_teacher_with_another_tokenizer_teaches_by_logits_only(
    finetuned: Artifact, tmp_path: Path
) -> None:
    smaller = tmp_path / "smaller"
    smaller.mkdir()
    about = vocabulary.run(Inputs(finetuned), TASK, Vocabulary(), Context(smaller, 0, 1))
    inputs = Inputs(keep(smaller, about), teacher=finetuned)
    for number, (hidden, fault) in enumerate(((0.0, ""), (1.0, "by its logits only"))):
        out = tmp_path / str(number)
        out.mkdir()
        params = Distill(**QUICK, hidden=hidden)  # type: ignore[arg-type]
        if fault:
            with pytest.raises(BuildError, match=fault):
                distill.run(inputs, TASK, params, Context(out, 0, 1))
        else:
            distill.run(inputs, TASK, params, Context(out, 0, 1))
            assert (out / models.WEIGHTS).exists()


def test_teacher_answers_once(
    finetuned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    said: list[str] = []
    for number in range(2):
        out = tmp_path / str(number)
        out.mkdir()
        context = Context(out, number, 1, said.append)
        params = Distill(**QUICK, layers=1)  # type: ignore[arg-type]
        distill.run(Inputs(finetuned, teacher=finetuned), TASK, params, context)
    assert sum("the teacher answers" in line for line in said) == 1
    kept = list((cache / "outputs").iterdir())
    assert len(kept) == 1
    assert np.load(kept[0] / "logits.npy").shape == (len(TASK.examples("train")), 2)


def test_transfer_text_is_learned_from_without_labels(finetuned: Artifact, tmp_path: Path) -> None:
    from dataclasses import replace

    extra = tuple((f"an ordinary tale {word}",) for word in (*POSITIVE, *NEGATIVE))
    task = replace(TASK, name="transfer", transfer=Transfer("extra", lambda: extra))
    params = Distill(**{**QUICK, "transfer": True}, layers=1)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)
    about = distill.run(inputs, task, params, Context(tmp_path, 0, 1))
    assert about["texts"] == len(TASK.examples("train")) + len(extra)


def test_augmented_text_masks_and_cuts_and_invents_nothing() -> None:
    draw = random.Random(0)
    words = [str(number) for number in range(20)]
    seen = [
        augmented.split()
        for augmented in (
            distill.augmented((" ".join(words),), "[MASK]", draw)[0] for _ in range(300)
        )
    ]
    assert all(3 <= len(each) <= 20 for each in seen)
    masked = sum(each.count("[MASK]") for each in seen) / sum(map(len, seen))
    assert 0.08 < masked < 0.12
    assert 0.4 < sum(len(each) < 20 for each in seen) / len(seen) < 0.6
    for each in seen:
        known = [int(word) for word in each if word != "[MASK]"]
        assert known == sorted(known)


def test_interrupted_training_ends_as_if_nothing_had_happened(
    finetuned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    whole, cut, kept = (tmp_path / name for name in ("whole", "cut", "kept"))
    whole.mkdir()
    cut.mkdir()
    expected = distilled(finetuned, whole, layers=1, hidden=0.5)
    params = Distill(**QUICK, layers=1, hidden=0.5)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)

    class StopError(Exception):
        pass

    updates = 0
    real = losses.soft_cross_entropy

    def failing(*given: object) -> torch.Tensor:
        nonlocal updates
        updates += 1
        if updates == 35:  # in the second of two epochs of 25 updates
            raise StopError
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(losses, "soft_cross_entropy", failing)
    with pytest.raises(StopError):
        distill.run(inputs, TASK, params, Context(cut, 0, 1, kept=kept))
    said: list[str] = []
    about = distill.run(inputs, TASK, params, Context(cut, 0, 1, said.append, kept))
    assert any("goes on in epoch 2/2, update 34/50" in line for line in said)
    assert updates == 35 + 16
    for one, other in zip(about["training"], expected.about["training"], strict=True):
        assert one["loss"] == other["loss"]
        assert one["selection"] == other["selection"]
    first, again = ((folder / models.WEIGHTS).read_bytes() for folder in (whole, cut))
    assert first == again


def test_damaged_checkpoint_is_left_aside(finetuned: Artifact, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "checkpoint.safetensors").write_bytes(b"half a checkpoint")
    params = Distill(**{**QUICK, "epochs": 1}, layers=1)  # type: ignore[arg-type]
    out = tmp_path / "out"
    out.mkdir()
    inputs = Inputs(finetuned, teacher=finetuned)
    about = distill.run(inputs, TASK, params, Context(out, 0, 1, kept=kept))
    assert len(about["training"]) == 1


def test_accumulated_gradients_equal_those_of_the_whole_batch(finetuned: Artifact) -> None:
    shape = Shape.read(finetuned.about["model"])
    draw = torch.Generator().manual_seed(0)
    rows, labels = torch.randint(4, 30, (8, 6), generator=draw), torch.arange(8) % 2
    after = []
    for accumulate in (1, 4):
        model = models.load(finetuned.folder, shape)

        def loss(asked: list[int], model: Classifier = model) -> torch.Tensor:
            ids = rows[asked]
            logits = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
            return functional.cross_entropy(logits, labels[asked])

        trained = nn.ModuleList([model])
        params = Distill(batch=8, accumulate=accumulate)
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        training._update(trained, optimizer, loss, list(range(8)), params, 0.1)
        after.append(model.state_dict())
    for name, value in after[0].items():
        assert torch.allclose(value, after[1][name], atol=1e-6), name


def test_weights_that_are_not_finite_are_refused_before_training(
    finetuned: Artifact, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(finetuned.folder / models.WEIGHTS)
    weights["classifier.bias"][0] = float("nan")
    broken = tmp_path / "broken"
    broken.mkdir()
    save_file(weights, broken / models.WEIGHTS)
    (broken / "tokenizer.json").write_bytes((finetuned.folder / "tokenizer.json").read_bytes())
    artifact = keep(broken, {**finetuned.about, "key": "broken"})
    with pytest.raises(BuildError, match=r"classifier\.bias is not finite"):
        distilled(artifact, tmp_path, layers=1)


def test_trimmed_vocabulary_tokenizes_known_text_as_before(
    finetuned: Artifact, tmp_path: Path
) -> None:
    about = vocabulary.run(Inputs(finetuned), TASK, Vocabulary(), Context(tmp_path, 0, 1))
    artifact = keep(tmp_path, about)
    before, after = (
        text.load_tokenizer(each.folder / "tokenizer.json", 64) for each in (finetuned, artifact)
    )
    assert after.get_vocab_size() == about["tokens"]["after"] < before.get_vocab_size()
    for example in TASK.examples("train"):
        one, other = (each.encode(example.candidates[0][0]).tokens for each in (before, after))
        assert one == other
    np.testing.assert_allclose(scores(artifact, "train"), scores(finetuned, "train"), atol=1e-6)
    assert artifact.about["model"]["parameters"] < finetuned.about["model"]["parameters"]


def test_word_whose_pieces_are_gone_is_spelt_or_unknown(
    finetuned: Artifact, tmp_path: Path
) -> None:
    keep(tmp_path, vocabulary.run(Inputs(finetuned), TASK, Vocabulary(), Context(tmp_path, 0, 1)))
    tokenizer = text.load_tokenizer(tmp_path / "tokenizer.json", 64)
    assert "story" not in tokenizer.get_vocab()
    assert "[UNK]" in tokenizer.encode("story").tokens
    assert tokenizer.encode("quick, story").type_ids == [0] * 5
    assert tokenizer.encode("quick", "bad").type_ids[-1] == 1


def test_frequency_floor_keeps_fewer_tokens(finetuned: Artifact, tmp_path: Path) -> None:
    sizes = []
    for floor in (1, 60, 10**6):
        out = tmp_path / str(floor)
        out.mkdir()
        about = vocabulary.run(Inputs(finetuned), TASK, Vocabulary(floor), Context(out, 0, 1))
        sizes.append(about["tokens"]["after"])
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 4  # the special tokens


def test_other_tokenizers_cannot_lose_tokens() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    with pytest.raises(BuildError, match="only WordPiece can lose tokens"):
        vocabulary.restricted(Tokenizer(BPE()), {1})


STUDENT = """
title = "A student"
authors = ["a"]
licence = "MIT"
division = "open"
tasks = ["any"]
[model]
teacher = "minilm-l6"
{steps}
[serve]
engine = "pytorch"
"""

FAULTS = {
    "layers = [1, 6]": r"layers = \[1, 6\], but minilm-l6 has 2 layers. Choose from 0..1",
    "layers = [0, 1, 0]": "names a layer twice",
    "layers = 3": r"layers = 3, but minilm-l6 has 2. Choose 1..2",
    "layers = [true]": "layers = .True. must be a whole number or a list of whole numbers",
    "": "the student is the teacher itself. Give layers, or student",
    'layers = 1\nstudent = "all-MiniLM-L6-v2"': "both layers and student",
    'student = "all-MiniLM-L9"': "student: encoder 'all-MiniLM-L9' is neither pinned",
    "layers = 1\nmatch = [0, 1]": "match names 2 layers, but the student has 1",
    "layers = 1\ntemperature = 0": "temperature = 0: choose a number above 0",
    "layers = 1\naccumulate = 64": "accumulate = 64: choose 1..32",
    'layers = 1\nactivation = "swish"': "activation = 'swish': choose",
}


@pytest.mark.parametrize("parameters", FAULTS)
def test_fault_of_distill_is_said_before_anything_is_built(project: Path, parameters: str) -> None:
    folder = project / "submissions" / "student"
    folder.mkdir(exist_ok=True)
    step = f'[[step]]\nuse = "distill"\n{parameters}\n'
    (folder / "submission.toml").write_text(STUDENT.format(steps=step))
    with pytest.raises(ManifestError, match=FAULTS[parameters]) as caught:
        read_system(folder, project)
    assert str(caught.value).startswith(f"{folder / 'submission.toml'}: step 1 'distill': ")


def test_shape_is_followed_through_the_recipe(project: Path) -> None:
    folder = project / "submissions" / "student"
    folder.mkdir(exist_ok=True)
    steps = [
        'use = "distill"\nlayers = [1]',
        'use = "prune"\nheads = 2\nffn = 32',
        'use = "distill"',
        'use = "prune"\nheads = 3\nffn = 32',
    ]
    text = STUDENT.format(steps="".join(f"[[step]]\n{each}\n" for each in steps))
    (folder / "submission.toml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_system(folder, project)
    assert str(caught.value).count("\n") == 0
    assert "step 4 'prune': heads = 3, but minilm-l6 has 2 heads. Choose 1..2" in str(caught.value)


def test_student_needs_a_teacher(project: Path) -> None:
    folder = project / "submissions" / "student"
    folder.mkdir(exist_ok=True)
    manifest = STUDENT.format(steps='[[step]]\nuse = "distill"\nlayers = 1')
    origin = json.dumps("all-MiniLM-L6-v2")
    (folder / "submission.toml").write_text(
        manifest.replace('teacher = "minilm-l6"', f"pretrained = {origin}")
    )
    with pytest.raises(
        ManifestError, match=r"it needs \[model\] teacher, the system to learn from"
    ):
        read_system(folder, project)
