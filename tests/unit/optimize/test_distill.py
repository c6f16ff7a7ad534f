import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional

from harness.errors import BuildError, ManifestError
from harness.models import classifier
from harness.models.classifier import EncoderSpec
from harness.models.pretrained import Encoder
from harness.optimize import distill, vocabulary
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.distill import Distill
from harness.optimize.training import distill_data, losses, tokens
from harness.optimize.vocabulary import Vocabulary
from harness.submissions.manifest import read_system
from harness.tasks import splits
from harness.tasks.task import Example, Transfer
from tests.conftest import save_encoder
from tests.support.systems import write_submission
from tests.support.words import (
    NEGATIVE,
    POSITIVE,
    QUICK,
    TASK,
    distilled,
    keep,
    scores,
    share_right,
)


@pytest.fixture(autouse=True)
def _empty_cache(cache: Path) -> None:
    """Teacher logits are cached."""


def test_layers_are_spaced_evenly_up_to_the_last() -> None:
    assert distill.space_evenly(3, 6) == (1, 3, 5)
    assert distill.space_evenly(2, 12) == (5, 11)
    assert distill.space_evenly(6, 6) == (0, 1, 2, 3, 4, 5)


def test_student_is_initialised_with_the_chosen_layers(finetuned: Artifact) -> None:
    teacher = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    student = distill.keep_layers(teacher, [1])
    assert student.spec.layers == 1
    student_name = "bert.encoder.layer.0.output.dense.weight"
    teacher_name = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(student.state_dict()[student_name], teacher.state_dict()[teacher_name])
    with pytest.raises(BuildError, match=r"choose from 0\.\.1"):
        distill.keep_layers(teacher, [2])


def test_student_of_all_layers_answers_as_the_teacher(finetuned: Artifact) -> None:
    teacher = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    student = distill.keep_layers(teacher, [0, 1]).eval()
    ids = torch.tensor([[2, 7, 9, 3]])
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert torch.equal(student(*inputs), teacher(*inputs))


@pytest.mark.parametrize(
    "params",
    [
        {"layers": (1,)},
        {"layers": 1, "hard": 0.5},
        {"layers": 1, "hidden": 1.0, "embedding": 1.0, "attention": 1.0},
        {"layers": 1, "augment": 1, "activation": "relu"},
    ],
    ids=["logits", "hard", "activations", "augment"],
)
def test_student_learns_what_the_teacher_knows(
    finetuned: Artifact, tmp_path: Path, params: dict[str, object]
) -> None:
    student = distilled(finetuned, tmp_path, **params)
    assert share_right(scores(student)) > 0.9
    assert student.metadata.model["layers"] == 1
    assert student.metadata.model["activation"] == params.get("activation", "gelu")


def test_hidden_loss_brings_hidden_states_closer_to_the_teachers(
    finetuned: Artifact, tmp_path: Path
) -> None:
    def distance(folder: str, weight: float) -> float:
        out = tmp_path / folder
        out.mkdir()
        student = distilled(finetuned, out, layers=1, hidden=weight, embedding=weight)
        pair = [
            classifier.load(artifact.folder, EncoderSpec.from_dict(artifact.metadata.model))
            for artifact in (student, finetuned)
        ]
        ids = torch.tensor([[2, 7, 9, 3]])
        activations = []
        for model in pair:
            with losses.record_activations(model) as recorded:
                model(ids, torch.ones_like(ids), torch.zeros_like(ids))
            activations.append(recorded)
        return functional.mse_loss(activations[0].hidden[0], activations[1].hidden[1]).item()

    assert distance("with", 10.0) < 0.7 * distance("without", 0.0)


def test_teacher_of_another_width_teaches_through_a_projection(
    finetuned: Artifact, tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    rows = finetuned.metadata.model["vocabulary"]
    save_encoder(folder, rows, layers=1, width=16, heads=2, ffn=32)
    (folder / "tokenizer.json").write_bytes((tiny_encoder / "tokenizer.json").read_bytes())
    inputs = Inputs(finetuned, Encoder(folder, "small"), finetuned)
    params = Distill(
        **{**QUICK, "epochs": 10, "learning_rate": 5e-3}, student="small", hidden=1.0, attention=1.0
    )  # type: ignore[arg-type]
    out = tmp_path / "out"
    out.mkdir()
    student = keep(out, distill.run(inputs, TASK, params, StepContext(out, 0, 1)))
    assert student.metadata.model["width"] == 16
    assert share_right(scores(student)) > 0.9


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_student_of_either_architecture_learns_from_a_teacher_of_either(
    finetuned: Artifact, tiny_encoder: Path, tiny_mpnet: Path, architecture: str, tmp_path: Path
) -> None:
    folder = {"bert": tiny_encoder, "mpnet": tiny_mpnet}[architecture]
    inputs = Inputs(finetuned, Encoder(folder, "student"), finetuned)
    schedule = {**QUICK, "epochs": 6, "learning_rate": 3e-3}
    params = Distill(**schedule, student="student")  # type: ignore[arg-type]
    student = keep(tmp_path, distill.run(inputs, TASK, params, StepContext(tmp_path, 0, 1)))
    assert bool(student.metadata.model["buckets"]) == (architecture == "mpnet")
    assert share_right(scores(student)) > 0.9


def test_only_logits_are_learned_from_a_teacher_with_another_tokenizer(
    finetuned: Artifact, tmp_path: Path
) -> None:
    smaller = tmp_path / "smaller"
    smaller.mkdir()
    metadata = vocabulary.run(Inputs(finetuned), TASK, Vocabulary(), StepContext(smaller, 0, 1))
    inputs = Inputs(keep(smaller, metadata), teacher=finetuned)
    for number, (hidden, fault) in enumerate(((0.0, ""), (1.0, "only logits can be learned"))):
        out = tmp_path / str(number)
        out.mkdir()
        params = Distill(**QUICK, hidden=hidden)  # type: ignore[arg-type]
        if fault:
            with pytest.raises(BuildError, match=fault):
                distill.run(inputs, TASK, params, StepContext(out, 0, 1))
        else:
            distill.run(inputs, TASK, params, StepContext(out, 0, 1))
            assert (out / classifier.WEIGHTS).exists()


def test_transfer_text_is_learned_from_without_labels(finetuned: Artifact, tmp_path: Path) -> None:
    extra = tuple((f"an ordinary tale {word}",) for word in (*POSITIVE, *NEGATIVE))
    task = replace(TASK, name="transfer", transfer=Transfer("extra", lambda: extra))
    params = Distill(**{**QUICK, "transfer": True}, layers=1)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)
    metadata = distill.run(inputs, task, params, StepContext(tmp_path, 0, 1))
    assert metadata["texts"] == len(TASK.examples("train")) + len(extra)


def test_augmentation_masks_and_cuts_but_adds_no_words() -> None:
    draw = random.Random(0)
    words = [str(number) for number in range(20)]
    seen = [
        augmented.split()
        for augmented in (
            distill_data.augment_text((" ".join(words),), "[MASK]", draw)[0] for _ in range(300)
        )
    ]
    assert all(3 <= len(text) <= 20 for text in seen)
    masked = sum(text.count("[MASK]") for text in seen) / sum(map(len, seen))
    assert 0.08 < masked < 0.12
    assert 0.4 < sum(len(text) < 20 for text in seen) / len(seen) < 0.6
    for text in seen:
        known = [int(word) for word in text if word != "[MASK]"]
        assert known == sorted(known)


def test_masks_are_those_of_each_tokenizer_and_nothing_else_differs() -> None:
    rows = {}
    for mask in ("[MASK]", "<mask>"):
        tokenizer = Tokenizer(WordLevel({mask: 0, "word": 1}, unk_token="word"))
        source = distill_data.build_row_source(TASK, False, 2, tokenizer, 0)
        rows[mask] = [row for row, _, _ in source()]
    assert rows["[MASK]"] != rows["<mask>"]
    assert [(text.replace("[MASK]", "<mask>"),) for (text,) in rows["[MASK]"]] == rows["<mask>"]


def test_some_examples_of_the_training_split_are_learned_from(
    finetuned: Artifact, tmp_path: Path
) -> None:
    """As in the step `finetune`: drawn by a hash of their text."""
    tokenizer = Tokenizer(WordLevel({"[MASK]": 0}, unk_token="[MASK]"))
    source = distill_data.build_row_source(TASK, False, 1, tokenizer, 0, examples=30)
    rows = list(source())
    drawn = splits.draw_examples(TASK.examples("train"), 30)
    assert rows[:30] == list(tokens.rows_from_examples(drawn))
    assert len(rows) == 60, "with a copy of each"
    params = Distill(**QUICK, layers=1, examples=30)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)
    metadata = distill.run(inputs, TASK, params, StepContext(tmp_path, 0, 1))
    assert metadata["texts"] == 30


def test_new_pairs_have_the_first_text_and_another_second_one_near_it() -> None:
    topics = ("cats purr", "rain falls", "trains run")
    texts = [(f"do {topics[n % 3]} {n}", f"text {n} about {topics[n % 3]}") for n in range(60)]
    seen = list(distill_data.pair_anew([*texts, ("no pair",)], 2, random.Random(0)))
    assert len(seen) == 120
    assert not set(seen) & set(texts)
    assert {first for first, _ in seen} == {first for first, _ in texts}
    near = sum(first.split()[1] in second for first, second in seen)
    assert near > 0.9 * len(seen), "a random partner would be near in a third of them"
    assert list(distill_data.pair_anew(texts[:1], 2, random.Random(0))) == []


def test_new_pairs_are_learned_from_without_labels(finetuned: Artifact, tmp_path: Path) -> None:
    def load(split: str) -> tuple[Example, ...]:
        return tuple(
            replace(example, candidates=((example.candidates[0][0], f"pair {number % 7}"),))
            for number, example in enumerate(TASK.load(split))
        )

    task = replace(TASK, name="pairs", load=load)
    params = Distill(**QUICK, layers=1, pairs=1)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)
    metadata = distill.run(inputs, task, params, StepContext(tmp_path, 0, 1))
    assert metadata["texts"] == 2 * len(TASK.examples("train"))


SERVE = 'engine = "pytorch"'

FAULTS = {
    "layers = [1, 6]": r"layers = \[1, 6\], but minilm-l6 has 2 layers. Choose from 0..1",
    "layers = [0, 1, 0]": "names a layer twice",
    "layers = 3": r"layers = 3, but minilm-l6 has 2. Choose 1..2",
    "layers = [true]": "layers = .True. must be an integer or a list of integers",
    "": "the student is the teacher itself. Give layers, or student",
    'layers = 1\nstudent = "all-MiniLM-L6-v2"': "both layers and student",
    'student = "all-MiniLM-L9"': "student: encoder 'all-MiniLM-L9' is neither a pinned encoder",
    "layers = 1\nmatch = [0, 1]": "match names 2 layers, but the student has 1",
    "layers = 1\ntemperature = 0": "temperature = 0: choose a number above 0",
    "layers = 1\naccumulate = 64": "accumulate = 64: choose 1..32",
    'layers = 1\nactivation = "swish"': "activation = 'swish': choose",
}


@pytest.mark.parametrize("parameters", FAULTS)
def test_fault_of_distill_is_reported_before_anything_is_built(
    project: Path, parameters: str
) -> None:
    folder = write_submission(project, f'[[step]]\nuse = "distill"\n{parameters}\n', SERVE)
    with pytest.raises(ManifestError, match=FAULTS[parameters]) as caught:
        read_system(folder, project)
    assert str(caught.value).startswith(f"{folder / 'submission.toml'}: step 1 'distill': ")


def test_model_spec_is_tracked_through_the_recipe(project: Path) -> None:
    steps = [
        'use = "distill"\nlayers = [1]',
        'use = "prune"\nheads = 2\nffn = 32',
        'use = "distill"',
        'use = "prune"\nheads = 3\nffn = 32',
    ]
    folder = write_submission(project, "".join(f"[[step]]\n{step}\n" for step in steps), SERVE)
    with pytest.raises(ManifestError) as caught:
        read_system(folder, project)
    assert str(caught.value).count("\n") == 0
    assert "step 4 'prune': heads = 3, but minilm-l6 has 2 heads. Choose 1..2" in str(caught.value)


def test_student_needs_a_teacher(project: Path) -> None:
    folder = write_submission(project, '[[step]]\nuse = "distill"\nlayers = 1\n', SERVE)
    manifest = folder / "submission.toml"
    manifest.write_text(
        manifest.read_text().replace('teacher = "minilm-l6"', 'pretrained = "all-MiniLM-L6-v2"')
    )
    with pytest.raises(
        ManifestError, match=r"it needs \[model\] teacher, the system to learn from"
    ):
        read_system(folder, project)
