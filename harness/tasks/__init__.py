"""Tasks, suites and metrics, and how their data is read."""
