"""What several files of benchmarks measure."""

from collections.abc import Callable

import pytest

from harness.optimize.base import Artifact
from harness.optimize.export import Export
from harness.optimize.quantize import Quantize
from tests.benchmarks.graphs import run_step
from tests.benchmarks.test_harness import untrained


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return untrained(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def make(plain: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """Exports, and quantizes where asked; each graph once."""
    graphs: dict[tuple[str, str], Artifact] = {}

    def made(exported: Export, quantized: Quantize | None = None) -> Artifact:
        key = exported.model_dump_json(), quantized.model_dump_json() if quantized else ""
        if key not in graphs:
            start, params = (made(exported), quantized) if quantized else (plain, exported)
            graphs[key] = run_step(start, params, tmp_path_factory.mktemp("graph"))
        return graphs[key]

    return made
