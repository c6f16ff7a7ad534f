"""A chain of graphs: after each but the last an example may leave (early exit), and what is skipped
is not computed. The inputs that stay are put together before the next stage.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.engines.base import EngineConfig, Scores
from harness.engines.batching import EncoderEngine
from harness.engines.confidence import Rows, Rule, pass_through
from harness.models import tokenization

Stage = Callable[[dict[str, Any]], list[Scores]]
"""From named inputs to logits, hidden states and mask (the last stage: logits alone)."""


class Counted:
    """How many examples left at each stage; instances may count at the same time."""

    def __init__(self, stages: int) -> None:
        self.left, self.lock = [0] * stages, threading.Lock()

    def add(self, left: Sequence[int]) -> None:
        """Some more."""
        with self.lock:
            for stage, count in enumerate(left):
                self.left[stage] += count

    def report(self) -> dict[str, list[int]]:
        """Since the last report."""
        with self.lock:
            left, self.left = self.left, [0] * len(self.left)
        return {"left": left}


class StagesEngine(EncoderEngine):
    """Each input leaves by itself; `[serve] threshold` may say another place than was chosen."""

    def __init__(self, what: EngineConfig, stages: Sequence[Stage]) -> None:
        super().__init__(what, self.through)
        self.stages = stages
        self.rule = Rule.read(what.about.get("rule"), len(stages), what.serve.threshold)
        self.counted = Counted(len(stages))
        self.report = self.counted.report

    def through(self, batch: tokenization.Batch) -> Scores:
        """float32 [inputs, labels]."""
        there, out = np.arange(len(batch.ids)), [np.empty(0, np.float32)]

        def ask(number: int, rows: Rows) -> Scores:
            nonlocal there, out
            feeds: dict[str, Any] = batch.feeds
            if number:
                feeds = {"hidden": out[1], "mask": out[2], "rows": np.searchsorted(there, rows)}
            there, out = rows, self.stages[number](feeds)
            return out[0]

        scores, left = pass_through(self.rule, [1] * len(there), ask)
        self.counted.add(left)
        return scores
