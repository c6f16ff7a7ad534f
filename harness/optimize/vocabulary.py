"""Keeping only the token embeddings that a task's text needs.

The word embeddings are most of a small student's weights. WordPiece takes the longest piece that
fits; without the pieces that it never took, it still takes the same ones, so the text that was
counted is tokenized as before. A word of other text whose pieces are gone is spelt with shorter
ones that are left, or is unknown.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError
from harness.optimize.base import Inputs, Step, StepContext, fp32_fault
from harness.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from harness.models.classifier import Classifier


@dataclass(frozen=True)
class Vocabulary:
    """Keep the tokens that the training text and the transfer text hold often enough.

    floor: how often at least, 1 or above.
    transfer: count also the task's unlabelled transfer text, where it has some.
    """

    floor: int = 1
    transfer: bool = True


def validate(params: Vocabulary, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = [] if params.floor >= 1 else [f"floor = {params.floor}: choose 1 or above"]
    return faults + fp32_fault(shape)


def run(inputs: Inputs, task: Task, params: Vocabulary, context: StepContext) -> dict[str, Any]:
    """Write the model with fewer embeddings, and its tokenizer.

    Raises: BuildError if the tokenizer is no WordPiece.
    """
    from harness.models import tokenization
    from harness.optimize.training import encoders

    assert inputs.artifact is not None
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    tokenizer.no_truncation()
    rows, counts = task.texts(params.transfer), Counter[int]()
    while part := list(islice(rows, 1000)):
        counts.update(
            token for each in tokenization.tokenize(tokenizer, part) for token in each.ids
        )
    smaller, kept = restricted(
        tokenizer, {token for token in counts if counts[token] >= params.floor}
    )
    about = encoders.save_model(trimmed(model, kept), smaller, context.out)
    return {**about, "tokens": {"before": model.spec.vocabulary, "after": len(kept)}}


def restricted(tokenizer: "Tokenizer", wanted: set[int]) -> "tuple[Tokenizer, list[int]]":
    """A tokenizer that knows only these tokens and the special ones, and each new one's old id.

    Raises: BuildError if it is no WordPiece.
    """
    from tokenizers import Tokenizer

    said = json.loads(tokenizer.to_str())
    if said["model"]["type"] != "WordPiece":
        raise BuildError(
            f"the tokenizer is a {said['model']['type']}; only WordPiece can lose tokens. Leave "
            "the step out."
        )
    special = {entry["id"] for entry in said["added_tokens"]}
    vocabulary: dict[str, int] = said["model"]["vocab"]
    special |= {vocabulary[said["model"]["unk_token"]]}
    processor = said["post_processor"] or {}
    for entry in processor.get("special_tokens", {}).values():
        special |= set(entry["ids"])
    special |= {processor[key][1] for key in ("sep", "cls") if key in processor}
    special |= {vocabulary[word] for word in ("[PAD]", "[MASK]") if word in vocabulary}
    kept = sorted(number for number in vocabulary.values() if number in wanted | special)
    new = {old: number for number, old in enumerate(kept)}
    said["model"]["vocab"] = {word: new[old] for word, old in vocabulary.items() if old in new}
    for entry in said["added_tokens"]:
        entry["id"] = new[entry["id"]]
    for entry in processor.get("special_tokens", {}).values():
        entry["ids"] = [new[old] for old in entry["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key][1] = new[processor[key][1]]
    return Tokenizer.from_str(json.dumps(said)), kept


def trimmed(model: "Classifier", kept: list[int]) -> "Classifier":
    """A copy that has only these rows of the word embeddings, in this order."""
    from harness.models.classifier import Classifier, assign_weights

    weights = {name: value.clone() for name, value in model.state_dict().items()}
    name = "bert.embeddings.word_embeddings.weight"
    weights[name] = weights[name][kept].clone()
    smaller = Classifier(replace(model.spec, vocabulary=len(kept)))
    assign_weights(smaller, weights)
    return smaller.eval()


STEP = Step(
    "vocabulary",
    1,
    Vocabulary,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, shape: {"vocabulary": params.floor},
    trains=True,
)
