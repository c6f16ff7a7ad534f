"""Custom code as an engine: a Python file of the submission, `[serve] module = "model.py"`.

The file defines one class with

    load(self, artifact, metadata, serve, threads)
    predict(self, examples)

`artifact` is the path of the artifact's folder as a string, '' if there is none. `metadata` is a
dict with `labels` (their number), `max_length`, and what the artifact records for engines. `serve`
is the manifest's `[serve]` as a dict. `threads` is the number of threads that the class may use.
`examples` is a list of examples; an example is a list of candidates, and a candidate is a list of a
text, or of a text and its pair. `predict` returns one integer per example: the label, or, if the
example has several candidates, the number of the best one.
"""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.engines.base import Candidates, EngineConfig
from harness.errors import HarnessError


class CustomEngine:
    """Calls the class of a submission; with several instances from as many threads at once."""

    def __init__(self, config: EngineConfig) -> None:
        assert config.submission is not None
        path = config.submission / config.serve.module
        sys.path.insert(0, str(config.submission))  # it may import files beside it
        spec = importlib.util.spec_from_file_location("submission", path)
        if spec is None or spec.loader is None:
            raise HarnessError(f"{path.name} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules["submission"] = module
        spec.loader.exec_module(module)
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and value.__module__ == "submission"
            and hasattr(value, "load")
            and hasattr(value, "predict")
        ]
        if len(classes) != 1:
            raise HarnessError(
                f"{path.name} defines {len(classes)} classes with `load` and `predict`. Define "
                "exactly one"
            )
        self.model: Any = classes[0]()
        folder = "" if config.folder == Path() else str(config.folder)
        self.model.load(folder, config.metadata, config.serve.to_dict(), config.threads)

    def predict(self, examples: Sequence[Candidates]) -> list[int]:
        """Return one answer per example.

        Raises:
            HarnessError: the class returned no list, or another number of answers.
        """
        answers = self.model.predict(examples)
        if not isinstance(answers, Iterable):
            raise HarnessError(
                f"predict must return a list of answers, but returned {type(answers).__name__}"
            )
        answers = list(answers)
        if len(answers) != len(examples):
            raise HarnessError(
                f"predict must return one answer per example: expected {len(examples)}, got "
                f"{len(answers)}"
            )
        return [answer.item() if hasattr(answer, "item") else answer for answer in answers]


def load(config: EngineConfig) -> CustomEngine:
    """Import the submission's file and load its class."""
    return CustomEngine(config)
