"""A surface with descents on it that VisPy draws: a window whose camera turns around it, or a picture.

A graphics card draws it, or Mesa's software where there is none. It needs the extra `vispy`
(`pip install 'gdlab[vispy]'`).
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps
from PIL import Image

from gdlab.arguments import as_path, require_count, require_number
from gdlab.plots.canvas import value_format
from gdlab.plots.frame import BLACK, Frame, plain
from gdlab.plots.relief import AZIMUTH, ELEVATION, Trail, box_of, extent, shades, triangles
from gdlab.plots.screens import FINER, blank_canvas, import_vispy
from gdlab.plots.style import PALETTE
from gdlab.plots.surfaces import SURFACE_MAP
from gdlab.records.files import atomic_path
from gdlab.types import Grid

PAUSE = 0.01
"""Seconds between two looks at the mouse and the keys of a window."""

KEYS = "space and → play a step, ← takes it back, Home and End go to the first and the last"


class Turntable:
    """A surface, its axes and the descents on it, seen by a camera that turns around it.

    `gdlab.plots.interactive.surface` makes it.

    Attributes:
      most: the number of steps of the longest descent.
      steps: the number of steps that are drawn of each descent.
    """

    def __init__(self, grid: Grid, trails: Mapping[str, Trail], title: str, labels: tuple[str, str, str]):
        scene = import_vispy()
        self._shown = self._closed = False
        self.most = max((trail.marks.size - 1 for trail in trails.values()), default=0)
        self._canvas, self._windowed = blank_canvas(
            title=": ".join(part for part in (title or "gdlab", KEYS if trails else "") if part),
            keys={
                "Space": self._next,
                " ": self._next,  # as glfw names it
                "Right": lambda: self.play(self.steps + 1),
                "Left": lambda: self.play(max(self.steps - 1, 0)),
                "Home": lambda: self.play(0),
                "End": lambda: self.play(self.most),
                "Escape": self._leave,
            },
        )
        pixel = 1 if self._windowed else FINER
        across = self._canvas.central_widget.add_grid()
        self._view = across.add_view(row=0, col=0)
        camera = scene.cameras.TurntableCamera(
            fov=30, azimuth=AZIMUTH, elevation=ELEVATION, scale_factor=3.4, center=(0, 0, 0.1)
        )
        camera.depth_value = 10.0  # 16 bits of depth must tell a path from the ground close below it
        self._view.camera = camera
        box, space = box_of(grid), self._view.scene
        points, faces = triangles(grid)
        mesh = scene.visuals.Mesh(box.place(points), faces, shades(grid, box, SURFACE_MAP), parent=space)
        mesh.set_gl_state(depth_test=True, polygon_offset_fill=True, polygon_offset=(4, 4))  # behind dots on a slope
        self._frame = Frame(scene, space, box, labels, pixel)
        placed = [Trail(box.place(trail.points), trail.marks) for trail in trails.values()]
        self._descents = [_Descent(scene, space, trail, index, pixel) for index, trail in enumerate(placed)]
        _write(scene, self._canvas.scene, title, list(trails), pixel)
        across.add_widget(_colour_bar(scene, extent(grid), pixel), row=0, col=1)
        camera.transform.changed.connect(lambda event: self._frame.face(camera.azimuth))
        self._frame.face(camera.azimuth)
        self.play(self.most)

    def turn(self, azimuth: float | None = None, elevation: float | None = None) -> None:
        """Move the camera around the surface.

        Args:
          azimuth: the direction in which the camera stands, in degrees from the front, to the right. None, the
            default: as it is.
          elevation: its height in degrees: 0 is that of the middle of the surface, and 90 is above it. None, the
            default: as it is.
        """
        camera = self._view.camera
        if azimuth is not None:
            require_number("azimuth", azimuth)
            camera.azimuth = float(azimuth)
        if elevation is not None:
            require_number("elevation", elevation, -90.0, 90.0)
            camera.elevation = float(elevation)

    def play(self, steps: int) -> None:
        """Draw the first `steps` steps of each descent."""
        require_count("steps", steps, low=0)
        self.steps = min(int(steps), self.most)
        for descent in self._descents:
            descent.draw(self.steps)
        self._canvas.update()

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return what the camera sees."""
        self._require_open()
        seen = self._canvas.render(alpha=False)
        if self._windowed:
            return np.asarray(seen)
        fine = seen.reshape(seen.shape[0] // FINER, FINER, seen.shape[1] // FINER, FINER, 3)
        return fine.mean(axis=(1, 3)).round().astype(np.uint8)

    def save(self, path: str | Path) -> None:
        """Write what the camera sees as a PNG file, atomically."""
        with atomic_path(as_path("path", path)) as temporary:
            Image.fromarray(self.picture()).save(temporary, format="png")

    def show(self) -> None:
        """Open the window, and return when it is closed.

        Raises:
          OSError: if there is no display.
        """
        if not self._windowed:
            raise OSError("figure: expected a display for its window, got none; save it as FILE.png instead")
        self._require_open()
        self._canvas.events.close.connect(self._leave)
        self._shown = True
        self._canvas.show()
        while self._shown:
            self._canvas.app.process_events()
            time.sleep(PAUSE)
        self.close()  # here, because glfw must not destroy a window while it handles a key

    def close(self) -> None:
        """Close the window, or free the memory of the picture."""
        self._closed = True
        self._canvas.close()

    def _next(self) -> None:
        self.play(0 if self.steps == self.most else self.steps + 1)

    def _leave(self, event: Any = None) -> None:
        self._shown = False

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("figure: expected an open one, got one that was closed; draw it again")


class _Descent:
    """The line of a descent, with a white edge, and dots at its points, the last of which is larger."""

    def __init__(self, scene: Any, parent: Any, trail: Trail, index: int, pixel: int):
        self._trail, self._pixel = trail, pixel
        self._colour = PALETTE[index % len(PALETTE)]
        lines = {"method": "gl", "antialias": True, "parent": parent}
        self._lines = [
            scene.visuals.Line(width=6 * pixel, color="white", **lines),
            scene.visuals.Line(width=3.5 * pixel, color=self._colour, **lines),
        ]
        # Edges hide no line, not even one that is a little behind them.
        for line, hides in zip(self._lines, (False, True), strict=True):
            line.set_gl_state("translucent", depth_test=True, depth_func="lequal", depth_mask=hides)
        self._dots = scene.visuals.Markers(parent=parent)
        for order, visual in enumerate([*self._lines, self._dots], 1):
            visual.order = order

    def draw(self, steps: int) -> None:
        """Draw the first `steps` steps."""
        points, marks = self._trail.first(steps)
        seen = np.isfinite(points).all(axis=1)
        joined = np.append(seen[:-1] & seen[1:], False)  # a descent that leaves the grid and comes back has a gap
        for line in self._lines:
            line.visible = bool(joined.any())
            if line.visible:
                line.set_data(np.nan_to_num(points), connect=joined)
        own = points[marks[seen[marks]]]
        self._dots.visible = bool(own.size)
        if self._dots.visible:
            last = np.arange(len(own)) == len(own) - 1
            sizes, edges = (self._pixel * np.where(last, *pair) for pair in ((11.0, 6.0), (1.5, 0.0)))
            self._dots.set_data(own, size=sizes, face_color=self._colour, edge_color="white", edge_width=edges)


def _write(scene: Any, parent: Any, title: str, names: list[str], pixel: int) -> None:
    """Write the title, and below it each name in the color of its descent, in the upper left corner."""
    text = {"anchor_x": "left", "anchor_y": "center", "parent": parent}
    if title:
        scene.visuals.Text(plain(title), pos=(18 * pixel, 24 * pixel), font_size=13, bold=True, color=BLACK, **text)
    for index, name in enumerate(names):
        at = (18 * pixel, (48 + 18 * index) * pixel)
        scene.visuals.Text(plain(f"— {name}"), pos=at, font_size=9, color=PALETTE[index % len(PALETTE)], **text)


def _colour_bar(scene: Any, limits: tuple[float, float], pixel: int) -> Any:
    from vispy.color import Colormap

    colours = Colormap(colormaps[SURFACE_MAP](np.linspace(0, 1, 64)))
    ends = tuple(map(value_format(np.array(limits)), limits))
    bar = scene.widgets.ColorBarWidget(colours, "right", clim=ends, label_color=BLACK, border_width=0)
    bar.width_max = 130 * pixel
    return bar
