"""The registry of engines, and loading an artifact with the engine that its manifest names."""

import importlib
from dataclasses import dataclass

from harness.engines.base import Engine, EngineConfig
from harness.errors import HarnessError


@dataclass(frozen=True)
class EngineKind:
    """An entry of the registry.

    Attributes:
        module: name of the module that defines `load(config: EngineConfig) -> Engine`.
        formats: the artifact formats that the engine can serve.
        extra: the optional dependency group that it needs; '' for none.
        shares_model: whether the instances are threads over one model, because the engine releases
            the interpreter's lock; otherwise every instance is a process.
        spins: whether `[serve] spin` has an effect.
    """

    module: str
    formats: tuple[str, ...]
    extra: str = ""
    shares_model: bool = False
    spins: bool = False


ENGINES = {
    "pytorch": EngineKind("harness.engines.pytorch", ("safetensors", "transformers")),
    "onnxruntime": EngineKind(
        "harness.engines.onnxruntime", ("onnx", "stages"), shares_model=True, spins=True
    ),
    "openvino": EngineKind(
        "harness.engines.openvino", ("onnx", "openvino"), extra="openvino", shares_model=True
    ),
    "cascade": EngineKind("harness.engines.cascade", ("cascade",), shares_model=True, spins=True),
    "static": EngineKind("harness.engines.static", ("static",), shares_model=True),
    "model2vec": EngineKind("harness.engines.model2vec", ("model2vec",), extra="model2vec"),
    "tfidf": EngineKind("harness.engines.tfidf", ("tfidf",)),
    "constant": EngineKind("harness.engines.constant", ("constant", "")),
}
"""The engines of wattbench itself. `constant` also serves without an artifact: it always answers 0,
which measures the harness."""

CUSTOM_CODE = {
    "module": EngineKind("harness.engines.custom", (), shares_model=True),
    "command": None,
}
"""Custom code of a submission. A command is not an engine: it takes the worker's place."""


def get_engines() -> dict[str, EngineKind]:
    """Return all engines by name, those of extensions last.

    Raises:
        HarnessError: an extension cannot be loaded, or has the name of another engine.
    """
    from harness import extensions  # a worker with an engine of wattbench starts without it

    found = extensions.find_extensions(extensions.ENGINES, {*ENGINES, *CUSTOM_CODE})
    return ENGINES | {name: extension.load(EngineKind) for name, extension in found.items()}


def get_engine(name: str) -> EngineKind:
    """Return an engine, or the custom code that takes its place.

    Extensions are searched only for a name that wattbench does not have, since that takes time.

    Raises:
        KeyError: there is no such engine.
    """
    return CUSTOM_CODE.get(name) or ENGINES.get(name) or get_engines()[name]


def find_engine_origin(name: str) -> str:
    """Return the package and version of an extension's engine; '' for one of wattbench itself."""
    if name in ENGINES or name in CUSTOM_CODE:
        return ""
    from harness import extensions

    return extensions.find_extensions(extensions.ENGINES)[name].origin


def load_engine(config: EngineConfig) -> Engine:
    """Load an artifact with the engine that `config.serve` names.

    Raises:
        HarnessError: the engine's optional dependencies are not installed, or it cannot serve the
            artifact on this device.
    """
    kind = get_engine(config.serve.engine)
    if config.instances > 1 and not kind.shares_model:
        from harness.engines.processes import Processes  # multiprocessing is slow to import

        return Processes(config, _load_one)
    return _load_one(config)


def _load_one(config: EngineConfig) -> Engine:
    """Load the engine in this process, whatever the number of instances."""
    kind = get_engine(config.serve.engine)
    try:
        engine: Engine = importlib.import_module(kind.module).load(config)
    except ModuleNotFoundError as error:
        if not kind.extra:
            raise
        raise HarnessError(
            f"engine {config.serve.engine!r} needs {error.name}, which is not installed. Run: pip "
            f"install 'wattbench[{kind.extra}]'"
        ) from None
    return engine
