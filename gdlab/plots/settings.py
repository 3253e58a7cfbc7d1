"""One picture of what a sweep, a scan or many trainings found, chosen by the number of hyperparameters."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gdlab.analysis.importance import importances
from gdlab.analysis.landscapes import Axis, Landscape, landscape
from gdlab.analysis.statistics import Better
from gdlab.plots.checks import require_texts
from gdlab.plots.parallel import draw_parallel
from gdlab.plots.scores import variable_name
from gdlab.plots.setting_curves import (
    draw_importance,
    draw_marginals,
    importance_entries,
    marginal_entries,
    marginals,
)
from gdlab.plots.setting_maps import setting_maps
from gdlab.plots.style import PALETTE


def settings(
    ds: xr.Dataset, variable: str, *, better: Better | None = None, title: str = "", label: str = ""
) -> Figure:
    """Draw how a result depends on the hyperparameters, in the picture that suits their number.

    One hyperparameter gives curves with bands over the seeds or starts (`marginals`), and a grid of two gives maps
    (`setting_maps`), each with one curve or map for every optimizer; more than twelve optimizers share one map. Three
    or more hyperparameters, and searches of two, give parallel coordinates (`parallel`) above the importance
    (`importance`) and the marginal curve of each. Axes are logarithmic where values are spread that way. In all of them
    dark is good, and runs that diverged are marked.

        ds = sweep(FUNCTIONS["ackley"], adam, sample_hyperparameters(ranges, 64), starts, max_steps=500)
        plots.save(plots.settings(ds, "value"), "settings.png")

    Args:
      ds: a dataset, as `gdlab.analysis.landscapes.landscape` takes it.
      variable: the name of the score.
      better: "lower" or "higher". Default None: "higher" for flags, such as `reached`, and otherwise "lower".
      title: the figure's title.
      label: the label of the scores. Default: the name of the variable.

    Returns:
      The figure.

    Raises:
      TypeError: if `ds` is no dataset.
      ValueError: if there is no such variable, it has a dimension of another kind, no hyperparameter has several
        values, or the dataset holds several functions, whose scores cannot be compared.
    """
    require_texts(title=title, label=label)
    found = landscape(ds, variable, better=better)
    if ds.sizes.get("function", 1) > 1 and "function" in ds[variable].dims:
        raise ValueError(
            f"ds: expected one function, since the scores of several have no common scale, got {ds.sizes['function']}; "
            "select one, as in ds.isel(function=0)"
        )
    if len(found.axes) == 1 and len(found.groups) > len(PALETTE) and (found.points == found.points[0]).all():
        return setting_maps(_by_optimizer(found), title=title, label=label)
    if len(found.axes) == 1:
        return marginals(found, title=title, label=label)
    if len(found.axes) == 2 and found.shape is not None:
        return setting_maps(found, title=title, label=label)
    return _overview(found, title, label)


def _by_optimizer(found: Landscape) -> Landscape:
    """Return the settings of many optimizers as a grid of the only hyperparameter and the optimizer."""
    order = np.argsort(found.points[0, :, 0])
    names = Axis("optimizer", np.arange(len(found.groups), dtype=float), False, found.groups)
    x, y = np.meshgrid(found.points[0, order, 0], names.values, indexing="ij")
    scores = found.scores[:, order].swapaxes(0, 1).reshape(1, x.size, -1)
    points = np.stack([x.ravel(), y.ravel()], axis=-1)[None]
    return found._replace(axes=(found.axes[0], names), groups=("",), points=points, scores=scores, shape=x.shape)


def _overview(found: Landscape, title: str, label: str) -> Figure:
    """Draw parallel coordinates, importance and marginals."""
    matter = importances(found)
    count = len(found.axes)
    across = min(count, 4)
    down = -(-count // across)
    width = max(1.7 * (count + 2), 2.6 * across + 3.4, 8.5)
    low = max(2.5 * down, 0.2 * count * len(found.groups) + 1.2)
    figure = Figure(figsize=(width, 4.0 + low), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(4.0, low))
    above, below = parts
    draw_parallel(above.add_subplot(), found, label=label)
    left, right = below.subfigures(1, 2, width_ratios=(3.4, 2.6 * across))
    draw_importance(left.add_subplot(), matter)
    left.legend(handles=importance_entries(matter), loc="outside upper left", frameon=False, fontsize=8)
    panels: Any = right.subplots(down, across, squeeze=False, sharey=True)
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    draw_marginals(list(panels.flat[:count]), found)
    for axes in panels[:, 0]:
        axes.set_ylabel(label or variable_name(found), fontsize=8)
    right.legend(handles=marginal_entries(found), loc="outside upper left", frameon=False, fontsize=8, ncols=3)
    figure.suptitle(title, fontsize=11)
    return figure
