"""A scan of a training step of one's own, against what a user would pick instead, all in one run.

The function: a perceptron (64, 32, 10) on scikit-learn's digits, 300 steps of Adam on batches of 64 in a `lax.scan`,
its learning rate and b1 given as arguments; 256 settings with 4 seeds each. Contenders: `gdlab.scan`; a loop in Python
over the jitted function, with the settings as traced arguments; hyperoptax's random search, as many settings at a time
as were fastest here; Optuna's default sampler, one trial at a time around the jitted function. Everything counts:
tracing, compilation, and transfer of the results to the host. Contenders alternate in several rounds, and medians are
reported. Further: the scan and the loop at 1 to 1,024 trainings, and what a repeated scan of 16 settings costs beyond
its arithmetic.

Command: python -m benchmarks.scan_speed (needs the extra `bench`)
Writes benchmarks/results/scan_speed.json.
Runtime: about 10 minutes on 2 CPU cores.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hyperoptax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
from jax import Array

from gdlab import log_range, sample_hyperparameters, scan
from gdlab.analysis.tables import Table
from gdlab.hyperparameters import linear_range
from gdlab.records import environment, write_json
from gdlab.scans import plans, programs, traces
from gdlab.tasks import digits_mlp

SETTINGS, SEEDS, STEPS, ROUNDS = 256, 4, 300, 3
COUNTS = (1, 2, 4, 16, 64, 256, 1024)
RANGES = {"learning_rate": log_range(1e-4, 1e-1), "b1": linear_range(0.5, 0.99)}
TRAIN = digits_mlp().train
IMAGES = jnp.asarray(TRAIN[0].reshape(len(TRAIN[0]), -1), jnp.float32) / 255
LABELS = jnp.asarray(TRAIN[1])


def training(key: Array, learning_rate: Any, b1: Any) -> dict[str, Array]:
    """Train the perceptron, as anyone would write it."""
    first, second, order = jax.random.split(key, 3)
    params = {
        "in": jax.random.normal(first, (64, 32)) / 8,
        "bias": jnp.zeros(32),
        "out": jax.random.normal(second, (32, 10)) / 6,
    }
    optimizer = optax.adam(learning_rate, b1=b1)

    def loss_of(params: Any, index: Array) -> Array:
        hidden = jax.nn.relu(IMAGES[index] @ params["in"] + params["bias"])
        return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["out"], LABELS[index]).mean()

    def step(carry: Any, key: Array) -> Any:
        params, state = carry
        index = jax.random.randint(key, (64,), 0, len(LABELS))
        loss, gradient = jax.value_and_grad(loss_of)(params, index)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    _, losses = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(order, STEPS))
    return {"loss": losses[-50:].mean()}


def points(count: int) -> list[dict[str, float]]:
    return sample_hyperparameters(RANGES, count)


def by_scan(settings: int, seeds: int) -> float:
    found = scan(training, points(settings), seeds=seeds, progress=False)
    return float(found.loss.mean("seed").min())


def by_loop(settings: int, seeds: int) -> float:
    run = jax.jit(lambda key, numbers: training(key, **numbers))
    found = [[run(jax.random.key(seed), point)["loss"] for seed in range(seeds)] for point in points(settings)]
    return float(np.min(np.mean(jax.device_get(found), axis=1)))


def by_hyperoptax(settings: int, seeds: int, at_once: int) -> float:
    space = {"learning_rate": hyperoptax.LogSpace(1e-4, 1e-1), "b1": hyperoptax.LinearSpace(0.5, 0.99)}

    def objective(key: Array, config: dict[str, Array]) -> Array:
        keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
        return jax.vmap(lambda key: training(key, **config)["loss"])(keys).mean()

    state, search = hyperoptax.RandomSearch.init(space, n_parallel=at_once)
    _, (_, found) = search.optimize_scan(state, jax.random.key(0), objective, settings // at_once)
    return float(np.min(found))


def by_optuna(settings: int, seeds: int) -> float:
    run = jax.jit(lambda key, numbers: training(key, **numbers))

    def objective(trial: Any) -> float:
        point = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
            "b1": trial.suggest_float("b1", 0.5, 0.99),
        }
        return float(np.mean([run(jax.random.key(seed), point)["loss"] for seed in range(seeds)]))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=settings)
    return float(study.best_value)


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds of a run that compiles anew, and the least loss that it found."""
    jax.clear_caches()
    for kept in (traces.TRACES, programs.COMPILED, programs.PLACED, plans.CHOICES):
        kept.clear()
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def compare() -> dict[str, Any]:
    contenders: dict[str, Callable[[], float]] = {
        "gdlab.scan": lambda: by_scan(SETTINGS, SEEDS),
        "loop over the jitted function": lambda: by_loop(SETTINGS, SEEDS),
        "hyperoptax, 16 settings at a time": lambda: by_hyperoptax(SETTINGS, SEEDS, 16),
        "hyperoptax, 64 settings at a time": lambda: by_hyperoptax(SETTINGS, SEEDS, 64),
        "Optuna, one trial at a time": lambda: by_optuna(SETTINGS, SEEDS),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            found[name].append(timed(run))
    base = statistics.median(seconds for seconds, _ in found["loop over the jitted function"])
    return {
        name: {
            "seconds": [seconds for seconds, _ in runs],
            "times_as_fast_as_the_loop": base / statistics.median(seconds for seconds, _ in runs),
            "least_loss": runs[0][1],
        }
        for name, runs in found.items()
    }


def by_count() -> list[dict[str, Any]]:
    rows = []
    for count in COUNTS:
        pair = functools.partial(by_scan, count, 1), functools.partial(by_loop, count, 1)
        scans, loops = zip(*[[timed(run)[0] for run in pair] for _ in range(ROUNDS)], strict=True)
        rows.append({"trainings": count, "scan_seconds": list(scans), "loop_seconds": list(loops)})
    return rows


def overhead() -> dict[str, float]:
    """Time repeated scans of 16 settings of a function with hardly any arithmetic."""

    def nothing(key: Array, learning_rate: Array) -> dict[str, Array]:
        return {"value": learning_rate * jax.random.uniform(key)}

    rates = {"learning_rate": np.geomspace(1e-4, 1e-1, 16)}
    times = []
    for _ in range(30):
        began = time.perf_counter()
        scan(nothing, rates, progress=False)
        times.append(time.perf_counter() - began)
    return {"first_call_seconds": times[0], "warm_call_seconds": statistics.median(times[10:])}


def ratio(row: dict[str, Any]) -> float:
    return statistics.median(row["loop_seconds"]) / statistics.median(row["scan_seconds"])


def show(rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    print(Table(tuple(head), [tuple(row) for row in rows]).text(), flush=True)


def main() -> None:
    compared = compare()
    cells = [
        (name, f"{statistics.median(one['seconds']):.1f}", f"{one['times_as_fast_as_the_loop']:.2f}")
        for name, one in compared.items()
    ]
    show(cells, ("contender", "seconds", "relative to the loop"))
    counted = by_count()
    show([(f"{row['trainings']}", f"{ratio(row):.2f}") for row in counted], ("trainings", "loop / scan"))
    warm = overhead()
    print(f"a repeated scan of 16 settings: {1e3 * warm['warm_call_seconds']:.1f} ms")
    write_json(
        Path(__file__).parent / "results" / "scan_speed.json",
        {
            "environment": environment() | {"command": "python -m benchmarks.scan_speed"},
            "settings": {"settings": SETTINGS, "seeds": SEEDS, "steps": STEPS, "rounds": ROUNDS},
            "results": compared,
            "by_count": counted,
            "overhead": warm,
        },
    )


if __name__ == "__main__":
    main()
