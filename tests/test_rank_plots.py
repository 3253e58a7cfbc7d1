"""The diagram of average ranks, checked by reading back the drawn artists."""

import numpy as np
import pytest

from gdlab import plots

NAMES = ("Adam", "SGDM", "QHM", "AggMo")
RANKS = (2.5, 1.25, 2.75, 3.5)


def draw(**settings):
    arguments = {"difference": 1.3, "groups": [[1, 0], [0, 2, 3]]} | settings
    return plots.rank_diagram(NAMES, RANKS, **arguments)


def texts(figure):
    return {text.get_text(): text for text in figure.axes[0].texts}


def test_every_name_appears_once_with_its_rank_and_the_best_at_the_top_left():
    found = texts(draw())
    assert {"SGDM  1.25", "Adam  2.50", "2.75  QHM", "3.50  AggMo"} < set(found)
    assert "critical difference 1.30" in found
    places = {label: text.get_position() for label, text in found.items()}
    assert places["SGDM  1.25"][1] > places["Adam  2.50"][1]
    assert places["3.50  AggMo"][1] > places["2.75  QHM"][1]
    assert len({round(places[label][1], 6) for label in ("SGDM  1.25", "Adam  2.50", "2.75  QHM", "3.50  AggMo")}) == 4


def test_bars_join_the_groups_and_whiskers_span_the_intervals():
    low, high = np.subtract(RANKS, 0.25), np.add(RANKS, 0.5)
    lines = [line.get_xdata() for line in draw(intervals=(low, high)).axes[0].lines]
    spans = {tuple(np.round(x, 6)) for x in lines if len(x) == 2}
    assert {(1.2, 2.55), (2.45, 3.55)} <= spans  # a little over the groups' ends
    assert {tuple(np.round(pair, 6)) for pair in zip(low, high, strict=True)} <= spans
    assert not {tuple(np.round(pair, 6)) for pair in zip(low, high, strict=True)} & {
        tuple(np.round(line.get_xdata(), 6)) for line in draw().axes[0].lines
    }
    assert "critical difference 5.00: wider than the axis" in texts(draw(difference=5.0))


def test_bad_input_raises_an_error_of_one_line():
    for call, answer in (
        (lambda: plots.rank_diagram(NAMES, (1.0, 2.0), difference=1, groups=[]), "expected 4 finite numbers"),
        (lambda: plots.rank_diagram(NAMES, (1, 2, 3, np.nan), difference=1, groups=[]), "expected 4 finite"),
        (lambda: draw(intervals=([1.0], [2.0])), "intervals: expected two ends for each of 4 names"),
        (lambda: draw(groups=[[0, 4]]), "groups: expected places from 0 to 3, got 4"),
        (lambda: draw(difference=-1.0), "difference: expected a number in"),
    ):
        with pytest.raises(ValueError, match=answer):
            call()
