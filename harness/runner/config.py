"""What a run measures, for how long, and how its workers are isolated."""

from dataclasses import dataclass

from harness.results.record import Timing
from harness.results.record_parts import SCENARIOS, Scenario

SMOKE = Timing(
    window=0.2,
    short_window=0.1,
    probe=0.3,
    longest_probe=1.0,
    audit_queries=1.0,
    audit_examples=300,
)
"""Enough to see that everything works, too short to compare anything: `--smoke`."""


@dataclass(frozen=True)
class RunConfig:
    """How a session is run; its records state it.

    Attributes:
        blocks: the least number of blocks.
        until: continue until the 95% interval of every offline speed-up is within this share of its
            value (0.03: 3%), or `minutes` have passed.
        minutes: when `until` gives up.
        server: whether the scenario `server` is measured too.
        isolation: one of `sandbox.CHOICES`.
        timing: lengths of windows and probes, and timeouts.
        resume: the session to continue until it has `blocks`; '' for a new one.
    """

    blocks: int = 5
    until: float | None = None
    minutes: float = 60.0
    server: bool = False
    isolation: str = "auto"
    timing: Timing = Timing()
    resume: str = ""

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """What each round measures."""
        return SCENARIOS if self.server else tuple(name for name in SCENARIOS if name != "server")
