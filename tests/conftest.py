"""Fixtures: a cache of its own for each test, a real two-layer BERT, a small project around it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from harness import store
from harness.tasks.embedded import VADER
from harness.tasks.task import _examples
from tests import superglue_files

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def sources() -> Path:
    """The folder of downloaded sources, with the data of `sentiment` in it (2.5 MB, once)."""
    VADER.fetch()
    return store.cache_dir() / "sources"


@pytest.fixture(scope="session", autouse=True)
def few_updates() -> Iterator[None]:
    """Trainings of this process are as short as their schedule says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.optimize.training.LEAST_UPDATES", 1)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("WATTBENCH_CACHE", str(folder))
    monkeypatch.delenv("WATTBENCH_DATA", raising=False)
    return folder


@pytest.fixture
def cache_with_data(sources: Path, cache: Path) -> Path:
    """A cache that holds the downloaded data and nothing else."""
    (cache / "sources").symlink_to(sources)
    return cache


@pytest.fixture
def data(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SuperGLUE's archive, unpacked, where WATTBENCH_DATA points; and no hub."""
    folder = superglue_files.write(tmp_path / "superglue")
    monkeypatch.setenv("WATTBENCH_DATA", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _examples.cache_clear()
    return folder


def save_encoder(
    folder: Path, vocabulary: int, layers: int, width: int, heads: int, ffn: int
) -> None:
    """Random weights of this shape, as transformers saves them; without a tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=ffn,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)


MANIFEST = """
title = "A submission"
authors = ["a"]
licence = "MIT"
division = "open"
tasks = ["any"]
[model]
teacher = "minilm-l6"
{steps}
[serve]
{serve}
"""


def declare(project: Path, steps: str, serve: str, name: str = "mine") -> Path:
    """A submission of the project that begins with `minilm-l6`. Returns: its folder."""
    folder = project / "submissions" / name
    folder.mkdir(exist_ok=True)
    (folder / "submission.toml").write_text(MANIFEST.format(steps=steps, serve=serve))
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT of 2 layers, width 32, 4 heads, with random weights and the words of TEXTS."""
    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for text in TEXTS for word in text.replace(",", " ,").split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *"abcdefghijklmnopqrstuvwxyz"]
    pieces += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)  # as the pinned encoders' files do
    tokenizer.enable_truncation(16)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_encoder(folder, tokenizer.get_vocab_size(), layers=2, width=32, heads=4, ffn=64)
    return folder


TEXTS = [
    "a wonderful film with a warm heart and a clever script",
    "dull, dreary and far too long",
    "the actors are good but the story is thin",
    "one of the best pictures of the year",
    "it never finds its feet, and neither did i",
    "quick",
    "an ordinary tale that is told with uncommon care by people who know what they do, all evening",
    "bad",
]


SMALLER = {
    "heads = 8": "heads = 2",
    "ffn = 768": "ffn = 32",
    "after = [1, 3]": "after = [0]",
    "keep = [0.5, 0.5]": "keep = [0.5]",
}
"""What the shipped manifests ask for, and what two layers can give."""


@pytest.fixture
def project(tmp_path: Path, tiny_encoder: Path, cache_with_data: Path) -> Path:
    """A project with the shipped baselines and submissions, on the tiny encoder and one epoch."""
    root = tmp_path / "project"
    for room in ("baselines", "submissions"):
        shutil.copytree(REPOSITORY / room, root / room)
    manifest = root / "baselines" / "minilm-l6" / "submission.toml"
    text = manifest.read_text().replace('"all-MiniLM-L6-v2"', json.dumps(str(tiny_encoder)))
    text = text.replace("epochs = 3", "epochs = 1").replace("6e-5", "1e-3")
    manifest.write_text(text)
    for manifest in (root / "submissions").glob("*/submission.toml"):
        text = manifest.read_text().replace("layers = [1, 3, 5]", "layers = [1]")
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        manifest.write_text(text)
    return root
