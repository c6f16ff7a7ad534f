"""The model card of a standalone export: its README.md."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.leaderboard.board import load_board
from harness.leaderboard.column import Column
from harness.leaderboard.columns import find_columns
from harness.leaderboard.commands import rerun_command
from harness.leaderboard.formatting import (
    format_machine,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import find_caveats
from harness.optimize.base import Artifact
from harness.store.cache import folder_size
from harness.store.template import render_template
from harness.submissions.project import shorten_path
from harness.submissions.system import System
from harness.tasks.task import Task


def render_model_card(
    system: System, task: Task, artifact: Artifact, results: Path, requirements: Sequence[str]
) -> str:
    """Return the model card in Markdown.

    Args:
        system: the exported system.
        task: the task that it is exported for.
        artifact: the exported artifact.
        results: the results folder; the figures come from its records.
        requirements: the packages that the folder needs, as pip takes them.
    """
    by_section = _find_rows(system, task, results)
    rows = [row for _, row in by_section]
    columns = find_columns("card", rows)
    keys = {(row.record.artifact or {}).get("key") for row in rows}
    return render_template(
        "export/model_card.md.j2",
        system=system,
        task=task,
        artifact=artifact,
        steps=[_format_step(step) for step in artifact.metadata.recipe],
        requirements=requirements,
        megabytes=format_number(max(folder_size(artifact.folder) / 1e6, 0.01)),
        has_pairs=count_texts(task) > 1,
        has_tokenizer=(artifact.folder / "tokenizer.json").is_file(),
        table=format_table([_format_row(row, columns) for row in rows]) if rows else "",
        roles=rows[0].record.roles if rows else {},
        commands=list(dict.fromkeys(map(rerun_command, rows))),
        task_address=shlex.quote(shorten_path(task.path) if task.path else task.name),
        has_other_builds=bool(keys - {artifact.key}),
        caveats=dict.fromkeys(
            caveat for section, _ in by_section for caveat in find_caveats(section)
        ),
    )


def _find_rows(system: System, task: Task, results: Path) -> list[tuple[Section, Row]]:
    """Return the measured rows of the system on the task, each with its session's section."""
    sections, _ = load_board(results / "records")
    return [
        (part, row)
        for section in sections
        if section.task["name"] == task.name
        for part in section.split_sessions()
        for row in part.rows
        if row.name == system.name and row.measured and row in section.rows
    ]


def _format_row(row: Row, columns: Sequence[Column]) -> dict[str, str]:
    record = row.record
    line = {
        "scenario": format_scenario(record.scenario),
        "configuration, machine": f"{record.configuration['name']}, {format_machine(record)}",
    }
    return line | {column.heading(record): column.text(row) for column in columns}


def _format_step(step: dict[str, object]) -> str:
    params = [f"{key} = {value!r}" for key, value in step.items() if key not in ("use", "cost")]
    return f"`{step['use']}` {', '.join(params)}"


def count_texts(task: Task) -> int:
    """Return how many texts a candidate of the task has; 0 if its data is not here to tell."""
    return len(task.examples("validation")[0].candidates[0]) if task.available_locally() else 0
