"""What the answers of a server say: findings in plain words, each with what to do, and a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vgid_core.data.pairs import PairSet
from vgid_core.serving.evidence import AdapterEvidence
from vgid_core.serving.hints import DIGEST_DIGITS, serving_warnings
from vgid_core.serving.survey import Replies, Survey, Way

_KEYED = (
    "a service's adapter names its sets by keyed digests, so nothing here tells which of its figures is this set's; "
    "`vgid verify --set` shows whether it is the run's"
)

Kind = Literal[
    "adapter",
    "cache",
    "steady",
    "text-only",
    "base",
    "no-name",
    "control",
    "control-lost",
    "reload",
    "known",
    "measured",
    "name",
    "rank",
    "vision-layers",
]
Level = Literal["fault", "warning", "ok", "untested"]
Verdict = Literal["arrives", "does-not-arrive", "inconclusive"]

# The share of facts that may be told by chance, of answers that may differ or be missing, and of ROUGE-L.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Finding:
    """One finding: what was seen, and what to do about it. advice: empty if there is nothing to do."""

    kind: Kind
    level: Level
    message: str
    advice: str = ""


def judge(found: Survey, evidence: AdapterEvidence | None, pairs: PairSet) -> tuple[Finding, ...]:
    """All findings, in the order in which they matter. pairs: the whole set that the facts were drawn from."""
    findings = [*_adapter(found, evidence), _text_only(found), _base(found), _no_name(found)]
    findings += [_control(found), _reload(found)]
    if not _may_be_known(found, evidence):
        advice = "ask about pairs that the base answers rightly: those of the forget set"
        findings.append(Finding("known", "warning", "the base doesn't tell these facts, either", advice))
    if evidence is not None:
        findings += [_measured(found, evidence, pairs), _name(found, evidence)]
        for warning in serving_warnings(evidence.lora):
            findings.append(Finding(warning.kind, "warning", warning.message, warning.advice))
    return tuple(findings)


def verdict_of(findings: tuple[Finding, ...]) -> Verdict:
    """Whether the forgetting arrives. It doesn't with any fault; nobody can tell if the adapter wasn't tested."""
    if any(finding.level == "fault" for finding in findings):
        return "does-not-arrive"
    level = {finding.kind: finding.level for finding in findings}
    return "inconclusive" if level["adapter"] != "ok" or "known" in level else "arrives"


def _adapter(found: Survey, evidence: AdapterEvidence | None) -> Iterator[Finding]:
    """Whether the adapter is applied, whether a cache stands between, and whether the answers are steady."""
    first, again, fresh = (found.replies[way] for way in (Way.adapter, Way.again, Way.changed_photo))
    worse = max((first, again), key=_share)
    cached, uncached = _share(worse) > TOLERANCE, _share(fresh) > TOLERANCE
    if not fresh.answered or cached == uncached:
        yield _applied(found, worse, evidence)
    else:  # a cache answers the very prompts
        yield _applied(found, fresh, evidence)
    if not fresh.answered:
        yield Finding("cache", "untested", "the server refuses the photo with one pixel changed")
    elif cached == uncached:
        yield Finding("cache", "ok", "with one pixel of the photo changed, which no cache holds, it is the same")
    else:
        yield Finding(
            "cache",
            "fault",
            f"a stale cache answers: {_tells(worse)}, but {_tells(fresh)} if one pixel of the photo is changed",
            "restart the server, and serve each adapter under a name with its digest, from a folder of its own",
        )
    if (steady := first.share_equal(again.texts)) < 1 - TOLERANCE:
        yield Finding(
            "steady",
            "warning",
            f"{1 - steady:.0%} of the answers differ when the very prompt is repeated",
            "look whether several replicas answer, some without the adapter, and ask each of them",
        )


def _applied(found: Survey, replies: Replies, evidence: AdapterEvidence | None) -> Finding:
    if _share(replies) <= TOLERANCE:
        if replies.answered < (1 - TOLERANCE) * len(replies.facts):
            message = f"only {replies.answered} of {len(replies.facts)} questions are answered"
            return Finding("adapter", "untested", message, "look at the server's log")
        return Finding("adapter", "ok", f"'{found.adapter}': {_tells(replies)}")
    base = found.replies.get(Way.base)
    true = [fact.pair.answer for fact in replies.facts]
    before = base.texts if base is not None and base.answered else true
    if replies.share_equal(before) >= 1 - TOLERANCE:
        of = "the base's" if before is not true else "those from before the forgetting"
        return Finding(
            "adapter",
            "fault",
            f"'{found.adapter}' doesn't apply the adapter: {_tells(replies)}, and the answers are {of}",
            "look in the server's log for refused or ignored keys; else merge the adapter and serve the merged model",
        )
    measured = f", {evidence.dtype} when it was measured" if evidence is not None else ""
    return Finding(
        "adapter",
        "fault",
        f"'{found.adapter}' forgets in part only: {_tells(replies)}",
        f"check the precision of base and adapter{measured}, and that it is this adapter on this base",
    )


def _text_only(found: Survey) -> Finding:
    replies = found.replies[Way.text_only]
    if not replies.answered:
        return Finding("text-only", "untested", "the server refuses questions without a photo")
    if _share(replies) > TOLERANCE:
        advice = "if the adapter is applied, forget again with these very questions in the forget set"
        return Finding("text-only", "fault", f"without the photo: {_tells(replies)}", advice)
    return Finding("text-only", "ok", f"without the photo: {_tells(replies)}")


def _base(found: Survey) -> Finding:
    if found.base is None:
        return Finding("base", "untested", "the server names no base of the adapter", "pass --base NAME")
    advice = "close the base's name in front of the server, or merge the adapter and serve the merged model alone"
    return _other_door("base", f"by the base's name '{found.base}'", found.replies[Way.base], advice)


def _no_name(found: Survey) -> Finding:
    advice = "refuse requests without a model's name in front of the server"
    return _other_door("no-name", "by no name at all", found.replies[Way.no_name], advice)


def _other_door(kind: Kind, how: str, replies: Replies, advice: str) -> Finding:
    if not replies.answered:
        return Finding(kind, "ok", f"{how} nobody is answered")
    if _share(replies) > TOLERANCE:
        return Finding(kind, "fault", f"{how}: {_tells(replies)}", advice)
    return Finding(kind, "ok", f"{how}: {_tells(replies)}")


def _control(found: Survey) -> Finding:
    """Whether people who must stay known are told of: as often as by the base, else nearly always."""
    replies, base = found.replies.get(Way.control), found.replies.get(Way.control_base)
    if replies is None:
        message = "whether others are still known isn't asked: a model that answers nonsense passes"
        return Finding("control", "untested", message, "pass --control SOURCE")
    message, told, chance = f"of others {_tells(replies)}", len(replies.told), TOLERANCE * len(replies.facts)
    expected = len(replies.facts)
    compared = base is not None and base.answered > 0
    if base is not None and compared:
        message, expected = f"{message}; by the base {_tells(base)}", len(base.told)
    if expected <= chance:
        return Finding("control", "warning", message, "ask about pairs that the base answers rightly")
    if expected - told <= chance:
        return Finding("control", "ok", message)
    if not compared and told > chance:
        return Finding("control", "warning", message, "repeat it where --base NAME can be asked, to compare")
    advice = "ask about them by hand: a damaged model, another base or a wrong chat template answers nonsense"
    return Finding("control-lost", "fault", message, advice)


def _reload(found: Survey) -> Finding:
    replies = found.replies.get(Way.after_reload)
    if replies is None:
        return Finding("reload", "untested", f"not asked after a reload: {found.not_reloaded}")
    if not replies.answered:
        return Finding("reload", "fault", "after a reload the server gives no answer", "load the adapter by hand")
    if _share(replies) > TOLERANCE:
        return Finding(
            "reload",
            "fault",
            f"after a reload: {_tells(replies)}",
            "look at what the server loads when it starts, and repeat this check after every start",
        )
    return Finding("reload", "ok", f"after a reload: {_tells(replies)}")


def _measured(found: Survey, evidence: AdapterEvidence, pairs: PairSet) -> Finding:
    expected, served = evidence.expected_rouge_l(pairs), found.replies[Way.adapter].figures.rouge_l
    if expected is None or served is None:
        reason = "the adapter's manifest names no set with this digest" if evidence.rouge_l else _KEYED
        return Finding("measured", "untested", reason)
    message = f"ROUGE-L {served:.3f} served, {expected:.3f} measured after the run"
    if served > expected + TOLERANCE:
        advice = f"serve in {evidence.dtype}, as it was measured; else it is another adapter or another base"
        return Finding("measured", "warning", message, advice)
    return Finding("measured", "ok", message)


def _name(found: Survey, evidence: AdapterEvidence) -> Finding:
    if evidence.digest[:DIGEST_DIGITS] in found.adapter:
        return Finding("name", "ok", "the served name carries the adapter's digest")
    return Finding("name", "warning", "the served name doesn't carry the adapter's digest", f"serve as {evidence.name}")


def _may_be_known(found: Survey, evidence: AdapterEvidence | None) -> bool:
    """False if the base answers and tells nothing, and the evidence doesn't say that it knew."""
    base = found.replies.get(Way.base)
    tells_nothing = base is not None and base.answered > 0 and _share(base) <= TOLERANCE
    return not tells_nothing or (evidence is not None and evidence.knew)


def _share(replies: Replies) -> float:
    return len(replies.told) / replies.answered if replies.answered else 0.0


def _tells(replies: Replies) -> str:
    return f"{len(replies.told)} of {replies.answered} facts are told"
