"""Reproduction of a published table: its rows side by side with those of the leaderboard."""

import math
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.errors import HarnessError, suggest_name
from harness.leaderboard.columns import get_column
from harness.leaderboard.formatting import (
    describe_ratio,
    escape_cell,
    format_interval,
    format_number,
    format_table,
)
from harness.leaderboard.plots import FrontierPoint, draw_frontier
from harness.leaderboard.ranking import Section, compute_speedup
from harness.leaderboard.row import Row
from harness.leaderboard.section import below_floor_note
from harness.leaderboard.template import render_template
from harness.leaderboard.warnings import find_caveats
from harness.schema import Faults, Number, Schema, Text, read_toml
from harness.submissions.project import get_published_folder

RUNTIMES = ("torch", "onnxruntime", "onnxruntime-gpu")


class Setup(Schema):
    """How a publication measured; what is '' plays no part there."""

    machine: str
    cores: str = ""
    reference: str
    student: str
    batch: str = ""
    runtime: str
    timer: str


class PublishedRow(Schema):
    """A row of a published table.

    Attributes:
        name: as published.
        system: the corresponding system of each suite, by the name of the suite.
        speedup: over the first row.
        up_to: whether that is the highest one of several settings.
        accuracy: in percent; None if it is not published.
        seconds: for the whole set; None if they are not published.
        usd_per_100m: USD for 100 million requests; None if they are not published.
    """

    name: Text
    system: dict[str, Text] = Field(default_factory=dict)
    speedup: Number = Field(gt=0)
    up_to: bool = False
    accuracy: Number | None = Field(None, ge=0, le=100)
    seconds: Number | None = Field(None, gt=0)
    usd_per_100m: Number | None = Field(None, ge=0)

    @property
    def speedup_text(self) -> str:
        """The speed-up as a table shows it."""
        return f"{'up to ' * self.up_to}{self.speedup:.{1 if self.up_to else 2}f}x"


class Head(Schema):
    """The keys at the top of a published table.

    Attributes:
        title: the title of the table.
        source: the publication.
        task: the task of the published figures.
        suite: the suite whose systems are set beside them by default.
        examples: the number of examples of the task's set.
        constant: the accuracy of the best constant answer on it, in percent; None if no accuracy is
            published.
    """

    title: Text
    source: Text
    task: Text
    suite: Text
    examples: int = Field(0, ge=0)
    constant: Number | None = Field(None, ge=0, le=100)


class PublishedTable(Head):
    """A file of `baselines/published`.

    Attributes:
        setup: how the publication measured.
        row: the rows.
    """

    setup: Setup
    row: tuple[PublishedRow, ...]

    @property
    def systems(self) -> list[str]:
        """The corresponding systems of the suite, in the order of the rows."""
        return [row.system[self.suite] for row in self.row if self.suite in row.system]

    @staticmethod
    def read(root: Path, name: str, suite: str = "") -> "PublishedTable":
        """Read a published table of the project.

        Args:
            root: the project.
            name: the name of the table, e.g. `fastformers-table3`.
            suite: the suite whose systems correspond to the rows (default: that of the table).

        Raises:
            HarnessError: there is no such table, it names no systems of the suite, or the file is
                invalid.
        """
        folder = get_published_folder(root)
        known = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("*.toml"))}
        if name not in known:
            raise HarnessError(
                f"published table {name!r} does not exist in {folder}. {suggest_name(name, known)}"
            )
        data, faults = read_toml(known[name]), Faults(known[name])
        keys = {key: value for key, value in data.items() if key not in ("setup", "row")}
        head = faults.check(Head, keys, also=("setup", "row"))
        setup = faults.check(Setup, faults.get_table(data, "setup"), "[setup] ")
        rows = [
            faults.check(PublishedRow, row, f"row {number}: ")
            for number, row in enumerate(data.get("row", []), start=1)
        ]
        faults.raise_any()
        assert head is not None
        chosen = suite or head.suite
        suites = dict.fromkeys(key for row in rows if row for key in row.system)
        if chosen not in suites:
            raise HarnessError(
                f"{known[name]}: names no systems of a suite {chosen!r}. "
                f"{suggest_name(chosen, suites)}"
            )
        return PublishedTable.model_validate(
            {**dict(head), "suite": chosen, "setup": setup, "row": tuple(rows)}
        )

    def compute_retained(self, row: PublishedRow) -> float | None:
        """Return the published share of the first row's gain over the constant answer."""
        first = self.row[0].accuracy
        if row.accuracy is None or first is None or self.constant is None:
            return None
        return (row.accuracy - self.constant) / (first - self.constant)


def render_reproduction(
    sections: Sequence[Section], published: PublishedTable, task: str, pictures: Sequence[str] = ()
) -> str:
    """Return Markdown for each machine and configuration that has all systems of the table.

    Args:
        sections: the sections of the board.
        published: the published table.
        task: the task to compare, not necessarily that of the publication.
        pictures: the file of the picture of each part, or ''.

    Returns:
        The Markdown; '' if no section has all systems.
    """
    complete = find_complete(sections, published, task)
    if not complete:
        return ""
    return render_template(
        "reports/reproduction.md.j2",
        published=published,
        task=task,
        parts=[
            _compare_section(section, published) | {"picture": picture}
            for section, picture in zip(complete, pictures or repeat(""), strict=False)
        ],
    )


def find_complete(
    sections: Sequence[Section], published: PublishedTable, task: str
) -> list[Section]:
    """Return the sections that have all systems of a published table."""
    systems = set(published.systems)
    return [
        section
        for section in sections
        if section.scenario == "offline"
        and section.task["name"] == task
        and systems <= section.measured_rows.keys()
    ]


def draw_reproductions(
    sections: Sequence[Section], published: PublishedTable, task: str
) -> list[str]:
    """Return an SVG for each part of `render_reproduction`.

    It shows the retained gain against the speed-up over the first row: the published rows, and all
    systems that were measured beside those of the table. It is '' if no accuracy is published, or
    if the first row has no gain here.
    """
    return [
        _draw_section(section, published) for section in find_complete(sections, published, task)
    ]


def _draw_section(section: Section, published: PublishedTable) -> str:
    first, theirs = section.measured_rows[published.systems[0]], _locate_published(published)
    if not theirs or _compute_gain(first) <= 0:
        return ""
    ours: dict[str, FrontierPoint] = {}
    for row in _get_shown_rows(section):
        speedup = compute_speedup(first, row)
        if speedup is None:
            continue
        kind = "operating points" if row.point else "other systems"
        kind = "wattbench's ladder" if row.name in published.systems else kind
        error = 100 * _get_score(row)["se"] / _compute_gain(first)
        retained = 100 * _compute_gain(row) / _compute_gain(first)
        ours[row.name] = kind, speedup.value, retained, error
    named = [row.name for row in section.rows if row.name in ours and row.is_main]
    return draw_frontier(
        theirs | ours,
        [*theirs, *named],
        f"speed-up over the first row, offline, {section.configuration['name']}",
        "retained gain in %",
        [list(theirs), list(ours)],
    )


def _get_shown_rows(section: Section) -> list[Row]:
    """Return the rows of systems and operating points that were measured, without controls."""
    return [row for row in section.rows if row.measured and not row.is_control and row.seed is None]


def _locate_published(published: PublishedTable) -> dict[str, FrontierPoint]:
    """Return where the published rows with an accuracy are in the plot, by name."""
    first, constant = published.row[0].accuracy, published.constant
    points: dict[str, FrontierPoint] = {}
    for row in published.row:
        retained = published.compute_retained(row)
        if row.accuracy is None or retained is None or first is None or constant is None:
            continue
        share = row.accuracy / 100
        error = math.sqrt(share * (1 - share) / published.examples) if published.examples else 0.0
        scale = 100 * 100 / (first - constant)
        points[row.name] = published.title, row.speedup, 100 * retained, error * scale
    return points


def _compare_section(section: Section, published: PublishedTable) -> dict[str, object]:
    """Return what the template shows of a section."""
    rows = {row.name: row for row in section.rows}
    first, last = (rows[published.systems[index]] for index in (0, -1))
    unpadded = _find_unpadded(section, published)
    lines = []
    for published_row in published.row:
        line = _format_published_figures(published, published_row, unpadded)
        if row := rows.get(published_row.system.get(published.suite, "")):
            own = _format_own_figures(section, row, first)
            line |= {f"wattbench {key}".removesuffix(" system"): own[key] for key in own}
        lines.append(line)
    others = [
        _format_own_figures(section, row, first)
        for row in sorted(
            _get_shown_rows(section), key=lambda row: row.full_set_cost()[0], reverse=True
        )
        if row.name not in published.systems
    ]
    headings = dict.fromkeys(heading for line in lines for heading in line)
    lines = [{heading: line.get(heading, "-") for heading in headings} for line in lines]
    setup = [
        {"": key, "published": getattr(published.setup, key), "wattbench": value}
        for key, value in _describe_setup(section, rows, published).items()
        if getattr(published.setup, key)
    ]
    unpadded_row = rows.get(section.roles["unpadded_reference"])
    return {
        "section": section,
        "table": format_table(lines),
        "others": format_table(others),
        "setup": format_table(setup),
        "published_row": published.row[-1],
        "published_padding": unpadded.speedup if unpadded else None,
        "speedup": describe_ratio(last.speedup),
        "padding": describe_ratio(compute_speedup(first, unpadded_row) if unpadded_row else None),
        "rest": describe_ratio(last.unpadded_speedup),
        "caveats": find_caveats(section),
    }


def _find_unpadded(section: Section, published: PublishedTable) -> PublishedRow | None:
    """Return the published row of the unpadded reference; None if there is none."""
    name = section.roles["unpadded_reference"]
    return next((row for row in published.row if row.system.get(published.suite) == name), None)


def _format_published_figures(
    published: PublishedTable, row: PublishedRow, unpadded: PublishedRow | None
) -> dict[str, str]:
    """Return what is published of a row, by heading."""
    line = {"published": row.name}
    if row.seconds is not None:
        line["s"] = format_number(row.seconds)
    line["speed-up"] = row.speedup_text
    if unpadded:
        line["unpadded"] = f"{row.speedup / unpadded.speedup:.2f}x"
    if row.accuracy is not None:
        line["accuracy"] = f"{row.accuracy / 100:.4f}"
    if retained := published.compute_retained(row):
        line["retained"] = f"{retained:.1%}"
    if row.usd_per_100m is not None:
        line["USD/100M"] = format_number(row.usd_per_100m)
    return line | {"wattbench": "-"}


def _format_own_figures(section: Section, row: Row, first: Row) -> dict[str, str]:
    seconds, _ = row.full_set_cost()
    return {
        "system": escape_cell(row.name),
        "s": format_number(seconds),
        "speed-up": format_interval(compute_speedup(first, row)),
        "unpadded": format_interval(row.unpadded_speedup),
        "score": f"{row.score:.4f}{below_floor_note(section, row)}",
        "retained": _format_retained(row, first),
        "USD/100M": get_column("usd_per_100m").text(row),
    }


def _format_retained(row: Row, first: Row) -> str:
    """Return the share of the first row's gain over the constant answer; '-' without a gain."""
    gain = _compute_gain(first)
    return f"{_compute_gain(row) / gain:.1%}" if gain > 0 else "-"


def _compute_gain(row: Row) -> float:
    """Return by how much a score exceeds that of the best constant answer."""
    return row.score - float(_get_score(row)["majority"])


def _get_score(row: Row) -> dict[str, Any]:
    assert row.record.score is not None, "rows that were measured are scored"
    return row.record.score


def _describe_setup(
    section: Section, rows: dict[str, Row], published: PublishedTable
) -> dict[str, str]:
    software = section.rows[0].record.software
    first, last = (rows[published.systems[index]] for index in (0, -1))
    gpu = section.fingerprint.get("gpu")
    processors = [*([gpu["name"]] if gpu else []), section.fingerprint["cpu"]]
    batches = {row.name: row.record.system["serve"].get("batch", 1) for row in (first, last)}
    versions = [f"{name} {software[name]}" for name in RUNTIMES if name in software]
    return {
        "machine": f"{', '.join(processors)}, {section.configuration['title']}",
        "cores": str(section.configuration["cores"]),
        "reference": _describe_model(first),
        "student": _describe_model(last),
        "batch": ", ".join(f"{name}: {batch}" for name, batch in batches.items()),
        "runtime": ", ".join(versions),
        "timer": "from raw text to answers, with tokenization; "
        f"{len(last.seconds)} blocks in fresh processes, each a sample of the set after the first; "
        "with confidence intervals",
    }


def _describe_model(row: Row) -> str:
    """The layers, width, heads and neurons that the artifact's metadata states."""
    model = (row.record.artifact or {}).get("model", {})
    if "layers" not in model:
        return row.name
    sizes = {key: _format_range(model[key]) for key in ("heads", "ffn") if key in model}
    per_layer = ", ".join(f"{value} {key}" for key, value in sizes.items())
    layers = _format_range(model["layers"])
    return f"{row.name}: {layers} layers, width {model.get('width')}, {per_layer}"


def _format_range(value: Any) -> str:
    """`8`, or `6 to 8` for several numbers."""
    if not isinstance(value, list):
        return str(value)
    return str(value[0]) if len(set(value)) == 1 else f"{min(value)} to {max(value)}"
