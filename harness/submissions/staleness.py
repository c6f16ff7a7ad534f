"""Whether a row is what its manifest builds today, measured as it would be measured today."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path

from harness.errors import HarnessError
from harness.results.record import MEASUREMENT_VERSION, Record
from harness.results.state import State
from harness.store.cache import folder_digest
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import plan_system
from harness.submissions.project import expand_path
from harness.submissions.system import System
from harness.tasks.registry import get_task


class StalenessCheck:
    """Compares records with the manifests of a project.

    Args:
        project: the project.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._read_system = cache(self._find_system)

    def find_state(self, record: Record) -> State:
        """Return whether a record is current.

        It is stale if the manifest builds another artifact today (for the record's version of the
        task, its seed and its instruction set), if the submission's own code is another one, or if
        it was measured under another `MEASUREMENT_VERSION`.
        """
        stale = []
        if record.measurement != MEASUREMENT_VERSION:
            stale.append(
                f"measured by version {record.measurement} of the measurement, which is at version "
                f"{MEASUREMENT_VERSION} now"
            )
        try:
            stale += self._find_changes(record)
        except HarnessError as error:
            if not stale:
                return State("not checked", (str(error),))
        return State("stale", tuple(stale)) if stale else State("current")

    def _find_changes(self, record: Record) -> list[str]:
        """Return what the manifest builds differently today.

        Raises:
            HarnessError: that cannot be told.
        """
        system = self._read_system(record.system["folder"], record.inputs.get("system", ""))
        changes = []
        recorded_code = record.system.get("code")
        if recorded_code and recorded_code != folder_digest(system.folder):
            changes.append("its code has changed")
        artifact = record.artifact or {}
        task = get_task(expand_path(record.inputs.get("task", str(record.task["name"]))))
        task = replace(task, edition=str(record.task["version"]), content=None)
        key = plan_system(system, task, artifact.get("seed", 0), record.machine["flags"]).key
        if key != artifact.get("key", ""):
            dtypes = {step.get("encoder_dtype", "fp32") for step in artifact.get("recipe", [])}
            if rounded := dtypes - {"fp32"}:
                changes.append(f"it was built from start weights in {min(rounded)}")
            else:
                changes.append("its manifest builds another artifact now")
        return changes

    def _find_system(self, folder: str, path: str) -> System:
        if folder.startswith("models/"):
            raise HarnessError("it was made of a model with --model")
        if path:
            return read_system(Path(expand_path(path)), self._project)
        found = self._folders.get(folder)
        if found is None:
            raise HarnessError(f"there is no {folder} in {self._project}")
        return read_system(found, self._project)

    @cached_property
    def _folders(self) -> Mapping[str, Path]:
        """The folders of all systems, by their name with the folder above."""
        paths = find_systems(self._project).values()
        return {f"{path.parent.name}/{path.name}": path for path in paths}
