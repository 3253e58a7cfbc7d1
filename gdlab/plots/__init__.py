"""Pictures: arrays in, figure out. Static ones are matplotlib's, without pyplot or any other global state.

The interactive surface, `gdlab.plots.interactive.surface`, needs the extra `interactive` and is imported by name.
"""

from gdlab.plots.atlas import Basins, Map, basins, maps
from gdlab.plots.latent import image_grid, latent_map
from gdlab.plots.learning import learning, learning_panels
from gdlab.plots.overview import heatmap, panels, save_indexed
from gdlab.plots.race import race, write_gif
from gdlab.plots.ranks import critical_difference
from gdlab.plots.scan import loss_maps, sensitivity
from gdlab.plots.static import contour, contour3d, curves, draw_curves, levels, paths, save, scatter, surface, values
from gdlab.plots.style import PALETTE, line_style

__all__ = [
    "PALETTE",
    "Basins",
    "Map",
    "basins",
    "contour",
    "contour3d",
    "critical_difference",
    "curves",
    "draw_curves",
    "heatmap",
    "image_grid",
    "latent_map",
    "learning",
    "learning_panels",
    "levels",
    "line_style",
    "loss_maps",
    "maps",
    "panels",
    "paths",
    "race",
    "save",
    "save_indexed",
    "scatter",
    "sensitivity",
    "surface",
    "values",
    "write_gif",
]
