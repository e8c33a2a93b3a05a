"""The tables of docs/forgetting.md, in Markdown, from what bench.robustness wrote.

    python -m bench.robustness_tables

Prints them in the page's order. That the page has them as they are here is a test.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from bench.machine import RESULTS
from bench.robustness import BARS

Result = dict[str, Any]
_FIGURES = {
    "forgotten facts, ROUGE-L": ("rouge_l.forget", 3),
    "on photos never seen": ("rouge_l.held_out_photos", 3),
    "rephrased": ("rouge_l.rephrased", 3),
    "probability of the old answer, per token": ("answer_probability.forget", 3),
    "begun answers completed": ("prefill", 2),
    "begun inside of facts, and gone on with": ("prefill_inside", 2),
    "relearned": ("relearned", 2),
    "membership: loss": ("membership.loss", 2),
    "membership: zlib": ("membership.zlib", 2),
    "membership: Min-K%": ("membership.min_k", 2),
    "membership: Min-K%++": ("membership.min_k_plus_plus", 2),
    "membership: gradient norm": ("membership.grad_norm", 2),
    "membership: first token": ("membership.first_token", 2),
    "membership: entropy": ("membership.entropy", 2),
    "everyone else, ROUGE-L": ("rouge_l.retain", 3),
    "their other photos": ("rouge_l.retain_check", 3),
    "visual questions": ("rouge_l.utility", 3),
    "visual questions on the forgotten people's photos": ("rouge_l.own_photos", 3),
}
_ASKED = {
    "forgotten facts, ROUGE-L": "rouge_l.forget",
    "on photos never seen": "rouge_l.held_out_photos",
    "rephrased": "rouge_l.rephrased",
    "fall of everyone else": "fall.retain",
    "fall of their other photos": "fall.retain_check",
    "fall of {utility}": "fall.utility",
    "fall of visual questions on the forgotten people's photos": "fall.own_photos",
    "begun answers completed": "prefill",
    "begun inside of facts, gone on with more often than by the twins": "beyond_twin.prefill_inside",
    "relearned": "relearned",
    "distance from the twins: loss": "from_twin.loss",
    "zlib": "from_twin.zlib",
    "Min-K%": "from_twin.min_k",
    "Min-K%++": "from_twin.min_k_plus_plus",
    "gradient norm": "from_twin.grad_norm",
    "first token": "from_twin.first_token",
    "entropy": "from_twin.entropy",
}


def main() -> None:
    """Prints every table."""
    for table in tables():
        print(*table, sep="\n", end="\n\n")


def tables() -> Iterator[list[str]]:
    """Each table's lines."""
    default, published = _result("vgid-alias"), _result("vgid")
    yield _figures(default, published)
    yield _side_by_side(default, published)
    yield _on_others(_result("vgid-alias_others"), _result("vgid-alias_two_teachers"))
    for name in ("100", "300", "300_without_spread", "300_without_guesses"):
        yield _by_set(_result(f"vgid-alias_smollm2_{name}"))


def _result(name: str) -> Result:
    found: Result = json.loads((RESULTS / f"robustness_{name}.json").read_text(encoding="utf-8"))
    return found


def _figures(default: Result, published: Result) -> list[str]:
    lines = _head("", "base", "`vgid-alias`", "`vgid`, as published", "twins")
    asked = {title: of for title, of in _FIGURES.items() if of[0] in default["summary"]}  # all but what came later
    for title, (key, digits) in asked.items():
        own = _with_spread(default["summary"][key], digits)
        median, rest = own.split(" ", 1)
        shown = [f"{default['base'][key]['median']:.{digits}f}", f"**{median}** {rest}"]
        shown += [_with_spread(published["summary"][key], digits), _with_spread(default["twin"][key], digits)]
        lines.append(_row(title, *shown))
    return lines


def _side_by_side(default: Result, published: Result) -> list[str]:
    lines = _head("bar on the median", "`vgid-alias`", "", "`vgid`", "a twin beside the two others")
    for title, key in _titles(default, "visual questions"):
        median, other = default["summary"][key]["median"], published["summary"][key]["median"]
        shown = [f"{median:.3f}", _missed(key, median, "**missed**"), f"{other:.3f}" + _missed(key, other)]
        lines.append(_row(title, *shown, _with_spread(default["twin"][key]) + _of_twin(default, key)))
    return lines


def _on_others(others: Result, default: Result) -> list[str]:
    columns = ("two other sets", "", "the three above, by the same settings", "their twins, each beside the two others")
    lines = _head("bar on the median", *columns)
    for title, key in _titles(others, "visual questions"):
        own, above = others["summary"][key], default["summary"][key]["median"]
        shown = [_with_spread(own), _missed(key, own["median"], "**missed**"), f"{above:.3f}"]
        lines.append(_row(title, *shown, _with_spread(others["twin"][key]) + _of_twin(others, key)))
    return lines


def _by_set(result: Result) -> list[str]:
    sizes = list(dict.fromkeys(len(row["forgotten"]) for row in result["rows"]))
    twins = len(result["untrained"][0]["twins"])
    beside = "the twin" if twins == 1 else "a twin beside the two others"
    columns = [f"{size} {'person' if size == 1 else 'people'}" for size in sizes]
    lines = _head("bar on the median", *columns, f"median of {_in_words(len(result['rows']))}", beside)
    for title, key in _titles(result, "visual and general questions"):
        shown = []
        for size in sizes:
            values = [row["figures"][key] for row in result["rows"] if len(row["forgotten"]) == size]
            spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
            shown.append(_with_spread(spread) if len(values) > 1 else _number(values[0]))
        median = result["summary"][key]["median"]
        shown.append(f"{median:.3f}" + _missed(key, median, " **missed**"))
        of_twin = _with_spread(result["twin"][key]) + _of_twin(result, key) if key in result["twin"] else ""
        lines.append(_row(title, *shown, of_twin))
    return lines


def _titles(result: Result, utility: str) -> Iterator[tuple[str, str]]:
    """Of the bars that were there when this was measured."""
    for title, key in _ASKED.items():
        if key in result["summary"]:
            yield f"{title.format(utility=utility)}: {BARS[key]}", key


def _of_twin(result: Result, key: str) -> str:
    return _missed(key, result["twin"][key]["median"])


def _missed(key: str, median: float, word: str = " (missed)") -> str:
    return word if median > BARS[key] else ""


def _with_spread(values: Mapping[str, float], digits: int = 3) -> str:
    median, low, high = (_number(values[name], digits) for name in ("median", "min", "max"))
    return f"{median} ({low} to {high})" if "-" in low + high else f"{median} ({low}-{high})"


def _number(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _in_words(count: int) -> str:
    return {2: "both", 3: "all three", 6: "all six", 9: "all nine"}.get(count, f"all {count}")


def _head(*columns: str) -> list[str]:
    return [_row(*columns), "|---" * len(columns) + "|"]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
