"""Where momentum is stable: a quadratic over the plane of learning rate and momentum, with the theoretical boundary.

Claim: on sum lam_i x_i^2 / 2 with curvatures from mu to L, the heavy ball (Polyak 1964) converges exactly below
learning_rate = 2 (1 + momentum) / L, and Nesterov's momentum below 2 (1 + momentum) / (L (1 + 2 momentum)). The
measured contraction per step is the spectral radius of the iteration matrix. For the heavy ball it is lowest at the
star, Polyak's optimum: (sqrt(kappa) - 1) / (sqrt(kappa) + 1) with kappa = L / mu. Momentum therefore raises the largest
stable rate of the heavy ball by up to a factor of 2, and lowers that of Nesterov's momentum to as little as 2/3.

Protocol: the contraction is measured at the last point of one descent per cell, (|x_T| / |x_0|)^(1/T); a cell counts as
stable where it is below 1. The other picture shows Rosenbrock's function, which is not quadratic: the share of 64
starts that reach its minimum, with the same boundary for the curvature L at the minimum. There the boundary is a
necessary condition for staying at the minimum, while descents meet larger curvatures elsewhere.

Command:   python experiments/stability.py [--out DIR] [--cells 256] [--condition 25]
Expect:    measured and theoretical stability agree in every cell that is further than one cell from the boundary; the
           contraction differs from the spectral radius by less than 0.03 (a double eigenvalue grows as T rho^T).
Runtime:   under a minute on 2 CPU cores.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

from gdlab import FUNCTIONS, plots, sweep
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_number
from gdlab.compute.interrupts import command
from gdlab.optimizers import momentum, nesterov
from gdlab.records import staged_folder, write_json
from gdlab.types import Factory


class Method(NamedTuple):
    """Gradient descent with momentum, and its theory on a quadratic with curvatures from mu to L.

    Attributes:
      factory: the optimizer's factory.
      boundary, formula: (momentum, L) -> the learning rate above which the method diverges; the same as text.
      polynomial: (1 - rate curvature, momentum) -> b and c of the characteristic polynomial z^2 - b z + c.
      optimum: (mu, L) -> the learning rate and the momentum of the fastest contraction, by name, where they are known.
    """

    factory: Factory
    boundary: Callable[[np.ndarray, float], np.ndarray]
    formula: str
    polynomial: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    optimum: Callable[[float, float], dict[str, tuple[float, float]]] = lambda mu, largest: {}


def polyak_optimum(mu: float, largest: float) -> dict[str, tuple[float, float]]:
    low, high = np.sqrt(mu), np.sqrt(largest)
    return {"Polyak's optimum": (4 / (high + low) ** 2, ((high - low) / (high + low)) ** 2)}


METHODS = {
    "heavy ball": Method(
        momentum,
        lambda beta, largest: 2 * (1 + beta) / largest,
        "2(1+m)/L",
        lambda shrink, beta: (shrink + beta, beta + 0 * shrink),
        polyak_optimum,
    ),
    "Nesterov": Method(
        nesterov,
        lambda beta, largest: 2 * (1 + beta) / (largest * (1 + 2 * beta)),
        "2(1+m)/(L(1+2m))",
        lambda shrink, beta: ((1 + beta) * shrink, beta * shrink),
    ),
}
FACTORIES = {name: method.factory for name, method in METHODS.items()}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    out: Path = Path("runs/stability")
    """Output folder: results.json, rosenbrock.json, a table and the pictures."""
    cells: int = 256
    """Number of learning rates, and of momenta."""
    condition: float = 25.0
    """Condition number L / mu of the quadratic; mu is 1."""
    steps: int = 1000
    """Number of steps of each descent on the quadratic."""
    rosenbrock_cells: int = 96
    starts: int = 64
    """Number of starts per cell on Rosenbrock's function."""

    def __post_init__(self) -> None:
        for name, low in (("cells", 8), ("rosenbrock_cells", 8), ("steps", 100), ("starts", 1)):
            require_count(name, getattr(self, name), low=low)
        require_number("condition", self.condition, 1.0, open_low=True)


def spectral_radius(method: Method, rate: np.ndarray, beta: np.ndarray, curvatures: tuple[float, ...]) -> np.ndarray:
    """Return the largest modulus of the characteristic polynomial's roots over the curvatures."""
    radius = np.zeros(np.broadcast_shapes(rate.shape, beta.shape))
    for curvature in curvatures:
        middle, last = method.polynomial(1 - rate * curvature, beta)
        root = np.sqrt((middle**2 - 4 * last).astype(complex))
        radius = np.maximum(radius, np.maximum(np.abs(middle + root), np.abs(middle - root)) / 2)
    return radius


def measure_quadratic(config: Config) -> tuple[list[dict[str, Any]], Figure]:
    """Compare the contraction in every cell with the spectral radius; return the records and the picture."""
    mu, largest = 1.0, config.condition

    def quadratic(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.array([mu, largest]) * x**2) / 2

    rates = np.linspace(0, 4.4 / largest, config.cells + 1)[1:]
    betas = np.linspace(0, 1, config.cells, endpoint=False)
    grid = {"learning_rate": rates, "momentum": betas}
    ds = sweep(quadratic, FACTORIES, grid, np.ones((1, 2)), max_steps=config.steps)
    ends = ds.point.values[..., 0, :]
    length = np.hypot(ends[..., 0], ends[..., 1]) / np.sqrt(2)  # a sum of squares would underflow
    length = np.where(length > 0, length, np.finfo(float).tiny)
    contraction = length ** (1 / np.maximum(ds.steps.values[..., 0], 1))  # (methods, rates, momenta)
    records, panels = [], {}
    for (name, method), found in zip(METHODS.items(), contraction, strict=True):
        theory = spectral_radius(method, rates[:, None], betas[None], (mu, largest))
        edge = method.boundary(betas, largest)
        stable = rates[:, None] < edge
        near = np.abs(rates[:, None] - edge) <= rates[1] - rates[0]
        # A descent that has reached the smallest positive number contracts no further.
        above = theory > np.finfo(float).tiny ** (1 / config.steps)
        difference = np.abs(np.minimum(found, 1.5) - np.minimum(theory, 1.5))[above & stable]
        best = np.unravel_index(np.argmin(found), found.shape)
        records.append(
            {
                "method": name,
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
        line = {f"{name}: learning rate = {method.formula}": (edge, betas)}
        panels[name] = plots.Map(rates, betas, found.T, line, method.optimum(mu, largest))
    return records, plots.maps(
        panels,
        labels=("learning rate", "momentum"),
        colour_label="measured contraction per step",
        limits=(0.65, 1.15),
        title=f"A quadratic with curvatures 1 and {largest:g}: {config.cells} x {config.cells} descents each",
    )


def measure_rosenbrock(config: Config) -> tuple[list[dict[str, Any]], Figure]:
    """Measure the share of starts that reach the minimum in every cell; return the records and the picture."""
    function = FUNCTIONS["rosenbrock"]
    largest = float(jnp.linalg.eigvalsh(jax.hessian(function.fn)(jnp.ones(2)))[-1])
    rates = np.geomspace(1e-5, 1e-2, config.rosenbrock_cells)
    betas = 1 - np.geomspace(1, 1e-3, config.rosenbrock_cells)
    starts = np.random.default_rng(0).uniform(-2, 2, (config.starts, 2))
    grid = {"learning_rate": rates, "momentum": betas}
    ds = sweep(function, FACTORIES, grid, starts, max_steps=5000, target=1e-2, stop_at_target=True)
    shares = ds.reached.mean("start").values
    panels, records = {}, []
    for (name, method), share in zip(METHODS.items(), shares, strict=True):
        edge = method.boundary(betas, largest)
        stable = rates[:, None] < edge
        best = np.unravel_index(np.argmax(share), share.shape)
        records.append(
            {
                "method": name,
                "curvature_at_minimum": largest,
                "best_share": float(share.max()),
                "best_learning_rate": float(rates[best[0]]),
                "best_momentum": float(betas[best[1]]),
                "share_within_boundary": float(share[stable].mean()),
                "share_beyond_boundary": float(share[~stable].mean()) if (~stable).any() else None,
                "seconds": ds.attrs["seconds"],
            }
        )
        panels[name] = plots.Map(rates, betas, share.T, {"largest rate that is stable at the minimum": (edge, betas)})
    return records, plots.maps(
        panels,
        labels=("learning rate", "momentum"),
        colour_label=f"share of {config.starts} starts that reach the minimum",
        limits=(0.0, 1.0),
        log_x=True,
        title="Rosenbrock's function, 5,000 steps",
    )


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
    measured = ("cells", "disagree", "off boundary", "difference", "best lr", "momentum", "contraction")
    return Table(("method", *measured, "theory"), rows, "Stability of momentum on a quadratic: measurement and theory.")


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
            f"\nRosenbrock, {r['method']}: at best {100 * r['best_share']:.0f}% of the starts, at learning rate "
            f"{r['best_learning_rate']:.2g} and momentum {r['best_momentum']:.3g}; on average "
            f"{100 * r['share_within_boundary']:.0f}% inside the stability boundary of the minimum and "
            f"{100 * (r['share_beyond_boundary'] or 0):.0f}% outside."
        )
    print(
        "\ndisagree: cells where measured (contraction < 1) and theoretical stability differ. difference: largest gap "
        f"between contraction and spectral radius.\nWritten to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    with command("stability", OSError):
        main(tyro.cli(Config, description=__doc__))
