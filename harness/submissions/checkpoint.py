"""Systems of a user's fine-tuned model: padded, not padded, and quantized to int8.

They are ordinary manifests, written into the cache under a digest of the model's files, so two
models of one name do not get mixed up.
"""

import glob
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from harness.errors import HarnessError
from harness.models import pretrained
from harness.models.model_spec import ModelSpec
from harness.results.record import read_record
from harness.store.cache import cache_dir, expand_home, write_atomically
from harness.submissions.project import shorten_path

DIGEST_LENGTH, SUFFIX_LENGTH = 16, 6
"""Digits of a model's digest in paths and records, and after a name that another model has."""

EXPORT, QUANTIZE = {"use": "export"}, {"use": "quantize", "dtype": "int8"}
UNPADDED, INT8 = "-unpadded", "-int8"


def declare_model_systems(
    model: str,
    taken_names: Iterable[str],
    name: str = "",
    records: Path | None = None,
    session: str = "",
) -> dict[str, Path]:
    """Write the manifests of a model's systems.

    The reference comes first. It is padded to the task's maximum length, as a model is served
    without any optimization; a model without a padding token is not padded.

    Args:
        model: a folder, or `organisation/name[@revision]` on the hub.
        taken_names: the names of the other systems.
        name: the name of the model. By default it is the name of the folder or repository, followed
            by a digest of the files if another model has that name in the records.
        records: the folder of the records that the systems will be compared with.
        session: the only session of `records` that counts, if one is resumed.

    Returns:
        The folders of the systems, by name.

    Raises:
        HarnessError: there is no such model, or the name is taken.
    """
    checkpoint = pretrained.find_checkpoint_folder(model)
    spec = pretrained.get_checkpoint_spec(str(checkpoint), Path())
    model_digest = compute_model_digest(checkpoint)
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise HarnessError(
            f"--name {name!r}: use up to 100 of the letters A to Z, digits, '.', '_' and '-', and "
            "begin with a letter or digit."
        )
    base_name = name or _get_default_name(model, checkpoint)
    if records and _is_name_of_other_model(base_name, model_digest, records, session or "*"):
        if name:
            raise HarnessError(
                f"{records}: another model is called {name!r} there. Give another --name, or "
                "another folder with --results."
            )
        base_name = f"{base_name}-{model_digest[:SUFFIX_LENGTH]}"
    folders, taken = {}, list(taken_names)
    for system_name, manifest in _build_manifests(base_name, checkpoint, spec).items():
        if system_name.casefold() in map(str.casefold, taken):
            raise HarnessError(
                f"{checkpoint}: a system is called {system_name!r} already. Rename the folder, or "
                "give --name."
            )
        folder = cache_dir() / "models" / model_digest / system_name
        write_atomically(folder / "submission.toml", tomli_w.dumps(manifest).encode())
        folders[system_name] = folder
    return folders


def compute_model_digest(checkpoint: Path) -> str:
    """Return the digest of a model's files, which its systems have in records."""
    return pretrained.compute_key(str(checkpoint), Path())[:DIGEST_LENGTH]


def get_model_address(model: str, checkpoint: Path) -> str:
    """Return how records and printed commands name a model: with the revision that the hub had.

    Args:
        model: a folder, or `organisation/name[@revision]` on the hub.
        checkpoint: the folder of its files; for a model of the hub named by the revision.
    """
    if is_local(model):
        return shorten_path(checkpoint)
    return f"{model.partition('@')[0]}@{checkpoint.name}"


def is_local(model: str) -> bool:
    """Return whether a model is a folder, and not the name of one on the hub."""
    return expand_home(model).is_dir()


def get_reference_names(names: Iterable[str]) -> tuple[str, str]:
    """Return the reference and the unpadded reference of a model's systems.

    They are the same if the model cannot be padded, or must be.

    Args:
        names: the names of the systems, as `declare_model_systems` returns them.
    """
    reference, *others = names
    return reference, next((name for name in others if name.endswith(UNPADDED)), reference)


def find_model_folder(name: str) -> Path | None:
    """Return the folder of a system that was declared for a model, the latest of that name."""
    manifests = (cache_dir() / "models").glob(f"*/{glob.escape(name)}/submission.toml")
    latest = max(manifests, key=lambda path: path.stat().st_mtime, default=None)
    return latest.parent if latest else None


def get_model_digest(folder: Path) -> str:
    """Return the digest of the model that a folder was written for; '' for any other system."""
    return folder.parent.name if folder.parent.parent == cache_dir() / "models" else ""


def is_optional(folder: Path) -> bool:
    """Return whether a session goes on without the system in this folder if it cannot be built."""
    return bool(get_model_digest(folder)) and folder.name.endswith(INT8)


def _get_default_name(model: str, checkpoint: Path) -> str:
    name = checkpoint.name if is_local(model) else model.partition("@")[0].rpartition("/")[2]
    name = unicodedata.normalize("NFKD", name.casefold())  # an ü is a u and its dots, an ß is ss
    letters = "".join(letter for letter in name if not unicodedata.combining(letter))
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9._-]", "-", letters)).strip("._-")[:100]
    if not plain:
        raise HarnessError(
            f"{model}: no name for tables can be made from that of the folder. Give one with "
            "--name."
        )
    return plain


def _is_name_of_other_model(name: str, digest: str, records: Path, session: str) -> bool:
    return any(
        read_record(path).system.get("model", digest) != digest
        for path in records.glob(f"{session}/*/offline/{name}.json")
    )


def _build_manifests(name: str, checkpoint: Path, spec: ModelSpec) -> dict[str, dict[str, Any]]:
    """Return the content of the manifests, by the name of the system."""
    is_graph = spec.becomes == "onnx"
    engine, runtime = ("onnxruntime", "onnxruntime") if is_graph else ("pytorch", "PyTorch")

    def build_manifest(
        division: str, title: str, steps: list[dict[str, str]], engine: str, padding: str
    ) -> dict[str, Any]:
        return {
            "title": f"{name}, {title}",
            "authors": ["unknown"],
            "licence": "unknown",
            "division": division,
            "tasks": ["any"],
            "model": {"checkpoint": str(checkpoint)},
            "step": [{"use": "adopt"}, *steps],
            "serve": {"engine": engine, "padding": padding, "batch": 1},
        }

    padded = build_manifest("baseline", f"{runtime}, padded", [], engine, "max")
    unpadded = build_manifest("baseline", f"{runtime}, not padded", [], engine, "longest")
    has_fixed_length = bool(spec.shape[1])
    if has_fixed_length:
        manifests = {name: padded}
    elif spec.pads:
        manifests = {name: padded, f"{name}{UNPADDED}": unpadded}
    else:
        manifests = {name: unpadded}
    if spec.dtype == "fp32":  # otherwise it is quantized already
        steps = [QUANTIZE] if is_graph else [EXPORT, QUANTIZE]
        title = "onnxruntime, dynamic int8"
        padding = "max" if has_fixed_length else "longest"
        manifests[f"{name}{INT8}"] = build_manifest("open", title, steps, "onnxruntime", padding)
    return manifests
