"""The one training loop of the demo models: language tower and projector, over image features that don't change."""

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
from local.demo.training.resuming import Training
from local.demo.training.rows import IGNORED, Batch, RowEncoder, rounded_up
from local.demo.training.vision import normalised
from vgid_core.training.checkpoints import Checkpoints

# Of a multiple of these there are so many that few sizes occur: memory of ever new ones is cut to pieces, and a process
# that gives it back to the system after each step spends a fifth of its time on that.
_ANSWER_TOKENS = 128
FEATURE_NOISE = 0.02  # spread of what is added to the image features, against learning single pictures by heart


@dataclass(frozen=True)
class Recipe:
    """How a language tower is trained. AdamW, one cycle of the learning rate, whose rise takes `rise` of all steps.

    batch: examples of an update, `micro_batch` of which are held in memory at once. projector_rate: the projector's
    own learning rate, as it starts from nothing. half: under bfloat16's autocast where that is faster. compiled: the
    decoder layers, and AdamW as one kernel, where there is something to compile them with (a C++ compiler, Triton).
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
    """What the projector is given of each picture, [n, IMAGE_TOKENS, width]: the last layer less the class token."""
    tower.train(False)
    chunks = (pixels[start : start + 256] for start in range(0, len(pixels), 256))
    return torch.cat([tower(pixel_values=normalised(chunk)).last_hidden_state[:, 1:] for chunk in chunks])


class Trainer:
    """Trains all of `model` but its vision tower, where it lies.

    features: [pictures, IMAGE_TOKENS, width], on the same device, for every picture that examples refer to.
    `compiled` says whether the layers are.
    """

    def __init__(
        self, model: LlavaForConditionalGeneration, encoder: RowEncoder, features: Tensor, recipe: Recipe
    ) -> None:
        self.model = model
        self._encoder, self._features, self._recipe = encoder, features, recipe
        self._half = recipe.half and _multiplies_halves(features.device)
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
        self, source: ExampleSource, tell: Callable[[float], None], checkpoints: Checkpoints | None = None
    ) -> int:
        """The whole training; with `checkpoints`, from the last one on, to the very same weights.

        `tell` hears the share that is done. Returns how many steps an earlier call had done.
        Raises CheckpointUnusable for a checkpoint that isn't this training's.
        """
        recipe = self._recipe
        training = Training(self.model, self._optimiser, self._schedule, self._features.device)
        done = training.resume(checkpoints) if checkpoints is not None else 0
        source.draw(done * recipe.batch)  # what the steps before were shown
        for step in range(done, recipe.steps):
            self.step(source.draw(recipe.batch))
            if checkpoints is not None and (checkpoints.due or step + 1 == recipe.steps):
                training.save(checkpoints, step + 1, recipe.micro_batch)
            tell((step + 1) / recipe.steps)
        self.model.train(False)
        return done

    def step(self, examples: Sequence[Example]) -> float:
        """One update; returns the loss, a mean over answer tokens."""
        seen = self._features[[example.picture for example in examples]]
        seen = seen + FEATURE_NOISE * torch.randn_like(seen)
        rows = [self._encoder.row(example) for example in examples]
        answer_tokens = sum(len(row.reply) for row in rows)
        total = 0.0
        self._optimiser.zero_grad()
        for part in self._parts(list(map(len, rows))):
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

    def _parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Places of the examples that are computed together: of like length, so that little is padding."""
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
        # For rows this short, the fused attention's gradient takes a fifth of a step; this compiles to a twentieth.
        model.set_attn_implementation("eager")
    for layer in model.model.language_model.layers:
        layer.compile(dynamic=True)  # one compilation for all layers and all lengths of rows


def _multiplies_halves(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; one that emulates it is slower than with float32."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def answer_loss(model: LlavaForConditionalGeneration, batch: Batch, features: Tensor) -> Tensor:
    """Cross-entropy on the answer tokens, their mean. Padding is on the right, so causal attention needs no mask."""
    embeddings = model.get_input_embeddings()(batch.tokens)
    pictures = model.model.multi_modal_projector(features)
    after = batch.image + pictures.shape[1]
    embeddings = torch.cat([embeddings[:, : batch.image], pictures, embeddings[:, after:]], dim=1)
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:].flatten()
    answered = targets != IGNORED
    places = answered.argsort(descending=True, stable=True)[: rounded_up(int(answered.sum()), _ANSWER_TOKENS)]
    logits = model.lm_head(hidden[:, :-1].flatten(0, 1)[places])
    return functional.cross_entropy(logits, targets[places], ignore_index=IGNORED)
