"""Plots for a README, as SVG. The same records give the same bytes.

Names are placed by textalloc, which is deterministic and covered nothing in a plot of 25 systems,
where adjustText left names on each other and on points.
"""

import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.leaderboard.formatting import format_interval, format_scenario
from harness.leaderboard.ranking import Section, get_pace, is_of_one_session
from harness.leaderboard.row import Row

Point = tuple[float, float]

FrontierPoint = tuple[str, float, float, float]
"""Kind, speed-up, score and standard error of a system."""

MANY_SYSTEMS = 40
"""From here on names are placed in one quick attempt, and those without space are left out."""

COLOURS = {"closed": "#0b7285", "open": "#c2255c", "baseline": "#495057"}
MARKERS = {"closed": "o", "open": "D", "baseline": "s"}

KIND_COLOURS = ("#495057", "#c2255c", "#0b7285", "#e67700", "#5f3dc4", "#2b8a3e")
KIND_MARKERS = ("s", "D", "o", "^", "v", "P")
"""Of up to six kinds of systems."""


def draw_pareto(section: Section) -> str:
    """Return an SVG of score against throughput, with the Pareto frontier and the quality floor.

    Rows of several sessions are drawn against their speed-ups, because rates of several sessions
    are not comparable. Controls are left out.
    """
    return _to_svg(create_pareto(section))


def create_pareto(section: Section) -> Any:
    """Return the figure of `draw_pareto`, up to eight inches tall, as its names need.

    Of `MANY_SYSTEMS` or more, some have no name.
    """
    rows = [
        row
        for row in section.rows
        if row.measured and row.record.score and not row.is_control and row.seed is None
    ]
    pace, by_rate = get_pace(section.rows), is_of_one_session(section.rows)
    rows = [row for row in rows if math.isfinite(pace(row))]

    def locate(row: Row) -> Point:
        return 1 / pace(row), row.score

    attempts = [(4.2, True), (5.0, False), (8.0, False)]
    if sum(not row.point for row in rows) >= MANY_SYSTEMS:
        attempts = attempts[-1:]
    for height, keep_lines_free in attempts:
        figure, axes = _create_figure(height)
        _draw_scores(axes, section, rows, locate, by_rate)
        low, high = axes.get_ylim()
        axes.set_ylim(low, low + (high - low) * height / 4.2)
        figure.tight_layout()
        if _write_names(axes, rows, locate, keep_lines_free):
            break
    return figure


def _write_names(
    axes: Any, rows: list[Row], locate: Callable[[Row], Point], keep_lines_free: bool
) -> bool:
    """Write the name of each system where it covers nothing, with a line to its point.

    Args:
        axes: the axes, whose limits are final.
        rows: the rows that are drawn.
        locate: returns the point of a row.
        keep_lines_free: whether no name may cover the line of another.

    Returns:
        Whether there was space for each name.
    """
    systems = [row for row in rows if not row.point]
    return _place_names(axes, {row.name: locate(row) for row in systems}, keep_lines_free)


def _place_names(axes: Any, points: Mapping[str, Point], keep_lines_free: bool) -> bool:
    """Write names like `_write_names`, each near its point."""
    import textalloc

    x, y = _sample_lines(axes).T
    _, _, texts, _ = textalloc.allocate(
        axes,
        *zip(*points.values(), strict=True),
        list(points),
        x_scatter=x,
        y_scatter=y,
        textsize=8,
        linecolor="#868e96",
        linewidth=0.6,
        nbr_candidates=2000 if len(points) < MANY_SYSTEMS else 100,
        max_distance=0.25,
        avoid_label_lines_overlap=keep_lines_free,
        draw_all=False,
    )
    return None not in texts


def _sample_lines(axes: Any) -> Any:
    """Return the points of all markers, and points every two pixels of all lines and error bars."""
    pixels = []
    paths = []
    for line in axes.lines:
        points = line.get_transform().transform(line.get_xydata())
        pixels.append(points)
        paths += [points] if line.get_linestyle() != "None" else []
    for bars in axes.collections:
        paths += [bars.get_transform().transform(bar) for bar in bars.get_segments()]
    for path in paths:
        for start, end in pairwise(path):
            pixels.append(np.linspace(start, end, 2 + int(math.dist(start, end) / 2)))
    return axes.transData.inverted().transform(np.unique(np.concatenate(pixels), axis=0))


def _draw_scores(
    axes: Any,
    section: Section,
    rows: list[Row],
    locate: Callable[[Row], Point],
    by_rate: bool,
) -> None:
    _draw_systems(axes, [row for row in rows if not row.point], locate)
    _draw_curves(axes, rows, locate)
    if section.floor is not None:
        style = {"color": "#868e96", "linewidth": 1, "linestyle": ":"}
        axes.axhline(section.floor, label="quality floor", **style)
    axes.set_xscale("log")
    name = "examples per second" if by_rate else f"speed-up over {section.roles['reference']}"
    axes.set_xlabel(f"{name}, {format_scenario(section.scenario)}, {section.configuration['name']}")
    axes.set_ylabel(f"{section.task['metric']} on {section.task['name']} (± standard error)")
    axes.margins(x=0.1, y=0.15)
    axes.grid(True, which="major", color="#f1f3f5")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8)


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


def draw_reductions(
    points: Mapping[str, tuple[str, float, float]],
    label: str,
    published: tuple[float, float],
    source: str,
) -> str:
    """Return an SVG of mean scores against reductions of energy, with a published range.

    Args:
        points: division, reduction and mean score of each system by its name.
        label: of the horizontal axis.
        published: the smallest and the largest published reduction.
        source: the publication.
    """
    figure, axes = _create_figure(4.2)
    axes.axvspan(*published, color="#f1f3f5", zorder=0, label=f"range of {source}")
    for division in dict.fromkeys(division for division, _, _ in points.values()):
        peers = [position for kind, *position in points.values() if kind == division]
        style = {"marker": MARKERS[division], "color": COLOURS[division], "linestyle": "None"}
        axes.plot(*zip(*peers, strict=True), label=division, markersize=6, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel(label)
    axes.set_ylabel("mean score")
    axes.margins(x=0.15, y=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8)
    figure.tight_layout()
    positions = {name: (reduction, score) for name, (_, reduction, score) in points.items()}
    _place_names(axes, positions, keep_lines_free=False)
    return _to_svg(figure)


def draw_frontier(
    points: Mapping[str, FrontierPoint],
    named: Collection[str],
    x_label: str,
    y_label: str,
    groups: Sequence[Collection[str]] = (),
) -> str:
    """Return an SVG of scores against speed-ups, with the Pareto frontier.

    Args:
        points: the systems by name.
        named: the systems whose names are written.
        x_label: of the speed-ups.
        y_label: of the scores.
        groups: systems that have a frontier of their own, by name (default: one of all).
    """
    figure, axes = _create_figure(4.2)
    kinds = dict.fromkeys(kind for kind, *_ in points.values())
    assert len(kinds) <= len(KIND_COLOURS)
    for kind, colour, marker in zip(kinds, KIND_COLOURS, KIND_MARKERS, strict=False):
        peers = [values for peer, *values in points.values() if peer == kind]
        x, y, errors = zip(*peers, strict=True)
        style = {"color": colour, "markersize": 6, "capsize": 2, "elinewidth": 0.8}
        axes.errorbar(x, y, yerr=errors, fmt=marker, label=kind, **style)
    positions = {name: (x, y) for name, (_, x, y, _) in points.items()}
    for group in groups or [positions]:
        _draw_frontier_line(axes, sorted(positions[name] for name in group))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel(x_label)
    axes.set_ylabel(f"{y_label} (± standard error)")
    axes.margins(x=0.15, y=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False, fontsize=8)
    figure.tight_layout()
    _place_names(axes, {name: positions[name] for name in points if name in named}, False)
    return _to_svg(figure)


def _create_figure(height: float) -> tuple[Any, Any]:
    """Return a figure of eight inches' width, and its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "wattbench"  # else the ids in the SVG are random
    figure = Figure(figsize=(8, height), dpi=72)  # as in SVG
    return figure, figure.subplots()


def _to_svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _draw_systems(axes: Any, rows: list[Row], locate: Callable[[Row], Point]) -> None:
    """Draw each system with its error bar, and the Pareto frontier."""
    rows = sorted(rows, key=locate)
    for division in dict.fromkeys(row.record.system["division"] for row in rows):
        peers = [row for row in rows if row.record.system["division"] == division]
        axes.errorbar(
            *zip(*map(locate, peers), strict=True),
            yerr=[(row.record.score or {})["se"] for row in peers],
            fmt=MARKERS[division],
            color=COLOURS[division],
            label=division,
            markersize=6,
            capsize=2,
            elinewidth=0.8,
        )
    positions = [locate(row) for row in rows]
    _draw_frontier_line(axes, positions)


def _draw_frontier_line(axes: Any, positions: Sequence[Point]) -> None:
    frontier = [
        position
        for position in positions
        if not any(_dominates(other, position) for other in positions)
    ]
    axes.plot(*zip(*frontier, strict=True), color="#ced4da", linewidth=1, zorder=0)


def _dominates(other: Point, position: Point) -> bool:
    return other != position and other[0] >= position[0] and other[1] >= position[1]


def _draw_curves(axes: Any, rows: list[Row], locate: Callable[[Row], Point]) -> None:
    """Draw a line through each system and its operating points."""
    for name in sorted({row.base_name for row in rows if row.point}):
        curve = [row for row in rows if row.base_name == name]
        colour = COLOURS[curve[0].record.system["division"]]
        points = sorted(map(locate, curve))
        axes.plot(*zip(*points, strict=True), ".-", color=colour, linewidth=0.8, markersize=4)
