"""`gdlab explore FUNCTION`: computes the paths of optimizers over their hyperparameters, and makes a page of them."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from gdlab.arguments import as_numbers, require_count, require_names, require_number
from gdlab.functions import FUNCTIONS, Function
from gdlab.hyperparameters import given
from gdlab.optimizers import OPTIMIZERS
from gdlab.plots import interactive
from gdlab.plots.canvas import with_suffix
from gdlab.sweeps import BOXES, sweep

VARIED = {"momentum": (0.3, 0.5, 0.8, 0.9, 0.95, 0.99), "b1": (0.3, 0.5, 0.8, 0.9, 0.95, 0.99)}
"""The values of arguments that are swept beside the learning rate, if an optimizer has them."""


def explore_function(
    name: str,
    optimizers: Sequence[str],
    *,
    steps: int,
    starts: int,
    rates: tuple[float, float, int],
    vary: Sequence[str],
    box: tuple[float, float] | None,
    save: Path | None,
) -> Path:
    """Sweep each optimizer over its hyperparameters, and open or save the page; returns the file that was written.

    Args:
      name: the test function, of two variables or of any number.
      optimizers: the names of the optimizers.
      steps: the number of steps.
      starts: the number of starts, which fill the box evenly.
      rates: the lowest and the highest learning rate, and how many there are.
      vary: other arguments to sweep, each as NAME=VALUE,VALUE. Empty: `VARIED`.
      box: the lower and the upper end of both coordinates. None: the function's domain, or a part of it.
      save: the file. None: a temporary one, which is opened in the browser.
    """
    require_names("name", [name], FUNCTIONS)
    function = FUNCTIONS[name]
    if function.dim not in (None, 2):
        raise ValueError(f"name: expected a function of two variables, got {name} of {function.dim}")
    require_names("optimizers", optimizers, OPTIMIZERS)
    require_count("steps", steps)
    require_count("starts", starts)
    varied = _varied(vary, optimizers)
    learning_rates = _rates(rates)
    if save is not None:
        with_suffix(save, ".html")
    function, low, high = _in_box(function, BOXES.get(name) if box is None else box)
    points = qmc.scale(qmc.Sobol(2, rng=np.random.default_rng(0)).random(1 << (starts - 1).bit_length()), low, high)
    runs = {}
    for one in dict.fromkeys(optimizers):
        factory = given(OPTIMIZERS[one], total_steps=float(steps))
        axes = {"learning_rate": learning_rates} | {key: at for key, at in varied.items() if key in _arguments(one)}
        begin = points[:starts].astype(np.float32)
        runs[one] = sweep(function, factory, axes, begin, max_steps=steps, record="path", progress=False)
    page = interactive.explore(function, runs)
    if save is None:
        return interactive.show(page) or Path()
    interactive.save(page, save)
    return save


def _arguments(optimizer: str) -> Mapping[str, Any]:
    return inspect.signature(OPTIMIZERS[optimizer]).parameters


def _in_box(function: Function, box: Any) -> tuple[Function, np.ndarray, np.ndarray]:
    """Return the function with this box as its domain, and the corners of it."""
    low, high = function.bounds(2)
    if box is not None:
        ends = as_numbers("box", box, shape=(2,))
        if ends[0] >= ends[1]:
            raise ValueError(f"box: expected the lower end first, got {ends[0]:g} and {ends[1]:g}")
        low, high = (np.full(2, float(end)) for end in ends)
    return function._replace(lower=low, upper=high), low, high


def _rates(rates: tuple[float, float, int]) -> np.ndarray:
    low, high, count = rates
    require_number("rates", low, 0.0, open_low=True)
    require_number("rates", high, low)
    require_count("rates", count)
    return np.geomspace(low, high, count) if count > 1 else np.array([low])


def _varied(vary: Sequence[str], optimizers: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the values of the arguments to sweep; raise unless one of the optimizers has each that was asked for."""
    found: dict[str, np.ndarray] = {}
    for text in vary:
        key, equals, values = text.partition("=")
        try:
            found[key] = as_numbers("vary", [float(value) for value in values.split(",")])
        except ValueError:
            raise ValueError(f"vary: expected NAME=NUMBER,NUMBER,..., got {text!r}") from None
        if not equals or not any(key in _arguments(one) for one in optimizers):
            raise ValueError(f"vary: expected an argument of {', '.join(optimizers)}, got {key!r}")
    return found or {key: np.array(values) for key, values in VARIED.items()}
