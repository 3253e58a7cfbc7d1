"""How much each hyperparameter matters: the parts of a score's variance that it accounts for, with intervals.

For a score f of independent, evenly spread hyperparameters, Sobol's first-order index of one of them is
Var(E[f | x_i]) / Var(f), the part that it explains alone, and its total index is 1 - Var(E[f | all but x_i]) / Var(f),
the part that involves it at all. The difference is due to interactions. On a full grid both are exact sums (analysis of
variance). For the scattered points of a search, f is first fitted by orthonormal polynomials, whose coefficients give
the indices in closed form.

References:
  Sobol, "Global sensitivity indices for nonlinear mathematical models and their Monte Carlo estimates", 2001,
    Mathematics and Computers in Simulation 55 (https://doi.org/10.1016/S0378-4754(00)00270-6).
  Sudret, "Global sensitivity analysis using polynomial chaos expansions", 2008, Reliability Engineering and System
    Safety 93 (https://doi.org/10.1016/j.ress.2007.04.002).
  Blatman and Sudret, "Adaptive sparse polynomial chaos expansion based on least angle regression", 2011, Journal of
    Computational Physics 230 (https://doi.org/10.1016/j.jcp.2010.12.021), for the norms below 1, which admit high
    degrees of one hyperparameter with few interactions.
  Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter importance", 2014
    (https://proceedings.mlr.press/v32/hutter14.html), which fits a random forest instead.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdlab.analysis.intervals import Interval, require_resampling
from gdlab.analysis.landscapes import Axis, Landscape
from gdlab.arguments import as_numbers, require_instance, require_sequence, require_strings

__all__ = ["Importance", "grid_importance", "importances", "search_importance"]

LARGEST_DEGREE = 12
MOST_TERMS = 165
NORMS = (0.4, 0.7, 1.0)
PENALTIES = np.geomspace(1e-8, 1.0, 17)
"""The largest degree, the most terms, and the norms and ridge penalties among which leaving one trial out chooses."""


class Importance(NamedTuple):
    """The indices of all hyperparameters.

    Attributes:
      names: the names of the hyperparameters.
      first: the first-order indices with their intervals.
      total: the total indices with their intervals.
      explained: the part of the variance between settings that the indices describe: 1 for a grid; for a search, how
        well the polynomial predicts a trial that it was not fitted to (1 - squared error / variance, at least 0).
    """

    names: tuple[str, ...]
    first: Interval
    total: Interval
    explained: float


Indices = tuple[Float[np.ndarray, " axes"], Float[np.ndarray, " axes"]]


def importances(
    landscape: Landscape, *, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> dict[str, Importance]:
    """Return the importance of each hyperparameter, for each optimizer and function of a landscape.

    The scores are replaced by their ranks, so that diverged runs count as the worst ones, and a few huge losses do not
    decide everything.

    Args:
      landscape: as from `gdlab.analysis.landscapes.landscape`.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples, of seeds or starts and of the trials of a search. Default 200.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `Importance` by the name of each group.

    Raises:
      TypeError: if `landscape` is none.
      ValueError: if a number is out of range.
    """
    require_instance("landscape", landscape, Landscape, "a Landscape, as landscape returns")
    how: Any = {"level": level, "resamples": resamples, "seed": seed}
    names = tuple(axis.name for axis in landscape.axes)
    found = {}
    for group, points, ranks in zip(landscape.groups, landscape.points, landscape.ranks(), strict=True):
        if landscape.shape is not None:
            found[group] = grid_importance(ranks.reshape(*landscape.shape, -1), names, **how)
        else:
            found[group] = search_importance(points, ranks, landscape.axes, **how)
    return found


def grid_importance(
    scores: Float[np.ndarray, "*grid repeats"],
    names: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> Importance:
    """Return the importance of each axis of a full grid.

    Args:
      scores: the scores of each setting, along the last axis those of its seeds or starts, whose mean is decomposed.
      names: the name of each axis of the grid.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples of the seeds. Default 200.
      seed: the seed of the resampling. Default 0.

    Returns:
      The `Importance`. With one seed there is no interval, and its ends are NaN. Noise that the seeds do not average
      out counts as interactions.

    Raises:
      TypeError: if scores are not numbers.
      ValueError: if scores are not finite, or there is not one name for each axis.
    """
    require_resampling(level, resamples, seed)
    require_strings("names", names, expected="the names of axes", empty=False)
    scores = as_numbers("scores", scores, least=1).astype(float)
    if scores.ndim != len(names) + 1:
        raise ValueError(f"scores: expected {len(names)} axes and one of seeds, got shape {scores.shape}")
    estimate = _grid_indices(scores.mean(axis=-1))
    count, rng = scores.shape[-1], np.random.default_rng(seed)
    drawn = [
        _grid_indices(scores[..., rng.integers(count, size=count)].mean(axis=-1))
        for _ in range(resamples if count > 1 else 0)
    ]
    return _importance(tuple(names), estimate, drawn, level, 1.0)


def _grid_indices(means: Float[np.ndarray, "*grid"]) -> Indices:
    variance = means.var()
    if variance == 0:
        return np.zeros(means.ndim), np.zeros(means.ndim)
    every = range(means.ndim)
    first = [means.mean(axis=tuple(k for k in every if k != axis)).var() for axis in every]
    without = [means.mean(axis=axis).var() for axis in every]
    return np.array(first) / variance, 1 - np.array(without) / variance


def search_importance(
    points: Float[np.ndarray, "trials axes"],
    scores: Float[np.ndarray, "trials repeats"],
    axes: Sequence[Axis],
    *,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> Importance:
    """Return the importance of each hyperparameter of a search whose trials are spread evenly.

    The mean score of a trial is fitted by products of Legendre polynomials of the places on the axes. The largest
    degree, that of interactions, and the ridge penalty are those that predict best when one trial at a time is left
    out. The indices are parts of the variance of this polynomial.

    Args:
      points: the hyperparameters of each trial.
      scores: the scores of each trial, along the last axis those of its seeds or starts.
      axes: the axis of each hyperparameter. One that takes few values has polynomials that are orthonormal on these.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples, of the trials and of the seeds. Default 200.
      seed: the seed of the resampling. Default 0.

    Returns:
      The `Importance`. Its intervals are percentiles, so they lie above 0 even where an index is 0.

    Raises:
      TypeError: if points or scores are not numbers, or an axis is no `Axis`.
      ValueError: if numbers are not finite, or shapes do not fit.
    """
    require_resampling(level, resamples, seed)
    require_sequence("axes", axes, "axes of a landscape", least=1)
    for axis in axes:
        require_instance("axes", axis, Axis, "axes of a landscape")
    points = as_numbers("points", points, shape=(None, len(axes)), least=1).astype(float)
    scores = as_numbers("scores", scores, shape=(len(points), None), least=1).astype(float)
    bases = [_basis(column, axis) for column, axis in zip(points.T, axes, strict=True)]
    trials = _trials(points, bases)
    powers, penalty, explained = _best_degree(bases, scores.mean(axis=-1), trials)
    terms = _terms(bases, powers)
    repeats, count = scores.shape[1], int(trials.max()) + 1
    estimate = _fit(terms, scores.mean(axis=-1), np.ones(len(trials)), penalty)
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        means = scores[:, rng.integers(repeats, size=repeats)].mean(axis=-1)
        weights = np.bincount(rng.integers(count, size=count), minlength=count).astype(float)
        drawn.append(_polynomial_indices(_fit(terms, means, weights[trials], penalty), powers))
    names = tuple(axis.name for axis in axes)
    return _importance(names, _polynomial_indices(estimate, powers), drawn, level, explained)


def _basis(column: Float[np.ndarray, " trials"], axis: Axis) -> Float[np.ndarray, "trials powers"]:
    """Return polynomials of one hyperparameter, of degree 0 and up, at each trial.

    They are orthonormal for places that are spread evenly, or for the values of the trials where these are few.
    """
    values, which = np.unique(column, return_inverse=True)
    nodes = 2 * axis.places(values) - 1
    if len(values) <= min(LARGEST_DEGREE, len(column) // 2):
        q, r = np.linalg.qr(np.polynomial.legendre.legvander(nodes, len(nodes) - 1))
        return np.asarray((np.sqrt(len(nodes)) * q * np.sign(np.diag(r)))[which])
    norms = np.sqrt(2 * np.arange(LARGEST_DEGREE + 1) + 1)
    return np.asarray((np.polynomial.legendre.legvander(nodes, LARGEST_DEGREE) * norms)[which])


def _trials(points: np.ndarray, bases: Sequence[np.ndarray]) -> Int[np.ndarray, " settings"]:
    """Return the trial of each setting; those that differ only in hyperparameters of few values share it."""
    scattered = [k for k, basis in enumerate(bases) if basis.shape[1] == LARGEST_DEGREE + 1]
    if not scattered:
        return np.arange(len(points))
    return np.unique(points[:, scattered], axis=0, return_inverse=True)[1].ravel()


def _powers(most: Sequence[int], degree: int, norm: float) -> Int[np.ndarray, "terms axes"] | None:
    """Return the degrees of all products with (sum of a^norm)^(1 / norm) <= degree; None if there are too many.

    Args:
      most: the largest degree of each hyperparameter.
      degree: the largest degree.
      norm: a number up to 1; the lower it is, the fewer products are interactions.
    """

    def products(place: int, left: float) -> Iterator[tuple[int, ...]]:
        if place == len(most):
            yield ()
            return
        for power in range(most[place] + 1):
            if power**norm > left + 1e-9:
                return
            for rest in products(place + 1, left - power**norm):
                yield (power, *rest)

    found = list(itertools.islice(products(0, degree**norm), MOST_TERMS + 2))
    terms = np.array(found[1:], int).reshape(-1, len(most))  # the first one is the constant
    return terms if len(found) <= MOST_TERMS + 1 else None


def _terms(bases: Sequence[np.ndarray], powers: np.ndarray) -> Float[np.ndarray, "trials terms"]:
    """Return the products of polynomials at each trial."""
    return np.asarray(np.prod([basis[:, powers[:, k]] for k, basis in enumerate(bases)], axis=0))


def _best_degree(bases: Sequence[np.ndarray], means: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return the degrees of the terms and the ridge penalty with the least error for trials that are left out.

    The third number is the part of the variance that is then predicted.
    """
    centered, count = means - means.mean(), len(means)
    most = [basis.shape[1] - 1 for basis in bases]
    best: tuple[float, np.ndarray, float] | None = None
    sizes = np.bincount(trials)[trials]
    left_out = [
        np.argsort(np.where(sizes == m, trials, count), kind="stable")[: (sizes == m).sum()].reshape(-1, m)
        for m in np.unique(sizes)
    ]
    tried = set()
    for degree, norm in itertools.product(range(1, LARGEST_DEGREE + 1), NORMS):
        powers = _powers(most, degree, norm)
        if powers is None or (degree > 1 and len(powers) > 0.75 * count) or powers.tobytes() in tried:
            continue
        tried.add(powers.tobytes())
        u, s, _ = np.linalg.svd(_terms(bases, powers), full_matrices=False)
        for penalty in PENALTIES:
            shrunk = s**2 / (s**2 + penalty * count)
            residuals = centered - u @ (shrunk * (u.T @ centered))
            error = sum(_left_out_error(u[places], shrunk, residuals[places]) for places in left_out) / count
            if best is None or error < best[0]:
                best = error, powers, float(penalty)
    assert best is not None
    variance = float(means.var())
    return best[1], best[2], max(0.0, 1 - best[0] / variance) if variance else 0.0


def _left_out_error(u: np.ndarray, shrunk: np.ndarray, residuals: np.ndarray) -> float:
    """Return the sum of squared errors of trials of equal size, each predicted by a fit to the others.

    Args:
      u: the left singular vectors of the terms, of shape (trials, settings, terms).
      shrunk: how much of each the fit takes.
      residuals: the residuals of the fit to all trials.
    """
    size = u.shape[1]
    own = np.eye(size) - (u * shrunk) @ u.swapaxes(1, 2) - 1 / (u.shape[0] * size)
    return float(np.sum(np.linalg.solve(own + 1e-12 * np.eye(size), residuals[..., None]) ** 2))


def _fit(terms: np.ndarray, means: np.ndarray, weights: np.ndarray, penalty: float) -> Float[np.ndarray, " terms"]:
    """Return the coefficients of the terms, by ridge regression on trials with these weights."""
    total = weights.sum()
    centered = terms - weights @ terms / total
    gram = (centered * weights[:, None]).T @ centered
    aim = (weights * (means - weights @ means / total)) @ centered
    return np.linalg.solve(gram + penalty * total * np.eye(len(gram)), aim)


def _polynomial_indices(coefficients: np.ndarray, powers: np.ndarray) -> Indices:
    squares, involved = coefficients**2, powers > 0
    variance = squares.sum()
    if variance == 0:
        return np.zeros(powers.shape[1]), np.zeros(powers.shape[1])
    alone = involved & (involved.sum(axis=1, keepdims=True) == 1)
    return squares @ alone / variance, squares @ involved / variance


def _importance(
    names: tuple[str, ...], estimate: Indices, drawn: list[Indices], level: float, explained: float
) -> Importance:
    def interval(which: int) -> Interval:
        if not drawn:
            unknown = np.full(len(names), np.nan)
            return Interval(estimate[which], unknown, unknown)
        low, high = np.quantile([each[which] for each in drawn], [(1 - level) / 2, (1 + level) / 2], axis=0)
        return Interval(estimate[which], low, high)

    return Importance(names, interval(0), interval(1), explained)
