"""`wattbench check`."""

from typing import Annotated

import typer

from harness.cli.console import Console
from harness.errors import HarnessError
from harness.submissions.project import find_project


def check(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="SUBMISSION", help="its name, or its folder")],
) -> None:
    """Check a submission folder, and report all its errors at once.

    Errors are printed with file, place and remedy. Steps are followed from the model on, so that a
    step that cannot take its input, or more heads than the model has, is found before hours are
    spent. Nothing of the submission is run. Also prints the build time, estimated from the size of
    what is trained.
    """
    from harness.store.cache import expand_home
    from harness.submissions.check import check as find_faults
    from harness.submissions.check import describe
    from harness.submissions.manifest import find_systems

    root, folder = find_project(), expand_home(name)
    if not folder.is_dir():
        folder = find_systems(root).get(name, folder)
    system, faults = find_faults(folder, root)
    if faults or system is None:
        raise HarnessError("\n".join(faults))
    for line in describe(system, root):
        console(line)
