"""Sentiment of movie-review snippets, positive or negative (Hutto & Gilbert, ICWSM 2014).

Each snippet has the mean rating of 20 people, -4..+4. The other three files of the study (product
reviews, editorials, tweets) are the task's transfer text, without their ratings.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import SourceError
from harness.store.downloads import Package, Source
from harness.tasks.packing import pack_source
from harness.tasks.splits import select_split
from harness.tasks.task import Candidate, Example, Task, Transfer

REVIEWS = "movieReviewSnippets_GroundTruth.txt"

VADER = Source(
    name="vader",
    sha256={
        REVIEWS: "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        "amazonReviewSnippets_GroundTruth.txt": "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
        "nytEditorialSnippets_GroundTruth.txt": "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
        "tweets_GroundTruth.txt": "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f",
    },
    packages=(
        Package(
            requirement="vaderSentiment==3.3.2",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            megabytes=2.5,
            sdist=True,
            archive="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
            archive_sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
            folder="hutto_ICWSM_2014",
        ),
    ),
)


def read_sentiment(path: Path) -> list[Example]:
    """Return the clearly rated snippets of a file.

    The label is 1 where the mean rating is 0.5 or more, and 0 where it is -0.5 or less.

    Raises:
        SourceError: a line is not `id <tab> rating <tab> text`; the message names the line.
    """
    return [
        Example(((text,),), int(rating > 0))
        for rating, text in _read_ratings(path)
        if abs(rating) >= 0.5
    ]


def _read_ratings(path: Path) -> Iterator[tuple[float, str]]:
    for number, line in enumerate(path.read_bytes().decode("utf-8").split("\r\n"), start=1):
        if not line:
            continue
        try:
            _, rating, text = line.split("\t")
            yield float(rating), text.strip()
        except ValueError:
            raise SourceError(
                f"{path}: line {number} is not `id <tab> rating <tab> text`. Remove the file and "
                "run the same command again."
            ) from None


def _load_sentiment(split: str) -> Sequence[Example]:
    examples = read_sentiment(VADER.fetch() / REVIEWS)
    return select_split(((example.candidates[0][0], example) for example in examples), split)


def _load_transfer() -> tuple[Candidate, ...]:
    folder = VADER.fetch()
    names = sorted(set(VADER.sha256) - {REVIEWS})
    return tuple((text,) for name in names for _, text in _read_ratings(folder / name))


SENTIMENT = Task(
    name="sentiment",
    title="Movie-review snippets, positive or negative",
    edition="1",
    labels=("negative", "positive"),
    metric="accuracy",
    max_length=128,
    latency_bound_ms=50.0,
    source="vaderSentiment 3.3.2 (Hutto & Gilbert, ICWSM 2014)",
    licence="MIT",
    load=_load_sentiment,
    available_locally=VADER.available_locally,
    transfer=Transfer(VADER.key, _load_transfer),
    pack=pack_source(VADER, "sentiment"),
)
