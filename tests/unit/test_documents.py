"""The documents agree with the repository: links, anchors, and the table of the README."""

import re
from pathlib import Path

import pytest

from harness.leaderboard.ranking import load_sections
from harness.leaderboard.tables import format_overview
from tests.support.systems import REPOSITORY

PATTERNS = ("*.md", "docs/*.md", "results/README.md", "submissions/*/*.md", "baselines/*/*.md")
DOCUMENTS = sorted(
    str(path.relative_to(REPOSITORY)) for pattern in PATTERNS for path in REPOSITORY.glob(pattern)
)


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    path = REPOSITORY / document
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", path.read_text())
    for target, anchor in links:
        if "://" in target:
            continue
        linked = path.parent / target if target else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), f"{target}#{anchor}"


def test_readme_has_one_table_of_results_and_it_is_of_the_session_that_the_rules_cite() -> None:
    paragraphs = (REPOSITORY / "README.md").read_text().split("\n\n")
    tables = [paragraph for paragraph in paragraphs if re.match(r"\| (rank|system) ", paragraph)]
    (session,) = re.findall(r"session (\S+),", (REPOSITORY / "RULES.md").read_text())
    sections, _ = load_sections(REPOSITORY / "results" / "records", session)
    (offline,) = (section for section in sections if section.scenario == "offline")
    assert tables == [format_overview(sections, offline, "github").rstrip()]


def test_package_that_the_documents_print_is_the_one_that_is_tested() -> None:
    text = (REPOSITORY / "docs" / "extending.md").read_text()
    printed = dict(re.findall(r"(?ms)^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text))
    folder = REPOSITORY / "tests" / "data" / "extension"
    for path, content in printed.items():
        assert content == (folder / path).read_text(), path
    names = {"step.py", "engine.py", "task.py"}
    assert printed.keys() == {"pyproject.toml", *(f"wattbench_keywords/{name}" for name in names)}
