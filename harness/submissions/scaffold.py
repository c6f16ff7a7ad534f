"""A new submission's folder: `wattbench new`."""

import re
import shutil
import subprocess
from pathlib import Path

from harness.errors import HarnessError
from harness.schema import nearest
from harness.submissions.manifest import find_systems

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new(name: str, root: Path, origin: str = "", own: str = "") -> Path:
    """Write submissions/NAME, whole or not at all.

    origin: a system to begin with as a copy. own: `module` or `command` for code of one's own.
    Returns: the folder. Raises: HarnessError if the name is taken or cannot be one.
    """
    known = find_systems(root)
    if not NAME.fullmatch(name):
        raise HarnessError(
            f"{name!r} is no name for a system: take letters, digits, '.', '_', '-'."
        )
    folder = root / "submissions" / name
    if name in known or folder.exists():
        raise HarnessError(f"{name!r} exists already, in {known.get(name, folder)}. Take another.")
    if origin and origin not in known:
        raise HarnessError(f"system {origin!r} does not exist. {nearest(origin, known)}")
    made = folder.with_name(f".{name}")
    shutil.rmtree(made, ignore_errors=True)
    try:
        if origin:
            _copy(known[origin], made, name)
        else:
            _fill(made, name, own)
        origin_line = f"\nIt begins as a copy of `{origin}`.\n" if origin else ""
        (made / "README.md").write_text(
            _template("README.md").format(name=name, origin=origin_line)
        )
        made.rename(folder)
    except OSError as error:
        raise HarnessError(f"{folder}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _fill(folder: Path, name: str, own: str) -> None:
    folder.mkdir(parents=True)
    text = _template("submission.toml").format(
        name=name,
        authors=_authors(),
        division="open" if own else "closed",
        task="sentiment" if own else "any",
        body=_template(f"{own or 'recipe'}.txt").rstrip(),
    )
    (folder / "submission.toml").write_text(text)
    if own:
        file = {"module": "model.py", "command": "run.sh"}[own]
        shutil.copy(TEMPLATES / file, folder / file)
    if own == "command":
        (folder / "run.sh").chmod(0o755)


def _copy(origin: Path, folder: Path, name: str) -> None:
    """All its files, with the title and the authors of the new one."""
    shutil.copytree(origin, folder)
    manifest = folder / "submission.toml"
    text = manifest.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^title *=.*$", lambda _: f'title = "{name}"', text, count=1)
    text = re.sub(r"(?m)^authors *=.*$", lambda _: f"authors = {_authors()}", text, count=1)
    text = text.replace('division = "baseline"', 'division = "open"', 1)
    manifest.write_text(text, encoding="utf-8")


def _authors() -> str:
    """Who git says one is, as a TOML list; empty where it does not know, to be filled in."""
    try:
        command = ["git", "config", "user.name"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found = ""
    clean = re.sub(r'["\\\x00-\x1f]', "", found)
    return f'["{clean}"]' if clean else "[]                  # fill in: a list of names"


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
