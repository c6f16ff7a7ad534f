"""A built system as a folder that answers without the project: `wattbench export`.

It holds the artifact, a copy of the engine's own modules (so that it answers as it was measured), a
short `predict.py`, the few packages these need, and a model card with the measured figures.
"""

import ast
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.engines.registry import CUSTOM_CODE, ENGINES
from harness.errors import HarnessError
from harness.leaderboard.formatting import format_interval, format_number
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.row import Row, is_energy_measured, rerun_command
from harness.optimize.base import Artifact
from harness.store.cache import folder_size
from harness.submissions.manifest import System
from harness.submissions.plan import find_artifact
from harness.tasks.task import Task

PREDICT = '''"""{name}, trained for {task}.

    python predict.py TEXT [PAIR]      prints the label
    python predict.py < texts.jsonl    a line each: a text, plain or as a JSON string, or a JSON
                                       list of a text and its pair

In Python: from predict import predict; below `if __name__ == "__main__":`, since some engines
start processes.
"""

import json
import os
import sys
from functools import cache
from pathlib import Path

from harness.engines.base import EngineConfig, ServeConfig, answers_from_scores
from harness.engines.registry import load_engine

HERE = Path(__file__).parent
METADATA = json.loads((HERE / "predict.json").read_text(encoding="utf-8"))


@cache
def engine():
    """Loaded once, on all cores that this process may use."""
    threads = len(os.sched_getaffinity(0))
    serve = ServeConfig(**METADATA["serve"])
    return load_engine(EngineConfig(HERE / "model", METADATA["about"], serve, threads))


def predict(examples):
    """examples: each a list of candidates (one, but where a choice is scored), each of these a list
    of a text, or of a text and its pair. Returns: of each the label's name; of a choice the number
    of the candidate.
    """
    given = answers_from_scores(engine().scores(examples), [len(each) for each in examples])
    labels = METADATA["labels"]
    return [
        labels[answer] if len(each) == 1 else answer
        for answer, each in zip(given, examples, strict=True)
    ]


def read(line):
    """A line: a JSON string, a JSON list of a text and its pair, or else the text itself."""
    try:
        value = json.loads(line)
    except ValueError:
        value = line.strip()
    return value if isinstance(value, list) else [str(value)]


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    rows = [sys.argv[1:]] if sys.argv[1:] else [read(line) for line in sys.stdin if line.strip()]
    for label in predict([[row] for row in rows]) if rows else ():
        print(label)
'''


def export(system: System, task: Task, seed: int, root: Path, results: Path, folder: Path) -> None:
    """Write the folder; it is there whole or not at all.

    results: where the model card's figures come from.

    Raises: HarnessError if the system is not built, leaves no artifact, or the folder is there.
    """
    if folder.exists():
        raise HarnessError(f"{folder} exists already. Name a folder that does not.")
    if not system.declares_task(task):
        raise HarnessError(f"{system.name} does not declare {task.name}. Add it to its `tasks`.")
    artifact = find_artifact(system, task, seed, root)
    if artifact is None:
        raise HarnessError(f"{system.name} leaves no artifact, so there is nothing to export.")
    if system.serve["offline"].engine in CUSTOM_CODE:
        raise HarnessError(
            f"{system.name} is served by code of its own: its folder {system.folder} and the "
            f"artifact {artifact.folder} are all there is."
        )
    engines = _engines(system.serve["offline"].engine, artifact.about)
    code = _closure([ENGINES[each].module for each in engines])
    packages = _packages(code.values(), artifact.about)
    about = {"labels": len(task.labels), "max_length": task.max_length} | artifact.engine_metadata
    settings = {
        "about": about,
        "labels": list(task.labels),
        "serve": system.serve["offline"].to_dict(),
        "artifact": artifact.key,
    }
    with _whole_folder(folder) as out:
        shutil.copytree(artifact.folder, out / "model")
        for name, source in code.items():
            target = out.joinpath(*name.split(".")).with_suffix(".py")
            if source.name == "__init__.py":
                target = out.joinpath(*name.split("."), "__init__.py")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        init = f'"""The part of wattbench that serves {system.name} (Apache License 2.0)."""\n'
        (out / "harness" / "__init__.py").write_text(init)
        for licence in root.glob("LICENSE"):  # of the modules above
            shutil.copyfile(licence, out / licence.name)
        (out / "predict.py").write_text(PREDICT.format(name=system.name, task=task.name))
        (out / "predict.json").write_text(json.dumps(settings, indent=1) + "\n")
        (out / "requirements.txt").write_text("".join(f"{each}\n" for each in packages))
        card = _card(system, task, artifact, results, packages)
        (out / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside it, which takes its name when the block ends well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            out = Path(temporary) / folder.name
            out.mkdir()
            yield out
            out.rename(folder)
    except OSError as error:
        raise HarnessError(f"{folder}: {error.strerror or error}. Name another folder.") from None


def _engines(engine: str, about: dict[str, Any]) -> list[str]:
    """The engine, and those of its members."""
    members = about.get("members", [])
    inner = [name for each in members for name in _engines(each["engine"], each["about"])]
    return list(dict.fromkeys([engine, *inner]))


def _closure(modules: list[str]) -> dict[str, Path]:
    """The project's own modules that these import, themselves among them, with their files."""
    found: dict[str, Path] = {}
    waiting = ["harness.engines.registry", *modules]
    while waiting:
        name = waiting.pop()
        spec = importlib.util.find_spec(name) if name not in found else None
        if spec is None or spec.origin is None or name == "harness":
            continue
        found[name] = Path(spec.origin)
        waiting.append(name.rpartition(".")[0])
        for node in ast.walk(ast.parse(found[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
                inner = [f"{node.module}.{each.name}" for each in node.names]
                waiting += [node.module or "", *(each for each in inner if _is_module(each))]
    return found


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _packages(files: Any, about: dict[str, Any]) -> list[str]:
    """What the modules import at once, as pip wants it, in the versions that are installed."""
    named = {"transformers"} if "architecture" in about.get("model", {}) else set()
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                named |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                named.add((node.module or "").partition(".")[0])
    providers = importlib.metadata.packages_distributions()
    foreign = named - set(sys.stdlib_module_names) - {"harness"}
    distributions = {providers[each][0] for each in foreign}
    return sorted(f"{each}=={importlib.metadata.version(each)}" for each in distributions)


def _card(
    system: System, task: Task, artifact: Artifact, results: Path, packages: list[str]
) -> str:
    shown, _ = load_sections(results / "records", needs=[system.name])
    found = [
        row
        for section in shown
        for row in section.rows
        if row.name == system.name and row.measured and row.record.task["name"] == task.name
    ]
    steps = [
        f"{number_}. `{each['use']}` "
        + ", ".join(f"{key} = {value!r}" for key, value in each.items() if key not in _APART)
        for number_, each in enumerate(artifact.about.get("recipe", []), start=1)
    ]
    same = [row for row in found if (row.record.artifact or {}).get("key") == artifact.key]
    note = "" if len(same) == len(found) else DIFFERENT
    tokens = (artifact.folder / "tokenizer.json").is_file()
    cut = f" Longer inputs are cut at {task.max_length} tokens." if tokens else ""
    example = 'python predict.py "a text"' + (' "and its pair"' if _pairs(task) else "")
    return f"""# {system.name}

{system.title}. Trained for `{task.name}` ({task.title}) with wattbench.
By {", ".join(system.authors)}; licence: {system.licence}. The data it learned from:
{task.source}, {task.licence}.

```
pip install -r requirements.txt
{example}
python predict.py < texts.txt     # a text a line, or JSON: see the head of predict.py
```

It needs {", ".join(packages)} and {_megabytes(artifact.folder)} MB.
Labels: {", ".join(task.labels)}.{cut}
Nothing is loaded but arrays, graphs and JSON: no pickle, no code of others.

## Measured

{_figures(found) if found else NOT_MEASURED}{note}

## How it was made

{chr(10).join(steps) or "Nothing was trained."}

Artifact `{artifact.key}`, training seed {artifact.about.get("seed", 0)}.

## What to know

It answers what it was trained for: texts like those of {task.name}. On other text its score is not
known. It has the biases of its training data and of its encoder.
"""


_APART = ("use", "cost")
DIFFERENT = "\n\nSome of these figures are of another build of the same recipe (see their records)."
NOT_MEASURED = "Not measured yet: `wattbench bench --system` and this name."


def _megabytes(folder: Path) -> str:
    return format_number(max(folder_size(folder) / 1e6, 0.01))


def _pairs(task: Task) -> bool:
    return task.available_locally() and len(task.examples("validation")[0].candidates[0]) > 1


def _figures(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        it, columns = row.record, row.columns()
        kind = "measured" if is_energy_measured(it) else "modelled"
        lines.append(
            {
                "scenario": it.scenario.replace("_", " "),
                "on": f"{it.configuration['name']}, {columns['machine']}",
                "score": f"{columns['score']:.4f} ± {columns['score_se']:.4f}",
                "a second": format_number(row.throughput),
                "p50 / p99 ms": " / ".join(
                    format_number(columns[f"latency_{each}_ms"]) for each in ("p50", "p99")
                ),
                "speed-up": format_interval(row.speedup),
                "unpadded": format_interval(row.unpadded_speedup),
                f"Wh/1k ({kind})": format_number(columns["energy_wh_per_1k"]),
                "memory MB": format_number(columns["memory_mb"]),
            }
        )
    table = tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)
    names = rows[0].record.roles
    commands = dict.fromkeys(f"`{rerun_command(row)}`" for row in rows)
    return (
        f"{table}\n\nSpeed-ups are against `{names['reference']}`, padded, and against "
        f"`{names['unpadded_reference']}`; with 95% intervals. Measured again by "
        f"{', '.join(commands)}."
    )
