import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.leaderboard.formatting import describe_ratio, format_interval, format_number
from harness.leaderboard.ranking import compute_speedup, load_sections
from harness.reports import reproduction
from harness.reports.reproduction import (
    PublishedTable,
    draw_reproductions,
    render_reproduction,
)
from harness.tasks.registry import get_suite
from tests.support.figures import table_rows
from tests.support.records import GOLDEN, golden_records
from tests.support.systems import REPOSITORY


@pytest.fixture
def published() -> PublishedTable:
    return PublishedTable.read(REPOSITORY, "fastformers-table3", "embedded")


def test_published_figures_equal_those_of_the_paper(published: PublishedTable) -> None:
    """Kim & Hassan (2020), Table 3."""
    assert [(row.speedup, row.accuracy, row.usd_per_100m) for row in published.row] == [
        (1.00, 74.01, 4223),
        (3.51, 74.01, 1204),
        (32.64, 74.04, 129),
        (73.66, 73.43, 57),
        (129.29, 73.43, 33),
        (178.67, 73.36, 24),
        (233.87, 72.81, 18),
    ]
    first = published.row[0].seconds
    for row in published.row:
        assert first / row.seconds == pytest.approx(row.speedup, rel=0.002)


def test_reproduction_equals_the_committed_one(tmp_path: Path, published: PublishedTable) -> None:
    golden_records(tmp_path)
    text = render_reproduction(load_sections(tmp_path)[0], published, "sentiment")
    assert text == (GOLDEN / "fastformers-table3-embedded-sentiment.md").read_text()


def test_rows_are_shown_beside_the_published_ones(
    tmp_path: Path, published: PublishedTable
) -> None:
    golden_records(tmp_path)
    text = render_reproduction(load_sections(tmp_path, "s1")[0], published, "sentiment")
    (cells,) = [row for row in table_rows(text) if "233.87x" in row]
    assert cells[3] == "66.63x", "the published speed-up over the unpadded reference"
    assert cells[5] == "89.9%", "of 74.01 - 62.17, as the paper's 72.81 keeps"
    assert cells[7] == "fastformers"
    assert cells[9].startswith("34.0x ["), "over the padded reference"
    assert cells[10].startswith("13.5x ["), "over the unpadded reference"
    score, retained = float(cells[11].split()[0]), float(cells[12].rstrip("%"))
    (first,) = [row for row in table_rows(text) if "734" in row]
    majority = 0.5
    gain = (score - majority) / (float(first[11]) - majority)
    assert retained == pytest.approx(100 * gain, abs=0.1)
    for key in ("machine", "cores", "reference", "student", "runtime", "timer"):
        assert f"| {key} " in text
    assert "fastformers: 3 layers, width 384, 6 to 8 heads, 768 ffn" in text


def test_systems_without_a_published_counterpart_have_a_table_of_their_own(
    tmp_path: Path, published: PublishedTable
) -> None:
    golden_records(tmp_path)
    text = render_reproduction(load_sections(tmp_path, "s1")[0], published, "sentiment")
    rows = {cells[0]: cells for cells in table_rows(text) if len(cells) == 7}
    assert list(rows) == [r"fast\|&lt;b>", "small", "small@soon"], "the slowest first; no controls"
    (first,) = [cells for cells in table_rows(text) if "734" in cells]
    assert float(rows["small"][1]) == pytest.approx(float(first[8]) / 20.4, rel=0.01)
    assert rows["small"][2].startswith("20.4x [")
    assert rows["small"][5] == "50.0%", "0.70 of 0.90, over the constant answer's 0.50"


def test_session_without_one_of_the_systems_is_not_shown(
    tmp_path: Path, published: PublishedTable
) -> None:
    golden_records(tmp_path)
    assert render_reproduction(load_sections(tmp_path, "s1")[0], published, "boolq") == ""
    shutil.rmtree(tmp_path / "s2")
    for path in tmp_path.glob("s1/sentiment/offline/distilled.*"):
        path.unlink()
    assert render_reproduction(load_sections(tmp_path)[0], published, "sentiment") == ""


def test_each_suite_has_its_own_ladder(published: PublishedTable) -> None:
    assert published.systems == list(get_suite("quick").ladder)
    default = PublishedTable.read(REPOSITORY, "fastformers-table3")
    assert default.systems == list(get_suite("superglue").ladder)
    with pytest.raises(HarnessError, match=r"no systems of a suite 'quick'.*embedded"):
        PublishedTable.read(REPOSITORY, "fastformers-table3", "quick")


def test_unknown_table_names_the_nearest() -> None:
    with pytest.raises(HarnessError, match="Did you mean 'fastformers-table3'"):
        PublishedTable.read(REPOSITORY, "fastformers-table4")


def test_all_faults_of_a_table_are_reported_together(tmp_path: Path) -> None:
    folder = tmp_path / "baselines" / "published"
    folder.mkdir(parents=True)
    (tmp_path / "submissions").mkdir()
    text = (REPOSITORY / "baselines/published/fastformers_table3.toml").read_text()
    text = text.replace("speedup = 3.51\n", "").replace("timer =", "timr =").replace("source", "x")
    (folder / "mine.toml").write_text(text)
    with pytest.raises(HarnessError) as caught:
        PublishedTable.read(tmp_path, "mine")
    for part in (
        "row 2: speedup is missing; it must be a number.",
        "'timr'. Did you mean 'timer'",
        "source is missing",
    ):
        assert part in str(caught.value)


def test_speedup_on_a_gpu_is_set_beside_the_one_that_the_abstract_states() -> None:
    """The ratio is that of the committed records, with their interval."""
    published = PublishedTable.read(REPOSITORY, "fastformers-gpu")
    sections, _ = load_sections(REPOSITORY / "results" / "records", "*-gpu-1-*", published.systems)
    text = render_reproduction(sections, published, "sentiment")
    (cells,) = [row for row in table_rows(text) if "up to 12.4x" in row]
    (section,) = [section for section in sections if section.scenario == "offline"]
    rows = section.measured_rows
    ratio = compute_speedup(rows["minilm-l6"], rows["cuda-fp16-compiled"])
    assert ratio is not None
    assert ratio.is_known
    assert cells == [
        "all methods for GPUs",
        "up to 12.4x",
        "cuda-fp16-compiled",
        *cells[3:4],
        format_interval(ratio),
        *cells[5:],
    ]
    assert f"is up to 12.4x. Here it is {describe_ratio(ratio)} in total" in text
    assert "one NVIDIA V100 with 16 GB | NVIDIA H100 80GB HBM3, Intel" in " ".join(text.split())
    assert "minilm-l6: 1, cuda-fp16-compiled: 128" in text
    assert "| cores" not in text
    assert "accuracy" not in text.partition("Differences")[0]


def test_picture_shows_what_is_retained_of_all_systems(
    tmp_path: Path, published: PublishedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden_records(tmp_path)
    sections = load_sections(tmp_path, "s1")[0]
    drawn: dict[str, tuple[str, float, float, float]] = {}
    monkeypatch.setattr(
        reproduction, "draw_frontier", lambda points, *_: drawn.update(points) or "<svg/>"
    )
    assert draw_reproductions(sections, published, "sentiment") == ["<svg/>"]
    text = render_reproduction(sections, published, "sentiment", ["picture.svg"])
    assert "![Retained gain against speed-up](picture.svg)" in text
    assert drawn["structured pruning, the smaller student"] == (
        "FastFormers, Table 3",
        233.87,
        pytest.approx(89.9, abs=0.05),
        pytest.approx(6.6, abs=0.05),  # 0.78 points of accuracy, of 11.84
    )
    kind, speedup, retained, error = drawn["fastformers"]
    (cells,) = [row for row in table_rows(text) if "233.87x" in row]
    assert kind == "wattbench's ladder"
    assert format_number(speedup) == cells[9].split("x")[0]
    assert f"{retained:.1f}%" == cells[12]
    assert error > 0
    assert drawn["small"][0] == "other systems"
    assert drawn["small@soon"][0] == "operating points"
    assert drawn.keys().isdisjoint({"null", "dead", "fastformers@seed1"})
    assert draw_reproductions(sections, published, "boolq") == []
    without_accuracy = published.model_copy(update={"constant": None})
    assert draw_reproductions(sections, without_accuracy, "sentiment") == [""]
    (offline,) = (section for section in sections if section.scenario == "offline")
    first = offline.measured_rows["minilm-l6"]
    assert first.record.score is not None
    first.record.score["majority"] = first.score  # as on a task that the reference cannot do
    assert draw_reproductions(sections, published, "sentiment") == [""]
    assert "](" not in render_reproduction(sections, published, "sentiment", [""])


def test_command_writes_report_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_records(tmp_path / "records")
    options = ["--suite", "embedded", "--task", "sentiment", "--results", str(tmp_path)]
    assert main(["reproduce", "fastformers-table3", *options]) == 0
    report = tmp_path / "fastformers-table3-embedded-sentiment.md"
    assert f"written: {report}" in capsys.readouterr().out
    assert "(fastformers-table3-embedded-sentiment.svg)" in report.read_text()
    svg = (tmp_path / "fastformers-table3-embedded-sentiment.svg").read_text()
    for name in ("FastFormers, Table 3", "other systems", "operating points"):
        assert f"<!-- {name} -->" in svg
