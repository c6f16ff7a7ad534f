"""How much speed-ups of the same code differ between sessions, estimated from repeats of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

SESSION_FACTOR = 4 / 3
"""Two speed-ups of the same code on the same machine in two sessions lie within this factor of each
other, however narrow their intervals, which do not include the variation between sessions.

Of eighty speed-ups of the same code on the same machine, two were a third apart in another session
(docs/guides/verify-results.md).
"""

MIN_SESSIONS = 4
MIN_FREEDOM = 10
"""Fewest sessions, and fewest repeats beyond the first of each system, to estimate the factor."""


@dataclass(frozen=True)
class SessionVariation:
    """The variation of speed-ups between sessions.

    Attributes:
        factor: 95% of the ratios of the same code's speed-ups in two sessions are smaller.
        sessions: the number of sessions that it is estimated from; 0 if it is `SESSION_FACTOR`.
        repeats: the number of speed-ups that it is estimated from.
    """

    factor: float = SESSION_FACTOR
    sessions: int = 0
    repeats: int = 0


NOT_ESTIMATED = SessionVariation()


@dataclass(frozen=True)
class Repeat:
    """One system's speed-up in one session.

    Attributes:
        system: what is the same in all repeats: its name, artifact, settings.
        session: the name of the session.
        speedups: over the reference, one for each block.
    """

    system: str
    session: str
    speedups: Sequence[float]


def estimate_session_variation(repeats: Sequence[Repeat]) -> SessionVariation:
    """Estimate the variation between sessions; `SESSION_FACTOR` where there are too few repeats.

    The standard deviation of the logarithm of a system's mean speed-up over its sessions is pooled
    over all systems. The systems of a session share its reference and its state of the machine, so
    the quantile is that of Student's t for the number of sessions, not of speed-ups.

    Args:
        repeats: of one section; the reference itself is not among them.
    """
    means: dict[str, list[float]] = {}
    sessions: dict[str, set[str]] = {}
    for repeat in repeats:
        means.setdefault(repeat.system, []).append(fmean(map(math.log, repeat.speedups)))
        sessions.setdefault(repeat.system, set()).add(repeat.session)
    repeated = {system: logs for system, logs in means.items() if len(logs) > 1}
    names = set().union(*(sessions[system] for system in repeated))
    freedom = sum(len(logs) - 1 for logs in repeated.values())
    if len(names) < MIN_SESSIONS or freedom < MIN_FREEDOM:
        return NOT_ESTIMATED
    from scipy.special import stdtrit

    squares = [(log - fmean(logs)) ** 2 for logs in repeated.values() for log in logs]
    deviation = math.sqrt(math.fsum(squares) / freedom)
    quantile = float(stdtrit(len(names) - 1, 0.975))
    count = sum(map(len, repeated.values()))
    return SessionVariation(math.exp(quantile * math.sqrt(2) * deviation), len(names), count)
