"""Figures from arrays. Static figures are matplotlib's, made without pyplot or any other global state.

Functions of two variables are in `surfaces`, many paths side by side in `panels`, and a race of them in `animation`.
Line plots are in `series`, those over epochs and seeds in `epochs`, and those over a hyperparameter in `scans`.
`settings` draws any dataset of a sweep or a scan, by the number of its hyperparameters; its parts are `setting_curves`,
`setting_maps` and `parallel`. Maps of planes are in `atlas`, shaded tables in `heatmap`, those of diagnostics in
`levels_map`, rank diagrams in `ranks`, scores under several conditions in `slopes`, and images from generative models
in `latents`. All share `canvas` and `style`.
`gdlab.plots.interactive` is imported by name: it makes a surface to turn, which needs the extra `interactive` (plotly)
or `vispy`, and the page on which the paths of a sweep are explored.
"""

from gdlab.plots.animation import race, write_gif
from gdlab.plots.atlas import Basins, Map, basins, maps
from gdlab.plots.canvas import levels, save, save_indexed
from gdlab.plots.epochs import learning, learning_panels, save_learning
from gdlab.plots.heatmap import heatmap
from gdlab.plots.latents import image_grid, latent_map
from gdlab.plots.levels_map import levels_map
from gdlab.plots.panels import panels
from gdlab.plots.parallel import parallel
from gdlab.plots.ranks import rank_diagram
from gdlab.plots.scans import interval_panels, loss_maps, score_map, sensitivity
from gdlab.plots.series import curve_panels, curves, draw_curves, profiles, values
from gdlab.plots.setting_curves import importance, marginals
from gdlab.plots.setting_maps import setting_maps
from gdlab.plots.settings import settings
from gdlab.plots.slopes import slopes
from gdlab.plots.style import PALETTE, line_style
from gdlab.plots.surfaces import contour, contour3d, paths, scatter, surface

__all__ = [
    "PALETTE",
    "Basins",
    "Map",
    "basins",
    "contour",
    "contour3d",
    "curve_panels",
    "curves",
    "draw_curves",
    "heatmap",
    "image_grid",
    "importance",
    "interval_panels",
    "latent_map",
    "learning",
    "learning_panels",
    "levels",
    "levels_map",
    "line_style",
    "loss_maps",
    "maps",
    "marginals",
    "panels",
    "parallel",
    "paths",
    "profiles",
    "race",
    "rank_diagram",
    "save",
    "save_indexed",
    "save_learning",
    "scatter",
    "score_map",
    "sensitivity",
    "setting_maps",
    "settings",
    "slopes",
    "surface",
    "values",
    "write_gif",
]
