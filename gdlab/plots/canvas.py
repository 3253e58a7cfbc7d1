"""Shared parts of figures of functions and paths: files, levels and shades."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image, ImageColor
from scipy.spatial import KDTree

from gdlab.arguments import as_path, require_count, require_instance, require_number
from gdlab.plots.checks import as_drawn
from gdlab.plots.style import PALETTE, STAR
from gdlab.records.files import atomic_path


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure in the format of the path's suffix (png, pdf, svg), atomically.

    Args:
      figure: the figure.
      path: the path of the file.
      dpi: dots per inch. Default 150.

    Raises:
      TypeError: if `figure` is not a matplotlib figure.
      ValueError: if the path has no suffix, or that of no format, or if `dpi` is not positive.
    """
    require_instance("figure", figure, Figure, "a matplotlib figure")
    target = as_path("path", path)
    if not target.suffix:
        raise ValueError(f"path: expected a suffix that names the format, such as .png, got {str(path)!r}")
    with_suffix(target, *(f".{form}" for form in figure.canvas.get_supported_filetypes()))
    require_dpi(dpi)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=dpi)


def require_dpi(dpi: Any) -> None:
    """Raise unless `dpi` is a positive number."""
    require_number("dpi", dpi, 0.0, open_low=True)


def with_suffix(path: Any, *suffixes: str) -> Path:
    """Return the path of a file; raise unless its suffix is one of these, in lower or upper case."""
    file = as_path("path", path)
    if file.suffix.lower() not in suffixes:
        expected = f"the suffix {suffixes[0]}" if len(suffixes) == 1 else f"one of the suffixes {' '.join(suffixes)}"
        raise ValueError(f"path: expected {expected}, got {str(path)!r}")
    return file


def save_indexed(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as a PNG of 256 colors, atomically; the file is a third as large as that of `save`.

    The colors are those of the palette, that of the stars, and the most frequent others. Every other color becomes
    the nearest of them, which changes only the soft edges of lines and letters.

    Args:
      figure: the figure.
      path: the path of the file, with the suffix .png.
      dpi: dots per inch. Default 150.

    Raises:
      ValueError: if the path has another suffix.
    """
    require_instance("figure", figure, Figure, "a matplotlib figure")
    target = with_suffix(path, ".png")
    require_dpi(dpi)
    with atomic_path(target) as temporary:
        save(figure, temporary, dpi)
        picture = Image.open(temporary).convert("RGB")
        codes, places, counts = np.unique(
            np.asarray(picture) @ np.array([65536, 256, 1]), return_inverse=True, return_counts=True
        )
        colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
        kept = np.array([ImageColor.getrgb(colour) for colour in (*PALETTE, STAR)])
        frequent = colours[np.argsort(-counts, kind="stable")]
        palette = np.vstack([kept, frequent])[:256]
        nearest = KDTree(palette).query(colours)[1].astype(np.uint8)
        indexed = Image.fromarray(nearest[places].reshape(picture.height, picture.width))
        indexed.putpalette(palette.astype(np.uint8).tobytes())
        indexed.save(temporary, optimize=True)


def levels(z: Float[np.ndarray, "ny nx"], count: int = 12) -> Float[np.ndarray, " levels"]:
    """Return about `count` contour levels at round values, with the lowest and the highest value at the ends.

    If values are skewed, levels are at round distances from the lowest value, spaced logarithmically. Values are
    skewed if half of them lie within the lowest tenth of their range, as in Rosenbrock's valley.

    Args:
      z: the values on a grid. Values that are not finite are left out.
      count: about how many levels to return. Default 12.

    Returns:
      The levels, ascending.

    Raises:
      ValueError: if no value is finite, or a finite one is too large to draw.
    """
    require_count("count", count)
    z = as_drawn("z", z, finite=False)
    z = z[np.isfinite(z)]
    if z.size == 0:
        raise ValueError("z: expected at least one finite value, got none")
    low, high = float(z.min()), float(z.max())
    if high <= low:
        return np.array([low, low + max(abs(low), 1.0)])
    above = z - low
    if np.median(above) >= 0.1 * (high - low):
        inner = np.asarray(MaxNLocator(count).tick_values(low, high))
    else:
        smallest = max(float(np.quantile(above[above > 0], 0.002)), 1e-6 * (high - low))
        decades = np.arange(np.floor(np.log10(smallest)), np.ceil(np.log10(high - low)) + 1)
        steps = (1, 2, 5) if decades.size < count / 3 else (1, 3) if decades.size < count else (1,)
        marks = np.outer(10.0**decades, steps).ravel()
        inner = low + marks[marks >= smallest]
        if np.sum(inner < high) < 3:  # few distinct values, as for a step function
            inner = np.asarray(MaxNLocator(count).tick_values(low, high))
    return np.concatenate([[low], inner[(inner > low) & (inner < high)], [high]])


def _text(value: float, gap: float) -> str:
    """Format `value` with enough digits to distinguish it from a neighbor at distance `gap`, and at least two."""
    digits = 2 if value == 0 or gap <= 0 else max(2, math.ceil(math.log10(abs(value) / gap)) + 1)
    if 10 ** (digits - 1) <= abs(value) < 1e6 or (100 <= abs(value) < 1e5 and digits <= 3):
        return f"{value:.0f}"
    return f"{value:.{min(digits, 15)}g}"


def value_format(at: Float[np.ndarray, " levels"]) -> FuncFormatter:
    """Return a format for values among `at`, each with the digits that distinguish it from its nearest neighbor."""
    gaps = np.diff(at)
    nearest = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
    scale = 1e-9 * float(np.abs(at).max())

    def text(value: float, position: Any = None) -> str:
        index = int(np.argmin(np.abs(at - value)))
        return _text(0.0 if abs(value) <= scale else value, float(nearest[index]))

    return FuncFormatter(text)


def masked(z: Float[np.ndarray, "ny nx"]) -> Any:
    """Mask the values that are not finite, so that they stay blank."""
    return np.ma.masked_invalid(z)


def banded(at: np.ndarray) -> BoundaryNorm:
    """Return a norm that gives each band between levels one shade, whatever its width."""
    return BoundaryNorm(at, 256)
