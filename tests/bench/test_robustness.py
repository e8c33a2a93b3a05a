"""Which bars an audit is held to, and what its medians miss."""

from bench.robustness import BARS, FIFTEENS_BARS, missed_bars


def test_medians_over_their_bars_are_missed_and_others_arent() -> None:
    summary = {key: {"median": bar} for key, bar in BARS.items()}
    assert missed_bars({"summary": summary, "bars": BARS}) == []
    summary |= {"prefill": {"median": 0.5}, "drop.retain": {"median": 0.025}}
    assert missed_bars({"summary": summary, "bars": BARS}) == ["prefill 0.500 > 0.05", "drop.retain 0.025 > 0.02"]


def test_fifteen_people_at_once_are_judged_by_what_must_stay_alone() -> None:
    drops = (
        "retain",
        "retain_check",
        "retain_unseen",
        "visual",
        "own_photos",
        "neighbours",
        "neighbours_unseen",
    )
    everything_is_bad = {key: {"median": 1.0} for key in BARS}
    missed = missed_bars({"summary": everything_is_bad, "bars": FIFTEENS_BARS})
    assert missed == [f"drop.{name} 1.000 > 0.03" for name in drops]
    nothing_drops = {f"drop.{name}": {"median": 0.03} for name in drops}
    assert missed_bars({"summary": everything_is_bad | nothing_drops, "bars": FIFTEENS_BARS}) == []
