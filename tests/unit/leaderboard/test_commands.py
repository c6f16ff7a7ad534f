"""Commands that measure again, as a user copies them from a table."""

import shlex
from pathlib import Path

import pytest

from harness.leaderboard.commands import rerun_command, resume_command, write_session_command
from harness.leaderboard.ranking import Section, load_sections
from harness.results.record import write_record
from harness.results.record_parts import InputsPart
from tests.support.commands import parse_command
from tests.support.records import make_record

ROLES = {"reference": "bert", "unpadded_reference": "bert-unpadded", "null": "null"}
INPUTS: InputsPart = {"task": "./o'brien's data/task.toml", "model": "./my models/bert"}


def load_section(folder: Path, inputs: InputsPart, **systems: str) -> Section:
    """Return a section of these systems and their folders."""
    for name, system_folder in systems.items():
        record, side = make_record(name, [1.0], 0.9, roles=ROLES, task="tickets")
        record.system["folder"], record.inputs = system_folder, inputs
        write_record(record, side, folder / "records")
    ((section,), _) = load_sections(folder / "records")
    return section


SYSTEMS = {
    "bert": "models/bert",
    "bert-int8": "models/bert-int8",
    "null": "baselines/null",
    "fast": "submissions/fast",
}


def parse(command: str) -> dict[str, object]:
    program, *arguments = shlex.split(command)
    assert program == "wattbench"
    name, values = parse_command(arguments)
    return {"command": name} | values


@pytest.mark.parametrize("name", SYSTEMS)
def test_command_of_a_row_names_the_model_and_the_tasks_file(tmp_path: Path, name: str) -> None:
    section = load_section(tmp_path, INPUTS, **SYSTEMS)
    (row,) = (row for row in section.rows if row.name == name)
    values = parse(rerun_command(row))
    assert values["command"] == "bench"
    assert values["model"] == "./my models/bert"
    assert values["tasks"] == ["./o'brien's data/task.toml"]
    assert values["systems"] == (["fast"] if name == "fast" else [])


def test_command_of_a_session_has_the_systems_beside_the_models(tmp_path: Path) -> None:
    section = load_section(tmp_path, INPUTS | {"name": "mine"}, **SYSTEMS)
    values = parse(write_session_command(section, has_server=True))
    assert (values["model"], values["model_name"]) == ("./my models/bert", "mine")
    assert (values["systems"], values["scenario"]) == (["fast"], "server")


def test_command_that_resumes_needs_no_path(tmp_path: Path) -> None:
    rows = load_section(tmp_path / "new", INPUTS, **SYSTEMS).rows
    assert resume_command(rows, "--until", "5%") == "wattbench run --resume s1 --until 5%"
    rows = load_section(tmp_path / "old", {}, **SYSTEMS).rows
    assert resume_command(rows).endswith("--resume s1 --model MODEL --task PATH/task.toml")


def test_system_outside_of_the_project_is_named_by_its_folder(tmp_path: Path) -> None:
    inputs: InputsPart = {"task": "rte", "system": "./my ideas/fast"}
    section = load_section(tmp_path, inputs, fast="my ideas/fast", null="baselines/null")
    assert parse(rerun_command(section.rows[0]))["systems"] == ["./my ideas/fast"]
    assert parse(write_session_command(section, has_server=False))["systems"] == ["./my ideas/fast"]


def test_records_without_paths_have_placeholders(tmp_path: Path) -> None:
    section = load_section(tmp_path, {}, **SYSTEMS)
    for row in section.rows:
        assert ("--model MODEL" in rerun_command(row)) == row.name.startswith("bert")
        assert "--task PATH/task.toml" in rerun_command(row)
