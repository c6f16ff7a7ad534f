"""The sandbox around a worker: bubblewrap (https://github.com/containers/bubblewrap), or none.

A sandboxed worker sees a read-only system, the Python environment, its artifact and, for custom
code, its submission's folder; it has a /tmp of its own, and no network, no home directory and no
other process.
"""

import math
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import harness
from harness import extensions
from harness.errors import HarnessError
from harness.progress import Log
from harness.store.cache import cache_dir

KINDS = ("bubblewrap", "process")
"""Values of a record's `isolation`; older records may also have `namespaces`."""

CHOICES = ("auto", "sandbox", "process")
"""Values of `--isolation`: the sandbox if it works, the sandbox or an error, or none."""

SANDBOX_PROCESSES = 2
"""Processes of bubblewrap between the driver and the worker: its monitor, and the first process of
the new PID namespace."""

INSTALL = "Install bubblewrap (apt install bubblewrap, or your distribution's package)"
ALLOW = (
    "Allow user namespaces (in a container, on its host; on Ubuntu: sudo sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0)"
)

SYSTEM_PATHS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
SETTINGS_PATHS = tuple(
    f"/etc/{name}"
    for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "passwd")
)
KERNEL_PATHS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
GPU_DEVICES = "nvidia*"
TMP_BYTES = 1 << 30

Mounts = list[tuple[Path, bool]]


@dataclass(frozen=True)
class SandboxSpec:
    """How a worker is isolated.

    Attributes:
        isolation: one of KINDS.
        readable: files and folders that it may read beside the system and the Python environment.
        folder: its working directory (of custom code: the submission's); None for its empty home.
        memory_gb: GiB that it may use.
        gpu: whether it gets the NVIDIA devices.
    """

    isolation: str = "process"
    readable: tuple[Path, ...] = ()
    folder: Path | None = None
    memory_gb: float = math.inf
    gpu: bool = False


@dataclass(frozen=True)
class MissingSandbox:
    """Why the sandbox does not work on this machine, and the remedy."""

    reason: str
    remedy: str


@cache
def check_sandbox() -> MissingSandbox | None:
    """Try the sandbox once.

    Returns:
        None if it works, else what is missing.
    """
    if not shutil.which("bwrap"):
        return MissingSandbox("bubblewrap is not installed", INSTALL)
    try:
        command = _bubblewrap(["true"], SandboxSpec("bubblewrap", folder=Path("/")))
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return MissingSandbox("bubblewrap did not start within 20 seconds", "See: wattbench doctor")
    except OSError as error:
        return MissingSandbox(f"bubblewrap cannot be started ({error})", INSTALL)
    if not result.returncode:
        return None
    lines = result.stderr.strip().splitlines() or [f"status {result.returncode}"]
    message = lines[-1].rstrip(".")
    return MissingSandbox(f"bubblewrap does not work here ({message})", ALLOW)


def get_default_isolation() -> str:
    """Return `bubblewrap` if it works, else `process`."""
    return KINDS[-1] if check_sandbox() else KINDS[0]


def choose_isolation(request: str, custom: Sequence[str], log: Log) -> str:
    """Return the isolation of a run, and log what is missing for a sandbox.

    Args:
        request: one of CHOICES.
        custom: names of the systems that run custom code.
        log: takes lines for the user.

    Returns:
        One of KINDS.

    Raises:
        HarnessError: a sandbox is required and does not work here.
    """
    missing = check_sandbox() if request != "process" else None
    if request == "sandbox" and missing:
        raise HarnessError(
            f"{missing.reason}. {missing.remedy}, or leave --isolation sandbox out: then a worker "
            "can reach the network and the labels."
        )
    kind = "process" if request == "process" or missing else "bubblewrap"
    if missing:
        log(f"isolation: process, since {missing.reason}. {missing.remedy}.")
    if custom and kind == "process":
        log(
            f"warning: custom code runs without a sandbox ({', '.join(custom)}): it can read your "
            "files and use the network."
        )
    return kind


def sandbox_command(command: Sequence[str], spec: SandboxSpec) -> list[str]:
    """Return the command that runs another command in a sandbox.

    Raises:
        HarnessError: bubblewrap is not installed.
    """
    if spec.isolation == "bubblewrap":
        return _bubblewrap(command, spec)
    if setpriv := shutil.which("setpriv"):  # the worker ends with its driver
        return [setpriv, "--pdeathsig", "KILL", "--", *command]
    return list(command)


@cache
def find_python_paths() -> tuple[Path, ...]:
    """Return what the built-in worker imports: the interpreter, its packages, this package, and the
    packages that add engines.

    The project's folder, which an editable installation refers to, is left out: it holds records.
    """
    package = Path(harness.__file__).parent
    paths = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent]
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    paths += [
        Path(other)
        for other in others
        if other
        and not any(hidden.is_relative_to(Path(other).absolute()) for hidden in find_hidden_paths())
    ]
    for code in (package, *extensions.find_code(extensions.ENGINES)):
        if not any(code.is_relative_to(path) for path in paths):
            paths.append(code)
    return tuple(path.absolute() for path in paths if path.exists())


def make_python_path() -> str:
    """Return the PYTHONPATH of a worker: this package first, even if another checkout is installed.

    In the sandbox, the folder above the package holds nothing else.
    """
    package = Path(harness.__file__).parent
    first = [str(package.parent)] if package in find_python_paths() else []
    return os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])


def find_hidden_paths() -> list[Path]:
    """Return what a worker must not see: the home directory, the cache, the current folder, and
    every checkout above it.
    """
    here = Path.cwd()
    above = (here, *here.parents, Path(harness.__file__).parent.parent)
    project = [folder for folder in above if (folder / "baselines").is_dir()]
    homes = []
    with suppress(RuntimeError):  # this user has none
        homes.append(Path.home())
    return [path.absolute() for path in (*homes, cache_dir(), here, *project)]


def _bubblewrap(command: Sequence[str], spec: SandboxSpec) -> list[str]:
    program = shutil.which("bwrap")
    if not program:
        raise HarnessError(f"bubblewrap is not installed. {INSTALL}.")
    supported = _bubblewrap_options()
    sized = ["--size", str(TMP_BYTES)] if "--size" in supported else []
    namespaces = "--unshare-all --unshare-user --die-with-parent --new-session --cap-drop ALL"
    options = [program, *namespaces.split()]
    options += ["--disable-userns"] if "--disable-userns" in supported else []
    options += ["--proc", "/proc"]
    for path in KERNEL_PATHS:  # otherwise root could change settings outside of any namespace
        options += ["--ro-bind", path, path] if Path(path).exists() else []
    options += ["--dev", "/dev", *sized, "--tmpfs", "/dev/shm"]  # noqa: S108
    options += [*sized, "--tmpfs", "/tmp", "--ro-bind", "/sys", "/sys"]  # noqa: S108
    for mount, visible in _mounts(spec.readable):
        if not visible:
            options += [*sized, "--tmpfs", str(mount)]
        elif mount.is_symlink():
            options += ["--symlink", str(mount.readlink()), str(mount)]
        else:
            options += ["--ro-bind", str(mount), str(mount)]
    for device in sorted(Path("/dev").glob(GPU_DEVICES)) if spec.gpu else ():
        options += ["--dev-bind", str(device), str(device)]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(spec.folder or "/")]
    return [*options, "--", *command]


@cache
def _bubblewrap_options() -> str:
    return subprocess.run(["bwrap", "--help"], capture_output=True, text=True).stdout


def _mounts(readable: Sequence[Path]) -> Mounts:
    """Return what to mount, from the root down.

    A readable path (True) is mounted unless it is within another one. An empty folder (False)
    covers a hidden path within a readable one; readable paths within that are mounted again.
    """
    system = [Path(name) for name in (*SYSTEM_PATHS, *SETTINGS_PATHS) if os.path.lexists(name)]
    readable_paths = {path.absolute() for path in (*system, *readable) if path != Path("/")}
    readable_paths |= {path.resolve() for path in readable_paths if path.is_symlink()}
    mounts: dict[Path, bool] = {}
    for path in sorted(readable_paths | set(find_hidden_paths())):
        above = next((parent for parent in path.parents if parent in mounts), None)
        visible = above is not None and mounts[above] and not above.is_symlink()
        if (path in readable_paths) != visible:
            mounts[path] = path in readable_paths
    return list(mounts.items())
