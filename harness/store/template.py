"""Texts from jinja2 templates (`*.j2`), which lie beside the modules that fill them in."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render_template(name: str, /, **values: object) -> str:
    """Return the text of a template.

    Args:
        name: the path of the template in the package, e.g. `export/model_card.md.j2`.
        values: its variables; an unknown one in the template is an error.
    """
    return _create_environment().get_template(name).render(values)


@cache
def _create_environment() -> "Environment":
    """In HTML every value is escaped, elsewhere none."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("harness", ""),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
