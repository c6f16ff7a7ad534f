"""The packages that a kit brings: what the machine lacks of what its systems need.

Which wheel fits is decided by pip, for the Python and processor of the other machine; which
packages are needed, by following the metadata of the wheels.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from harness.engines.registry import get_engine
from harness.errors import SourceError
from harness.progress import Log
from harness.submissions.plan import Plan

GLIBC_MINORS = (*range(5, 29),)
"""The other machine must have glibc 2.28 or later, and take wheels for any version up to that."""

OLD_TAGS = ("manylinux1", "manylinux2010", "manylinux2014")

NEVER_PACKED = ("torch",)
"""Too large for a kit, and different for each GPU."""

ONLY_FOR_TABLES = ("jinja2", "matplotlib", "tabulate", "textalloc")
"""Requirements that nothing needs on a machine that measures."""

ONLY_FOR_STEPS = {
    "onnx": ("adopt", "export"),
    "onnxruntime": ("adopt", "export"),
    "scikit-learn": ("model2vec", "tfidf-logreg"),
}
"""Requirements that only recipes with one of these steps need."""

ONLY_FOR_COMMANDS = {"codecarbon": ("arrow", "authlib", "joserfc", "questionary")}
"""Requirements of packages that only their own commands need, with six more below them."""

Download = Callable[[str, SpecifierSet, "Target", Path], Path]


@dataclass(frozen=True)
class Target:
    """The machine that will measure.

    Attributes:
        python: its version of Python, such as `3.12`.
        machine: its processor, such as `x86_64`.
        packages: the versions of its packages by canonical name; '' where the version is not known.
    """

    python: str
    machine: str
    packages: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(NEVER_PACKED, ""))

    @staticmethod
    def read(path: Path, python: str, machine: str) -> "Target":
        """Read the packages from the output of `pip list --format=freeze`.

        A line may also be a name alone: a package of a version that is not known, but will do.

        Raises:
            SourceError: the file cannot be read, or a line is neither.
        """
        packages = {}
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path}: {error}. Name a file with the packages.") from None
        for number, line in enumerate(lines, start=1):
            text = line.partition("#")[0].strip()
            match = re.fullmatch(r"([A-Za-z0-9][\w.-]*?)(?:==(\S+)|\s*@\s.*)?", text)
            if match:
                packages[str(canonicalize_name(match[1]))] = match[2] or ""
            elif text:
                raise SourceError(
                    f"{path}: line {number}: {text!r} is not NAME==VERSION. Write the file on the "
                    "other machine: python3 -m pip list --format=freeze"
                )
        return Target(python, machine, packages)

    def has(self, requirement: Requirement) -> bool:
        """Return whether it has a package in a version that will do."""
        version = self.packages.get(canonicalize_name(requirement.name))
        if version is None:
            return False
        return not version or requirement.specifier.contains(version, prereleases=True)

    def applies(self, requirement: Requirement, extras: Collection[str] = ()) -> bool:
        """Return whether a requirement holds there."""
        environment = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_system": "Linux",
            "sys_platform": "linux",
        }
        marker = requirement.marker
        return marker is None or any(
            marker.evaluate(environment | {"extra": extra}) for extra in (*extras, "")
        )


def find_requirements(plan: Plan, target: Target) -> list[Requirement]:
    """Return what building and measuring a plan needs there: `wattbench`'s requirements, without
    those that only tables or other systems need, and those of the optional engines.
    """
    steps = {step.use for step in plan.steps.values()}
    engines = {planned.system.engine for planned in plan.systems}
    engines |= {member.engine for step in plan.steps.values() for member in step.members}
    extras = {kind.extra for name in engines if (kind := get_engine(name)) and kind.extra}
    requirements = []
    for text in importlib.metadata.requires("wattbench") or []:
        requirement = Requirement(text)
        name = str(canonicalize_name(requirement.name))
        is_used = name not in ONLY_FOR_TABLES
        if name in ONLY_FOR_STEPS:
            is_used = not steps.isdisjoint(ONLY_FOR_STEPS[name])
        if is_used and target.applies(requirement, extras):
            requirement.marker = None
            requirements.append(requirement)
            if name == "onnxruntime" and "onnxruntime-gpu" in target.packages:
                requirement.name = "onnxruntime-gpu"
    return requirements


def collect_wheels(
    requirements: Iterable[Requirement],
    target: Target,
    folder: Path,
    log: Log,
    download: Download | None = None,
) -> list[Path]:
    """Download what a machine lacks, and what that needs in turn.

    Args:
        requirements: what it must have.
        target: the machine.
        folder: for the wheels; empty.
        log: called with the name of each wheel.
        download: downloads one wheel (default: with pip).

    Returns:
        The wheels.

    Raises:
        SourceError: a wheel cannot be downloaded, or the machine has a PyTorch that is too old.
    """
    wheels: dict[str, Path] = {}
    specifiers: dict[str, SpecifierSet] = {}
    followed: set[tuple[str, frozenset[str]]] = set()
    pending: deque[tuple[Requirement, tuple[str, ...]]] = deque(
        (requirement, ()) for requirement in requirements
    )
    while pending:
        requirement, extras = pending.popleft()
        name = str(canonicalize_name(requirement.name))
        if not target.applies(requirement, extras):
            continue
        specifiers[name] = specifiers.get(name, SpecifierSet()) & requirement.specifier
        if name in wheels:
            version = parse_wheel_filename(wheels[name].name)[1]
            if not specifiers[name].contains(version, prereleases=True):
                wheels.pop(name).unlink()
                followed = {key for key in followed if key[0] != name}
        elif target.has(requirement):
            continue
        if name in NEVER_PACKED:
            raise SourceError(
                f"{name}{specifiers[name]} is needed, and the machine has "
                f"{target.packages.get(name, 'none')}. It is too large for a kit: install it there."
            )
        if name not in wheels:
            wheels[name] = (download or download_wheel)(name, specifiers[name], target, folder)
            log(f"  {wheels[name].name}")
        key = (name, frozenset(requirement.extras))
        if key not in followed:
            followed.add(key)
            unused = ONLY_FOR_COMMANDS.get(name, ())
            for need in read_requirements(wheels[name]):
                if canonicalize_name(need.name) not in unused:
                    pending.append((need, tuple(requirement.extras)))
    return sorted(wheels.values())


def read_requirements(wheel: Path) -> list[Requirement]:
    """Return what the metadata of a wheel requires."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (
            name for name in file.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        )
        metadata = HeaderParser().parsestr(file.read(name).decode())
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def download_wheel(name: str, specifier: SpecifierSet, target: Target, folder: Path) -> Path:
    """Download the latest wheel of a package that fits, with pip.

    Raises:
        SourceError: there is none, or it cannot be downloaded.
    """
    platforms = [f"{tag}_{target.machine}" for tag in OLD_TAGS]
    platforms += [f"manylinux_2_{minor}_{target.machine}" for minor in GLIBC_MINORS]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", temporary]
        command += ["--python-version", target.python, "--implementation", "cp"]
        command += [argument for platform in platforms for argument in ("--platform", platform)]
        done = subprocess.run(
            [*command, f"{name}{specifier}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "PIP_NO_INPUT": "1"},
        )
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = (lines or ["no reason given"])[-1].removeprefix("ERROR: ")
            raise SourceError(
                f"{name}{specifier}: no wheel for Python {target.python} on {target.machine} could "
                f"be downloaded ({reason}). Connect to the network, or install it on the other "
                "machine and name its packages with --target-packages."
            )
        return wheels[0].rename(folder / wheels[0].name)
