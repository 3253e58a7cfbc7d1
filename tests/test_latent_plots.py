"""Pictures of generative models, checked by reading back the drawn artists."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

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
    for axis in (right.xaxis, right.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["\N{MINUS SIGN}1.5", "0", "1.5"]
    # Four images with sides of three pixels: the ticks are at the first one's centre, the middle and the last one's
    # centre, counted from the left and, as is usual for images, from the top.
    assert right.get_xticks().tolist() == [1.5, 6, 10.5]
    assert right.get_yticks().tolist() == [10.5, 6, 1.5]
    np.testing.assert_array_equal(right.images[0].get_array()[:3, 9:], decoded[0, 3])
    named = plots.latent_map(latents, labels, decoded, 1.5, names=list("abcdefgh"))
    assert {text.get_text() for text in named.axes[0].texts} == {"a", "h"}


def test_names_do_not_overlap():
    labels = np.arange(300) % 10
    latents = np.random.default_rng(0).normal(size=(300, 2))  # independent of class: all medians are near 0
    decoded = np.zeros((2, 2, 3, 3))
    for names in ((), ("Trouser", "T-shirt", "Pullover", "Sneaker", "Coat", "Bag", "Boot", "Shirt", "Dress", "Sandal")):
        figure = plots.latent_map(latents, labels, decoded, 2.0, names=names)
        FigureCanvasAgg(figure).draw()
        left = figure.axes[0]
        boxes = [text.get_bbox_patch().get_window_extent() for text in left.texts]
        assert len(boxes) == 10
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        # A name that was moved has a line of its colour to the median.
        for label, text in enumerate(left.texts):
            median = np.median(latents[labels == label], axis=0)
            if not np.array_equal(text.get_position(), median):
                ends = [line.get_xydata().tolist() for line in left.lines if line.get_color() == text.get_color()]
                assert ends == [[median.tolist(), list(text.get_position())]]
    together = plots.latent_map(np.zeros((2, 2)), np.arange(2), decoded, 1.0)
    FigureCanvasAgg(together).draw()
    one, other = (text.get_bbox_patch().get_window_extent() for text in together.axes[0].texts)
    assert not one.overlaps(other)


@pytest.mark.parametrize("title", ["", "a variational autoencoder"])
def test_nothing_is_cut_off(title):
    images = np.zeros((6, 12, 28, 28))
    rows = ("test image", "reconstruction", "sample", "sample", "sample", "sample")
    for figure in (
        plots.image_grid(images[:2, :1], title=title),
        plots.image_grid(images, title=title, labels=rows),
        plots.latent_map(np.eye(2), np.arange(2), images[:6, :6], 2.0, title=title),
    ):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        for axes in figure.axes:
            box = axes.get_tightbbox(canvas.get_renderer())
            # matplotlib's layouts leave 3 points, 4.2 of these pixels, on each side where they fit.
            assert 4 < box.x0 < box.x1 < width - 4
            assert 4 < box.y0 < box.y1 < height - 4


def test_bad_input_raises_an_error_of_one_line():
    good = np.zeros((3, 2)), np.arange(3), np.zeros((2, 2, 3, 3)), 1.0
    for call, answer in (
        (lambda: plots.image_grid(np.zeros((3, 4, 4))), "images: expected shape"),
        (
            lambda: plots.image_grid(np.zeros((2, 2, 3, 3)), labels=("a",)),
            "labels: expected one label for each of 2 rows",
        ),
        (lambda: plots.latent_map(np.zeros((3, 3)), *good[1:]), r"latents: expected shape \(examples, 2\)"),
        (lambda: plots.latent_map(good[0], np.arange(2), *good[2:]), "and one label each"),
        (lambda: plots.latent_map(good[0] * np.nan, *good[1:]), "latents: expected finite numbers"),
        (
            lambda: plots.latent_map(*good, names=("a", "b")),
            "names: expected one name for each of classes 0 to 2, got 2",
        ),
        (lambda: plots.latent_map(*good[:3], 0.0), "span: expected a number in"),
        (lambda: plots.latent_map(*good[:2], np.zeros((2, 2)), 1.0), "decoded: expected shape"),
        (lambda: plots.latent_map(np.zeros((13, 2)), np.arange(13), *good[2:]), "expected at most 12 classes, got 13"),
    ):
        with pytest.raises(ValueError, match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
