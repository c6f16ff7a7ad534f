"""Pictures for the README, as SVG."""

import io
import math
from typing import Any

from harness.leaderboard.formatting import interval
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row

COLOURS = {"closed": "#0b7285", "open": "#c2255c", "baseline": "#495057"}
MARKS = {"closed": "o", "open": "D", "baseline": "s"}


def pareto(section: Section) -> str:
    """Score against throughput, the frontier drawn; the same bytes for the same records.

    Systems that are no better than the majority class are left out.
    """
    pyplot = _pyplot()
    rows = [row for row in section.rows if row.measured and _learned(row) and row.seed is None]
    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    _draw(axes, [row for row in rows if not row.point])
    _curves(axes, rows)
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
    axes.margins(x=0.1, y=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * (high - low), high + 0.2 * (high - low))  # room for the names
    axes.grid(True, which="major", color="#f1f3f5")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    figure.tight_layout()
    _names(axes, rows)
    return _text(figure)


def staircase(section: Section, rungs: list[Row]) -> str:
    """How much faster each rung of a ladder is than the first, padded and unpadded."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 0.55 * len(rungs) + 1.2))
    places = range(len(rungs))
    values = [row.speedup.value if row.speedup else 1.0 for row in rungs]
    colours = [COLOURS[row.record.system["division"]] for row in rungs]
    axes.barh(places, values, color=colours, height=0.6)
    for place, row in zip(places, rungs, strict=True):
        score = (row.record.score or {})["value"]
        words = f"{interval(row.speedup)}   unpadded {interval(row.unpadded)}   score {score:.4f}"
        axes.annotate(
            words,
            (values[place], place),
            textcoords="offset points",
            xytext=(6, 0),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(list(places), [row.name for row in rungs], fontsize=9)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(values) * 400)  # room for the words
    ticks = [10**power for power in range(math.ceil(math.log10(max(values))) + 1)]
    axes.set_xticks(ticks, [f"{each:,}x" for each in ticks])
    axes.minorticks_off()
    axes.set_xlabel(
        f"speed-up over {rungs[0].name}, {section.scenario}, {section.task['name']}, "
        f"{section.configuration['name']}, with 95% intervals"
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    return _text(figure)


def _pyplot() -> Any:
    """matplotlib, set so that the same records give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "wattbench"
    from matplotlib import pyplot

    return pyplot


def _text(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    _pyplot().close(figure)
    return out.getvalue()


def _draw(axes: Any, rows: list[Row]) -> None:
    points = sorted(
        ((row.throughput, (row.record.score or {})["value"], row) for row in rows),
        key=lambda point: point[:2],
    )
    named: set[str] = set()
    for x, y, row in points:
        division = row.record.system["division"]
        label = None if division in named else division
        named.add(division)
        axes.errorbar(
            x,
            y,
            yerr=(row.record.score or {})["se"],
            fmt=MARKS[division],
            color=COLOURS[division],
            label=label,
            markersize=6,
            capsize=2,
            elinewidth=0.8,
        )
    places = [(x, y) for x, y, _ in points]
    frontier = sorted(
        place
        for place in places
        if not any(a >= place[0] and b >= place[1] and (a, b) != place for a, b in places)
    )
    axes.plot(*zip(*frontier, strict=True), color="#ced4da", linewidth=1, zorder=0)


SPOTS = (
    *((7, -2.5, "left"), (-7, -2.5, "right"), (0, 7, "center"), (0, -12, "center")),
    *((6, 6, "left"), (6, -11, "left"), (-6, 6, "right"), (-6, -11, "right")),
    *((8, 16, "left"), (8, -21, "left"), (-8, 16, "right"), (-8, -21, "right")),
    *((14, 27, "left"), (14, -32, "left"), (-14, 27, "right"), (-14, -32, "right")),
)
"""Where a name may stand beside its point, in typographic points, the best first."""

LETTER, LINE = 4.7, 8.0


def _names(axes: Any, rows: list[Row]) -> None:
    """The name of each system beside its point, where it covers no other point and no other name.
    To be called when the limits of the axes are set.
    """
    scale = 72 / axes.figure.dpi
    places = [(row.throughput, (row.record.score or {})["value"]) for row in rows]
    spots = [tuple(scale * each for each in axes.transData.transform(place)) for place in places]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    frame = axes.get_window_extent()
    left, right = scale * frame.x0, scale * frame.x1
    for row, place, (x, y) in zip(rows, places, spots, strict=True):
        if row.point:
            continue
        width = LETTER * len(row.name)
        for dx, dy, side in SPOTS:
            start = x + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (start, y + dy, start + width, y + dy + LINE)
            free = left <= box[0] and box[2] <= right and not any(_meet(box, one) for one in taken)
            if free or (dx, dy, side) == SPOTS[-1]:
                break
        taken.append(box)
        axes.annotate(
            row.name,
            place,
            textcoords="offset points",
            xytext=(dx, dy),
            ha=side,
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "#adb5bd", "linewidth": 0.6}
            if abs(dy) > 12
            else None,
        )


Box = tuple[float, float, float, float]


def _meet(one: Box, other: Box) -> bool:
    """Whether two boxes (left, bottom, right, top) overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _curves(axes: Any, rows: list[Row]) -> None:
    """A line through each system and its operating points."""
    for name in sorted({row.curve for row in rows if row.point}):
        points = sorted(
            (row.throughput, (row.record.score or {})["value"]) for row in rows if row.curve == name
        )
        colour = COLOURS[next(row for row in rows if row.curve == name).record.system["division"]]
        axes.plot(*zip(*points, strict=True), ".-", color=colour, linewidth=0.8, markersize=4)


def _learned(row: Row) -> bool:
    """Whether a score is there and above the majority class; the others would only stretch it."""
    score = row.record.score
    return score is not None and score["value"] > score["majority"]
