"""`python -m harness` is the `wattbench` command."""

import sys

from harness.cli.main import main

sys.exit(main())
