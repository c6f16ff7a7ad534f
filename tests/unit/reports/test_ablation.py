import tomllib
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.reports.ablation import waterfall
from harness.results import record
from harness.submissions.ablation import variants
from harness.submissions.manifest import System, find_systems, read_system
from tests.support.records import make
from tests.support.systems import declare


def system(project: Path, name: str) -> System:
    return read_system(find_systems(project)[name], project)


def titles(project: Path, name: str, retrain: bool = False) -> dict[str, str]:
    found = variants(system(project, name), project, retrain)
    return {each.name.partition("-without-")[2]: each.title for each in found}


def test_each_choice_is_left_out_once(project: Path) -> None:
    assert titles(project, "closed-int8") == {
        "padding": "padding = 'max'",
        "instances": "instances = 1",
        "export": "no export and quantize, in pytorch",
        "export-optimize": "export: optimize = false",
        "export-first-only": "export: first_only = false",
        "quantize": "no quantize",
    }


def test_variant_differs_in_that_choice_alone(project: Path) -> None:
    whole = system(project, "closed-int8")
    found = {each.name.partition("-without-")[2]: each for each in variants(whole, project)}
    assert found["padding"].serve["offline"].padding == "max"
    assert found["padding"].serve["offline"].instances == "per-core"
    assert found["padding"].recipe == whole.recipe
    assert found["instances"].serve["offline"].instances == 1
    assert found["instances"].serve["offline"].padding == "longest"
    assert [step_config.step.name for step_config in found["quantize"].recipe] == ["export"]
    assert found["quantize"].serve == whole.serve
    assert found["export"].recipe == ()
    assert found["export"].serve["offline"].engine == "pytorch"
    assert not found["export-optimize"].recipe[0].params.optimize
    assert found["export-optimize"].recipe[1:] == whole.recipe[1:]


def test_steps_that_train_stay_unless_asked(project: Path) -> None:
    usual = titles(project, "fastformers")
    assert not {"distill-1", "vocabulary", "prune", "distill-4"} & set(usual)
    retrained = titles(project, "fastformers", retrain=True)
    assert {"distill-1", "vocabulary", "prune", "distill-4"} <= set(retrained)
    assert set(usual) <= set(retrained)


def test_what_lies_in_the_folder_comes_along(project: Path) -> None:
    folder = declare(project, '[[step]]\nuse = "export"', 'engine = "onnxruntime"')
    (folder / "task.toml").write_text("")
    for each in variants(system(project, "mine"), project):
        assert (each.folder / "task.toml").is_file()
        assert tomllib.loads(each.manifest.read_text())["title"] == each.title


def test_nothing_to_leave_out_is_said(project: Path) -> None:
    with pytest.raises(HarnessError, match="nothing can be left out without training"):
        variants(system(project, "minilm-l6"), project)


def test_worth_is_a_ratio_within_blocks(tmp_path: Path) -> None:
    drift = [1.0, 2.0, 1.5]
    for name, factor in {"ref": 8, "unpadded": 2, "mine": 1, "mine-without-padding": 4}.items():
        it, side = make(name, [factor * each for each in drift], 0.9)
        it.system["title"] = "padding = 'max'" if "without" in name else name
        record.write_record(it, side, tmp_path)
    record.write_record(*make("mine-without-batch", [3 * each for each in drift], 0.899), tmp_path)
    text = waterfall(tmp_path / "s1", "mine")
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[:2] for line in cells] == [
        ["padding", "padding = 'max'"],
        ["batch", "mine-without-batch"],
    ], "the padding stands first"
    assert [line[2].partition(" ")[0] for line in cells] == ["4.00x", "3.00x"]
    assert cells[1][4].startswith("-0.0010 (p ")
    assert "8.00x of ref. Of that the reference's padding is 4.00x; 2.00x are left" in text
