"""Claims about optimizers, judged by margins with intervals: one holds, does not hold, or cannot be told.

A claim is a set of margins, one row each, with a value for every seed. It holds where the bootstrap intervals of all
their means lie above 0, it does not hold where one lies below, and otherwise it cannot be told.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from gdlab.analysis.statistics import bootstrap_interval

HOLDS, DOES_NOT_HOLD, CANNOT_BE_TOLD = "holds", "does not hold", "cannot be told"

DECISION = (
    "A claim holds where the bootstrap intervals of all its margins lie above 0; it does not hold where one lies below."
)

LEAST_EPOCHS = 10
"""Claims about whole curves are not told from fewer."""

COVERAGE = {2: 50, 3: 75, 4: 80, 5: 84, 6: 87, 8: 88, 10: 90, 20: 93}
"""Percent of percentile-bootstrap intervals for 95% that hold the mean of n normal samples (8,000 simulated)."""


class Finished(Protocol):
    """What a claim looks at of a run: its history, a value of each metric per epoch, and whether it diverged."""

    @property
    def history(self) -> Mapping[str, Any]:
        """Of each metric its values, one per epoch."""

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""


Results = Mapping[str, Sequence[Any]]
"""Of each candidate a run (`Finished`) for each seed."""


class Claim(NamedTuple):
    """A statement, and the margins that decide it.

    margins(found) -> (margins, seeds): all must be positive in the mean. criterion: what the margins are, in words.
    needs: the candidates without which it cannot be told. whole_curves: whether it is about whole curves.
    """

    text: str
    criterion: str
    needs: tuple[str, ...]
    margins: Callable[[Results], Float[np.ndarray, "margins seeds"]]
    whole_curves: bool = False


class Verdict(NamedTuple):
    """verdict: HOLDS, DOES_NOT_HOLD or CANNOT_BE_TOLD. why: in words. margins: estimate, low and high end of each."""

    claim: Claim
    verdict: str
    why: str
    margins: Float[np.ndarray, "margins 3"] | None = None

    def record(self) -> dict[str, Any]:
        """For a file of JSON."""
        found = {"claim": self.claim.text, "criterion": self.claim.criterion, "verdict": self.verdict, "why": self.why}
        return found if self.margins is None else found | {"margins": self.margins}


def judge(
    claim: Claim, found: Results, *, rivals: Sequence[str] | None = None, labels: Mapping[str, str] | None = None
) -> Verdict:
    """The claim's verdict.

    found: of all candidates. rivals: those that count beside the ones that the claim names, as far as none of their
    runs diverged; None: all. labels: the candidates' names in the verdict's words.
    """
    shown = labels or {}

    def untold(why: str) -> Verdict:
        return Verdict(claim, CANNOT_BE_TOLD, why)

    if missing := [shown.get(name, name) for name in claim.needs if name not in found]:
        return untold(f"it needs {', '.join(missing)}, which did not run")
    failed = [name for name, runs in found.items() if any(run.diverged for run in runs)]
    if lost := [shown.get(name, name) for name in claim.needs if name in failed]:
        return untold(f"a run of {', '.join(lost)} diverged")
    counted = [name for name in found if name not in failed and (rivals is None or name in (*rivals, *claim.needs))]
    asked = {name: found[name] for name in counted}
    lengths = {len(next(iter(run.history.values()))) for runs in asked.values() for run in runs}
    if any(len(runs) < 2 for runs in asked.values()):
        return untold("one seed has no interval")
    if claim.whole_curves and (len(lengths) > 1 or max(lengths) < LEAST_EPOCHS):
        return untold(f"it needs whole curves of at least {LEAST_EPOCHS} epochs")
    margins = bootstrap_interval(claim.margins(asked))
    verdict = CANNOT_BE_TOLD
    if (margins.low > 0).all():
        verdict = HOLDS
    elif (margins.high < 0).any():
        verdict = DOES_NOT_HOLD
    worst = int(np.argmin(margins.estimate))
    least, low, high = (f"{end[worst]:.4g}" for end in margins)
    return Verdict(claim, verdict, f"least margin {least} [{low}, {high}]", np.stack(margins, axis=-1))


def at_end(found: Results, metric: str) -> dict[str, Float[np.ndarray, " seeds"]]:
    """Of each candidate the metric's last value, for each seed."""
    return {name: np.array([run.history[metric][-1] for run in runs], float) for name, runs in found.items()}


def by_epoch(found: Results, metric: str) -> dict[str, Float[np.ndarray, "seeds epochs"]]:
    """Of each candidate the metric over all epochs, for each seed."""
    return {name: np.stack([run.history[metric] for run in runs]) for name, runs in found.items()}


def differences(
    values: Mapping[str, Float[np.ndarray, " seeds"]], first: Sequence[str], second: Sequence[str] = ()
) -> Float[np.ndarray, "pairs seeds"]:
    """Each of the first less each of the second, which are by default all others; a row per pair."""
    return np.array([values[a] - values[b] for a in first for b in second or [n for n in values if n not in first]])


def share_ahead(found: Results, metric: str, name: str) -> Float[np.ndarray, "1 seeds"]:
    """The share of epochs in which no other candidate has a higher metric than this one."""
    every = by_epoch(found, metric)
    rest = np.max([curve for other, curve in every.items() if other != name], axis=0)
    return np.array([(every[name] >= rest).mean(axis=1)])


def in_order(found: Results, metric: str, names: Sequence[str]) -> Float[np.ndarray, "pairs seeds"]:
    """Each candidate's final metric less that of the next one."""
    last = at_end(found, metric)
    return np.array([last[better] - last[worse] for better, worse in itertools.pairwise(names)])


def early_means(found: Results, metric: str, parts: int = 10) -> dict[str, Float[np.ndarray, " seeds"]]:
    """Of each candidate the mean over the first of so many parts of the epochs."""
    return {
        name: curve[:, : -(-curve.shape[1] // parts)].mean(axis=1) for name, curve in by_epoch(found, metric).items()
    }


def late_rises(found: Results, metric: str, names: Sequence[str], parts: int = 5) -> Float[np.ndarray, "names seeds"]:
    """Of each candidate the mean over the last of so many parts of the epochs, over the least mean of any as long."""
    rises = []
    for name in names:
        curve = by_epoch(found, metric)[name]
        width = max(1, curve.shape[1] // parts)
        means = np.lib.stride_tricks.sliding_window_view(curve, width, 1).mean(axis=-1)
        rises.append(means[:, -1] / means.min(axis=1))
    return np.array(rises)


def linearity(found: Results, metric: str, names: Sequence[str]) -> Float[np.ndarray, "names seeds"]:
    """Of each candidate R^2 of a line through the metric over epochs, negative where the line falls."""

    def fit(curve: Float[np.ndarray, " epochs"]) -> float:
        r = np.corrcoef(np.arange(len(curve)), curve)[0, 1] if np.ptp(curve) else 0.0
        return float(r * abs(r))

    return np.array([[fit(curve) for curve in by_epoch(found, metric)[name]] for name in names])
