"""Each rival's loss pinned to its definition, written out here a row and a token at a time; and what holds for all."""

import json
import math
import random
from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError
from torch.nn.utils import get_total_norm

from tests.vgid_core.support.reference import ByHand
from tests.vgid_core.support.students import SCORERS, MakeScorer, both_scorers, scrambled_adapter
from tests.vgid_core.support.tiny import pair_set
from vgid_core import UnlearnSpec, unlearn
from vgid_core.config import UnlearnConfig, methods, rivals
from vgid_core.config.method_base import Method
from vgid_core.config.method_names import METHODS
from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.pairs import Pair
from vgid_core.lora.attach import require_trained
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil
from vgid_core.training.step import UpdateLosses, UpdateRunner

FORGET, RETAIN = pair_set("forget", 5), pair_set("retain", 4, first_picture=50)
RIVALS = [name for name in METHODS if not name.startswith("vgid")]


def test_every_methods_settings_can_be_chosen() -> None:
    defined = [each for module in (methods, rivals) for each in vars(module).values() if isinstance(each, type)]
    assert {each for each in defined if issubclass(each, Method) and hasattr(each, "title")} == set(METHODS.values())


def config(method: object, **training: object) -> UnlearnConfig:
    values = {"steps": 4, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3} | training
    settings = {"method": method, "training": values, "evaluation": {"audits": "none"}, "device": "cpu", "seed": 5}
    return UnlearnConfig.model_validate(settings)


def first_update(scorer: Scorer, base: BaseModel, student: torch.nn.Module, settings: UnlearnConfig) -> UpdateLosses:
    """Losses and gradient of the only update that the method makes of both sets."""
    updates = setup(settings.method, MethodContext(base, scorer, settings.training, settings.seed, FORGET, RETAIN))
    (update,) = updates(FORGET.pairs, RETAIN.pairs)
    return UpdateRunner(scorer, student, settings).accumulate(update)


@pytest.fixture
def hand(base: BaseModel) -> ByHand:
    return ByHand(base, scrambled_adapter(base))


def losses(scorer: MakeScorer, hand: ByHand, settings: UnlearnConfig) -> list[float]:
    result = first_update(scorer(hand.base), hand.base, hand.student, settings)
    assert all(len(parts) == 1 for parts in result.losses)
    return [parts[0] for parts in result.losses]


@both_scorers
def test_gradient_ascent_climbs_the_cross_entropy_and_knows_no_retain_set(hand: ByHand, scorer: MakeScorer) -> None:
    assert losses(scorer, hand, config("ga")) == pytest.approx([-hand.cross_entropy(FORGET.pairs)], rel=1e-4)


@both_scorers
def test_gradient_difference(hand: ByHand, scorer: MakeScorer) -> None:
    expected = [-hand.cross_entropy(FORGET.pairs), hand.cross_entropy(RETAIN.pairs)]
    assert losses(scorer, hand, config("graddiff")) == pytest.approx(expected, rel=1e-4)


@both_scorers
def test_kl_minimisation(hand: ByHand, scorer: MakeScorer) -> None:
    expected = [-hand.cross_entropy(FORGET.pairs), hand.divergence(RETAIN.pairs)]
    assert losses(scorer, hand, config("kl-min")) == pytest.approx(expected, rel=1e-4)


@both_scorers
def test_idk_learns_refusals_drawn_by_the_runs_seed(hand: ByHand, scorer: MakeScorer) -> None:
    refusals = ["The shirt is teal.", "This is Ada Quill."]
    settings = config({"name": "idk", "refusals": refusals})
    choice = random.Random(settings.seed)
    refused = [Pair(pair.image, pair.question, choice.choice(refusals)) for pair in FORGET]
    assert {pair.answer for pair in refused} == set(refusals)
    expected = [hand.cross_entropy(refused), hand.cross_entropy(RETAIN.pairs)]
    assert losses(scorer, hand, settings) == pytest.approx(expected, rel=1e-4)


@both_scorers
@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_npo_on_whole_answers(hand: ByHand, scorer: MakeScorer, temperature: float) -> None:
    total = 0.0
    for pair in FORGET:
        ratio = sum(hand.log_p(pair)) - sum(hand.log_p(pair, adapted=False))
        total += -2 / temperature * math.log(1 / (1 + math.exp(temperature * ratio)))
    expected = [total / len(FORGET), hand.cross_entropy(RETAIN.pairs)]
    settings = config({"name": "npo", "inverse_temperature": temperature})
    assert losses(scorer, hand, settings) == pytest.approx(expected, rel=1e-4)


@both_scorers
def test_undial_learns_from_the_base_with_true_tokens_talked_down(hand: ByHand, scorer: MakeScorer) -> None:
    total, count = 0.0, 0
    for pair in FORGET:
        rows = zip(hand.tokens(pair), hand.logits(pair, False), hand.logits(pair, True), strict=True)
        for token, teacher, student in rows:
            teacher[token] -= 3.0
            total -= float((torch.softmax(teacher, 0) * torch.softmax(student, 0).log()).sum())
            count += 1
    expected = [total / count, hand.cross_entropy(RETAIN.pairs)]
    assert losses(scorer, hand, config({"name": "undial", "strength": 3.0})) == pytest.approx(expected, rel=1e-4)


@both_scorers
@pytest.mark.parametrize(("depth", "layer"), [(0.5, 1), (0.01, 1)])
def test_rmu_pulls_one_layers_states(hand: ByHand, scorer: MakeScorer, depth: float, layer: int) -> None:
    settings = config({"name": "rmu", "coefficient": 4.0, "depth": depth})
    direction = torch.rand(48, generator=torch.Generator().manual_seed(settings.seed)).double()
    target = 4.0 * direction / direction.square().sum().sqrt()
    astray = torch.cat([hand.states(pair, layer) - target for pair in FORGET])
    moved = torch.cat([hand.states(pair, layer) - hand.states(pair, layer, adapted=False) for pair in RETAIN])
    expected = [float((gap**2).sum() / gap.numel()) for gap in (astray, moved)]
    assert expected[1] > 1e-3
    assert losses(scorer, hand, settings) == pytest.approx(expected, rel=1e-4)


@both_scorers
@pytest.mark.parametrize("name", ["npo", "rmu"])
def test_micro_batches_change_neither_loss_nor_gradient(hand: ByHand, scorer: MakeScorer, name: str) -> None:
    results, gradients = [], []
    for size in (5, 3, 1):
        hand.student.zero_grad()
        settings = config(name, micro_batch_size=size, forget_weight=1.7, retain_weight=0.6)
        results.append(first_update(scorer(hand.base), hand.base, hand.student, settings))
        gradients.append([p.grad.clone() for p in hand.student.parameters() if p.grad is not None])
    for other, gradient in zip(results[1:], gradients[1:], strict=True):
        assert other.losses == [pytest.approx(parts, rel=1e-5) for parts in results[0].losses]
        gap = get_total_norm([a - b for a, b in zip(gradient, gradients[0], strict=True)])
        assert float(gap) <= 1e-4 * results[0].gradient_norm


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_has_settings_can_be_set_up(base: BaseModel, name: str) -> None:
    settings = config(name)
    context = MethodContext(base, PaddedScorer(base), settings.training, settings.seed, FORGET, RETAIN)
    assert callable(setup(settings.method, context))


@pytest.mark.parametrize("name", RIVALS)
def test_both_paths_give_one_gradient(hand: ByHand, name: str) -> None:
    """Values are pinned above; here the packed scorer's own derivatives are held to autograd's through the model."""
    found = []
    for scorer in SCORERS:
        hand.student.zero_grad()
        result = first_update(scorer(hand.base), hand.base, hand.student, config(name))
        # Packed, the last layer's MLP is left out where nobody looks: no gradient is as good as zero.
        found.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in adapter(hand.student)])
    gap = get_total_norm([a - b for a, b in zip(*found, strict=True)])
    assert result.gradient_norm > 0
    assert float(gap) <= 1e-4 * result.gradient_norm


def adapter(student: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    return (p for p in student.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "ga"])
def test_without_a_retain_weight_only_the_forget_term_is_left(hand: ByHand, name: str) -> None:
    result = first_update(PaddedScorer(hand.base), hand.base, hand.student, config(name, retain_weight=0))
    assert len(result.losses) == 1


@pytest.mark.parametrize("name", RIVALS)
def test_a_few_steps_lower_the_loss_and_move_every_adapted_layer(base: BaseModel, name: str) -> None:
    losses = []
    settings = config(name, steps=16, forget_batch_size=5, retain_weight=0.1)
    distilled = distil(base, FORGET, RETAIN, settings, lambda _step, loss: losses.append(loss.forget))
    layers = {module.split(".layers.")[1].split(".")[0] for module in require_trained(distilled.student)}
    assert layers == ({"0"} if name == "rmu" else {"0", "1"})
    # UNDIAL's loss is at its least from the start here: a random base thinks little of the true tokens already.
    assert name == "undial" or sum(losses[-4:]) < sum(losses[:4])


def test_distil_reports_the_methods_losses_and_trains_all_layers(base: BaseModel) -> None:
    settings = config("graddiff", forget_batch_size=5, retain_batch_size=4)  # a step sees both sets as a whole
    untrained = ByHand(base, base.model)
    expected = (-untrained.cross_entropy(FORGET.pairs), untrained.cross_entropy(RETAIN.pairs))
    losses: list[tuple[float | None, float | None]] = []
    trained = distil(base, FORGET, RETAIN, settings, lambda _, loss: losses.append((loss.forget, loss.retain)))
    assert losses[0] == pytest.approx(expected, rel=1e-4)
    assert len(require_trained(trained.student)) == 2 * 7


@pytest.mark.parametrize("given", [{"name": "theirs"}, "theirs"], ids=str)
def test_a_method_that_isnt_ours_is_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="no method has this name"):
        UnlearnConfig.model_validate({"method": given})


def test_a_whole_run_says_in_its_manifest_which_method_it_was(tiny_folder, tmp_path) -> None:
    spec = UnlearnSpec(str(tiny_folder), "tiny", FORGET, RETAIN, tmp_path / "out", config=config("rmu", steps=2))
    unlearn(spec)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["method"].startswith("RMU")
    assert UnlearnConfig.model_validate(manifest["config"]) == spec.config
    kept = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["target_modules"]
    assert "layers" in kept, "plain PEFT puts the adapter into the same layers"


def test_a_bare_name_is_that_methods_own_settings() -> None:
    for name in RIVALS:
        assert UnlearnConfig.model_validate({"method": name}).method.name == name
    assert UnlearnConfig.model_validate({"method": {"teachers": 3}}).method == VgidSubstitute(teachers=3)


@pytest.mark.parametrize(
    "method",
    [
        "forget-it",
        {"name": "npo", "instruction": "Forget."},
        {"name": "npo", "inverse_temperature": 0},
        {"name": "idk", "refusals": []},
        {"name": "idk", "refusals": [""]},
        {"name": "rmu", "depth": 1.5},
    ],
)
def test_settings_that_make_no_sense_are_refused(method: object) -> None:
    with pytest.raises(ValidationError):
        UnlearnConfig.model_validate({"method": method})


def test_what_adapts_half_the_layers_loads_in_plain_peft(base: BaseModel, tiny_folder) -> None:
    distilled = distil(base, FORGET, RETAIN, config("rmu", steps=2))
    fresh = load_base(str(tiny_folder), UnlearnConfig(device="cpu"))
    from peft import get_peft_model

    again = get_peft_model(fresh.model, distilled.student.peft_config["default"])
    names = [{n for n, _ in student.named_parameters() if "lora_" in n} for student in (distilled.student, again)]
    assert names[0] == names[1]
