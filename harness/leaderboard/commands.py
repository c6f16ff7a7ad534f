"""Commands that measure a row or a section again, or continue its session, to be copied to a shell.

Paths are as records have them: below the project they are relative to it.
"""

import shlex
from collections.abc import Mapping, Sequence

from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.results.record import Record
from harness.tasks.registry import all_suites, all_tasks

CUSTOM_TASK, MODEL = "PATH/task.toml", "MODEL"
"""Stand for the paths of a custom task and of a model, which records before schema 4 lack."""


def rerun_command(row: Row) -> str:
    """Return the command that builds and measures a row again, beside the references."""
    record, model = row.record, _name_model(row.record)
    parts = model or ["--suite", record.suite]
    if not model or not (_is_of_model(row) or row.name == record.roles["null"]):
        parts += ["--system", _name_system(row)]
    parts += ["--task", name_task(record), "--configuration", record.configuration["name"]]
    if record.scenario == "server":
        parts += ["--scenario", "server"]
    if row.seed is not None or row.seed_rows:
        parts += ["--seeds", str(len(row.seed_rows) or (row.seed or 0) + 1)]
    return shlex.join(["wattbench", "bench", *parts])


def resume_command(rows: Sequence[Row], *options: str) -> str:
    """Return the command that continues a session.

    Args:
        rows: a section of the session.
        options: how far, e.g. `--rounds` and `10`.
    """
    record = rows[0].record
    parts = ["wattbench", "run", "--resume", record.session, *options]
    if not record.inputs:
        parts += ["--model", MODEL] * any(map(_is_of_model, rows))
        parts += ["--task", CUSTOM_TASK] * (name_task(record) == CUSTOM_TASK)
    return shlex.join(parts)


def write_session_command(section: Section, has_server: bool) -> str:
    """Return the command that measures a section again."""
    rows = {row.name: row for row in section.system_rows}
    record = section.rows[0].record
    suite = all_suites().get(record.suite)
    reference = rows.get(section.roles["reference"])
    model = _name_model(reference.record) if reference else []
    parts = model or ["--suite", record.suite]
    if model or suite is None or list(suite.tasks) != [record.task["name"]]:
        parts += ["--task", name_task(record)]
    parts += ["--configuration", record.configuration["name"]]
    if model or any("system" in row.record.inputs for row in rows.values()):
        parts += _name_systems(rows, section, bool(model))
    elif suite is None or rows.keys() - {*suite.systems, *section.roles.values()}:
        if suite and set(suite.systems) <= rows.keys():
            parts.append("--all")
        else:
            parts += _name_systems(rows, section)
    if has_server:
        parts += ["--scenario", "server"]
    if seeds := max(len(row.seed_rows) for row in section.rows):
        parts += ["--seeds", str(seeds)]
    return shlex.join(["wattbench", "bench", *parts])


def _name_systems(rows: Mapping[str, Row], section: Section, has_model: bool = False) -> list[str]:
    """Return --system for the systems of a section, except those that every session has."""
    roles = section.roles.values() if not has_model else (section.roles["null"],)
    parts = []
    for name, row in rows.items():
        if name not in roles and not (has_model and _is_of_model(row)):
            parts += ["--system", _name_system(row)]
    return parts


def name_task(record: Record) -> str:
    """Return what `--task` takes."""
    name = str(record.task["name"])
    return record.inputs.get("task") or (name if name in all_tasks() else CUSTOM_TASK)


def _name_system(row: Row) -> str:
    """Return what `--system` takes."""
    return row.record.inputs.get("system", row.base_name)


def _name_model(record: Record) -> list[str]:
    """Return --model and --name of a session whose references are a user's model, else nothing."""
    model, name = record.inputs.get("model"), record.inputs.get("name")
    if not record.inputs and str(record.system["folder"]).startswith("models/"):
        model = MODEL
    return ["--model", model, *(["--name", name] if name else [])] if model else []


def _is_of_model(row: Row) -> bool:
    """Return whether the system is one that --model declares."""
    return str(row.record.system["folder"]).startswith("models/")
