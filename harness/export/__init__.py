"""Standalone export: a built system as a folder that answers without wattbench."""
