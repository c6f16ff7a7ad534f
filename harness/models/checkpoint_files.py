"""The files of a pretrained encoder or a fine-tuned checkpoint: its weights, or an ONNX graph."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import SourceError
from harness.models.model_spec import WEIGHTS
from harness.store import untrusted

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
SHARDS = "model.safetensors.index.json"
"""Names the shards of weights that transformers has saved in several files."""

WRAPPERS = ("module.", "_orig_mod.")
"""What PyTorch's DistributedDataParallel and torch.compile put before the names of weights."""

GRAPH, GRAPH_FOLDER = "model.onnx", "onnx"

COMMON_PATTERNS = (CONFIG, TOKENIZER, TOKENIZER_CONFIG)
WEIGHTS_PATTERNS = (WEIGHTS, SHARDS, "model-*-of-*.safetensors")
GRAPH_PATTERNS = ("*model.onnx*", "*model_quantized.onnx*")
"""Files on the hub; a model with weights is measured with them, so its graphs are not fetched."""

OTHER_FILES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("adapter_model.*",),
        "It is an adapter: merge it into its model (merge_and_unload) and save that.",
    ),
    (("*.safetensors",), f"Rename it to {WEIGHTS} if it holds all weights of the model."),
    (
        tuple(f"*{suffix}" for suffix in untrusted.PICKLES),
        "It may hold a pickle, which is never loaded. Load the model with transformers, if you "
        "trust it, and save it with save_pretrained(...), which writes safetensors.",
    ),
    (
        ("*.h5", "*.keras", "saved_model.pb", "*.msgpack", "*.ckpt.*"),
        "It belongs to another framework. Convert the model to PyTorch, or export it to ONNX.",
    ),
    (
        ("*.ort", "*.gguf", "*.xml", "*.tflite", "*.plan"),
        "No engine reads that format. Take the checkpoint that it was made from.",
    ),
    (("*/config.json",), "Name the folder that holds the model."),
)
"""What may lie in a folder without weights: patterns, and the remedy."""


DEFAULTS = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
}
ARCHITECTURE_DEFAULTS = {
    "bert": {**DEFAULTS, "type_vocab_size": 2},
    "mpnet": {**DEFAULTS, "relative_attention_num_buckets": 32},
}
"""What transformers assumes where the config.json of a BERT or an MPNet is silent."""

LFS_POINTER = b"version https://git-lfs"


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files: one, or the shards in the order of their names; () if none.

    Raises:
        SourceError: a shard is missing, or the list of them cannot be read.
    """
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    index = folder / SHARDS
    if not index.is_file():
        return ()
    try:
        names = sorted(
            {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{index}: not a list of shards ({type(error).__name__}: {error}). Save the model "
            "again with save_pretrained(...)."
        ) from None
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise SourceError(f"{index}: the shard {name!r} is missing. Copy it into the folder.")
    return tuple(folder / name for name in names)


def load_weights(folder: Path) -> "dict[str, Tensor]":
    """Return all weights by name, those of shards in one dict, without `WRAPPERS`.

    Raises:
        SourceError: a shard is missing.
        OSError, SafetensorError: a file cannot be read.
    """
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for path in find_weights(folder) or (folder / WEIGHTS,):
        weights |= {_unwrap(name): value for name, value in load_file(path).items()}
    return weights


def read_dtype(folder: Path) -> str:
    """Return the precision that weights are stored in: `fp32`, `fp16` or `bf16`.

    A folder without safetensors, or with weights in another precision, counts as fp32.
    """
    from safetensors import safe_open

    names = {"F16": "fp16", "BF16": "bf16"}
    for path in find_weights(folder):
        with safe_open(path, "pt") as file:
            dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        for dtype in sorted(dtypes & names.keys()):
            return names[dtype]
    return "fp32"


def copy_weights(folder: Path, target: Path) -> None:
    """Copy the weights into one safetensors file; shards are joined, `WRAPPERS` removed.

    Raises:
        SourceError: a file is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    paths = find_weights(folder)
    try:
        with safe_open(paths[0], "pt") as file:
            metadata = file.metadata() or {}
            is_wrapped = any(_unwrap(name) != name for name in file.keys())  # noqa: SIM118
        if len(paths) == 1 and not is_wrapped and metadata.get("format") == "pt":
            shutil.copyfile(paths[0], target)
        else:
            save_file(load_weights(folder), target, {"format": "pt"})
    except SafetensorError as error:
        raise SourceError(
            f"{folder}: the weights cannot be read ({error}). Save the model, or copy it, again."
        ) from None


def _unwrap(name: str) -> str:
    return name.removeprefix(WRAPPERS[0]).removeprefix(WRAPPERS[1])


def find_graph(folder: Path) -> Path | None:
    """Return the ONNX graph of a checkpoint; None if there is none.

    It is `model.onnx` in the folder or in its `onnx` folder, where optimum puts it; otherwise the
    only graph of the first of these folders that has one.

    Raises:
        SourceError: there are several, and none is called `model.onnx`.
    """
    for place in (folder, folder / GRAPH_FOLDER):
        if (place / GRAPH).is_file():
            return place / GRAPH
        graphs = sorted(place.glob("*.onnx"))
        if len(graphs) > 1:
            names = ", ".join(path.name for path in graphs)
            raise SourceError(
                f"{place}: {names}: which of the graphs is to be measured? Call it {GRAPH}."
            )
        if graphs:
            return graphs[0]
    return None


def list_files(folder: Path) -> dict[str, Path]:
    """Return the files that a model depends on, by their names in the folder.

    Raises:
        SourceError: a shard, or a file with weights of the graph, is missing.
    """
    paths = [folder / name for name in COMMON_PATTERNS]
    weights = find_weights(folder)
    graph = None if weights else find_graph(folder)
    if graph:
        paths += [graph, *untrusted.find_external_files(graph)]
    paths += [*weights]
    return {str(path.relative_to(folder)): path for path in paths if path.is_file()}


def check_weights(folder: Path) -> None:
    """Check that a folder holds weights that can be used, or a graph.

    Raises:
        SourceError: it does not; the message says what is there instead, and what to do.
    """
    for path in list_files(folder).values():
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise SourceError(f"{path}: a pointer, not the file. Run: git lfs pull")
    if method := read_config(folder).get("quantization_config"):
        name = method.get("quant_method", "?") if isinstance(method, dict) else method
        raise SourceError(
            f"{folder / CONFIG}: the weights are quantized by {name}. Take the checkpoint before "
            "that; the step 'quantize' makes int8 of it."
        )
    if find_weights(folder) or find_graph(folder):
        return
    start = f"{folder}: contains neither {WEIGHTS} nor {GRAPH}"
    for patterns, remedy in OTHER_FILES:
        paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if paths:
            raise SourceError(f"{start}, but {paths[-1].relative_to(folder)}. {remedy}")
    raise SourceError(
        f"{start}. Save the model again with transformers' save_pretrained(...), or export it to "
        "ONNX."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json, with `ARCHITECTURE_DEFAULTS`.

    Raises:
        SourceError: the file is missing, or not a JSON object.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not the configuration of a model ({error}).") from None
    if not isinstance(config, dict):
        raise SourceError(f"{path}: not a JSON object.")
    return ARCHITECTURE_DEFAULTS.get(str(config.get("model_type")), {}) | config
