"""The paths that sweeps have recorded, gathered by optimizer: every setting from every start."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from gdlab.arguments import require_instance, require_mapping

OWN = ("start", "step", "coordinate")
"""The dimensions of a recorded path; every other one, except for the optimizer and the function, is a setting's."""

OUTCOMES = ("all steps done", "converged after step", "diverged after step", "at a minimizer, first after step")
"""How a descent can end; all but the first are followed by a step."""

EXPECTED = 'a dataset of gdlab.sweep(..., record="path"), or a mapping from names to such datasets'


class Recording(NamedTuple):
    """All paths of one optimizer.

    Attributes:
      axes: the swept axes by name, and for each of them the labels of its values.
      points: the points, of shape (*axes, starts, steps, 2).
      values: the values there, of shape (*axes, starts, steps).
      steps: the steps that were recorded.
      ends: the step that belongs to the outcome of each descent, or 0 if it is not known.
      outcomes: how each descent ended, as an index into `OUTCOMES`.
    """

    axes: dict[str, list[str]]
    points: Float[np.ndarray, "*axes starts steps 2"]
    values: Float[np.ndarray, "*axes starts steps"]
    steps: Int[np.ndarray, " steps"]
    ends: Int[np.ndarray, "*axes starts"]
    outcomes: Int[np.ndarray, "*axes starts"]

    def ranks(self, axis: str) -> Int[np.ndarray, " positions"]:
        """Return the rank of each position along an axis: by the least median of the last values over all starts."""
        last = np.where(np.isfinite(self.values[..., -1]), self.values[..., -1], np.inf)
        medians = np.quantile(last, 0.5, axis=-1, method="lower")  # one of the values, as a mean has no place for inf
        others = tuple(i for i, name in enumerate(self.axes) if name != axis)
        return np.argsort(np.argsort(medians.min(axis=others), kind="stable"))


def as_recordings(runs: Any) -> dict[str, Recording]:
    """Return the paths of each optimizer by name; raise unless all are of two variables and from the same starts."""
    if isinstance(runs, xr.Dataset):
        found = _by_optimizer("runs", runs)
    else:
        require_instance("runs", runs, Mapping, EXPECTED)
        require_mapping("runs", runs, "from names to datasets", least=1)
        found = {}
        for key, each in runs.items():
            entry = f"runs[{key!r}]"
            require_instance(entry, each, xr.Dataset, 'a dataset of gdlab.sweep(..., record="path")')
            inner = _by_optimizer(entry, each)
            found |= {str(key) if len(inner) == 1 else f"{key} {name}": one for name, one in inner.items()}
    _require_alike(found)
    return found


def _by_optimizer(entry: str, runs: xr.Dataset) -> dict[str, Recording]:
    runs = _require_paths(entry, runs)
    if "optimizer" not in runs.dims:
        return {str(runs.attrs.get("factory", "optimizer")): _recording(runs)}
    names = runs.optimizer.values if "optimizer" in runs.coords else range(runs.sizes["optimizer"])
    return {str(name): _recording(runs.isel(optimizer=i)) for i, name in enumerate(names)}


def _require_paths(entry: str, runs: xr.Dataset) -> xr.Dataset:
    """Return the dataset with the dimensions of paths alone; raise if it holds no paths or several functions."""
    if "point" not in runs and any(str(name).startswith("point/") for name in runs):
        raise ValueError(f"{entry}: expected paths of a function of two variables, got points that are trees")
    if not {"point", "value"} <= set(runs) or not {"step", "coordinate"} <= set(runs.point.dims):
        raise ValueError(
            f'{entry}: expected paths, as sweep(..., record="path") returns, got a dataset with '
            f"{', '.join(map(str, runs)) or 'no variables'} along {', '.join(map(str, runs.dims)) or 'no dimensions'}"
        )
    if runs.sizes["coordinate"] != 2:
        got = runs.sizes["coordinate"]
        raise ValueError(f"{entry}: expected paths of a function of two variables, got points of {got} coordinates")
    if runs.sizes.get("function", 1) > 1:
        names = ", ".join(map(str, runs.function.values))
        raise ValueError(f"{entry}: expected paths on one function, got {names}; select one by runs.sel(function=...)")
    if 0 in runs.sizes.values():
        raise ValueError(f"{entry}: expected at least one path, got the sizes {dict(runs.sizes)}")
    runs = runs.isel(function=0) if "function" in runs.dims else runs
    return runs if "start" in runs.dims else runs.expand_dims("start")


def _recording(runs: xr.Dataset) -> Recording:
    axes = [dim for dim in runs.point.dims if dim not in OWN]
    order = [*axes, "start", "step", "coordinate"]
    points = runs.point.transpose(*order).values.astype(float)
    values = runs.value.transpose(*order[:-1]).values.astype(float)
    steps = runs.step.values if "step" in runs.coords else np.arange(points.shape[-2])

    def each(name: str) -> np.ndarray:
        """Return a variable of one number per descent, or zeros if the dataset does not have it."""
        if name not in runs:
            return np.zeros(points.shape[:-2], int)
        return np.nan_to_num(runs[name].transpose(*order[:-2]).values.astype(float)).astype(int)

    outcomes = np.select([each("diverged") > 0, each("reached") > 0, each("converged") > 0], [2, 3, 1], 0)
    ends = np.where((outcomes == 3) & ("first_reached" in runs), each("first_reached"), each("steps"))
    labels = {str(axis): _labels(runs, axis) for axis in axes}
    return Recording(labels, points, values, steps, ends, outcomes)


def _labels(runs: xr.Dataset, axis: Hashable) -> list[str]:
    """Return what stands for each position along an axis: its value, or the values of all arguments there."""
    named = {str(name): one.values for name, one in runs.coords.items() if one.dims == (axis,) and name != axis}
    if axis in runs.coords and not named:
        return [_text(value) for value in runs[axis].values]
    if not named:
        return [str(1 + i) for i in range(runs.sizes[axis])]
    if len(named) == 1:
        return [_text(value) for value in next(iter(named.values()))]
    rows = zip(*named.values(), strict=True)
    return [", ".join(f"{name} {_text(value)}" for name, value in zip(named, row, strict=True)) for row in rows]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _require_alike(found: Mapping[str, Recording]) -> None:
    """Raise unless all recordings have the same starts and steps, and axes of the same name the same length."""
    first, one = next(iter(found.items()))
    lengths: dict[str, tuple[int, str]] = {}
    for name, other in found.items():
        if not np.array_equal(other.steps, one.steps):
            raise ValueError(f"runs: expected the same steps in all, got others in {name} than in {first}")
        if not np.array_equal(starts_of(other), starts_of(one), equal_nan=True):
            raise ValueError(f"runs: expected the same starts in all, got others in {name} than in {first}")
        for axis, labels in other.axes.items():
            length, where = lengths.setdefault(axis, (len(labels), name))
            if length != len(labels):
                got = f"{length} in {where} and {len(labels)} in {name}"
                raise ValueError(f"runs: expected as many values of {axis} in all, got {got}")


def starts_of(recording: Recording) -> Float[np.ndarray, "starts 2"]:
    """Return the starts, which all settings share."""
    count = recording.points.shape[-3]
    return recording.points[..., 0, :].reshape(-1, count, 2)[0]
