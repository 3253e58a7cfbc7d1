"""Verdicts of a judgement: a newcomer against each opponent, by family of problems, by network, and overall."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gdlab.analysis.sequential import Decision, decide_many

MARGIN = 0.1
"""The decimal digits of the error that make no difference on diagnostic problems: a factor of 1.26."""

NETWORK_MARGIN = 0.05
"""The decimal digits of the test loss that make no difference on networks: a factor of 1.12."""

OVERALL = ("all diagnostics", "all networks")

Scores = Mapping[str, np.ndarray]
"""For each family of problems or network, one score per seed, in decimal digits; more is better."""


class Verdicts(NamedTuple):
    """The verdicts against all opponents; each is about (newcomer - opponent), paired by seed.

    Attributes:
      overall: for each opponent, the verdict on the mean over all problems, and on the mean over all networks.
      parts: for each opponent, the verdict on each family of problems and on each network.
    """

    overall: dict[str, dict[str, Decision]]
    parts: dict[str, dict[str, Decision]]


def compare(
    problems: tuple[Scores, Mapping[str, Scores]], networks: tuple[Scores, Mapping[str, Scores]], *, alpha: float = 0.05
) -> Verdicts:
    """Compare a newcomer with its opponents.

    The overall verdicts, taken together, are wrong with a probability of at most `alpha`, and so are those on the
    parts: Holm's procedure over all opponents, families and networks, with intervals that are valid at any number of
    seeds.

    Args:
      problems: the scores of the newcomer and of each opponent by family; all families weigh the same.
      networks: the scores of the newcomer and of each opponent by network. Only seeds that both have are compared.
      alpha: the probability of any wrong verdict among the overall ones, and among those on the parts. Default 0.05.

    Returns:
      The `Verdicts`.
    """
    parts: dict[tuple[str, str], np.ndarray] = {}
    overall: dict[tuple[str, str], np.ndarray] = {}
    margins: dict[str, float] = {}
    for label, (ours, others), margin in zip(OVERALL, (problems, networks), (MARGIN, NETWORK_MARGIN), strict=True):
        for opponent, theirs in others.items():
            rows = {name: _differences(ours[name], theirs[name]) for name in ours if name in theirs}
            if not rows:
                continue
            parts |= {(opponent, name): row for name, row in rows.items()}
            margins |= dict.fromkeys([*rows, label], margin)
            seeds = min(map(len, rows.values()))
            overall[opponent, label] = np.mean([row[:seeds] for row in rows.values()], axis=0)
    return Verdicts(_judged(overall, margins, alpha), _judged(parts, margins, alpha))


def _differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    pairs = min(len(ours), len(theirs))
    return np.asarray(ours)[:pairs] - np.asarray(theirs)[:pairs]


def _judged(
    differences: Mapping[tuple[str, str], np.ndarray], margins: Mapping[str, float], alpha: float
) -> dict[str, dict[str, Decision]]:
    """Judge all differences by Holm's procedure, and return the verdicts by opponent and part."""
    if not differences:
        return {}
    keys = {"\n".join(key): row for key, row in differences.items()}
    verdicts = decide_many(keys, {key: margins[key.split("\n")[1]] for key in keys}, alpha=alpha)
    found: dict[str, dict[str, Decision]] = {}
    for key, verdict in verdicts.items():
        opponent, part = key.split("\n")
        found.setdefault(opponent, {})[part] = verdict
    return found
