"""Whether the base knows the forget set at all. Doesn't import torch."""

from __future__ import annotations

from collections.abc import Sequence

from vgid_core.errors import NothingToForget
from vgid_core.evaluation.figures import Figure

# Above the control, or from chance. What people never seen give on the demo stays below a third of each (the log).
_STRENGTH = 0.1
_AUC = 0.75
_FIRST_FIVE = 0.35


def require_known(figures: Sequence[Figure]) -> None:
    """Raises NothingToForget if no figure of the base tells the forget set from what the model can't know.

    Known is what stands out in one of three ways: Extraction Strength above that of people never seen (of the same
    answers on others' photos, where none are registered), the likelihood of whole answers, or the name's rank among
    others. ROUGE-L isn't asked: a template's words score up to .5 of anybody. Passes where nothing was measured.
    """
    found = {figure.name: figure for figure in figures}
    known = [_above(found[name]) > _STRENGTH for name in ("extraction_strength", "knowledge") if name in found]
    if "membership.loss" in found:
        known.append(found["membership.loss"].value > _AUC)
    if "ranking.first_token.first_five" in found:
        known.append(_above(found["ranking.first_token.first_five"]) > _FIRST_FIVE)
    if known and not any(known):
        raise NothingToForget(
            "The model doesn't know these answers: it gives them no sooner than those about people whom it has never "
            "seen. There is nothing to forget."
        )


def _above(figure: Figure) -> float:
    return figure.value - (0.0 if figure.control is None else figure.control.value)
