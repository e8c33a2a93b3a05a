"""Misattributed: an answer about the forgotten that names another known person is a false statement about that one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from vgid_core.evaluation.audit_context import UNSEEN, AuditContext
from vgid_core.evaluation.estimates import Estimate, Values, mean_of
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.measures.named_people import KnownNames


def audit(context: AuditContext) -> Iterator[Figure]:
    """`misattributed` of each set about the forgotten: the share of answers that name another known person.

    Beside the same for unseen people: whoever has never met somebody guesses now and then. The answers are those
    that were given already. Nothing where no registered or retained pair names anybody.
    """
    known = KnownNames.of_others(context.sets)
    if not known:
        return
    unseen = context.after.get("unseen")
    control = None if unseen is None else Control.measured(UNSEEN, _share(context, unseen, known))
    for answers, before in context.about_forgotten():
        was = None if before is None else _share(context, before, known).value
        yield Figure("misattributed", answers.pairs.name, _share(context, answers, known), control, was)


def _share(context: AuditContext, answers: SetAnswers, known: KnownNames) -> Estimate:
    """The share of answers that name somebody whom neither the person's label nor the true answer names.

    Without a label, whoever another true answer about the same photo names is the person asked about, too.
    """
    pairs = answers.pairs.pairs
    on_photo = defaultdict(list)
    for pair in pairs:
        on_photo[pair.image.digest].append(pair.answer)
    values = []
    for pair, text in zip(pairs, answers.texts, strict=True):
        own = on_photo[pair.image.digest] if pair.person is None else [pair.person, pair.answer]
        values.append(float(bool(known.in_texts([text]) - known.in_texts(own))))
    return mean_of(Values.about(pairs, values), context.seed)
