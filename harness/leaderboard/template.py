"""Templates of tables and reports."""

from harness.leaderboard.formatting import (
    compact_table,
    escape_cell,
    format_scenario,
    shorten_list,
)
from harness.store import template


def render_template(name: str, /, **values: object) -> str:
    """Return the text of a template, in which `cell` makes a text safe in a Markdown table.

    Args:
        name: the path of the template in the package, e.g. `reports/energy.md.j2`.
        values: its other variables; an unknown one in the template is an error.
    """
    return template.render_template(
        name,
        cell=escape_cell,
        compact=compact_table,
        scenario=format_scenario,
        shorten=shorten_list,
        **values,
    )
