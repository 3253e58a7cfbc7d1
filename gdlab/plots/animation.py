"""A race of descents as an animated GIF."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageColor

from gdlab.arguments import as_numbers, require_count, require_number
from gdlab.plots.canvas import with_suffix
from gdlab.plots.checks import as_tracks
from gdlab.plots.style import PALETTE, STAR
from gdlab.plots.surfaces import draw_tracks
from gdlab.records.files import atomic_path
from gdlab.types import Grid

Frames = UInt8[np.ndarray, "frames height width 3"]


def race(
    grid: Grid,
    paths: Mapping[str, Any],
    *,
    minimizers: Any = None,
    frames: int = 60,
    tail: int | None = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
    dpi: int = 100,
) -> Frames:
    """Draw several descents as the frames of a race: each frame shows all paths up to the same step.

    If there are no more steps than frames, every step is shown. Otherwise the steps shown are spaced quadratically,
    densely at the start, where most happens. A shorter path waits at its end.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      paths: the points of each descent, by name, as for `gdlab.plots.paths`.
      minimizers: global minimizers of shape (count, 2), drawn as stars. Default None.
      frames: the largest number of frames. Default 60.
      tail: how many of the latest steps stay visible. Default None: all.
      title: the figure's title.
      labels: the labels of the x and y axes.
      dpi: dots per inch. Default 100.

    Returns:
      Images for `write_gif`: uint8, of shape (at most frames, height, width, 3).

    Raises:
      ValueError: if no path has two points, or a number is out of range.
    """
    require_count("frames", frames, low=2)
    if tail is not None:
        require_count("tail", tail)
    require_number("dpi", dpi, 10.0)
    tracks = list(as_tracks(paths).values())
    longest = max((len(track) for track in tracks), default=0)
    if longest < 2:
        raise ValueError(f"paths: expected at least one path of two points or more, got {longest} points at most")
    figure, drawn = draw_tracks(grid, paths, minimizers=minimizers, title=title, labels=labels)
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    axes = figure.axes[0]
    clock = axes.text(0.02, 0.98, "", transform=axes.transAxes, va="top", fontsize=10, zorder=9)
    clock.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2})
    moving = sorted([*(line for lines in drawn for line in lines), clock], key=lambda artist: artist.get_zorder())
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    images = []
    for shown in _steps_shown(longest, frames):
        canvas.restore_region(background)
        for track, (edge, line, end) in zip(tracks, drawn, strict=True):
            now = min(shown, len(track) - 1)
            part = track[0 if tail is None else max(0, now - tail) : now + 1]
            edge.set_data(part[:, 0], part[:, 1])
            line.set_data(part[:, 0], part[:, 1])
            end.set_data(part[-1:, 0], part[-1:, 1])
        clock.set_text(f"step {shown}")
        for artist in moving:
            axes.draw_artist(artist)
        images.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return np.stack(images)


def _steps_shown(longest: int, frames: int) -> np.ndarray:
    last = longest - 1
    if last < frames:
        return np.arange(longest)
    dense = np.round(last * np.linspace(0, 1, frames) ** 2).astype(int)
    return np.unique(dense)


def _shared_palette(picture: Image.Image) -> Image.Image:
    """Return a palette of 256 colors of the last picture, with exactly those of the lines among them."""
    kept = (*PALETTE, STAR, "#000000", "#ffffff")
    exact = [channel for colour in kept for channel in ImageColor.getrgb(colour)]
    room = 256 - len(kept)
    colours = (picture.quantize(room, dither=Image.Dither.NONE).getpalette() or [])[: 3 * room]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*exact, *colours])
    return palette


def write_gif(path: str | Path, images: Frames, *, frames_per_second: float = 12.0, hold: float = 2.0) -> None:
    """Write images as a GIF that repeats endlessly, atomically.

    Args:
      path: the path of the file, with the suffix .gif.
      images: the frames, uint8, of shape (count, height, width, 3).
      frames_per_second: the speed. Default 12.
      hold: for how many more seconds the last frame is shown. Default 2.

    Raises:
      TypeError: if the images are not of uint8.
      ValueError: if the images have another shape, the path another suffix, or a number is out of range.
    """
    target = with_suffix(path, ".gif")
    require_number("frames_per_second", frames_per_second, 0.0, open_low=True)
    require_number("hold", hold, 0.0)
    shown = as_numbers("images", images)
    if shown.ndim != 4 or shown.size == 0 or shown.shape[-1] != 3:
        raise ValueError(f"images: expected frames of shape (count, height, width, 3), got shape {shown.shape}")
    if shown.dtype != np.uint8:
        raise TypeError(f"images: expected frames of dtype uint8, from 0 to 255, got dtype {shown.dtype}")
    pictures = [Image.fromarray(image) for image in shown]
    palette = _shared_palette(pictures[-1])
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [round(1000 / frames_per_second)] * len(drawn)
    durations[-1] += round(1000 * hold)
    with atomic_path(target) as temporary:
        drawn[0].save(temporary, format="GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0)
