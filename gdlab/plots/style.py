"""Twelve line styles that stay apart for every common kind of colour vision, and a pale ground for them to lie on."""

from typing import Any

from matplotlib.colors import LinearSegmentedColormap

PALETTE: tuple[str, ...] = (
    "#ad2679",
    "#50a64e",
    "#590b00",
    "#ff83d3",
    "#7c10ed",
    "#ff6307",
    "#55c1ff",
    "#a66b93",
    "#3d53ad",
    "#7f6911",
    "#c5b57e",
    "#462440",
)
"""Found by annealing for the largest least distance (OKLab) under normal, protan, deutan and tritan vision (Machado,
Oliveira & Fernandes 2009, full severity): at least 0.15 within a dash pattern, 0.075 overall."""

DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1, 1.1)))
"""Four colours are drawn solid, the next four dashed, the last four dotted."""

STAR = "#ffd500"
"""Fill of the star at a minimizer."""

GROUND = LinearSegmentedColormap.from_list("gdlab_ground", ["#55758a", "#8eabb9", "#c3d3da", "#e6edf0", "#fbfcfd"])
"""Low values dark, high values almost white: lines of the palette stand out on it."""


def line_style(index: int) -> dict[str, Any]:
    """Colour and dash pattern of the `index`-th series, for matplotlib's `plot`; from the thirteenth on they repeat."""
    place = index % len(PALETTE)
    return {"color": PALETTE[place], "linestyle": DASHES[place // 4]}
