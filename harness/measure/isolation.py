"""Walls around a worker: by bubblewrap, by bare user namespaces, or none (`process`).

Behind walls a worker sees a read-only system, the Python environment, its artifact and its
submission's folder, a /tmp of its own, and no network, no home directory and no other process.
"""

import os
import re
import shlex
import shutil
import site
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import harness
from harness.errors import HarnessError
from harness.store import cache_dir

KINDS = ("bubblewrap", "namespaces", "process")
WALLS = {"bubblewrap": 2, "namespaces": 2, "process": 0}
"""How many processes stand between the driver and the worker."""

CHOICES = ("auto", "walls", "process")
"""What may be asked for: the strongest there is, walls or nothing at all, or none."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
SETTINGS = tuple(
    f"/etc/{name}"
    for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "passwd")
)
PROC = ",nosuid,nodev,noexec"
Paths = list[tuple[Path, bool]]
KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
DEVICES = ("null", "zero", "full", "random", "urandom")
GPU_DEVICES = "nvidia*"
TMP_BYTES = 1 << 30


@cache
def works(kind: str) -> bool:
    """Whether walls of this kind can be built on this machine."""
    tried = behind(kind, ["true"], (), Path("/"), gpu=False)
    try:
        return bool(tried) and not subprocess.run(tried, capture_output=True, timeout=20).returncode
    except (OSError, subprocess.SubprocessError):
        return False


def strongest() -> str:
    """The first of KINDS that works."""
    return next((kind for kind in KINDS[:-1] if works(kind)), KINDS[-1])


def choose(asked: str) -> str:
    """The kind for one of CHOICES. Raises: HarnessError if walls are asked for and there are
    none.
    """
    if asked == "process":
        return asked
    if asked == "walls" and strongest() == "process":
        raise HarnessError(
            "neither bubblewrap nor user namespaces work here, so nothing keeps a worker from the "
            "network and the labels. Install bubblewrap (apt install bubblewrap), allow user "
            "namespaces, or leave --isolation walls out."
        )
    return strongest()


def behind(
    kind: str, command: Sequence[str], readable: Sequence[Path], folder: Path, gpu: bool
) -> list[str]:
    """The command that runs `command` behind walls of this kind; none, where a program that they
    need is missing.

    readable: files and folders that it may read beside the system. folder: where it begins, one of
    them or /tmp. gpu: whether it gets the NVIDIA devices.
    """
    paths = _in_order([*_existing((*SYSTEM, *SETTINGS)), *readable])
    if kind == "bubblewrap":
        return _bubblewrap(command, paths, folder, gpu)
    if kind == "namespaces":
        return _namespaces(command, paths, folder, gpu)
    if setpriv := shutil.which("setpriv"):  # it shall not outlive a driver that was killed
        return [setpriv, "--pdeathsig", "KILL", "--", *command]
    return list(command)


@cache
def python_paths() -> tuple[Path, ...]:
    """The interpreter, its packages and this package: what the built-in worker imports.

    Not the project's folder, though an editable installation would lead there: it holds records.
    """
    package = Path(harness.__file__).parent
    found = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent]
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    found += [
        Path(each)
        for each in others
        if each and not any(one.is_relative_to(Path(each).absolute()) for one in secrets())
    ]
    if not any(package.is_relative_to(each) for each in found):
        found.append(package)
    return tuple(path.absolute() for path in found if path.exists())


def python_path() -> str:
    """PYTHONPATH for a worker: this very package first, even if another checkout is installed.

    Behind walls the folder it lies in holds nothing else.
    """
    package = Path(harness.__file__).parent
    own = [str(package.parent)] if package in python_paths() else []
    return os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])


def secrets() -> list[Path]:
    """What a worker may never see, wherever it lies: the home, the cache, and the project."""
    above = (Path.cwd(), *Path.cwd().parents, Path(harness.__file__).parent.parent)
    project = [each for each in above if (each / "baselines").is_dir()]
    return [each.absolute() for each in (Path.home(), cache_dir(), *project)]


def _bubblewrap(command: Sequence[str], paths: Paths, folder: Path, gpu: bool) -> list[str]:
    program = shutil.which("bwrap")
    if not program:
        return []
    known = _bubblewrap_options()
    sized = ["--size", str(TMP_BYTES)] if "--size" in known else []
    walls = "--unshare-all --unshare-user --die-with-parent --new-session --cap-drop ALL"
    made = [program, *walls.split()]
    made += ["--disable-userns"] if "--disable-userns" in known else []
    made += ["--proc", "/proc"]
    for kernels in KERNEL:  # else root could change what is not a namespace's
        made += ["--ro-bind", kernels, kernels] if Path(kernels).exists() else []
    made += ["--dev", "/dev", *sized, "--tmpfs", "/dev/shm"]  # noqa: S108
    made += [*sized, "--tmpfs", "/tmp", "--ro-bind", "/sys", "/sys"]  # noqa: S108
    for path, shown in paths:
        if not shown:
            made += [*sized, "--tmpfs", str(path)]
        elif path.is_symlink():
            made += ["--symlink", str(path.readlink()), str(path)]
        else:
            made += ["--ro-bind", str(path), str(path)]
    for device in sorted(Path("/dev").glob(GPU_DEVICES)) if gpu else ():
        made += ["--dev-bind", str(device), str(device)]
    return [
        *made,
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
        "--chdir",
        str(folder),
        "--",
        *command,
    ]


@cache
def _bubblewrap_options() -> str:
    return subprocess.run(["bwrap", "--help"], capture_output=True, text=True).stdout


def _namespaces(command: Sequence[str], paths: Paths, folder: Path, gpu: bool) -> list[str]:
    """A root of its own, made by util-linux' programs: what bubblewrap does, in a shell's words."""
    needed = ("setpriv", "unshare", "mount", "umount", "pivot_root")
    if not all(map(shutil.which, needed)):
        return []
    root = "/mnt"  # exists everywhere, and is hidden in this mount namespace alone
    tmp = f"size={TMP_BYTES},mode=1777"
    lines = ["set -e", f"mount -t tmpfs -o mode=755 walls {root}", f"cd {root}"]
    lines.append("mkdir proc dev dev/shm tmp .old")
    lines += ["mount -t proc proc proc", f"mount -t tmpfs -o {tmp} tmp tmp"]
    lines.append(f"mount -t tmpfs -o {tmp} shm dev/shm")
    devices = [Path("/dev") / name for name in DEVICES]
    devices += sorted(Path("/dev").glob(GPU_DEVICES)) if gpu else []
    for path in devices:
        lines += [f"touch .{path}", f"mount --bind {path} .{path}"]
    for kernels in (f".{each}" for each in KERNEL if Path(each).exists()):
        lines.append(f"mount --bind {kernels} {kernels}")
        lines.append(f"mount -o remount,bind,ro{PROC} {kernels}")
    for path, shown in [(Path("/sys"), True), *paths]:
        at, inside = shlex.quote(str(path)), shlex.quote(f".{path}")
        lines.append(f"mkdir -p {shlex.quote(f'.{path.parent}')}")
        if not shown:
            lines.append(f"mount -t tmpfs -o {tmp} hidden {inside}")
            continue
        if path.is_symlink():
            lines.append(f"ln -s {shlex.quote(str(path.readlink()))} {inside}")
            continue
        lines.append(f"{'mkdir -p' if path.is_dir() else 'touch'} {inside}")
        lines.append(f"mount --rbind {at} {inside}")
        for mount in (path, *_mounts_below(path)):
            inner = shlex.quote(f".{mount}")
            lines.append(f"mount -o remount,bind,ro{_kept_flags(mount)} {inner}")
    lines += ["pivot_root . .old", "umount -l /.old", "rmdir /.old", "mount -o remount,ro /"]
    drop = "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all --"
    # the shell stays: as the first process of its namespace a worker would be deaf to signals
    lines.append(f"cd {shlex.quote(str(folder))}; {drop} {shlex.join(command)}; exit $?")
    apart = "--user --map-root-user --mount --net --pid --ipc --uts --fork --kill-child=KILL"
    return [
        *("setpriv", "--pdeathsig", "KILL", "--", "unshare", *apart.split()),
        *("sh", "-c", "\n".join(lines)),
    ]


def _mounts_below(path: Path) -> list[Path]:
    """Where other file systems are mounted in a folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = {Path(re.sub(r"\\(\d{3})", _octal, line.split()[4])) for line in lines}
    return sorted(each for each in points if path in each.parents)


def _octal(found: re.Match[str]) -> str:
    return chr(int(found.group(1), 8))


def _kept_flags(path: Path) -> str:
    """The mount's flags that a user namespace may not clear, as mount's options."""
    flags = os.statvfs(path).f_flag
    names = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
    names |= {"noatime": os.ST_NOATIME, "relatime": os.ST_RELATIME}
    return "".join(f",{name}" for name, bit in names.items() if flags & bit)


def _existing(names: Sequence[str]) -> list[Path]:
    return [Path(name) for name in names if os.path.lexists(name)]


def _in_order(readable: Sequence[Path]) -> Paths:
    """What to mount, from the root down: a readable path (True) unless it lies in another, and over
    what is secret in it something empty (False), in which readable paths may lie again.
    """
    wanted = {each.absolute(): True for each in readable if each != Path("/")}
    found: dict[Path, bool] = {}
    for path in sorted({*wanted, *secrets()}):
        above = next((each for each in path.parents if each in found), None)
        in_sight = above is not None and found[above] and not above.is_symlink()
        if wanted.get(path, False) != in_sight:
            found[path] = path in wanted
    return list(found.items())
