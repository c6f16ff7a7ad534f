"""The engine `onnxruntime` on a GPU that it cannot use."""

import onnxruntime
import pytest

from harness.engines import onnxruntime as engine
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import HarnessError
from harness.optimize.base import Artifact


@pytest.fixture
def on_gpu(exported: Artifact) -> EngineConfig:
    serve = ServeConfig("onnxruntime")
    return EngineConfig(exported.folder, exported.engine_metadata, serve, 1, "cuda")


def test_package_without_cuda_is_refused(on_gpu: EngineConfig) -> None:
    with pytest.raises(HarnessError, match=r"does not support cuda. Install onnxruntime-gpu"):
        engine.load(on_gpu)


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_gpu_that_cannot_be_used_is_an_error_and_not_the_cpu(
    on_gpu: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime itself answers on the CPU then, with a warning that a worker does not show."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with pytest.raises(HarnessError, match=r"would answer on the CPU. Install the versions"):
        engine.load(on_gpu)
