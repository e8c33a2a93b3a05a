"""What is wrong, or doubtful, about the sets of a run before it costs anything. No finding says what a pair holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal, Protocol

from vgid_core.config import EvaluationConfig
from vgid_core.data.leaks import Sighting, leaks_into, repeats
from vgid_core.data.pairs import DataError, Pair
from vgid_core.data.readers import Reading
from vgid_core.data.text_normalization import alike

Level = Literal["error", "warning"]

# What chat templates write between turns and for images, in the families that there are.
_LIKE_CONTROL = re.compile(
    r"<\|[^<>|]*\|>|</?s>|<[a-z]+_of_[a-z]+>|<(?:fake_)?image[^<>]*>|<img>|\[/?INST\]|\[IMG\]", re.IGNORECASE
)
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class Finding:
    """One kind of problem. `places` are where, e.g. 'forget[3].image'.

    An error keeps a run from starting, or from meaning anything; a warning is to be looked at.
    """

    level: Level
    kind: str
    message: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Lengths:
    """Smallest, median and largest length of a set's texts."""

    smallest: int
    median: float
    largest: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Lengths | None:
        """None without values."""
        return cls(min(values), median(values), max(values)) if values else None


@dataclass(frozen=True)
class SetSummary:
    """Counts of one set. `images` and `image_bytes` are of different images, sizes are width and height in pixels."""

    name: str
    pairs: int
    images: int
    image_bytes: int
    smallest_image: tuple[int, int] | None
    largest_image: tuple[int, int] | None
    questions: Lengths | None
    answers: Lengths | None
    tail_mass: Mapping[str, int]


@dataclass(frozen=True)
class DataReport:
    """What was found. Lengths are in `unit`; `sets` are in the order forget, retain, utility, probes."""

    unit: Literal["tokens", "characters"]
    sets: tuple[SetSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON's types."""
        return {"ok": not self.has_errors, **asdict(self)}


class Texts(Protocol):
    """How a model sees a text. `characters` stands in where no model is given."""

    unit: Literal["tokens", "characters"]

    @property
    def room(self) -> int | None:
        """Units that a question and its answer may have at most, if that is known."""

    def question_length(self, question: str) -> int:
        """Units of a question."""

    def answer_length(self, answer: str) -> int:
        """Units that a model has to say for an answer."""

    def holds_control_token(self, text: str) -> bool:
        """Whether the text can't go into a chat template as it is."""


class Characters:
    """Lengths in characters, and control tokens by their looks."""

    unit: Literal["tokens", "characters"] = "characters"
    room: int | None = None

    def question_length(self, question: str) -> int:
        """Characters of the question."""
        return len(question)

    def answer_length(self, answer: str) -> int:
        """Characters of the answer."""
        return len(answer)

    def holds_control_token(self, text: str) -> bool:
        """Whether something in the text looks like a control token."""
        return _LIKE_CONTROL.search(text) is not None


@dataclass(frozen=True)
class _Seen:
    """A set with what was seen of its images: `sightings` by digest, of those that could be decoded."""

    reading: Reading
    pairs: dict[int, Pair]
    sightings: dict[str, Sighting]

    def place(self, index: int, part: str = "") -> str:
        return f"{self.reading.name}[{index}]{part}"


@dataclass
class _Findings:
    found: dict[tuple[Level, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, level: Level, kind: str, message: str, *places: str) -> None:
        self.found[level, kind, message].extend(places)

    def sorted(self) -> tuple[Finding, ...]:
        findings = [Finding(level, kind, message, tuple(at)) for (level, kind, message), at in self.found.items()]
        return tuple(sorted(findings, key=lambda finding: finding.level))


def check_data(
    forget: Reading,
    retain: Reading | None = None,
    utility: Reading | None = None,
    probes: Sequence[Reading] = (),
    texts: Texts | None = None,
    max_new_tokens: int = EvaluationConfig().max_new_tokens,
) -> DataReport:
    """Looks at every pair of every set, and at what the others share with the forget set. Changes nothing.

    `texts` is how the model sees a text (`vgid_core.models.texts.ModelTexts`); without it, lengths are in characters.
    `max_new_tokens` is the evaluation's: a longer answer can't be said whole.
    """
    texts = texts or Characters()
    findings = _Findings()
    others = [reading for reading in (retain, utility) if reading is not None]
    seen = [_look_at(reading, findings) for reading in (forget, *others, *probes)]
    summaries = [_check_set(one, texts, max_new_tokens, findings) for one in seen]
    for other in seen[1 : 1 + len(others)]:
        _check_leaks(seen[0], other, findings)
    for probe in seen[1 + len(others) :]:
        _check_probe(seen[0], probe, findings)
    return DataReport(texts.unit, tuple(summaries), findings.sorted())


def _look_at(reading: Reading, findings: _Findings) -> _Seen:
    pairs: dict[int, Pair] = {}
    sightings: dict[str, Sighting] = {}
    bad: set[str] = set()
    for index, item in enumerate(reading.items):
        if isinstance(item, DataError):
            findings.add("error", "unreadable", item.reason, item.field)
            continue
        pairs[index] = item
        digest = item.image.digest
        if digest not in sightings and digest not in bad:
            try:
                sightings[digest] = Sighting.of(item.image.decode())
            except DataError:
                bad.add(digest)
        if digest in bad:
            findings.add("error", "image", "is no readable image", f"{reading.name}[{index}].image")
    if not reading.items:
        findings.add("error", "no-pairs", "holds no pairs", reading.name)
    return _Seen(reading, pairs, sightings)


def _check_set(seen: _Seen, texts: Texts, max_new_tokens: int, findings: _Findings) -> SetSummary:
    questions, answers = [], []
    for index, pair in seen.pairs.items():
        for part, text in (("question", pair.question), ("answer", pair.answer)):
            where = seen.place(index, f".{part}")
            if not text.strip():
                findings.add("error", "empty", "holds no text", where)
            elif texts.holds_control_token(text):
                _add_control_token(texts, where, findings)
            elif part == "question":
                questions.append(texts.question_length(text))
            else:
                answers.append(texts.answer_length(text))
                _check_length(pair, texts, max_new_tokens, where, findings)
    _check_repeats(seen, findings)
    sizes = sorted((one.size for one in seen.sightings.values()), key=lambda size: size[0] * size[1])
    data = {pair.image.digest: len(pair.image.data) for pair in seen.pairs.values()}
    return SetSummary(
        name=seen.reading.name,
        pairs=len(seen.pairs),
        images=len(data),
        image_bytes=sum(data.values()),
        smallest_image=sizes[0] if sizes else None,
        largest_image=sizes[-1] if sizes else None,
        questions=Lengths.of(questions),
        answers=Lengths.of(answers),
        tail_mass=seen.reading.tail_mass,
    )


def _check_length(pair: Pair, texts: Texts, max_new_tokens: int, where: str, findings: _Findings) -> None:
    length, counted = texts.answer_length(pair.answer), texts.unit == "tokens"
    if texts.room is not None and texts.question_length(pair.question) + length > texts.room:
        message = f"is with its question longer than the {texts.room} tokens that the model takes"
        findings.add("error", "no-room", message, where)
    elif length > (max_new_tokens if counted else max_new_tokens * _CHARACTERS_A_TOKEN):
        why = f"is {'' if counted else 'likely '}longer than evaluation.max_new_tokens = {max_new_tokens}"
        findings.add("warning", "long-answer", f"{why}: it can't be said whole", where)


def _add_control_token(texts: Texts, where: str, findings: _Findings) -> None:
    if texts.unit == "tokens":
        findings.add("error", "control-token", "holds one of the model's control tokens", where)
    else:
        findings.add("warning", "control-token", "holds what looks like a model's control token", where)


def _check_repeats(seen: _Seen, findings: _Findings) -> None:
    """Within one set: pairs twice, one question with two answers, one image under two names."""
    first: dict[tuple[str, str], tuple[int, str]] = {}
    files: dict[str, set[int]] = defaultdict(set)
    for index, pair in seen.pairs.items():
        earlier, answer = first.setdefault((pair.image.digest, alike(pair.question)), (index, alike(pair.answer)))
        if earlier != index:
            again = f"{seen.place(index)} and {seen.place(earlier)}"
            if answer == alike(pair.answer):
                findings.add("warning", "duplicate", "same image, question and answer", again)
            else:
                findings.add("warning", "conflict", "same image and question, different answers", again)
        # Readers hold a file once: two objects with the same bytes are two files.
        names = files[pair.image.digest]
        if names and id(pair.image) not in names:
            message = "a file with the same bytes as an earlier one"
            findings.add("warning", "same-image", message, seen.place(index, ".image"))
        names.add(id(pair.image))


def _check_leaks(forget: _Seen, other: _Seen, findings: _Findings) -> None:
    """What `other`, which must stay, shares with what is to be forgotten."""
    role = other.reading.name
    found = leaks_into(forget.pairs, forget.sightings, other.pairs, other.sightings)
    left = len(other.pairs) - len(found.same_image)
    if role == "retain" and other.pairs and not left:
        findings.add("error", "leaked-image", "shows only images that are to be forgotten", role)
        return
    what_then = "a run leaves the pair out" if role == "retain" else "what is forgotten there counts as harm"
    for kind, message, indices in (
        ("leaked-image", f"the same image is to be forgotten: {what_then}", found.same_image),
        ("similar-image", "nearly the same image is to be forgotten", found.similar_image),
        ("leaked-name", "two capitalised words in a row that are in a forgotten answer, too", found.name),
        ("leaked-answer", "a forgotten answer, word for word", found.answer),
    ):
        for index in indices:
            findings.add("warning", kind, message, other.place(index))


def _check_probe(forget: _Seen, probe: _Seen, findings: _Findings) -> None:
    for index in repeats(forget.pairs, probe.pairs):
        findings.add("warning", "trained-probe", "image and question are those of a forget pair", probe.place(index))
