"""Creates the folder of a new submission: `wattbench new`."""

import re
import shutil
import subprocess
from pathlib import Path

from harness.errors import HarnessError, suggest_name
from harness.store.cache import name_unwritable
from harness.store.template import render_template
from harness.submissions.manifest import find_systems, read_system

TEMPLATES = Path(__file__).parent / "templates"
CODE_FILES = {"module": "model.py", "command": "run.sh"}
"""The file of each kind of custom code."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def create_submission(name: str, root: Path, origin: str = "", custom: str = "") -> Path:
    """Write the folder of a new submission, completely or not at all.

    Args:
        name: the name of the submission and of its folder in submissions/.
        root: the project.
        origin: the name of a system to copy; '' to start from a template.
        custom: `module` or `command` for a template with custom code; '' for a recipe.

    Returns:
        The folder.

    Raises:
        HarnessError: the name is taken or not allowed, `origin` does not exist, or the folder
            cannot be written.
    """
    systems = find_systems(root)
    if not NAME_PATTERN.fullmatch(name):
        raise HarnessError(
            f"{name!r} is not allowed as a name. Use letters, digits, '.', '_' and '-', at most "
            "100 of them, and start with a letter or a digit."
        )
    folder = root / "submissions" / name
    if origin in systems:
        read_system(systems[origin], root)  # what cannot be read is not worth copying
    if name in systems or folder.exists():
        existing = systems.get(name, folder)
        raise HarnessError(f"{name!r} exists already: {existing}. Choose another name.")
    if origin and origin not in systems:
        raise HarnessError(f"system {origin!r} does not exist. {suggest_name(origin, systems)}")
    temporary = folder.with_name(f".{name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with name_unwritable(folder):
            if origin:
                _copy_system(systems[origin], temporary, name)
            else:
                _write_template(temporary, name, custom)
            readme = render_template("submissions/templates/README.md.j2", name=name, origin=origin)
            (temporary / "README.md").write_text(readme, encoding="utf-8")
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_template(folder: Path, name: str, custom: str) -> None:
    folder.mkdir(parents=True)
    text = render_template(
        "submissions/templates/submission.toml.j2",
        name=name,
        authors=_guess_authors(),
        division="open" if custom else "closed",
        task="sentiment" if custom else "any",
        kind=custom or "recipe",
    )
    (folder / "submission.toml").write_text(text, encoding="utf-8")
    if custom:
        shutil.copy(TEMPLATES / CODE_FILES[custom], folder / CODE_FILES[custom])
    if custom == "command":
        (folder / CODE_FILES[custom]).chmod(0o755)


def _copy_system(origin: Path, folder: Path, name: str) -> None:
    """Copy all files of a system; the title and the authors are those of the new one."""
    shutil.copytree(origin, folder)
    manifest = folder / "submission.toml"
    text = manifest.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^title *=.*$", lambda _: f'title = "{name}"', text, count=1)
    text = re.sub(r"(?m)^authors *=.*$", lambda _: f"authors = {_guess_authors()}", text, count=1)
    text = text.replace('division = "baseline"', 'division = "open"', 1)
    manifest.write_text(text, encoding="utf-8")


def _guess_authors() -> str:
    """Return git's `user.name` as a TOML list; an empty list to fill in if it is not set."""
    command = ["git", "config", "user.name"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        output = ""
    author = re.sub(r'["\\\x00-\x1f]', "", output.strip())
    return f'["{author}"]' if author else "[]                  # fill in: a list of names"
