"""A landscape: how a result depends on hyperparameters, read from any dataset of a sweep, a scan or many trainings."""

from typing import Any, NamedTuple

import numpy as np
import scipy
import xarray as xr
from jaxtyping import Float

from gdlab.analysis.intervals import Interval, bootstrap_interval
from gdlab.analysis.statistics import Better
from gdlab.arguments import require_choice, require_instance, require_text

__all__ = ["Axis", "Landscape", "landscape"]

GROUPS = ("optimizer", "function")
REPEATS = ("seed", "start")
ALONG = ("epoch", "step")


class Axis(NamedTuple):
    """One hyperparameter.

    Attributes:
      name: its name.
      values: its distinct values, ascending.
      logarithmic: whether the values are spread more evenly in their logarithm, by a factor of 10 or in equal ratios.
      labels: the labels of values that are not numbers, which are then counted from 0; empty for numbers.
    """

    name: str
    values: Float[np.ndarray, " values"]
    logarithmic: bool
    labels: tuple[str, ...] = ()

    def places(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return where values lie between the lowest, at 0, and the highest, at 1."""
        scale = np.log if self.logarithmic else np.asarray
        low, high = scale(self.values[0]), scale(self.values[-1])
        return np.asarray((scale(values) - low) / (high - low))


class Marginal(NamedTuple):
    """The scores over the values of one hyperparameter.

    Attributes:
      values: the values; for a search of several hyperparameters, the median of the trials of each of up to eight bins
        with equally many.
      typical: the median over the other hyperparameters (for flags, the mean), with its interval over seeds or starts.
      best: the best typical score of a setting with this value.
    """

    values: Float[np.ndarray, " values"]
    typical: Interval
    best: Float[np.ndarray, " values"]


class Landscape(NamedTuple):
    """The scores of all settings of some hyperparameters.

    Attributes:
      variable: the name of the score.
      axes: the hyperparameters that have several values.
      groups: the names of the optimizers and functions, each with settings of its own; ("",) if there is only one.
      points: the hyperparameters of each setting.
      scores: the scores of each setting from all its seeds or starts. A run that failed scores inf, or -inf if higher
        is better.
      shape: the number of values along each axis of a grid, whose settings are in the order of the axes, the last one
        fastest; None for a search, whose settings are scattered.
      repeats: what a setting is repeated over: "seed", "start", both, or nothing.
      higher: whether higher scores are better.
      flags: whether scores are 0 or 1, so that their mean is a share.
    """

    variable: str
    axes: tuple[Axis, ...]
    groups: tuple[str, ...]
    points: Float[np.ndarray, "groups settings axes"]
    scores: Float[np.ndarray, "groups settings repeats"]
    shape: tuple[int, ...] | None
    repeats: str
    higher: bool
    flags: bool

    def typical(self) -> Float[np.ndarray, "groups settings"]:
        """Return the median score of each setting, or the share where scores are flags."""
        return summary(self.scores, self.flags)

    def best(self) -> np.ndarray:
        """Return the index of the setting with the best typical score in each group."""
        return np.argmin(self.typical() * (-1 if self.higher else 1), axis=-1)

    def failed(self) -> Float[np.ndarray, "groups settings"]:
        """Return the share of runs of each setting that failed."""
        return np.isinf(self.scores).mean(axis=-1)

    def marginal(self, axis: int, group: int = 0) -> Marginal:
        """Return the scores over the values of one hyperparameter, in one group."""
        column, scores, typical = self.points[group, :, axis], self.scores[group], self.typical()[group]
        if self.shape is not None or self.axes[axis].labels or len(self.axes) == 1:
            parts = [np.flatnonzero(column == value) for value in np.unique(column)]
        else:
            parts = np.array_split(np.argsort(column, kind="stable"), min(8, max(len(column) // 4, 2)))
        over = np.stack([summary(scores[part].T, self.flags) for part in parts])
        statistic = np.mean if self.flags else np.median
        found = bootstrap_interval(over, statistic, resamples=300)
        if over.shape[-1] == 1:
            unknown = np.full(len(parts), np.nan)
            found = Interval(found.estimate, unknown, unknown)
        choose = np.max if self.higher else np.min
        at = [np.quantile(column[part], 0.5, method="inverted_cdf") for part in parts]
        return Marginal(np.array(at), found, np.array([choose(typical[part]) for part in parts]))

    def ranks(self) -> Float[np.ndarray, "groups settings repeats"]:
        """Return the rank of each score within its group, from 0 to 1, where failed runs share the worst one."""
        flat = self.scores.reshape(len(self.groups), -1)
        return (scipy.stats.rankdata(flat, axis=-1) / flat.shape[-1]).reshape(self.scores.shape)


def summary(scores: Float[np.ndarray, "*batch samples"], flags: bool) -> Float[np.ndarray, "*batch"]:
    """Return the median of samples along the last axis, or the mean of flags."""
    return np.asarray(scores.mean(axis=-1) if flags else np.median(scores, axis=-1))


def landscape(ds: xr.Dataset, variable: str, *, better: Better | None = None) -> Landscape:
    """Read how one variable of a dataset depends on the hyperparameters.

    Args:
      ds: a dataset of `gdlab.sweep` or `gdlab.training.train_many`, or another one of their form: an axis for each
        hyperparameter, or "trial" with the values of a search as coordinates, and the dimensions "seed", "start",
        "optimizer" and "function" as far as there are any. Along "epoch" and "step" the last entry is taken.
      variable: the name of the score.
      better: "lower" or "higher". Default None: "higher" for flags, such as `reached`, and otherwise "lower".

    Returns:
      The `Landscape`. Runs have failed where the score is not finite, or `diverged` or `failed_at` says so.

    Raises:
      TypeError: if `ds` is no dataset.
      ValueError: if there is no such variable, it has a dimension of another kind, or no hyperparameter has several
        values.
    """
    require_instance("ds", ds, xr.Dataset, "a dataset, as from gdlab.sweep")
    require_text("variable", variable)
    if variable not in ds.data_vars:
        raise ValueError(f"variable: expected one of {', '.join(map(str, ds.data_vars))}, got {variable!r}")
    if better is not None:
        require_choice("better", better, ("lower", "higher"))
    scores = ds[variable].isel({name: -1 for name in ALONG if name in ds[variable].dims})
    if scores.dtype.kind not in "biuf":
        raise TypeError(f"variable: expected a variable of numbers, got {variable!r} of dtype {scores.dtype}")
    settings = _setting_dimensions(ds, scores)
    groups = [name for name in GROUPS if name in scores.dims]
    repeats = [name for name in REPEATS if name in scores.dims]
    flags = scores.dtype.kind == "b"
    higher = flags if better is None else better == "higher"
    scores = scores.astype(float)
    if not flags:
        scores = scores.where(np.isfinite(scores) & ~_failures(ds, scores), -np.inf if higher else np.inf)
    scores = scores.transpose(*groups, *settings, *repeats)
    count, width = (int(np.prod([scores.sizes[d] for d in dims], dtype=int)) for dims in (groups, settings))
    columns = {
        name: _along(values, scores.isel(dict.fromkeys(repeats, 0), drop=True), count, width)
        for name, values in _hyperparameters(ds, settings).items()
    }
    axes = {name: _axis(name, column) for name, column in columns.items() if len(np.unique(column)) > 1}
    if not axes:
        raise ValueError(f"ds: expected a hyperparameter with several values, got one setting of {', '.join(columns)}")
    return Landscape(
        variable,
        tuple(axis for axis, _ in axes.values()),
        tuple(_names(ds, groups)),
        np.stack([numbers for _, numbers in axes.values()], axis=-1),
        scores.values.reshape(count, width, -1),
        None if "trial" in settings else tuple(scores.sizes[name] for name in settings if name in axes),
        " and ".join(repeats),
        higher,
        flags,
    )


def _setting_dimensions(ds: xr.Dataset, scores: xr.DataArray) -> list[str]:
    """Return the dimensions that tell settings apart, and raise ValueError for one of another kind."""
    found = [str(name) for name in scores.dims if name not in (*GROUPS, *REPEATS)]
    for name in found:
        if name == "coordinate" or (name != "trial" and name not in ds.coords):
            raise ValueError(
                f"variable: expected one number for each setting and seed, got {scores.name!r} along {name!r}; select "
                f"an entry, as in ds.isel({name}=0)"
            )
    return found


def _failures(ds: xr.Dataset, scores: xr.DataArray) -> Any:
    """Return whether each run failed, as far as the dataset has a variable that says so."""
    failed: Any = False
    for name in ("diverged", "failed_at"):
        if name in ds and set(ds[name].dims) <= set(scores.dims):
            failed = failed | (ds[name] != 0)
    return failed


def _hyperparameters(ds: xr.Dataset, settings: list[str]) -> dict[str, xr.DataArray]:
    """Return the values of each hyperparameter along the dimensions of the settings."""
    found = {}
    for dimension in settings:
        if dimension != "trial":
            found[dimension] = ds[dimension]
            continue
        kinds = {"trial", *GROUPS}
        own = {
            str(name): values
            for name, values in ds.coords.items()
            if name not in kinds and "trial" in values.dims and set(values.dims) <= kinds
        }
        if not own:
            raise ValueError("ds: expected the hyperparameters of each trial among its coordinates, got none")
        found |= own
    return found


def _along(values: xr.DataArray, like: xr.DataArray, groups: int, settings: int) -> np.ndarray:
    """Return the values of a hyperparameter for each group and setting."""
    return values.drop_vars(values.coords).broadcast_like(like).transpose(*like.dims).values.reshape(groups, settings)


def _axis(name: str, column: np.ndarray) -> tuple[Axis, np.ndarray]:
    """Return the axis of a hyperparameter, and its values as numbers."""
    if column.dtype.kind not in "iuf":
        labels, first, numbers = np.unique(column.astype(str), return_index=True, return_inverse=True)
        order = np.argsort(first)  # labels stay in the order in which they come
        numbers = np.argsort(order)[numbers].reshape(column.shape).astype(float)
        return Axis(name, np.arange(len(labels), dtype=float), False, tuple(labels[order].tolist())), numbers
    values = np.unique(column.astype(float))
    return Axis(name, values, is_logarithmic(values)), column.astype(float)


def is_logarithmic(values: Float[np.ndarray, " values"]) -> bool:
    """Return whether ascending values are more even in their logarithm.

    Values within a factor of 10 must have equal ratios.
    """
    if len(values) < 2 or values[0] <= 0:
        return False
    even = np.linspace(0, 1, len(values))

    def unevenness(x: np.ndarray) -> float:
        return float(np.abs((x - x[0]) / (x[-1] - x[0]) - even).max())

    logarithmic, linear = unevenness(np.log(values)), unevenness(values)
    if values[-1] < 10 * values[0]:
        return logarithmic < 1e-3 < linear
    return logarithmic <= linear


def _names(ds: xr.Dataset, groups: list[str]) -> list[str]:
    """Return the name of each group, such as "adam" or "adam, ackley"."""
    names = [""]
    for dimension in groups:
        names = [", ".join(filter(None, (name, str(label)))) for name in names for label in ds[dimension].values]
    return names
