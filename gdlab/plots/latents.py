"""Figures of what a generative model has learned: grids of images, and its latent plane."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.arguments import as_numbers, require_number, require_strings
from gdlab.plots.checks import LARGEST, as_drawn, require_texts
from gdlab.plots.style import PALETTE


def image_grid(
    images: Float[np.ndarray, "rows columns height width"], *, title: str = "", labels: Sequence[str] = ()
) -> Figure:
    """Draw gray images in rows and columns, white on black.

    Args:
      images: values from 0 (black) to 1 (white), of shape (rows, columns, height, width).
      title: the figure's title.
      labels: the labels of the rows, from the top. Default none.

    Returns:
      The figure.

    Raises:
      ValueError: if the images have another shape, or there is not one label per row.
    """
    require_texts(title=title)
    require_strings("labels", labels)
    images = as_numbers("images", images)
    if images.ndim != 4 or min(images.shape) < 1:
        raise ValueError(f"images: expected shape (rows, columns, height, width), got {images.shape}")
    rows, columns, height, width = images.shape
    if labels and len(labels) != rows:
        raise ValueError(f"labels: expected one label for each of {rows} rows, got {len(labels)}")
    margin = 0.15 + 0.085 * max(map(len, labels)) if labels else 0.0  # for letters of 9 points
    wide = max(0.6 * columns + margin, 0.1 * len(title)) + 0.1
    high = 0.6 * rows * height / width + (0.4 if title else 0.1)
    figure = Figure(figsize=(wide, high), layout="compressed")
    axes = figure.add_subplot()
    _tile(axes, images)
    if labels:
        axes.set_yticks([(row + 0.5) * height for row in range(rows)], labels, fontsize=9)
        axes.tick_params(length=0)
    axes.set_title(title, fontsize=11)
    return figure


def latent_map(
    latents: Float[np.ndarray, "examples 2"],
    labels: Int[np.ndarray, " examples"],
    decoded: Float[np.ndarray, "rows columns height width"],
    span: float,
    *,
    names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Draw where examples lie in a latent plane, and what the decoder makes of the plane.

    On the left, examples are colored by class. Each class has its name at the median of its examples, or beside it
    with a line to it where names would overlap. The 0.5% of the coordinates that are farthest from 0 may lie outside.
    On the right are the images decoded from a square grid of latents, which is drawn as a dashed square on the left.

    Args:
      latents: the latent coordinates of the examples.
      labels: the class numbers of the examples.
      decoded: the images decoded from a grid of latents. The first row has the greatest second coordinate.
      span: the grid extends from -span to span in both directions, in equal steps.
      names: the class names, by class number. Default: the numbers.
      title: the figure's title.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes do not fit, a latent is not finite, a class has no name, or there are more than 12
        classes.
    """
    require_texts(title=title)
    require_strings("names", names, expected="names")
    latents, labels = as_drawn("latents", latents, finite=False), as_numbers("labels", labels)
    decoded = as_numbers("decoded", decoded)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: expected class numbers, integers, got dtype {labels.dtype}")
    if latents.ndim != 2 or latents.shape[1] != 2 or labels.shape != latents.shape[:1] or not labels.size:
        raise ValueError(
            f"latents: expected shape (examples, 2) and one label each, got {latents.shape} and {labels.shape}"
        )
    require_number("span", span, 0.0, LARGEST, open_low=True)
    if decoded.ndim != 4 or not decoded.size:
        raise ValueError(f"decoded: expected shape (rows, columns, height, width), got {decoded.shape}")
    if not np.isfinite(latents).all():
        raise ValueError("latents: expected finite numbers, got some that are not")
    classes = np.unique(labels)
    if len(classes) > len(PALETTE):
        raise ValueError(f"labels: expected at most {len(PALETTE)} classes, got {len(classes)}")
    if names and not 0 <= classes.min() <= classes.max() < len(names):
        raise ValueError(
            f"names: expected one name for each of classes {classes.min()} to {classes.max()}, got {len(names)}"
        )
    figure = Figure(figsize=(11.0, 5.4), layout="compressed")
    left, right = figure.subplots(1, 2)
    reach = 1.05 * max(span, float(np.quantile(np.abs(latents), 0.995)))
    for place, label in enumerate(classes):
        own = latents[labels == label]
        left.scatter(*own.T, s=7, alpha=0.7, color=PALETTE[place], lw=0, rasterized=True)
    shown = [names[label] if names else str(label) for label in classes]
    middles = np.array([np.median(latents[labels == label], axis=0) for label in classes])
    # The size of a boxed text of 10 points in units of this axis, as measured on drawn figures, with a margin.
    size = 2 * reach * np.array([0.024 + 0.022 * max(map(len, shown)), 0.06])
    for place, (text, middle, spot) in enumerate(zip(shown, middles, _apart(middles, size), strict=True)):
        if not np.array_equal(spot, middle):
            left.plot(*zip(middle, spot, strict=True), color="white", lw=2.6)
            left.plot(*zip(middle, spot, strict=True), color=PALETTE[place], lw=1.2, marker="o", ms=4, markevery=[0])
        box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": PALETTE[place], "lw": 1.2, "alpha": 0.9}
        left.text(*spot, text, ha="center", va="center", fontsize=10, color=PALETTE[place], weight="bold", bbox=box)
    left.set_xlim(-reach, reach)
    left.set_ylim(-reach, reach)
    left.set_aspect("equal")
    left.plot([-span, span, span, -span, -span], [-span, -span, span, span, -span], color="0.3", lw=0.9, ls=(0, (4, 2)))
    left.set_xlabel("first latent (mean)")
    left.set_ylabel("second latent (mean)")
    left.spines[["top", "right"]].set_visible(False)
    left.set_title("test images by class", fontsize=10)
    _tile(right, decoded)
    height, width = decoded.shape[0] * decoded.shape[2], decoded.shape[1] * decoded.shape[3]
    marks = [f"{mark:g}".replace("-", "\N{MINUS SIGN}") for mark in (-span, 0.0, span)]
    across, down = decoded.shape[3] / 2, decoded.shape[2] / 2  # an image is decoded from the latents at its center
    right.set_xticks([across, width / 2, width - across], marks)
    right.set_yticks([height - down, height / 2, down], marks)
    right.set_xlabel("first latent")
    right.set_ylabel("second latent")
    right.set_title("decoded images of the dashed square", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _apart(points: Float[np.ndarray, "points 2"], size: Float[np.ndarray, "2"]) -> Float[np.ndarray, "points 2"]:
    """Move the centers of equal boxes little by little until no boxes overlap; boxes that touch no other stay."""
    spots = points.copy()
    for _ in range(200):
        still = True
        for one in range(len(spots)):
            for other in range(one):
                between = (spots[one] - spots[other]) / size
                axis = int(np.argmax(np.abs(between)))
                overlap = 1 - abs(between[axis])
                if overlap > 1e-6:
                    push = 0.5 * overlap * size[axis] * (1 if between[axis] >= 0 else -1)
                    spots[one, axis] += push
                    spots[other, axis] -= push
                    still = False
        if still:
            break
    return spots


def _tile(axes: Axes, images: Float[np.ndarray, "rows columns height width"]) -> None:
    rows, columns, height, width = images.shape
    whole = images.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    axes.imshow(whole, cmap="gray", vmin=0, vmax=1, extent=(0, columns * width, rows * height, 0), interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
