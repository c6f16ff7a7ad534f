"""The static student of the step `static`, on NumPy and SciPy alone."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from harness.engines.base import Candidates, Engine, EngineConfig
from harness.models import static
from harness.models.answers import Scores

CHUNK = 512
"""Number of texts that one instance scores at once."""


class StaticEngine:
    """Scores chunks of the texts in parallel, one thread per instance."""

    def __init__(self, config: EngineConfig) -> None:
        self.model = static.load(config.folder)
        self.instances = config.instances
        # more of them wait for each other: NumPy would use all cores for each of the small matrices
        threadpool_limits(config.threads_per_instance, "blas")
        self.pool = ThreadPoolExecutor(self.instances) if self.instances > 1 else None

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels]."""
        rows = [candidate for example in examples for candidate in example]
        if self.pool is None or len(rows) <= CHUNK // 4:
            return self.model.logits(rows)
        size = min(CHUNK, -(-len(rows) // self.instances))
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        return np.concatenate(list(self.pool.map(self.model.logits, chunks)))


def load(config: EngineConfig) -> Engine:
    """Load an artifact of the step `static`."""
    return StaticEngine(config)
