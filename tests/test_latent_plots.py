"""Pictures of what a generative model learned, read back from the drawn artists."""

import numpy as np
import pytest

from gdlab import plots


def test_images_lie_in_rows_and_columns():
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) / 120
    figure = plots.image_grid(images, title="t", labels=("one", "two"))
    (axes,) = figure.axes
    drawn = axes.images[0].get_array()
    assert drawn.shape == (8, 15)
    np.testing.assert_array_equal(drawn[4:8, 10:15], images[1, 2])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]


def test_classes_have_colours_and_names_at_their_medians():
    latents = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.2], [2.0, 2.0], [2.0, 3.0], [2.5, 2.0]])
    labels = np.array([0, 0, 0, 7, 7, 7])
    decoded = np.random.default_rng(0).uniform(size=(4, 4, 3, 3))
    figure = plots.latent_map(latents, labels, decoded, 1.5, title="plane")
    left, right = figure.axes
    assert len(left.collections) == 2
    assert left.collections[0].get_facecolor().tolist() != left.collections[1].get_facecolor().tolist()
    names = {text.get_text(): text.get_position() for text in left.texts}
    assert names == {"0": (0.0, 0.2), "7": (2.0, 2.0)}
    assert [label.get_text() for label in right.get_xticklabels()] == ["-1.5", "0", "1.5"]
    np.testing.assert_array_equal(right.images[0].get_array()[:3, 9:], decoded[0, 3])
    named = plots.latent_map(latents, labels, decoded, 1.5, names=list("abcdefgh"))
    assert {text.get_text() for text in named.axes[0].texts} == {"a", "h"}


def test_bad_input_is_answered_in_one_line():
    good = np.zeros((3, 2)), np.arange(3), np.zeros((2, 2, 3, 3)), 1.0
    for call, answer in (
        (lambda: plots.image_grid(np.zeros((3, 4, 4))), "images: wanted shape"),
        (lambda: plots.image_grid(np.zeros((2, 2, 3, 3)), labels=("a",)), "labels: wanted one for each of 2 rows"),
        (lambda: plots.latent_map(np.zeros((3, 3)), *good[1:]), r"latents: wanted \(examples, 2\)"),
        (lambda: plots.latent_map(good[0], np.arange(2), *good[2:]), "and a label each"),
        (lambda: plots.latent_map(*good[:2], np.zeros((2, 2)), 1.0), "decoded: wanted shape"),
        (lambda: plots.latent_map(np.zeros((13, 2)), np.arange(13), *good[2:]), "wanted at most 12 classes, got 13"),
    ):
        with pytest.raises(ValueError, match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
