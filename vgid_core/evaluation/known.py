"""Whether the base knows the forget set, and whether it is about the photos at all. Doesn't import torch."""

from __future__ import annotations

from collections.abc import Sequence

from vgid_core.errors import CommonKnowledge, NothingToForget
from vgid_core.evaluation.figures import Figure

# Above the control, or from chance. Unseen people stay below half of each on the demo (docs/research/log.md).
_STRENGTH = 0.1
_AUC = 0.75
_FIRST_FIVE = 0.35
_SAME_ELSEWHERE = 0.8  # of the strength, and of the answers that come whole, on own photos


def require_known(figures: Sequence[Figure]) -> None:
    """Raises what `why_not_forget` gives, if anything."""
    reason = why_not_forget(figures)
    if reason is not None:
        raise reason


def why_not_forget(figures: Sequence[Figure]) -> NothingToForget | CommonKnowledge | None:
    """Why forgetting makes no sense, by the base's figures; None if it does, or if nothing was measured.

    Known is what stands out in one of four ways: Extraction Strength above that of unseen people, or above that of
    the same answers on others' photos; the likelihood of whole answers; the name's rank among others; one person alone,
    among however many unknown ones. ROUGE-L of the mean isn't asked: a template's words score up to .5 of anybody.
    Answers that are known, but come on other people's photos as well, are common knowledge.
    """
    found = {figure.name: figure for figure in figures}
    signs = [
        _above_control(found.get("extraction_strength"), _STRENGTH),
        _above_control(found.get("knowledge"), _STRENGTH),
        _above_control(found.get("ranking.first_token.first_five"), _FIRST_FIVE),
        found["membership.loss"].value > _AUC if "membership.loss" in found else None,
        found["each_person.still_known"].value > 0 if "each_person.still_known" in found else None,
    ]
    if any(sign is not None for sign in signs) and not any(signs):
        return NothingToForget(
            "The model doesn't know these answers: it gives them no sooner than those about people whom it has never "
            "seen, or than the same on other people's photos. There is nothing to forget."
        )
    if signs[0] and all(_comes_anywhere(found.get(name)) for name in ("knowledge", "knowledge.unprompted")):
        return CommonKnowledge(
            "The model gives these answers on other people's photos as well. They are common knowledge, or their "
            "questions tell them: an adapter would take them from everybody."
        )
    return None


def _comes_anywhere(own: Figure | None) -> bool:
    """Whether the answers come on others' photos nearly as they do on their own."""
    if own is None or own.control is None or own.value == 0:
        return False
    return own.control.value >= _SAME_ELSEWHERE * own.value


def _above_control(figure: Figure | None, limit: float) -> bool | None:
    """None without a control: a template alone has some strength."""
    if figure is None or figure.control is None:
        return None
    return figure.value - figure.control.value > limit
