"""Kits: everything that a machine without a network needs in order to measure, in one archive."""
