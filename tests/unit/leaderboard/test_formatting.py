import pytest

from harness.leaderboard.figures import compute_usd_per_100m
from harness.leaderboard.formatting import (
    describe_ratio,
    format_interval,
    format_machine,
    format_number,
)
from harness.results.statistics import Interval
from harness.telemetry.configuration import configurations
from tests.support.records import make_record


@pytest.mark.parametrize(
    ("seconds", "usd"),
    [(734.35, 4223), (209.29, 1204), (22.5, 129), (9.97, 57), (5.68, 33), (4.11, 24), (3.14, 18)],
)
def test_cost_agrees_with_table_3_of_fastformers(seconds: float, usd: int) -> None:
    price = configurations()["cpu-16"].usd_per_hour
    assert round(compute_usd_per_100m(price, 3270 / seconds)) == usd


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1234.5, "1,234"),
        (9.876, "9.88"),
        (0.01234, "0.0123"),
        (3e-9, "3.00e-09"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_interval_is_written_with_its_limits() -> None:
    assert format_interval(Interval(12.34, 12.0, 12.6)) == "12.3x [12.0, 12.6]"
    assert format_interval(Interval(2.0, float("nan"), float("nan"))) == "2.00x"
    assert format_interval(None) == "-"


def test_sentences_do_not_state_what_an_interval_does_not_support() -> None:
    assert describe_ratio(Interval(12.34, 12.0, 12.6)) == "12.3x [12.0, 12.6]"
    assert describe_ratio(Interval(82.8, 5.14, 1336)) == "5.14x to 1,336x"
    no_interval = Interval(2.0, float("nan"), float("nan"))
    assert describe_ratio(no_interval) == "2.00x (one block, without an interval)"
    assert describe_ratio(Interval(1.0, 1.0, 1.0)) == "1.00x"


def test_machine_name_includes_the_quota() -> None:
    record, _ = make_record("ref", [1.0], 0.9)
    record.machine["quota"] = 1.5
    assert format_machine(record) == "CPU, 2 cores, quota 1.5 (avx2)"
