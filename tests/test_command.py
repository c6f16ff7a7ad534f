import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness import energy
from harness.cli import main
from harness.configuration import choose, configurations
from harness.energy import Meter
from harness.errors import HarnessError
from harness.usage import HELP
from tests.conftest import REPOSITORY


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project / "submissions")
    return project


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that must fail with status 2."""
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    assert out.err.startswith("wattbench: ")
    return out.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["build", "--system", "onnx-int9"],
            "'onnx-int9' does not exist in .*Did you mean 'onnx-int8'",
        ),
        (["run", "--suite", "quik"], "suite 'quik' does not exist. Did you mean 'quick'"),
        (["run", "--task", "rte"], "task 'rte' does not exist"),
        (["run", "--configuration", "cpu-3"], "configuration 'cpu-3' does not exist"),
        (["run", "--system", "tfidf-logreg"], "is not built for sentiment. Run: wattbench build"),
        (["board"], "there is no record to draw"),
        (["check", "nowhere"], "nowhere: there is no such folder"),
        (["check", "."], r"submission.toml: there is no such file"),
    ],
)
def test_bad_input_is_one_message_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    import re

    assert re.search(message, fault(capsys, *arguments))


def test_fault_leaves_nothing_half_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    fault(capsys, "run", "--system", "tfidf-logreg")
    fault(capsys, "board")
    assert sorted(here.rglob("*")) == before


def test_outside_of_a_checkout_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Change into a checkout" in fault(capsys, "systems")


def test_check_says_what_is_fine_and_what_is_missing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "submissions" / "onnx-int8"
    assert main(["check", str(folder)]) == 0
    assert "2 steps, onnx, division closed" in capsys.readouterr().out
    (folder / "README.md").write_text(" ")
    assert "README.md: missing or empty" in fault(capsys, "check", str(folder))


@pytest.mark.usefixtures("here")
def test_lists_name_every_task_and_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    out = capsys.readouterr().out
    assert "7257 / 821 / 1994" in out
    assert "suite quick" in out
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    assert "minilm-l6 > export > quantize" in out
    assert "null" in out


@pytest.mark.parametrize("command", HELP)
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert "usage: wattbench" in capsys.readouterr().out


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_rounds_must_be_a_number_above_0(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", f"--rounds={rounds}"])
    assert "is not a whole number above 0" in capsys.readouterr().err


def test_ctrl_c_leaves_with_130_and_says_how_to_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.build.build", interrupted)
    assert main(["build"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_public_face_is_sorted_and_there() -> None:
    assert harness.__all__ == sorted(harness.__all__)
    for name in harness.__all__:
        assert callable(getattr(harness, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = harness.nothing


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, harness; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_load_submission_reads_a_manifest() -> None:
    system = harness.load_submission(REPOSITORY / "submissions" / "onnx-fp32")
    assert (system.name, system.division) == ("onnx-fp32", "closed")


def test_largest_configuration_that_fits_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)))
    assert choose().name == "cpu-4"
    with pytest.raises(
        HarnessError, match=r"'cpu-8' does not fit: it needs 8 cores.*Use --conf.*cpu-4"
    ):
        choose("cpu-8")


def test_prices_are_those_of_the_f_series() -> None:
    found = {name: each.usd_per_hour for name, each in configurations().items()}
    assert list(found) == ["cpu-1", "cpu-2", "cpu-4", "cpu-8", "cpu-16"]
    for each in configurations().values():
        assert each.usd_per_hour == pytest.approx(0.0423 * each.cores, rel=0.003)


def test_hash_of_a_configuration_changes_with_what_it_declares() -> None:
    one = configurations()["cpu-1"]
    assert one.hash != replace(one, watts_per_core=5.0).hash


def test_modelled_energy_is_watts_times_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "rapl_readable", lambda: False)
    meter = Meter(configurations()["cpu-1"])
    with meter.window() as used:
        pass
    found = meter.complete(used, 3600.0)
    assert found.cpu_wh == pytest.approx(4.27)
    assert found.source.startswith("modelled: 4.27 W")


def test_tracker_that_returns_nothing_is_an_error_not_a_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent:
        def start_task(self, name: str) -> None: ...
        def stop_task(self) -> None: ...

    monkeypatch.setattr(energy, "rapl_readable", lambda: True)
    monkeypatch.setattr(energy, "_tracker", lambda country: Silent())
    meter = Meter(configurations()["cpu-1"])
    with pytest.raises(HarnessError, match="returned no energy"), meter.window():
        pass


def test_carbon_intensity_is_codecarbons_and_unknown_countries_are_refused() -> None:
    assert 300 < energy.grams_co2_per_kwh("USA") < 500
    assert energy.grams_co2_per_kwh("FRA") < 100
    with pytest.raises(HarnessError, match="'ZZZ' is not in codecarbon's table"):
        energy.grams_co2_per_kwh("ZZZ")
