"""What a generative model has learned: grids of images, and its latent plane."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.plots.style import PALETTE


def image_grid(
    images: Float[np.ndarray, "rows columns height width"], *, title: str = "", labels: Sequence[str] = ()
) -> Figure:
    """Grey images in rows and columns, white on black; labels: of the rows, from the top.

    Raises ValueError where the images are not laid out so, or the labels are not one a row.
    """
    images = np.asarray(images)
    if images.ndim != 4 or min(images.shape) < 1:
        raise ValueError(f"images: wanted shape (rows, columns, height, width), got {images.shape}")
    rows, columns, height, width = images.shape
    if labels and len(labels) != rows:
        raise ValueError(f"labels: wanted one for each of {rows} rows, got {len(labels)}")
    figure = Figure(figsize=(0.6 * columns + (1.2 if labels else 0.4), 0.6 * rows * height / width + 0.6))
    figure.set_layout_engine("constrained")
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
    """Left, where examples lie in the latent plane, coloured by class; right, what the decoder makes of the plane.

    decoded: of a grid of latents, the first row that of the greatest second coordinate; span: the grid goes from -span
    to span both ways, a square that is drawn to the left too. names: of the classes; default their numbers. Each class
    has its name at its examples' median. Raises ValueError where shapes do not fit or there are more than 12 classes.
    """
    latents, labels, decoded = np.asarray(latents), np.asarray(labels), np.asarray(decoded)
    if latents.ndim != 2 or latents.shape[1] != 2 or labels.shape != latents.shape[:1]:
        raise ValueError(f"latents: wanted (examples, 2) and a label each, got {latents.shape} and {labels.shape}")
    if decoded.ndim != 4:
        raise ValueError(f"decoded: wanted shape (rows, columns, height, width), got {decoded.shape}")
    classes = np.unique(labels)
    if len(classes) > len(PALETTE):
        raise ValueError(f"labels: wanted at most {len(PALETTE)} classes, got {len(classes)}")
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, label in enumerate(classes):
        own = latents[labels == label]
        left.scatter(*own.T, s=5, alpha=0.55, color=PALETTE[place], lw=0, rasterized=True)
    for place, label in enumerate(classes):
        middle = np.median(latents[labels == label], axis=0)
        box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": PALETTE[place], "lw": 1.2, "alpha": 0.9}
        text = names[label] if names else str(label)
        left.text(*middle, text, ha="center", va="center", fontsize=10, color=PALETTE[place], weight="bold", bbox=box)
    reach = 1.05 * max(span, float(np.quantile(np.abs(latents), 0.995)))
    left.set_xlim(-reach, reach)
    left.set_ylim(-reach, reach)
    left.set_aspect("equal")
    left.plot([-span, span, span, -span, -span], [-span, -span, span, span, -span], color="0.3", lw=0.9, ls=(0, (4, 2)))
    left.set_xlabel("first latent (mean)")
    left.set_ylabel("second latent (mean)")
    left.spines[["top", "right"]].set_visible(False)
    left.set_title("test images, by class", fontsize=10)
    _tile(right, decoded)
    height, width = decoded.shape[0] * decoded.shape[2], decoded.shape[1] * decoded.shape[3]
    marks = (-span, 0.0, span)
    right.set_xticks([0, width / 2, width], [f"{mark:g}" for mark in marks])
    right.set_yticks([height, height / 2, 0], [f"{mark:g}" for mark in marks])
    right.set_xlabel("first latent")
    right.set_ylabel("second latent")
    right.set_title("decoded, the dashed square to the left", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _tile(axes: Axes, images: Float[np.ndarray, "rows columns height width"]) -> None:
    rows, columns, height, width = images.shape
    whole = images.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    axes.imshow(whole, cmap="gray", vmin=0, vmax=1, extent=(0, columns * width, rows * height, 0), interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
