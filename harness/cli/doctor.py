"""`wattbench doctor`."""

from harness.cli.console import Console


def doctor(console: Console) -> None:
    """Report what makes this machine noisy, and how to fix it.

    Looks at cores, quota, governor, SMT, swap, other processes, the hypervisor's steal and the
    energy counters, and times a fixed piece of work over and over for a few seconds. Nothing is
    changed.
    """
    from harness.runner.doctor import examine

    for finding in examine():
        console(finding)
