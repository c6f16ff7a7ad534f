"""The tasks of a suite together: the mean of the scores, the geometric mean of the speed-ups."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from harness.leaderboard.formatting import (
    escape_cell,
    format_interval,
    format_number,
    format_rows,
)
from harness.leaderboard.ranking import (
    Section,
    compare_speed,
    is_of_one_session,
    ratio_within_blocks,
)
from harness.leaderboard.row import Row
from harness.results import statistics
from harness.results.statistics import Interval
from harness.tasks.registry import all_suites
from harness.tasks.suites import Suite


@dataclass(frozen=True)
class MeasuredSuite:
    """The offline sections of the tasks of a suite: of all, or of at least half of them.

    Attributes:
        suite: the suite.
        reference: the name of the reference.
        sections: one for each measured task, in the order of the suite's tasks.
    """

    suite: Suite
    reference: str
    sections: tuple[Section, ...]

    @property
    def missing(self) -> list[str]:
        """The names of the tasks that were not measured."""
        measured = {str(section.task["name"]) for section in self.sections}
        return [name for name in self.suite.tasks if name not in measured]

    @property
    def machines(self) -> list[str]:
        """The machines with their configurations, each once."""
        places = [f"{part.configuration['name']}, {part.machine}" for part in self.sections]
        return list(dict.fromkeys(places))

    @property
    def on_one_machine(self) -> bool:
        """Whether speed-ups and energy of the tasks may be combined."""
        return len(self.machines) == 1

    @property
    def heading(self) -> str:
        """A heading that no other suite of a board has."""
        place = self.machines[0] if self.on_one_machine else f"{len(self.machines)} machines"
        tasks = "All tasks"
        if self.missing:
            tasks = f"{len(self.sections)} of {len(self.suite.tasks)} tasks"
        return f"{tasks} of the suite {self.suite.name} on {place}, reference {self.reference}"

    def describe_missing(self) -> str:
        """Return which tasks were not measured, as sentences; '' if all were."""
        if not self.missing:
            return ""
        place = " on this machine" if self.on_one_machine else ""
        return (
            f"Not measured{place}: {', '.join(self.missing)}. "
            f"`wattbench run --suite {self.suite.name}` measures them where their full data is "
            "available."
        )


def find_measured_suites(sections: Sequence[Section]) -> list[MeasuredSuite]:
    """Find the suites with several tasks whose tasks have an offline section.

    For each reference these are the machines that have all tasks. Where none has: all machines
    together, of which only the scores are combined, if they have more tasks than any of them; and
    the machine with most tasks, if one is missing on all machines. Each has at least half of them.
    """
    suites = [suite for suite in all_suites().values() if len(suite.tasks) > 1]
    offline = [section for section in sections if section.scenario == "offline"]
    references = dict.fromkeys(str(section.roles["reference"]) for section in offline)
    measured = []
    for suite in suites:
        for reference in references:
            candidates = [section for section in offline if section.roles["reference"] == reference]
            measured += _find_measured(suite, reference, candidates)
    return measured


def _find_measured(
    suite: Suite, reference: str, sections: Sequence[Section]
) -> list[MeasuredSuite]:
    by_machine: dict[tuple[str, str], dict[str, Section]] = {}
    for section in sorted(sections, key=lambda section: section.started):
        configuration = section.configuration
        machine = section.machine, f"{configuration['name']} {configuration['hash']}"
        by_machine.setdefault(machine, {})[str(section.task["name"])] = section
    tasks = set(suite.tasks)
    found = [by_task for by_task in by_machine.values() if tasks <= by_task.keys()]
    if not found and by_machine:
        by_count = sorted(by_machine.values(), key=lambda by_task: len(tasks & by_task.keys()))
        most = by_count[-1]  # of machines with equally many the one that was measured last
        combined: dict[str, Section] = {}
        for by_task in by_count:
            combined |= by_task
        if len(tasks & combined.keys()) > len(tasks & most.keys()):
            found.append(combined)
        if not tasks <= combined.keys():
            found.append(most)
        found = [by_task for by_task in found if 2 * len(tasks & by_task.keys()) >= len(tasks)]
    return [
        MeasuredSuite(
            suite, reference, tuple(by_task[task] for task in suite.tasks if task in by_task)
        )
        for by_task in found
    ]


def format_suite_table(measured: MeasuredSuite) -> str:
    """Return a table of the systems that were measured on every task, the best mean score first.

    A system is ranked by speed if it is above the floor of every task that has one: 1 plus the
    number of such systems of its division that are significantly faster. Of tasks that were
    measured on different machines only the scores are combined.
    """
    sections = measured.sections
    by_task = [
        {row.name: row for row in section.system_rows if row.measured and row.record.score}
        for section in sections
    ]
    names = set.intersection(*(set(rows) for rows in by_task))
    systems = {name: [rows[name] for rows in by_task] for name in names}
    scores = {name: [row.score for row in rows] for name, rows in systems.items()}
    qualified = {name: rows for name, rows in systems.items() if _is_qualified(rows)}
    factor = max(section.variation.factor for section in sections)
    lines = []
    for name in sorted(scores, key=lambda name: (-mean(scores[name]), name)):
        rows = systems[name]
        line = {
            "system": escape_cell(name),
            "division": rows[0].record.system["division"],
            "mean score": f"{mean(scores[name]):.4f}",
            **{
                str(section.task["name"]): f"{score:.4f}"
                for section, score in zip(sections, scores[name], strict=True)
            },
        }
        if measured.on_one_machine:
            rank = 1 + _count_faster(rows, qualified.values(), factor)
            times = [statistics.geometric_mean(list(row.seconds.values())) for row in rows]
            line = {"rank": str(rank) if name in qualified else "-"} | line
            line |= {
                "speed-up": format_interval(
                    combine_speed([(row.references.get("reference"), row) for row in rows])
                ),
                "unpadded": format_interval(
                    combine_speed([(row.references.get("unpadded_reference"), row) for row in rows])
                ),
                "examples/s": format_number(1 / statistics.geometric_mean(times)),
            }
        lines.append((all(row.is_control for row in rows), line))
    return format_rows(lines)


def _is_qualified(rows: Sequence[Row]) -> bool:
    """Whether a system is above the floor of every task that has one, and one has."""
    with_floor = [row for row in rows if row.floor is not None]
    return bool(with_floor) and all(row.qualified for row in with_floor)


def combine_speed(pairs: Sequence[tuple[Row | None, Row]]) -> Interval | None:
    """Return how many times as fast one system is as another, as geometric mean over tasks.

    Where all tasks are of one session it is taken block by block, because what disturbs a block
    disturbs all of its tasks. Otherwise the tasks' ratios are independent. None if one of them is
    not known.

    Args:
        pairs: the rows of the slow and of the fast system on each task.
    """
    known = [(slow, fast) for slow, fast in pairs if slow is not None]
    if len(known) < len(pairs):
        return None
    if all(slow is fast for slow, fast in known):
        return Interval(1.0, 1.0, 1.0)
    if is_of_one_session([row for pair in known for row in pair]):
        slow_seconds, fast_seconds = (_mean_seconds(rows) for rows in zip(*known, strict=True))
        return ratio_within_blocks(slow_seconds, fast_seconds)
    ratios = [compare_speed(slow, fast) for slow, fast in known]
    complete = [ratio for ratio in ratios if ratio is not None]
    return statistics.combine_ratios(complete) if len(complete) == len(ratios) else None


def _mean_seconds(rows: Sequence[Row]) -> dict[int, float]:
    """The geometric mean of the rows' seconds per example, in the blocks that all rows have."""
    blocks = set.intersection(*(set(row.seconds) for row in rows))
    return {
        block: statistics.geometric_mean([row.seconds[block] for row in rows]) for block in blocks
    }


def _count_faster(rows: Sequence[Row], others: Iterable[Sequence[Row]], factor: float) -> int:
    """Count the qualified systems of the same division that are significantly faster."""
    division, count = rows[0].record.system["division"], 0
    for peers in others:
        if peers[0].name == rows[0].name or peers[0].record.system["division"] != division:
            continue
        ratio = combine_speed(list(zip(rows, peers, strict=True)))
        across = any(
            row.record.session != peer.record.session for row, peer in zip(rows, peers, strict=True)
        )
        count += ratio is not None and ratio.low > 1 and ratio.value > (factor if across else 1)
    return count
