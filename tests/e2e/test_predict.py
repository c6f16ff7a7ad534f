"""Predictions from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.usefixtures("data")
def test_twenty_predictions_at_once_all_answer(project: Path, tmp_path: Path) -> None:
    """Each in a sandbox of its own that is set up while nineteen others are."""
    command = [sys.executable, "-m", "harness", "predict", "null", "--task", "copa"]
    command += ["--split", "validation", "--configuration", "cpu-1", "--out"]
    running = [
        subprocess.Popen(
            [*command, str(tmp_path / f"{number}.jsonl")],
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 20, errors
    for number in range(20):
        lines = (tmp_path / f"{number}.jsonl").read_text().splitlines()
        assert [json.loads(line)["label"] for line in lines] == [0] * 8
