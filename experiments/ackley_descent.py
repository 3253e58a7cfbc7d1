"""Gradient descent on Ackley's function: the source article's result reproduced, corrected, and done soundly.

Claim of the source article, a Paperspace tutorial that writes gradient descent and momentum from scratch, draws them on
Ackley's function and compares seven PyTorch optimizers on CIFAR10: from (-2, -2), with learning rate 1e-5, h = 1e-3 and
a stop at sum |dx| < h, gradient descent converges in 139 epochs and momentum 0.1 in 127. Both counts are reproduced
exactly, but only if the difference quotient is computed as printed, f(x + h) - f(x - h) / (2 h), without parentheses
around the difference. This is not a derivative: it is about -f(x) / (2 h), so x climbs along (1, 1) until f is near 0,
whatever the slope. With a true derivative the same settings stop after one step, which is already below the tolerance.

Protocol: the sound experiment uses automatic differentiation, a tolerance that corresponds to a gradient of 1e-8, and
ten methods from 1,000 random starts in [-5, 5]^2, each method at the learning rate (one of 13, with cosine decay) that
did best on 256 other starts. Their paths at all rates, from 16 starts, are a page with sliders: explore.html.

Command:   python experiments/ackley_descent.py [--out DIR] [--interactive [--backend vispy]]
Expect:    139 and 127 epochs with the printed quotient, 1 with the other gradients; every sound descent from (-2, -2)
           ends in the local minimum (-1.974, -1.974); plain gradient descent reaches the global minimum from over 95%
           of the random starts at a learning rate near 0.2, and from 2% at 0.01.
Runtime:   under 60 s on 2 CPU cores, most of it compilation.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from gdlab import FUNCTIONS, OPTIMIZERS, Grid, descend, evaluate_grid, finite_difference, plots, sweep
from gdlab.analysis.arrivals import share_cells, share_record
from gdlab.analysis.tables import Table
from gdlab.arguments import as_path, require_count, require_number
from gdlab.compute.interrupts import command
from gdlab.gradients import Scheme
from gdlab.optimizers import momentum, sgd
from gdlab.plots import interactive
from gdlab.records import staged_folder, write_json
from gdlab.schedules import cosine
from gdlab.types import Factory

ACKLEY = FUNCTIONS["ackley"].fn
MINIMIZERS = FUNCTIONS["ackley"].minimizers(2)
PRINTED_QUOTIENT = Scheme(
    "printed_quotient",
    0,
    lambda line, h: line(h) - line(-h) / (2 * h),  # as printed; the central difference is (line(h) - line(-h)) / (2 h)
    lambda x: jnp.full_like(x, 1e-3),
)
METHODS: dict[str, Factory] = {
    "sgd": sgd,
    "momentum 0.1": partial(momentum, momentum=0.1),
    "momentum 0.9": partial(momentum, momentum=0.9),
    **{name: OPTIMIZERS[name] for name in ("nesterov", "adam", "adamw", "adamax", "adagrad", "adadelta", "rmsprop")},
}
Paths = dict[str, np.ndarray]
RATES = np.geomspace(1e-3, 10, 13)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the article, followed by those of the sound experiment."""

    out: Path = Path("runs/ackley_descent")
    """Output folder: results.json, starts.json, shares.json, the figures, the GIF and the page explore.html."""
    start: tuple[float, float] = (-2.0, -2.0)
    learning_rate: float = 1e-5
    step: float = 1e-3
    """Step h of the difference quotients, and the article's tolerance on sum |dx|."""
    momenta: tuple[float, ...] = (0.0, 0.1, 0.9)
    max_epochs: int = 100_000
    sound_learning_rate: float = 0.01
    gradient_tolerance: float = 1e-8
    starts: int = 1000
    tuning_starts: int = 256
    half_width: float = 5.0
    """Random starts are drawn uniformly from [-half_width, half_width]^2."""
    steps: int = 500
    """Number of steps of each descent from a random start."""
    reached: float = 0.05
    """A descent reaches the global minimum if it ends within this distance of it."""
    seed: int = 0
    interactive: bool = False
    """Also write a surface to turn with these descents on it, and open it if there is a display."""
    backend: Literal["plotly", "vispy"] = "plotly"
    """What draws it: plotly, as a page (extra `interactive`), or vispy, in a window and a picture (extra `vispy`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", as_path("out", self.out))  # with ~ as the home directory
        for name in ("max_epochs", "starts", "tuning_starts", "steps"):
            require_count(name, getattr(self, name))
        for name in ("learning_rate", "step", "sound_learning_rate", "gradient_tolerance", "half_width", "reached"):
            require_number(name, getattr(self, name), 0.0, open_low=True)
        require_count("seed", self.seed, low=0)
        for coordinate in self.start:
            require_number("start", coordinate)
        if len(set(self.momenta)) < len(self.momenta) or not self.momenta:
            raise ValueError(f"momenta: expected at least one, without repeats, got {list(self.momenta)}")
        for m in self.momenta:
            require_number("momenta", m, 0.0, 1.0, open_high=True)


def from_one_start(config: Config) -> list[dict[str, Any]]:
    """Run the article's settings with three gradients, then the sound ones; one program runs all momenta of each."""
    gradients = {
        "printed_quotient": finite_difference(ACKLEY, PRINTED_QUOTIENT, config.step),
        "central": finite_difference(ACKLEY, "central", config.step),
        "autodiff": jax.grad(ACKLEY),
    }
    settings = [("source", name, config.learning_rate, config.step) for name in gradients]
    sound = config.sound_learning_rate
    settings.append(("sound", "autodiff", sound, sound * config.gradient_tolerance))
    fixed: dict[str, Any] = {"max_steps": config.max_epochs, "record": "last"}
    records = []
    for setting, name, rate, tolerance in settings:
        run = partial(descend, ACKLEY, tolerance=tolerance, gradient=gradients[name], **fixed)
        one = jax.vmap(lambda m, run=run, rate=rate: run(momentum(rate, momentum=m), start=config.start))
        descents = jax.jit(one)(jnp.array(config.momenta))
        common = {"setting": setting, "gradient": name, "learning_rate": rate, "tolerance": tolerance}
        for k, m in enumerate(config.momenta):
            method = {"method": "momentum" if m else "vanilla", "momentum": m}
            flags = {flag: bool(getattr(descents, flag)[k]) for flag in ("converged", "diverged")}
            end = {"epochs": int(descents.steps[k]), "point": descents.point[k], "value": float(descents.value[k, -1])}
            records.append(common | method | flags | end)
    return records


def from_many_starts(config: Config) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Measure the share of starts that end at the global minimum, at each method's tuned rate and at every rate."""
    count, width = config.starts + config.tuning_starts, config.half_width
    starts = jax.random.uniform(jax.random.key(config.seed), (count, 2), minval=-width, maxval=width)

    def reached(optimizer: optax.GradientTransformation, start: jax.Array, **settings: Any) -> jax.Array:
        end = descend(ACKLEY, optimizer, start, record="last", **settings).point
        return jnp.linalg.norm(end - MINIMIZERS[0], axis=-1) < config.reached

    def entry(name: str, gradient: str, rate: float, hits: np.ndarray) -> dict[str, Any]:
        return {"method": name, "gradient": gradient, "learning_rate": rate, **share_record(hits)}

    def tuned(factory: Factory, peak: jax.Array, start: jax.Array) -> jax.Array:
        return reached(factory(cosine(peak, config.steps)), start, max_steps=config.steps)

    records, shares = [], {}
    for name, factory in METHODS.items():
        grid = jax.jit(jax.vmap(jax.vmap(partial(tuned, factory), (None, 0)), (0, None)))
        hits = np.asarray(grid(jnp.asarray(RATES), starts))  # (learning rates, starts)
        tuning, held_out = hits[:, : config.tuning_starts], hits[:, config.tuning_starts :]
        best = int(np.argmax(tuning.mean(axis=1)))
        records.append(entry(name, "autodiff", float(RATES[best]), held_out[best]))
        shares[name] = held_out.mean(axis=1)

    printed = finite_difference(ACKLEY, PRINTED_QUOTIENT, config.step)
    article = partial(reached, sgd(config.learning_rate), max_steps=2000, tolerance=config.step, gradient=printed)
    hits = np.asarray(jax.jit(jax.vmap(article))(starts[config.tuning_starts :]))
    return [*records, entry("sgd as printed", "printed_quotient", config.learning_rate, hits)], shares


def walk(optimizer: optax.GradientTransformation, start: tuple[float, float], **settings: Any) -> np.ndarray:
    """Return the path of a descent up to the point where it stops."""
    descent = jax.jit(lambda x: descend(ACKLEY, optimizer, x, **settings))(jnp.array(start))
    return np.asarray(descent.path)[: int(descent.steps) + 1]


def draw_article(config: Config, grid: Grid, folder: Path) -> None:
    """Draw the function in four views, and the article's two descents."""
    for view in ("scatter", "contour3d", "surface"):
        plots.save(getattr(plots, view)(grid, title="Ackley's function"), folder / f"ackley_{view}.png")
    plots.save(plots.contour(grid, minimizers=MINIMIZERS, title="Ackley's function"), folder / "ackley_contour.png")
    printed = finite_difference(ACKLEY, PRINTED_QUOTIENT, config.step)
    paths = {}
    for name, m in (("vanilla", 0.0), ("momentum 0.1", 0.1)):
        optimizer = momentum(config.learning_rate, momentum=m)
        path = walk(optimizer, config.start, max_steps=200, tolerance=config.step, gradient=printed)
        paths[f"{name}: {len(path) - 1} epochs"] = path
    title = "The article's descents: the printed quotient climbs\nalong (1, 1) over every ridge to where f is near 0"
    plots.save(plots.paths(grid, paths, minimizers=MINIMIZERS, title=title), folder / "paths_printed_quotient.png")


def draw_sound(config: Config, grid: Grid, tuned: dict[str, float], shares: dict[str, Any], folder: Path) -> Paths:
    """Draw all methods from one start at their tuned rates, and the shares at every rate; returns the paths."""
    racers: Paths = {}
    for name, factory in METHODS.items():
        optimizer = factory(cosine(tuned[name], config.steps))
        racers[f"{name}, lr {tuned[name]:.2g}"] = walk(optimizer, (-2.4, 1.7), max_steps=config.steps)
    few = {name: path[:26] for name, path in list(racers.items())[:4]}  # the first four, to keep their colours
    title = "The first 25 steps of four methods, tuned learning rates"
    plots.save(plots.paths(grid, few, minimizers=MINIMIZERS, title=title), folder / "paths_tuned.png")
    title = "Ten methods from one start, tuned learning rates"
    heights = {name: np.asarray(jax.vmap(ACKLEY)(jnp.asarray(path))) for name, path in racers.items()}
    plots.save(plots.values(heights, title=title), folder / "values_tuned.png")
    plots.write_gif(folder / "race.gif", plots.race(grid, racers, minimizers=MINIMIZERS, title=title, tail=6))
    title = f"Share of {config.starts} starts in $[-{config.half_width:g}, {config.half_width:g}]^2$ "
    title += f"that end at the global minimum\n({config.steps} steps, cosine decay)"
    series = {name: (RATES, share) for name, share in shares.items()}
    figure = plots.curves(series, title=title, labels=("peak learning rate", "share"), log_y=False)
    plots.save(figure, folder / "share_of_starts.png")
    return racers


def write_page(config: Config, path: Path) -> None:
    """Write a page on which the paths of all methods at every rate can be explored."""

    def tunable(factory: Factory) -> Factory:
        return lambda learning_rate: factory(cosine(learning_rate, config.steps))

    ackley = FUNCTIONS["ackley"]._replace(lower=-config.half_width, upper=config.half_width)
    starts = np.random.default_rng(config.seed).uniform(*ackley.bounds(2), (16, 2))
    factories = {name: tunable(factory) for name, factory in METHODS.items()}
    rates = {"learning_rate": RATES}
    runs = sweep(ackley, factories, rates, starts, max_steps=config.steps, record="path", progress=False)
    title = "Descents on Ackley's function with cosine decay"
    interactive.save(interactive.explore(ackley, runs, thin=max(1, config.steps // 100), title=title), path)


def one_start_table(records: list[dict[str, Any]]) -> Table:
    def row(r: dict[str, Any]) -> tuple[str, ...]:
        method = r["method"] + (f" {r['momentum']:g}" if r["momentum"] else "")
        point = f"({r['point'][0]:.8g}, {r['point'][1]:.8g})"
        numbers = (f"{r['learning_rate']:g}", str(r["epochs"]), "yes" if r["converged"] else "no")
        return r["setting"], r["gradient"], method, *numbers, point, f"{r['value']:.6f}"

    header = ("settings", "gradient", "method", "lr", "epochs", "stopped", "point", "value")
    return Table(header, [row(record) for record in records])


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)  # the article's counts hold in float64
    if config.interactive:
        interactive.require_backend(config.backend)  # a missing extra is reported before the work
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        records = from_one_start(config)
        print(f"Ackley's function from {config.start}; the article reports 139 epochs (vanilla) and 127 (momentum 0.1)")
        print(f"\n{one_start_table(records).text()}\n")
        print("'stopped': sum |dx| < tolerance. At the source's settings the first true step is already below it.\n")
        starts, shares = from_many_starts(config)
        rows = [(r["method"], f"{r['learning_rate']:.3g}", *share_cells(r)) for r in starts]
        print(f"Share of {config.starts} random starts that end at the global minimum, each method at its tuned rate:")
        print(f"\n{Table(('method', 'lr', 'share', '95% interval'), rows).text()}\n")
        low = shares["sgd"][np.argmin(np.abs(RATES - 0.01))]
        print(f"sgd at learning rate 0.01: {100 * low:.1f}%. The step size matters more than the choice of method.\n")
        grid = evaluate_grid(ACKLEY, -3.0, 3.0)
        draw_article(config, grid, folder)
        racers = draw_sound(config, grid, {r["method"]: r["learning_rate"] for r in starts}, shares, folder)
        write_page(config, folder / "explore.html")
        write_json(folder / "starts.json", starts)
        write_json(folder / "shares.json", {"learning_rates": RATES, "shares": shares})
        write_json(folder / "results.json", records)
        if config.interactive:
            turned = interactive.surface(grid, racers, backend=config.backend, steps=25, title="Ackley's function")
            interactive.save(turned, folder / f"ackley_interactive{interactive.BACKENDS[config.backend]}")
    print(f"Written to {config.out} in {time.perf_counter() - began:.0f} s")
    if config.interactive and interactive.has_display():
        interactive.show(turned)


if __name__ == "__main__":
    with command("ackley_descent", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
