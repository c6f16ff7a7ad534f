"""Vocabulary pruning: only the token embeddings that a task's text needs are kept.

The word embeddings are most of a small student's weights. WordPiece always uses the longest piece
that fits. Without the pieces that it never used it still uses the same ones, so the counted text is
tokenized as before. A word of other text whose pieces are gone is spelt with shorter ones, or is
unknown.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.errors import BuildError
from harness.optimize.base import Inputs, Step, StepContext, StepParams, find_dtype_faults
from harness.tasks.task import Candidate, Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from harness.models.classifier import Classifier


class Vocabulary(StepParams):
    """Keep the tokens that are frequent enough in the training text and the transfer text."""

    floor: int = Field(1, ge=1, description="least number of occurrences")
    transfer: bool = Field(
        True, description="count also the task's unlabelled transfer text, if it has any"
    )


def run(inputs: Inputs, task: Task, params: Vocabulary, context: StepContext) -> dict[str, Any]:
    """Write the model with fewer embeddings, and its tokenizer.

    Raises:
        BuildError: the tokenizer is not WordPiece.
    """
    from harness.optimize.training import encoders

    assert inputs.artifact is not None
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    tokenizer.no_truncation()
    counts = _count_tokens(tokenizer, task.texts(params.transfer))
    frequent = {token for token in counts if counts[token] >= params.floor}
    smaller_tokenizer, old_ids = restrict_tokenizer(tokenizer, frequent)
    smaller_model = keep_embeddings(model, old_ids)
    metadata = encoders.save_model(smaller_model, smaller_tokenizer, context.out)
    return {**metadata, "tokens": {"before": model.spec.vocabulary, "after": len(old_ids)}}


def measure_lost_share(task: Task, tokenizer: "Tokenizer") -> float:
    """Return the share of the selection slice's tokens that the step would remove, from 0 to 1.

    1 if the tokenizer is not WordPiece, so that the step cannot be applied.

    Args:
        task: the task; its transfer text counts as training text.
        tokenizer: the model's, without truncation.
    """
    if type(tokenizer.model).__name__ != "WordPiece":
        return 1.0
    kept = _count_tokens(tokenizer, task.texts(transfer=True))
    selection = task.examples("selection")
    candidates = (candidate for example in selection for candidate in example.candidates)
    needed = _count_tokens(tokenizer, candidates)
    lost = sum(number for token, number in needed.items() if token not in kept)
    return lost / needed.total()


def _count_tokens(tokenizer: "Tokenizer", rows: Iterator[Candidate]) -> Counter[int]:
    """Return how often each token occurs in some texts."""
    from harness.models import tokenization

    counts = Counter[int]()
    while part := list(islice(rows, 1000)):
        encodings = tokenization.tokenize(tokenizer, part)
        counts.update(token for encoding in encodings for token in encoding.ids)
    return counts


def restrict_tokenizer(tokenizer: "Tokenizer", tokens: set[int]) -> "tuple[Tokenizer, list[int]]":
    """Return a tokenizer with only some tokens and the special ones.

    Args:
        tokenizer: a WordPiece tokenizer.
        tokens: the ids to keep.

    Returns:
        The tokenizer, and for each of its ids the old id.

    Raises:
        BuildError: the tokenizer is not WordPiece.
    """
    from tokenizers import Tokenizer

    config = json.loads(tokenizer.to_str())
    if config["model"]["type"] != "WordPiece":
        raise BuildError(
            f"the tokenizer is {config['model']['type']}; only WordPiece can be restricted. Leave "
            "the step out."
        )
    vocabulary: dict[str, int] = config["model"]["vocab"]
    processor = config["post_processor"] or {}
    special = {entry["id"] for entry in config["added_tokens"]}
    special |= {vocabulary[config["model"]["unk_token"]]}
    for entry in processor.get("special_tokens", {}).values():
        special |= set(entry["ids"])
    special |= {processor[key][1] for key in ("sep", "cls") if key in processor}
    special |= {vocabulary[word] for word in ("[PAD]", "[MASK]") if word in vocabulary}
    kept = tokens | special
    old_ids = sorted(old for old in vocabulary.values() if old in kept)
    new_ids = {old: new for new, old in enumerate(old_ids)}
    config["model"]["vocab"] = {
        word: new_ids[old] for word, old in vocabulary.items() if old in new_ids
    }
    for entry in config["added_tokens"]:
        entry["id"] = new_ids[entry["id"]]
    for entry in processor.get("special_tokens", {}).values():
        entry["ids"] = [new_ids[old] for old in entry["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key][1] = new_ids[processor[key][1]]
    return Tokenizer.from_str(json.dumps(config)), old_ids


def keep_embeddings(model: "Classifier", rows: list[int]) -> "Classifier":
    """Return a copy of a model with only some rows of the word embeddings, in this order."""
    from harness.models.classifier import Classifier, assign_weights

    weights = {name: value.clone() for name, value in model.state_dict().items()}
    name = "bert.embeddings.word_embeddings.weight"
    weights[name] = weights[name][rows].clone()
    smaller = Classifier(replace(model.spec, vocabulary=len(rows)))
    assign_weights(smaller, weights)
    return smaller.eval()


STEP = Step(
    "vocabulary",
    1,
    Vocabulary,
    ("safetensors",),
    run,
    lambda params, spec: find_dtype_faults(spec),
    output_spec=lambda params, spec: replace(spec, vocabulary_floor=params.floor),
    trains=True,
)
