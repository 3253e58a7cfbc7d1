"""Twelve line styles that are distinct for every common kind of color vision, and a pale background for them."""

from typing import Any

from matplotlib.colors import LinearSegmentedColormap

from gdlab.arguments import require_count

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
"""Colors found by simulated annealing, to maximize the smallest distance in OKLab between any two of them.

The distance is taken under normal, protan, deutan and tritan vision (Machado, Oliveira and Fernandes 2009, at full
severity). It is at least 0.15 between colors with the same dash pattern, and 0.075 between any two.
"""

DARK_PALETTE: tuple[str, ...] = (
    "#f489ff",
    "#92cf97",
    "#8e9830",
    "#d8ff31",
    "#b859fa",
    "#fbc513",
    "#b3faff",
    "#63bbbb",
    "#90dfff",
    "#8fb805",
    "#f9de90",
    "#d96fe2",
)
"""The colors of the same series on a dark page, found in the same way with the same distances."""

DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1, 1.1)))
"""Dash patterns: the first four colors are drawn solid, the next four dashed, the last four dotted."""

STAR = "#ffd500"
"""Fill color of the star at a minimizer."""

GROUND = LinearSegmentedColormap.from_list("gdlab_ground", ["#55758a", "#8eabb9", "#c3d3da", "#e6edf0", "#fbfcfd"])
"""Color map from dark for low values to almost white for high ones; lines of the palette stand out on it."""

DARK_GROUND = LinearSegmentedColormap.from_list(
    "gdlab_dark_ground", ["#0b1116", "#1a242c", "#27333d", "#34434e", "#41545f"]
)
"""The color map of a dark page, on which lines of the dark palette stand out."""


def line_style(index: int) -> dict[str, Any]:
    """Return the color and dash pattern of the `index`-th series, for matplotlib's `plot`.

    Styles repeat from the thirteenth series on.
    """
    require_count("index", index, low=0)
    place = index % len(PALETTE)
    return {"color": PALETTE[place], "linestyle": DASHES[place // 4]}
