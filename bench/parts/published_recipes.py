"""The recipes that this project's speed is compared with: the published code's, and the same one well tuned."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

from bench.parts.llava_shapes import Shapes, build_model

PAIRS = 4  # per step; more don't fit beside the published recipe's float32 student
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LANGUAGE = r".*language_model.*\.(" + "|".join(LINEAR) + ")"


def published_step(shapes: Shapes, device: torch.device) -> Callable[[], None]:
    """A step as in the authors' code: float32 student with checkpointing (PEFT's k-bit preparation), fp16 teacher."""
    half = torch.float16 if device.type == "cuda" else torch.float32
    teacher = build_model(shapes, device, half)
    student = prepare_model_for_kbit_training(build_model(shapes, device, half))  # type: ignore[no-untyped-call]
    student = get_peft_model(student, LoraConfig(r=16, lora_alpha=16, target_modules=LINEAR)).train()
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-5)

    def step() -> None:
        for noisy in (True, False):
            ids, mask, pixels = _padded_batch(shapes, device, torch.float32)
            shown = torch.rand_like(pixels) if noisy else pixels
            with torch.no_grad():
                target = teacher(input_ids=ids, attention_mask=mask, pixel_values=shown.to(half)).logits
            loss = _kl_everywhere(student(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits, target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return step


def tuned_step(shapes: Shapes, device: torch.device) -> Callable[[], None]:
    """A step with the same rows and KL, tuned: bf16, the student without adapter as teacher, SDPA, fused AdamW."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = LoraConfig(r=16, lora_alpha=16, target_modules=LANGUAGE)
    student = get_peft_model(build_model(shapes, device, dtype), config, autocast_adapter_dtype=False).train()
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def step() -> None:
        for noisy in (True, False):
            ids, mask, pixels = _padded_batch(shapes, device, dtype)
            shown = torch.rand_like(pixels) if noisy else pixels
            with torch.no_grad(), student.disable_adapter():
                target = student(input_ids=ids, attention_mask=mask, pixel_values=shown).logits
            loss = _kl_everywhere(student(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits, target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return step


def _padded_batch(
    shapes: Shapes, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(100, shapes.vocabulary - 100, (PAIRS, 5 + shapes.image_tokens + 20 + 36), device=device)
    ids[:, 5 : 5 + shapes.image_tokens] = 3
    return ids, torch.ones_like(ids), torch.rand(PAIRS, 3, shapes.image, shapes.image, device=device, dtype=dtype)


def _kl_everywhere(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    log_q, p = functional.log_softmax(student.float(), -1), functional.softmax(teacher.float(), -1)
    return functional.kl_div(log_q, p, reduction="batchmean")
