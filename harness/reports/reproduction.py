"""A published table beside our own rows, with what the two do not share said in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import interval, number
from harness.leaderboard.ranking import Section, faster
from harness.leaderboard.row import Row
from harness.schema import Faults, nearest, read_toml

KEYS = ("title", "source", "task", "examples", "setup", "row")
SETUP = ("machine", "cores", "reference", "student", "runtime", "timer")
ROW = ("name", "system", "speedup", "accuracy", "seconds", "usd_per_100m")


@dataclass(frozen=True)
class Published:
    """A file of `baselines/published`. setup: what the two tables do not share. rows: each with its
    `name`, `speedup` over the first, `accuracy` in percent, `seconds`, `usd_per_100m`, and the
    `system` of ours that does the same, where there is one.
    """

    title: str
    source: str
    task: str
    setup: dict[str, str]
    rows: tuple[dict[str, Any], ...]

    @property
    def systems(self) -> list[str]:
        """Ours, in the order of the rungs."""
        return [row["system"] for row in self.rows if "system" in row]

    @staticmethod
    def read(root: Path, name: str) -> "Published":
        """Raises: HarnessError if there is no such table, or the file is not one."""
        folder = root / "baselines" / "published"
        known = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("*.toml"))}
        if name not in known:
            raise HarnessError(
                f"published table {name!r} does not exist in {folder}. {nearest(name, known)}"
            )
        data = read_toml(known[name])
        faults = Faults(known[name])
        faults.keys("", data, KEYS)
        setup, rows = faults.table(data, "setup"), data.get("row", [])
        faults.keys("[setup] ", setup, SETUP)
        texts = {key: faults.text(data, key) for key in ("title", "source", "task")}
        for number_, row in enumerate(rows, start=1):
            faults.keys(f"row {number_}: ", row, ROW)
            if missing := set(ROW) - {"system"} - set(row):
                faults.add(f"row {number_}: {', '.join(sorted(missing))} must be given.")
        faults.raise_any()
        return Published(**texts, setup=setup, rows=tuple(rows))


def reproduction(found: Sequence[Section], published: Published, task: str) -> str:
    """Markdown for each machine and configuration that has all of our rows on this task; '' if
    there is none.
    """
    wanted = set(published.systems)
    whole = [
        each
        for each in found
        if each.scenario == "offline"
        and each.task["name"] == task
        and wanted <= {row.name for row in each.rows if row.measured}
    ]
    if not whole:
        return ""
    head = f"# {published.title}, and ours on {task}\n\nSource: {published.source}"
    return "\n\n".join([head, *(_section(each, published) for each in whole)]) + "\n"


def _section(section: Section, published: Published) -> str:
    ours = {row.name: row for row in section.rows}
    first = published.rows[0]
    role = section.rows[0].record.roles["unpadded_reference"]
    unpadded = next((row for row in published.rows if row.get("system") == role), first)
    lines = []
    for theirs in published.rows:
        row = ours.get(theirs.get("system", ""))
        lines.append(
            {
                "published": theirs["name"],
                "s": number(theirs["seconds"]),
                "speed-up": f"{theirs['speedup']:.2f}x",
                "unpadded": f"{theirs['speedup'] / unpadded['speedup']:.2f}x",
                "accuracy": f"{theirs['accuracy'] / 100:.4f}",
                "USD/100M": number(theirs["usd_per_100m"]),
                "ours": "-",
            }
            | (_ours(section, row, ours[first["system"]]) if row else {})
        )
    heads = dict.fromkeys(key for line in lines for key in line)
    table = [{key: line.get(key, "-") for key in heads} for line in lines]
    rendered = tabulate(table, headers="keys", tablefmt="github", disable_numparse=True)
    differences = tabulate(
        [
            {"": key, "published": published.setup[key], "ours": value}
            for key, value in _setup(section, ours, published).items()
        ],
        headers="keys",
        tablefmt="github",
        disable_numparse=True,
    )
    place = f"{section.configuration['name']}, {section.machine}"
    return "\n\n".join(
        [
            f"## {place}, session `{section.session}`",
            rendered,
            "*Unpadded* is against the second row, the same model without padding: what is left of "
            "a speed-up when nobody pads.",
            "What the two do not share:",
            differences,
            _words(section, ours, published, unpadded),
        ]
    )


def _ours(section: Section, row: Row, first: Row) -> dict[str, str]:
    columns, score = row.columns(), row.record.score or {}
    seconds, _ = row.whole_set()
    below = "" if row.qualified or section.floor is None else " below the floor"
    return {
        "ours": row.name,
        "our s": number(seconds),
        "our speed-up": interval(faster(first, row)),
        "our unpadded": interval(row.unpadded),
        "our score": f"{score['value']:.4f}{below}",
        "our USD/100M": number(columns.get("usd_per_100m")),
    }


def _setup(section: Section, ours: dict[str, Row], published: Published) -> dict[str, str]:
    it, machine = section.rows[0].record, section.fingerprint
    last = ours[published.systems[-1]]
    versions = ", ".join(f"{name} {it.software[name]}" for name in ("torch", "onnxruntime"))
    blocks = len(last.seconds)
    return {
        "machine": f"{machine['cpu']}, {section.configuration['title']}",
        "cores": str(section.configuration["cores"]),
        "reference": _model(ours[published.systems[0]]),
        "student": _model(last),
        "runtime": versions,
        "timer": "raw text in, answers out, tokenizing included; "
        f"{blocks} blocks in fresh processes, each a sample of the set after the first, with "
        "intervals",
    }


def _model(row: Row) -> str:
    """Its shape, as the artifact states it."""
    model = (row.record.artifact or {}).get("model", {})
    if "layers" not in model:
        return row.name
    sizes = {key: _range(model[key]) for key in ("heads", "ffn") if key in model}
    shape = ", ".join(f"{value} {key}" for key, value in sizes.items())
    return f"{row.name}: {_range(model['layers'])} layers, width {model.get('width')}, {shape}"


def _range(value: Any) -> str:
    """`8`, or of several numbers `6 to 8`."""
    if not isinstance(value, list):
        return str(value)
    return str(value[0]) if len(set(value)) == 1 else f"{min(value)} to {max(value)}"


def _words(
    section: Section, ours: dict[str, Row], published: Published, unpadded: dict[str, Any]
) -> str:
    """What came out, in two sentences."""
    theirs, last = published.rows[-1], ours[published.systems[-1]]
    padding = faster(ours[published.systems[0]], ours[unpadded["system"]])
    share = theirs["speedup"] / unpadded["speedup"]
    cores = section.configuration["cores"]
    return (
        f"The published ladder ends at {theirs['speedup']:.1f}x, of which "
        f"{unpadded['speedup']:.2f}x is the padding's and {share:.1f}x is not; ours at "
        f"{interval(last.speedup)}, of which {interval(padding)} is the padding's and "
        f"{interval(last.unpadded)} is not. "
        f"Multi-instance inference can give as much as there are cores: "
        f"{published.setup['cores']} there, {cores} here. "
        "Ratios may be compared, with these differences in mind; seconds may not, and USD only as "
        "far as the list prices of both machines go."
    )
