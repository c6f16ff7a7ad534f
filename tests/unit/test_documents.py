"""The documents agree with the repository: links, anchors, navigation, tables and examples."""

import importlib.metadata
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from harness.cli.main import ACTIONS
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.tables import format_overview
from harness.optimize.base import get_step, get_step_names
from harness.tasks.custom import read_task
from tests.support.systems import REPOSITORY

PATTERNS = ("*.md", "docs/**/*.md", "results/README.md", "submissions/*/*.md", "baselines/*/*.md")
DOCUMENTS = sorted(
    str(path.relative_to(REPOSITORY)) for pattern in PATTERNS for path in REPOSITORY.glob(pattern)
)


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_links(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", path.read_text())
    for target, anchor in links:
        if "://" in target:
            continue
        linked = path.parent / target if target else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    check_links(REPOSITORY / document)


def find_pages(navigation: Any) -> Iterator[str]:
    """Yield the pages of a navigation, in order."""
    if isinstance(navigation, str):
        yield navigation
        return
    for entry in navigation.values() if isinstance(navigation, dict) else navigation:
        yield from find_pages(entry)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes the pages of the site."""
    path = REPOSITORY / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_navigation_has_every_page_of_the_site_once(generator: ModuleType) -> None:
    project = tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]
    pages = [str(page) for _, page in generator.find_documents() if page.suffix == ".md"]
    assert sorted(find_pages(project["nav"])) == sorted(pages)


def test_generated_reference_has_every_command_step_and_parameter(generator: ModuleType) -> None:
    commands, steps = generator.describe_commands(), generator.describe_steps()
    assert set(ACTIONS) <= set(re.findall(r"(?m)^### `(.+)`$", commands))
    assert "| `--isolation [auto|sandbox|process]` |" in commands.replace("\\", "")
    assert re.findall(r"(?m)^### `(.+)`$", steps) == get_step_names()
    for name in get_step_names():
        section = steps.partition(f"### `{name}`")[2].partition("\n### ")[0]
        documented = re.findall(r"(?m)^\| `(\w+)` \|", section)
        assert documented == list(get_step(name).params.model_fields)


def test_parts_of_pages_that_are_generated_are_replaced(generator: ModuleType) -> None:
    for document, page in generator.find_documents():
        if page.suffix == ".md":
            text = (REPOSITORY / document).read_text()
            filled = generator.fill_in(text)
            assert "<!--" not in filled, document
            assert ("<!--" in text) == (filled != text)


def test_links_on_the_site_lead_to_files_and_headings(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "PAGES", tmp_path / "pages")
    generator.main()
    pages = sorted((tmp_path / "pages").rglob("*.md"))
    assert len(pages) > 25
    for page in pages:
        check_links(page)


def test_links_from_the_site_to_what_it_does_not_have_become_text(generator: ModuleType) -> None:
    text = "[a](../../results/README.md#x) [b](../concepts.md) [c](../../pyproject.toml) [d](#e)"
    document, page = Path("docs/guides/x.md"), Path("guides/x.md")
    assert generator.move_links(text, document, page) == (
        "[a](../results/leaderboard.md#x) [b](../concepts.md) c [d](#e)"
    )


def test_files_for_users_of_the_wheel_say_where_the_documentation_is() -> None:
    """A wheel holds no docs/, so a path alone would lead nowhere."""
    templates = [
        path
        for path in (REPOSITORY / "harness").rglob("*")
        if path.suffix in (".j2", ".sh", ".js", ".toml")
    ]
    named = [
        match for path in templates for match in re.findall(r"docs/\S+\.md.{22}", path.read_text())
    ]
    assert len(named) > 3
    for text in named:
        path, place = text[:-22], text[-22:]
        assert (REPOSITORY / path).is_file()
        assert place == " of wattbench's source"


def read_tables(document: str) -> list[str]:
    """Return the tables of results that a document has."""
    paragraphs = (REPOSITORY / document).read_text().split("\n\n")
    return [paragraph for paragraph in paragraphs if re.match(r"\| (rank|system) ", paragraph)]


def test_published_table_is_of_the_session_that_the_rules_cite() -> None:
    (session,) = re.findall(r"session (\S+),", (REPOSITORY / "RULES.md").read_text())
    sections, _ = load_sections(REPOSITORY / "results" / "records", session)
    (offline,) = (section for section in sections if section.scenario == "offline")
    overview = format_overview(sections, offline).rstrip()
    assert read_tables("docs/methodology/figures.md")[0] == overview


def test_table_of_the_readme_is_five_rows_of_the_published_table() -> None:
    published, *_ = read_tables("docs/methodology/figures.md")
    (table,) = read_tables("README.md")
    heading, rows = table.splitlines()[:2], table.splitlines()[2:]
    assert heading == published.splitlines()[:2]
    assert len(rows) == 5
    assert [row for row in published.splitlines() if row in rows] == rows


def test_published_table_of_superglue_has_the_figures_of_the_leaderboard() -> None:
    _, table = read_tables("docs/methodology/figures.md")
    results = (REPOSITORY / "results" / "README.md").read_text()
    rows = [set(row.split(" | ")) for row in results.splitlines() if " | 0." in row]
    for row in table.splitlines()[2:]:
        cells = set(row.strip("| ").split(" | "))
        assert any(cells <= {cell.strip("| ") for cell in other} for other in rows), row


def test_readme_fits_on_a_few_screens() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 120


def test_task_files_that_the_documents_print_are_valid(tmp_path: Path) -> None:
    quickstart = (REPOSITORY / "docs" / "quickstart.md").read_text()
    (rows,) = re.findall(r"(?s)```csv\n(.*?)```", quickstart)
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text(rows)
    for document in ("README.md", "docs/quickstart.md"):
        text = (REPOSITORY / document).read_text()
        (declaration,) = re.findall(r"(?s)```toml\n(name = .*?)```", text)
        (tmp_path / "task.toml").write_text(declaration)
        task = read_task(tmp_path / "task.toml")
        assert [task.labels[example.label] for example in task.load("validation")] == [
            "billing",
            "technical",
        ]


def test_citation_names_this_version_and_its_sources() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == importlib.metadata.version("wattbench")
    assert {"message", "title", "authors", "license", "type"} <= set(citation)
    assert all({"type", "title", "authors"} <= set(work) for work in citation["references"])
    titles = " ".join(work["title"] for work in citation["references"])
    assert "FastFormers" in titles
    assert "SustaiNLP 2020" in titles


def test_package_that_the_documents_print_is_the_one_that_is_tested() -> None:
    text = (REPOSITORY / "docs" / "guides" / "extend.md").read_text()
    printed = dict(re.findall(r"(?ms)^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text))
    folder = REPOSITORY / "tests" / "data" / "extension"
    for path, content in printed.items():
        assert content == (folder / path).read_text(), path
    names = {"step.py", "engine.py", "task.py"}
    assert printed.keys() == {"pyproject.toml", *(f"wattbench_keywords/{name}" for name in names)}
