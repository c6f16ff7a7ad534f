"""Early exit with a chain of graphs: an input may exit after each but the last.

The inputs that remain are gathered before the next graph runs, so what is skipped is not computed.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.engines.base import EngineConfig
from harness.engines.batching import EncoderEngine
from harness.engines.confidence import ExitRule, Rows, run_stages
from harness.models import tokenization
from harness.models.answers import Scores

Stage = Callable[[dict[str, Any]], list[Scores]]
"""From named inputs to logits, hidden states and mask (of the last stage: logits alone)."""


class ExitCounter:
    """Counts how many examples exit at each stage; instances may count at the same time."""

    def __init__(self, stages: int) -> None:
        self.counts, self.lock = [0] * stages, threading.Lock()

    def add(self, counts: Sequence[int]) -> None:
        """Add the examples that exited at each of the first stages."""
        with self.lock:
            for stage, count in enumerate(counts):
                self.counts[stage] += count

    def report(self) -> dict[str, list[int]]:
        """Return the counts since the last report, and start again at 0."""
        with self.lock:
            counts, self.counts = self.counts, [0] * len(self.counts)
        return {"left": counts}


class StagesEngine(EncoderEngine):
    """Every input exits by itself; `[serve] threshold` overrides the thresholds of the artifact."""

    def __init__(self, config: EngineConfig, stages: Sequence[Stage]) -> None:
        super().__init__(config, self._run_stages)
        self.stages = stages
        self.rule = ExitRule.from_dict(
            config.metadata.get("rule"), len(stages), config.serve.threshold
        )
        self.exits = ExitCounter(len(stages))
        self.report = self.exits.report

    def _run_stages(self, batch: tokenization.Batch) -> Scores:
        remaining = np.arange(len(batch.ids))
        outputs: list[Scores] = []

        def score(stage: int, rows: Rows) -> Scores:
            nonlocal remaining, outputs
            feeds: dict[str, Any] = batch.feeds
            if stage:
                _, hidden, mask = outputs
                feeds = {"hidden": hidden, "mask": mask, "rows": np.searchsorted(remaining, rows)}
            remaining, outputs = rows, self.stages[stage](feeds)
            return outputs[0]

        scores, exit_counts = run_stages(self.rule, [1] * len(remaining), score)
        self.exits.add(exit_counts)
        return scores
