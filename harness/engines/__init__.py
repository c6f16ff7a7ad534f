"""Serving an artifact: one module per engine."""
