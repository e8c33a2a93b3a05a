"""What is special to one family, and the check of a model at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from tests.vgid_core.families import paligemma
from tests.vgid_core.families.registry import CONFIG, FAMILIES, documented_scorers, pairs_of
from tests.vgid_core.support.tiny import SENTENCES
from tests.vgid_core.support.two_families import photo
from vgid_core import EncodedImage
from vgid_core.models.encoding import Batch
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.model_check import check_model, generation_deviation

# As in test_families.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_a_model_can_be_checked_before_a_run(tmp_path: Path) -> None:
    report = check_model(str(FAMILIES["mllama"](tmp_path / "model")), CONFIG)
    assert report.scorer == documented_scorers()["mllama"]
    assert report.deviation < 1e-4
    assert report.adapted == 3 * 7
    assert "<|image|>Who is this?" in report.prompt


def test_answers_that_would_see_themselves_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PaliGemma's answer, were it part of the prompt, would be seen before it is said."""
    base = load_base(str(FAMILIES["paligemma"](tmp_path / "model")), CONFIG)
    inputs = base.encoder.batch([photo(0).decode()], [SENTENCES[0]], [SENTENCES[4]])
    width = inputs.answer_ids.shape[1]
    assert inputs.inputs["token_type_ids"][0].tolist()[-width - 1 :] == [0] + [1] * width
    encoded = base.encoder.batch

    def as_prompt(*texts: Any) -> Batch:
        batch = encoded(*texts)
        types = torch.zeros_like(batch.inputs["token_type_ids"])
        return replace(batch, inputs={**batch.inputs, "token_type_ids": types})

    monkeypatch.setattr(base.encoder, "batch", as_prompt)
    assert generation_deviation(base, pairs_of(0, 2)) > 0.1


def test_a_prompt_begins_once(tmp_path: Path) -> None:
    """Templates that write the first token themselves, and tokenizers that do it for them."""
    for kind in ("gemma3", "llava_next", "paligemma"):
        base = load_base(str(FAMILIES[kind](tmp_path / kind)), CONFIG)
        prompt = base.encoder.prompts([photo(0).decode()], [SENTENCES[0]])["input_ids"][0].tolist()
        assert prompt.count(base.encoder.processor.tokenizer.bos_token_id) == 1, kind


def test_paligemma_2_with_its_windows_and_capped_logits(tmp_path: Path) -> None:
    text = {
        "model_type": "gemma2",
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 16,
    }
    base = load_base(str(paligemma.save_tiny(tmp_path / "model", **text)), CONFIG)
    assert generation_deviation(base, pairs_of(0, 6)) < 1e-5
    assert choose_scorer(base, pairs_of(0, 4), CONFIG.lora).name == "padded"


def test_a_template_of_ones_own_frames_paligemmas_prompt(tmp_path: Path) -> None:
    folder = FAMILIES["paligemma"](tmp_path / "model")
    processor = AutoProcessor.from_pretrained(folder)
    processor.chat_template = (
        "{% for m in messages %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>answer en {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    processor.save_pretrained(folder)
    base = load_base(str(folder), CONFIG)
    prompt = base.encoder.prompts([photo(0).decode()], ["Who?"])["input_ids"][0]
    assert base.encoder.processor.tokenizer.decode(prompt).endswith("<bos>answer en Who?\n")


def test_a_photos_size_decides_how_many_tiles_it_has(tmp_path: Path) -> None:
    base = load_base(str(FAMILIES["idefics3"](tmp_path / "model")), CONFIG)
    images = [EncodedImage.of(photo(0).decode().resize(size)).decode() for size in [(32, 32), (64, 32)]]
    rows = base.encoder.prompts(images, ["Who?"] * 2)["input_ids"]
    tiles = [base.encoder.processor.tokenizer.decode(row).count("<row_") for row in rows]
    assert tiles == [4, 2]
