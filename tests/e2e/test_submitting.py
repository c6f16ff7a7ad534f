"""The tutorial, as it is written; and the jobs that look at what is handed in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.results import record
from tests.support.systems import REPOSITORY

TUTORIAL = REPOSITORY / "docs" / "guides" / "add-a-submission.md"
WORKFLOWS = REPOSITORY / ".github" / "workflows"


@pytest.mark.slow
def test_tutorial_works_as_written(project: Path) -> None:
    blocks = re.findall(r"(?ms)^```console\n(.*?)^```$", TUTORIAL.read_text())
    assert len(blocks) == 4
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = []
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert "submissions/my-idea: OK. Division open; no steps." in said[0]
    assert "| my-idea" in (project / "results" / "README.md").read_text().replace("[", "")
    paths = sorted((project / "results" / "records").glob("*/sentiment/offline/my-idea.json"))
    first, better = ((record.read_record(path).score or {})["value"] for path in paths)
    assert 0.5 < first < 0.6
    assert better > 0.75
    assert "FAIL" not in said[3]
    assert said[3].count("pass") == 8


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def proposal(tmp_path: Path) -> tuple[Path, Path, str]:
    """A checkout of the base branch, one of a pull request, and the base's commit."""
    base, proposed = tmp_path / "base", tmp_path / "proposed"
    (base / "submissions" / "old").mkdir(parents=True)
    (base / "submissions" / "old" / "submission.toml").write_text("old")
    (base / "harness.py").write_text("ours")
    shutil.copy(REPOSITORY / ".github" / "take_submissions.sh", base / "take.sh")
    git(base, "init", "-q")
    git(base, "add", "-A")
    git(base, "commit", "-qm", "base")
    git(tmp_path, "clone", "-q", str(base), str(proposed))
    return base, proposed, git(base, "rev-parse", "HEAD")


def take(proposal: tuple[Path, Path, str]) -> subprocess.CompletedProcess[str]:
    base, proposed, commit = proposal
    git(proposed, "add", "-A")
    git(proposed, "commit", "-qm", "proposed", "--allow-empty")
    command = ["bash", "take.sh", str(proposed), commit]
    return subprocess.run(command, cwd=base, capture_output=True, text=True)


def test_only_proposed_submissions_are_taken(proposal: tuple[Path, Path, str]) -> None:
    base, proposed, _ = proposal
    (proposed / "submissions" / "new idea").mkdir()
    for name in ("mine", "old"):
        (proposed / "submissions" / name).mkdir(exist_ok=True)
        (proposed / "submissions" / name / "submission.toml").write_text("new")
    (proposed / "harness.py").write_text("theirs")
    (proposed / "take.sh").write_text("echo names=evil")
    done = take(proposal)
    assert done.stdout == "names=mine old\n"
    assert (base / "submissions" / "old" / "submission.toml").read_text() == "new"
    assert (base / "harness.py").read_text() == "ours"


def test_links_and_odd_names_are_refused(proposal: tuple[Path, Path, str]) -> None:
    base, proposed, _ = proposal
    (proposed / "submissions" / "mine").mkdir()
    (proposed / "submissions" / "mine" / "labels").symlink_to("/etc/passwd")
    done = take(proposal)
    assert (done.returncode, "holds a link" in done.stderr) == (1, True)
    assert not (base / "submissions" / "mine").exists()
    shutil.rmtree(proposed / "submissions" / "mine")
    odd = proposed / "submissions" / "$(touch x)"
    odd.mkdir()
    (odd / "submission.toml").write_text("x")
    done = take(proposal)
    assert (done.returncode, "not a plain name" in done.stderr) == (1, True)
    assert not (base / "x").exists()


def test_nothing_is_taken_where_nothing_is_proposed(proposal: tuple[Path, Path, str]) -> None:
    assert take(proposal).stdout == "names=\n"


def test_jobs_need_no_secret_and_may_only_read() -> None:
    for path in WORKFLOWS.glob("*.yml"):
        text = path.read_text()
        declared = yaml.safe_load(text)
        assert declared["permissions"] == {"contents": "read"}
        assert "secrets." not in text
        assert "pull_request_target" not in text
        assert text.count("actions/checkout") == text.count("persist-credentials: false")
        for job in declared["jobs"].values():
            assert job["timeout-minutes"] <= 120
            for step in job["steps"]:  # what others name reaches a shell as a variable alone
                assert "${{" not in step.get("run", "")


def test_proposed_code_runs_in_the_sandbox_on_the_base_branchs_harness() -> None:
    text = (WORKFLOWS / "submission.yml").read_text()
    (job,) = yaml.safe_load(text)["jobs"].values()
    ours, theirs = (step["with"] for step in job["steps"] if "checkout" in step.get("uses", ""))
    assert ours["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert theirs["path"] == ".proposed"
    (measures,) = (step["run"] for step in job["steps"] if "wattbench bench" in step.get("run", ""))
    assert "--isolation sandbox" in measures
    assert "--rounds 1" in measures
    assert "--suite quick" in measures
