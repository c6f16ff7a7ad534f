"""The `wattbench` command: one module per command, each with its options, help and action."""
