"""Anyone's own fine-tuned model as systems: padded, not padded, and quantized to int8.

They are manifests like any other, written into the cache, so that all else treats them alike.
"""

import re
from pathlib import Path

from harness import pretrained
from harness.errors import HarnessError
from harness.store import cache_dir, write_atomically

MANIFEST = """\
title = "{title}"
authors = ["not said"]
licence = "not said"
division = "{division}"
tasks = ["any"]

[model]
checkpoint = '{checkpoint}'

[[step]]
use = "adopt"
{steps}
[serve]
engine = "{engine}"
padding = "{padding}"
batch = 1
"""
EXPORT = '\n[[step]]\nuse = "export"\n'
QUANTIZE = '\n[[step]]\nuse = "quantize"\ndtype = "int8"\n'


def declare(given: str, taken: dict[str, Path]) -> dict[str, Path]:
    """Folders with the manifests of a model's systems, by name; the padded one comes first.

    given: a folder, or `organisation/name[@revision]` of the hub. taken: the systems there are.
    Raises: HarnessError if there is no such model, or its name is taken.
    """
    checkpoint = pretrained.checkpoint_folder(given)
    shape = pretrained.checkpoint_shape(str(checkpoint), Path())
    named = checkpoint.name if Path(given).expanduser().is_dir() else given.partition("@")[0]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", named.rpartition("/")[2]).lower()
    graph = shape["becomes"] == "onnx"
    engine = "onnxruntime" if graph else "pytorch"
    runner = "onnxruntime" if graph else "PyTorch"
    systems = {
        name: ("baseline", f"{name}, {runner}, padded", "", engine, "max"),
        f"{name}-unpadded": ("baseline", f"{name}, {runner}, not padded", "", engine, "longest"),
    }
    if "dtype" not in shape:  # else it is quantized already
        steps = QUANTIZE if graph else EXPORT + QUANTIZE
        title = f"{name}, onnxruntime, dynamic int8"
        systems[f"{name}-int8"] = ("open", title, steps, "onnxruntime", "longest")
    found = {}
    for system, (division, title, steps, runs, padding) in systems.items():
        if system in taken:
            raise HarnessError(
                f"{checkpoint}: a system is called {system!r} already. Rename the folder."
            )
        folder = cache_dir() / "models" / system
        text = MANIFEST.format(
            title=title,
            division=division,
            checkpoint=checkpoint,
            steps=steps,
            engine=runs,
            padding=padding,
        )
        write_atomically(folder / "submission.toml", text.encode())
        found[system] = folder
    return found
