"""What is sent to the machines of a fleet, and what comes back: JSON, checked on both sides."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

import harness
from harness.results.record_parts import InputsPart
from harness.schema import Schema


class Request(Schema):
    """What every request has.

    Attributes:
        code: digest of the package; a machine with another one refuses the request.
        project: digest of the project.
        store: the address of the shared store; '' for the cache alone.
        task: the address of the task in the project.
        seed: training seed.
    """

    code: str
    project: str
    store: str
    task: str
    seed: int = Field(ge=0)


class BuildRequest(Request):
    """Build one step.

    Attributes:
        kind: tells the requests apart.
        system: the name of a system whose recipe has the step.
        key: the key of the step.
        cores: cores to use; 0 for all of the machine.
    """

    kind: Literal["build"] = "build"
    system: str
    key: str
    cores: int = Field(ge=0)


class SessionRequest(Request):
    """Measure a session of one task.

    Attributes:
        kind: tells the requests apart.
        suite: names the references.
        systems: the names of the systems.
        points: those of them that are measured at their operating points; None for all.
        seeds: the number of training seeds.
        configuration: its name.
        blocks: the number of blocks.
        server: whether the scenario `server` is measured too.
        isolation: one of `sandbox.CHOICES`.
        smoke: whether windows are short.
        inputs: what names the task and the system in a command where the fleet was started, for its
            record, by system.
        digests: of the folders of systems with custom code, as they are there.
        failed: keys of artifacts that could not be built.
    """

    kind: Literal["session"] = "session"
    suite: str
    systems: tuple[str, ...]
    points: tuple[str, ...] | None
    seeds: int = Field(ge=1)
    configuration: str
    blocks: int = Field(ge=1)
    server: bool
    isolation: str
    smoke: bool
    inputs: dict[str, InputsPart]
    digests: dict[str, str] = Field(default_factory=dict)
    failed: tuple[str, ...] = ()


class Reply(Schema):
    """What a machine returns.

    Attributes:
        error: why it failed, or ''.
        killed: whether its process was killed, so that another machine may try.
        refused: whether this machine can do no job, so that another one does it.
        host: its name.
        session: the name of the session, or ''.
        left_off: why systems were not measured, by name.
    """

    error: str = ""
    killed: bool = False
    refused: bool = False
    host: str = ""
    session: str = ""
    left_off: dict[str, str] = Field(default_factory=dict)


@cache
def compute_code_digest() -> str:
    """Return a digest of the package's code, and of its configurations and settings."""
    package = Path(harness.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        is_code = path.suffix in (".py", ".toml") and path.is_file()
        if is_code and "bundled" not in path.relative_to(package).parts:
            hasher.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()
