"""Tasks whose data comes out of PyPI packages, and the suites made of them.

`sentiment`: movie-review snippets with the mean rating of 20 people, -4..+4 (Hutto & Gilbert, ICWSM
2014).
"""

import hashlib
from pathlib import Path

from harness.errors import SourceError
from harness.tasks.sources import Package, Source
from harness.tasks.task import Example, Suite, Task

VADER = Source(
    name="vader-movie-reviews",
    sha256={
        "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
    },
    package=Package(
        requirement="vaderSentiment==3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        megabytes=2.5,
        sdist=True,
        archive="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
        archive_sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
        folder="hutto_ICWSM_2014",
    ),
)

SPLITS = {"validation": (0.0, 0.2), "selection": (0.2, 0.28), "train": (0.28, 1.0)}


def split_position(key: str) -> float:
    """Where a key falls in 0..1: the first 8 hex digits of the sha256 of the stripped key, over
    2^32.
    """
    return int(hashlib.sha256(key.strip().encode()).hexdigest()[:8], 16) / 2**32


def read_sentiment(path: Path) -> list[Example]:
    """The clearly rated snippets: label 1 where the mean rating is >= 0.5, 0 where it is <= -0.5.

    Raises: SourceError with the line number if a line is not `id <tab> rating <tab> text`.
    """
    examples = []
    for number, line in enumerate(path.read_bytes().decode("utf-8").split("\r\n"), start=1):
        if not line:
            continue
        try:
            _, rating_text, text = line.split("\t")
            rating = float(rating_text)
        except ValueError:
            raise SourceError(
                f"{path}: line {number} is not `id <tab> rating <tab> text`. Remove the file and "
                "fetch it anew."
            ) from None
        if abs(rating) >= 0.5:
            examples.append(Example(((text.strip(),),), int(rating > 0)))
    return examples


def _load_sentiment(split: str) -> tuple[Example, ...]:
    low, high = SPLITS[split]
    everything = read_sentiment(VADER.fetch() / "movieReviewSnippets_GroundTruth.txt")
    return tuple(each for each in everything if low <= split_position(each.candidates[0][0]) < high)


TASKS = (
    Task(
        name="sentiment",
        title="Movie-review snippets, positive or negative",
        version="1",
        labels=("negative", "positive"),
        metric="accuracy",
        max_length=128,
        latency_bound_ms=50.0,
        source="vaderSentiment 3.3.2 (Hutto & Gilbert, ICWSM 2014)",
        licence="MIT",
        load=_load_sentiment,
        at_hand=VADER.at_hand,
    ),
)

SUITES = (
    Suite(
        name="quick",
        tasks=("sentiment",),
        reference="minilm-l6",
        unpadded_reference="minilm-l6-unpadded",
        systems=(
            "minilm-l6",
            "minilm-l6-unpadded",
            "minilm-l6-batched",
            "majority",
            "tfidf-logreg",
            "null",
            "onnx-fp32",
            "onnx-int8",
        ),
    ),
)
