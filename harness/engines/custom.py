"""A Python module of the submission's own: `[serve] module = "model.py"`.

The module holds one class with

    load(self, artifact, about, serve, threads)
    predict(self, examples)

artifact: the artifact's folder as text, or ''. about: dict with `labels` (how many), `max_length`,
and what the artifact says of itself. serve: the manifest's `[serve]` as a dict. threads: how many
the class may use. examples: each a list of candidates, each candidate a list of a text, or of a
text and its pair. `predict` returns one whole number an example: the label, or, where an example
has several candidates, the number of the best one.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.engines.base import Candidates, EngineConfig
from harness.errors import HarnessError


class OwnEngine:
    """Calls the class; with several instances from as many threads at once."""

    def __init__(self, what: EngineConfig) -> None:
        assert what.submission is not None
        path = what.submission / what.serve.module
        sys.path.insert(0, str(what.submission))  # it may import what lies beside it
        spec = importlib.util.spec_from_file_location("submission", path)
        if spec is None or spec.loader is None:
            raise HarnessError(f"{path.name} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules["submission"] = module
        spec.loader.exec_module(module)
        kinds = [
            each
            for each in vars(module).values()
            if isinstance(each, type)
            and each.__module__ == "submission"
            and hasattr(each, "load")
            and hasattr(each, "predict")
        ]
        if len(kinds) != 1:
            raise HarnessError(
                f"{path.name} has {len(kinds)} classes with `load` and `predict`; it must have one"
            )
        self.model: Any = kinds[0]()
        folder = "" if what.folder == Path() else str(what.folder)
        self.model.load(folder, what.about, what.serve.to_dict(), what.threads)

    def predict(self, examples: Sequence[Candidates]) -> list[int]:
        """One answer an example. Raises: HarnessError if there are more or fewer."""
        given = list(self.model.predict(examples))
        if len(given) != len(examples):
            raise HarnessError(f"predict gave {len(given)} answers to {len(examples)} examples")
        return [each.item() if hasattr(each, "item") else each for each in given]


def load(what: EngineConfig) -> OwnEngine:
    """Import the submission's module."""
    return OwnEngine(what)
