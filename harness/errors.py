"""What can go wrong for a user: every message says where, what, and how to fix it."""

import errno
from collections.abc import Iterable

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than is allowed (ulimit -f)",
}
"""Errors that mean that there is no space for a file."""


class HarnessError(Exception):
    """A fault that the user can fix; the command prints it and leaves with status 2."""


class ManifestError(HarnessError):
    """A `submission.toml` or a configuration that does not say what it must."""


class SourceError(HarnessError):
    """Data or weights that cannot be had, or are not what they should be."""


class BuildError(HarnessError):
    """A step that cannot be applied to what it was given."""


class WorkerError(HarnessError):
    """A worker that died, hung or broke the protocol; it costs only its own row."""


class RecordError(HarnessError):
    """A record that cannot be read."""


class WriteError(HarnessError):
    """A file that cannot be written."""


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return 'Did you mean ...?' with the known name nearest to this one, else a list of all."""
    import difflib  # a worker imports this module, and suggests nothing

    names = sorted(filter(None, known))
    close = difflib.get_close_matches(name, names, n=1)
    close = close or [candidate for candidate in names if name and name in candidate]
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names) or 'none'}."
