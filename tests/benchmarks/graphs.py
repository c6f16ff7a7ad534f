"""Graphs of the pinned encoder with an untrained classifier: speed does not depend on weights."""

from pathlib import Path
from typing import Any

from harness.engines import base, registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.optimize import export, quantize
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext
from harness.optimize.export import Export
from harness.optimize.quantize import Quantize
from harness.tasks.registry import get_task
from tests.benchmarks.test_harness import CORES


def change(artifact: Artifact, folder: Path, values: dict[str, Any]) -> Artifact:
    return Artifact(folder, ArtifactMeta.from_dict(artifact.metadata.to_dict() | values))


def run_step(start: Artifact, params: Export | Quantize, out: Path) -> Artifact:
    """Export or quantize an artifact into an empty folder."""
    run = export.run if isinstance(params, Export) else quantize.run
    done = run(Inputs(start), get_task("sentiment"), params, StepContext(out, 0, CORES))  # type: ignore[arg-type]
    return change(start, out, done)


def loaded(artifact: Artifact, name: str = "onnxruntime", **serve: Any) -> base.Engine:
    return registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig(name, **serve), CORES)
    )
