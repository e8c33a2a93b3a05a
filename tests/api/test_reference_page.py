"""docs/reference/http.md matches the OpenAPI document."""

from pathlib import Path

from api.reference_page import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"


def test_the_page_is_current() -> None:
    assert page() == PAGE.read_text(encoding="utf-8"), "python -m api.reference_page > docs/reference/http.md"
