"""Custom tasks and models that only records know: their names stand in no folder of systems."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, RecordError
from harness.results.record import Record, read_record
from harness.store.cache import cache_dir
from harness.submissions.checkpoint import compute_model_digest, declare_model_systems, is_local
from harness.submissions.project import expand_path
from harness.tasks.registry import get_task
from harness.tasks.task import Task


def find_recorded_task(name: str, places: Iterable[Path]) -> Task | None:
    """Return the custom task that the latest session with this name was measured on, if any.

    Args:
        name: the name of the task.
        places: results folders, the first one first.

    Raises:
        HarnessError: the file of the task is gone, or declares another one.
    """
    record = _find_latest(f"*/{glob.escape(name)}/*/*.json", places)
    return get_recorded_task(record) if record else None


def get_recorded_task(record: Record) -> Task:
    """Return the task of a record.

    Raises:
        HarnessError: the record does not say where a custom task is, its file is gone, or it
            declares another task.
    """
    name = str(record.task["name"])
    address = expand_path(record.inputs.get("task", name))
    session = f"session {record.session} was measured on task {name!r}"
    if address.endswith(".toml") and not Path(address).is_file():
        raise HarnessError(
            f"{session} of {address}, where there is no file now. Put it back, or name its new "
            "place with --task PATH."
        )
    task = get_task(address)
    if task.name != name:
        raise HarnessError(
            f"{session} of {address}, which is called {task.name!r} now. Change `name` back, or "
            "measure a new session."
        )
    return task


def find_recorded_systems(
    names: Iterable[str], folders: Mapping[str, Path], places: Sequence[Path]
) -> dict[str, Path]:
    """Return the folders of the known systems, and of systems of models that were measured.

    Args:
        names: the names of systems, or paths of their folders.
        folders: folders of the known systems, by name.
        places: results folders, the first one first; of each the latest session counts.

    Raises:
        HarnessError: a manifest is no longer in the cache, and its model is gone or has changed.
    """
    unknown = [name for name in names if name not in folders and "/" not in name]
    recorded = {name: _find_recorded_system(name, places) for name in unknown}
    return {**folders, **{name: folder for name, folder in recorded.items() if folder}}


def _find_recorded_system(name: str, places: Sequence[Path]) -> Path | None:
    record = _find_latest(f"*/*/*/{glob.escape(name)}.json", places)
    if record is None or "model" not in record.system:
        return None
    folder = cache_dir() / "models" / record.system["model"] / name
    if not (folder / "submission.toml").is_file():
        model = get_recorded_model(record)
        folder = declare_model_systems(model, (), record.roles["reference"])[name]
    return folder


def get_recorded_model(record: Record) -> str:
    """Return the model that a session was measured with, as `--model` takes it.

    Args:
        record: of one of the model's systems.

    Raises:
        HarnessError: the record does not say where the model is, it is gone, or its files changed.
    """
    model = expand_path(record.inputs.get("model", ""))
    session = f"session {record.session} was measured with the model {record.roles['reference']!r}"
    if not model:
        raise HarnessError(f"{session}, but does not say where it is. Name it with --model.")
    if Path(model).is_absolute():
        if not is_local(model):
            raise HarnessError(
                f"{session} in {model}, where there is no folder now. Put it back, or name its new "
                "place with --model in `wattbench run`."
            )
        if compute_model_digest(Path(model)) != record.system["model"]:
            raise HarnessError(
                f"{session} in {model}, whose files have changed since. Put the files back, or "
                "measure a new session."
            )
    return model


def _find_latest(pattern: str, places: Iterable[Path]) -> Record | None:
    """Return a record of the latest session that says where its task and model are."""
    for place in places:
        for path in sorted((place / "records").glob(pattern), reverse=True):
            try:
                record = read_record(path)
            except RecordError:
                continue
            if record.inputs:
                return record
    return None
