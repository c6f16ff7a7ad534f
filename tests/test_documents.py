"""What is written agrees with what is there."""

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = ["README.md", "RULES.md", "CHANGELOG.md", "results/README.md"]
DOCUMENTS += [str(each.relative_to(REPOSITORY)) for each in (REPOSITORY / "docs").glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    path = REPOSITORY / document
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    assert not [each for each in targets if "://" not in each and not (path.parent / each).exists()]


def test_readme_has_one_table_of_figures_and_it_is_that_of_the_board() -> None:
    parts = (REPOSITORY / "README.md").read_text().split("\n\n")
    tables = [each for each in parts if re.match(r"\| (rank|system) ", each)]
    assert len(tables) == 1
    assert tables[0] in Path(REPOSITORY, "results", "README.md").read_text()
