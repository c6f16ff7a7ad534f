"""wattbench: a benchmark harness and shared-task submission suite for fast, frugal language
understanding.

The Python interface. Each name is imported when it is first used, so that `import harness` is fast.
"""

import importlib
from typing import Any

_PUBLIC = {
    "build_submission": "harness.api",
    "export_system": "harness.api",
    "load_records": "harness.api",
    "load_submission": "harness.api",
    "measure_submissions": "harness.api",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
