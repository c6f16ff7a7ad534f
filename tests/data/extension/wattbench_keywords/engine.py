"""The engine `keywords`: sums the log odds of a text's words."""

import json
from collections.abc import Sequence

import numpy as np

from harness.engines.base import Candidates, Engine, EngineConfig
from harness.engines.registry import EngineKind
from harness.models.answers import Scores

ENGINE = EngineKind("wattbench_keywords.engine", ("keywords",), shares_model=True)


class KeywordsEngine:
    """The score of label 1 is the sum; that of label 0 is 0."""

    def __init__(self, odds: dict[str, float]) -> None:
        self.odds = odds

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, 2]."""
        texts = [" ".join(candidate) for example in examples for candidate in example]
        sums = [sum(self.odds.get(word, 0.0) for word in text.lower().split()) for text in texts]
        return np.array([[0.0, total] for total in sums], np.float32)


def load(config: EngineConfig) -> Engine:
    """Load an artifact of the step `keywords`."""
    return KeywordsEngine(json.loads((config.folder / "keywords.json").read_text()))
