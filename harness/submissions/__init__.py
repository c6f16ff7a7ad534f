"""Submissions: manifests, the plans of their builds, and systems derived from others."""
