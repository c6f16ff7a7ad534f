"""Small checkpoints of many architectures as transformers saves them, and their logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.task import Candidate
from tests.support.adoption import word_tokenizer

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2}

ARCHITECTURES: dict[str, tuple[dict[str, Any], int, int, str]] = {
    # model type: settings, id of the padding token, longest input, side of the padding
    "bert": (SIZES | {"max_position_embeddings": 48}, 3, 48, "right"),
    "distilbert": (
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 48},
        *(0, 48, "right"),
    ),
    "roberta": (SIZES | {"max_position_embeddings": 48}, 3, 44, "right"),
    "camembert": (SIZES | {"max_position_embeddings": 48}, 1, 46, "right"),
    "xlm-roberta": (SIZES | {"max_position_embeddings": 48}, 5, 42, "right"),
    "mpnet": (SIZES | {"max_position_embeddings": 48}, 1, 46, "right"),
    "data2vec-text": (SIZES | {"max_position_embeddings": 48}, 2, 45, "right"),
    "electra": (SIZES | {"embedding_size": 32, "max_position_embeddings": 48}, 5, 48, "right"),
    "albert": (SIZES | {"embedding_size": 16, "max_position_embeddings": 48}, 2, 48, "right"),
    "deberta-v2": (
        SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        *(0, 64, "right"),
    ),
    "modernbert": (SIZES | {"max_position_embeddings": 64}, 2, 64, "right"),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48}, 1, 48, "right"),
    "opt": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 48,
        },
        *(1, 48, "right"),
    ),
    "llama": (GROUPED | {"max_position_embeddings": 48}, 4, 48, "right"),
    "xlnet": ({"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, 5, 64, "left"),
}
CAUSAL = ("gpt2", "opt", "llama")


def save_checkpoint(folder: Path, kind: str, pad: int | None, **settings: Any) -> Path:
    """Save a classifier with random weights and its tokenizer, as transformers does."""
    import transformers

    tokenizer = word_tokenizer(pad)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=None,
        id2label={0: "neg", 1: "pos"},
        label2id={"neg": 0, "pos": 1},
        **settings,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    options = {} if pad is None else {"pad_token": "<pad>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)
    fast.save_pretrained(folder)
    return folder


def compute_reference(folder: Path, rows: Sequence[Candidate], longest: int) -> np.ndarray:
    """The logits of transformers' tokenizer and model, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = []
    for row in rows:
        feeds = tokenizer(*row, return_tensors="pt", truncation=True, max_length=longest)
        with torch.inference_mode():
            logits.append(model(**feeds).logits[0].numpy())
    return np.stack(logits)
