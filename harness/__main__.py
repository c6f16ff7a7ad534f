"""`python -m harness` is the `wattbench` command."""

import sys

from harness.cli import main

sys.exit(main())
