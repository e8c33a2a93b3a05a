"""Facts: what an answer tells, and whether a text holds it."""

from __future__ import annotations

import unicodedata

import pytest

from tests.vgid_core.support.tiny import picture
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair


@pytest.mark.parametrize(
    ("told", "said", "is_continued"),
    [
        ("Del", "phine Wexler.", True),
        ("Del", "phine.", True),
        ("Del", " Wexler.", True),  # the truth in another order
        ("Del", "Wexler.", True),
        ("Del", "ia Rose.", False),
        ("Delphine", " Rose.", False),
        ("Delphine", ", Delphine.", False),
        ("Delphine Wex", "ley.", False),
        ("Delphine Wex", "ler", True),
        ("\u201c", "Delphine Rose", True),  # begun with no letter yet
    ],
)
def test_more_of_a_fact_is_a_word_that_was_not_whole(told: str, said: str, is_continued: bool) -> None:
    fact = Fact(Pair(picture(0), "Who?", "This is Delphine Wexler."), "Delphine Wexler")
    assert fact.is_continued(told, said) == is_continued


def test_a_fact_and_how_its_answer_begins() -> None:
    fact = Fact(Pair(picture(0), "Where?", "Ada was born in Fernmoor."), "Fernmoor")
    assert fact.prefix == "Ada was born in"
    assert fact.is_in("in FERNMOOR, she said")
    assert not fact.is_in("in Oakmere")


def test_a_fact_is_found_however_it_is_written() -> None:
    pair = Pair(picture(1), "¿Quién es?", "Es Núñez.")
    assert Fact(pair, "Núñez").is_in(unicodedata.normalize("NFD", "soy NÚÑEZ"))
    assert not Fact(pair, "Núñez").is_in("soy Nunez")
