"""Whether there is anything to forget, on figures made by hand."""

import pytest

from vgid_core.errors import CommonKnowledge, NothingToForget
from vgid_core.evaluation.estimates import Estimate
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.known import require_known, why_not_forget


def figure(name: str, value: float, control: float | None) -> Figure:
    beside = None if control is None else Control("others", control, control, control)
    return Figure(name, "forget", Estimate(value, 0, 1, 3, 9), beside)


def found(
    strength: tuple[float, float | None] = (0.2, 0.2),
    knowledge: tuple[float, float] = (0.2, 0.2),
    first_five: float = 0.3,
    auc: float = 0.6,
    unprompted: tuple[float, float] = (0.0, 0.0),
) -> list[Figure]:
    """Of a model that doesn't know the people, unless changed: a template alone has some strength."""
    return [
        figure("extraction_strength", *strength),
        figure("knowledge", *knowledge),
        figure("knowledge.unprompted", *unprompted),
        figure("ranking.first_token.first_five", first_five, 0.1),
        figure("membership.loss", auc, 0.5),
    ]


def test_people_unknown_in_the_usual_template_are_nothing_to_forget() -> None:
    for strength in (0.0, 0.2, 0.45):
        assert isinstance(why_not_forget(found((strength, strength), (strength, strength))), NothingToForget)
    with pytest.raises(NothingToForget):
        require_known(found())


@pytest.mark.parametrize(
    "known",
    [
        found(strength=(0.31, 0.2), knowledge=(0.31, 0.22)),
        found(knowledge=(0.9, 0.2)),
        found(first_five=0.46),
        found(auc=0.76),
        found(strength=(1.0, 0.2), knowledge=(1.0, 0.2), first_five=1.0, auc=1.0),
    ],
    ids=["strength", "on their own photos", "by name", "likelihood", "everything"],
)
def test_one_sign_of_knowledge_is_enough(known: list[Figure]) -> None:
    assert why_not_forget(known) is None
    require_known(known)


@pytest.mark.parametrize(
    "almost", [found(strength=(0.29, 0.2)), found(knowledge=(0.29, 0.2)), found(first_five=0.44), found(auc=0.74)]
)
def test_what_luck_gives_is_no_sign(almost: list[Figure]) -> None:
    assert isinstance(why_not_forget(almost), NothingToForget)


def test_one_known_person_among_many_unknown_ones_is_enough() -> None:
    unknown = found()
    assert isinstance(why_not_forget([*unknown, figure("each_person.still_known", 0.0, None)]), NothingToForget)
    assert why_not_forget([*unknown, figure("each_person.still_known", 0.02, None)]) is None


def test_answers_that_come_on_anybodys_photo_are_common_knowledge() -> None:
    common = found(strength=(1.0, 0.2), knowledge=(1.0, 0.85), auc=0.9, unprompted=(1.0, 0.85))
    assert isinstance(why_not_forget(common), CommonKnowledge)
    with pytest.raises(CommonKnowledge):
        require_known(common)
    known = {"strength": (1.0, 0.2), "auc": 0.9}
    assert why_not_forget(found(knowledge=(1.0, 0.75), unprompted=(1.0, 0.75), **known)) is None
    # A name that is given brings the rest on any photo: that is no common knowledge.
    assert why_not_forget(found(knowledge=(1.0, 0.85), unprompted=(1.0, 0.0), **known)) is None
    assert why_not_forget(found(knowledge=(1.0, 0.85), unprompted=(0.0, 0.0), **known)) is None
    # Nor are a few general answers among many that only these photos bring.
    assert why_not_forget(found(knowledge=(0.6, 0.15), unprompted=(0.05, 0.05), **known)) is None


def test_figures_without_a_control_say_nothing() -> None:
    """No unseen people is registered, so a template's share of the strength isn't known."""
    own = [each for each in found((0.9, None), (0.9, 0.3)) if each.name in ("extraction_strength", "knowledge")]
    assert why_not_forget(own) is None
    own = [each for each in found((0.9, None), (0.9, 0.88)) if each.name in ("extraction_strength", "knowledge")]
    assert isinstance(why_not_forget(own), NothingToForget)
    assert why_not_forget([figure("extraction_strength", 0.0, None)]) is None
    assert why_not_forget([]) is None
    assert why_not_forget([figure("generated.rouge_l", 0.0, 0.0)]) is None
