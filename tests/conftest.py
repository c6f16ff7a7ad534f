"""Fixtures of all tests, and how tests share a machine.

Under pytest-xdist each worker process keeps to one core, so that tests do not slow each other down
more than the cores require. A test marked `serial` times something: it runs while no other test
does, on all cores.
"""

import fcntl
import json
import math
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from codecarbon.core import cpu
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from harness.models.pretrained import Encoder
from harness.optimize import export, finetune, quantize, static
from harness.optimize.base import Artifact, Inputs
from harness.optimize.training import schedule
from harness.store.cache import cache_dir
from harness.tasks.registry import get_task
from harness.tasks.sentiment import VADER
from harness.tasks.task import Task, _load_examples
from harness.worker import sandbox
from harness.worker.driver import Worker
from harness.worker.sandbox import SandboxSpec
from tests.support import superglue_files
from tests.support.rapl import Counter
from tests.support.systems import REPOSITORY, build_all
from tests.support.words import STATIC, TEXTS, run_step
from tests.support.words_task import write_task
from tests.support.workers import Start

CORES = sorted(os.sched_getaffinity(0))
MIN_UPDATES = schedule.MIN_UPDATES
"""Before `few_updates` lowers it."""

XDIST_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=is_serial)  # stable: the others first, in their order


def is_serial(item: pytest.Item) -> bool:
    return item.get_closest_marker("serial") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    if not XDIST_WORKER:
        return (yield)
    own = CORES[int(XDIST_WORKER.removeprefix("gw")) % len(CORES)]
    os.sched_setaffinity(0, CORES if is_serial(item) else {own})
    run = os.environ["PYTEST_XDIST_TESTRUNUID"]
    with Path(tempfile.gettempdir(), f"wattbench-tests-{run}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_serial(item) else fcntl.LOCK_SH)
        return (yield)


@pytest.fixture(scope="session")
def sources() -> Path:
    """The folder of downloaded sources, with the data of `sentiment` in it (2.5 MB, once)."""
    VADER.fetch()
    return cache_dir() / "sources"


@pytest.fixture(scope="session", autouse=True)
def few_updates() -> Iterator[None]:
    """Trainings of this process are as short as their schedule says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.optimize.training.schedule.MIN_UPDATES", 1)
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
    folder = superglue_files.write_superglue(tmp_path / "superglue")
    monkeypatch.setenv("WATTBENCH_DATA", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _load_examples.cache_clear()
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


@pytest.fixture(scope="session")
def tiny_mpnet(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A real MPNet of 2 layers, width 32, 4 heads, with random weights and the words of TEXTS."""
    import torch
    from transformers import MPNetConfig, MPNetModel

    folder = tmp_path_factory.mktemp("mpnet")
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=130,
    )
    model = MPNetModel(config)
    torch.nn.init.normal_(model.encoder.relative_attention_bias.weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reviews_file(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    """The task.toml of `reviews`: 300 examples of `sentiment`."""
    folder = tmp_path_factory.mktemp("reviews")
    labels = ("negative", "positive")
    splits = {}
    for split, count in {"train": 160, "selection": 40, "validation": 100}.items():
        examples = get_task("sentiment").examples(split)
        step = len(examples) // count  # the source is sorted by label
        splits[split] = [
            (example.candidates[0][0], labels[example.label])
            for example in examples[: count * step : step]
        ]
    title = "Is a snippet of a movie review positive?"
    return write_task(folder, "reviews", title, labels, splits)


@pytest.fixture
def reviews(reviews_file: Path, cache_with_data: Path) -> Task:
    """A small task of real text, on which sessions are tested."""
    return get_task(str(reviews_file))


SMALLER = {
    "heads = 8": "heads = 2",
    "heads = 6": "heads = 2",
    "heads = 4": "heads = 1",
    "ffn = 768": "ffn = 32",
    "ffn = 512": "ffn = 32",
    "layers = 3\n": "layers = 1\n",
    "after = [1, 3]": "after = [0]",
    "keep = [0.5, 0.5]": "keep = [0.5]",
}
"""What the shipped manifests request, and what two layers can give."""


def write_project(root: Path, encoder: Path) -> Path:
    """The shipped baselines and submissions, on the tiny encoder and one epoch."""
    for folder in ("baselines", "submissions"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    manifest = root / "baselines" / "minilm-l6" / "submission.toml"
    text = manifest.read_text().replace('"all-MiniLM-L6-v2"', json.dumps(str(encoder)))
    text = text.replace("epochs = 3", "epochs = 1").replace("6e-5", "1e-3")
    manifest.write_text(text)
    for manifest in (root / "submissions").glob("*/submission.toml"):
        text = manifest.read_text().replace("layers = [1, 3, 5]", "layers = [1]")
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        manifest.write_text(text)
    return root


@pytest.fixture
def project(tmp_path: Path, tiny_encoder: Path, cache_with_data: Path) -> Path:
    """A project of its own, of which nothing is built."""
    return write_project(tmp_path / "project", tiny_encoder)


BUILT = ("minilm-l6", "onnx-int8", "tfidf-logreg", "majority")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, reviews_file: Path) -> Path:
    """The artifacts of BUILT on `reviews`, made once."""
    folder = tmp_path_factory.mktemp("built")
    root = write_project(folder / "project", tiny_encoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WATTBENCH_CACHE", str(folder / "cache"))
        build_all(root, BUILT, get_task(str(reviews_file)))
    return folder / "cache" / "artifacts"


@pytest.fixture
def built_project(project: Path, built: Path, cache_with_data: Path) -> Path:
    """A project in whose cache BUILT are built on `reviews`: copies, which a test may damage."""
    shutil.copytree(built, cache_with_data / "artifacts")
    return project


@pytest.fixture
def start(tmp_path: Path, cache: Path, request: pytest.FixtureRequest) -> Start:
    """Start a worker from the body of a loop over messages (`message`, `say`).

    Its isolation is the test's parameter, else the default of this machine.
    """
    kind = getattr(request, "param", sandbox.get_default_isolation())

    def begin(body: str, memory_gb: float = math.inf, readable: tuple[Path, ...] = ()) -> Worker:
        script = tmp_path / "worker.py"
        script.write_text(
            "import json, os, signal, subprocess, sys, time\n"
            "def say(**reply): print(json.dumps(reply), flush=True)\n"
            "for line in sys.stdin:\n"
            "    message = json.loads(line)\n"
            "    if message.get('op') == 'load':\n"
            "        say(ready=True)\n"
            "        continue\n" + textwrap.indent(textwrap.dedent(body), "    ")
        )
        spec = SandboxSpec(kind, (script, *readable), memory_gb=memory_gb)
        return Worker(1, [sys.executable, str(script)], spec)

    return begin


@pytest.fixture(scope="session")
def encoder(request: pytest.FixtureRequest) -> Path:
    """The tiny encoder; in tests of steps that of each architecture."""
    folder: Path = request.getfixturevalue(getattr(request, "param", "tiny_encoder"))
    return folder


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Artifact:
    """The tiny encoder, fine-tuned on TASK."""
    out = tmp_path_factory.mktemp("finetuned")
    params = finetune.Finetune(epochs=5, batch=16, learning_rate=2e-3)
    return run_step(out, finetune, Inputs(encoder=Encoder(encoder, encoder.name)), params)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, finetuned: Artifact) -> Artifact:
    """The same as an ONNX graph."""
    out = tmp_path_factory.mktemp("exported")
    return run_step(out, export, Inputs(finetuned), export.Export())


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory, exported: Artifact) -> Artifact:
    """The same in int8."""
    out = tmp_path_factory.mktemp("quantized")
    return run_step(out, quantize, Inputs(exported), quantize.Quantize())


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory, finetuned: Artifact) -> Artifact:
    """A static student of it."""
    out = tmp_path_factory.mktemp("static")
    inputs = Inputs(finetuned, teacher=finetuned)
    return run_step(out, static, inputs, STATIC)


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter:
    root = tmp_path / "powercap"
    made = Counter(root)
    monkeypatch.setattr(cpu, "_get_candidate_bases", lambda folder: [str(root)])
    settings = (str(root), False, False)
    monkeypatch.setattr(cpu.IntelRAPL.__init__, "__defaults__", settings)
    init = cpu.IntelRAPL.__init__

    def here(self: object, rapl_dir: str = "", **kwargs: bool) -> None:
        init(self, rapl_dir=str(root), **kwargs)

    monkeypatch.setattr(cpu.IntelRAPL, "__init__", here)
    return made
