"""Checks of a run's sets before it starts: errors and warnings by place. No finding repeats what a pair holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal, Protocol

from vgid_core.config import EvaluationConfig
from vgid_core.data.leaks import ImageFingerprint, find_leaks, repeated_questions
from vgid_core.data.pairs import DataError, EncodedImage, Pair
from vgid_core.data.readers import ReadResult
from vgid_core.data.text_normalization import normalized

Level = Literal["error", "warning"]
Look = Callable[[EncodedImage], ImageFingerprint]

# Control tokens of the chat templates of the supported families.
_CONTROL_LIKE = re.compile(
    r"<\|[^<>|]*\|>|</?s>|<[a-z]+_of_[a-z]+>|<(?:fake_)?image[^<>]*>|<img>|\[/?INST\]|\[IMG\]", re.IGNORECASE
)
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Finding:
    """One kind of problem and where it occurs.

    level: an error makes a run impossible or meaningless; a warning needs a look. places: such as 'forget[3].image'.
    """

    level: Level
    kind: str
    message: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Lengths:
    """Smallest, median and largest length of some texts."""

    smallest: int
    median: float
    largest: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Lengths | None:
        """Summarises the values; None if there are none."""
        return cls(min(values), median(values), max(values)) if values else None


@dataclass(frozen=True)
class SetSummary:
    """Counts of one set.

    images, image_bytes: of distinct images. smallest_image, largest_image: width and height in pixels. left_out: items
    of the source that are no pairs, counted by reason.
    """

    name: str
    pairs: int
    images: int
    image_bytes: int
    smallest_image: tuple[int, int] | None
    largest_image: tuple[int, int] | None
    questions: Lengths | None
    answers: Lengths | None
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class DataReport:
    """Summaries and findings. Lengths are in `unit`; sets stand in the order forget, retain, utility, probes."""

    unit: Literal["tokens", "characters"]
    sets: tuple[SetSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {"ok": not self.has_errors, **asdict(self)}


class TextCounter(Protocol):
    """Measures texts as a model would. `CharacterCounter` stands in where no model is given."""

    unit: Literal["tokens", "characters"]

    @property
    def context_length(self) -> int | None:
        """The most units that a question and its answer may have together; None if unknown."""

    def question_length(self, question: str) -> int:
        """The question's length in units."""

    def answer_length(self, answer: str) -> int:
        """The answer's length in units."""

    def holds_control_token(self, text: str) -> bool:
        """Whether the text holds a control token, so that a run would refuse it."""


class CharacterCounter:
    """Measures texts without a model: lengths in characters, control tokens by pattern."""

    unit: Literal["tokens", "characters"] = "characters"
    context_length: int | None = None

    def question_length(self, question: str) -> int:
        """The question's length in characters."""
        return len(question)

    def answer_length(self, answer: str) -> int:
        """The answer's length in characters."""
        return len(answer)

    def holds_control_token(self, text: str) -> bool:
        """Whether the text matches the pattern of a control token."""
        return _CONTROL_LIKE.search(text) is not None


@dataclass(frozen=True)
class _LoadedSet:
    """A set's readable pairs by index, and the fingerprints of its decodable images by digest."""

    source: ReadResult
    pairs: dict[int, Pair]
    fingerprints: dict[str, ImageFingerprint]

    def place(self, index: int, part: str = "") -> str:
        return f"{self.source.name}[{index}]{part}"


@dataclass
class _FindingCollector:
    """Groups places by level, kind and message."""

    found: dict[tuple[Level, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, level: Level, kind: str, message: str, *places: str) -> None:
        self.found[level, kind, message].extend(places)

    def sorted(self) -> tuple[Finding, ...]:
        findings = [Finding(level, kind, message, tuple(at)) for (level, kind, message), at in self.found.items()]
        return tuple(sorted(findings, key=lambda finding: finding.level))


def check_data(
    forget: ReadResult,
    retain: ReadResult | None = None,
    utility: ReadResult | None = None,
    probes: Sequence[ReadResult] = (),
    texts: TextCounter | None = None,
    max_new_tokens: int = EvaluationConfig().max_new_tokens,
    look: Look = ImageFingerprint.read,
) -> DataReport:
    """Checks every pair of every set, and what the other sets share with the forget set.

    texts: a model's `TokenCounter`; without it, lengths are in characters. max_new_tokens: the evaluation's, which cuts
    off longer answers. look: gives each image's fingerprint, or raises DataError; for a caller who has some already.
    """
    texts = texts or CharacterCounter()
    findings = _FindingCollector()
    forgotten = _load(forget, look, findings)
    kept = [_load(source, look, findings) for source in (retain, utility) if source is not None]
    probed = [_load(source, look, findings) for source in probes]
    summaries = [_check_set(one, texts, max_new_tokens, findings) for one in (forgotten, *kept, *probed)]
    for other in kept:
        _check_leaks(forgotten, other, findings)
    for probe in probed:
        _check_probe(forgotten, probe, findings)
    return DataReport(texts.unit, tuple(summaries), findings.sorted())


def _load(source: ReadResult, look: Look, findings: _FindingCollector) -> _LoadedSet:
    """Looks at each image once; adds a finding for every item or image that can't be used."""
    pairs: dict[int, Pair] = {}
    fingerprints: dict[str, ImageFingerprint] = {}
    bad: set[str] = set()
    for index, item in enumerate(source.items):
        if isinstance(item, DataError):
            findings.add("error", "unreadable", item.reason, item.field)
            continue
        pairs[index] = item
        digest = item.image.digest
        if digest not in fingerprints and digest not in bad:
            try:
                fingerprints[digest] = look(item.image)
            except DataError:
                bad.add(digest)
        if digest in bad:
            findings.add("error", "image", "is no readable image", f"{source.name}[{index}].image")
    if not source.items:
        findings.add("error", "no-pairs", "holds no pairs", source.name)
    return _LoadedSet(source, pairs, fingerprints)


def _check_set(loaded: _LoadedSet, texts: TextCounter, max_new_tokens: int, findings: _FindingCollector) -> SetSummary:
    questions, answers = [], []
    for index, pair in loaded.pairs.items():
        if texts.holds_control_token(pair.person or ""):
            _add_control_token(texts, loaded.place(index, ".person"), findings)
        for part, text in (("question", pair.question), ("answer", pair.answer)):
            where = loaded.place(index, f".{part}")
            if not text.strip():
                findings.add("error", "empty", "holds no text", where)
            elif texts.holds_control_token(text):
                _add_control_token(texts, where, findings)
            elif part == "question":
                questions.append(texts.question_length(text))
            else:
                answers.append(texts.answer_length(text))
                _check_length(pair, texts, max_new_tokens, where, findings)
    _check_repeats(loaded, findings)
    sizes = sorted((one.size for one in loaded.fingerprints.values()), key=lambda size: size[0] * size[1])
    data = {pair.image.digest: len(pair.image.data) for pair in loaded.pairs.values()}
    return SetSummary(
        name=loaded.source.name,
        pairs=len(loaded.pairs),
        images=len(data),
        image_bytes=sum(data.values()),
        smallest_image=sizes[0] if sizes else None,
        largest_image=sizes[-1] if sizes else None,
        questions=Lengths.of(questions),
        answers=Lengths.of(answers),
        left_out=loaded.source.left_out,
    )


def _check_length(pair: Pair, texts: TextCounter, max_new_tokens: int, where: str, findings: _FindingCollector) -> None:
    length, in_tokens = texts.answer_length(pair.answer), texts.unit == "tokens"
    limit = texts.context_length
    if limit is not None and texts.question_length(pair.question) + length > limit:
        message = f"is with its question longer than the {limit} tokens that the model takes"
        findings.add("error", "no-room", message, where)
    elif length > (max_new_tokens if in_tokens else max_new_tokens * _CHARACTERS_PER_TOKEN):
        why = f"is {'' if in_tokens else 'likely '}longer than evaluation.max_new_tokens = {max_new_tokens}"
        findings.add("warning", "long-answer", f"{why}: it can't be said whole", where)


def _add_control_token(texts: TextCounter, where: str, findings: _FindingCollector) -> None:
    if texts.unit == "tokens":
        findings.add("error", "control-token", "holds one of the model's control tokens", where)
    else:
        findings.add("warning", "control-token", "holds what looks like a model's control token", where)


def _check_repeats(loaded: _LoadedSet, findings: _FindingCollector) -> None:
    """Finds, within one set, repeated pairs, questions with two answers, and images under two file names."""
    first: dict[tuple[str, str], tuple[int, str]] = {}
    files: dict[str, set[int]] = defaultdict(set)
    for index, pair in loaded.pairs.items():
        earlier, answer = first.setdefault(
            (pair.image.digest, normalized(pair.question)), (index, normalized(pair.answer))
        )
        if earlier != index:
            again = f"{loaded.place(index)} and {loaded.place(earlier)}"
            if answer == normalized(pair.answer):
                findings.add("warning", "duplicate", "same image, question and answer", again)
            else:
                findings.add("warning", "conflict", "same image and question, different answers", again)
        # Readers hold one object a file, so two objects with the same bytes are two files.
        names = files[pair.image.digest]
        if names and id(pair.image) not in names:
            message = "a file with the same bytes as an earlier one"
            findings.add("warning", "same-image", message, loaded.place(index, ".image"))
        names.add(id(pair.image))


def _check_leaks(forget: _LoadedSet, other: _LoadedSet, findings: _FindingCollector) -> None:
    """Finds what `other`, whose answers must stay, shares with the forget set."""
    role = other.source.name
    found = find_leaks(forget.pairs, forget.fingerprints, other.pairs, other.fingerprints)
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


def _check_probe(forget: _LoadedSet, probe: _LoadedSet, findings: _FindingCollector) -> None:
    for index in repeated_questions(forget.pairs, probe.pairs):
        findings.add("warning", "trained-probe", "image and question are those of a forget pair", probe.place(index))
