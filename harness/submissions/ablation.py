"""A system with one of its choices left out: what `wattbench waterfall` measures.

Variants are manifests like any other, written into the cache beside a copy of all that the
submission's folder holds, so that all else treats them alike. Their folders are named by content:
runs of two submissions of one name, or of one that is edited meanwhile, do not meet.
"""

import copy
import shutil
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import tomli_w

from harness.engines.base import ServeConfig
from harness.engines.registry import ENGINES
from harness.errors import HarnessError, ManifestError
from harness.optimize.base import get_step
from harness.results.record import SCENARIOS
from harness.schema import read_toml
from harness.store.cache import cache_dir, digest, folder_digest, new_folder
from harness.submissions.manifest import System, read_system

Manifest = dict[str, Any]

PLAIN = {each.name: each.default for each in fields(ServeConfig) if each.default is not MISSING} | {
    "padding": "max"
}
"""What a server does that chose nothing: pad to the task's max length, one input at a time."""


def variants(system: System, root: Path, retrain: bool = False) -> list[System]:
    """One for each choice of `[serve]` that is not the plain one, for each step that only executes
    the model differently, and for each option of such a step that is on. A step that cannot do
    without the one that is left out goes with it, and the title says so.

    retrain: also for each step that trains; the artifacts of these must be built anew.

    Raises: HarnessError if there is nothing to leave out.
    """
    data = read_toml(system.manifest)
    base = cache_dir() / "variants" / folder_digest(system.folder)[:16]
    found = []
    for what, tries in _without(data, retrain):
        for title, changed in tries:
            text = tomli_w.dumps(changed | {"title": title})
            own = base / digest(text)[:16] / f"{system.name}-without-{what}"
            if not own.is_dir():
                with new_folder(own) as out:
                    shutil.copytree(system.folder, out, dirs_exist_ok=True)
                    (out / "submission.toml").write_text(text, encoding="utf-8")
            with suppress(ManifestError):  # it cannot be served, or a later step needs it
                found.append(read_system(own, root))
                break
    if not found:
        raise HarnessError(
            f"{system.manifest}: nothing can be left out"
            + ("." if retrain else " without training. Try --retrain.")
        )
    return found


def _without(data: Manifest, retrain: bool) -> list[tuple[str, list[tuple[str, Manifest]]]]:
    """By name, what may come of leaving a choice out: manifests with their titles, to be tried in
    order.
    """
    found = []
    serve = data["serve"]
    scopes = [serve, *(serve[each] for each in SCENARIOS if each in serve)]
    for key, plain in PLAIN.items() if "engine" in serve else ():  # own code does as it likes
        usual = ServeConfig.padding if key == "padding" else plain
        if any(scope.get(key, usual) != plain for scope in scopes):
            changed = copy.deepcopy(data)
            for name in ("", *SCENARIOS):
                scope = changed["serve"].get(name, {}) if name else changed["serve"]
                scope.pop(key, None)
            changed["serve"] |= {key: plain} if key == "padding" else {}
            found.append((key, [(f"{key} = {plain!r}", changed)]))
    steps = data.get("step", [])
    trains = [get_step(each["use"]).trains for each in steps]
    for number, each in enumerate(steps):
        if retrain or not any(trains[number:]):
            name = each["use"] if sum(one["use"] == each["use"] for one in steps) == 1 else ""
            name = name or f"{each['use']}-{number + 1}"
            found.append((name, _shortened(data, number)))
        if not any(trains[number:]):
            found += _options_off(data, number)
    return found


def _shortened(data: Manifest, number: int) -> list[tuple[str, Manifest]]:
    """Without a step; else also without the one after it, and so on; each with the manifest's own
    engine, else with any other.
    """
    tries = []
    steps = data["step"]
    for end in range(number + 1, len(steps) + 1):
        gone = " and ".join(each["use"] for each in steps[number:end])
        declared = data["serve"].get("engine", "")
        for engine in (declared, *ENGINES) if declared else ("",):
            changed = copy.deepcopy(data)
            changed["step"] = steps[:number] + steps[end:]
            changed["serve"] |= {"engine": engine} if engine else {}
            other = f", in {engine}" if engine != declared else ""
            tries.append((f"no {gone}{other}", changed))
    return tries


def _options_off(data: Manifest, number: int) -> list[tuple[str, list[tuple[str, Manifest]]]]:
    """Without one option of a step, each that is on."""
    found = []
    each = data["step"][number]
    for option in fields(get_step(each["use"]).params):
        if each.get(option.name, option.default) is True:
            changed = copy.deepcopy(data)
            changed["step"][number][option.name] = False
            title = f"{each['use']}: {option.name} = false"
            found.append((f"{each['use']}-{option.name}".replace("_", "-"), [(title, changed)]))
    return found
