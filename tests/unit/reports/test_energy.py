import io
from pathlib import Path

import pandas
import pytest

from harness.errors import HarnessError
from harness.leaderboard.ranking import Section, load_sections
from harness.reports.energy import energy_report, entries_of
from harness.results import record
from tests.support.records import golden_records, make

MEASURED = {"source": "measured: CPU by RAPL", "idle": {"cpu_w": 3.0, "ram_w": 1.0}}


@pytest.fixture
def measured(tmp_path: Path) -> list[Section]:
    """1,000 examples in 10 s for 0.1 Wh of CPU and 0.01 of RAM; and half of that."""
    for name, share in (("ref", 1.0), ("half", 0.5)):
        it, side = make(name, [10.0 * share] * 3, 0.9, energy=MEASURED)
        for each in it.rounds:
            each.energy = {"cpu_wh": 0.1 * share, "ram_wh": 0.01 * share}
            each.load_wh = 0.002
        record.write_record(it, side, tmp_path)
    return load_sections(tmp_path)[0]


def test_whole_set_in_kwh_watts_and_grams(measured: list[Section]) -> None:
    half, ref = entries_of(measured[0])
    assert (ref.row.name, half.row.name) == ("ref", "half"), "the most frugal first"
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


def test_measured_energy_is_claimed_as_energy(measured: list[Section]) -> None:
    text = energy_report(measured, "md")
    assert "energy, times less" in text
    assert "91% / 9% / -" in text
    lines = pandas.read_csv(io.StringIO(energy_report(measured, "csv")))
    assert set(lines.reduction_of) == {"energy"}


def test_modelled_energy_is_claimed_as_cpu_time(tmp_path: Path) -> None:
    golden_records(tmp_path)
    found, _ = load_sections(tmp_path, "s1")
    text = energy_report(found, "md")
    assert "CPU time, times less" in text
    assert "energy, times less" not in text
    lines = pandas.read_csv(io.StringIO(energy_report(found, "csv"))).set_index("system")
    assert set(lines.reduction_of) == {"CPU time"}
    assert lines.loc["fastformers", "reduction"] == pytest.approx(34.0, rel=0.01)
    # watts a busy core times CPU-seconds, over the whole set
    assert lines.loc["fastformers", "answer_kwh"] == pytest.approx(0.3 * 4.27 / 3.6e6, rel=1e-5)
    assert lines.loc["fastformers", "total_kwh"] == pytest.approx(
        lines.loc["fastformers", "answer_kwh"] + lines.loc["fastformers", "load_kwh"], rel=1e-5
    )


def test_suite_is_summed_and_its_score_is_the_mean(tmp_path: Path) -> None:
    golden_records(tmp_path)
    text = energy_report(load_sections(tmp_path, "s2")[0], "md")
    totals = text.partition("## The suite embedded as a whole")[2].partition("##")[0]
    (line,) = [line for line in totals.splitlines() if "onnx-int8" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["0.8000", "3000"]
    # 1,000 examples for 0.011 Wh a second of 1.0067 s, 2 and 3 times that; loading 1 mWh each
    assert float(cells[3]) == pytest.approx((0.011 * 1.0067 * 6 + 0.003) / 1000, rel=0.01)
    assert text.index("as a whole") < text.index("## boolq"), "each task stands below"


def test_latex_is_a_table_with_nothing_to_trip_over(tmp_path: Path) -> None:
    golden_records(tmp_path)
    text = energy_report(load_sections(tmp_path, "s1")[0], "latex")
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 1
    assert "\\toprule" in text
    assert "100\\%" in text
    assert "fast|<b>" in text or "fast|\\ensuremath{<}b\\ensuremath{>}" in text
    caption = text.partition("\\caption{")[2]
    assert "_" not in caption.replace("\\_", "")


def test_nothing_to_report_is_said(tmp_path: Path) -> None:
    golden_records(tmp_path)
    with pytest.raises(HarnessError, match="no record of offline answers on rte"):
        energy_report(load_sections(tmp_path)[0], "md", "rte")
