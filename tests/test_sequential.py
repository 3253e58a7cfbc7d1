"""Verdicts that hold however often one looks: against the integral that defines them, simulations, and by hand."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from gdlab.analysis.sequential import MOST, _width, always_valid_interval, decide_many, decide_pairs

RNG = np.random.default_rng(0)


def evidence(t, count, effect=1.0):
    """The mixture that the interval inverts, by numerical integration over effects."""

    def weighted(delta):
        return stats.nct.pdf(t, count - 1, delta * np.sqrt(count)) * stats.norm.pdf(delta, scale=effect)

    return integrate.quad(weighted, -12 * effect, 12 * effect, limit=400)[0] / stats.t.pdf(t, count - 1)


@pytest.mark.parametrize(("count", "alpha", "effect"), [(5, 0.05, 1.0), (12, 0.05, 0.5), (30, 0.01, 1.0)])
def test_the_end_of_the_interval_is_where_the_evidence_is_one_in_alpha(count, alpha, effect):
    least = optimize.brentq(lambda t: evidence(t, count, effect) - 1 / alpha, 0.1, 60.0)
    assert _width(count, alpha, effect) == pytest.approx(least / np.sqrt(count), rel=1e-4)


def test_five_pairs_are_the_fewest_that_exclude_anything():
    clear = np.arange(1000.0, 1020.0)
    finite = [bool(np.isfinite(always_valid_interval(clear[:count]).low)) for count in range(1, 8)]
    assert finite == [False] * 4 + [True] * 3


def test_looking_after_every_pair_is_wrong_less_often_than_the_level_says():
    samples = RNG.normal(size=(800, 50))
    wrong = peeking = np.zeros(800, bool)
    for count in range(3, 51):
        low, high = always_valid_interval(samples[:, :count])[1:]
        wrong = wrong | (low > 0) | (high < 0)
        peeking = peeking | (stats.ttest_1samp(samples[:, :count], 0.0, axis=1).pvalue < 0.05)
    assert wrong.mean() <= 0.05
    assert peeking.mean() > 0.15  # what the fixed interval would do


def test_an_effect_of_one_standard_deviation_is_seen_after_about_a_dozen_pairs():
    samples = RNG.normal(loc=1.0, size=(400, 60))
    stopped = np.full(400, 61)
    for count in range(60, 4, -1):
        interval = always_valid_interval(samples[:, :count])
        stopped = np.where(interval.low > 0, count, stopped)
    assert 10 <= np.median(stopped) <= 14  # 12 in simulations of others


def test_answers():
    noise = np.tile([-1.0, 1.0], 20)
    assert decide_pairs(5.0 + noise, 0.1).answer == "better"
    assert decide_pairs(-5.0 + noise, 0.1).answer == "worse"
    assert decide_pairs(0.01 * noise, 0.1).answer == "equal"
    assert decide_pairs(0.05 + 0.001 * noise, 0.1).answer == "equal"  # a clear difference that does not matter
    unclear = decide_pairs(noise, 0.1)
    assert (unclear.answer, unclear.pairs) == ("cannot tell", 40)
    same = decide_pairs(np.zeros(8), 0.0)
    assert (same.answer, same.low, same.high) == ("equal", 0.0, 0.0)


def test_the_number_of_further_pairs_is_the_smallest_that_decides():
    spread = np.tile([-1.0, 1.0], 6)
    verdict = decide_pairs(0.3 + spread, 0.1)
    deviation = float(np.std(0.3 + spread, ddof=1))
    assert verdict.answer == "cannot tell"
    assert verdict.more is not None
    needed = verdict.pairs + verdict.more
    assert _width(needed, 0.05, 1.0) * deviation < 0.3 <= _width(needed - 1, 0.05, 1.0) * deviation
    assert decide_pairs([1.0], 0.1).more == 4  # five in all
    assert decide_pairs(1e-6 + 1e6 * spread, 0.0).more is None
    assert MOST >= 1000


def test_several_differences_share_the_level_as_holm_prescribes():
    base = RNG.normal(size=20)
    base = (base - base.mean()) / base.std(ddof=1)
    limits = [_width(20, 0.05 / waiting, 1.0) for waiting in (3, 2, 1)]
    between = {"a": base + limits[0] + 0.01, "b": base + limits[1] + 0.01, "c": base + limits[2] + 0.01}
    assert [each.answer for each in decide_many(between, 0.0).values()] == ["better"] * 3
    alone = {"a": base + limits[0] - 0.01, "b": base + limits[1] + 0.01, "c": base}  # the clearest is not clear enough
    assert [each.answer for each in decide_many(alone, 0.0).values()] == ["cannot tell"] * 3
    margins = decide_many({"a": 0.01 * base, "b": 0.01 * base}, {"a": 0.1, "b": 1e-3})
    assert [each.answer for each in margins.values()] == ["equal", "cannot tell"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: always_valid_interval([1.0, np.inf]), "differences: expected finite numbers"),
        (lambda: always_valid_interval([1.0], alpha=0.0), "alpha: "),
        (lambda: always_valid_interval([1.0], effect=0.0), "effect: "),
        (lambda: decide_pairs([[1.0]], 0.1), "differences: expected a vector"),
        (lambda: decide_pairs([1.0], -0.1), "margin: "),
        (lambda: decide_many({}, 0.1), "differences: expected a mapping"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
