"""Tests of the package, its commands and its documents."""

import os

# read when torch is loaded: threads that wait spinning starve those of the test beside them
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
