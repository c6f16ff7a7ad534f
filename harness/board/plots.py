"""Pictures for the README, as SVG."""

import io
from typing import Any

from harness.board.ranking import Row, Section

COLOURS = {"closed": "#0b7285", "open": "#c2255c", "baseline": "#495057"}
MARKS = {"closed": "o", "open": "D", "baseline": "s"}


def pareto(section: Section) -> bytes:
    """Score against throughput, the frontier drawn; the same bytes for the same records."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "wattbench"
    from matplotlib import pyplot

    rows = [
        row
        for row in section.rows
        if row.record.rounds and row.record.score and row.name != row.record.roles["null"]
    ]
    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    _draw(axes, rows)
    if section.floor is not None:
        axes.axhline(section.floor, color="#adb5bd", linewidth=1, linestyle=":")
        axes.annotate(
            "floor",
            (0.995, section.floor),
            xycoords=("axes fraction", "data"),
            va="bottom",
            ha="right",
            fontsize=8,
            color="#868e96",
        )
    axes.set_xscale("log")
    axes.set_xlabel(
        f"examples per second, {section.scenario.replace('_', ' ')}, "
        f"{section.configuration['name']}"
    )
    axes.set_ylabel(f"{section.task['metric']} on {section.task['name']} (± standard error)")
    axes.margins(x=0.12, y=0.12)
    axes.grid(True, which="major", color="#f1f3f5")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return out.getvalue()


def _draw(axes: Any, rows: list[Row]) -> None:
    points = [(row.throughput, (row.record.score or {})["value"], row) for row in rows]
    named: set[str] = set()
    for x, y, row in points:
        division = row.record.system["division"]
        label = None if division in named else division
        named.add(division)
        error = (row.record.score or {})["se"]
        axes.errorbar(
            x,
            y,
            yerr=error,
            fmt=MARKS[division],
            color=COLOURS[division],
            label=label,
            markersize=6,
            capsize=2,
            elinewidth=0.8,
        )
        axes.annotate(row.name, (x, y), textcoords="offset points", xytext=(7, 6), fontsize=8)
    frontier = sorted(
        point
        for point in ((x, y) for x, y, _ in points)
        if not any(a > point[0] and b > point[1] for a, b, _ in points)
    )
    axes.plot(*zip(*frontier, strict=True), color="#ced4da", linewidth=1, zorder=0)
