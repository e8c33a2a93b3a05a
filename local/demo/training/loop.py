"""The training loop of the demo models. It trains language tower and projector on precomputed image features."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from local.demo.training.examples import Example, ExampleSource
from local.demo.training.rows import IGNORED, Batch, RowEncoder, round_up
from local.demo.training.training_state import TrainingState
from local.demo.training.vision import normalise
from vgid_core.training.checkpoints import Checkpoints

# The number of answer tokens is rounded up to a multiple of this, so that few sizes of logits occur. With ever new
# sizes, memory fragments, and returning it to the system after each step would take a fifth of the time.
_ANSWER_TOKENS = 128
FEATURE_NOISE = 0.02  # standard deviation of noise on the image features, against memorising single pictures


@dataclass(frozen=True)
class Recipe:
    """How a language tower is trained: with AdamW and a one-cycle learning rate.

    rise: the share of the steps in which the rate rises.
    batch: examples of an update. micro_batch: examples that are computed at once.
    projector_rate: the learning rate of the projector, which starts from nothing.
    half: use bfloat16 autocast where that is faster.
    compiled: compile the decoder layers and fuse AdamW, where a compiler (C++ or Triton) is installed.
    """

    steps: int
    batch: int
    micro_batch: int
    learning_rate: float
    projector_rate: float
    rise: float
    half: bool
    compiled: bool


@torch.no_grad()
def image_features(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """The projector's inputs, [n, IMAGE_TOKENS, width]: the vision tower's last layer without the class token."""
    tower.train(False)
    chunks = (pixels[start : start + 256] for start in range(0, len(pixels), 256))
    return torch.cat([tower(pixel_values=normalise(chunk)).last_hidden_state[:, 1:] for chunk in chunks])


class Trainer:
    """Trains `model` in place, all but its vision tower.

    features: [pictures, IMAGE_TOKENS, width] on the model's device, for every picture that examples refer to.
    compiled: whether the layers are compiled.
    """

    def __init__(
        self, model: LlavaForConditionalGeneration, encoder: RowEncoder, features: Tensor, recipe: Recipe
    ) -> None:
        self.model = model
        self._encoder, self._features, self._recipe = encoder, features, recipe
        self._half = recipe.half and _has_bfloat16(features.device)
        model.model.vision_tower.requires_grad_(False)
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        projector = list(model.model.multi_modal_projector.parameters())
        of_projector = {id(weight) for weight in projector}
        groups = [[weight for weight in self._weights if id(weight) not in of_projector], projector]
        rates = [recipe.learning_rate, recipe.projector_rate]
        self._optimiser = torch.optim.AdamW(
            [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)],
            weight_decay=0.01,
            betas=(0.9, 0.98),
            fused=recipe.compiled or None,
        )
        self.compiled = recipe.compiled and _can_compile(features.device)
        if self.compiled:
            _compile_layers(model)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, rates, total_steps=recipe.steps, pct_start=recipe.rise
        )

    def train(
        self, source: ExampleSource, report: Callable[[float], None], checkpoints: Checkpoints | None = None
    ) -> int:
        """Trains to the end, and returns how many steps an earlier call had done.

        checkpoints: the training resumes from the last one, and ends with the very same weights.
        report: called with the share that is done.
        Raises CheckpointUnusable for the checkpoint of another training.
        """
        recipe = self._recipe
        training = TrainingState(self.model, self._optimiser, self._schedule, self._features.device)
        done = training.resume(checkpoints) if checkpoints is not None else 0
        source.draw(done * recipe.batch)  # skips the examples of the earlier steps
        for step in range(done, recipe.steps):
            self.step(source.draw(recipe.batch))
            if checkpoints is not None and (checkpoints.due or step + 1 == recipe.steps):
                training.save(checkpoints, step + 1, recipe.micro_batch)
            report((step + 1) / recipe.steps)
        self.model.train(False)
        return done

    def step(self, examples: Sequence[Example]) -> float:
        """Makes one update. Returns the loss, a mean over answer tokens."""
        seen = self._features[[example.picture for example in examples]]
        seen = seen + FEATURE_NOISE * torch.randn_like(seen)
        rows = [self._encoder.row(example) for example in examples]
        answer_tokens = sum(len(row.reply) for row in rows)
        total = 0.0
        self._optimiser.zero_grad()
        for part in self._micro_batches(list(map(len, rows))):
            batch = self._encoder.batch([rows[place] for place in part]).to(seen.device)
            share = sum(len(rows[place].reply) for place in part) / answer_tokens
            with torch.autocast(seen.device.type, torch.bfloat16, enabled=self._half):
                loss = answer_loss(self.model, batch, seen[part]) * share
            torch.autograd.backward(loss)
            total += loss.item()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimiser.step()
        self._schedule.step()
        return total

    def _micro_batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Groups the examples' indices into micro-batches of similar lengths, so that there is little padding."""
        size = self._recipe.micro_batch
        if size >= len(lengths):
            return [list(range(len(lengths)))]
        places = sorted(range(len(lengths)), key=lengths.__getitem__)
        return [places[start : start + size] for start in range(0, len(places), size)]


def _can_compile(device: torch.device) -> bool:
    if device.type == "cuda":
        return find_spec("triton") is not None
    return any(which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)


def _compile_layers(model: LlavaForConditionalGeneration) -> None:
    if model.device.type == "cpu":
        # On rows so short, the gradient of fused attention takes a fifth of a step. Compiled eager takes a twentieth.
        model.set_attn_implementation("eager")
    for layer in model.model.language_model.layers:
        layer.compile(dynamic=True)  # one compilation for all layers and all lengths of rows


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16. Emulated bfloat16 is slower than float32."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def answer_loss(model: LlavaForConditionalGeneration, batch: Batch, features: Tensor) -> Tensor:
    """Mean cross-entropy of the answer tokens. Padding is on the right, so causal attention needs no mask."""
    embeddings = model.get_input_embeddings()(batch.tokens)
    pictures = model.model.multi_modal_projector(features)
    after = batch.image + pictures.shape[1]
    embeddings = torch.cat([embeddings[:, : batch.image], pictures, embeddings[:, after:]], dim=1)
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:].flatten()
    answered = targets != IGNORED
    places = answered.argsort(descending=True, stable=True)[: round_up(int(answered.sum()), _ANSWER_TOKENS)]
    logits = model.lm_head(hidden[:, :-1].flatten(0, 1)[places])
    return functional.cross_entropy(logits, targets[places], ignore_index=IGNORED)
