"""Slope charts: where lines and intervals lie, and names that do not cover each other."""

import itertools

import numpy as np
import pytest

from gdlab import plots

SCORES = {
    "first": np.array([[90.0, 89.0, 91.0], [70.0, np.nan, np.nan]]),
    "second": np.array([[89.9, 88.0, 91.0], [80.0, 79.0, 81.0]]),
    "third": np.array([[90.1, 90.0, 90.2], [69.9, 69.0, 71.0]]),
}


def names(figure, side):
    """The names beside a side, from the top, with their heights."""
    found = [text for text in figure.axes[0].texts if text.get_ha() == side]
    return sorted(((text.get_position()[1], text.get_text().strip()) for text in found), reverse=True)


def test_lines_join_the_scores_and_names_keep_their_order():
    figure = plots.slopes(SCORES, ["sound", "source"], title="a title", label="accuracy (%)")
    axes = figure.axes[0]
    drawn = [line.get_ydata() for line in axes.get_lines() if line.get_linestyle() == "-" and line.get_lw() > 1]
    np.testing.assert_array_equal(drawn[:3], [scores[:, 0] for scores in SCORES.values()])
    assert [name for _, name in names(figure, "right")] == ["third", "first", "second"]
    assert [name for _, name in names(figure, "left")] == ["second", "first", "third"]
    bars = [bar.get_segments() for bar in axes.collections]
    assert [bar[0][:, 1].tolist() for bar in bars] == [[89.0, 91.0], [88.0, 91.0], [90.0, 90.2]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["sound", "source"]


@pytest.mark.parametrize("count", [6, 12])
def test_names_do_not_cover_each_other(tmp_path, count):
    many = {f"method {k}": np.full((3, 3), 50 + 0.01 * k) + np.eye(3)[0] for k in range(count)}
    figure = plots.slopes(many | {"far": np.full((3, 3), 10.0)}, ["a", "b", "c"])
    plots.save(figure, tmp_path / "slopes.png")
    for side in ("left", "right"):
        boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_ha() == side]
        boxes.sort(key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("scores", "sides", "message"),
    [
        (SCORES, ["one"], "sides: expected at least two names, got 1"),
        (SCORES, ["a", "b", "c"], r"scores\['first'\]: expected .* \(3, 3\), got shape \(2, 3\)"),
        ({}, ["a", "b"], "scores: expected a mapping .* with at least 1 entry, got 0"),
        ({"a": np.full((2, 3), np.nan)}, ["a", "b"], r"scores\['a'\]: expected finite estimates"),
    ],
)
def test_bad_scores_are_refused(scores, sides, message):
    with pytest.raises(ValueError, match=message):
        plots.slopes(scores, sides)
