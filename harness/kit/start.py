"""Measures what a kit holds, on a machine without a network: `python3 kit.zip`.

This file is the `__main__.py` of a kit. It needs Python alone. It unpacks the kit beside the
archive, and writes nothing outside of that folder, except for the archive with the records if
`--out` names another place. Each session runs in a process of its own; after each one the archive
is written anew, so that whatever ends the run, what was measured before is in it.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import site
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

END_SECONDS = 20.0
"""How long a session that is stopped may take to end its processes."""

LEAST_SECONDS = 30.0
"""A session is not begun with less time than this."""

MAX_BYTES = 16 << 20
"""Size of the archive with the records."""


class KitError(Exception):
    """What keeps the kit from measuring here; its message says what to do."""


def main() -> int:
    """Unpack the kit, run its sessions, and say what was measured and what was left off.

    Returns:
        0 if all was measured, 1 if a part was, 2 if nothing was, and 130 after Ctrl-C or SIGTERM.
    """
    started = time.monotonic()
    source = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(prog="python3 kit.zip", description=__doc__)
    parser.add_argument("--minutes", type=float, help="time limit instead of that of the kit")
    parser.add_argument("--out", type=Path, help="archive to write (default: KIT/records.zip)")
    options = parser.parse_args()
    try:
        folder = unpack(source) if source.is_file() else source
        kit = json.loads((folder / "kit.json").read_text())
        check_python(kit)
        install(folder)
        check_requirements(kit, folder)
    except KitError as error:
        print(f"kit: {error}", file=sys.stderr)
        return 2
    minutes = options.minutes or kit["minutes"]
    out = (options.out or folder / "records.zip").absolute()
    return run_sessions(kit, folder, started + 60 * minutes, out)


def unpack(archive: Path) -> Path:
    """Unpack the kit into a folder beside it that has its name; a folder of the same kit is kept,
    with what it has built and measured.
    """
    folder = archive.with_suffix("")
    with zipfile.ZipFile(archive) as file:
        content = file.read("kit.json")
        if folder.exists():
            marker = folder / "kit.json"
            if not marker.is_file() or marker.read_bytes() != content:
                raise KitError(f"{folder} exists and is not of this kit. Move it away.")
            return folder
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            file.extractall(partial)
            partial.rename(folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise KitError(
                f"{folder} cannot be written ({error.strerror}). Copy the kit to a folder that can "
                "be written, on a disk with space."
            ) from None
    return folder


def check_python(kit: dict[str, Any]) -> None:
    """Check that this is the Python and the processor that the kit's packages are for."""
    version = ".".join(platform.python_version_tuple()[:2])
    if version != kit["python"]:
        raise KitError(
            f"this is Python {version}, and the kit is for {kit['python']}. Start it with "
            f"python{kit['python']}, or pack it again with --target-python {version}."
        )
    if platform.machine() != kit["machine"]:
        raise KitError(
            f"this machine is {platform.machine()}, and the kit is for {kit['machine']}. Pack it "
            f"again with --target-machine {platform.machine()}."
        )


def install(folder: Path) -> None:
    """Unpack the packages into the kit's own folder, which Python searches first."""
    target, done = folder / "packages", folder / "packages" / ".complete"
    if not done.exists():
        for wheel in sorted((folder / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as file:
                for member in file.infolist():
                    name = member.filename
                    for library in ("purelib", "platlib"):  # where a wheel may keep its modules
                        name = name.partition(f".data/{library}/")[2] or name
                    member.filename = name
                    file.extract(member, target)
        target.mkdir(exist_ok=True)
        done.touch()
    sys.path[:0] = [str(folder / "code"), str(target)]


def check_requirements(kit: dict[str, Any], folder: Path) -> None:
    """Check that packages that the kit does not bring are here, in versions that it can use."""
    missing = []
    try:
        from packaging.requirements import Requirement
    except ImportError:
        missing.append("packaging is missing")
    else:
        for requirement in map(Requirement, kit["requirements"]):
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                missing.append(f"{requirement.name} is missing")
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                missing.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if missing:
        raise KitError(
            f"{'; '.join(missing)}. Pack the kit again with --target-packages, for the output of: "
            f"{sys.executable} -m pip list --format=freeze"
        )


def make_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a session: data and packages of the kit, and no other folder for
    what libraries write.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    fixed = {
        "PYTHONPATH": os.pathsep.join([str(folder / "code"), str(folder / "packages")]),
        "PYTHONUSERBASE": site.getuserbase(),  # where the packages of this user are
        "PYTHONUNBUFFERED": "1",
        "WATTBENCH_CACHE": str(folder / "cache"),
        "WATTBENCH_DATA": str(folder / "data"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(folder / "data" / "hub"),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "TMPDIR": str(folder / "tmp"),
    }
    return {**os.environ, **fixed}


def run_sessions(kit: dict[str, Any], folder: Path, deadline: float, out: Path) -> int:
    """Run the sessions in order, until the time is up, and write the archive after each."""
    interrupted = threading.Event()
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, lambda *arguments: interrupted.set())
    records = folder / "results" / "records"
    lines: list[str] = []
    measured = 0
    for number, session in enumerate(kit["sessions"]):
        task = Path(session["task"])
        name = f"{task.parent.name or task} under {session['configuration']}"
        reason = "interrupted" if interrupted.is_set() else "the time is up"
        if interrupted.is_set() or deadline - time.monotonic() < LEAST_SECONDS:
            lines.append(f"left off  {name}: {reason}")
            continue
        print(f"kit: {name}", flush=True)
        before = {path: count_blocks(path) for path in records.glob("*")}
        reason = run_session(folder, number, deadline, interrupted)
        after = {path: count_blocks(path) for path in records.glob("*")}
        blocks = max((after[path] for path in after if after[path] != before.get(path)), default=0)
        measured += bool(blocks)
        if blocks:
            ended = f" ({reason})" if reason else ""
            lines.append(f"measured  {name}: {blocks} of {kit['rounds']} blocks{ended}")
        else:
            lines.append(f"left off  {name}: {reason or 'it failed, see above'}")
        write_archive(records, out, lines.append)
    print("\n".join(f"kit: {line}" for line in lines))
    if measured:
        size = out.stat().st_size / 2**20
        print(f"kit: records: {out} ({size:.2f} MiB). At home: wattbench add {out.name}")
    if interrupted.is_set():
        return 130
    complete = all(line.startswith("measured") and line.endswith("blocks") for line in lines)
    return 0 if complete else (1 if measured else 2)


def run_session(folder: Path, number: int, deadline: float, interrupted: threading.Event) -> str:
    """Run one session in a process group of its own, and stop it when the time is up.

    Returns:
        Why it was stopped, or ''.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.kit.node", str(folder), str(number)],
        cwd=folder / "code",
        env=make_environment(folder),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None:
        if interrupted.is_set() or time.monotonic() > deadline - END_SECONDS:
            stop(process)
            return "interrupted" if interrupted.is_set() else "the time was up"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return ""


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a session: it keeps whole blocks."""
    for number, seconds in ((signal.SIGINT, END_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def count_blocks(session: Path) -> int:
    """Return the number of whole blocks of a session's records."""
    paths = list(session.glob("*/offline/*.json"))
    records = [json.loads(path.read_text()) for path in paths]
    return min((len(record["rounds"]) for record in records if not record["failure"]), default=0)


def write_archive(records: Path, out: Path, log: Callable[[str], None]) -> None:
    """Write the records of all sessions as one archive, which replaces an older one at once."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for session in sorted(records.glob("*")):
            paths = sorted([*session.glob("*/*/*.json"), *session.glob("*/*/*.json.gz")])
            size = sum(path.stat().st_size for path in paths)
            if temporary.stat().st_size + size > MAX_BYTES:
                log(f"left off  session {session.name}: the archive would be too large")
                continue
            for path in paths:
                file.write(path, str(path.relative_to(records)))
    temporary.replace(out)


if __name__ == "__main__":
    sys.exit(main())
