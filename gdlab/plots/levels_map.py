"""The map of diagnostics: how many levels of each problem each optimizer solves."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from gdlab.arguments import require_strings
from gdlab.diagnostics import LEVELS, PROBLEMS
from gdlab.plots.canvas import as_drawn
from gdlab.plots.checks import require_texts
from gdlab.plots.heatmap import heatmap


def levels_map(
    levels: Float[np.ndarray, "problems optimizers"],
    problems: Sequence[str],
    optimizers: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """Draw how many of the four levels of each problem each optimizer solves.

    Args:
      levels: shape (problems, optimizers), between 0 and 4; fractions where only a part of the seeds is solved.
      problems: the names of the problems; a problem of `gdlab.diagnostics.PROBLEMS` is shown with its family.
      optimizers: the names of the optimizers.
      title: the figure's title.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes differ.

    Example:
      >>> ds = map_optimizer(adam)
      >>> figure = levels_map(ds.share.sum("level").values[:, None], list(ds.problem.values), ["adam"])
    """
    require_strings("problems", problems, expected="names")
    require_strings("optimizers", optimizers, expected="names")
    require_texts(title=title)
    levels = as_drawn("levels", levels, finite=False)
    shape = len(problems), len(optimizers)
    if levels.shape != shape or not levels.size:
        raise ValueError(f"levels: expected shape {shape} like the names, got {levels.shape}")
    families = {name: problem.family for name, problem in PROBLEMS.items()}
    return heatmap(
        levels,
        [f"{name}  ({families.get(name, 'own')})".replace("_", " ") for name in problems],
        optimizers,
        texts=[[f"{value:.1f}".rstrip("0").rstrip(".") for value in row] for row in levels],
        limits=(0.0, float(len(LEVELS))),
        title=title,
        label="levels solved",
        upright=True,
    )
