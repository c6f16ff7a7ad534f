"""Builds and sessions on a cluster of machines."""
