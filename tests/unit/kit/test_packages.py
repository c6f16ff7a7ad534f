"""Which packages a kit brings: what the other machine lacks, in versions that fit."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from harness.errors import SourceError
from harness.kit.packages import (
    ONLY_FOR_COMMANDS,
    Target,
    collect_wheels,
    download_wheel,
    find_requirements,
)
from harness.submissions.plan import make_plan
from harness.tasks.registry import get_task
from tests.support.systems import REPOSITORY, load_systems, quiet

INDEX = {
    "alpha": {"1.0": ["beta>=1"], "2.0": ["beta>=2", 'gamma; python_version < "3.12"']},
    "beta": {"1.0": [], "2.5": ["alpha", 'delta; extra == "fast"', 'torch>=2; extra == "slow"']},
    "gamma": {"1.0": []},
    "delta": {"1.0": ['epsilon; sys_platform == "win32"']},
}
"""What may be downloaded: the requirements of each version of a package."""


class Downloads:
    """Writes wheels of INDEX, and notes their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, specifier: SpecifierSet, target: Target, folder: Path) -> Path:
        version = max(version for version in INDEX[name] if specifier.contains(version))
        path = folder / f"{name}-{version}-py3-none-any.whl"
        lines = [f"Requires-Dist: {need}\n" for need in INDEX[name][version]]
        text = f"Name: {name}\nVersion: {version}\n{''.join(lines)}\nIt requires nothing else.\n"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}-{version}.dist-info/METADATA", text)
        self.names.append(f"{name} {version}")
        return path


def collect(folder: Path, *needs: str, **packages: str) -> list[str]:
    """Return the wheels for a machine with these packages."""
    target, downloads = Target("3.12", "x86_64", packages), Downloads()
    wheels = collect_wheels(map(Requirement, needs), target, folder, quiet, downloads)
    assert sorted(folder.iterdir()) == wheels
    return [" ".join(wheel.name.split("-")[:2]) for wheel in wheels]


def test_missing_packages_come_with_what_they_need(tmp_path: Path) -> None:
    assert collect(tmp_path, "alpha") == ["alpha 2.0", "beta 2.5"], "gamma is for older Pythons"


def test_packages_that_will_do_are_kept(tmp_path: Path) -> None:
    assert collect(tmp_path, "alpha", "beta", alpha="1.0", beta="1.0") == []


def test_package_of_a_version_that_is_not_known_will_do(tmp_path: Path) -> None:
    assert collect(tmp_path, "alpha>=2", alpha="") == []


def test_package_that_is_too_old_is_replaced_with_what_the_new_one_needs(tmp_path: Path) -> None:
    assert collect(tmp_path, "alpha>=2", alpha="1.0", beta="2.1") == ["alpha 2.0"]


def test_several_requirements_of_one_package_are_met_together(tmp_path: Path) -> None:
    assert collect(tmp_path, "beta<2", "alpha<2") == ["alpha 1.0", "beta 1.0"]
    for wheel in tmp_path.iterdir():
        wheel.unlink()
    assert collect(tmp_path, "alpha", "alpha<2") == ["alpha 1.0", "beta 2.5"]


def test_extras_are_followed(tmp_path: Path) -> None:
    assert collect(tmp_path, "beta[fast]", alpha="2.0") == ["beta 2.5", "delta 1.0"]


def test_pytorch_is_never_packed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"torch>=2 is needed, and the machine has 1.9"):
        collect(tmp_path, "beta[slow]", alpha="2.0", torch="1.9")


def test_list_of_packages_is_that_of_pip(tmp_path: Path) -> None:
    path = tmp_path / "packages.txt"
    path.write_text("# of the node\nTorch==2.11.0+cu130\nPy_Yaml==6.0\n\nmine @ file:///a\nrich\n")
    target = Target.read(path, "3.12", "x86_64")
    assert target.packages == {"torch": "2.11.0+cu130", "py-yaml": "6.0", "mine": "", "rich": ""}
    assert target.has(Requirement("torch>=2.9,<2.14"))
    assert not target.has(Requirement("torch>=2.12"))
    path.write_text("numpy 2.4.1\n")
    with pytest.raises(SourceError, match=r"line 1: 'numpy 2.4.1' is not NAME==VERSION"):
        Target.read(path, "3.12", "x86_64")
    with pytest.raises(SourceError, match="Name a file with the packages"):
        Target.read(tmp_path / "none.txt", "3.12", "x86_64")


def find_names(*systems: str, **packages: str) -> set[str]:
    plan = make_plan(load_systems(REPOSITORY, systems), [get_task("sentiment")])
    return {need.name for need in find_requirements(plan, Target("3.12", "x86_64", packages))}


@pytest.mark.usefixtures("cache_with_data")
def test_only_what_the_systems_need_is_required() -> None:
    pytorch = find_names("minilm-l6", "null")
    assert {"torch", "pydantic", "codecarbon", "typer"} <= pytorch
    assert not {"matplotlib", "jinja2", "onnxruntime", "scikit-learn", "openvino"} & pytorch
    assert "pytest" not in pytorch
    graph = find_names("onnx-int8")
    assert graph - pytorch == {"onnx", "onnxruntime"}
    assert "scikit-learn" in find_names("tfidf-logreg")
    assert "model2vec" in find_names("model2vec")
    on_gpu = find_names("onnx-int8", **{"onnxruntime-gpu": "1.30.0"})
    assert on_gpu - graph == {"onnxruntime-gpu"}


def test_energy_is_metered_without_what_only_commands_need() -> None:
    names = [name for names in ONLY_FOR_COMMANDS.values() for name in names]
    program = f"""
import sys
sys.modules.update(dict.fromkeys({names}))  # an import of one of them fails
from harness.telemetry import energy
assert energy.get_grams_co2_per_kwh("USA") > 0
assert energy.is_rapl_readable() in (True, False)
tracker = energy._build_tracker("USA")
tracker.start_task("a")
tracker.stop_task()
tracker.stop()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_wheel_that_cannot_be_downloaded_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SourceError, match=r"nothing>=1: no wheel for Python 3.12 on x86_64 could"):
        download_wheel("nothing", SpecifierSet(">=1"), Target("3.12", "x86_64"), tmp_path)
    assert list(tmp_path.iterdir()) == []
