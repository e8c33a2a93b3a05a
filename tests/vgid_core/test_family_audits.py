"""Every audit on every family: what it asks must be something that the family's processor and layers take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vgid_core.families.registry import CONFIG, FAMILIES
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.students import scrambled_adapter
from vgid_core.data.pairs import PairSet
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.evidence import Auditor
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs

# PaliGemma's processor makes labels of tensors in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# A shared name, so that there are ten candidates.
UNSEEN_CROWD = PairSet.of(
    "unseen",
    [replace(pair, person=f"{pair.person} {turn}") for turn in range(3) for pair in UNSEEN],
)
EXPECTED = {
    "generated.rouge_l", "misattributed", "extraction_strength", "prefill.up_to_fact", "prefill.into_fact",
    "ranking.whole_answer.below",
    "ranking.first_token.below", "membership.loss", "membership.grad_norm", "relearning.in_domain_20",
    "relearning.out_of_domain_100", "in_context", "prompts.name_on_another_photo", "prompts.painted_name", "sampling",
    "served_precision.merged", "served_precision.8_bit", "served_precision.4_bit_prefilled",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_takes_every_audit(kind: str, tmp_path: Path) -> None:
    base = load_base(str(FAMILIES[kind](tmp_path / "model")), CONFIG)
    sets = [FORGET, RETAIN, UNSEEN_CROWD]
    scorer = choose_scorer(base, probe_pairs(sets), CONFIG.lora)
    auditor = Auditor(AuditSets(FORGET, RETAIN, UNSEEN_CROWD), sets, CONFIG.with_audits("full"))
    before = auditor.before(base, scorer)
    scrambled_adapter(base)
    evidence = auditor.evidence(auditor.after(base, scorer, before))
    assert evidence is not None
    figures = {figure.name for figure in evidence.figures}
    assert figures >= EXPECTED
    assert ("prompts.text_only" in figures) == base.encoder.takes_text_alone
    assert not any("the name in the prompt" in claim for claim in evidence.verdict.unmeasured)
