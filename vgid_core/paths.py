"""Two ways to the same losses: packed rows where that is proven equal on the model at hand, else row by row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from vgid_core.base_model import BaseModel, adapter_off, answer_logits, layer_outputs
from vgid_core.config import EvaluationConfig, LoraSettings
from vgid_core.data import EncodedImage, Pair, PairSet
from vgid_core.encoding import Batch
from vgid_core.fused_head import linear_imitation, linear_kl, linear_log_probability
from vgid_core.lessons import Lesson, Shown
from vgid_core.losses import token_kl, token_kl_of_mean, token_log_probability
from vgid_core.packed_answers import Examined, examine, go_on_by_rote
from vgid_core.packed_model import Compiler, Exchange, PackedModel
from vgid_core.perturb import replace_pixels
from vgid_core.tensor_cache import TensorCache

log = logging.getLogger(__name__)

# Of packed logits from the model's own, as `PackedPath.deviation` takes it: what rounding explains. In bfloat16 that is
# 0.06 after 32 layers, where wrong masks or positions give more than 1 (tests/vgid_core/test_paths.py).
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15}
_SIZES_CHECKED = 4
_STEPS_CHECKED = 2  # of answers that go on token by token
_TARGET_BYTES = 2 * 1024**3  # of host memory for retain targets; what is more is computed again each time


class AnswerPath(Protocol):
    """A way to compute what losses are made of, at the answer tokens of all pairs or lessons, in their order."""

    name: str

    def divergence(self, lessons: Sequence[Lesson]) -> Tensor:
        """KL in nats at every answer token of all lessons, in their order: [answer tokens], float32."""

    def imitation(self, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
        """KL(mean of each lesson's teachers || student) and the student's log p, in nats, at every answer token.

        Both [answer tokens], float32; of each lesson there are as many teachers.
        """

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """The adapted model's, with gradients, at every answer token of all pairs: [answer tokens, vocabulary]."""

    def teacher_logits(self, lessons: Sequence[Lesson]) -> Tensor:
        """The base's on what the teacher is shown, without gradients: [answer tokens, vocabulary]."""

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """The adapted model's log p of every answer token, in nats, with gradients: [answer tokens], float32."""

    def teacher_log_probability(self, lessons: Sequence[Lesson]) -> Tensor:
        """The base's log p of every answer token on what the teacher is shown, without gradients: [answer tokens]."""

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """The adapted model's states after a decoder layer (0-based), with gradients: [answer tokens, hidden].

        At each place that predicts an answer token.
        """

    def teacher_states(self, lessons: Sequence[Lesson], layer: int) -> Tensor:
        """The base's states on what the teacher is shown, without gradients, as in `student_states`."""

    def examine(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[Examined]:
        """What the model says to each pair's question, greedily, and how likely it finds the pair's answer."""

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of the answer, its end of turn among them."""

    def recall(self, compute: Callable[[], object]) -> None:
        """Leaves behind for later what `compute` would, which calls this path: no more is computed than that."""


class PlainPath:
    """A padded row for each pair, through the model's own forward. Right for every family."""

    name = "plain"

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._encoder = base.encoder

    def answer_ids(self, answer: str) -> list[int]:
        """As `AnswerPath.answer_ids`."""
        return self._encoder.answer_ids(answer)

    def recall(self, compute: Callable[[], object]) -> None:
        """As `AnswerPath.recall`: nothing is kept here."""

    def divergence(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.divergence`."""
        return token_kl(self.teacher_logits(lessons), self.student_logits([lesson.pair for lesson in lessons]))

    def imitation(self, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
        """As `AnswerPath.imitation`."""
        pairs = [lesson.pair for lesson in lessons]
        student = self.student_logits(pairs)
        teachers = [self.teacher_logits(each) for each in _by_teacher(lessons)]
        return (
            token_kl_of_mean(teachers, student),
            token_log_probability(student, _spoken(self, pairs).to(student.device)),
        )

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """As `AnswerPath.student_logits`."""
        student = encode_pairs(self._base, pairs)
        return answer_logits(self._base, student)[student.answer_mask]

    @torch.no_grad()
    def teacher_logits(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.teacher_logits`."""
        teacher = self._taught(lessons)
        with adapter_off(self._base):
            return answer_logits(self._base, teacher)[teacher.answer_mask]

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """As `AnswerPath.student_log_probability`."""
        student = encode_pairs(self._base, pairs)
        return token_log_probability(answer_logits(self._base, student), student.answer_ids)[student.answer_mask]

    @torch.no_grad()
    def teacher_log_probability(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.teacher_log_probability`."""
        return token_log_probability(
            self.teacher_logits(lessons), _spoken(self, [lesson.pair for lesson in lessons]).to(self._base.device)
        )

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """As `AnswerPath.student_states`."""
        return self._states(encode_pairs(self._base, pairs), layer)

    @torch.no_grad()
    def teacher_states(self, lessons: Sequence[Lesson], layer: int) -> Tensor:
        """As `AnswerPath.teacher_states`."""
        with adapter_off(self._base):
            return self._states(self._taught(lessons), layer)

    def _states(self, batch: Batch, layer: int) -> Tensor:
        length = batch.answer_ids.shape[1]
        with layer_outputs(self._base, layer) as outputs:
            self._base.model(**batch.inputs, logits_to_keep=1, use_cache=False)
        return outputs[0][:, -length - 1 : -1][batch.answer_mask]

    def _taught(self, lessons: Sequence[Lesson]) -> Batch:
        """What the teacher is shown, as padded rows."""
        answers = [lesson.heard or self.answer_ids(lesson.pair.answer) for lesson in lessons]
        shown = [lesson.shown for lesson in lessons]
        images, questions = [decoded(image) for image in shown], [lesson.asked for lesson in lessons]
        batch = self._encoder.batch(images, questions, answers)
        return replace(batch, inputs=replace_pixels(batch.inputs, shown))

    def examine(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[Examined]:
        """As `AnswerPath.examine`."""
        found = []
        for start in range(0, len(pairs), config.batch_size):
            chunk = pairs[start : start + config.batch_size]
            said = generate(self._base, chunk, config.max_new_tokens)
            batch = encode_pairs(self._base, chunk)
            with torch.no_grad():
                scores = token_log_probability(answer_logits(self._base, batch), batch.answer_ids).cpu()
            kept = [row[mask] for row, mask in zip(scores, batch.answer_mask.cpu(), strict=True)]
            found += [Examined(*result) for result in zip(said, kept, strict=True)]
        return found


class PackedPath:
    """Prefixes shared, image features and retain targets kept, logits never held as a whole."""

    name = "packed"

    def __init__(self, base: BaseModel, compiler: Compiler | None = None) -> None:
        self._base = base
        self._model = PackedModel(base, compiler)
        self.compiled = compiler is not None
        # What one process has kept and another hasn't would have them pass through a shared base out of step.
        self._targets = TensorCache(0 if base.sharded else _TARGET_BYTES)

    def answer_ids(self, answer: str) -> list[int]:
        """As `AnswerPath.answer_ids`."""
        return self._model.answer_ids(answer)

    @torch.no_grad()
    def recall(self, compute: Callable[[], object]) -> None:
        """As `AnswerPath.recall`: image features and retain targets, each computed in the company it was in then."""
        with self._model.laying_out_only():
            compute()

    def divergence(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.divergence`."""
        target = self._teacher(lessons)
        return linear_kl(self._model.states(_exchanges([lesson.pair for lesson in lessons])), target, self._model.head)

    def imitation(self, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
        """As `AnswerPath.imitation`."""
        pairs = [lesson.pair for lesson in lessons]
        teachers = [self._teacher(each) for each in _by_teacher(lessons)]
        ids = _spoken(self, pairs).to(self._base.device)
        return linear_imitation(self._model.states(_exchanges(pairs)), teachers, ids, self._model.head)

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """As `AnswerPath.student_logits`."""
        return self._model.states(_exchanges(pairs)) @ self._model.head.T

    @torch.no_grad()
    def teacher_logits(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.teacher_logits`."""
        return self._teacher(lessons) @ self._model.head.T

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """As `AnswerPath.student_log_probability`."""
        ids = _spoken(self, pairs).to(self._base.device)
        return linear_log_probability(self._model.states(_exchanges(pairs)), ids, self._model.head)

    @torch.no_grad()
    def teacher_log_probability(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.teacher_log_probability`."""
        ids = _spoken(self, [lesson.pair for lesson in lessons]).to(self._base.device)
        return linear_log_probability(self._teacher(lessons), ids, self._model.head)

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """As `AnswerPath.student_states`."""
        return self._model.layer_states(_exchanges(pairs), layer)

    @torch.no_grad()
    def teacher_states(self, lessons: Sequence[Lesson], layer: int) -> Tensor:
        """As `AnswerPath.teacher_states`."""
        with adapter_off(self._base):
            return self._model.layer_states([_as_taught(lesson) for lesson in lessons], layer)

    def examine(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[Examined]:
        """As `AnswerPath.examine`."""
        return examine(self._model, _exchanges(pairs), config.max_new_tokens)

    def deviation(self, pairs: Sequence[Pair]) -> float:
        """How far the packed base's logits are from the model's own, at the answer token where it is farthest.

        Root mean square over the vocabulary, relative to the spread of the model's own logits. Both those of one pass
        and those of answers that go on token by token.
        """
        batch = encode_pairs(self._base, pairs)
        with torch.no_grad(), adapter_off(self._base):
            own = answer_logits(self._base, batch).float()
            packed = (self._model.states(_exchanges(pairs)) @ self._model.head.T).float()
            differences = [packed - own[batch.answer_mask]]
            for index, logits in enumerate(go_on_by_rote(self._model, _exchanges(pairs), _STEPS_CHECKED), start=1):
                differences.append(logits.float() - own[:, index])
        farthest = max(float(difference.square().mean(-1).sqrt().max()) for difference in differences)
        return farthest / float(own[batch.answer_mask].std())

    @torch.no_grad()
    def _teacher(self, lessons: Sequence[Lesson]) -> Tensor:
        """The base's states for what the teacher is shown; those of retain lessons never change and are kept."""
        keys = [_key(lesson) for lesson in lessons]
        states: list[Tensor | None] = [None if key is None else self._targets.get(key) for key in keys]
        missing = [index for index, found in enumerate(states) if found is None]
        if missing:
            shown = [_as_taught(lessons[index]) for index in missing]
            kept = any(keys[index] is not None for index in missing)
            with adapter_off(self._base):
                fresh = self._model.states(shown, kept)
            lengths = [len(self._model.answer_ids(exchange.answer)) for exchange in shown]
            for index, part in zip(missing, torch.split(fresh, lengths), strict=True):
                states[index] = part
                key = keys[index]
                if key is not None:
                    self._targets.put(key, part)
        return torch.cat([part.to(self._model.head.device) for part in states if part is not None])


def choose_path(
    base: BaseModel,
    pairs: Sequence[Pair],
    lora: LoraSettings,
    compiler: Compiler | None = None,
    tolerance: float | None = None,
    row_by_row: bool = False,
) -> AnswerPath:
    """The fastest path that gives the model's own logits on `pairs`: packed and compiled, packed, or plain.

    Whatever a family does differently shows as an error or a deviation here; then the log says what it was. Where the
    vision side is adapted too, it is plain: the packed path keeps image features, which then change. So it is with
    dropout, of which each question draws its own, also for the prefix it would share. `tolerance` is
    what rounding explains of a deviation (`PackedPath.deviation`), by default that of the base's own precision.
    `row_by_row` is a method's that needs whole rows: padding and all.
    """
    if lora.scope != "language" or lora.dropout > 0 or row_by_row:
        log.info("going row by row, as these settings need: a loss on whole rows, an adapted vision side or dropout")
        return PlainPath(base)
    for attempt in [compiler, None] if compiler else [None]:
        what = "compiled packed rows" if attempt else "packed rows"
        try:
            path = PackedPath(base, attempt)
            deviation = path.deviation(pairs)
            _try_backward(base, path, pairs)
        except Exception as error:
            log.warning("%s aren't possible with this model here: %s", what, type(error).__name__)
            continue
        if deviation <= (_TOLERANCE[base.dtype] if tolerance is None else tolerance):
            return path
        log.warning("%s deviate by %.1e with this model", what, deviation)
    log.warning("going row by row")
    return PlainPath(base)


def telling_pairs(sets: Sequence[PairSet]) -> list[Pair]:
    """A few pairs on which a path shows what is wrong with it: one an image size, the longest text, two neighbours."""
    pairs = [pair for items in sets for pair in items]
    by_size = {pair.image.size: pair for pair in reversed(pairs)}
    longest = max(pairs, key=lambda pair: len(pair.question) + len(pair.answer))
    chosen = [*sets[0].pairs[:2], longest, *list(by_size.values())[:_SIZES_CHECKED]]
    return list(dict.fromkeys(chosen))


def _try_backward(base: BaseModel, path: AnswerPath, pairs: Sequence[Pair]) -> None:
    """One pass back through the adapter, if there is one: a kernel may exist for the way forward alone."""
    trained = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    if not trained:
        return
    path.divergence([Lesson.retain(pair) for pair in pairs]).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in trained:
        parameter.grad = None


# Not in inference mode: weights that several processes share would be gathered as tensors that no gradient passes.
@torch.no_grad()
def generate(base: BaseModel, pairs: Sequence[Pair], most_tokens: int) -> list[list[int]]:
    """What the model says to each pair by its own `generate`, greedily: token ids up to the end of turn."""
    inputs = base.encoder.prompts([p.image.decode() for p in pairs], [p.question for p in pairs])
    width = inputs["input_ids"].shape[1]
    # Said outright: a model's own settings may ask for sampling, or penalise what it has said before.
    plain: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    output = base.model.generate(**inputs, max_new_tokens=most_tokens, **plain)
    return [_up_to_end(ids, base.encoder.end_ids) for ids in output[:, width:].tolist()]


def encode_pairs(base: BaseModel, pairs: Sequence[Pair]) -> Batch:
    """The pairs as padded rows."""
    images = [pair.image.decode() for pair in pairs]
    return base.encoder.batch(images, [pair.question for pair in pairs], [pair.answer for pair in pairs])


def _up_to_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    end = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]


def _spoken(path: AnswerPath, pairs: Sequence[Pair]) -> Tensor:
    """The tokens that the student is to say: [answer tokens], on the host."""
    return torch.tensor([token for pair in pairs for token in path.answer_ids(pair.answer)])


def _by_teacher(lessons: Sequence[Lesson]) -> list[tuple[Lesson, ...]]:
    """The lessons of each teacher."""
    return list(zip(*([lesson, *lesson.also] for lesson in lessons), strict=True))


def _exchanges(pairs: Sequence[Pair]) -> list[Exchange]:
    return [Exchange(pair.image, pair.question, pair.answer) for pair in pairs]


def _as_taught(lesson: Lesson) -> Exchange:
    return Exchange(lesson.shown, lesson.asked, lesson.pair.answer, lesson.heard)


def decoded(image: Shown) -> Image.Image:
    """The picture itself."""
    return image if isinstance(image, Image.Image) else image.decode()


def _key(lesson: Lesson) -> tuple[object, ...] | None:
    """What names a teacher's target that comes again; None for a disturbed image or an alias of the answer."""
    if not isinstance(lesson.shown, EncodedImage) or lesson.heard is not None:
        return None
    return lesson.shown.digest, lesson.asked, lesson.pair.answer
