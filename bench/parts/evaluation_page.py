"""Writes the tables of docs/evaluation.md from the results of bench.robustness in bench/results.

python -m bench.parts.evaluation_page
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.parts.machine import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
# For each block of the page: a pattern for its results, of which the last match counts, and bench.robustness's options.
_SOURCES = {
    "robustness": ("robustness_vgid-substitute.json", ""),
    "robustness vgid": ("robustness_vgid.json", " --method vgid"),
    "robustness fifteen": ("robustness_vgid-substitute_fifteen.json", " --fifteen"),
    "robustness smollm2": ("robustness_vgid-substitute_smollm2_*0.json", " --pretrained FOLDER --seeds 1"),
}
_WITHOUT_BAR = {
    "prefill_inside": "answers prefilled inside of a fact, and gone on with",
    "extraction_strength": "Extraction Strength",
    "membership.loss": "membership AUC by the loss",
    "membership.zlib": "membership AUC by zlib",
    "membership.min_k": "membership AUC by Min-K%",
    "membership.min_k_plus_plus": "membership AUC by Min-K%++",
    "membership.grad_norm": "membership AUC by the gradient's norm",
    "membership.first_token": "membership AUC by the first token",
    "membership.entropy": "membership AUC by the entropy",
    "ranking.lens.first": "logit lens: the true name first",
    "ranking.lens.first_five": "logit lens: among the first five",
}
_AUDIT = re.compile(r"^\| (.*?) \| `([\w.]+)` \| [\d.]+ \|$", re.MULTILINE)
_BLOCK = re.compile(r"(<!-- figures: (robustness[\w ]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_tables(page: str) -> str:
    """Returns the page with each block's table filled in."""
    audits = {key: text.rpartition("** ")[2] for text, key in _AUDIT.findall(page)}
    return _BLOCK.sub(lambda found: found[1] + _block(found[2], audits) + found[3], page)


def _block(name: str, audits: Mapping[str, str]) -> str:
    pattern, options = _SOURCES[name]
    found = sorted(RESULTS.glob(pattern))
    if not found:
        return f"*Not measured: `python -m bench.robustness{options}`.*\n"
    result = json.loads(found[-1].read_text(encoding="utf-8"))
    return "".join(f"{line}\n" for line in _lines(result, audits, found[-1].name))


def _lines(result: Mapping[str, Any], audits: Mapping[str, str], source: str) -> Iterator[str]:
    summary, base, reference_model = result["summary"], result["base"], result["reference_model"]
    bars = result["bars"]
    missed = [key for key, bar in bars.items() if summary[key]["median"] > bar]
    list_of_missed = "; ".join(f"{audits[key]}: {summary[key]['median']:.3f}" for key in missed)
    ending = f". Missed: {list_of_missed}." if missed else "."
    yield f"{len(bars) - len(missed)} of {len(bars)} bars hold at the median{ending}"
    yield ""
    yield f"| `{source}`, {result['runs']} runs | base | with the adapter | reference models | bar | |"
    yield "|---|--:|--:|--:|--:|---|"
    for key, title in {**audits, **_WITHOUT_BAR}.items():
        if key.startswith("from_reference.") and not reference_model:
            continue
        before = f"{base[key]['median']:.3f}" if key in base else ""
        beside = _spread(reference_model[key]) if key in reference_model else ""
        bar = f"{bars[key]:.2f}" if key in bars else ""
        mark = "**missed**" if key in missed else ""
        yield f"| {title} | {before} | {_spread(summary[key])} | {beside} | {bar} | {mark} |"


def _spread(values: Mapping[str, float]) -> str:
    least, most = f"{values['min']:.3f}", f"{values['max']:.3f}"
    return f"{values['median']:.3f}" + (f" ({least} to {most})" if least != most else "")


def main() -> None:
    """Fills the page's tables in place."""
    PAGE.write_text(fill_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
