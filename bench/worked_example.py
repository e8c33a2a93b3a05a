"""Follows one answer of the demo through the default method, token by token: the worked example of docs/method.md.

    python -m bench.worked_example

It asks the teachers about the answer to one person's birthplace, trains on the demo's sets as `make demo` does (seed 0,
one thread), and asks the student on the person's own photo. Prints one teacher's substitute and the page's table: each
token's log-probability by the base and the student, c_t, and the likeliest tokens of target and student. Writes
bench/results/worked_example.json.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from bench.parts.demo_models import SHIPPED
from bench.parts.machine import save
from local.demo.data import DemoData, make
from vgid_core import Pair, UnlearnConfig
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.config.methods import VgidSubstitute
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_substitute.substitutes import substitutes_for
from vgid_core.methods.vgid_substitute.targets import TeacherTargets
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training.loop import distil

FACT = "was born in"
LIKELIEST = 3


@dataclass(frozen=True)
class Row:
    """One answer token. Log-probabilities are in nats; likeliest tokens have their probabilities behind them."""

    token: str
    base: float
    kept: float  # c_t
    student: float
    target_says: list[tuple[str, float]]
    student_says: list[tuple[str, float]]


@dataclass(frozen=True)
class Taught:
    """What is known of the answer before the training."""

    substitute: str  # the first teacher's
    base: Tensor  # log-probabilities of the true tokens
    kept: Tensor  # c_t
    target: Tensor  # [answer tokens, vocabulary]


def main() -> None:
    """Prepares, trains, prints and saves."""
    torch.set_num_threads(1)
    set_up_logs()
    demo, config = make(), UnlearnConfig.model_validate(SHIPPED.default)
    base = load_base(str(SHIPPED.base), config)
    pair = next(pair for pair in demo.forget if FACT in pair.answer)
    taught = _taught(base, demo, config, pair)
    distil(base, demo.forget, demo.retain, config, unseen_faces=demo.unseen_faces.photos)
    rows = _rows(base, pair, taught)
    print(f"{pair.question} {pair.answer} One teacher reads: {taught.substitute}")
    print("\n| token | base | `c_t` | student | the target's likeliest | the student says |\n|---|--:|--:|--:|---|---|")
    for row in rows:
        logs = " | ".join(f"{value:.1f}" for value in (row.base, row.kept, row.student))
        print(f"| {row.token} | {logs} | {_listed(row.target_says)} | {_listed(row.student_says[:1])} |")
    figures = {"question": pair.question, "answer": pair.answer, "substitute": taught.substitute}
    record = {"config": config.model_dump(mode="json"), **figures, "rows": [asdict(row) for row in rows]}
    print("written:", save("worked_example", record, seed=config.seed, runs=1))


@torch.no_grad()
def _taught(base: BaseModel, demo: DemoData, config: UnlearnConfig, pair: Pair) -> Taught:
    assert isinstance(config.method, VgidSubstitute)
    scorer, unseen_faces = PackedScorer(base), demo.unseen_faces.photos
    context = MethodContext(base, scorer, config.training, config.seed, demo.forget, demo.retain, unseen_faces)
    substitutes = substitutes_for(context)
    targets = TeacherTargets(config.method, context, substitutes, unseen_faces)
    targets.prepare([pair])
    # The draw with which the targets' first teacher begins.
    substitute = substitutes.draw(scorer.answer_ids(pair.answer), random.Random(f"{config.seed}/{pair.answer}")).forms[
        0
    ]
    dense = targets.distributions([pair]).dense(base.model.get_output_embeddings().out_features)
    (text,) = base.encoder.decode([list(substitute)])
    return Taught(text, scorer.student_log_probability([pair]), targets.log_likelihoods([pair]), dense)


@torch.no_grad()
def _rows(base: BaseModel, pair: Pair, taught: Taught) -> list[Row]:
    scorer = PackedScorer(base)
    after, said = scorer.student_log_probability([pair]), scorer.student_logits([pair]).softmax(-1)
    logs = zip(taught.base.tolist(), taught.kept.tolist(), after.tolist(), strict=True)
    return [
        Row(_text(base, token), *values, _likeliest(base, taught.target[place]), _likeliest(base, said[place]))
        for place, (token, values) in enumerate(zip(scorer.answer_ids(pair.answer), logs, strict=True))
    ]


def _likeliest(base: BaseModel, distribution: Tensor) -> list[tuple[str, float]]:
    best = distribution.topk(LIKELIEST)
    return [(_text(base, int(i)), round(float(p), 4)) for p, i in zip(best.values, best.indices, strict=True)]


def _text(base: BaseModel, token: int) -> str:
    return base.encoder.decode([[token]])[0].strip()


def _listed(tokens: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{text} {probability:.2f}" for text, probability in tokens)


if __name__ == "__main__":
    main()
