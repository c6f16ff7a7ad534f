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


def shorten_path(path: str | Path) -> str:
    """Return how records and printed commands name a file or folder.

    Below the project it is a relative path that begins with `./`, so that records can be moved with
    their project, and it is not taken for a name. Anywhere else it is absolute.
    """
    from harness.store.cache import expand_home  # `wattbench --help` needs neither

    path, project = expand_home(path).resolve(), find_project()
    return f"./{path.relative_to(project)}" if path.is_relative_to(project) else str(path)


def expand_path(text: str) -> str:
    """Return the absolute path for what `shorten_path` returned, and any other text as it is."""
    return str(find_project() / text) if text.startswith("./") else text


def _get_source(project: Path) -> Path:
    if is_checkout(project):
        return project
    return BUNDLE if BUNDLE.is_dir() else SOURCE.parent
