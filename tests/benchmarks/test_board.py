"""Time and memory of drawing the leaderboard from ten thousand records."""

import random
import re
import subprocess
import sys
import timeit
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.results.record import write_record
from tests.support.records import make_record

SYSTEMS = 100
MAX_BYTES = 10**9

SCRIPT = """
import sys
from pathlib import Path
from harness.cli.main import main
status = main(["board", "--results", sys.argv[1]])
print(Path("/proc/self/status").read_text())
sys.exit(status)
"""


def write_records(results: Path, sections: int, sessions: int) -> None:
    """Write sessions of a hundred systems, each with its own answers to 1,000 examples."""
    generator = random.Random(0)
    for section in range(sections):
        for session in range(sessions):
            for number in range(SYSTEMS):
                name = {0: "ref", 1: "unpadded", 2: "null"}.get(number, f"system-{number}")
                record, side = make_record(
                    name,
                    [30 / (1 + number) * generator.uniform(0.95, 1.05) for _ in range(5)],
                    0.9 - 0.001 * number,
                    session=f"s{session:03d}-{section:03d}",
                    started=f"2026-01-01T{session:03d}{section:03d}Z",
                    configuration=f"cpu-{section}",
                    division=("open", "closed")[number % 2] if number > 2 else "baseline",
                )
                right = [a == b for a, b in zip(side["answers"], side["labels"], strict=True)]
                generator.shuffle(right)
                pairs = zip(right, side["labels"], strict=True)
                side["answers"] = [label if is_right else 1 - label for is_right, label in pairs]
                write_record(record, side, results / "records")


@pytest.mark.parametrize(
    ("sections", "sessions", "most"),
    [(1, 100, 3), (100, 1, 10)],
    ids=["a hundred shown", "all shown"],
)
def test_ten_thousand_records_are_drawn_in_time(
    benchmark: BenchmarkFixture, tmp_path: Path, sections: int, sessions: int, most: float
) -> None:
    """The best of three: start of the command, reading, comparing, drawing, writing. At most so
    many times what the hundred records of a single session take.
    """
    single, results = tmp_path / "single", tmp_path / "all"
    write_records(single, 1, 1)
    write_records(results, sections, sessions)

    def draw(folder: Path) -> str:
        command = [sys.executable, "-c", SCRIPT, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    of_single = min(timeit.repeat(lambda: draw(single), number=1, repeat=3))
    output = benchmark.pedantic(draw, (results,), rounds=3)
    match = re.search(r"VmHWM:\s+(\d+) kB", output)
    assert match is not None
    peak_bytes = int(match[1]) * 1024
    benchmark.extra_info["peak_mb"] = peak_bytes / 1e6
    benchmark.extra_info["seconds_of_single"] = of_single
    frame = (results / "leaderboard.csv").read_text()
    assert frame.count("\n") == sections * SYSTEMS + 1
    assert peak_bytes < MAX_BYTES
    assert benchmark.stats.stats.min < most * of_single
