"""The result of a search: the chosen system as an ordinary folder, with a table and a picture."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from harness.leaderboard.formatting import compact_table, format_number, format_table
from harness.leaderboard.plots import draw_frontier
from harness.schema import read_toml
from harness.search.found import Limits, find_frontier, split_details
from harness.search.request import Outcome, SearchRequest
from harness.store.cache import create_output_folder
from harness.store.template import render_template
from harness.submissions.project import shorten_path
from harness.submissions.relocate import relocate
from harness.telemetry.machine import build_fingerprint

MAX_SHARE_ERROR = 0.1
"""Largest standard error of the share of the gain with which a result counts as certain."""


def write_system(request: SearchRequest, outcome: Outcome, out: Path) -> None:
    """Write the chosen system's folder, completely or not at all.

    The systems that it is made of, and a teacher that is no system of the project, lie in folders
    inside of it.

    Args:
        request: what was to be found.
        outcome: what was found.
        out: the folder; it must not exist.
    """
    with create_output_folder(out) as folder:
        _copy_manifest(request, outcome.chosen, folder, out)
        (folder / "frontier.svg").write_text(_draw(request, outcome), encoding="utf-8")
        (folder / "README.md").write_text(_render(request, outcome, out), encoding="utf-8")


def summarize(request: SearchRequest, outcome: Outcome) -> str:
    """Return the result in one sentence, and in a second one that it is uncertain if it is."""
    chosen = outcome.found.systems[outcome.chosen]
    before, after = outcome.teacher_p50_ms, outcome.teacher_p50_ms / chosen.speed.single_stream
    error = chosen.score.retained - chosen.score.retained_low
    sentence = (
        f"Keeps {chosen.score.retained:.0%} of the gain of {request.teacher_title} at "
        f"{format_number(chosen.speed.offline)}x; {format_number(after)} ms instead of "
        f"{format_number(before)}, {format_number(chosen.speed.size_mb)} MB."
    )
    if error <= MAX_SHARE_ERROR:
        return sentence
    return (
        f"{sentence} This cannot promise much: on {len(request.task.examples('selection'))} "
        f"examples the standard error of that share is {error:.0%}."
    )


def describe_shortfall(request: SearchRequest, outcome: Outcome) -> str:
    """Return that the chosen system keeps too little, and what helps; '' if it keeps enough."""
    score = outcome.found.systems[outcome.chosen].score
    if score.keeps_enough:
        return ""
    return (
        f"nothing keeps {request.limits.keep:.0%} of the gain with one standard error to spare; "
        f"what keeps most was written (score {score.value:.4f} ± {score.se:.4f} on "
        f"{len(request.task.examples('selection'))} examples). Give a smaller --keep, more "
        "examples to select on, or a larger --budget: move the folder away, and go on with "
        "--resume."
    )


def list_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the table of all systems, the fastest first."""
    systems = sorted(outcome.found.systems.values(), key=lambda found: -found.speed.offline)
    frontier = {found.name for found in find_frontier(systems)}
    columns, _ = split_details(systems)
    return [
        {
            "system": found.name + " *" * (found.name in frontier),
            "kind": found.kind,
            **{column: found.details.get(column, "") for column in columns},
            "speed-up": f"{format_number(found.speed.offline)}x",
            "p50 ms": format_number(outcome.teacher_p50_ms / found.speed.single_stream),
            "MB": format_number(found.speed.size_mb),
            "memory MB": f"{found.speed.memory_mb:.0f}",
            "score": f"{found.score.value:.4f} ± {found.score.se:.4f}",
            "keeps": f"{found.score.retained:.1%}",
            "less 1 SE": f"{found.score.retained_low:.1%}",
            "s": f"{found.seconds:.0f}",
        }
        for found in systems
    ]


def list_commands(request: SearchRequest, out: Path) -> list[str]:
    """Return the commands that measure and export the chosen system."""
    task = request.task
    address = shorten_path(task.path) if task.path else task.name
    system = shorten_path(out)
    measure = "wattbench bench"
    if _is_path(request.teacher_name):
        measure = f"wattbench run --model {shorten_path(request.teacher.encoder)}"
    return [
        f"{measure} --system {system} --task {address}",
        f"wattbench export {system} {system}-export --task {address}",
    ]


def _render(request: SearchRequest, outcome: Outcome, out: Path) -> str:
    limits, chosen = request.limits, outcome.found.systems[outcome.chosen]
    machine = build_fingerprint(request.isolation)
    return render_template(
        "search/README.md.j2",
        name=out.name,
        date=datetime.now(UTC).date().isoformat(),
        summary=summarize(request, outcome),
        task=request.task,
        count=len(outcome.found.systems) - 1,
        limits=limits,
        limit_lines=list(_describe_limits(limits, outcome)),
        examples=len(request.task.examples("selection")),
        machine=f"{machine['cpu']}, {request.configuration.name}",
        commands=list_commands(request, out),
        keeps_enough=chosen.score.keeps_enough,
        teacher=request.teacher_title,
        is_model=_is_path(request.teacher_name),
        common=split_details([*outcome.found.systems.values()])[1],
        table=compact_table(format_table(list_rows(outcome))),
        teacher_rate=format_number(outcome.teacher_rate),
        teacher_p50_ms=format_number(outcome.teacher_p50_ms),
        not_tried=outcome.not_tried,
    )


def _describe_limits(limits: Limits, outcome: Outcome) -> list[str]:
    lines = [
        f"{label} at most {value:g} {unit}"
        for label, value, unit in (
            ("p50", limits.p50_ms, "ms"),
            ("memory", limits.memory_mb, "MB"),
            ("size", limits.size_mb, "MB"),
        )
        if value is not None
    ]
    if limits.p99_ms is not None:
        lines.append(f"p99 at most {limits.p99_ms:g} ms (it is {outcome.p99_ms:.3g})")
    return lines


def _draw(request: SearchRequest, outcome: Outcome) -> str:
    systems = outcome.found.systems
    points = {
        found.name: (found.kind, found.speed.offline, found.score.value, found.score.se)
        for found in systems.values()
    }
    named = {found.name for found in find_frontier(systems.values())} | {outcome.chosen}
    return draw_frontier(
        points,
        named,
        f"speed-up over {request.teacher_title} on {request.task.name}, offline",
        "score on the selection slice",
    )


def _copy_manifest(request: SearchRequest, name: str, folder: Path, final: Path) -> None:
    """Copy a manifest of the workspace, and those that it names by a path.

    Args:
        request: holds the workspace.
        name: of the system.
        folder: where to write it.
        final: where the folder will be.
    """
    folder.mkdir(exist_ok=True)
    source = request.get_folder(name)
    manifest = read_toml(source / "submission.toml")
    model: dict[str, Any] = manifest["model"]
    teacher, members = model.get("teacher", ""), model.get("members", [])
    for other in filter(_is_path, [teacher, *members]):
        inner = Path(other).name
        _copy_manifest(request, inner, folder / inner, final / inner)
    manifest = relocate(manifest, source, final)
    if _is_path(teacher):
        manifest["model"]["teacher"] = f"./{Path(teacher).name}"
    if members:
        manifest["model"]["members"] = [f"./{Path(member).name}" for member in members]
    (folder / "submission.toml").write_text(tomli_w.dumps(manifest), encoding="utf-8")


def _is_path(name: str) -> bool:
    return "/" in name
