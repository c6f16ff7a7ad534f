import io
import re
from pathlib import Path
from typing import Any

import pandas
import pytest

from harness.errors import HarnessError
from harness.leaderboard.ranking import Section, load_sections
from harness.leaderboard.suites import find_measured_suites
from harness.reports.energy import (
    render_energy_files,
    render_energy_report,
    render_suite_report,
)
from harness.reports.energy_entries import energy_entries
from harness.reports.energy_suite import collect_suite_entries, format_totals
from harness.results.record import write_record
from harness.tasks.registry import get_suite
from tests.support.figures import table_rows
from tests.support.records import golden_records, make_record

MEASURED = {"source": "measured: CPU by RAPL", "idle": {"cpu_w": 3.0, "ram_w": 1.0}}


@pytest.fixture
def measured(tmp_path: Path) -> list[Section]:
    """1,000 examples in 10 s with 0.1 Wh of CPU and 0.01 Wh of RAM; another system with half."""
    for name, share in (("ref", 1.0), ("half", 0.5)):
        record, side = make_record(name, [10.0 * share] * 3, 0.9, energy=MEASURED)
        for window in record.rounds:
            window.energy = {"cpu_wh": 0.1 * share, "ram_wh": 0.01 * share}
            window.load_wh = 0.002
        write_record(record, side, tmp_path)
    return load_sections(tmp_path)[0]


def test_entry_has_kwh_watts_and_grams_of_the_whole_set(measured: list[Section]) -> None:
    half, ref = energy_entries(measured[0])
    assert (ref.row.name, half.row.name) == ("ref", "half"), "the lowest energy first"
    assert ref.examples == 1000
    assert ref.kwh == pytest.approx(0.11e-3)
    assert ref.load_kwh == pytest.approx(2e-6)
    assert ref.seconds == pytest.approx(10)
    assert ref.watts == pytest.approx(0.11 * 3600 / 10)
    assert ref.co2_g == pytest.approx(0.11e-3 * 369.5)
    assert ref.shares == {"cpu": pytest.approx(10 / 11), "ram": pytest.approx(1 / 11), "gpu": None}
    assert ref.reduction is None
    assert half.reduction
    assert half.reduction.value == pytest.approx(2)


def test_reduction_of_measured_energy_is_called_energy(measured: list[Section]) -> None:
    text = render_energy_report(measured, "md")
    assert "energy reduction" in text
    assert "91% / 9% / -" in text
    lines = pandas.read_csv(io.StringIO(render_energy_report(measured, "csv")))
    assert set(lines.reduction_of) == {"energy"}


def test_reduction_of_modelled_energy_is_called_cpu_time(tmp_path: Path) -> None:
    golden_records(tmp_path)
    sections, _ = load_sections(tmp_path, "s1")
    text = render_energy_report(sections, "md")
    assert "CPU time reduction" in text
    assert "energy reduction" not in text
    lines = pandas.read_csv(io.StringIO(render_energy_report(sections, "csv"))).set_index("system")
    assert set(lines.reduction_of) == {"CPU time"}
    assert lines.loc["fastformers", "reduction"] == pytest.approx(34.0, rel=0.01)
    # watts per busy core times CPU-seconds of the whole set
    assert lines.loc["fastformers", "answer_kwh"] == pytest.approx(0.3 * 4.27 / 3.6e6, rel=1e-5)
    assert lines.loc["fastformers", "total_kwh"] == pytest.approx(
        lines.loc["fastformers", "answer_kwh"] + lines.loc["fastformers", "load_kwh"], rel=1e-5
    )


SUITE_TASKS = ("sentiment", "privacyqa", "boolq")


def find_row(text: str, system: str) -> list[str]:
    return next(row for row in table_rows(text) if row[0] == system)


def test_suite_has_the_sums_and_the_mean_score(tmp_path: Path) -> None:
    golden_records(tmp_path)
    text = render_energy_report(load_sections(tmp_path, "s2")[0], "md")
    totals = text.partition("## All tasks of the suite embedded")[2].partition("By task")[0]
    cells = find_row(totals, "onnx-int8")
    assert cells[1] == "0.8000"
    assert cells[3] == "3000"
    # 1,000 examples in 1.0067 s, 2 and 3 times that, with 0.011 Wh per second; 1 mWh per loading
    assert float(cells[4]) == pytest.approx((0.011 * 1.0067 * 6 + 0.003) / 1000, rel=0.01)
    assert text.index("## All tasks") < text.index("## boolq"), "the tasks follow"
    assert "6.9x to 125.8x" in totals


def write_suite(folder: Path, tasks: tuple[str, ...], **changes: Any) -> list[Section]:
    """`half` needs half of the CPU time on the first task, and a fourth on the others."""
    for number, task in enumerate(tasks):
        for name, share, score in (("ref", 1.0, 0.9), ("half", 0.25 if number else 0.5, 0.88)):
            seconds = [10.0 * share, 11.0 * share, 12.0 * share]
            record, side = make_record(name, seconds, score, task=task, **changes)
            for window in record.rounds:
                window.energy = {"cpu_wh": 0.1 * share, "ram_wh": 0.01 * share}
                window.cpu_seconds = window.seconds
                window.load_wh = 0.0
            record.suite = "embedded"
            write_record(record, side, folder)
    return load_sections(folder)[0]


@pytest.mark.parametrize("changes", [{}, {"energy": MEASURED}])
def test_reduction_of_a_suite_is_the_ratio_of_the_sums(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    sections = write_suite(tmp_path, SUITE_TASKS, **changes)
    (measured,) = find_measured_suites(sections)
    half, ref = collect_suite_entries(measured)
    assert (half.name, ref.name) == ("half", "ref"), "the lowest use first"
    assert half.reduction
    assert half.reduction.value == pytest.approx(3 / (0.5 + 0.25 + 0.25))
    assert half.reduction.low == pytest.approx(half.reduction.high)
    assert ref.reduction is None
    assert half.difference == pytest.approx(half.score - ref.score)
    quantity = "energy" if changes else "CPU time"
    text = render_suite_report(sections, "md", get_suite("embedded"))
    assert find_row(text, "half")[-1].startswith("3.00x")
    assert f"{quantity} reduction" in text
    by_task = text.partition("By task")[2]
    assert find_row(by_task, "half")[1].startswith("2.00x, 0.88")
    assert find_row(by_task, "half")[2].startswith("4.00x, 0.88")
    assert find_row(by_task, "ref")[1].startswith("0.9")


def test_energy_and_co2_of_a_suite_include_loading_each_task_once(tmp_path: Path) -> None:
    sections = write_suite(tmp_path, SUITE_TASKS)
    (measured,) = find_measured_suites(sections)
    for section in measured.sections:
        for row in section.system_rows:
            for window in row.record.rounds:
                window.load_wh = 1.0
    half, _ = format_totals(collect_suite_entries(measured)).splitlines()[2:]
    cells = [cell.strip() for cell in half.split("|")]
    kwh, grams = float(cells[5]), float(cells[8])
    assert kwh == pytest.approx(3 * 0.001, rel=0.2)
    assert grams == pytest.approx(kwh * 369.5, rel=0.01)


def test_suite_as_csv_has_a_row_for_each_task_and_one_for_all(tmp_path: Path) -> None:
    sections = write_suite(tmp_path, SUITE_TASKS)
    text = render_suite_report(sections, "csv", get_suite("embedded"))
    frame = pandas.read_csv(io.StringIO(text))
    half = frame[frame.system == "half"].set_index("task")
    assert list(half.index) == [*SUITE_TASKS, "all"]
    assert half.loc["all", "cpu_seconds"] == pytest.approx(
        half.cpu_seconds.iloc[:3].sum(), rel=1e-3
    )
    assert half.loc["all", "kwh"] == pytest.approx(half.kwh.iloc[:3].sum(), rel=1e-3)
    assert half.loc["all", "reduction"] == pytest.approx(3, rel=1e-3)
    assert half.loc["sentiment", "reduction"] == pytest.approx(2, rel=1e-3)


def test_suite_of_some_tasks_names_the_others(tmp_path: Path) -> None:
    sections = write_suite(tmp_path, SUITE_TASKS[:2])
    for style in ("md", "latex"):
        text = render_suite_report(sections, style, get_suite("embedded"))
        assert "2 of 3 tasks of the suite embedded" in text
        assert "Not measured on this machine: boolq" in text


def test_suite_without_records_is_refused(measured: list[Section]) -> None:
    with pytest.raises(HarnessError, match="wattbench bench --suite superglue"):
        render_suite_report(measured, "md", get_suite("superglue"))


def test_files_have_the_suite_and_its_picture(tmp_path: Path) -> None:
    sections = write_suite(tmp_path, SUITE_TASKS)
    files = render_energy_files(sections)
    assert files["energy-suites.csv"].startswith("suite,reference,")
    picture = files["energy-suite.svg"]
    for text in ("half", "CPU time reduction over ref, embedded", "range of Kim"):
        assert text.replace("&", "&amp;") in unescape_svg(picture), text
    assert render_energy_files(sections) == files, "the same records give the same bytes"
    few = write_suite(tmp_path / "few", SUITE_TASKS[:1])
    assert set(render_energy_files(few)) == {"energy-report.md", "energy-report.csv"}


def unescape_svg(text: str) -> str:
    """Return an SVG's comments, in which matplotlib writes the texts that it draws as paths."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", text))


def test_latex_table_is_escaped(tmp_path: Path) -> None:
    golden_records(tmp_path)
    text = render_energy_report(load_sections(tmp_path, "s1")[0], "latex")
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 1
    assert "\\toprule" in text
    assert "100\\%" in text
    assert "fast|<b>" in text or "fast|\\ensuremath{<}b\\ensuremath{>}" in text
    caption = text.partition("\\caption{")[2]
    assert "_" not in caption.replace("\\_", "")


def test_report_without_records_fails(tmp_path: Path) -> None:
    golden_records(tmp_path)
    with pytest.raises(HarnessError, match="no record has the energy of offline answers on rte"):
        render_energy_report(load_sections(tmp_path)[0], "md", "rte")
