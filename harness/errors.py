"""What can go wrong for a user: every message says where, what, and how to fix it."""


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
