"""Links and paths in the documentation lead somewhere, in the repository as on the site."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, prose_of, text_of

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
# Folders of the repository: what begins with one of them and ends like a file is one.
_ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
_PATH = re.compile(r"[\w./-]+/[\w.-]+\.(?:py|md|toml|json|png|svg|jinja)")
# Written by benches when they run; or written as what is to be put in their place.
_MADE = re.compile(r"bench/results/|NAME|METHOD|NNNN")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in _LINK.findall(prose_of(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_pages_of_the_site_link_to_pages_of_the_site(page: str) -> None:
    """Other files of the repository are named, not linked: the site doesn't hold them."""
    for target in _LINK.findall(prose_of(page)):
        path = target.partition("#")[0]
        if path and "://" not in target:
            file = ((ROOT / page).parent / path).resolve()
            beside = {ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")}
            assert file.is_relative_to(ROOT / "docs") or file in beside, target


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/research/log.md"])
def test_files_that_are_named_are_there(page: str) -> None:
    for text in _CODE.findall(prose_of(page)):
        if _PATH.fullmatch(text) and text.split("/")[0] in _ROOMS and not _MADE.search(text):
            assert (ROOT / text).exists(), text


def test_pictures_are_shown_somewhere() -> None:
    shown = {
        ((ROOT / page).parent / target).resolve()
        for page in PAGES
        for target in _LINK.findall(text_of(page))
        if target.endswith((".png", ".svg"))
    }
    kept = {path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg")}
    assert kept <= shown


@cache
def _anchors(file: Path) -> set[str]:
    """As GitHub and the site make them of headings."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower())
        for heading in _HEADING.findall(text)
    }
