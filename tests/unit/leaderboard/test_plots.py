"""The names in `pareto.svg` cover nothing."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from harness.leaderboard.plots import create_pareto, draw_frontier, draw_pareto
from harness.leaderboard.ranking import Section, load_sections
from harness.results.record import write_record
from tests.support.records import GOLDEN, make_record
from tests.support.systems import REPOSITORY

Box = tuple[float, float, float, float]


def offline_sections(records: Path) -> list[Section]:
    sections, _ = load_sections(records)
    return [section for section in sections if section.scenario == "offline"]


def crowded_section(folder: Path) -> Section:
    """Twenty-five systems, of which several have the same score and nearly the same speed."""
    for index in range(24):
        name = f"system-with-a-name-{index}" if index % 3 else f"s{index}"
        score = (0.9, 0.9, 0.895, 0.89, 0.902)[index % 5]
        division = ("open", "closed", "baseline")[index % 3]
        seconds = [2 * 1.12**-index * noise for noise in (1.0, 1.01)]
        write_record(*make_record(name, seconds, score, division=division), folder)
    write_record(*make_record("ref", [2.0, 2.02], 0.9, division="baseline"), folder)
    (section,) = offline_sections(folder)
    return section


def overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def boxes_of_names(axes: Any) -> dict[str, Box]:
    texts = [text for text in axes.texts if text.get_text()]
    return {text.get_text(): tuple(text.get_window_extent().extents) for text in texts}


def points_and_bars(section: Section, axes: Any) -> list[Box]:
    """The boxes of each point and of each error bar, computed from the figures of the rows."""
    boxes = []
    for row in section.system_rows:
        if row.is_control or not row.measured:
            continue
        se = (row.record.score or {})["se"]
        place = axes.transData.transform((row.throughput, row.score))
        (_, low), (_, high) = (
            axes.transData.transform((row.throughput, row.score + sign * se)) for sign in (-1, 1)
        )
        x, y = place
        boxes += [(x - 3, y - 3, x + 3, y + 3), (x - 2, low, x + 2, high)]
    return boxes


def assert_names_cover_nothing(section: Section) -> None:
    figure = create_pareto(section)
    (axes,) = figure.axes
    names = boxes_of_names(axes)
    systems = {row.name for row in section.system_rows if row.measured and not row.is_control}
    assert names.keys() == systems, "no name is left out"
    for (name, box), (other, other_box) in combinations(names.items(), 2):
        assert not overlap(box, other_box), f"{name} and {other}"
    for name, box in names.items():
        assert not any(overlap(box, other) for other in points_and_bars(section, axes)), name
    width, height = figure.bbox.size
    for name, (left, bottom, right, top) in names.items():
        assert 0 <= left < right <= width, name
        assert 0 <= bottom < top <= height, name


@pytest.mark.parametrize("records", [REPOSITORY / "results" / "records", GOLDEN / "records"])
def test_names_cover_no_point_no_error_bar_and_no_other_name(records: Path) -> None:
    sections = [section for section in offline_sections(records) if section.floor is not None]
    assert sections
    for section in sections:
        assert_names_cover_nothing(section)


def test_names_of_a_crowded_plot_cover_nothing(tmp_path: Path) -> None:
    section = crowded_section(tmp_path)
    assert len(section.system_rows) == 25
    assert_names_cover_nothing(section)


def test_crowded_plot_is_the_same_each_time(tmp_path: Path) -> None:
    section = crowded_section(tmp_path)
    assert draw_pareto(section) == draw_pareto(section)


FOUND = {
    "teacher": ("teacher", 1.0, 0.90, 0.01),
    "student-a": ("student", 20.0, 0.89, 0.01),
    "student-b": ("student", 15.0, 0.85, 0.01),
    "cascade": ("cascade", 60.0, 0.88, 0.01),
}


def test_frontier_of_a_search_names_what_it_is_told_to() -> None:
    svg = draw_frontier(FOUND, ["teacher", "cascade"], "speed-up", "score")
    texts = re.findall(r"<!-- (.*?) -->", svg)
    assert {"teacher", "cascade"} <= set(texts)  # also in the legend
    assert texts.count("student") == 1
    assert not any(name in svg for name in ("student-a", "student-b"))
    assert svg == draw_frontier(FOUND, ["teacher", "cascade"], "speed-up", "score")
