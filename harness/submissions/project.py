"""The project: a checkout, or outside of one the current folder.

A checkout holds `baselines/` and `submissions/`. The wheel carries copies of both, which are used
outside of a checkout, together with `submissions/` of the current folder. Results are written to
`results/` of the project.
"""

from pathlib import Path

import harness

SOURCE = Path(harness.__file__).parent
BUNDLE = SOURCE / "bundled"
"""Holds the copies of `baselines/` and `submissions/`; an editable installation has none, because
it uses those of its checkout."""


def find_project() -> Path:
    """Return the nearest checkout above the current folder, or else the current folder."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if is_checkout(folder)), here)


def is_checkout(folder: Path) -> bool:
    """Return whether a folder holds `baselines/` and `submissions/`."""
    return (folder / "baselines").is_dir() and (folder / "submissions").is_dir()


def get_published_folder(project: Path) -> Path:
    """Return the folder of the published tables."""
    return _get_source(project) / "baselines" / "published"


def get_system_folders(project: Path) -> list[Path]:
    """Return the folders whose subfolders are systems."""
    source = _get_source(project)
    folders = [source / "baselines", source / "submissions"]
    return folders if source == project else [*folders, project / "submissions"]


def describe_places(project: Path) -> str:
    """Return where systems are looked up, for a message."""
    if is_checkout(project):
        return str(project)
    return f"{project / 'submissions'} or among those of the package"


def _get_source(project: Path) -> Path:
    if is_checkout(project):
        return project
    return BUNDLE if BUNDLE.is_dir() else SOURCE.parent
