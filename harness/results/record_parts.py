"""Parts of a record: what was measured (system, task), where (configuration, machine), and how."""

from typing import Any, Literal, NotRequired, get_args

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

Division = Literal["baseline", "closed", "open"]
Scenario = Literal["single_stream", "offline", "server"]

DIVISIONS: tuple[Division, ...] = get_args(Division)
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

Number = int | float
"""A number as it is written."""

PART = ConfigDict(extra="allow", strict=True)
"""A part of a record may have further keys, which its readers look up with a default."""


@with_config(PART)
class SystemPart(TypedDict):
    """What a record needs to state of a system.

    Attributes:
        name: its name; `system@point` at an operating point, `system@seed1` with another seed.
        title: of the manifest.
        authors: of the manifest.
        licence: of the folder.
        division: of the manifest.
        folder: the folder of the manifest below the project, or of the model in the cache.
        serve: `[serve]` in this scenario.
        model: digest of the files of a model that was given with `--model`.
        code: digest of the submission's folder, for custom code.
        point: name of the operating point.
        seed: training seed, if it is not the session's first one.
    """

    name: str
    title: str
    authors: list[str]
    licence: str
    division: Division
    folder: str
    serve: dict[str, Any]
    model: NotRequired[str]
    code: NotRequired[str]
    point: NotRequired[str]
    seed: NotRequired[int]


@with_config(PART)
class TaskPart(TypedDict):
    """What a record needs to state of a task.

    Attributes:
        name: its name.
        version: version of its rendering, and for data that is not pinned a digest of its examples.
        metric: what the score is.
        labels: names of the labels.
        max_length: in tokens.
        latency_bound_ms: the p99 latency allowed in `server`.
        training_examples: how many examples there are to train and select on, if that is only a
            part of the official training split.
    """

    name: str
    version: str
    metric: str
    labels: NotRequired[list[str]]
    max_length: NotRequired[int]
    latency_bound_ms: NotRequired[float]
    training_examples: NotRequired[int]


@with_config(PART)
class InputsPart(TypedDict, total=False):
    """What a command needs in order to measure again. Records before schema 4 have none of it.

    A path is relative to the project and begins with `./` if it lies there, otherwise absolute.

    Attributes:
        task: the name of the task, or the path of its `task.toml`.
        model: what `--model` was: the path of a folder, or `organisation/name@revision`.
        name: what `--name` was.
        system: the path of the system's folder, if it is not among those of the project.
    """

    task: str
    model: str
    name: str
    system: str


@with_config(PART)
class AccuracyPassPart(TypedDict):
    """What a record states of the accuracy pass that its score comes from.

    Attributes:
        system: the system that answered the reported split for all rows that give the same answers.
        agreement: share of equal answers to the sample that this system answered itself, if another
            one ran the pass.
    """

    system: str
    agreement: NotRequired[float]


@with_config(PART)
class ConfigurationPart(TypedDict):
    """What a record needs to state of a configuration.

    Attributes:
        name: its name.
        hash: digest of what it fixes; rows of different hashes are not compared.
        title: its title.
        cores: the cores that a worker is pinned to.
        usd_per_hour: list price.
        price_source: where the price comes from.
        price_date: when it was read.
        country: whose electricity CO2 is computed for.
        grams_co2_per_kwh: carbon intensity of that electricity.
    """

    name: str
    hash: str
    title: str
    cores: int
    usd_per_hour: Number
    price_source: str
    price_date: str
    country: str
    grams_co2_per_kwh: Number


@with_config(PART)
class MachinePart(TypedDict):
    """What a record needs to state of a machine.

    Attributes:
        cpu: name of the processor.
        flags: those instruction sets of the processor that matter here.
        cores: logical cores of the machine.
        memory_gb: memory in GiB.
        quota: cores that the control group allows; None without a limit.
        system: operating system.
        kernel: its version.
        isolation: `bubblewrap` or `process`; in older records also `namespaces`.
        gpu: the GPU, under a GPU configuration.
    """

    cpu: str
    flags: list[str]
    cores: int
    memory_gb: Number
    quota: Number | None
    system: str
    kernel: str
    isolation: str
    gpu: NotRequired[dict[str, Any]]


@with_config(PART)
class EnergyPart(TypedDict):
    """What a record needs to state of the origin of its energy.

    Attributes:
        source: whether energy is measured or modelled, and how.
        idle: watts of each component before the session; None where they were not measured.
    """

    source: str
    idle: dict[str, float] | None


@with_config(PART)
class RolesPart(TypedDict):
    """The names of the systems that are the references of the session.

    Attributes:
        reference: the reference, padded to the task's maximum length.
        unpadded_reference: the same without padding.
        null: the system that computes nothing.
    """

    reference: str
    unpadded_reference: str
    null: str
