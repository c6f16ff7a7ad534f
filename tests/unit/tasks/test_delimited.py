"""CSV and TSV: quotation marks, blank lines, line numbers."""

from pathlib import Path

import pytest

from harness.errors import ManifestError, SourceError
from harness.tasks.readers import read_rows
from tests.support.data_files import load_task, write_rows, write_task

LINES = [
    "sentence\tlabel",
    '"the opening line of it\tneg',
    "one more\tneg",
    'here it closes"\tpos',
    '"all of it"\tpos',
    'said "so" twice\tneg',
    '""hello"" to you\tpos',
    '"\tneg',
]


def test_quotation_marks_in_tsv_are_ordinary_characters(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(LINES) + "\n")
    rows = [row.values for row in read_rows(path)]
    assert [(row["sentence"], row["label"]) for row in rows] == [
        tuple(line.split("\t")) for line in LINES[1:]
    ]


def test_quoted_fields_in_tsv_are_refused_unless_quoting_is_set(tmp_path: Path) -> None:
    rows = [{"text": 'He said "so"', "label": "pos"}, {"text": "two\nlines", "label": "neg"}]
    path = tmp_path / "rows.tsv"
    write_rows(path, rows)  # doubled marks inside, as pandas writes them, too
    with pytest.raises(SourceError, match=r'line 2 has a field .* quoting = "minimal".* or "none"'):
        list(read_rows(path))
    assert [row.values for row in read_rows(path, quoting="minimal")] == rows
    path.write_text('text\tlabel\n"He said ""so"""\tpos\n')
    assert next(read_rows(path, quoting="none")).values["text"] == '"He said ""so"""'
    path.write_text('"text"\t"label"\n"a"\t"pos"\n')
    with pytest.raises(SourceError, match=r"line 1 has a field that is enclosed"):
        list(read_rows(path))
    path.write_text('text\tlabel\n"two\nlines"\tneg\n')
    with pytest.raises(SourceError, match=r"line 2 has 1 field,.* set quoting = \"minimal\""):
        list(read_rows(path))


def test_quoting_of_the_declaration_applies(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    path = write_task(folder, "tsv", ["neg", "pos"])
    write_rows(folder / "rows.tsv", [{"text": 'He said "so"', "label": "pos"}])
    with pytest.raises(SourceError, match="quoting"):
        load_task(path).examples("validation")
    plain = path.read_text()
    path.write_text(f'quoting = "minimal"\n{plain}')
    assert load_task(path).examples("validation")[0].candidates == (('He said "so"',),)
    path.write_text(f'quoting = "none"\n{plain}')
    assert load_task(path).examples("validation")[0].candidates == (('"He said ""so"""',),)
    path.write_text(f'quoting = "all"\n{plain}')
    with pytest.raises(ManifestError, match=r"quoting = 'all': choose 'minimal' or 'none'"):
        load_task(path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('text,label\na,pos\n"never closed,neg\nb,pos\nc,neg\n', 3),
        ('text,label\n"two\nlines",pos\n"never, closed\nb,pos\n', 4),
        ('text,label\n"one\ntwo","three\nfour\n', 3),
        ('text,label\n"closed" and more,neg\n', 2),
        ('text,label\n"opens\ncloses" here,neg\n', 2),
        ('text,label\n"with ""doubled"" ones,neg\n', 2),
    ],
)
def test_unclosed_quote_is_reported_with_the_line_where_it_opens(
    tmp_path: Path, content: str, line: int
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(SourceError, match=rf"{path}: line {line}: the quotation mark that opens"):
        list(read_rows(path))


def test_blank_lines_are_skipped_and_line_numbers_stay_right(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('\ntext,label\n\n"a\nb",pos\n   \nc,neg\n\n')
    rows = list(read_rows(path))
    assert [row.values for row in rows] == [
        {"text": "a\nb", "label": "pos"},
        {"text": "c", "label": "neg"},
    ]
    assert [row.location.rpartition(" ")[2] for row in rows] == ["4", "7"]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("csv", ",,\ntext,label,\na,pos,\n,,\nb,neg,\n ,\n,,,,\n"),
        ("tsv", "text\tlabel\t\na\tpos\t\n\t\t\nb\tneg\t\n\t\n"),
    ],
)
def test_lines_of_delimiters_alone_are_skipped(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content)
    assert [row.values["text"] for row in read_rows(path)] == ["a", "b"]
    path.write_text(",,\n,,\n".replace(",", "," if suffix == "csv" else "\t"))
    with pytest.raises(SourceError, match="it is empty"):
        list(read_rows(path))


def test_quoted_empty_field_is_a_value(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text\na\n""\n')
    assert [row.values["text"] for row in read_rows(path)] == ["a", ""]


@pytest.mark.parametrize("start", ["", "sep={}\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_first_line_of_csv_decides_the_delimiter(
    tmp_path: Path, delimiter: str, start: str
) -> None:
    path = tmp_path / "rows.csv"
    header = f"text{delimiter}label\n"
    path.write_text(f'{start.format(delimiter)}{header}"a, b; c"{delimiter}pos\n')
    assert [row.values for row in read_rows(path)] == [{"text": "a, b; c", "label": "pos"}]


def test_comma_in_the_first_line_of_csv_is_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label;team\na; b,pos\n")
    assert next(read_rows(path)).values == {"text": "a; b", "label;team": "pos"}


def test_line_numbers_are_right_with_every_line_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(f'text,label{end}"a{end}b",pos{end}"never closed,neg{end}'.encode())
        with pytest.raises(SourceError, match="line 4: the quotation mark that opens"):
            list(read_rows(path))


def test_long_field_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"text,label\n{'x' * 300_000},pos\n")
    assert len(next(read_rows(path)).values["text"]) == 300_000
