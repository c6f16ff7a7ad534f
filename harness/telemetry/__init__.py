"""Readings of the machine: energy, hardware, and the fixed configurations."""
