"""The figures of a rendered file, which must not change when only its wording does."""

import csv
import io
import json
import re


def figures(name: str, text: str) -> list[list[str]]:
    """Return the cells of a rendered file that have figures, row by row.

    Args:
        name: the name of the file; its suffix determines the format.
        text: the content of a Markdown, CSV, JSON or HTML file.

    Returns:
        CSV: every cell, also of the header. JSON: every number with its path. The data of the HTML
        page: every number. Markdown: the cells with a digit, without the tables' headings.
    """
    if name.endswith(".csv"):
        return list(csv.reader(io.StringIO(text)))
    if name.endswith(".json"):
        return _numbers(json.loads(text))
    if name.endswith(".html"):
        (data,) = re.findall(
            r'<script id="data" type="application/json">(.*?)</script>', text, re.S
        )
        return [[number] for _, number in _numbers(json.loads(data))]
    return [[cell for cell in row if re.search(r"\d", cell)] for row in table_rows(text)]


def table_rows(text: str) -> list[list[str]]:
    """The cells of each row of all Markdown tables in a text, without the headings."""
    rows, inside = [], False
    for line in text.splitlines():
        is_rule = line.startswith(("|:", "|-"))
        inside = line.startswith("|") and (inside or is_rule)
        if inside and not is_rule:
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([cell.strip() for cell in cells])
    return rows


def _numbers(value: object, path: str = "") -> list[list[str]]:
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _numbers(inner, f"{path}/{key}")]
    if isinstance(value, list):
        return [
            row for index, inner in enumerate(value) for row in _numbers(inner, f"{path}/{index}")
        ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [[path, repr(value)]]
    return []
