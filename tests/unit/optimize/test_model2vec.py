"""model2vec as a baseline: the step, and the engine."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import BuildError
from harness.models.model2vec import embed_rows
from harness.models.pretrained import Encoder
from harness.optimize import model2vec
from harness.optimize.base import Artifact, Inputs, StepContext
from tests.support.words import TASK, keep, share_right


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Artifact:
    out = tmp_path_factory.mktemp("model2vec")
    inputs = Inputs(encoder=Encoder(tiny_encoder, "tiny"))
    params = model2vec.Model2Vec(width=16)
    return keep(out, model2vec.run(inputs, TASK, params, StepContext(out, 0, 1)))


def load_engine(artifact: Artifact) -> Any:
    return registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig("model2vec"), 1)
    )


def test_mean_vectors_separate_the_labels(artifact: Artifact) -> None:
    result = load_engine(artifact).scores(
        [example.candidates for example in TASK.examples("validation")]
    )
    assert share_right(result) > 0.9, "one word decides the label"
    best = max(fit["selection"] for fit in artifact.metadata.details["training"])
    assert best > 0.9


def test_nothing_is_pickled_and_the_table_is_int8(artifact: Artifact) -> None:
    suffixes = {path.suffix for path in artifact.folder.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".npz"}
    assert artifact.metadata.dtype == "int8"
    assert load_engine(artifact).model.embedding.dtype == np.int8


def test_pair_features_are_both_sides_their_difference_and_product(artifact: Artifact) -> None:
    model = load_engine(artifact).model
    first, second = (embed_rows(model, [(text,)])[0] for text in ("good film", "bad film"))
    pair = embed_rows(model, [("good film", "bad film")])[0]
    expected = np.concatenate([first, second, np.abs(first - second), first * second])
    np.testing.assert_allclose(pair, expected, atol=1e-6)


def test_missing_library_error_names_the_extra(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("model2vec"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="model2vec")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    inputs = Inputs(encoder=Encoder(tiny_encoder, "tiny"))
    with pytest.raises(BuildError, match=r"needs model2vec.*wattbench\[model2vec\]"):
        model2vec.run(inputs, TASK, model2vec.Model2Vec(), StepContext(tmp_path, 0, 1))
