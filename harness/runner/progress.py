"""What a session prints while it measures."""

import time
from itertools import pairwise
from statistics import mean, median

from harness.progress import Log, ProgressLine

USUAL_ROUND_SECONDS = 6.0


class Progress:
    """Logs each round of a session, and how long the rest will take.

    The estimate is the mean of the last block's rounds. In the first block it is the median of the
    rounds so far and of three usual ones, so that one slow system does not stand for all. The
    accuracy passes before the blocks do not count.

    Args:
        rounds: rounds of a block.
        blocks: blocks to come.
        log: takes the lines.
    """

    def __init__(self, rounds: int, blocks: int, log: Log) -> None:
        self.rounds, self.blocks, self.log = rounds, blocks, log
        self.started = time.monotonic()
        self.times = [self.started]

    def start_blocks(self) -> None:
        """Note that what comes before the first block is over."""
        self.times = [time.monotonic()]

    @property
    def minutes_after_another_block(self) -> float:
        """How long the session will have taken after one more block."""
        last_block = self.times[-1] - self.times[max(-1 - self.rounds, -len(self.times))]
        return (self.times[-1] - self.started + last_block) / 60

    def prepare(self, description: str, share: float) -> None:
        """Log what comes before the first block; how long that takes is not estimated.

        Args:
            description: what is being done.
            share: the share of the accuracy passes that is done.
        """
        self.log(ProgressLine(description, share))

    def step(self, description: str) -> None:
        """Log the beginning of a round."""
        durations = [after - before for before, after in pairwise(self.times)]
        if len(durations) >= self.rounds:
            round_seconds = mean(durations[-self.rounds :])
        else:
            round_seconds = median([*durations, *[USUAL_ROUND_SECONDS] * 3])
        total = self.rounds * self.blocks
        left = round_seconds * max(0, total - len(durations))
        self.log(ProgressLine(description, len(durations) / total, left))

    def done(self) -> None:
        """Note the end of a round."""
        self.times.append(time.monotonic())
