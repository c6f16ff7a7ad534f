"""How long untrained students are timed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.search import speed
from harness.search.candidate import Shape, Size
from harness.search.speed import TOGETHER, Speed, SpeedMeter

SHAPES = [Shape(Size(layers, 2, 32), "onnxruntime-int8") for layers in range(1, 5 * TOGETHER + 1)]
PART_SECONDS = 10


class Meter(SpeedMeter):
    """Its clock goes on by `PART_SECONDS` with each part."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(None, None, lambda line: None)  # type: ignore[arg-type]
        self.folder, self.now = folder, 1000.0
        monkeypatch.setattr(speed.time, "monotonic", lambda: self.now)

    def _find_file(self, shape: Shape, vocabulary: bool) -> Path:
        return self.folder / f"{shape.size.layers}.json"

    def _time_untrained(self, shapes: Sequence[Shape], *arguments: Any) -> dict[Shape, Speed]:
        self.now += PART_SECONDS
        return {shape: Speed(shape.size.layers, 1.0, 1.0, 1.0) for shape in shapes}


@pytest.mark.parametrize(("seconds", "parts"), [(-5, 1), (15, 1), (25, 2), (50, 5), (500, 5)])
def test_timing_ends_before_its_time_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, parts: int
) -> None:
    meter = Meter(tmp_path, monkeypatch)
    speeds, left_over = meter.time_shapes(SHAPES, True, lambda shape: None, seconds)  # type: ignore[arg-type, return-value]
    assert [*speeds] == SHAPES[: parts * TOGETHER]
    assert left_over == len(SHAPES) - len(speeds)


def test_what_was_timed_before_takes_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(tmp_path, monkeypatch)
    for done in range(1, 6):
        speeds, left_over = meter.time_shapes(SHAPES, True, lambda shape: None, 0)  # type: ignore[arg-type, return-value]
        assert len(speeds) == done * TOGETHER
        assert left_over == len(SHAPES) - len(speeds)
    assert meter.time_shapes(SHAPES, True, lambda shape: None, 0) == (speeds, 0)  # type: ignore[arg-type, return-value]
    assert meter.now == 1000.0 + 5 * PART_SECONDS
