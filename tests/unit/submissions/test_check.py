from pathlib import Path

import pytest

from harness.submissions.check import check, describe
from harness.submissions.manifest import read_system
from tests.support.systems import copy_example


def test_all_faults_of_a_folder_are_reported_at_once(project: Path) -> None:
    folder = copy_example(project)
    manifest = folder / "submission.toml"
    manifest.write_text(
        manifest.read_text().replace("authors = [", "authors = [] #").replace("licence", "#")
    )
    (folder / "README.md").write_text("\n")
    (folder / "old.pkl").write_bytes(b"x")
    (folder / "secrets").symlink_to("/etc/passwd")
    system, faults = check(folder, project)
    assert system is None
    text = "\n".join(faults)
    for part in ("authors is missing", "licence is missing", "README.md: missing or empty"):
        assert part in text
    assert "old.pkl may hold a pickle" in text
    assert "secrets is a link that leads out of the folder" in text
    assert len(faults) == 5


MODULE_FAULTS = {
    "def load(self): pass\n    def predict(self, examples): pass": "load is called with 4 arg",
    "def load(self, *rest): pass\n    def predict(self): pass": "predict is called with 1 arg",
    "def predict(self, examples): pass": "0 classes have `load` and `predict`",
    "x = (": "not Python",
}


@pytest.mark.parametrize("body", MODULE_FAULTS)
def test_module_is_parsed_but_not_run(project: Path, body: str) -> None:
    folder = copy_example(project)
    (folder / "model.py").write_text(f"raise SystemExit\nclass Words:\n    {body}\n")
    _, (fault,) = check(folder, project)
    assert MODULE_FAULTS[body] in fault
    assert "model.py" in fault


def test_command_must_be_executable(project: Path) -> None:
    folder = copy_example(project, "custom-command")
    assert check(folder, project)[1] == []
    (folder / "run.sh").write_text("echo no first line\n")
    assert "Start the file with a line like #!/bin/sh" in check(folder, project)[1][0]
    (folder / "run.sh").chmod(0o644)
    assert "chmod +x" in check(folder, project)[1][0]
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("./run.sh", "no-such-program"))
    assert "no-such-program is not installed on this machine" in check(folder, project)[1][0]


def test_description_has_build_time_and_next_command(project: Path) -> None:
    folder = project / "submissions" / "distilled"
    assert check(folder, project)[1] == []
    lines = list(describe(read_system(folder, project), project))
    assert lines[0].startswith(f"{folder}: OK. Division open; distill")
    assert lines[1].startswith("  sentiment: 2 steps to build, about ")
    assert lines[2] == "Next: wattbench bench --system distilled --task sentiment --rounds 2"
