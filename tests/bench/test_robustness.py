"""Which bars an audit is held to, and what its medians miss."""

from bench.robustness import BARS, FIFTEENS_BARS, missed_bars


def test_medians_over_their_bars_are_missed_and_others_arent() -> None:
    summary = {key: {"median": bar} for key, bar in BARS.items()}
    assert missed_bars({"summary": summary, "bars": BARS}) == []
    summary |= {"prefill": {"median": 0.5}, "fall.retain": {"median": 0.025}}
    assert missed_bars({"summary": summary, "bars": BARS}) == ["prefill 0.500 > 0.05", "fall.retain 0.025 > 0.02"]


def test_fifteen_people_at_once_are_judged_by_what_must_stay_alone() -> None:
    falls = (
        "retain",
        "retain_check",
        "retain_never_seen",
        "visual",
        "own_photos",
        "bystanders",
        "bystanders_never_seen",
    )
    everything_is_bad = {key: {"median": 1.0} for key in BARS}
    missed = missed_bars({"summary": everything_is_bad, "bars": FIFTEENS_BARS})
    assert missed == [f"fall.{name} 1.000 > 0.03" for name in falls]
    nothing_falls = {f"fall.{name}": {"median": 0.03} for name in falls}
    assert missed_bars({"summary": everything_is_bad | nothing_falls, "bars": FIFTEENS_BARS}) == []
