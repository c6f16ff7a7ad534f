"""What a run measures, for how long, and how its workers are isolated."""

from dataclasses import dataclass

from harness.results.record import SCENARIOS, Timing

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

    blocks: at least so many. until: go on until the 95% interval of every offline speed-up is
    within this share of its value (0.03: 3%), or `minutes` have passed. server: whether the
    `server` scenario is measured too. seeds: training seeds that each system is measured with;
    those after the first as rows of their own, `system@seedN`. isolation: one of `sandbox.CHOICES`.
    timing: lengths of windows and timeouts.
    """

    blocks: int = 5
    until: float | None = None
    minutes: float = 60.0
    server: bool = False
    seeds: int = 1
    isolation: str = "auto"
    timing: Timing = Timing()

    @property
    def scenarios(self) -> tuple[str, ...]:
        """What each round measures."""
        return SCENARIOS if self.server else tuple(name for name in SCENARIOS if name != "server")
