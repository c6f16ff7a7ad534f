"""Encodings of text files: UTF-8 is read, and others are named with the command that converts."""

from pathlib import Path

import pytest

from harness.errors import SourceError
from harness.tasks.readers import read_rows

CSV = "text,label\nna\u00efve \u201cquotes\u201d,pos\n"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_byte_order_mark_of_utf_8_is_dropped(tmp_path: Path, suffix: str) -> None:
    contents = {"csv": CSV, "tsv": CSV.replace(",", "\t"), "jsonl": '{"text": "a", "label": "pos"}'}
    path = tmp_path / f"rows.{suffix}"
    path.write_text(contents[suffix], encoding="utf-8-sig")
    assert list(next(read_rows(path)).values) == ["text", "label"]


@pytest.mark.parametrize(
    ("encoding", "name", "line"),
    [
        ("cp1252", "WINDOWS-1252", 2),
        ("utf-16", "UTF-16", 1),
        ("utf-16-le", "UTF-16LE", 1),
        ("utf-16-be", "UTF-16BE", 1),
        ("utf-32", "UTF-32", 1),
        ("utf-32-le", "UTF-32LE", 1),
        ("utf-32-be", "UTF-32BE", 1),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_other_encoding_is_named_with_the_command_that_converts(
    tmp_path: Path, suffix: str, encoding: str, name: str, line: int
) -> None:
    path = tmp_path / f"my rows.{suffix}"
    content = CSV if suffix == "csv" else '{"text": "a"}\n{"text": "na\u00efve"}\n'
    path.write_text(content, encoding=encoding)
    with pytest.raises(SourceError) as raised:
        list(read_rows(path, "Correct the file."))
    assert str(raised.value) == (
        f"{path}: line {line} is not UTF-8, but perhaps {name}. Convert the file: "
        f"iconv -f {name} -t UTF-8 'my rows.{suffix}' > new.{suffix}"
    )


def test_ascii_text_in_utf_16_without_a_mark_is_not_read_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("text\tlabel\na\tpos\n", encoding="utf-16-le")
    with pytest.raises(SourceError, match="line 1 is not UTF-8, but perhaps UTF-16LE"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\na\0b,pos\n", "line 2 has a NUL byte"),
        (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\xff\xfe\0", "line 1 has a NUL byte: .* not text"),
        ("text,label\n\u3001,pos\n".encode("shift_jis"), "line 2 has a byte that is not UTF-8"),
        (CSV.encode() + "na\u00efve\u2026".encode()[:-1], "line 3 has a byte that is not UTF-8"),
    ],
    ids=["NUL", "xlsx", "Shift JIS", "cut off"],
)
def test_damaged_and_binary_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"{path}: {message}"):
        list(read_rows(path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_only_line_ends_divide_lines(tmp_path: Path, suffix: str, end: str) -> None:
    texts = ["a\u2028b", "a\x85b", "a\u00a0b"]
    lines = ["text,label", *(f"{text},pos" for text in texts)]
    if suffix == "tsv":
        lines = [line.replace(",", "\t") for line in lines]
    if suffix == "jsonl":
        lines = [f'{{"text": "{text}"}}' for text in texts]
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes("".join(line + end for line in lines).encode())
    assert [row.values["text"] for row in read_rows(path)] == texts
