"""Sets, settings and targets of short vgid-substitute runs."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from tests.vgid_core.support.tiny import pair_set, picture
from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_substitute.substitutes import substitutes_for
from vgid_core.methods.vgid_substitute.targets import TeacherTargets
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.scorer import Scorer

RETAIN = pair_set("retain", 6, first_picture=50)
# Two of them share an answer, with a name in several tokens that nobody of the retain set bears.
FORGET = PairSet.of(
    "forget",
    [
        *pair_set("forget", 5),
        *(replace(pair, answer="This is Bor Quazwick.") for pair in pair_set("more", 2, first_picture=30)),
    ],
)
UNSEEN_FACES = [picture(number) for number in range(80, 84)]


def config(method: dict[str, object] | None = None, **training: object) -> UnlearnConfig:
    values = {"steps": 4, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3} | training
    settings = {"name": "vgid-substitute", "teachers": 3, "off_target_pairs": 2, "neighbour_pairs": 6} | (method or {})
    return UnlearnConfig.model_validate({"method": settings, "training": values, "device": "cpu", "seed": 5})


def run_of(base: BaseModel, scorer: Scorer, settings: UnlearnConfig) -> MethodContext:
    return MethodContext(base, scorer, settings.training, settings.seed, FORGET, RETAIN, UNSEEN_FACES)


def one_substitute_and_unseen_face(
    base: BaseModel, method: dict[str, object], questions: Sequence[str]
) -> tuple[MethodContext, list[int]]:
    """Nothing to draw: an answer asked by these questions, one unseen face, the tokens of the only substitute."""
    retain = PairSet.of("retain", [replace(RETAIN.pairs[0], answer=text) for text in ("x q.", "y q.")])
    forget = PairSet.of("forget", [replace(FORGET.pairs[0], question=text, answer="x q.") for text in questions])
    settings = config(method)
    context = MethodContext(base, PackedScorer(base), settings.training, 5, forget, retain, UNSEEN_FACES[:1])
    return context, base.encoder.answer_ids("y q.")


def method_of(settings: UnlearnConfig) -> VgidSubstitute:
    assert isinstance(settings.method, VgidSubstitute)
    return settings.method


def targets_of(
    base: BaseModel, settings: UnlearnConfig, scorer: Scorer | None = None, context: MethodContext | None = None
) -> TeacherTargets:
    context = context or run_of(base, scorer or PackedScorer(base), settings)
    return TeacherTargets(method_of(settings), context, substitutes_for(context), context.unseen_faces)


def dense_targets(base: BaseModel, targets: TeacherTargets, pairs: Sequence[Pair]) -> torch.Tensor:
    targets.prepare(pairs)
    return targets.distributions(pairs).dense(base.model.get_output_embeddings().out_features)
