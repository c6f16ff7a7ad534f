"""model2vec (Tulkens & van Dongen 2024): one static vector per token from a pretrained encoder, and
logistic regression on the mean of a text's vectors. Needs the extra `wattbench[model2vec]`.
"""

import os
from typing import Any

import numpy as np
from pydantic import Field

from harness.errors import BuildError
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams
from harness.tasks.task import Task


class Model2Vec(StepParams):
    """Distill static embeddings, and fit scikit-learn's LogisticRegression on them; the
    regularisation is chosen on the selection slice.
    """

    width: int = Field(
        256, ge=1, description="columns of the embeddings, at most the width of the encoder"
    )


def run(inputs: Inputs, task: Task, params: Model2Vec, context: StepContext) -> dict[str, Any]:
    """Write the folder `embedding`, as model2vec saves it, and `weights.npz`.

    Raises:
        BuildError: model2vec is not installed, or there is nothing to learn.
    """
    from harness.optimize.tfidf import check_labels, fit_best_logistic_regression

    assert inputs.encoder is not None
    check_labels(task)
    os.environ["HF_HUB_OFFLINE"] = "1"  # otherwise it queries the hub about the encoder
    try:
        from model2vec.distill import distill_from_model

        from harness.models.model2vec import embed_rows
    except ModuleNotFoundError as error:
        raise BuildError(
            f"it needs {error.name}, which is not installed. Run: pip install "
            "'wattbench[model2vec]'"
        ) from None
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(context.threads)
    options = {"local_files_only": True, "trust_remote_code": False}
    encoder = AutoModel.from_pretrained(inputs.encoder.folder, **options)
    tokenizer = AutoTokenizer.from_pretrained(inputs.encoder.folder, **options)
    context.log("computing the vector of every token")
    model = distill_from_model(
        encoder, tokenizer, device="cpu", pca_dims=params.width, quantize_to="int8"
    )
    model.save_pretrained(context.out / "embedding")
    (context.out / "embedding" / "README.md").unlink(missing_ok=True)

    def embed_split(split: str) -> tuple[Any, list[int]]:
        examples = task.examples(split)
        rows = [candidate for example in examples for candidate in example.candidates]
        labels = [label for example in examples for label in example.candidate_labels]
        return embed_rows(model, rows), labels

    weights, bias, scores = fit_best_logistic_regression(
        task, embed_split("train"), embed_split("selection"), context.seed
    )
    np.savez(
        context.out / "weights.npz",
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
    )
    return {
        "format": "model2vec",
        "dtype": "int8",
        "model": {"parameters": int(model.embedding.size)},
        "training": scores,
    }


STEP = Step(
    "model2vec",
    2,
    Model2Vec,
    ("encoder",),
    run,
    output_spec=lambda params, spec: ModelSpec("model2vec", spec.name, dtype="int8"),
    trains=True,
)
