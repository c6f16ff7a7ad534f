"""Anyone's own fine-tuned model as systems: padded, not padded, and quantized to int8.

They are manifests like any other, written into the cache under a digest of the model's files, so
that all else treats them alike and two models of one name are never mixed up.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from harness.errors import HarnessError
from harness.models import pretrained
from harness.results import record
from harness.store.cache import cache_dir, write_atomically

DIGITS, SUFFIX_DIGITS = 16, 6
"""Of a model's digest: in paths and records, and behind a name that another model has."""

EXPORT, QUANTIZE = {"use": "export"}, {"use": "quantize", "dtype": "int8"}
UNPADDED, INT8 = "-unpadded", "-int8"


def declare(
    given: str, taken: Iterable[str], name: str = "", records: Path | None = None, session: str = ""
) -> dict[str, Path]:
    """Folders with the manifests of a model's systems, by name; the reference comes first.

    The reference is padded to the task's max length, as a model is served that nobody touched; of a
    model without a padding token it is not padded.

    Args:
        given: a folder, or `organisation/name[@revision]` of the hub.
        taken: names of the systems there are.
        name: what the model is called; by default its folder's or repository's name, behind which
            stands a digest of its files where the records hold another model of that name.
        records: the folder of the records that the systems will stand beside.
        session: the only one of the records that counts, where one is taken up.

    Raises:
        HarnessError: there is no such model, or the name is taken.
    """
    checkpoint = pretrained.find_checkpoint_folder(given)
    shape = pretrained.get_checkpoint_spec(str(checkpoint), Path())
    model = pretrained.compute_key(str(checkpoint), Path())[:DIGITS]
    if name and not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise HarnessError(f"--name {name!r}: take letters, digits, '.', '_' and '-'.")
    own = checkpoint.name if Path(given).expanduser().is_dir() else given.partition("@")[0]
    base = name or re.sub(r"[^A-Za-z0-9._-]", "-", own.rpartition("/")[2]).lower()
    if records and _other_model(base, model, records, session or "*"):
        if name:
            raise HarnessError(
                f"{records}: another model is called {name!r} there. Give another --name, or "
                "another folder with --results."
            )
        base = f"{base}-{model[:SUFFIX_DIGITS]}"
    found = {}
    for system, manifest in _manifests(base, checkpoint, shape).items():
        if system in taken:
            raise HarnessError(
                f"{checkpoint}: a system is called {system!r} already. Rename the folder, or give "
                "--name."
            )
        folder = cache_dir() / "models" / model / system
        write_atomically(folder / "submission.toml", tomli_w.dumps(manifest).encode())
        found[system] = folder
    return found


def roles(systems: Iterable[str]) -> tuple[str, str]:
    """The reference and the unpadded reference among the systems of a model; both are one where it
    cannot be padded.
    """
    reference, *others = systems
    return reference, next((each for each in others if each.endswith(UNPADDED)), reference)


def model_of(folder: Path) -> str:
    """The digest of the model that a system's folder was declared for; '' for any other system."""
    return folder.parent.name if folder.parent.parent == cache_dir() / "models" else ""


def is_optional(folder: Path) -> bool:
    """Whether a session does without the system where it cannot be built."""
    return bool(model_of(folder)) and folder.name.endswith(INT8)


def _manifests(name: str, checkpoint: Path, shape: dict[str, Any]) -> dict[str, dict[str, Any]]:
    graph = shape["becomes"] == "onnx"
    engine, runner = ("onnxruntime", "onnxruntime") if graph else ("pytorch", "PyTorch")

    def manifest(
        division: str, title: str, steps: list[dict[str, str]], engine: str, padding: str
    ) -> dict[str, Any]:
        return {
            "title": f"{name}, {title}",
            "authors": ["not said"],
            "licence": "not said",
            "division": division,
            "tasks": ["any"],
            "model": {"checkpoint": str(checkpoint)},
            "step": [{"use": "adopt"}, *steps],
            "serve": {"engine": engine, "padding": padding, "batch": 1},
        }

    unpadded = manifest("baseline", f"{runner}, not padded", [], engine, "longest")
    systems = {name: unpadded}
    if shape.get("pads", True):
        padded = manifest("baseline", f"{runner}, padded", [], engine, "max")
        systems = {name: padded, f"{name}{UNPADDED}": unpadded}
    if "dtype" not in shape:  # else it is quantized already
        steps = [QUANTIZE] if graph else [EXPORT, QUANTIZE]
        title = "onnxruntime, dynamic int8"
        systems[f"{name}{INT8}"] = manifest("open", title, steps, "onnxruntime", "longest")
    return systems


def _other_model(name: str, model: str, records: Path, session: str) -> bool:
    """Whether the records hold a system of this name that is of another model."""
    return any(
        record.read_record(path).system.get("model", model) != model
        for path in records.glob(f"{session}/*/offline/{name}.json")
    )
