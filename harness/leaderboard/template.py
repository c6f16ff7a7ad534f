"""What templates of tables and reports can use beside their values."""

from functools import cache
from typing import TYPE_CHECKING

from harness.leaderboard.formatting import compact_table, escape_cell, format_scenario
from harness.store.template import create_environment

if TYPE_CHECKING:
    from jinja2 import Environment


def render_template(name: str, /, **values: object) -> str:
    """Return the text of a template; the filter `cell` makes a text safe in a Markdown table.

    Args:
        name: the path of the template in the package, e.g. `reports/energy.md.j2`.
        values: its variables; an unknown one in the template is an error.
    """
    return _create_environment().get_template(name).render(values)


@cache
def _create_environment() -> "Environment":
    environment = create_environment()
    environment.filters |= {
        "cell": escape_cell,
        "compact": compact_table,
        "scenario": format_scenario,
    }
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
