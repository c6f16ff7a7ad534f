"""Write the pages of the documentation site to build/docs/, from which zensical makes site/.

These are the pages of docs/, in which the generated parts are filled in, and the documents of the
repository that they refer to. A link to anything else, such as a record, becomes plain text.
"""

import inspect
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from harness.cli.main import app
from harness.optimize.base import get_step, get_step_names
from harness.schema import describe_range

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = REPOSITORY / "build" / "docs"

OTHER_DOCUMENTS = {
    "RULES.md": "rules.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "results/leaderboard.md",
    "results/energy-report.md": "results/energy-report.md",
    "results/ablation/fastformers-sentiment.md": "results/ablation-fastformers.md",
    "results/pareto.svg": "results/pareto.svg",
    "results/ladder.svg": "results/ladder.svg",
    **{
        f"results/fastformers-table3-{name}": f"results/fastformers-table3-{name}"
        for name in ("boolq.md", "boolq.svg", "embedded-boolq.md", "embedded-boolq.svg")
    },
}
"""Where documents from outside of docs/ are on the site."""


def describe_commands() -> str:
    """Return a section for each command: usage, help, arguments and options."""
    group: Any = typer.main.get_command(app)
    sections = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        context = command.context_class(command, info_name=f"wattbench {name}")
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        rows = [param.get_help_record(context) for param in command.get_params(context)]
        sections += [
            f"### `{name}`",
            f"```\n{usage}\n```",
            escape(inspect.cleandoc(command.help or "")),
            format_table(("argument or option", "meaning"), [row for row in rows if row]),
        ]
    return "\n\n".join(sections)


def describe_steps() -> str:
    """Return a section for each step: what it does, and its parameters."""
    sections = []
    for name in get_step_names():
        params = get_step(name).params
        rows = [
            (
                key,
                "required" if field.is_required() else format_default(field.default),
                describe_range(field).removeprefix("choose "),
                field.description or "",
            )
            for key, field in params.model_fields.items()
        ]
        heading = ("parameter", "default", "allowed", "meaning")
        table = format_table(heading, rows) if rows else "It has no parameters."
        sections += [f"### `{name}`", inspect.cleandoc(params.__doc__ or ""), table]
    return "\n\n".join(sections)


def describe_schemas() -> str:
    """Return the keys of manifest, task file and record, a table for each of their tables."""
    sections = []
    for name, parts in {
        "submission": ("model", "serve"),
        "task": ("fields", "splits"),
        "record": (),
    }.items():
        schema = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
        sections += [f"### {schema['title']}", describe_keys(schema)]
        definitions = {part: schema["properties"][part] for part in parts}
        for part, table in (definitions | schema.get("$defs", {})).items():
            sections += [f"#### {'[' * bool(parts)}{part}{']' * bool(parts)}"]
            sections += [table.get("description", ""), describe_keys(table)]
    return "\n\n".join(sections)


def describe_keys(schema: dict[str, Any]) -> str:
    """Return a table of the keys of an object."""
    required = schema.get("required", [])
    rows = [
        (
            key,
            describe_type(value),
            "required" if key in required else format_default(value.get("default")),
            value.get("description", ""),
        )
        for key, value in schema["properties"].items()
    ]
    return format_table(("key", "type", "default", "meaning"), rows)


def describe_type(schema: dict[str, Any]) -> str:
    """Return the type of a value, its choices and its range."""
    if "enum" in schema:
        return " or ".join(json.dumps(choice) for choice in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(describe_type, schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    ranges = [f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema]
    kind = {"array": "list", "object": "table"}.get(schema.get("type", ""), schema.get("type"))
    items = schema.get("items", {})
    of = f" of {describe_type(items)}s" if "type" in items or "$ref" in items else ""
    return f"{kind or 'table'}{of}{' ' * bool(ranges)}{', '.join(ranges)}"


def describe_api() -> str:
    """Return the directive with which mkdocstrings inserts the docstrings of the interface."""
    import harness

    return "\n\n".join(f"::: harness.api.{name}" for name in harness.__all__)


GENERATED = {
    "commands": describe_commands,
    "steps": describe_steps,
    "schemas": describe_schemas,
    "api": describe_api,
}


def format_default(value: Any) -> str:
    """Return a default as TOML writes it; nothing for an empty one."""
    if value in (None, "", (), []):
        return ""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def format_table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table whose first column is code."""
    cells = [(f"`{first}`", *map(escape, others)) for first, *others in rows]
    lines = [heading, ("---",) * len(heading), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Return plain text so that Markdown shows it as it is; options and `code` are code."""
    parts = re.split(r"(`[^`]*`|(?<!\S)--[a-z]+)", text)
    parts[1::2] = [f"`{code.strip('`')}`" for code in parts[1::2]]
    parts[::2] = [re.sub(r"([|<*_\[])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def fill_in(text: str) -> str:
    """Return a page with its generated parts: what stands between the markers is replaced."""
    pattern = r"(?s)<!-- generated: (\w+) -->.*?<!-- end -->"
    return re.sub(pattern, lambda part: GENERATED[part[1]](), text)


def move_links(text: str, document: Path, page: Path) -> str:
    """Return the text of a document with links that are right on the site.

    Args:
        text: the text.
        document: where the document is in the repository.
        page: where it is on the site.
    """

    def move(link: re.Match[str]) -> str:
        image, label, target, anchor = link.groups()
        if "://" in target or not target:
            return link[0]
        path = os.path.normpath(document.parent / target)
        if path in OTHER_DOCUMENTS:
            moved = Path(OTHER_DOCUMENTS[path])
        elif path.startswith("docs/"):
            moved = Path(path).relative_to("docs")
        else:
            return label
        return f"{image}[{label}]({os.path.relpath(moved, page.parent)}{anchor or ''})"

    return re.sub(r"(!?)\[([^\]\n]*)\]\(([^)#\s]*)(#[^)\s]*)?\)", move, text)


def find_documents() -> Iterator[tuple[Path, Path]]:
    """Yield where each document is in the repository, and where on the site."""
    for path in sorted(DOCS.rglob("*")):
        if path.suffix in (".md", ".json", ".js", ".css"):
            yield path.relative_to(REPOSITORY), path.relative_to(DOCS)
    for document, page in OTHER_DOCUMENTS.items():
        yield Path(document), Path(page)


def main() -> None:
    """Write all pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for document, page in find_documents():
        (PAGES / page).parent.mkdir(parents=True, exist_ok=True)
        text = (REPOSITORY / document).read_text()
        if document.suffix == ".md":
            text = fill_in(move_links(text, document, page))
        (PAGES / page).write_text(text)


if __name__ == "__main__":
    main()
