import io
from pathlib import Path

import pandas
import pytest

from harness.errors import HarnessError
from harness.leaderboard.ranking import Section, load_sections
from harness.reports.energy import energy_entries, render_energy_report
from harness.results.record import write_record
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


def test_suite_has_the_sums_and_the_mean_score(tmp_path: Path) -> None:
    golden_records(tmp_path)
    text = render_energy_report(load_sections(tmp_path, "s2")[0], "md")
    totals = text.partition("## All tasks of the suite embedded")[2].partition("##")[0]
    (cells,) = [row for row in table_rows(totals) if row[0] == "onnx-int8"]
    assert cells[1:3] == ["0.8000", "3000"]
    # 1,000 examples in 1.0067 s, 2 and 3 times that, with 0.011 Wh per second; 1 mWh per loading
    assert float(cells[3]) == pytest.approx((0.011 * 1.0067 * 6 + 0.003) / 1000, rel=0.01)
    assert text.index("## All tasks") < text.index("## boolq"), "the tasks follow"


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
