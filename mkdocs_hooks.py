"""Pages of the site that lie beside docs/: architecture, contributing, changelog.

In the repository links lead to ARCHITECTURE.md and docs/x.md. On the site all pages lie in one tree, so links are led
there before a page is rendered.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
BESIDE = ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")
_OUT_OF_DOCS = re.compile(rf"\]\(\.\./((?:\.\./)*)({'|'.join(BESIDE)})\.md")
_BESIDE = re.compile(rf"\]\(({'|'.join(BESIDE)})\.md")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages, as if they lay in docs/."""
    for name in BESIDE:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        text = _BESIDE.sub(_lower_case, text.replace("](docs/", "]("))
        files.append(File.generated(config, f"{name.lower()}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leads a page's links out of docs/ to the pages that were added."""
    return _OUT_OF_DOCS.sub(lambda found: f"]({found[1]}{found[2].lower()}.md", markdown)


def _lower_case(found: re.Match[str]) -> str:
    return f"]({found[1].lower()}.md"
