"""The artifacts of the whole suite, here once for each architecture: every step takes both."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, processors
from transformers import MPNetConfig, MPNetModel

from harness.models.pretrained import Encoder
from harness.optimize import export, finetune, quantize, static
from harness.optimize.base import Artifact, Inputs
from tests.support.words import STATIC, run_step


@pytest.fixture(scope="session")
def tiny_mpnet(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A real MPNet of 2 layers, width 32, 4 heads, with random weights and the words of TEXTS."""
    import torch

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


@pytest.fixture(scope="session", params=["bert", "mpnet"])
def encoder(tiny_encoder: Path, tiny_mpnet: Path, request: pytest.FixtureRequest) -> Path:
    """The tiny encoder of an architecture."""
    return {"bert": tiny_encoder, "mpnet": tiny_mpnet}[request.param]


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
    return run_step(out, static, Inputs(finetuned, teacher=finetuned), STATIC)
