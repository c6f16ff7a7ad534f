"""What a run says while it measures."""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import mean, median

USUAL_ROUND_SECONDS = 6.0


class Progress:
    """Says what is being done and how long the rest will take.

    The estimate is the mean of the last block's rounds. In the first block, which also holds the
    accuracy passes, it is the median of the rounds so far and of three usual ones, so that one slow
    system does not stand for all.
    """

    def __init__(self, block: int, blocks: int, log: Callable[[str], None]) -> None:
        self.block, self.blocks, self.log = block, blocks, log
        self.times = [time.monotonic()]

    @property
    def minutes_after_another(self) -> float:
        """How long it will have taken after one more block."""
        last = self.times[-1] - self.times[max(-1 - self.block, -len(self.times))]
        return (self.times[-1] - self.times[0] + last) / 60

    def step(self, what: str) -> None:
        """A step begins."""
        rounds = [after - before for before, after in pairwise(self.times)]
        if len(rounds) >= self.block:
            each = mean(rounds[-self.block :])
        else:
            each = median([*rounds, *[USUAL_ROUND_SECONDS] * 3])
        steps = self.block * self.blocks
        left = each * (steps - len(rounds)) / 60
        self.log(f"{what} ({len(rounds)}/{steps} rounds, about {left:.1f} min left)")

    def done(self) -> None:
        """A step ended."""
        self.times.append(time.monotonic())
