"""The result of a race between optimizers: who arrives from how many starts, how fast, and how easily it is tuned."""

from typing import Any

import numpy as np
import xarray as xr

from gdlab.analysis import intervals
from gdlab.analysis import statistics as st
from gdlab.analysis.rankings import average_ranks
from gdlab.arguments import require_instance

__all__ = ["race_records"]


def race_records(tuning: xr.Dataset, judged: xr.Dataset) -> list[dict[str, Any]]:
    """Summarize a race as one record per optimizer, the largest share of starts first.

    Args:
      tuning: the sweep in which the settings were tried, with the dimensions optimizer, function, trial and start.
      judged: the sweep of the chosen settings, with one trial. Both are those of `gdlab.sweeps.Race`.

    Returns:
      Records with the share of starts that arrive and its bootstrap interval over starts (the functions are fixed);
      the mean rank over the functions; quartiles of the steps, where a start that does not arrive counts as inf; the
      shares of starts from which an optimizer takes at most twice and four times the steps of the quickest; the mean
      width in decades of the region of learning rates with at least 90% of the best share; the share that a search of
      k trials is expected to find; and the same for each function.

    Raises:
      TypeError: if an argument is not a dataset.
      ValueError: if a dataset lacks one of these dimensions, or the sweep had no target.
    """
    _require_sweeps(tuning=tuning, judged=judged)
    order = ("optimizer", "function", "trial", "start")
    arrived = judged.reached.transpose(*order).values[:, :, 0]  # (optimizers, functions, starts)
    steps = st.steps_or_never(judged.first_reached.transpose(*order).values[:, :, 0])
    shares = arrived.mean(axis=-1)
    flat = np.maximum(steps, 1).reshape(len(steps), -1)
    profile = st.performance_profile(flat, np.array([1.0, 2.0, 4.0]))
    ranks = average_ranks(shares, better="higher")
    tried = tuning.reached.transpose(*order).values.mean(axis=-1)  # (optimizers, functions, trials)
    rates = tuning.learning_rate.values
    budgets = np.array([b for b in (1, 2, 4, 8, 16, 32) if b <= len(rates)])
    curves = st.tuning_curve(tried, budgets, better="higher").mean(axis=1)
    chosen = judged.learning_rate.transpose(*order[:3]).values[:, :, 0]
    records = []
    for i, name in enumerate(judged.optimizer.values):
        interval = intervals.bootstrap_interval(arrived[i].mean(axis=0))  # resamples starts, alike for all functions
        regions = [st.good_region(rates, row) for row in tried[i]]
        widths = [0.0 if region is None else region.decades for region in regions]
        lower, median, upper = st.quartiles(flat[i])
        records.append(
            {
                "optimizer": str(name),
                "share": float(interval.estimate),
                "share_low": float(interval.low),
                "share_high": float(interval.high),
                "rank": float(ranks[i]),
                "steps_lower": float(lower),
                "steps_median": float(median),
                "steps_upper": float(upper),
                "within_2x": float(profile[i, 1]),
                "within_4x": float(profile[i, 2]),
                "good_decades": float(np.mean(widths)),
                "tuning": {str(b): float(value) for b, value in zip(budgets, curves[i], strict=True)},
                "functions": {
                    str(function): {
                        "learning_rate": float(chosen[i, j]),
                        "share": float(shares[i, j]),
                        "median_steps": float(st.quartiles(steps[i, j]).median),
                        "good_decades": float(widths[j]),
                    }
                    for j, function in enumerate(judged.function.values)
                },
            }
        )
    return sorted(records, key=lambda r: -r["share"])


def _require_sweeps(**sweeps: Any) -> None:
    for name, ds in sweeps.items():
        require_instance(name, ds, xr.Dataset, "a dataset, as a Race of gdlab.sweeps holds it")
        missing = [k for k in ("optimizer", "function", "trial", "start") if k not in ds.dims]
        missing += [k for k in ("reached", "first_reached", "learning_rate") if k not in ds]
        if missing:
            raise ValueError(f"{name}: expected a sweep of a race, with {missing[0]!r}, got {', '.join(map(str, ds))}")
