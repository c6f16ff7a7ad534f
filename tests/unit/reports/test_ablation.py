import tomllib
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.reports.ablation import render_ablation
from harness.results.record import write_record
from harness.submissions.ablation import create_variants
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.system import System
from tests.support.figures import table_rows
from tests.support.records import make_record
from tests.support.systems import write_submission


def load_system(project: Path, name: str) -> System:
    return read_system(find_systems(project)[name], project)


def variants_by_choice(system: System, project: Path, retrain: bool = False) -> dict[str, System]:
    systems = create_variants(system, project, retrain)
    return {variant.name.partition("-without-")[2]: variant for variant in systems}


def titles(project: Path, name: str, retrain: bool = False) -> dict[str, str]:
    by_choice = variants_by_choice(load_system(project, name), project, retrain)
    return {choice: variant.title for choice, variant in by_choice.items()}


def test_each_choice_is_left_out_once(project: Path) -> None:
    assert titles(project, "closed-int8") == {
        "padding": "padding = 'max'",
        "instances": "instances = 1",
        "export": "no export and quantize, in pytorch",
        "export-optimize": "export: optimize = false",
        "export-first-only": "export: first_only = false",
        "quantize": "no quantize",
    }


def test_variant_differs_only_in_its_choice(project: Path) -> None:
    whole = load_system(project, "closed-int8")
    by_choice = variants_by_choice(whole, project)
    assert by_choice["padding"].serve["offline"].padding == "max"
    assert by_choice["padding"].serve["offline"].instances == "per-core"
    assert by_choice["padding"].recipe == whole.recipe
    assert by_choice["instances"].serve["offline"].instances == 1
    assert by_choice["instances"].serve["offline"].padding == "longest"
    assert [step_config.step.name for step_config in by_choice["quantize"].recipe] == ["export"]
    assert by_choice["quantize"].serve == whole.serve
    assert by_choice["export"].recipe == ()
    assert by_choice["export"].serve["offline"].engine == "pytorch"
    assert not by_choice["export-optimize"].recipe[0].params.optimize
    assert by_choice["export-optimize"].recipe[1:] == whole.recipe[1:]


def test_trained_steps_are_left_out_only_with_retrain(project: Path) -> None:
    without_training = titles(project, "fastformers")
    assert not {"distill-1", "vocabulary", "prune", "distill-4"} & set(without_training)
    retrained = titles(project, "fastformers", retrain=True)
    assert {"distill-1", "vocabulary", "prune", "distill-4"} <= set(retrained)
    assert set(without_training) <= set(retrained)


def test_variant_has_the_files_of_the_submission_folder(project: Path) -> None:
    folder = write_submission(project, '[[step]]\nuse = "export"', 'engine = "onnxruntime"')
    (folder / "task.toml").write_text("")
    for variant in create_variants(load_system(project, "mine"), project):
        assert (variant.folder / "task.toml").is_file()
        assert tomllib.loads(variant.manifest.read_text())["title"] == variant.title


def test_system_without_choices_to_leave_out_is_rejected(project: Path) -> None:
    with pytest.raises(HarnessError, match="nothing can be left out without training"):
        create_variants(load_system(project, "minilm-l6"), project)


def test_contribution_is_a_ratio_within_blocks(tmp_path: Path) -> None:
    drift = [1.0, 2.0, 1.5]
    for name, factor in {"ref": 8, "unpadded": 2, "mine": 1, "mine-without-padding": 4}.items():
        record, side = make_record(name, [factor * seconds for seconds in drift], 0.9)
        record.system["title"] = "padding = 'max'" if "without" in name else name
        write_record(record, side, tmp_path)
    write_record(
        *make_record("mine-without-batch", [3 * seconds for seconds in drift], 0.899), tmp_path
    )
    text = render_ablation(tmp_path / "s1", "mine")
    rows = table_rows(text)
    assert [row[:2] for row in rows] == [
        ["padding", "padding = 'max'"],
        ["batch", "mine-without-batch"],
    ], "padding is listed first"
    assert [row[2].partition(" ")[0] for row in rows] == ["4.00x", "3.00x"]
    assert rows[1][4].startswith("-0.0010 (p ")
    assert "a speed-up of 8.00x over ref: 4.00x by not padding, and 2.00x over unpadded." in text
