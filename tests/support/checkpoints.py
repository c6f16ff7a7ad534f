"""Fine-tuned checkpoints as users save them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "bert": SIZES | {"max_position_embeddings": 64},
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
    },
    "roberta": SIZES | {"max_position_embeddings": 66, "pad_token_id": 1},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "fnet": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    },
}
"""Settings by architecture; `gpt2` has no padding token, and `fnet` cannot be exported to ONNX."""


def save_checkpoint(folder: Path, encoder: Path, kind: str = "bert", **settings: object) -> Path:
    """Save a classifier with random weights as transformers does, with the tiny tokenizer."""
    import transformers

    folder.mkdir(parents=True)
    shutil.copyfile(encoder / "tokenizer.json", folder / "tokenizer.json")
    common = {"vocab_size": json.loads((encoder / "config.json").read_text())["vocab_size"]}
    common |= {
        "id2label": {0: "POSITIVE", 1: "NEGATIVE"},
        "label2id": {"POSITIVE": 0, "NEGATIVE": 1},
    }
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **SETTINGS[kind], **common | settings)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for (
        parameter
    ) in model.parameters():  # the default ones are small: logits would differ by 1e-3 only
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
