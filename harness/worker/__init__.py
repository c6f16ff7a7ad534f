"""The measured process: the driver's side, the worker's side, and the sandbox around it."""
