"""The model card of a standalone export: its README.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.leaderboard.column import Column
from harness.leaderboard.columns import find_columns
from harness.leaderboard.formatting import (
    format_machine,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.row import Row, rerun_command
from harness.optimize.base import Artifact
from harness.store.cache import folder_size
from harness.submissions.system import System
from harness.tasks.task import Task

OTHER_BUILDS = (
    "Some of these figures are of another build of the same recipe; see the artifact keys in their "
    "records."
)
NOT_MEASURED = "Not measured yet. Run: `wattbench bench --system {name}`"

MODEL_CARD = """# {name}

{title}. Trained for `{task}` ({task_title}) with wattbench.
By {authors}; licence: {licence}. Training data: {source}, {data_licence}.

```
pip install -r requirements.txt
{example}
python predict.py < texts.txt     # one text per line, or JSON: see `python predict.py --help`
```

Requires {requirements}. Size: {megabytes} MB.
Labels: {labels}.{truncation}
The folder contains arrays, graphs, JSON and wattbench's own code: no pickles, no third-party code.

## Measurements

{measurements}

## Recipe

{steps}

Artifact `{key}`, training seed {seed}.

## Limitations

The model answers texts like those of {task}; its score on other texts is unknown. It has the biases
of its training data and of its encoder.
"""


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
    has_tokenizer = (artifact.folder / "tokenizer.json").is_file()
    truncation = f" Longer inputs are cut at {task.max_length} tokens." if has_tokenizer else ""
    example = 'python predict.py "a text"' + (' "and its pair"' if _has_pairs(task) else "")
    return MODEL_CARD.format(
        name=system.name,
        title=system.title,
        authors=", ".join(system.authors),
        licence=system.licence,
        task=task.name,
        task_title=task.title,
        source=task.source,
        data_licence=task.licence,
        example=example,
        requirements=", ".join(requirements),
        megabytes=format_number(max(folder_size(artifact.folder) / 1e6, 0.01)),
        labels=", ".join(task.labels),
        truncation=truncation,
        measurements=_format_measurements(system, task, artifact, results),
        steps=_format_steps(artifact),
        key=artifact.key,
        seed=artifact.metadata.seed,
    )


def _has_pairs(task: Task) -> bool:
    return task.available_locally() and len(task.examples("validation")[0].candidates[0]) > 1


def _format_measurements(system: System, task: Task, artifact: Artifact, results: Path) -> str:
    sections, _ = load_sections(results / "records", needs=[system.name])
    rows = [
        row
        for section in sections
        for row in section.rows
        if row.name == system.name and row.measured and row.record.task["name"] == task.name
    ]
    if not rows:
        return NOT_MEASURED.format(name=system.name)
    columns = find_columns("card", rows)
    table = format_table([_format_row(row, columns) for row in rows])
    roles = rows[0].record.roles
    references = f"`{roles['reference']}` (padded) and `{roles['unpadded_reference']}` (unpadded)"
    commands = ", ".join(dict.fromkeys(f"`{rerun_command(row)}`" for row in rows))
    notes = [
        f"Speed-ups are against {references}, with 95% confidence intervals. To measure it: "
        f"{commands}."
    ]
    if any((row.record.artifact or {}).get("key") != artifact.key for row in rows):
        notes.append(OTHER_BUILDS)
    return "\n\n".join([table, *notes])


def _format_row(row: Row, columns: Sequence[Column]) -> dict[str, str]:
    record = row.record
    line = {
        "scenario": format_scenario(record.scenario),
        "configuration, machine": f"{record.configuration['name']}, {format_machine(record)}",
    }
    return line | {column.heading(record): column.text(row) for column in columns}


def _format_steps(artifact: Artifact) -> str:
    steps = artifact.metadata.recipe
    if not steps:
        return "Nothing was trained."
    return "\n".join(
        f"{number}. {_format_step(step)}" for number, step in enumerate(steps, start=1)
    )


def _format_step(step: dict[str, Any]) -> str:
    params = [f"{key} = {value!r}" for key, value in step.items() if key not in ("use", "cost")]
    return f"`{step['use']}` {', '.join(params)}"
