"""Which bars an audit is held to, and what its medians miss."""

from bench.robustness import BARS, FIFTEENS_BARS, missed_bars


def test_medians_over_their_bars_are_missed_and_others_arent_judged() -> None:
    summary = {key: {"median": bar} for key, bar in BARS.items()}
    assert missed_bars({"summary": summary, "bars": BARS}) == []
    summary |= {"prefill": {"median": 0.5}, "fall.retain": {"median": 0.025}}
    assert missed_bars({"summary": summary, "bars": BARS}) == ["prefill 0.500 > 0.05", "fall.retain 0.025 > 0.02"]
    assert missed_bars({"summary": summary, "bars": FIFTEENS_BARS}) == []


def test_fifteen_people_at_once_have_bars_of_what_must_stay_alone() -> None:
    assert FIFTEENS_BARS.keys() == {key for key in BARS if key.startswith("fall.")}
    assert set(FIFTEENS_BARS.values()) == {0.03}
