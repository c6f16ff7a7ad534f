"""What tests of adopted checkpoints share: a tokenizer of words, texts, and the step `adopt`."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.models.pretrained import Encoder
from harness.optimize import adopt
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext
from harness.tasks.task import Candidate, Example, Task

WORDS = [f"w{number}" for number in range(60)]


def word_tokenizer(pad: int | None) -> Tokenizer:
    """A tokenizer with one token per word, whose padding token has this id."""
    names = ["<unk>", "<s>", "</s>", *WORDS]
    if pad is not None:
        names.insert(pad, "<pad>")
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[(name, vocabulary[name]) for name in ("<s>", "</s>")],
    )
    return tokenizer


def random_texts(count: int, longest: int, pairs: bool = True) -> list[Candidate]:
    """Texts of 1..longest words; every third one has a pair."""
    generator = random.Random(1)

    def text(length: int) -> str:
        return " ".join(generator.choices(WORDS, k=length))

    rows = [(text(generator.randint(1, longest)),) for _ in range(count)]
    return [
        (*row, text(4)) if pairs and number % 3 == 0 else row for number, row in enumerate(rows)
    ]


def make_task(rows: Sequence[Candidate]) -> Task:
    examples = [Example((row,), number % 2) for number, row in enumerate(rows)]
    return Task(
        *("toy", "Which of two", "1", ("neg", "pos"), "accuracy", 64, 50.0, "made here", "none"),
        load=lambda split: examples,
        available_locally=lambda: True,
    )


def adopt_checkpoint(folder: Path, out: Path, rows: Sequence[Candidate]) -> Artifact:
    context = StepContext(out, 0, 2, lambda line: None, out / "none")
    out.mkdir()
    inputs = Inputs(encoder=Encoder(folder, "key"))
    metadata = adopt.run(inputs, make_task(rows), adopt.Adopt(), context)
    return Artifact(out, ArtifactMeta.from_dict({"labels": 2, **metadata}))


def compute_scores(artifact: Artifact, rows: Sequence[Candidate], serve: ServeConfig) -> np.ndarray:
    engine = registry.load_engine(EngineConfig(artifact.folder, artifact.engine_metadata, serve, 1))
    return engine.scores([[row] for row in rows])
