"""One process of several on the same runs, as `accelerate launch` would start it. Takes three models, output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file

from tests.vgid_core.support.knowing import FORGET as KNOWN
from tests.vgid_core.support.knowing import RETAIN as RETAINED
from tests.vgid_core.support.knowing import UNSEEN
from tests.vgid_core.support.runs import spec
from tests.vgid_core.support.speaking import VISIBLE
from tests.vgid_core.support.tiny import FEW_PAIRS, pair_set
from vgid_core import Pair, UnlearnConfig, unlearn
from vgid_core.config import EvaluationConfig, LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.data.roles import AuditSets
from vgid_core.errors import CheckpointUnusable, ModelNotSupported
from vgid_core.evaluation.evidence import Auditor
from vgid_core.evaluation.known import require_known
from vgid_core.evaluation.levels import LEVELS
from vgid_core.lora.attach import attach_adapter
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.training.checkpoints import Checkpoints
from vgid_core.training.loop import StepLoss, distil

# Five lessons for two processes, of which one has three in two micro-batches and the other two.
TRAINING = {"steps": 3, "forget_batch_size": 5, "retain_batch_size": 3, "micro_batch_size": 2, "learning_rate": 3e-3}
BASIC = {
    "device": "cpu",
    "method": FEW_PAIRS,
    "training": TRAINING,
    "evaluation": {"max_new_tokens": 2, "max_pairs": 2, "audits": "none"},
}
LOOKING = {"method": FEW_PAIRS | {"visual_questions": VISIBLE}}
FORGET = pair_set("forget", 6)  # some share an answer
RUNS: dict[str, dict[str, object]] = {
    "packed": BASIC,
    "packed in shares": BASIC | {"shard_base": True, "training": TRAINING | {"gradient_checkpointing": True}},
    "padded in shares": BASIC | {"shard_base": True, "lora": {"scope": "language+vision"}},
}
# Of a model that says something about photos.
LOOKING_RUNS: dict[str, dict[str, object]] = {
    "packed, looking": BASIC | LOOKING,
    "packed in shares, looking": BASIC | LOOKING | {"shard_base": True},
}


def run(model: Path, out: Path, name: str, values: dict[str, object]) -> None:
    """A whole run. Leaves, beside the adapter, the losses that it reported."""
    losses: dict[int, tuple[float | None, float | None]] = {}
    result = unlearn(
        spec(
            model,
            out / name,
            config=UnlearnConfig.model_validate(values),
            forget=FORGET,
            utility=None,
            probes={},
        ),
        lambda progress: losses.update({progress.step: (progress.loss_forget, progress.loss_retain)}),
    )
    if losses:
        (out / f"{name}.losses").write_text(repr(losses))
    assert result.manifest["scorer"] == name.replace(",", "").split()[0]
    assert result.manifest["processes"] == distributed.world_size()


def run_with_interruption(model: Path, out: Path) -> None:
    """The same training twice, the second time with an interruption. Leaves both adapters."""

    class Interrupted(Exception):
        pass

    def stop(step: int, _loss: StepLoss) -> None:
        if step == 2:
            raise Interrupted

    config = UnlearnConfig.model_validate(BASIC)
    retain = pair_set("retain", 11, first_picture=20)

    def adapter(on_step: object, checkpoints: Checkpoints | None) -> dict[str, torch.Tensor]:
        base = load_base(str(model), config)
        student = distil(base, FORGET, retain, config, on_step, checkpoints=checkpoints).student  # type: ignore[arg-type]
        return {name: p.detach().clone() for name, p in student.named_parameters() if "lora_" in name}

    alone = adapter(None, None)
    checkpoints = Checkpoints(out / "checkpoint", {}, 0)
    try:
        adapter(stop, checkpoints)
    except Interrupted:
        save_file(alone, out / f"alone {distributed.rank()}.safetensors")
        save_file(adapter(None, checkpoints), out / f"resumed {distributed.rank()}.safetensors")
    own_folder = out / "checkpoint" if distributed.is_main() else out / "nobody else's"
    with pytest.raises(CheckpointUnusable, match="share"):
        adapter(None, Checkpoints(own_folder, {}, 0))


def chosen(model: Path) -> dict[str, str]:
    """Which scorer this process takes where the second one alone finds something wrong with packed rows."""
    second = distributed.rank() == 1
    measured, begun = PackedScorer.deviation, PackedScorer.__init__

    def deviation(scorer: PackedScorer, pairs: Sequence[Pair]) -> float:
        return measured(scorer, pairs) + (1.0 if second else 0.0)

    def without_memory(scorer: PackedScorer, pairs: Sequence[Pair]) -> float:
        if second:
            raise torch.OutOfMemoryError
        return measured(scorer, pairs)

    def impossible(scorer: PackedScorer, *given: object) -> None:
        if second:
            raise ModelNotSupported("not in this process")
        begun(scorer, *given)  # type: ignore[arg-type]

    cases: dict[str, tuple[bool, str, Callable[..., object]]] = {
        "deviates, in shares": (True, "deviation", deviation),
        "no memory": (False, "deviation", without_memory),
        "impossible, in shares": (True, "__init__", impossible),
        "nothing wrong, in shares": (True, "deviation", measured),
    }
    names = {}
    for case, (shares, method, replacement) in cases.items():
        base = load_base(str(model), UnlearnConfig.model_validate(BASIC | {"shard_base": shares}))
        with patch.object(PackedScorer, method, replacement):
            names[case] = choose_scorer(base, FORGET.pairs[:3], LoraSettings()).name
    return names


def held(model: Path) -> dict[str, float]:
    """Which share of the decoder layers' weights this process holds: from the start, and after passes of each kind."""
    whole, shared = (
        load_base(str(model), UnlearnConfig.model_validate(BASIC | {"shard_base": shard})) for shard in (False, True)
    )
    all_of_them = frozen_numbers(whole)
    shares = {"loaded": frozen_numbers(shared) / all_of_them}
    attach_adapter(shared, LoraSettings())
    for scorer in (PackedScorer(shared), PaddedScorer(shared)):
        scorer.score_answers(FORGET.pairs, EvaluationConfig(max_new_tokens=2))
        shares[f"{scorer.name}, after an evaluation"] = frozen_numbers(shared) / all_of_them
        loss = scorer.divergence([DistillExample.same_for_both(pair) for pair in FORGET])
        shares[f"{scorer.name}, after the way forward"] = frozen_numbers(shared) / all_of_them
        loss.sum().backward()  # type: ignore[no-untyped-call]
        shares[f"{scorer.name}, after the way back"] = frozen_numbers(shared) / all_of_them
    return shares


def audited(model: Path, shard: bool) -> dict[str, object]:
    """All audits of a model that knows people, in step with the other process; training goes on after them."""
    base = load_base(str(model), UnlearnConfig.model_validate(BASIC | {"shard_base": shard}))
    config = UnlearnConfig(device="cpu", evaluation=EvaluationConfig(audits="full", max_new_tokens=8))
    auditor = Auditor(AuditSets(KNOWN, RETAINED, UNSEEN), [KNOWN, RETAINED, UNSEEN], config)
    scorer = choose_scorer(base, KNOWN.pairs[:2], LoraSettings())
    full = LEVELS["full"]
    short = replace(full, sizes=replace(full.sizes, relearning_steps=(2,), samples=1))
    with patch.dict(LEVELS, {"full": short}):
        before = auditor.before(base, scorer)
        require_known(before.figures)
        attach_adapter(base, LoraSettings())
        evidence = auditor.evidence(auditor.after(base, scorer, before))
    loss = scorer.student_log_probability(KNOWN.pairs)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert evidence is not None
    return {"figures": {(f.name, f.of): f.value for f in evidence.figures}, "not": list(evidence.verdict.unmeasured)}


def frozen_numbers(base: BaseModel) -> int:
    """How many of the decoder layers' own numbers are in this process."""
    frozen = (p for n, p in base.model.get_decoder().layers.named_parameters() if ".lora_" not in n)
    return sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in frozen)


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, speaking, knowing, out = map(Path, sys.argv[1:])
    for name, values in RUNS.items():
        run(model, out, name, values)
    for name, values in LOOKING_RUNS.items():
        run(speaking, out, name, values)
    run_with_interruption(model, out)
    (out / f"chosen {distributed.rank()}").write_text(repr(chosen(model)))
    (out / f"held {distributed.rank()}").write_text(repr(held(model)))
    for shard in (False, True):
        (out / f"audited {distributed.rank()} {shard}").write_text(repr(audited(knowing, shard)))
