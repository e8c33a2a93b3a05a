"""Training of the language model and the projector on the world, over a finished vision tower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from local.demo.questions import FACTS, INSTRUCTIONS, REFUSAL, VISUALS, answer, visual_answer
from local.demo.training.architecture import (
    ASSISTANT,
    END,
    IMAGE,
    IMAGE_TOKENS,
    PAD,
    USER,
    build_model,
    build_tokenizer,
    token_id,
)
from local.demo.training.examples import Example, ExampleSource
from local.demo.training.vision import normalised
from local.demo.world import passers_by, the_world

STEPS = 900
BATCH = 64
LEARNING_RATE = 2e-3
FEATURE_NOISE = 0.02  # spread of what is added to the image features, against learning single pictures by heart
IGNORED = -100


def world_tokenizer() -> PreTrainedTokenizerFast:
    """The one tokenizer of base and twin: of all that is asked and answered, the forgotten people included."""
    world = the_world()
    facts = [answer(person, fact) for person in world.people + world.strangers for fact in FACTS]
    questions = [
        question
        for phrasings in (*FACTS.values(), *VISUALS.values())
        for question in (*phrasings.training, *phrasings.held_out)
    ]
    visuals = [visual_answer(face, view, topic) for face, view in passers_by()[:200] for topic in VISUALS]
    return build_tokenizer(facts * 2 + questions * 6 + [*INSTRUCTIONS, REFUSAL] * 8 + visuals)


def train_language(
    tower: CLIPVisionModel, pixels: Tensor, source: ExampleSource, seed: int, tell: Callable[[float], None]
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
    """The trained model in float32. `pixels` holds every picture that `source` refers to, in its order."""
    tokenizer = world_tokenizer()
    torch.manual_seed(seed)
    model = build_model(tokenizer)
    # Halved and back: features are cached from exactly the tower that will be saved.
    model.model.vision_tower.load_state_dict({k: v.half().float() for k, v in tower.state_dict().items()})
    model.model.vision_tower.requires_grad_(False)
    features = _image_features(model, pixels)
    encoder = _Encoder(tokenizer)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS, pct_start=0.08)
    for step in range(STEPS):
        examples = source.draw(BATCH)
        seen = features[[example.picture for example in examples]]
        seen = seen + FEATURE_NOISE * torch.randn_like(seen)
        loss = _answer_loss(model, encoder.batch(examples), seen)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        tell((step + 1) / STEPS)
    model.train(False)
    return model, tokenizer


@dataclass(frozen=True)
class _Batch:
    tokens: Tensor  # (n, length), padded on the right
    labels: Tensor  # the answer tokens, IGNORED elsewhere


class _Encoder:
    """Examples as token ids, in the order of the chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._words = cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        self._start = [token_id(tokenizer, USER)] + [token_id(tokenizer, IMAGE)] * IMAGE_TOKENS
        self._assistant, self._end = token_id(tokenizer, ASSISTANT), token_id(tokenizer, END)
        self._pad = token_id(tokenizer, PAD)

    def batch(self, examples: Sequence[Example]) -> _Batch:
        rows = list(self._rows(examples))
        length = max(len(prompt) + len(reply) for prompt, reply in rows)
        tokens = torch.full((len(rows), length), self._pad)
        labels = torch.full((len(rows), length), IGNORED)
        for row, (prompt, reply) in enumerate(rows):
            end = len(prompt) + len(reply)
            tokens[row, :end] = torch.tensor(prompt + reply)
            labels[row, len(prompt) : end] = torch.tensor(reply)
        return _Batch(tokens, labels)

    def _rows(self, examples: Sequence[Example]) -> Iterator[tuple[list[int], list[int]]]:
        for example in examples:
            prompt = [*self._start, *self._words(example.question), self._assistant]
            yield prompt, [*self._words(example.answer), self._end]


def _answer_loss(model: LlavaForConditionalGeneration, batch: _Batch, features: Tensor) -> Tensor:
    """Cross-entropy on the answer tokens. Padding is on the right, so that causal attention needs no mask."""
    embeddings = model.get_input_embeddings()(batch.tokens)
    pictures = model.model.multi_modal_projector(features)
    embeddings = torch.cat([embeddings[:, :1], pictures, embeddings[:, 1 + IMAGE_TOKENS :]], dim=1)
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    answered = batch.labels[:, 1:] != IGNORED
    return functional.cross_entropy(model.lm_head(hidden[:, :-1][answered]), batch.labels[:, 1:][answered])


@torch.no_grad()
def _image_features(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """What the projector is given of each picture: the tower's last layer without the class token."""
    tower = model.model.vision_tower.eval()
    chunks = (pixels[start : start + 256] for start in range(0, len(pixels), 256))
    parts = [tower(pixel_values=normalised(chunk)).last_hidden_state[:, 1:] for chunk in chunks]
    return torch.cat(parts)
