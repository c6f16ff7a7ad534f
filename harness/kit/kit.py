"""What a kit measures: the content of its `kit.json`."""

from pathlib import Path

from pydantic import Field

from harness.schema import Schema

KIT_FILE = "kit.json"
CODE, DATA, PACKAGES, RESULTS = "code", "data", "packages", "results"
"""Folders of an unpacked kit; `start.py`, which imports nothing of this package, names them too."""


class KitSession(Schema):
    """One session.

    Attributes:
        configuration: its name.
        task: the name of the task, or the path of its `task.toml` below `DATA`.
        systems: the systems besides the references.
    """

    configuration: str
    task: str
    systems: tuple[str, ...]


class Kit(Schema):
    """The content of `kit.json`.

    Attributes:
        wattbench: the version that packed it.
        python: the version of Python that its packages are for, such as `3.12`.
        machine: the processor that they are for, such as `x86_64`.
        requirements: what the machine must have, besides what the kit brings, as pip writes it.
        suite: names the references.
        sessions: what is measured, in this order.
        minutes: time limit for all of it, with building.
        rounds: blocks of each session.
        seed: training seed.
        smoke: whether windows are short.
    """

    wattbench: str
    python: str
    machine: str
    requirements: tuple[str, ...]
    suite: str
    sessions: tuple[KitSession, ...]
    minutes: float = Field(gt=0)
    rounds: int = Field(ge=1)
    seed: int = Field(ge=0)
    smoke: bool

    @staticmethod
    def read(folder: Path) -> "Kit":
        """Return what an unpacked kit measures."""
        return Kit.model_validate_json((folder / KIT_FILE).read_bytes())
