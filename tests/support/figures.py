"""The figures of a drawn file: what must not change when only words do."""

import csv
import io
import json
import re


def figures(name: str, text: str) -> list[list[str]]:
    """The cells of a drawn file that hold figures, row by row.

    Args:
        name: the file's name; its ending says how it is read.
        text: the content of a Markdown, CSV, JSON or HTML file.

    Returns:
        CSV: every cell, the header's too. JSON and the data of the HTML page: every number, with
        its path. Markdown: the cells with a digit of all table rows but the headers.
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
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line) if re.search(r"\d", cell)]
        for line in _table_bodies(text)
    ]


def _table_bodies(text: str) -> list[str]:
    bodies, inside = [], False
    for line in text.splitlines():
        inside = line.startswith("|") and (inside or line.startswith(("|:", "|-")))
        if inside and not line.startswith(("|:", "|-")):
            bodies.append(line)
    return bodies


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
