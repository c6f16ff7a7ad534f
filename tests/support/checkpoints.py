"""Fine-tuned models as their owners save them."""

import json
import shutil
from pathlib import Path

import torch


def checkpoint(folder: Path, encoder: Path, kind: str = "bert", **settings: object) -> Path:
    """A classifier with random weights, as transformers saves it, with the tiny tokenizer."""
    import transformers

    folder.mkdir(parents=True)
    shutil.copyfile(encoder / "tokenizer.json", folder / "tokenizer.json")
    common = {"vocab_size": json.loads((encoder / "config.json").read_text())["vocab_size"]}
    common |= {
        "id2label": {0: "POSITIVE", 1: "NEGATIVE"},
        "label2id": {"POSITIVE": 0, "NEGATIVE": 1},
    }
    common |= settings
    torch.manual_seed(1)
    if kind == "bert":
        config = transformers.BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            **common,
        )
    elif kind == "distilbert":
        config = transformers.DistilBertConfig(
            dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64, **common
        )
    else:
        config = transformers.RobertaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=66,
            pad_token_id=1,
            **common,
        )
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():  # the usual small ones tell labels apart by 1e-3 only
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
