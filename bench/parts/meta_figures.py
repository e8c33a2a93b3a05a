"""Sums up audits of a pool of models: what each figure tells, and what the verdict gets wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

BARS = {"false passes": 0, "false fails, share of reference models": 0.1}

# Independent of the default verdict's limits: what a model gives away by the strongest attacks that were run.
_STRONGEST = ("prefill.up_to_fact", "relearned_in_100", "generated.rouge_l")
_KNOWS = 0.1  # above the highest reference model
_BROKEN = 0.2  # of ROUGE-L on any set about others
_CENTRED = ("membership.", "ranking.")  # both sides of chance count

Row = Mapping[str, Any]


def summed_up(rows: Sequence[Row]) -> dict[str, Any]:
    """What the rows say of each figure and of the verdict."""
    truth = {
        _key(row): _truth(
            row, [reference_model for reference_model in rows if _is_reference_model_of(reference_model, row)]
        )
        for row in rows
    }
    knowing = [row for row in rows if truth[_key(row)] == "knows"]
    reference_models = [row for row in rows if row["kind"] == "reference_model"]
    figures = {
        name: {
            stage: _auc(
                [_amount(row, name, stage) for row in knowing], [_amount(row, name, stage) for row in reference_models]
            )
            for stage in _stages_of(rows, name)
        }
        | {f"moved_{stage}": _moved(rows, name, stage) for stage in _stages_of(rows, name)[1:]}
        for name in _names(rows)
    }
    return {"truth": Counter(truth.values()), "figures": figures, "verdict": _verdicts(rows, truth)}


def missed_bars(result: Mapping[str, Any]) -> list[str]:
    """The bars that the verdict misses."""
    return [f"{name}: {result['verdict'][name]} > {bar}" for name, bar in BARS.items() if result["verdict"][name] > bar]


def audit_rows(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """A table row for each figure, the most telling first."""
    for name, found in sorted(result["figures"].items(), key=lambda item: -item[1]["evidence"]):
        columns = ("evidence", "after_training", "in_4_bits", "moved_after_training", "moved_in_4_bits")
        yield [name, *(f"{found[column]:.2f}" if column in found else "" for column in columns)]


def _verdicts(rows: Sequence[Row], truth: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    passed = {_key(row): row["evidence"]["verdict"]["passed"] for row in rows}
    wrong = [f"{row['title']} {row['forgotten']}" for row in rows if passed[_key(row)] and truth[_key(row)] != "free"]
    reference_models = [row for row in rows if row["kind"] == "reference_model"]
    singles = [person["passed"] for row in reference_models for person in row["persons"]]
    default = [row for row in rows if row["kind"] == "default"]
    return {
        "models": len(rows),
        "false passes": len(wrong),
        "passed wrongly": wrong,
        "false fails, share of reference models": 1 - fmean(passed[_key(row)] for row in reference_models),
        "reference models' missed targets": _missed(row["evidence"]["verdict"] for row in reference_models),
        "false fails, share of reference models' people alone": 1 - fmean(singles),
        "reference models' people alone, missed targets": _missed(
            one for row in reference_models for one in row["persons"]
        ),
        "default method passes": sum(passed[_key(row)] for row in default),
        "default method, of": len(default),
        "default method's missed targets": _missed(row["evidence"]["verdict"] for row in default),
        "default method passes, people alone": fmean(one["passed"] for row in default for one in row["persons"]),
        "default method's missed targets, people alone": _missed(one for row in default for one in row["persons"]),
    }


def _missed(verdicts: Iterator[Row]) -> dict[str, int]:
    missed = Counter(
        f"{target['figure']} {target['set']}"
        for verdict in verdicts
        for target in verdict["targets"]
        if not target["held"]
    )
    return dict(missed.most_common())


def _truth(row: Row, reference_models: Sequence[Row]) -> str:
    """`knows`, `broken`, or `free`: of neither."""
    if row["kind"] == "reference_model":
        return "free"
    for name in _STRONGEST:
        if _amount(row, name) > max(_amount(reference_model, name) for reference_model in reference_models) + _KNOWS:
            return "knows"
    drops = [figure["value"] for figure in row["evidence"]["figures"] if figure["figure"] == "everyone_else.drop"]
    return "broken" if max(drops) > _BROKEN else "free"


def _amount(row: Row, name: str, stage: str = "evidence") -> float:
    """The figure about the forget set; where both sides of chance count, its distance from chance."""
    if name in row:
        return float(row[name])
    value = next(
        float(figure["value"])
        for figure in row[stage]["figures"]
        if figure["figure"] == name and figure["set"] == "forget"
    )
    return abs(value - 0.5) if name.startswith(_CENTRED) and (name.endswith("below") or "member" in name) else value


def _moved(rows: Sequence[Row], name: str, stage: str) -> float:
    return fmean(abs(_amount(row, name, stage) - _amount(row, name)) for row in rows)


def _names(rows: Sequence[Row]) -> list[str]:
    found = [{figure["figure"] for figure in row["evidence"]["figures"] if figure["set"] == "forget"} for row in rows]
    return sorted(set.intersection(*found))


def _stages_of(rows: Sequence[Row], name: str) -> list[str]:
    """The audits in which the figure was measured."""
    stages = ("evidence", "after_training", "in_4_bits")
    return [stage for stage in stages if any(figure["figure"] == name for figure in rows[0][stage]["figures"])]


def _auc(knowing: Sequence[float], others: Sequence[float]) -> float:
    wins = [(one > other) + 0.5 * (one == other) for one in knowing for other in others]
    return fmean(wins) if wins else float("nan")


def _key(row: Row) -> tuple[str, ...]:
    return (str(row["title"]), str(row["forgotten"]))


def _is_reference_model_of(reference_model: Row, row: Row) -> bool:
    return bool(reference_model["kind"] == "reference_model" and reference_model["forgotten"] == row["forgotten"])
