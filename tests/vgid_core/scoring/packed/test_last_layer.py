"""The last layer computes what is looked at, and is as before afterwards."""

from pathlib import Path

import pytest
import torch

from tests.vgid_core.tiny import SENTENCES, picture, save_tiny_model
from vgid_core import Pair, UnlearnConfig
from vgid_core.config import LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.last_layer import computed_at
from vgid_core.scoring.packed.scorer import PackedScorer


def test_queries_outputs_and_mlp_are_computed_at_answers_alone_and_keys_and_values_everywhere(tmp_path: Path) -> None:
    base = load_base(str(save_tiny_model(tmp_path / "m")), UnlearnConfig(device="cpu"))
    first, *_, last = base.model.get_decoder().layers
    rows: dict[str, int] = {}

    def counted(name: str) -> object:
        return lambda _module, inputs, _output: rows.update({name: inputs[0].shape[1]})

    for layer, module in (("first", first), ("last", last)):
        for part in ("q_proj", "k_proj", "v_proj"):
            getattr(module.self_attn, part).register_forward_hook(counted(f"{layer} {part}"))
        module.mlp.down_proj.register_forward_hook(counted(f"{layer} mlp"))
    path = PackedScorer(base)
    lessons = [DistillExample.same_for_both(Pair(picture(i), SENTENCES[i], SENTENCES[4 + i])) for i in range(3)]
    path.teacher_logits(lessons)
    answers = sum(len(path.answer_ids(lesson.pair.answer)) for lesson in lessons)
    whole = rows["first q_proj"]
    assert answers < whole
    assert {rows[f"first {part}"] for part in ("k_proj", "v_proj", "mlp")} == {whole}
    assert (rows["last k_proj"], rows["last v_proj"], rows["last mlp"]) == (whole, whole, answers)


@pytest.mark.parametrize("fails", [False, True])
def test_a_fused_adapter_is_there_again_afterwards(tmp_path: Path, fails: bool) -> None:
    base = load_base(str(save_tiny_model(tmp_path / "m")), UnlearnConfig(device="cpu"))
    attach_adapter(base, LoraSettings())
    layer = base.model.get_decoder().layers[-1]

    def own() -> dict[str, object]:
        return {name: vars(module).get("forward") for name, module in layer.named_modules()}

    before = own()
    assert before["self_attn.q_proj"] is not None
    try:
        with computed_at(layer, torch.tensor([1, 2])):
            assert own() != before
            if fails:
                raise InterruptedError
    except InterruptedError:
        pass
    assert own() == before
