"""Writes a standalone export: `wattbench export`.

The folder contains the artifact, a copy of the engine's modules (so it answers as it was measured),
`predict.py`, the packages that these need, and a model card with the measured figures.
"""

import ast
import importlib.metadata
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.engines.registry import CUSTOM_CODE, get_engine
from harness.errors import HarnessError
from harness.export.model_card import count_texts, render_model_card
from harness.optimize.base import Artifact, ArtifactMeta
from harness.store.cache import create_output_folder
from harness.submissions.plan import PlannedSystem
from harness.submissions.system import System
from harness.tasks.task import Task

PREDICT = Path(__file__).parent / "predict.py"


def write_export(planned: PlannedSystem, results: Path, folder: Path) -> None:
    """Write a built system as a standalone folder, completely or not at all.

    Args:
        planned: the system on the task that it was built for.
        results: the results folder that the figures of the model card come from.
        folder: the folder to write.

    Raises:
        HarnessError: the system is not built, has no artifact, or is served by custom code; or the
            folder exists or cannot be written.
    """
    system, task = planned.system, planned.task
    if folder.exists() or folder.is_symlink():
        raise HarnessError(f"{folder} exists already. Name a folder that does not exist.")
    planned.check_declared()
    artifact = planned.find_artifact()
    if artifact is None:
        raise HarnessError(f"{system.name} has no artifact, so there is nothing to export.")
    serve = system.serve["offline"]
    if serve.engine in CUSTOM_CODE:
        raise HarnessError(
            f"{system.name} is served by custom code, which is not exported. Copy its folder "
            f"{system.folder} and the artifact {artifact.folder} instead."
        )
    engines = _find_engines(serve.engine, artifact.engine_metadata)
    modules = _find_modules([get_engine(engine).module for engine in engines])
    requirements = _find_requirements(modules.values(), artifact.metadata)
    with create_output_folder(folder) as out:
        shutil.copytree(artifact.folder, out / "model")
        _copy_modules(modules, system, out)
        shutil.copyfile(_find_licence(), out / "LICENSE")  # of the copied modules
        shutil.copyfile(PREDICT, out / PREDICT.name)
        settings = _build_settings(system, task, artifact)
        (out / "predict.json").write_text(json.dumps(settings, indent=1) + "\n")
        (out / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
        card = render_model_card(system, task, artifact, results, requirements)
        (out / "README.md").write_text(card, encoding="utf-8")


def _find_licence() -> Path:
    """Return the licence of wattbench, which is a file of the installed package."""
    files = importlib.metadata.files("wattbench") or []
    return Path(str(next(file.locate() for file in files if file.name == "LICENSE")))


def _build_settings(system: System, task: Task, artifact: Artifact) -> dict[str, Any]:
    """Return the content of `predict.json`."""
    defaults = {"labels": len(task.labels), "max_length": task.max_length}
    return {
        "metadata": defaults | artifact.engine_metadata,
        "labels": list(task.labels),
        "texts": count_texts(task),
        "serve": system.serve["offline"].to_dict(),
        "artifact": artifact.key,
    }


def _copy_modules(modules: dict[str, Path], system: System, out: Path) -> None:
    for name, path in modules.items():
        target = out.joinpath(*name.split("."))
        target = target / path.name if path.name == "__init__.py" else target.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    docstring = f'"""The part of wattbench that serves {system.name} (Apache License 2.0)."""\n'
    (out / "harness" / "__init__.py").write_text(docstring)


def _find_engines(engine: str, metadata: dict[str, Any]) -> list[str]:
    """Return an engine and, if the artifact is a cascade, the engines of its members."""
    engines = [engine]
    for member in metadata.get("members", []):
        engines += _find_engines(member["engine"], member["about"])
    return list(dict.fromkeys(engines))


def _find_modules(names: list[str]) -> dict[str, Path]:
    """Return these modules of wattbench, and all that they and `predict.py` import.

    Returns:
        The files of the modules and of their packages, by module name.
    """
    modules: dict[str, Path] = {}
    pending = [*_find_imports(PREDICT), *names]
    while pending:
        name = pending.pop()
        spec = importlib.util.find_spec(name) if name not in modules else None
        if spec is None or spec.origin is None or name == "harness":
            continue
        modules[name] = Path(spec.origin)
        pending.append(name.rpartition(".")[0])
        pending += _find_imports(modules[name])
    return modules


def _find_imports(path: Path) -> list[str]:
    """Return the modules of wattbench that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [node.module or "", *filter(_is_module, imported)]
    return names


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _find_requirements(paths: Iterable[Path], metadata: ArtifactMeta) -> list[str]:
    """Return the packages that the modules import at the top level, in the installed versions."""
    imported = {"transformers"} if "architecture" in metadata.model else set()
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    third_party = imported - set(sys.stdlib_module_names) - {"harness"}
    providers = importlib.metadata.packages_distributions()
    distributions = {providers[name][0] for name in third_party}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in distributions)
