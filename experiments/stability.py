"""Where momentum is stable: the learning rate x momentum plane of a quadratic, with the boundary that theory draws.

Claim: on sum lam_i x_i^2 / 2 with curvatures from mu to L, the heavy ball (Polyak 1964) converges exactly below
learning_rate = 2 (1 + momentum) / L, and Nesterov's momentum below 2 (1 + momentum) / (L (1 + 2 momentum)). The
measured contraction a step is the spectral radius of the iteration's matrix, least (sqrt(kappa) - 1) / (sqrt(kappa) +
1) for the heavy ball, at the star: Polyak's optimum. So momentum raises the largest stable rate of the heavy ball up to
twice, and lowers that of Nesterov's down to 2/3.

Contraction is measured from the last point of one descent a cell: (|x_T| / |x_0|)^(1/T). A cell is called stable where
it is below 1. The third picture is Rosenbrock's function, which is no quadratic: the share of 64 starts that reach its
minimum, with the same boundary for the curvature L at the minimum: a necessary condition for staying there, while
starts elsewhere meet curvatures above it.

Command:   python experiments/stability.py [--out DIR] [--cells 256] [--condition 25]
Expect:    measured and theoretical stability agree in every cell that is further than one cell from the boundary; the
           contraction differs from the spectral radius by less than 0.03 (a double eigenvalue grows as T rho^T).
Runtime:   under a minute on 2 CPU cores.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from gdlab import FUNCTIONS, plots, sweep
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_number
from gdlab.optimizers import momentum, nesterov
from gdlab.records import staged_folder, write_json

METHODS = {"heavy ball": momentum, "Nesterov": nesterov}


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs."""

    out: Path = Path("runs/stability")
    """Folder for results.json, a table and the pictures."""
    cells: int = 256
    """Learning rates, and momenta."""
    condition: float = 25.0
    """L / mu of the quadratic; mu is 1."""
    steps: int = 1000
    """Of each descent."""
    rosenbrock_cells: int = 96
    starts: int = 64
    """On Rosenbrock's function, for each cell."""

    def __post_init__(self) -> None:
        for name in ("cells", "rosenbrock_cells"):
            require_count(name, getattr(self, name), low=8)
        require_count("steps", self.steps, low=100)
        require_count("starts", self.starts)
        require_number("condition", self.condition, 1.0, open_low=True)


def boundary(method: str, beta: np.ndarray, largest: float) -> np.ndarray:
    """The learning rate above which the method diverges on the largest curvature."""
    if method == "heavy ball":
        return 2 * (1 + beta) / largest
    return 2 * (1 + beta) / (largest * (1 + 2 * beta))


def spectral_radius(method: str, rate: np.ndarray, beta: np.ndarray, curvatures: tuple[float, ...]) -> np.ndarray:
    """The largest modulus of the roots of the iteration's characteristic polynomial, over the curvatures.

    Heavy ball: z^2 - (1 + beta - rate lam) z + beta; Nesterov: z^2 - (1 + beta)(1 - rate lam) z + beta (1 - rate lam).
    """
    radius = np.zeros(np.broadcast_shapes(rate.shape, beta.shape))
    for curvature in curvatures:
        shrink = 1 - rate * curvature
        if method == "heavy ball":
            middle, last = shrink + beta, beta + 0 * shrink
        else:
            middle, last = (1 + beta) * shrink, beta * shrink
        root = np.sqrt((middle**2 - 4 * last).astype(complex))
        radius = np.maximum(radius, np.maximum(np.abs(middle + root), np.abs(middle - root)) / 2)
    return radius


def measure_quadratic(config: Config) -> tuple[list[dict[str, Any]], Any]:
    mu, largest = 1.0, config.condition
    curvatures = jnp.array([mu, largest])

    def quadratic(x: jax.Array) -> jax.Array:
        return jnp.sum(curvatures * x**2) / 2

    rates = np.linspace(0, 4.4 / largest, config.cells + 1)[1:]
    betas = np.linspace(0, 1, config.cells, endpoint=False)
    start = np.array([[1.0, 1.0]])
    ds = sweep(quadratic, METHODS, {"learning_rate": rates, "momentum": betas}, start, max_steps=config.steps)
    ends = ds.point.values[..., 0, :]
    length = np.hypot(ends[..., 0], ends[..., 1]) / np.sqrt(2)  # a sum of squares would underflow
    steps = np.maximum(ds.steps.values[..., 0], 1)
    contraction = np.where(length > 0, length, np.finfo(float).tiny) ** (1 / steps)  # (methods, rates, momenta)
    records, panels = [], {}
    for method, found in zip(METHODS, contraction, strict=True):
        theory = spectral_radius(method, rates[:, None], betas[None], (mu, largest))
        edge = boundary(method, betas, largest)[None]
        stable = rates[:, None] < edge
        near = np.abs(rates[:, None] - edge) <= rates[1] - rates[0]
        # A descent that has come down to rounding contracts no further.
        above = theory > np.finfo(float).tiny ** (1 / config.steps)
        difference = np.abs(np.minimum(found, 1.5) - np.minimum(theory, 1.5))[above & stable]
        best = np.unravel_index(np.argmin(found), found.shape)
        records.append(
            {
                "method": method,
                "cells": found.size,
                "disagree": int(np.count_nonzero((found < 1) != stable)),
                "disagree_off_boundary": int(np.count_nonzero(((found < 1) != stable) & ~near)),
                "largest_difference": float(difference.max()),
                "median_difference": float(np.median(difference)),
                "best_learning_rate": float(rates[best[0]]),
                "best_momentum": float(betas[best[1]]),
                "best_contraction": float(found[best]),
                "theory_best_contraction": float(theory.min()),
                "seconds": ds.attrs["seconds"],
            }
        )
        root = np.sqrt(config.condition)
        star = {"Polyak's optimum": (4 / (np.sqrt(largest) + np.sqrt(mu)) ** 2, ((root - 1) / (root + 1)) ** 2)}
        formula = "2(1+m)/L" if method == "heavy ball" else "2(1+m)/(L(1+2m))"
        panels[method] = plots.Map(
            rates,
            betas,
            found.T,
            {f"{method}: learning rate = {formula}": (boundary(method, betas, largest), betas)},
            star if method == "heavy ball" else {},
        )
    figure = plots.maps(
        panels,
        labels=("learning rate", "momentum"),
        colour_label="measured contraction per step",
        limits=(0.65, 1.15),
        title=f"A quadratic with curvatures 1 and {largest:g}: {config.cells} x {config.cells} descents each",
    )
    return records, figure


def measure_rosenbrock(config: Config) -> tuple[list[dict[str, Any]], Any]:
    function = FUNCTIONS["rosenbrock"]
    largest = float(jnp.linalg.eigvalsh(jax.hessian(function.fn)(jnp.ones(2)))[-1])
    rates = np.geomspace(1e-5, 1e-2, config.rosenbrock_cells)
    betas = 1 - np.geomspace(1, 1e-3, config.rosenbrock_cells)
    starts = np.random.default_rng(0).uniform(-2, 2, (config.starts, 2))
    ds = sweep(
        function,
        METHODS,
        {"learning_rate": rates, "momentum": betas},
        starts,
        max_steps=5000,
        target=1e-2,
        stop_at_target=True,
    )
    shares = ds.reached.mean("start").values
    panels, records = {}, []
    for method, share in zip(METHODS, shares, strict=True):
        stable = rates[:, None] < boundary(method, betas, largest)[None]
        best = np.unravel_index(np.argmax(share), share.shape)
        records.append(
            {
                "method": method,
                "curvature_at_minimum": largest,
                "best_share": float(share.max()),
                "best_learning_rate": float(rates[best[0]]),
                "best_momentum": float(betas[best[1]]),
                "share_within_boundary": float(share[stable].mean()),
                "share_beyond_boundary": float(share[~stable].mean()) if (~stable).any() else None,
                "seconds": ds.attrs["seconds"],
            }
        )
        panels[method] = plots.Map(
            rates,
            betas,
            share.T,
            {"largest rate that is stable at the minimum": (boundary(method, betas, largest), betas)},
        )
    figure = plots.maps(
        panels,
        labels=("learning rate", "momentum"),
        colour_label=f"share of {config.starts} starts that reach the minimum",
        limits=(0.0, 1.0),
        log_x=True,
        title="Rosenbrock's function, 5,000 steps",
    )
    return records, figure


def report(records: list[dict[str, Any]]) -> Table:
    rows = [
        (
            r["method"],
            f"{r['cells']}",
            f"{r['disagree']}",
            f"{r['disagree_off_boundary']}",
            f"{r['largest_difference']:.1e}",
            f"{r['best_learning_rate']:.3g}",
            f"{r['best_momentum']:.3g}",
            f"{r['best_contraction']:.4f}",
            f"{r['theory_best_contraction']:.4f}",
        )
        for r in records
    ]
    head = (
        "method",
        "cells",
        "disagree",
        "off boundary",
        "difference",
        "best lr",
        "momentum",
        "contraction",
        "theory",
    )
    return Table(head, rows, "Stability of momentum on a quadratic: measured against theory.")


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        quadratic, figure = measure_quadratic(config)
        plots.save(figure, folder / "quadratic.png")
        rosenbrock, figure = measure_rosenbrock(config)
        plots.save(figure, folder / "rosenbrock.png")
        report(quadratic).write(folder / "stability")
        write_json(folder / "results.json", quadratic)
        write_json(folder / "rosenbrock.json", rosenbrock)
    print(report(quadratic).text())
    for r in rosenbrock:
        print(
            f"\nRosenbrock, {r['method']}: {100 * r['best_share']:.0f}% of the starts at learning rate "
            f"{r['best_learning_rate']:.2g} and momentum {r['best_momentum']:.3g}; in the mean "
            f"{100 * r['share_within_boundary']:.0f}% within the boundary of the minimum, "
            f"{100 * (r['share_beyond_boundary'] or 0):.0f}% beyond."
        )
    print(
        "\ndisagree: cells where measured (contraction < 1) and theoretical stability differ. difference: the largest "
        f"between contraction and spectral radius.\nWritten to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except OSError as error:
        sys.exit(f"stability: {error}")
