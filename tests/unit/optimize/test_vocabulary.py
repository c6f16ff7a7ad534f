from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import BuildError
from harness.models import tokenization
from harness.optimize import vocabulary
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.vocabulary import Vocabulary
from harness.tasks.task import Example
from tests.support.words import TASK, keep, scores


def test_trimmed_vocabulary_tokenizes_known_text_as_before(
    finetuned: Artifact, tmp_path: Path
) -> None:
    metadata = vocabulary.run(Inputs(finetuned), TASK, Vocabulary(), StepContext(tmp_path, 0, 1))
    artifact = keep(tmp_path, metadata)
    before, after = (
        tokenization.load_tokenizer(built.folder / "tokenizer.json", 64)
        for built in (finetuned, artifact)
    )
    assert after.get_vocab_size() == metadata["tokens"]["after"] < before.get_vocab_size()
    for example in TASK.examples("train"):
        text = example.candidates[0][0]
        assert after.encode(text).tokens == before.encode(text).tokens
    np.testing.assert_allclose(scores(artifact, "train"), scores(finetuned, "train"), atol=1e-6)
    assert artifact.metadata.model["parameters"] < finetuned.metadata.model["parameters"]


def test_word_with_removed_pieces_is_spelt_or_unknown(finetuned: Artifact, tmp_path: Path) -> None:
    keep(
        tmp_path, vocabulary.run(Inputs(finetuned), TASK, Vocabulary(), StepContext(tmp_path, 0, 1))
    )
    tokenizer = tokenization.load_tokenizer(tmp_path / "tokenizer.json", 64)
    assert "story" not in tokenizer.get_vocab()
    assert "[UNK]" in tokenizer.encode("story").tokens
    assert tokenizer.encode("quick, story").type_ids == [0] * 5
    has_segments = finetuned.metadata.model["segments"] > 0
    assert tokenizer.encode("quick", "bad").type_ids[-1] == has_segments


def test_frequency_floor_keeps_fewer_tokens(finetuned: Artifact, tmp_path: Path) -> None:
    sizes = []
    for floor in (1, 60, 10**6):
        out = tmp_path / str(floor)
        out.mkdir()
        metadata = vocabulary.run(
            Inputs(finetuned), TASK, Vocabulary(floor=floor), StepContext(out, 0, 1)
        )
        sizes.append(metadata["tokens"]["after"])
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 4  # the special tokens


def test_share_of_tokens_that_a_task_loses(finetuned: Artifact) -> None:
    """The special tokens count, too: they are never lost."""
    tokenizer = tokenization.load_tokenizer(finetuned.folder / "tokenizer.json", 64)
    texts = {"train": ["quick bad"], "selection": ["quick bad", "quick quick bad story"]}
    task = replace(TASK, load=lambda split: tuple(Example(((text,),), 0) for text in texts[split]))
    pieces = tokenizer.encode("story", add_special_tokens=False).ids
    lost = vocabulary.measure_lost_share(task, tokenizer)
    assert lost == pytest.approx(len(pieces) / (4 + 5 + len(pieces)))
    assert vocabulary.measure_lost_share(TASK, tokenizer) == 0.0


def test_other_tokenizers_are_refused() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    assert vocabulary.measure_lost_share(TASK, Tokenizer(BPE())) == 1.0
    with pytest.raises(BuildError, match="only WordPiece can be restricted"):
        vocabulary.restrict_tokenizer(Tokenizer(BPE()), {1})
