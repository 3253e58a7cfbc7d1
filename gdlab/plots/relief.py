"""A surface in space as arrays: its triangles and shades, and descents that are draped over it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from scipy.interpolate import RegularGridInterpolator

from gdlab.types import Grid

LIFT = 0.01
"""How far paths are above the surface, in ranges of its values; a path on it would be half hidden."""

AZIMUTH, ELEVATION = -35.0, 32.0
"""Where the camera stands at first, in degrees: to the right of the front, and up."""

LIGHT = np.array([-0.5, -0.3, 0.81])
"""The direction of the light that shows the slopes, of length 1."""

SHADE = 0.35
"""The part of a color that depends on the light."""


class Trail(NamedTuple):
    """A descent on a surface.

    Attributes:
      points: points close to each other along the descent, each with its height; NaN outside the grid.
      marks: where in `points` the descent's own points are.
    """

    points: Float[np.ndarray, "count 3"]
    marks: Int[np.ndarray, " steps"]

    def first(self, steps: int) -> "Trail":
        """Return the part from the start to the point after that many steps."""
        marks = self.marks[: steps + 1]
        return Trail(self.points[: marks[-1] + 1], marks)


def extent(grid: Grid) -> tuple[float, float]:
    """Return the smallest and the largest finite value."""
    finite = grid.z[np.isfinite(grid.z)]
    return float(finite.min()), float(finite.max())


def drape(grid: Grid, tracks: Mapping[str, np.ndarray]) -> dict[str, Trail]:
    """Lay descents over a surface, so that a long step follows the ground between its two ends.

    Args:
      grid: the surface, in which heights are interpolated.
      tracks: the points of each descent, of shape (count, 2), by name.

    Returns:
      The trails, by name; they are above the surface by `LIFT`.
    """
    low, high = extent(grid)
    ground = RegularGridInterpolator((grid.y, grid.x), grid.z, bounds_error=False, fill_value=np.nan)
    cell = np.array([np.abs(np.diff(at)).min() for at in (grid.x, grid.y)])
    trails = {}
    for name, track in tracks.items():
        with np.errstate(over="ignore", invalid="ignore"):  # a descent may have diverged
            steps = np.diff(track, axis=0)
            cells = np.nan_to_num(np.abs(steps / cell).max(axis=1), nan=1.0)
            pieces = np.ceil(np.clip(cells, 1, max(grid.z.shape))).astype(int)
            marks = np.concatenate([[0], np.cumsum(pieces)])
            within = np.arange(marks[-1]) - np.repeat(marks[:-1], pieces)
            moved = np.repeat(steps / pieces[:, None], pieces, axis=0) * within[:, None]
            between = np.repeat(track[:-1], pieces, axis=0) + np.where(within[:, None] > 0, moved, 0.0)
            flat = np.concatenate([between, track[-1:]])
        points = np.column_stack([flat, ground(flat[:, ::-1]) + LIFT * (high - low)])
        trails[name] = Trail(np.where(np.isnan(points[:, 2:]), np.nan, points), marks)
    return trails


class Box(NamedTuple):
    """The box in which a surface is drawn: 2 wide along the longer side, and centered above the origin.

    Attributes:
      middle: the point of the data that is drawn at the middle of the box.
      scale: the size of one unit of the data along each axis, as it is drawn.
      half: half of the size of the box along each axis, as it is drawn.
    """

    middle: Float[np.ndarray, "3"]
    scale: Float[np.ndarray, "3"]
    half: Float[np.ndarray, "3"]

    def place(self, points: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
        """Return where points of the data are drawn."""
        return (points - self.middle) * self.scale


def box_of(grid: Grid) -> Box:
    """Return the box of a surface, with the ratio of its sides unless one is more than twice the other."""
    ends = np.array([(grid.x.min(), grid.x.max()), (grid.y.min(), grid.y.max()), extent(grid)])
    size = ends[:, 1] - ends[:, 0]
    ratio = size[1] / size[0]
    ratio = ratio if 0.5 <= ratio <= 2 else 1.0
    half = np.array([min(1.0, 1 / ratio), min(1.0, ratio), 0.5])
    return Box(ends.mean(axis=1), 2 * half / np.where(size > 0, size, 1.0), half)


def triangles(grid: Grid) -> tuple[Float[np.ndarray, "count 3"], Int[np.ndarray, "faces 3"]]:
    """Return the points of a surface and its triangles, without those that have a value that is not finite."""
    x, y = np.meshgrid(grid.x, grid.y)
    points = np.stack([x, y, grid.z], axis=-1).reshape(-1, 3)
    number = np.arange(grid.z.size).reshape(grid.z.shape)
    here, right, above, across = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = np.stack([here, right, across, here, across, above], axis=-1).reshape(-1, 3)
    return np.nan_to_num(points, posinf=0.0, neginf=0.0), faces[np.isfinite(points[faces, 2]).all(axis=1)]


def shades(grid: Grid, box: Box, colours: str) -> Float[np.ndarray, "count 3"]:
    """Return the color of each point of a surface: that of its value, darker on slopes away from a fixed light."""
    low, high = extent(grid)
    z = np.where(np.isfinite(grid.z), grid.z, low)
    along_y, along_x = np.gradient(z * box.scale[2], grid.y * box.scale[1], grid.x * box.scale[0])
    normals = np.stack([-along_x, -along_y, np.ones_like(z)], axis=-1)
    light = np.clip(normals @ LIGHT / np.linalg.norm(normals, axis=-1), 0.0, 1.0)
    colour = colormaps[colours]((z - low) / ((high - low) or 1.0))[..., :3]
    return (colour * (1 - SHADE + SHADE * light)[..., None]).reshape(-1, 3)
