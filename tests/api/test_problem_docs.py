"""docs/reference/problems.md, the reference for clients, lists exactly the problems that the code has."""

import re
from pathlib import Path

from api.problems import Problem

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "problems.md"


def subclasses(kind: type[Problem]) -> set[type[Problem]]:
    return {kind} | {found for child in kind.__subclasses__() for found in subclasses(child)}


def test_the_page_lists_every_problem_with_its_status() -> None:
    listed = {(slug, int(status)) for slug, status in re.findall(r"^\| `([a-z-]+)` \| (\d+) ", PAGE.read_text(), re.M)}
    known = {(kind.slug, kind.status) for kind in subclasses(Problem) if "slug" in vars(kind)}
    assert listed == known
