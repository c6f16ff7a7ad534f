"""Variants of a system, each without one of its choices: what `wattbench ablation` measures.

Variants are ordinary manifests, written into the cache with a copy of the submission's folder.
Their folders are named by content, so two submissions of one name, or two states of one that is
being edited, do not get mixed up.
"""

import copy
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import tomli_w

from harness.engines.base import ServeConfig
from harness.engines.registry import get_engines
from harness.errors import HarnessError, ManifestError
from harness.optimize.base import get_step
from harness.results.record_parts import SCENARIOS
from harness.schema import read_toml
from harness.store.cache import cache_dir, create_folder_atomically, digest, folder_digest
from harness.submissions.manifest import read_system
from harness.submissions.relocate import relocate
from harness.submissions.system import System

Manifest = dict[str, Any]

BASIC_SERVE = {
    field.name: field.default for field in fields(ServeConfig) if field.default is not MISSING
} | {"padding": "max"}
"""Serving without any optimization: pad to the task's maximum length, one input at a time."""


@dataclass(frozen=True)
class _Ablation:
    """One choice that is left out.

    Attributes:
        name: the name of the choice.
        candidates: titles and manifests without the choice; the first valid one is the variant.
    """

    name: str
    candidates: list[tuple[str, Manifest]]


def create_variants(system: System, root: Path, retrain: bool = False) -> list[System]:
    """Write and read one variant for each choice of a system that can be left out.

    The choices are: each key of `[serve]` that differs from `BASIC_SERVE`, each step that only
    executes the model differently, and each option of such a step that is on. If a later step needs
    the one that is left out, it is left out too, and the title says so.

    Args:
        system: the system.
        root: the project.
        retrain: whether steps that train are left out too; such variants must be built anew.

    Raises:
        HarnessError: no choice can be left out.
    """
    data = relocate(read_toml(system.manifest), system.folder)
    parent = cache_dir() / "variants" / folder_digest(system.folder)[:16]
    variants = []
    for ablation in (*_ablate_serve(data), *_ablate_steps(data, retrain)):
        for title, manifest in ablation.candidates:
            text = tomli_w.dumps(manifest | {"title": title})
            folder = parent / digest(text)[:16] / f"{system.name}-without-{ablation.name}"
            if not folder.is_dir():
                with create_folder_atomically(folder) as out:
                    shutil.copytree(system.folder, out, dirs_exist_ok=True)
                    (out / "submission.toml").write_text(text, encoding="utf-8")
            with suppress(ManifestError):  # it cannot be served, or a later step needs the choice
                variants.append(read_system(folder, root))
                break
    if not variants:
        raise HarnessError(
            f"{system.manifest}: nothing can be left out"
            + ("." if retrain else " without training. Try --retrain.")
        )
    return variants


def _ablate_serve(data: Manifest) -> Iterator[_Ablation]:
    serve = data["serve"]
    if "engine" not in serve:  # custom code need not follow these keys
        return
    tables = [serve, *(serve[scenario] for scenario in SCENARIOS if scenario in serve)]
    for key, basic in BASIC_SERVE.items():
        default = ServeConfig.padding if key == "padding" else basic
        if all(table.get(key, default) == basic for table in tables):
            continue
        manifest = copy.deepcopy(data)
        changed = manifest["serve"]
        for table in (changed, *(changed[name] for name in SCENARIOS if name in changed)):
            table.pop(key, None)
        if key == "padding":
            changed[key] = basic
        yield _Ablation(key, [(f"{key} = {basic!r}", manifest)])


def _ablate_steps(data: Manifest, retrain: bool) -> Iterator[_Ablation]:
    steps = data.get("step", [])
    names = [step["use"] for step in steps]
    trains = [get_step(name).trains for name in names]
    for index, name in enumerate(names):
        retrains = any(trains[index:])
        if retrain or not retrains:
            unique = name if names.count(name) == 1 else f"{name}-{index + 1}"
            yield _Ablation(unique, _remove_steps(data, index))
        if not retrains:
            yield from _switch_off_options(data, index)


def _remove_steps(data: Manifest, start: int) -> list[tuple[str, Manifest]]:
    """Return manifests without a step, then also without the next one, and so on.

    Each is tried with the engine of the manifest first, then with every other engine.
    """
    candidates = []
    steps = data["step"]
    declared = data["serve"].get("engine", "")
    for end in range(start + 1, len(steps) + 1):
        removed = " and ".join(step["use"] for step in steps[start:end])
        for engine in (declared, *get_engines()) if declared else ("",):
            manifest = copy.deepcopy(data)
            manifest["step"] = steps[:start] + steps[end:]
            manifest["serve"] |= {"engine": engine} if engine else {}
            suffix = f", in {engine}" if engine != declared else ""
            candidates.append((f"no {removed}{suffix}", manifest))
    return candidates


def _switch_off_options(data: Manifest, index: int) -> Iterator[_Ablation]:
    step = data["step"][index]
    for option, field in get_step(step["use"]).params.model_fields.items():
        if step.get(option, field.default) is True:
            manifest = copy.deepcopy(data)
            manifest["step"][index][option] = False
            name = f"{step['use']}-{option}".replace("_", "-")
            yield _Ablation(name, [(f"{step['use']}: {option} = false", manifest)])
