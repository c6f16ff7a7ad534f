"""Sessions of several systems, for tests of what accumulates over them."""

from pathlib import Path
from typing import Any

from harness.results.record import write_record
from tests.support.records import make_record

NOISE = (1.0, 1.02, 0.98, 1.01, 0.99)


def write_session(
    folder: Path,
    session: str,
    day: int,
    speeds: dict[str, float],
    blocks: int = 5,
    change: Any = None,
    **kwargs: Any,
) -> None:
    """Write the records of one session.

    Args:
        folder: the folder of the sessions.
        session: its name.
        day: of January 2026, when it started.
        speeds: how many times as fast as the reference each system is; `ref` and `unpadded` (twice
            as fast) are added.
        blocks: how many blocks each system was measured in.
        change: a function that gets each record to change it.
        kwargs: as `make_record` takes them.
    """
    roles = kwargs.get("roles", {"reference": "ref", "unpadded_reference": "unpadded"})
    speeds = {roles["reference"]: 1.0, roles["unpadded_reference"]: 2.0} | speeds
    for number, (name, speed) in enumerate(speeds.items()):
        noise = [NOISE[(block + number) % len(NOISE)] for block in range(blocks)]
        record, side = make_record(
            name,
            [10 / speed * factor for factor in noise],
            0.9,
            session=session,
            started=f"2026-01-{day:02}T00:00:00Z",
            **kwargs,
        )
        record.system["name"] = name
        record.artifact = {**(record.artifact or {}), "key": f"key-of-{name}"}
        if change:
            change(record)
        write_record(record, side, folder)
