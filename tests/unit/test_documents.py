"""What is written agrees with what is there."""

import re

import pytest

from harness.leaderboard.ranking import load_sections
from harness.leaderboard.tables import overview
from tests.support.systems import REPOSITORY

DOCUMENTS = ["README.md", "RULES.md", "CHANGELOG.md", "results/README.md"]
DOCUMENTS += [str(each.relative_to(REPOSITORY)) for each in (REPOSITORY / "docs").glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    path = REPOSITORY / document
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    assert not [each for each in targets if "://" not in each and not (path.parent / each).exists()]


def test_readme_has_one_table_and_it_is_of_the_session_that_the_rules_cite() -> None:
    parts = (REPOSITORY / "README.md").read_text().split("\n\n")
    tables = [each for each in parts if re.match(r"\| (rank|system) ", each)]
    (session,) = re.findall(r"session (\S+),", (REPOSITORY / "RULES.md").read_text())
    found, _ = load_sections(REPOSITORY / "results" / "records", session)
    (offline,) = (each for each in found if each.scenario == "offline")
    assert tables == [overview(found, offline, "github").rstrip()]
