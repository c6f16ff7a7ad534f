"""Plots for a README, as SVG. The same records give the same bytes."""

import io
import math
from typing import Any

from harness.leaderboard.formatting import format_interval, format_scenario
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row

COLOURS = {"closed": "#0b7285", "open": "#c2255c", "baseline": "#495057"}
MARKERS = {"closed": "o", "open": "D", "baseline": "s"}


def draw_pareto(section: Section) -> str:
    """Return an SVG of score against throughput, with the Pareto frontier and the quality floor.

    Systems that are not better than the majority class are left out.
    """
    rows = [
        row
        for row in section.rows
        if row.measured and row.record.score and not row.is_control and row.seed is None
    ]
    figure, axes = _create_figure(4.2)
    _draw_systems(axes, [row for row in rows if not row.point])
    _draw_curves(axes, rows)
    if section.floor is not None:
        axes.axhline(section.floor, color="#adb5bd", linewidth=1, linestyle=":")
        axes.annotate(
            "quality floor",
            (0.995, section.floor),
            xycoords=("axes fraction", "data"),
            va="bottom",
            ha="right",
            fontsize=8,
            color="#868e96",
        )
    axes.set_xscale("log")
    axes.set_xlabel(
        f"examples per second, {format_scenario(section.scenario)}, {section.configuration['name']}"
    )
    axes.set_ylabel(f"{section.task['metric']} on {section.task['name']} (± standard error)")
    axes.margins(x=0.1, y=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * (high - low), high + 0.2 * (high - low))  # space for the names
    axes.grid(True, which="major", color="#f1f3f5")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    figure.tight_layout()
    _label_systems(axes, rows)
    return _to_svg(figure)


def draw_ladder(section: Section, rungs: list[Row]) -> str:
    """Return an SVG of the speed-up of each system of a ladder over the first."""
    figure, axes = _create_figure(0.55 * len(rungs) + 1.2)
    positions = range(len(rungs))
    values = [row.speedup.value if row.speedup else 1.0 for row in rungs]
    colours = [COLOURS[row.record.system["division"]] for row in rungs]
    axes.barh(positions, values, color=colours, height=0.6)
    for position, row in zip(positions, rungs, strict=True):
        speedups = (
            f"{format_interval(row.speedup)}   unpadded {format_interval(row.unpadded_speedup)}"
        )
        axes.annotate(
            f"{speedups}   score {row.score:.4f}",
            (values[position], position),
            textcoords="offset points",
            xytext=(6, 0),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(list(positions), [row.name for row in rungs], fontsize=9)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(values) * 400)  # space for the annotations
    ticks = [10**power for power in range(math.ceil(math.log10(max(values))) + 1)]
    axes.set_xticks(ticks, [f"{tick:,}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(
        f"speed-up over {rungs[0].name}, {section.scenario}, {section.task['name']}, "
        f"{section.configuration['name']}, with 95% confidence intervals"
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    return _to_svg(figure)


def _create_figure(height: float) -> tuple[Any, Any]:
    """Return a figure of eight inches' width, and its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "wattbench"  # else the ids in the SVG are random
    figure = Figure(figsize=(8, height))
    return figure, figure.subplots()


def _to_svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _draw_systems(axes: Any, rows: list[Row]) -> None:
    """Draw each system with its error bar, and the Pareto frontier."""
    rows = sorted(rows, key=_position)
    for division in dict.fromkeys(row.record.system["division"] for row in rows):
        peers = [row for row in rows if row.record.system["division"] == division]
        axes.errorbar(
            *zip(*map(_position, peers), strict=True),
            yerr=[(row.record.score or {})["se"] for row in peers],
            fmt=MARKERS[division],
            color=COLOURS[division],
            label=division,
            markersize=6,
            capsize=2,
            elinewidth=0.8,
        )
    positions = [_position(row) for row in rows]
    frontier = [
        position
        for position in positions
        if not any(_dominates(other, position) for other in positions)
    ]
    axes.plot(*zip(*frontier, strict=True), color="#ced4da", linewidth=1, zorder=0)


def _dominates(other: tuple[float, float], position: tuple[float, float]) -> bool:
    return other != position and other[0] >= position[0] and other[1] >= position[1]


def _position(row: Row) -> tuple[float, float]:
    return row.throughput, row.score


NAME_OFFSETS = (
    *((7, -2.5, "left"), (-7, -2.5, "right"), (0, 7, "center"), (0, -12, "center")),
    *((6, 6, "left"), (6, -11, "left"), (-6, 6, "right"), (-6, -11, "right")),
    *((8, 16, "left"), (8, -21, "left"), (-8, 16, "right"), (-8, -21, "right")),
    *((14, 27, "left"), (14, -32, "left"), (-14, 27, "right"), (-14, -32, "right")),
)
"""Where a name may be placed: offsets from its point in typographic points, the best first."""

LETTER_WIDTH, LINE_HEIGHT = 4.7, 8.0


def _label_systems(axes: Any, rows: list[Row]) -> None:
    """Write each system's name beside its point, where it covers no other point or name.

    The limits of the axes must be final.
    """
    scale = 72 / axes.figure.dpi
    positions = [_position(row) for row in rows]
    points = [
        tuple(scale * value for value in axes.transData.transform(position))
        for position in positions
    ]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    frame = axes.get_window_extent()
    left, right = scale * frame.x0, scale * frame.x1
    for row, position, (x, y) in zip(rows, positions, points, strict=True):
        if row.point:
            continue
        width = LETTER_WIDTH * len(row.name)
        for dx, dy, side in NAME_OFFSETS:
            start = x + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (start, y + dy, start + width, y + dy + LINE_HEIGHT)
            inside = left <= box[0] and box[2] <= right
            is_last = (dx, dy, side) == NAME_OFFSETS[-1]
            if is_last or (inside and not any(_overlap(box, other) for other in taken)):
                break
        taken.append(box)
        axes.annotate(
            row.name,
            position,
            textcoords="offset points",
            xytext=(dx, dy),
            ha=side,
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "#adb5bd", "linewidth": 0.6}
            if abs(dy) > 12
            else None,
        )


Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _draw_curves(axes: Any, rows: list[Row]) -> None:
    """Draw a line through each system and its operating points."""
    for name in sorted({row.base_name for row in rows if row.point}):
        curve = [row for row in rows if row.base_name == name]
        colour = COLOURS[curve[0].record.system["division"]]
        points = sorted(map(_position, curve))
        axes.plot(*zip(*points, strict=True), ".-", color=colour, linewidth=0.8, markersize=4)
