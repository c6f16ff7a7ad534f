"""A new submission's folder, its faults, and how long it will build."""

import os
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.submissions.check import check, describe
from harness.submissions.manifest import read_system
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from tests.support.systems import example, measured


def test_check_says_all_faults_at_once(project: Path) -> None:
    folder = example(project)
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


CODE = {
    "def load(self): pass\n    def predict(self, examples): pass": "load is called with 4 ",
    "def load(self, *given): pass\n    def predict(self): pass": "predict is called with 1 ",
    "def predict(self, examples): pass": "0 classes have `load` and `predict`",
    "x = (": r"not Python",
}


@pytest.mark.parametrize("body", CODE)
def test_check_reads_the_module_and_does_not_run_it(project: Path, body: str) -> None:
    folder = example(project)
    (folder / "model.py").write_text(f"raise SystemExit\nclass Words:\n    {body}\n")
    _, (fault,) = check(folder, project)
    assert CODE[body] in fault
    assert "model.py" in fault


def test_check_looks_at_the_command(project: Path) -> None:
    folder = example(project, "own-command")
    assert check(folder, project)[1] == []
    (folder / "run.sh").write_text("echo no first line\n")
    assert "Let its first line name what runs it" in check(folder, project)[1][0]
    (folder / "run.sh").chmod(0o644)
    assert "chmod +x" in check(folder, project)[1][0]
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("./run.sh", "no-such-program"))
    assert "no-such-program is not on this machine" in check(folder, project)[1][0]


def test_time_to_build_is_estimated(project: Path) -> None:
    """What is not built yet, and more for more training."""
    folder = project / "submissions" / "distilled"
    system, faults = check(folder, project)
    assert system
    assert not faults
    lines = list(describe(system, project))
    assert lines[1].startswith("  sentiment: 2 steps to build, about ")
    assert lines[2] == "Next: wattbench bench --system distilled --task sentiment --rounds 2"
    from harness.submissions.build_time import build_seconds

    few = build_seconds(system, get_task("sentiment"), project)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 3", "epochs = 30"))
    many = build_seconds(read_system(folder, project), get_task("sentiment"), project)
    assert many > 1.2 * few > 0


def test_new_writes_what_check_accepts(
    project: Path,
    reviews: Task,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", 'Ada "A" Lovelace')
    for name, options in {
        "plain": [],
        "copied": ["--from", "fastformers"],
        "py": ["--python"],
        "sh": ["--command"],
    }.items():
        assert main(["new", name, *options]) == 0
        folder = project / "submissions" / name
        assert main(["check", str(folder)]) == 0
        system = read_system(folder, project)
        assert (system.title, system.authors) == (name, ("Ada A Lovelace",))
    copied = read_system(project / "submissions" / "copied", project)
    assert [step_config.step.name for step_config in copied.recipe][:2] == ["distill", "vocabulary"]
    assert os.access(project / "submissions" / "sh" / "run.sh", os.X_OK)
    capsys.readouterr()
    for name, options in (("plain", []), ("../x", []), ("other", ["--from", "fastformer"])):
        assert main(["new", name, *options]) == 2
    said = capsys.readouterr().err
    assert "'plain' exists already" in said
    assert "is no name for a system" in said
    assert "Did you mean 'fastformers'?" in said
    assert not [each for each in (project / "submissions").iterdir() if each.name[0] == "."]
    for name in ("py", "sh"):
        manifest = project / "submissions" / name / "submission.toml"
        manifest.write_text(manifest.read_text().replace('["sentiment"]', '["any"]'))
    found = measured(project, ("null", "py", "sh"), reviews)
    assert found["py"].failure is found["sh"].failure is None
    assert found["py"].score == found["sh"].score
    assert (found["py"].score or {})["value"] > 0.53
