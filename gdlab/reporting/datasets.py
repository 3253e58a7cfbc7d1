"""A dataset of a sweep, a scan or many trainings as a section of a page."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from gdlab.analysis.landscapes import ALONG, GROUPS, REPEATS, is_logarithmic
from gdlab.reporting.pieces import Column, Curve, Curves, DotAxis, Dots, Piece, Rows, Section, in_words
from gdlab.reporting.trainings import curve_of

DRAWN = 8
"""The number of settings whose curves are drawn, the best ones of each optimizer and function."""

SETTINGS = 1000
"""The largest number of settings that are listed, the best ones."""

LISTED = 100_000
"""The largest number of runs that are shown one by one."""

POINTS = 400
"""The largest number of points of a curve."""

SCORES = ("test_loss", "valid_loss", "value", "loss", "train_loss")
"""The variables by which settings are ordered, if a dataset has one of them; otherwise the first one of numbers."""


@dataclasses.dataclass(frozen=True)
class Runs:
    """The runs of a dataset: settings, each repeated over seeds or starts.

    Attributes:
      ds: the dataset.
      score: the variable by which settings are ordered.
    """

    ds: xr.Dataset
    score: str

    @functools.cached_property
    def along(self) -> str | None:
        """The dimension along which scores were recorded, if there is one."""
        return next((name for name in ALONG if name in self.ds[self.score].dims), None)

    @functools.cached_property
    def last(self) -> xr.Dataset:
        """The dataset after the last epoch or step."""
        return self.ds.isel({name: -1 for name in ALONG if name in self.ds.dims})

    @functools.cached_property
    def repeats(self) -> list[str]:
        """The dimensions over which settings are repeated."""
        return [name for name in REPEATS if name in self.last[self.score].dims]

    @functools.cached_property
    def settings(self) -> list[str]:
        """The dimensions of settings: optimizers, functions and hyperparameters."""
        return [str(name) for name in self.last[self.score].dims if name not in self.repeats]

    @functools.cached_property
    def hyperparameters(self) -> dict[str, xr.DataArray]:
        """What a setting is, by name: the axes themselves, or the coordinates along them."""
        found = {}
        for dim in self.settings:
            own = {str(name): one for name, one in self.last.coords.items() if dim in one.dims and name != dim}
            own = {name: one for name, one in own.items() if set(one.dims) <= set(self.settings)}
            if not own or (dim in self.last.coords and dim != "trial"):
                found[dim] = self._positions(dim)
            found |= own
        return found

    def _positions(self, dim: str) -> xr.DataArray:
        """Return the labels along a dimension, or the numbers of its positions if it has none."""
        if dim in self.last.coords:
            return self.last[dim]
        return xr.DataArray(np.arange(self.last.sizes[dim]), dims=dim)

    def columns(self) -> list[Column]:
        """Return what is known of each run, the last dimension fastest: its setting, its seed or start, its results."""
        dims = [*self.settings, *self.repeats]
        like = self.last[self.score]
        named = self.hyperparameters | {name: self._positions(name) for name in self.repeats}
        found = [_column(name, values.broadcast_like(like).transpose(*dims)) for name, values in named.items()]
        if (points := self._start_points()) is not None:
            found.append(_column("start point", points.broadcast_like(like).transpose(*dims)))
        for name in [self.score, *(str(name) for name in self.last if name != self.score)]:
            one = self.last[name]
            if set(one.dims) == set(dims) and one.dtype.kind in "biuf":
                found.append(_column(name, one.transpose(*dims)))
        return found

    def _start_points(self) -> xr.DataArray | None:
        """Return the starts as texts, if they are points of few coordinates."""
        points = self.last.coords.get("start_point")
        if points is None or set(points.dims) != {"start", "coordinate"} or points.sizes["coordinate"] > 8:
            return None
        rows = points.transpose("start", "coordinate").values
        return xr.DataArray([", ".join(f"{at:.9g}" for at in row) for row in rows], dims="start")

    @functools.cached_property
    def labels(self) -> list[str]:
        """The words of each setting, the last axis fastest."""
        like = self.last[self.score].isel(dict.fromkeys(self.repeats, 0), drop=True).transpose(*self.settings)
        parts = []
        for name, values in self.hyperparameters.items():
            if values.size < 2 and name not in GROUPS:
                continue
            cells = values.broadcast_like(like).transpose(*self.settings).values.reshape(-1)
            said = "" if name in GROUPS else f"{name} "
            parts.append([f"{said}{_text(value)}" for value in cells])
        return [", ".join(row) for row in zip(*parts, strict=True)] if parts else ["all"] * like.size

    def values(self, name: str) -> Float[np.ndarray, "settings repeats points"]:
        """Return a variable; it has one point if it was recorded once."""
        own = [dim for dim in (*self.settings, *self.repeats) if dim in self.ds[name].dims]
        along = [self.along] if self.along is not None else []
        array = self.ds[name].transpose(*own, *along).values.astype(float)
        count = int(np.prod([self.ds.sizes[dim] for dim in self.settings], dtype=int))
        return array.reshape(count, -1, array.shape[-1] if along else 1)

    @functools.cached_property
    def ends(self) -> Float[np.ndarray, "settings repeats"]:
        """The last scores."""
        return self.values(self.score)[..., -1]

    @functools.cached_property
    def order(self) -> list[int]:
        """The settings, the best median of the last scores first; what is not finite counts as worst."""
        sign = -1.0 if self.better == "higher" else 1.0
        known = np.where(np.isfinite(self.ends), sign * self.ends, np.inf)
        medians = np.quantile(known, 0.5, axis=1, method="inverted_cdf")
        return [int(place) for place in np.argsort(medians, kind="stable")]

    @property
    def better(self) -> str:
        """Whether "lower" or "higher" scores are better: higher for flags."""
        return "higher" if self.ds[self.score].dtype.kind == "b" else "lower"

    def best_of_groups(self) -> list[int]:
        """Return `DRAWN` settings, the best ones of each optimizer and function."""
        shape = [self.ds.sizes[name] for name in self.settings]
        at = np.indices(shape).reshape(len(shape), -1).T if shape else np.zeros((1, 0), int)
        columns = [place for place, name in enumerate(self.settings) if name in GROUPS]
        groups = [tuple(row[columns].tolist()) for row in at]
        left = dict.fromkeys(groups, max(1, DRAWN // len(set(groups))))
        found = []
        for place in self.order:
            if left[groups[place]]:
                left[groups[place]] -= 1
                found.append(place)
        return found


def dataset_section(ds: xr.Dataset, path: Path) -> Section:
    """Return the section of a dataset.

    Args:
      ds: the dataset.
      path: its file.

    Raises:
      ValueError: if it has no numbers to show, or too many runs.
    """
    runs = Runs(ds, _score_of(ds))
    count = runs.ends.size
    if not count:
        raise ValueError(f"{path}: expected at least one run, got the sizes {dict(ds.sizes)}")
    if count > LISTED:
        raise ValueError(f"{path}: expected at most {LISTED:,} runs, got {count:,}; save a part, ds.isel(...), instead")
    sizes = ", ".join(f"{name} ({runs.last.sizes[name]:,})" for name in [*runs.settings, *runs.repeats]) or "nothing"
    pieces: list[Piece] = [f"{count:,} runs along {sizes}. Settings are ordered by {runs.score}.", _settings(runs)]
    columns = runs.columns()
    if axes := _axes(runs):
        group = next((name for name in GROUPS if name in runs.settings), "")
        note = "One dot for each run, and lines through medians. Runs whose result is not finite lie on the edge."
        pieces.append(Dots("Sensitivity", columns, axes, runs.score, group, runs.better, repeating(ds), note))
    if runs.along is not None:
        pieces.append(_curves(runs, runs.along))
    pieces.append(Rows("All runs", columns))
    return Section(path.stem, pieces, {"file": str(path)} | _made(ds))


def _score_of(ds: xr.Dataset) -> str:
    """Return the variable by which settings are ordered; raise if there is none."""
    known = [str(name) for name in ds if ds[name].dtype.kind in "biuf" and not _is_array(ds[name])]
    if not known:
        names = ", ".join(map(str, ds)) or "no variables"
        raise ValueError(f"ds: expected a variable with one number for each run, got {names}")
    return next((name for name in SCORES if name in known), known[0])


def _is_array(values: xr.DataArray) -> bool:
    """Whether a variable holds an array for each run: it has "coordinate", or a dimension "name_0" of its own."""
    return any(dim == "coordinate" or str(dim).startswith(f"{values.name}_") for dim in values.dims)


def _column(name: str, values: xr.DataArray) -> Column:
    cells = values.values.reshape(-1)
    if cells.dtype.kind in "iufb":
        return Column(name, "number", cells.astype(float))
    return Column(name, "text", [str(value) for value in cells])


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _axes(runs: Runs) -> list[DotAxis]:
    """Return the hyperparameters that are numbers and have several values."""
    found = []
    for name, values in runs.hyperparameters.items():
        if name not in GROUPS and values.dtype.kind in "iuf":
            distinct = np.unique(values.values[np.isfinite(values.values)]).astype(float)
            if distinct.size > 1:
                found.append(DotAxis(name, is_logarithmic(distinct)))
    return found


def _settings(runs: Runs) -> Rows:
    order = runs.order[:SETTINGS]
    columns = [
        Column("setting", "text", [runs.labels[place] for place in order]),
        Column(runs.score, "interval", [_three(runs.ends[place]) for place in order]),
        Column("not finite", "number", [int((~np.isfinite(runs.ends[place])).sum()) for place in order]),
    ]
    if runs.along is not None:
        scores = runs.values(runs.score)
        x = np.arange(scores.shape[2])
        lines = [_readable(curve_of("", x, scores[place]).middle) for place in order]
        columns.append(Column(f"{runs.score} by {runs.along}", "sparkline", lines))
    over = " and ".join(f"{name}s" for name in runs.repeats)
    note = f"Medians over {over}, with the least and the greatest." if over else ""
    if len(order) < len(runs.labels):
        note += f" The best {len(order):,} of {len(runs.labels):,} settings are listed."
    return Rows("Settings, the best first", columns, note.strip())


def _three(values: np.ndarray) -> tuple[float, float, float]:
    """Return the median of the finite values, the least and the greatest, of which one value has no others."""
    known = values[np.isfinite(values)]
    if not known.size:
        return np.nan, np.nan, np.nan
    ends = (float(known.min()), float(known.max())) if values.size > 1 else (np.nan, np.nan)
    return float(np.median(known)), *ends


def _readable(row: np.ndarray) -> np.ndarray:
    """Return the logarithms of positive numbers that differ much, as a small line would show the first one alone."""
    known = row[np.isfinite(row)]
    wide = known.size and known.min() > 0 and known.max() > 20 * known.min()
    return np.log10(row) if wide else row


def _curves(runs: Runs, along: str) -> Curves:
    """Return the curves of the best settings, for every variable that is recorded along the way."""
    x = runs.ds[along].values if along in runs.ds.coords else np.arange(1, runs.ds.sizes[along] + 1)
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    like = set(runs.ds[runs.score].dims)
    others = [str(name) for name in runs.ds if name != runs.score and set(runs.ds[name].dims) == like]
    chosen = runs.best_of_groups()
    panels: dict[str, list[Curve]] = {}
    for name in [runs.score, *others]:
        if runs.ds[name].dtype.kind in "iuf":
            table = runs.values(name)[..., keep]
            panels[name] = [curve_of(runs.labels[place], x[keep], table[place]) for place in chosen]
    note = "Lines are medians, and bands contain all runs of a setting. The best settings of each optimizer are drawn."
    return Curves("Curves", along, panels, note)


def repeating(ds: xr.Dataset) -> str:
    """Return code that repeats a run of a dataset, in which names of columns stand in braces."""
    kept = (*GROUPS, *REPEATS, *ALONG, "coordinate", "trial")
    names = [str(name) for name in ds.coords if ds[name].ndim == 1 and name not in kept]
    if "function" in ds.attrs and "factory" in ds.attrs:
        axes = ", ".join(f'"{name}": [{{{name}}}]' for name in names)
        function = "{function}" if "function" in ds.dims else ds.attrs["function"]
        factory = "{optimizer}" if "optimizer" in ds.dims else ds.attrs["factory"]
        start = f'np.array([[{{start point}}]], "{ds.attrs.get("dtype", "float32")}")'
        steps = ds.attrs.get("max_steps", 1000)
        return (
            f'gdlab.sweep(gdlab.FUNCTIONS["{function}"], gdlab.optimizers.{factory}, {{{axes}}}, '
            f"{start}, max_steps={steps})"
        )
    if "task" in ds.attrs:
        numbers = ", ".join(f'"{name}": {{{name}}}' for name in names)
        epochs = ds.attrs.get("epochs", 1)
        return f"gdlab.train(task, factory, hyperparameters={{{numbers}}}, epochs={epochs}, seed={{seed}})"
    key = ["jax.random.key({seed})"] if "seed" in ds.dims else []
    return f"fn({', '.join([*key, *(f'{name}={{{name}}}' for name in names)])})"


def _made(ds: xr.Dataset) -> dict[str, str]:
    found: dict[str, Any] = {}
    for name, value in ds.attrs.items():
        if name == "environment":
            found |= json.loads(value)
        elif name not in ("plan", "description"):
            found[str(name)] = _text(value)
    return in_words(found)
