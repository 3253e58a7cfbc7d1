"""What the authors of optimizers claim about others, judged on gdlab's races of functions.

The papers are those that `gdlab show NAME` lists for each optimizer. A claim reads "better than" or "as good as"
another optimizer. Its measure here is the share of starts from which each arrives, both tuned by the same search and
judged on the same starts. The interval of a difference of two shares joins the intervals of both by squaring and adding
(Newcombe 1998, method 10, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C873::AID-SIM779%3E3.0.CO;2-I), as if
their starts were different. Equal starts make shares move together, so the true interval is narrower.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MARGIN = 0.05
"""Two optimizers whose shares differ by less than five points are called equal."""


class Claim(NamedTuple):
    """What the authors of an optimizer say: `optimizer` is better than `other`, or as good as it."""

    optimizer: str
    other: str
    better: bool


BETTER = (
    ("nesterov", "momentum"),
    ("qhm", "momentum"),
    ("aggmo", "momentum"),
    ("demon_sgdm", "momentum"),
    ("schedule_free_sgd", "momentum"),
    ("madgrad", "momentum"),
    ("amsgrad", "adam"),
    ("nadam", "adam"),
    ("radam", "adam"),
    ("qhadam", "adam"),
    ("demon_adam", "adam"),
    ("adabelief", "adam"),
    ("yogi", "adam"),
    ("adan", "adam"),
    ("adopt", "adam"),
    ("ademamix", "adam"),
    ("lion", "adam"),
    ("sophia", "adam"),
    ("scion", "adam"),
    ("psgd_kron", "adam"),
    ("schedule_free_adamw", "adam"),
    ("stable_adamw", "adam"),
    ("prodigy", "dadapt_adam"),
    ("adadelta", "adagrad"),
    ("shampoo", "adagrad"),
    ("soap", "adam"),
    ("soap", "shampoo"),
    ("ssbroyden", "lbfgs"),
)
AS_GOOD = (("yellowfin", "momentum"), ("adafactor", "adam"), ("dadapt_adam", "adam"), ("prodigy", "adam"))
ON_VECTORS = (*(Claim(*pair, True) for pair in BETTER), *(Claim(*pair, False) for pair in AS_GOOD))
"""Claims judged on functions of vectors, where AdamW without decay, the opponent in some papers, is Adam."""

BETTER_ON_MATRICES = (
    ("muon", "adam"),
    ("moonlight", "adam"),
    ("normuon", "muon"),
    ("adamuon", "muon"),
    ("muonh", "muon"),
    ("soap_muon", "muon"),
    ("adamh", "adam"),
    ("soap", "adam"),
    ("soap", "shampoo"),
    ("kl_soap", "soap"),
    ("splus", "adam"),
    ("scion", "adam"),
    ("psgd_kron", "adam"),
    ("mars", "adam"),
    ("lion", "adam"),
)
AS_GOOD_ON_MATRICES = (
    ("adam_mini", "adam"),
    ("apollo", "adam"),
    ("galore", "adam"),
    ("adafactor", "adam"),
    ("dion", "muon"),
)
ON_MATRICES = (
    *(Claim(*pair, True) for pair in BETTER_ON_MATRICES),
    *(Claim(*pair, False) for pair in AS_GOOD_ON_MATRICES),
)
"""Claims judged on functions of matrices."""


class Finding(NamedTuple):
    """A claim, the difference of the shares and its 95% interval, and what that says.

    A claim holds, or the optimizer is worse, or equal (within the margin) where better was claimed, or it cannot be
    told.
    """

    claim: Claim
    difference: float
    low: float
    high: float
    verdict: str


def compare_shares(claim: Claim, records: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Judge a claim by the records of a race, by name."""
    one, other = (records[name] for name in claim[:2])
    difference = one["share"] - other["share"]
    below = math.hypot(one["share"] - one["share_low"], other["share_high"] - other["share"])
    above = math.hypot(one["share_high"] - one["share"], other["share"] - other["share_low"])
    low, high = difference - below, difference + above
    if high < (0 if claim.better else -MARGIN):
        verdict = "worse"
    elif low > (0 if claim.better else -MARGIN):
        verdict = "holds"
    else:
        verdict = "equal" if low > -MARGIN and high < MARGIN else "cannot be told"
    return Finding(claim, difference, low, high, verdict)


def findings(claims: tuple[Claim, ...], records: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Judge all claims by the records of one race."""
    by_name = {record["optimizer"]: record for record in records}
    return [compare_shares(claim, by_name) for claim in claims]
