"""Claims about optimizers, judged by margins with intervals: a claim holds, does not hold, or is undecided.

A claim is a set of margins, one row per margin, with one value per seed. It holds if the intervals of all
their means lie above 0, it does not hold if one of them lies below 0, and otherwise it is undecided.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import seeds_interval
from gdlab.arguments import (
    describe,
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_mapping,
    require_sequence,
    require_strings,
    require_text,
)

HOLDS, DOES_NOT_HOLD, UNDECIDED = "holds", "does not hold", "undecided"

DECISION = (
    "A claim holds if the intervals of all its margins lie above 0, and does not hold if one of them lies "
    "below 0; otherwise it is undecided."
)

LEAST_EPOCHS = 10
"""Claims about whole curves are undecided if there are fewer epochs."""


class Finished(Protocol):
    """What a claim uses of a finished run: the history of its metrics, and whether it diverged."""

    @property
    def history(self) -> Mapping[str, Any]:
        """The values of each metric, one per epoch."""

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""


Results = Mapping[str, Sequence[Any]]
"""The runs (`Finished`) of each candidate, one per seed."""


class Claim(NamedTuple):
    """A statement, and the margins that decide it.

    Attributes:
      text: the statement.
      criterion: what the margins are, in words.
      needs: names of the candidates without which the claim is undecided.
      margins: a function from `Results` to an array of shape (margins, seeds). Every margin must be positive in the
        mean.
      whole_curves: whether the claim is about whole learning curves, which must then have `LEAST_EPOCHS` epochs.
      metric: the metric that it is about, such as "test_accuracy", beside whose curves it is shown; default none.
    """

    text: str
    criterion: str
    needs: tuple[str, ...]
    margins: Callable[[Results], Float[np.ndarray, "margins seeds"]]
    whole_curves: bool = False
    metric: str = ""


class Verdict(NamedTuple):
    """The verdict on a claim.

    Attributes:
      claim: the claim.
      verdict: HOLDS, DOES_NOT_HOLD or UNDECIDED.
      why: the reason, in words.
      margins: the estimate, low end and high end of each margin; None if they were not calculated.
    """

    claim: Claim
    verdict: str
    why: str
    margins: Float[np.ndarray, "margins 3"] | None = None

    def record(self) -> dict[str, Any]:
        """Return the verdict as an entry for a JSON file."""
        found = {"claim": self.claim.text, "criterion": self.claim.criterion, "verdict": self.verdict, "why": self.why}
        return found if self.margins is None else found | {"margins": self.margins}


def judge_claim(
    claim: Claim, found: Results, *, rivals: Sequence[str] | None = None, labels: Mapping[str, str] | None = None
) -> Verdict:
    """Judge a claim by the intervals of its margins.

    The claim is undecided if a candidate that it needs is missing or diverged, if runs are missing, if it is about
    whole curves and these are short or differ in length, or if there is only one seed. The reason then says in which
    direction that seed points.

    Args:
      claim: the claim.
      found: the runs of all candidates.
      rivals: names of the candidates that count in addition to those that the claim needs. A candidate with a run
        that diverged does not count. Default None: all.
      labels: the names of candidates in the verdict's words. Default: the names in `found`.

    Returns:
      The verdict.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if the claim's margins are not numbers.
    """
    require_instance("claim", claim, Claim, "a Claim")
    for name in ("text", "criterion"):
        require_text(f"claim.{name}", getattr(claim, name))
    require_strings("claim.needs", claim.needs, expected="names", empty=False)
    require_flag("claim.whole_curves", claim.whole_curves)
    require_text("claim.metric", claim.metric, empty=True)
    _require_results(found)
    if rivals is not None:
        require_strings("rivals", rivals, expected="names", empty=False)
    if labels is not None:
        require_mapping("labels", labels, "from names to labels")
    shown = labels or {}

    def undecided(why: str) -> Verdict:
        return Verdict(claim, UNDECIDED, why)

    if missing := [shown.get(name, name) for name in claim.needs if name not in found]:
        return undecided(f"it needs {', '.join(missing)}, which did not run")
    failed = [name for name, runs in found.items() if any(run.diverged for run in runs)]
    if lost := [shown.get(name, name) for name in claim.needs if name in failed]:
        return undecided(f"a run of {', '.join(lost)} diverged")
    counted = [name for name in found if name not in failed and (rivals is None or name in (*rivals, *claim.needs))]
    asked = {name: found[name] for name in counted}
    counts = {len(runs) for runs in asked.values()}
    if len(counts) != 1 or 0 in counts:
        return undecided("runs are missing")
    lengths = {len(next(iter(run.history.values()))) for runs in asked.values() for run in runs}
    if claim.whole_curves and (len(lengths) > 1 or max(lengths) < LEAST_EPOCHS):
        return undecided(f"it needs whole curves of at least {LEAST_EPOCHS} epochs")
    require_callable("claim.margins", claim.margins)
    margins = seeds_interval(claim.margins(asked))
    if counts == {1}:
        return undecided(f"a single seed has no interval; {_direction(float(margins.estimate.min()))}")
    verdict = UNDECIDED
    if (margins.low > 0).all():
        verdict = HOLDS
    elif (margins.high < 0).any():
        verdict = DOES_NOT_HOLD
    worst = int(np.argmin(margins.estimate))
    least, low, high = (f"{end[worst]:.4g}" for end in margins)
    return Verdict(claim, verdict, f"smallest margin {least} [{low}, {high}]", np.stack(margins, axis=-1))


def _direction(least: float) -> str:
    """Say where the smallest margin of a single seed points."""
    side = "in the claim's direction" if least > 0 else "against the claim" if least < 0 else "neither way"
    return f"it points {side}: smallest margin {least:.4g}"


def _require_results(found: Any) -> None:
    require_mapping("found", found, "from candidates to runs")
    for name, runs in found.items():
        require_sequence(f"found[{name!r}]", runs, "runs")
        for run in runs:
            if not isinstance(getattr(run, "history", None), Mapping):
                raise TypeError(f"found[{name!r}]: expected runs, with a history of their metrics, got {describe(run)}")


def _curves(found: Results, metric: str) -> dict[str, list[np.ndarray]]:
    """Return the values of a metric over epochs for each run, by candidate."""
    require_text("metric", metric)
    _require_results(found)
    for name, runs in found.items():
        for run in runs:
            if metric not in run.history:
                raise ValueError(f"metric: expected one of {', '.join(run.history)}, got {metric!r}, for {name}")
    return {name: [np.asarray(run.history[metric], float) for run in runs] for name, runs in found.items()}


def _require_candidates(name: str, asked: Sequence[str], known: Mapping[str, Any]) -> None:
    require_sequence(name, asked, "names of candidates")
    if strange := [each for each in asked if each not in known]:
        raise ValueError(f"{name}: expected names among {', '.join(known)}, got {strange[0]!r}")


def at_end(found: Results, metric: str) -> dict[str, Float[np.ndarray, " seeds"]]:
    """Return the last value of a metric for each seed, by candidate."""
    return {name: np.array([curve[-1] for curve in curves]) for name, curves in _curves(found, metric).items()}


def by_epoch(found: Results, metric: str) -> dict[str, Float[np.ndarray, "seeds epochs"]]:
    """Return the values of a metric over all epochs for each seed, by candidate."""
    every = _curves(found, metric)
    for name, curves in every.items():
        if not curves or len({curve.shape for curve in curves}) > 1:
            raise ValueError(
                f"found[{name!r}]: expected runs of the same number of epochs, got shapes {[c.shape for c in curves]}"
            )
    return {name: np.stack(curves) for name, curves in every.items()}


def differences(
    values: Mapping[str, Float[np.ndarray, " seeds"]], first: Sequence[str], second: Sequence[str] = ()
) -> Float[np.ndarray, "pairs seeds"]:
    """Return the values of each of `first` minus those of each of `second` (default: all others), one row per pair."""
    require_mapping("values", values, "from candidates to values")
    _require_candidates("first", first, values)
    _require_candidates("second", second, values)
    return np.array([values[a] - values[b] for a in first for b in second or [n for n in values if n not in first]])


def share_ahead(found: Results, metric: str, name: str) -> Float[np.ndarray, "1 seeds"]:
    """Return the share of epochs in which no other candidate has a higher metric than `name`."""
    require_text("name", name)
    every = by_epoch(found, metric)
    _require_candidates("name", [name], every)
    if len(every) < 2:
        raise ValueError(f"found: expected other candidates than {name}, got none")
    rest = np.max([curve for other, curve in every.items() if other != name], axis=0)
    return np.array([(every[name] >= rest).mean(axis=1)])


def in_order(found: Results, metric: str, names: Sequence[str]) -> Float[np.ndarray, "pairs seeds"]:
    """Return the final metric of each of `names` minus that of the next one."""
    last = at_end(found, metric)
    _require_candidates("names", names, last)
    return np.array([last[better] - last[worse] for better, worse in itertools.pairwise(names)])


def early_means(found: Results, metric: str, parts: int = 10) -> dict[str, Float[np.ndarray, " seeds"]]:
    """Return the mean of a metric over the first of `parts` equal parts of the epochs, by candidate."""
    require_count("parts", parts)
    return {
        name: curve[:, : -(-curve.shape[1] // parts)].mean(axis=1) for name, curve in by_epoch(found, metric).items()
    }


def late_rises(found: Results, metric: str, names: Sequence[str], parts: int = 5) -> Float[np.ndarray, "names seeds"]:
    """Return how far a metric rises towards the end, for each of `names`.

    The rise is the mean over the last of `parts` equal parts of the epochs, divided by the lowest mean over any
    window of that length.
    """
    require_count("parts", parts)
    every, rises = by_epoch(found, metric), []
    _require_candidates("names", names, every)
    for name in names:
        curve = every[name]
        width = max(1, curve.shape[1] // parts)
        means = np.lib.stride_tricks.sliding_window_view(curve, width, 1).mean(axis=-1)
        rises.append(means[:, -1] / means.min(axis=1))
    return np.array(rises)


def linearity(found: Results, metric: str, names: Sequence[str]) -> Float[np.ndarray, "names seeds"]:
    """Return R^2 of a line through the metric over epochs, for each of `names`; negative if the line falls."""

    def fit(curve: Float[np.ndarray, " epochs"]) -> float:
        r = np.corrcoef(np.arange(len(curve)), curve)[0, 1] if np.ptp(curve) else 0.0
        return float(r * abs(r))

    every = by_epoch(found, metric)
    _require_candidates("names", names, every)
    return np.array([[fit(curve) for curve in every[name]] for name in names])
