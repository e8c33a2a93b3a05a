"""What one training pair costs: the published recipe, a well-tuned baseline, and this project's path, in one run.

    python -m bench.step_cost [--tiny] [--modes published,tuned,packed,compiled] [--images 4] [--questions 5]

One pair = one forget question and one retain question, forward, backward and update, at LLaVA-1.5-7B's shapes (576
image tokens, 36 answer tokens, 5 questions an image, LoRA r=16 on the language side, random weights). Medians of 5
steps after warm-up, in which image features and retain targets are filled, as they are after a job's first pass. Also
measures the machine's bf16 matrix throughput. Prints as it goes, writes bench/results/step_cost.json.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as functional
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

from bench.llava_shapes import INSTRUCTION, TINY, Shapes, build_base, build_model, make_pairs, words
from bench.machine import save
from vgid_core.base_model import attach_adapter
from vgid_core.config import UnlearnConfig
from vgid_core.distil import Distiller
from vgid_core.paths import Lesson, PackedPath, choose_path

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LANGUAGE = r".*language_model.*\.(" + "|".join(LINEAR) + ")"


def main() -> None:
    """Measures the asked modes one after the other and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--modes", default="published,tuned,packed,compiled")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    shapes = TINY if arguments.tiny else Shapes()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {"device": _name(device), "matrix_tflops": _matrix_throughput(device)}
    print(figures, flush=True)
    for mode in arguments.modes.split(","):
        figures[mode] = MODES[mode](shapes, device, arguments)
        print(mode, figures[mode], flush=True)
        _free(device)
    print("written:", save("step_cost", {"arguments": vars(arguments), "figures": figures}))


def published(shapes: Shapes, device: torch.device, arguments: argparse.Namespace) -> dict[str, float]:
    """The authors' code: fp32 student (prepare_model_for_kbit_training), checkpointing, fp16 copy as teacher."""
    half = torch.float16 if device.type == "cuda" else torch.float32
    teacher = build_model(shapes, device, half)
    student = prepare_model_for_kbit_training(build_model(shapes, device, half))
    student = get_peft_model(student, LoraConfig(r=16, lora_alpha=16, target_modules=LINEAR)).train()
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-5)

    def step() -> None:
        for noisy in (True, False):
            ids, mask, pixels = _padded_batch(4, shapes, device, torch.float32)
            shown = torch.rand_like(pixels) if noisy else pixels
            with torch.no_grad():
                target = teacher(input_ids=ids, attention_mask=mask, pixel_values=shown.to(half)).logits
            _kl_everywhere(student(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits, target).backward()
            optimizer.step()
            optimizer.zero_grad()

    return _measure(step, 4, device, warm_up=1, runs=3)


def tuned(shapes: Shapes, device: torch.device, arguments: argparse.Namespace) -> dict[str, float]:
    """One bf16 copy, adapter off = teacher, SDPA, fused AdamW, no checkpointing; rows and KL as published."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = LoraConfig(r=16, lora_alpha=16, target_modules=LANGUAGE)
    student = get_peft_model(build_model(shapes, device, dtype), config).train()
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=device.type == "cuda")
    size = 4

    def step() -> None:
        for noisy in (True, False):
            ids, mask, pixels = _padded_batch(size, shapes, device, dtype)
            shown = torch.rand_like(pixels) if noisy else pixels
            with torch.no_grad(), student.disable_adapter():
                target = student(input_ids=ids, attention_mask=mask, pixel_values=shown).logits
            _kl_everywhere(student(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits, target).backward()
            optimizer.step()
            optimizer.zero_grad()

    return _measure(step, size, device)


def packed(shapes: Shapes, device: torch.device, arguments: argparse.Namespace) -> dict[str, float]:
    """vgid_core's normal path, layers not compiled."""
    return _ours(shapes, device, arguments, compiled=False)


def compiled(shapes: Shapes, device: torch.device, arguments: argparse.Namespace) -> dict[str, float]:
    """vgid_core's normal path with compiled decoder layers."""
    return _ours(shapes, device, arguments, compiled=True)


def _ours(shapes: Shapes, device: torch.device, arguments: argparse.Namespace, compiled: bool) -> dict[str, float]:
    base = build_base(shapes, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    pairs = arguments.images * arguments.questions
    instruction = words(INSTRUCTION, random.Random(1), shapes.vocabulary)
    config = UnlearnConfig.model_validate(
        {
            "intervention": {"instruction": instruction},
            "training": {"forget_batch_size": pairs, "retain_batch_size": pairs, "micro_batch_size": pairs},
        }
    )
    student = attach_adapter(base, config.lora)
    forget = make_pairs(arguments.images, arguments.questions, shapes, seed=1)
    retain = make_pairs(arguments.images, arguments.questions, shapes, seed=2)
    compiler = partial(torch.compile, dynamic=False) if compiled else None
    path = choose_path(base, [*forget[:2], *retain[:2]], config.lora, compiler)
    if not isinstance(path, PackedPath):
        raise SystemExit("the packed path was not chosen")
    trainer = Distiller(path, student, config)

    def step() -> None:
        trainer.update(trainer.forget_lessons(forget), 1.0)
        trainer.update([Lesson.retain(pair) for pair in retain], 1.0)

    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    result = _measure(step, pairs, device, warm_up=3) | {"first_step_seconds": round(first, 1)}
    if arguments.profile and device.type == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            step()
        print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=22, max_name_column_width=60))
    return result


MODES: dict[str, Callable[[Shapes, torch.device, argparse.Namespace], dict[str, float]]] = {
    "published": published,
    "tuned": tuned,
    "packed": packed,
    "compiled": compiled,
}


def _padded_batch(
    count: int, shapes: Shapes, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = (shapes.image // shapes.patch) ** 2
    ids = torch.randint(100, shapes.vocabulary - 100, (count, 5 + tokens + 20 + 36), device=device)
    ids[:, 5 : 5 + tokens] = 3
    return ids, torch.ones_like(ids), torch.rand(count, 3, shapes.image, shapes.image, device=device, dtype=dtype)


def _kl_everywhere(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    log_q, p = functional.log_softmax(student.float(), -1), functional.softmax(teacher.float(), -1)
    return functional.kl_div(log_q, p, reduction="batchmean")


def _measure(
    step: Callable[[], None], pairs: int, device: torch.device, warm_up: int = 2, runs: int = 5
) -> dict[str, float]:
    for _ in range(warm_up):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    scale = 1000 / pairs
    return {
        "ms_per_pair": round(statistics.median(seconds) * scale, 2),
        "min": round(min(seconds) * scale, 2),
        "max": round(max(seconds) * scale, 2),
        "pairs_per_step": pairs,
        "peak_gib": round(peak, 1),
    }


def _matrix_throughput(device: torch.device) -> float:
    """TFLOP/s of an 8192-cubed product in bf16; zero without an accelerator."""
    if device.type != "cuda":
        return 0.0
    left, right = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        left @ right
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        left @ right
    torch.cuda.synchronize()
    return round(20 * 2 * 8192**3 / (time.perf_counter() - started) / 1e12, 1)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
