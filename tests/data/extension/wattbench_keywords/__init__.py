"""A step, an engine and a task that extend wattbench."""
