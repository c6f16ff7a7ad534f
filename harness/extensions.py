"""Steps, engines and tasks of other packages, which declare them as entry points.

```toml
[project.entry-points."wattbench.steps"]
my-step = "my_package.my_step:STEP"         # a `harness.optimize.base.Step`
[project.entry-points."wattbench.engines"]
my-engine = "my_package.my_engine:ENGINE"   # a `harness.engines.registry.EngineKind`
[project.entry-points."wattbench.tasks"]
my-task = "my_package.my_task:TASK"         # a `harness.tasks.task.Task`
```
"""

import importlib
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from harness.errors import HarnessError

STEPS, ENGINES, TASKS = "wattbench.steps", "wattbench.engines", "wattbench.tasks"
GROUPS = (STEPS, ENGINES, TASKS)

T = TypeVar("T")


@dataclass(frozen=True)
class Extension:
    """An entry point of another package.

    Attributes:
        group: one of `GROUPS`.
        name: the name that manifests and the command use.
        value: the module and the object in it, `module:object`.
        package: the package that declares it.
        version: the version of the package.
    """

    group: str
    name: str
    value: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        """The package with its version, which is part of the key of what is built with it."""
        return f"{self.package} {self.version}"

    def load(self, kind: type[T]) -> T:
        """Import the object.

        Args:
            kind: what it must be.

        Raises:
            HarnessError: it cannot be imported, or is something else.
        """
        module, _, name = self.value.partition(":")
        try:
            loaded = getattr(importlib.import_module(module), name)
        except Exception as error:  # of any kind: the module is not ours
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise HarnessError(
                f"{self.origin}: the entry point {self.name!r} ({self.value}) cannot be imported "
                f"({reason}). Repair or uninstall the package."
            ) from None
        if not isinstance(loaded, kind):
            raise HarnessError(
                f"{self.origin}: {self.value} is {type(loaded).__name__!r}, but an entry point of "
                f"{self.group} must be a {kind.__module__}.{kind.__name__}."
            )
        return loaded


def find_extensions(group: str, builtin: Container[str] = ()) -> dict[str, Extension]:
    """Return the extensions of a group by name.

    Args:
        group: one of `GROUPS`.
        builtin: names that no extension may have.

    Raises:
        HarnessError: a name is taken; the message names both.
    """
    found: dict[str, Extension] = {}
    for extension in _read_entry_points(group):
        other = found[extension.name].origin if extension.name in found else ""
        if extension.name in builtin:
            other = "wattbench itself"
        if other:
            raise HarnessError(
                f"{extension.origin} adds {extension.name!r} to {group}, and so does {other}. "
                "Uninstall one of them, or rename the entry point."
            )
        found[extension.name] = extension
    return found


@cache
def _read_entry_points(group: str) -> tuple[Extension, ...]:
    """Return all entry points of a group; a package that is found twice counts once."""
    import importlib.metadata  # slow to import, and a worker without extensions does not need it

    found: dict[tuple[str, str], Extension] = {}
    for point in importlib.metadata.entry_points(group=group):
        distribution = point.dist
        package = distribution.name if distribution else "unknown"
        version = distribution.version if distribution else "0"
        extension = Extension(group, point.name, point.value, package, version)
        found.setdefault((point.name, package), extension)
    return tuple(sorted(found.values(), key=lambda extension: extension.name))


def find_code(group: str) -> list[Path]:
    """Return the folder or file of each Python package that has an extension of a group."""
    import importlib.util

    places = []
    for extension in _read_entry_points(group):
        top = extension.value.partition(":")[0].partition(".")[0]
        spec = importlib.util.find_spec(top)
        if spec and spec.submodule_search_locations:
            places += [Path(folder) for folder in spec.submodule_search_locations]
        elif spec and spec.origin:
            places.append(Path(spec.origin))
    return places


def list_packages() -> dict[str, str]:
    """Return the versions of all packages that extend wattbench, by name."""
    return {
        extension.package: extension.version
        for group in GROUPS
        for extension in _read_entry_points(group)
    }
