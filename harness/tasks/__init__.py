"""Tasks, suites, metrics, and the loaders of their data."""
