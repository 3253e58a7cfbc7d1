"""The frame of a surface in VisPy: its floor, and axes with ticks, which stay on the side that faces the camera."""

import math
import unicodedata
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from gdlab.plots.relief import Box

GREY, BLACK = "#8a8a8a", "#222222"
TICK = 0.04
"""The length of a tick; the box is 2 wide."""


def plain(text: str) -> str:
    """Return the text without small digits and letters, such as the 1 of x₁, which VisPy's font does not have."""
    return unicodedata.normalize("NFKC", text)


class Frame:
    """The axes of a box.

    Args:
      scene: the module `vispy.scene`.
      parent: the node of the scene that holds them.
      box: the box.
      labels: the labels of the three axes.
      pixel: the width of a thin line.
    """

    def __init__(self, scene: Any, parent: Any, box: Box, labels: tuple[str, str, str], pixel: int):
        self._box = box
        self._marks = [_ticks(box, axis) for axis in range(3)]
        self._side = (0.0, 0.0)
        across, deep, high = box.half
        corners = [(-across, -deep), (across, -deep), (across, deep), (-across, deep), (-across, -deep)]
        floor = np.array([(x, y, -high) for x, y in corners])
        scene.visuals.Line(floor, color=GREY, width=pixel, method="gl", antialias=True, parent=parent)
        self._ticks = scene.visuals.Line(color=GREY, width=pixel, method="gl", connect="segments", parent=parent)
        texts = [text for _, mark in self._marks for text in mark]
        text = {"color": BLACK, "parent": parent}
        self._numbers = scene.visuals.Text(texts, font_size=8, **text)
        self._names = scene.visuals.Text([plain(label) for label in labels], font_size=10, bold=True, **text)
        for visual in (self._numbers, self._names):
            visual.set_gl_state(depth_test=False)
            visual.order = 10

    def face(self, azimuth: float) -> None:
        """Move ticks and labels to the edges of the floor that face a camera at this angle, in degrees."""
        angle = math.radians(azimuth)
        side = (math.copysign(1, math.sin(angle)), -math.copysign(1, math.cos(angle)))
        if side == self._side:
            return
        self._side = side
        across, deep, high = self._box.half
        right, near = side
        # Where each axis begins, and the direction from there to its labels; the upright one is at the silhouette.
        if right * near < 0:
            upright = np.array([-right * across, near * deep, 0.0]), np.array([-right, near, 0.0]) * [1.0, 0.3, 1.0]
        else:
            upright = np.array([right * across, -near * deep, 0.0]), np.array([right, -near, 0.0]) * [0.3, 1.0, 1.0]
        axes = [
            (np.array([0.0, near * deep, -high]), np.array([0.0, near, 0.0])),
            (np.array([right * across, 0.0, -high]), np.array([right, 0.0, 0.0])),
            upright,
        ]
        ends, numbers, names = [], [], []
        for axis, ((at, out), (places, _)) in enumerate(zip(axes, self._marks, strict=True)):
            along = np.eye(3)[axis]
            on_axis = at + places[:, None] * along
            ends.append(np.stack([on_axis, on_axis + TICK * out], axis=1).reshape(-1, 3))
            numbers.append(on_axis + 3 * TICK * out)
            names.append(at + 7 * TICK * out)
        corner, up = axes[2][0], np.array([0.0, 0.0, high])
        ends.append(np.stack([corner - up, corner + up]))
        names[2] = corner + up + [0, 0, 3 * TICK]  # above the upright axis
        self._ticks.set_data(pos=np.concatenate(ends))
        self._numbers.pos = np.concatenate(numbers)
        self._names.pos = np.stack(names)


def _ticks(box: Box, axis: int) -> tuple[Float[np.ndarray, " ticks"], list[str]]:
    """Return where along an axis of the box round numbers are, and the numbers."""
    middle, scale, half = box.middle[axis], box.scale[axis], box.half[axis]
    low, high = middle - half / scale, middle + half / scale
    values = MaxNLocator(6).tick_values(low, high)
    values = values[(values >= low) & (values <= high)]
    return (values - middle) * scale, [f"{value:.6g}" for value in values]
