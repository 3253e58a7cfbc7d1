"""The report that compares a gradient with finite differences, a record that prints as a table."""

import math
from typing import NamedTuple

KINK, NON_FINITE, TOO_SMALL, UNDECIDED = "kink", "non-finite", "step too small", "undecided"


class GradientRow(NamedTuple):
    """One leaf under one scheme.

    Errors and the uncertainty are relative to the leaf's largest quotient at the best steps, or to a fraction of the
    slopes nearby if that is larger.

    Attributes:
      leaf: the name of the leaf.
      scheme: the name of the scheme.
      directions: the number of coordinates (and random directions) that were checked.
      step: the step that `finite_difference` would use, or the step given; the largest over the leaf.
      error: the disagreement at that step.
      best_step: the most self-consistent step, chosen for each direction; the largest over the leaf.
      best_error: the disagreement at the best steps.
      uncertainty: the uncertainty of the quotients themselves at the best steps.
      order: the observed order of the truncation error, or NaN if it cannot be determined.
      expected_order: the order of the scheme.
      flags: any of "kink", "non-finite" and "step too small", with details.
      standard_error: that of the mean of a noisy gradient, the largest over the leaf; NaN if it has no noise.
    """

    leaf: str
    scheme: str
    directions: int
    step: float
    error: float
    best_step: float
    best_error: float
    uncertainty: float
    order: float
    expected_order: float
    flags: tuple[str, ...]
    standard_error: float = math.nan


class GradientReport(NamedTuple):
    """The result of `check_gradient`, which prints as a table.

    Attributes:
      ok: whether the gradient is finite and agrees everywhere, within rtol, with the scheme of least uncertainty, whose
        uncertainty must be small enough to decide, and the function has no kink at x.
      verdict: PASS if `ok`, FAIL if an error is proven, and UNDECIDED otherwise, with the reason.
      rows: one row per leaf and scheme.
      checked: the gradient under test.
      against: what it is compared with.
      value: the value of the function at x.
      rtol: the agreement that was required.
    """

    ok: bool
    verdict: str
    rows: tuple[GradientRow, ...]
    checked: str
    against: str
    value: float
    rtol: float

    def __str__(self) -> str:
        noisy = any(not math.isnan(row.standard_error) for row in self.rows)
        kind, more = ("bias", ("std. error",)) if noisy else ("error", ())
        head = ("leaf", "against", "step", kind, "best step", f"{kind} there", "+-", *more, "order", "flags")
        body = [
            (
                row.leaf,
                row.scheme,
                _figure(row.step),
                _figure(row.error),
                _figure(row.best_step),
                _figure(row.best_error),
                _figure(row.uncertainty),
                *([_figure(row.standard_error)] if noisy else []),
                _order(row),
                "; ".join(row.flags),
            )
            for row in self.rows
        ]
        widths = [max(len(line[k]) for line in (head, *body)) for k in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *body)
        ]
        title = f"checked: {self.checked}\nagainst: {self.against}"
        figures = "biases and standard errors" if noisy else "errors"
        note = f"{figures} are relative to the leaf's largest quotient; order: observed / expected"
        return "\n".join([title, *(line.rstrip() for line in lines), note, f"verdict: {self.verdict}"])


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else "0" if value == 0 else f"{value:.1e}"


def _order(row: GradientRow) -> str:
    if math.isnan(row.expected_order):
        return "-"
    return f"{'unclear' if math.isnan(row.order) else f'{row.order:.2f}'} / {row.expected_order:g}"
