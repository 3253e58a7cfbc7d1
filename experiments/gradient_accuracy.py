"""Error of finite differences against their step size: V-shaped curves, truncation on the right, rounding on the left.

Claim: a scheme of order p has an error of O(h^p) until the rounding error, eps |f| / h, dominates. The best step is
therefore about eps^(1/(p+1)) and the best error about eps^(p/(p+1)), and in float32 no scheme that subtracts function
values has an error below about 1e-5. A complex step has no left branch.

Protocol: six schemes on four functions, in float64 and in float32, at the steps 1, 1/2, 1/4, ... down to the dtype's
eps; the error is relative to automatic differentiation in float64.

References: Gautschi, Numerical Analysis (2nd ed., 2012), section 8.6; for the complex step Squire and Trapp 1998, SIAM
Review 40(1).

Command:   python experiments/gradient_accuracy.py [--out DIR]
Expect:    observed orders within 0.1 of 1, 2 and 4 in float64; best errors near 1e-8, 1e-11 and 1e-13.
Runtime:   under a minute on 2 CPU cores, most of it compilation.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

from gdlab import FUNCTIONS, autodiff, check_gradient, plots
from gdlab.analysis.tables import Table
from gdlab.compute.interrupts import command
from gdlab.gradients import SCHEMES, error_curve
from gdlab.records import staged_folder, write_json

SHOWN = ("forward", "central", "central4", "central8", "richardson", "complex")


def textbook(x: Any) -> Any:
    """Return exp(x) / sqrt(sin^3 x + cos^3 x), the usual example; its derivative at 1.5 is 4.053427893898621."""
    x = x[0]
    return jnp.exp(x) / jnp.sqrt(jnp.sin(x) ** 3 + jnp.cos(x) ** 3)


CASES: dict[str, tuple[Callable[[Any], Any], tuple[float, ...]]] = {
    "exp(x) / sqrt(sin³x + cos³x)": (textbook, (1.5,)),
    "Ackley": (FUNCTIONS["ackley"].fn, (-2.0, -1.7)),
    "Levy, 4-D": (FUNCTIONS["levy"].fn, (0.3, -1.2, 2.4, 0.7)),
    "Goldstein-Price": (FUNCTIONS["goldstein_price"].fn, (0.6, -0.4)),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    out: Path = Path("runs/gradient_accuracy")
    """Output folder: gradient_accuracy.png and results.json."""


def ladder(dtype: Any) -> np.ndarray:
    """Return the steps 1, 1/2, 1/4, ... down to eps: powers of two are added to x without rounding."""
    return 2.0 ** -np.arange(0, int(-np.log2(np.finfo(dtype).eps)) + 1)


def measure() -> list[dict[str, Any]]:
    """Measure the errors at all steps, the best step and the observed order, per function, dtype and scheme."""
    records = []
    for name, (fn, point) in CASES.items():
        truth = np.asarray(autodiff(fn)(jnp.array(point, jnp.float64)))
        for dtype in (np.float64, np.float32):
            x = jnp.array(point, dtype)
            report = check_gradient(fn, x, schemes=SHOWN)
            orders = {row.scheme: row.order for row in report.rows}
            for scheme in SHOWN:
                steps = ladder(dtype)
                errors = error_curve(fn, x, scheme, steps, truth)
                best = int(np.nanargmin(errors))
                p, eps = SCHEMES[scheme].order, np.finfo(dtype).eps
                subtractive = SCHEMES[scheme].subtractive
                records.append(
                    {
                        "function": name,
                        "dtype": np.dtype(dtype).name,
                        "scheme": scheme,
                        "order": p,
                        "observed_order": orders[scheme],
                        "best_step": steps[best],
                        "best_error": errors[best],
                        "theory_step": eps ** (1 / (p + 1)) if subtractive else 0.0,
                        "theory_error": eps ** (p / (p + 1)) if subtractive else eps,
                        "steps": steps,
                        "errors": errors,
                    }
                )
    return records


def draw(records: list[dict[str, Any]]) -> Figure:
    """Draw error against step, one row per dtype and one column per function; an error of 0 is drawn at eps / 16."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    floors = {dtype: float(np.finfo(dtype).eps) / 16 for dtype in ("float64", "float32")}
    for dtype, floor in floors.items():
        rows[dtype] = {name: {} for name in CASES}
        for r in (r for r in records if r["dtype"] == dtype):
            rows[dtype][r["function"]][r["scheme"]] = (r["steps"], np.maximum(r["errors"], floor))
    return plots.curve_panels(
        rows,
        labels=("step h", "relative error"),
        guides={dtype: guides(dtype) for dtype in rows},
        limits={dtype: (floor / 2, 30) for dtype, floor in floors.items()},
    )


def guides(dtype: str) -> list[tuple[Any, Any, str]]:
    """Return lines of slope 1, 2 and 4 through (1, 1), and the rounding line eps / h."""
    eps = float(np.finfo(dtype).eps)
    lines = []
    for p in (1, 2, 4):
        h = np.geomspace(1.0, (3 * eps) ** (1 / p), 50)
        lines.append((h, h**p, f"$h^{p}$"))
    h = np.geomspace(eps, 0.2, 50)
    return [*lines, (h, eps / h, r"$\epsilon/h$")]


def report(records: list[dict[str, Any]]) -> Table:
    rows = [
        (
            r["function"],
            r["dtype"],
            r["scheme"],
            ("-" if np.isnan(r["observed_order"]) else f"{r['observed_order']:.2f}") + f" / {r['order']}",
            f"{r['best_step']:.1e}",
            f"{r['theory_step']:.1e}" if r["theory_step"] else "any",
            f"{r['best_error']:.1e}",
            f"{r['theory_error']:.1e}",
        )
        for r in records
    ]
    return Table(("function", "dtype", "scheme", "order", "best step", "theory", "error", "theory"), rows)


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)
    with staged_folder(config.out) as folder:
        records = measure()
        print(report(records).text())
        plots.save(draw(records), folder / "gradient_accuracy.png")
        write_json(folder / "results.json", records)
    print(f"\norder: observed / expected ('-': hidden by rounding). Written to {config.out}")


if __name__ == "__main__":
    with command("gradient_accuracy", OSError):
        main(tyro.cli(Config, description=__doc__))
