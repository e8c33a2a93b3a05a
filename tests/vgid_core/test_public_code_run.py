"""Whole runs of the preset `public-code`, one of them beside the public code's loop written out."""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import get_scheduler

from tests.vgid_core.test_public_code import FORGET, LANGUAGE_NAMES, RETAIN, every_position, noise_of, preset, rows
from vgid_core import UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.base_model import BaseModel
from vgid_core.batches import draw_epochs
from vgid_core.distil import distil, step_seed
from vgid_core.teaching import Teacher


def test_two_epochs_give_the_adapter_of_the_loop_written_out(base: BaseModel) -> None:
    """A forget batch, then a retain batch, an AdamW step each, dropout drawn alike; nothing clipped."""
    config = preset(learning_rate=3e-3)
    model = copy.deepcopy(base.model)
    distilled = distil(base, FORGET, RETAIN, config)
    assert distilled.path == "plain"
    expected = by_hand(base, model, config)
    found = {name: value for name, value in distilled.student.named_parameters() if "lora_" in name}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=2e-4), name
    moved = max(float(value.abs().max()) for name, value in expected.items() if ".lora_B." in name)
    assert moved > 5e-3, "far more than they may differ by"


def test_a_whole_run_goes_row_by_row_and_says_so(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For the positions' sake alone: without dropout and vision, packed rows would be taken for answer tokens."""
    lora = {"dropout": 0.0, "scope": "language"}
    config = UnlearnConfig.preset("public-code", lora=lora, training={"epochs": 2}, device="cpu")
    steps: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO, logger="vgid_core.paths"):
        result = unlearn(
            UnlearnSpec(str(tiny_folder), "tiny", FORGET, RETAIN, tmp_path / "out", config=config),
            on_step=lambda progress: steps.append((progress.step, progress.total_steps)),
        )
    assert result.manifest["path"] == "plain"
    assert "going row by row" in caplog.text
    assert result.steps == result.manifest["config"]["training"]["steps"] == 2 * 2
    assert max(steps) == (4, 4)


def by_hand(base: BaseModel, model: torch.nn.Module, config: UnlearnConfig) -> dict[str, torch.Tensor]:
    teacher, noise = copy.deepcopy(model).eval(), Teacher(config.method, config.seed)
    batches = [
        draw_epochs(items, 4, random.Random(config.seed + index), steps=2)
        for index, items in enumerate([FORGET, RETAIN])
    ]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        lora = LoraConfig(
            r=16, lora_alpha=16, lora_dropout=0.05, target_modules=LANGUAGE_NAMES, init_lora_weights="gaussian"
        )
        student = get_peft_model(model, lora).train()
        optimizer = torch.optim.AdamW(student.parameters(), lr=config.training.learning_rate, weight_decay=0.0)
        schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=(2 + 3) * 2)
        for epoch in range(2):
            for step in (1, 2):
                torch.manual_seed(step_seed(config.seed, 2 * epoch + step))  # each step's dropout has its own
                for role in (0, 1):
                    pairs = next(batches[role])
                    inputs = rows(base, pairs)
                    shown = {"pixel_values": noise_of(noise.lessons(pairs))} if role == 0 else {}
                    logits = student(**inputs).logits
                    with torch.no_grad():
                        target = teacher(**(inputs | shown)).logits
                    every_position(logits, target).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            schedule.step()
    return {name: value.detach() for name, value in student.named_parameters() if "lora_" in name}
