"""Reproduction of a published table: its rows side by side with those of the leaderboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.leaderboard.formatting import format_interval, format_number, format_table
from harness.leaderboard.ranking import Section, compute_speedup
from harness.leaderboard.row import Row
from harness.leaderboard.section import below_floor_note
from harness.schema import Faults, read_toml, suggest_name

KEYS = ("title", "source", "task", "examples", "setup", "row")
SETUP = ("machine", "cores", "reference", "student", "runtime", "timer")
ROW = ("name", "system", "speedup", "accuracy", "seconds", "usd_per_100m")


@dataclass(frozen=True)
class PublishedTable:
    """A file of `baselines/published`.

    Attributes:
        title: the title of the table.
        source: the publication.
        task: the task of the published figures.
        setup: how the publication measured, by the keys of `SETUP`.
        rows: each with `name`, `speedup` over the first row, `accuracy` in percent, `seconds`,
            `usd_per_100m`, and the name of the corresponding `system`, if there is one.
    """

    title: str
    source: str
    task: str
    setup: dict[str, str]
    rows: tuple[dict[str, Any], ...]

    @property
    def systems(self) -> list[str]:
        """The corresponding systems, in the order of the rows."""
        return [row["system"] for row in self.rows if "system" in row]

    @staticmethod
    def read(root: Path, name: str) -> "PublishedTable":
        """Read a published table of the project.

        Args:
            root: the folder of the project.
            name: the name of the table, e.g. `fastformers-table3`.

        Raises:
            HarnessError: there is no such table, or the file is invalid.
        """
        folder = root / "baselines" / "published"
        known = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("*.toml"))}
        if name not in known:
            raise HarnessError(
                f"published table {name!r} does not exist in {folder}. {suggest_name(name, known)}"
            )
        data = read_toml(known[name])
        faults = Faults(known[name])
        faults.check_keys("", data, KEYS)
        setup, rows = faults.get_table(data, "setup"), data.get("row", [])
        faults.check_keys("[setup] ", setup, SETUP)
        strings = {key: faults.get_string(data, key) for key in ("title", "source", "task")}
        for number, row in enumerate(rows, start=1):
            faults.check_keys(f"row {number}: ", row, ROW)
            if missing := set(ROW) - {"system"} - set(row):
                faults.add(f"row {number}: missing {', '.join(sorted(missing))}.")
        faults.raise_any()
        return PublishedTable(**strings, setup=setup, rows=tuple(rows))


def render_reproduction(sections: Sequence[Section], published: PublishedTable, task: str) -> str:
    """Return Markdown for each machine and configuration that has all systems of the table.

    Args:
        sections: the sections of the board.
        published: the published table.
        task: the task to compare, not necessarily that of the publication.

    Returns:
        The Markdown; '' if no section has all systems.
    """
    systems = set(published.systems)
    complete = [
        section
        for section in sections
        if section.scenario == "offline"
        and section.task["name"] == task
        and systems <= section.measured_rows.keys()
    ]
    if not complete:
        return ""
    heading = f"# {published.title}, reproduced on {task}\n\nSource: {published.source}"
    parts = [heading, *(_render_section(section, published) for section in complete)]
    return "\n\n".join(parts) + "\n"


def _render_section(section: Section, published: PublishedTable) -> str:
    rows = {row.name: row for row in section.rows}
    unpadded = _find_unpadded(section, published)
    lines = []
    for published_row in published.rows:
        line = {
            "published": published_row["name"],
            "s": format_number(published_row["seconds"]),
            "speed-up": f"{published_row['speedup']:.2f}x",
            "unpadded": f"{published_row['speedup'] / unpadded['speedup']:.2f}x",
            "accuracy": f"{published_row['accuracy'] / 100:.4f}",
            "USD/100M": format_number(published_row["usd_per_100m"]),
            "wattbench": "-",
        }
        if row := rows.get(published_row.get("system", "")):
            line |= _format_own_figures(section, row, rows[published.rows[0]["system"]])
        lines.append(line)
    headings = dict.fromkeys(heading for line in lines for heading in line)
    lines = [{heading: line.get(heading, "-") for heading in headings} for line in lines]
    setup = [
        {"": key, "published": published.setup[key], "wattbench": value}
        for key, value in _describe_setup(section, rows, published).items()
    ]
    return "\n\n".join(
        [
            f"## {section.configuration['name']}, {section.machine}, session `{section.session}`",
            format_table(lines),
            "*Unpadded* is the speed-up over the same model without padding (the second row): what "
            "remains of a speed-up if nothing is padded.",
            "Differences between the two set-ups:",
            format_table(setup),
            _conclude(section, rows, published, unpadded),
        ]
    )


def _find_unpadded(section: Section, published: PublishedTable) -> dict[str, Any]:
    """The published row of the unpadded reference."""
    name = section.roles["unpadded_reference"]
    return next((row for row in published.rows if row.get("system") == name), published.rows[0])


def _format_own_figures(section: Section, row: Row, first: Row) -> dict[str, str]:
    seconds, _ = row.full_set_cost()
    return {
        "wattbench": row.name,
        "wattbench s": format_number(seconds),
        "wattbench speed-up": format_interval(compute_speedup(first, row)),
        "wattbench unpadded": format_interval(row.unpadded_speedup),
        "wattbench score": f"{row.score:.4f}{below_floor_note(section, row)}",
        "wattbench USD/100M": format_number(row.columns().get("usd_per_100m")),
    }


def _describe_setup(
    section: Section, rows: dict[str, Row], published: PublishedTable
) -> dict[str, str]:
    software = section.rows[0].record.software
    last = rows[published.systems[-1]]
    return {
        "machine": f"{section.fingerprint['cpu']}, {section.configuration['title']}",
        "cores": str(section.configuration["cores"]),
        "reference": _describe_model(rows[published.systems[0]]),
        "student": _describe_model(last),
        "runtime": ", ".join(f"{name} {software[name]}" for name in ("torch", "onnxruntime")),
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


def _conclude(
    section: Section, rows: dict[str, Row], published: PublishedTable, unpadded: dict[str, Any]
) -> str:
    published_speedup = published.rows[-1]["speedup"]
    remaining = published_speedup / unpadded["speedup"]
    last = rows[published.systems[-1]]
    padding = compute_speedup(rows[published.systems[0]], rows[unpadded["system"]])
    return (
        f"The published speed-up is {published_speedup:.1f}x in total: "
        f"{unpadded['speedup']:.2f}x by not padding, times {remaining:.1f}x. Here it is "
        f"{format_interval(last.speedup)} in total: {format_interval(padding)} by not padding, "
        f"times {format_interval(last.unpadded_speedup)}. Multi-instance inference gains at most a "
        f"factor of the number of cores, {published.setup['cores']} there and "
        f"{section.configuration['cores']} here. Ratios can be compared with these differences in "
        "mind, seconds cannot, and USD only as far as the list prices of the machines are "
        "comparable."
    )
