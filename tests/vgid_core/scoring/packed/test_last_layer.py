"""The restricted last layer computes only what is needed, and is unrestricted afterwards."""

from pathlib import Path

import pytest
import torch

from tests.vgid_core.support.tiny import SENTENCES, picture, save_tiny_model
from vgid_core import Pair, UnlearnConfig
from vgid_core.config import LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.last_layer import compute_only_at
from vgid_core.scoring.packed.scorer import PackedScorer


def test_the_last_layer_computes_queries_and_mlp_at_answers_alone(tmp_path: Path) -> None:
    base = load_base(str(save_tiny_model(tmp_path / "m")), UnlearnConfig(device="cpu"))
    first, *_, last = base.model.get_decoder().layers
    rows: dict[str, int] = {}

    def counted(name: str) -> object:
        return lambda _module, inputs, _output: rows.update({name: inputs[0].shape[1]})

    for layer, module in (("first", first), ("last", last)):
        for part in ("q_proj", "k_proj", "v_proj"):
            getattr(module.self_attn, part).register_forward_hook(counted(f"{layer} {part}"))
        module.mlp.down_proj.register_forward_hook(counted(f"{layer} mlp"))
    scorer = PackedScorer(base)
    examples = [DistillExample.same_for_both(Pair(picture(i), SENTENCES[i], SENTENCES[4 + i])) for i in range(3)]
    scorer.teacher_logits(examples)
    answers = sum(len(scorer.answer_ids(example.pair.answer)) for example in examples)
    whole = rows["first q_proj"]
    assert answers < whole
    assert {rows[f"first {part}"] for part in ("k_proj", "v_proj", "mlp")} == {whole}
    assert (rows["last k_proj"], rows["last v_proj"], rows["last mlp"]) == (whole, whole, answers)


@pytest.mark.parametrize("fails", [False, True])
def test_a_fused_forward_comes_back_afterwards(tmp_path: Path, fails: bool) -> None:
    base = load_base(str(save_tiny_model(tmp_path / "m")), UnlearnConfig(device="cpu"))
    attach_adapter(base, LoraSettings())
    layer = base.model.get_decoder().layers[-1]

    def own() -> dict[str, object]:
        return {name: vars(module).get("forward") for name, module in layer.named_modules()}

    before = own()
    assert before["self_attn.q_proj"] is not None
    try:
        with compute_only_at(layer, torch.tensor([1, 2])):
            assert own() != before
            if fails:
                raise InterruptedError
    except InterruptedError:
        pass
    assert own() == before
