"""SciPy's own methods without gradients, from the starts of a sweep and with its dataset as the result."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy  # loads scipy.optimize when it is used, which takes a third of a second
import xarray as xr

from gdlab.arguments import (
    require_callable,
    require_count,
    require_flag,
    require_names,
    require_number,
    require_scalar_function,
)
from gdlab.functions import Function
from gdlab.functions.function import as_corner
from gdlab.hyperparameters.factories import by_name
from gdlab.sweeps.space import lay_minimizers, lay_starts
from gdlab.types import NameTable
from gdlab.version import VERSION

Value = Callable[[np.ndarray], float]
Box = list[tuple[float, float]]


class _SpentError(Exception):
    """Raised by a function whose budget is spent, or at the target: SciPy's methods pass it on."""


@dataclasses.dataclass
class _Lane:
    """A function that counts its evaluations, and remembers its best point and when that first was at a minimizer."""

    fn: Callable[[Any], Any]
    dtype: Any
    budget: int
    minimizers: np.ndarray | None
    target: float
    stop_at_target: bool
    count: int = 0
    first: int = -1
    value: float = np.inf
    point: np.ndarray | None = None

    def near(self) -> bool:
        return self.minimizers is not None and bool(
            (((self.point - self.minimizers) ** 2).sum(axis=-1) <= self.target**2).any()
        )

    def __call__(self, x: np.ndarray) -> float:
        if self.count >= self.budget:
            raise _SpentError
        point = np.asarray(x, self.dtype)
        found = float(self.fn(point))
        value = np.inf if np.isnan(found) else found
        self.count += 1
        if self.point is None or value < self.value:
            self.value, self.point = (found if self.point is None else value), point.copy()
            if self.first < 0 and self.near():
                self.first = self.count - 1
                if self.stop_at_target:
                    raise _SpentError
        return value


def _nelder_mead(fn: Value, start: np.ndarray, box: Box, budget: int, seed: np.random.Generator) -> None:
    options = {"maxfev": budget, "maxiter": budget, "xatol": 0.0, "fatol": 0.0}
    scipy.optimize.minimize(fn, start, method="Nelder-Mead", options=options)


def _differential_evolution(fn: Value, start: np.ndarray, box: Box, budget: int, seed: np.random.Generator) -> None:
    scipy.optimize.differential_evolution(fn, box, x0=start, polish=False, maxiter=budget, tol=0.0, rng=seed)


def _dual_annealing(fn: Value, start: np.ndarray, box: Box, budget: int, seed: np.random.Generator) -> None:
    scipy.optimize.dual_annealing(fn, box, x0=start, maxiter=budget, maxfun=budget, rng=seed)


SCIPY_METHODS: NameTable[Callable[..., None]] = NameTable(
    "method of SciPy",
    {
        "nelder_mead": _nelder_mead,
        "differential_evolution": _differential_evolution,
        "dual_annealing": _dual_annealing,
    },
)
"""SciPy's methods that `sweep_scipy` runs, by name."""


def sweep_scipy(
    fn: Any,
    methods: Sequence[str],
    starts: Any,
    *,
    budget: int,
    lower: Any = None,
    upper: Any = None,
    seed: int = 0,
    target: float = 1e-2,
    minimizers: Any = None,
    stop_at_target: bool = False,
) -> xr.Dataset:
    """Run SciPy's methods from every start, and return a dataset such as `sweep` and `count_evaluations` return.

    This is the independent implementation beside which strategies are placed: a loop in Python that calls one compiled
    function at a time. SciPy's defaults hold, except that nothing stops before the budget is spent (tolerances are 0)
    and differential evolution does not polish its result by a gradient method. Dual annealing keeps its local searches,
    whose evaluations count. SciPy looks at one point after the other, so a round is an evaluation.

    Args:
      fn: a function of one point, or a `Function` of `gdlab.FUNCTIONS`; or a mapping from names to such functions,
        which gives the result the dimension "function".
      methods: names in `SCIPY_METHODS`.
      starts: points of shape (starts, dim), as in `sweep`, within the box.
      budget: the number of function evaluations from each start.
      lower: the lower corner of the box that differential evolution and dual annealing search, one number or one per
        coordinate. Default: that of the `Function`.
      upper: the upper corner, likewise.
      seed: with the number of the start, it gives SciPy's random numbers. Default 0.
      target: a point has reached a minimizer if it lies within this distance of it. Default 1e-2.
      minimizers: the minimizers, as in `sweep`.
      stop_at_target: whether runs stop there. Default False.

    Returns:
      A dataset with the dimensions "optimizer" (the methods), "function" (for a mapping) and "start", and the variables
      of `sweep` and `count_evaluations`: the best point so far, the evaluations and when it reached the target.

    Raises:
      TypeError: if a value is not of the expected type.
      ValueError: if a name is unknown, shapes do not fit, a start lies outside the box, or there is no box.
    """
    require_names("methods", methods, SCIPY_METHODS)
    require_count("budget", budget, low=2)
    require_count("seed", seed, low=0)
    require_number("target", target, 0.0, open_low=True)
    require_flag("stop_at_target", stop_at_target)
    named = isinstance(fn, Mapping)
    functions = by_name("fn", fn)
    points = lay_starts("starts", starts, list(functions), named)
    dim = points.shape[2]
    known = lay_minimizers(functions, minimizers, named, dim)
    boxes, plain = [], []
    for name, entry in functions.items():
        found = entry.fn if isinstance(entry, Function) else entry
        require_callable("fn", found)
        require_scalar_function("fn", found, jax.ShapeDtypeStruct((dim,), points.dtype))
        plain.append(found)
        boxes.append(_box(name, entry, lower, upper, dim))
    for each, (low, high) in zip(points, boxes, strict=True):
        if not ((each >= low) & (each <= high)).all():
            raise ValueError(f"starts: expected points in the box from {low} to {high}, got one outside")
    began = time.perf_counter()
    lanes = [
        [
            [
                _run(method, jax.jit(each), box, start, [seed, place], (budget, near, target, stop_at_target))
                for place, start in enumerate(points[place_of_function])
            ]
            for place_of_function, (each, box) in enumerate(zip(plain, boxes, strict=True))
            for near in [None if known is None else known[place_of_function]]
        ]
        for method in methods
    ]
    return _labelled(lanes, list(methods), list(functions) if named else None, points, known is not None, began)


def _box(name: str, entry: Any, lower: Any, upper: Any, dim: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(entry, Function):
        low, high = entry.bounds(dim)
        lower, upper = low if lower is None else lower, high if upper is None else upper
    if lower is None or upper is None:
        raise ValueError("lower, upper: expected the corners of the box to search, got None")
    low, high = as_corner("lower", lower, dim).astype(float), as_corner("upper", upper, dim).astype(float)
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ValueError(f"lower, upper: expected finite lower < upper for {name}, got {low} and {high}")
    return low, high


def _run(method: str, fn: Any, box: Any, start: np.ndarray, seed: list[int], limits: tuple[Any, ...]) -> _Lane:
    lane = _Lane(fn, start.dtype, *limits)
    box = list(zip(*box, strict=True))
    with contextlib.suppress(_SpentError):
        SCIPY_METHODS[method](lane, start.astype(float), box, lane.budget, np.random.default_rng(seed))
    return lane


def _labelled(
    lanes: Any, methods: list[str], functions: list[str] | None, starts: np.ndarray, aimed: bool, began: float
) -> xr.Dataset:
    dims = ("optimizer", *(("function",) if functions else ()), "start")

    def gathered(read: Callable[[_Lane], Any], dtype: Any, *tail: str) -> xr.Variable:
        array = np.array([[[read(one) for one in row] for row in block] for block in lanes], dtype)
        return xr.Variable((*dims, *tail), array if functions else array[:, 0])

    variables = {
        "value": gathered(lambda one: one.value, starts.dtype),
        "point": gathered(lambda one: one.point, starts.dtype, "coordinate"),
        "steps": gathered(lambda one: one.count - 1, np.int32),
        "converged": gathered(lambda one: False, bool),
        "diverged": gathered(lambda one: not np.isfinite(one.value), bool),
        "evaluations": gathered(lambda one: one.count, float),
        "rounds": gathered(lambda one: one.count - 1, float),
    }
    if aimed:
        variables |= {
            "reached": gathered(lambda one: one.near(), bool),
            "first_reached": gathered(lambda one: one.first, np.int32),
            "evaluations_to_target": gathered(lambda one: one.first + 1 if one.first >= 0 else np.inf, float),
            "rounds_to_target": gathered(lambda one: one.first if one.first >= 0 else np.inf, float),
        }
    coordinates: dict[str, Any] = {
        "optimizer": methods,
        "start": np.arange(starts.shape[1], dtype=np.int32),
        "coordinate": np.arange(starts.shape[2], dtype=np.int32),
        "start_point": (("function", "start", "coordinate"), starts)
        if functions
        else (("start", "coordinate"), starts[0]),
    }
    attributes = {
        "budget": next(iter(lanes))[0][0].budget,
        "seconds": time.perf_counter() - began,
        "dtype": str(starts.dtype),
        "gdlab": VERSION,
        "scipy": scipy.__version__,
    }
    return xr.Dataset(variables, coordinates | ({"function": functions} if functions else {}), attributes)
