"""Speed of a sweep, compared with what a user might use instead and with a C program, all in one run.

First case: Ackley's function in two dimensions, Adam, 500 steps, float32, from 1 to 10^6 starts. pytest-benchmark times
the contenders (`sweep_contenders.py`) after a warm-up. This is repeated in several rounds, so that a busy minute
affects all contenders, and medians are taken over all rounds. The C program (`sweep_limit_ackley.c`) times itself,
without reading and writing files. The unit is a million point-steps (steps of one start) per second. Two more functions
have a C program, too: Rastrigin's in two dimensions with RMSprop, Rosenbrock's in ten with momentum. Last case: a
64 x 64 grid of learning rates and momenta from 256 starts on Rosenbrock's function, 200 steps, against a Python loop
over jitted runs, and against building and compiling the optimizer for each setting.

Command: python -m benchmarks.sweep_speed (needs the extras `bench` and `oracle`, and gcc)
Writes benchmarks/results/sweep_speed.json.
Runtime: about 8 minutes on 2 CPU cores.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.sweep_contenders import CASES, c_limit, gdlab_case, starts_of
from gdlab import FUNCTIONS, sweep
from gdlab.analysis.tables import Table
from gdlab.optimizers import momentum
from gdlab.records import environment, write_json

ROOT = Path(__file__).parents[1]
ROUNDS = 2
STEPS = 500

ONCE = """
import resource, sys, time
import os
if {pinned}:
    os.sched_setaffinity(0, {{0}})
import numpy as np
from benchmarks.sweep_contenders import gdlab_sweep, c_limit
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
starts = np.random.default_rng(0).uniform(-5, 5, ({n}, 2)).astype(np.float32)
began = time.perf_counter()
gdlab_sweep(starts[:64], 500)
first = time.perf_counter() - began
ours, plain, tuned = [], [], []
for _ in range({repeats}):
    began = time.perf_counter()
    gdlab_sweep(starts, 500)
    ours.append(time.perf_counter() - began)
    if {pinned}:
        plain += c_limit(starts, 500, threads=1, tuned=False)[1]
        tuned += c_limit(starts, 500, threads=1)[1]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
middle = [np.median(found) if found else 0 for found in (ours, plain, tuned)]
print(before / 1024, after / 1024, first, *middle)
"""


def timed_cases() -> dict[tuple[str, int], list[float]]:
    """Return the seconds of every contender and number of starts, from several rounds over all cases."""
    seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            options = [
                "-n",
                "0",
                "-q",
                "-p",
                "no:cacheprovider",
                f"--benchmark-json={report}",
            ]
            subprocess.run(
                [sys.executable, "-m", "pytest", "benchmarks/test_sweep_speed.py", *options],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            for case in json.loads(report.read_text())["benchmarks"]:
                info = case["extra_info"]
                seconds[info["contender"], info["starts"]] += info.get("seconds", case["stats"]["data"])
    return seconds


def in_a_process(n: int, pinned: bool, repeats: int) -> dict[str, float]:
    """Measure a fresh process: memory before and at its peak, the first call, and medians of gdlab and of C."""
    code = ONCE.format(n=n, pinned=pinned, repeats=repeats)
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = ("mib_before", "mib_peak", "first_call_seconds", "seconds", "c_seconds", "c_tuned_seconds")
    return dict(zip(names, map(float, out.split()), strict=True))


def in_turn(case: str, n: int) -> dict[str, float]:
    """Time gdlab and the C program on all cores, in turns; return medians and their ratios."""
    starts = starts_of(case, n)
    gdlab_case(case, starts, STEPS)
    ours, plain, tuned = [], [], []
    for _ in range(15 if n < 10**6 else 7):
        began = time.perf_counter()
        gdlab_case(case, starts, STEPS)
        ours.append(time.perf_counter() - began)
        plain += c_limit(starts, STEPS, case=case, tuned=False)[1]
        tuned += c_limit(starts, STEPS, case=case)[1]
    seconds, c_seconds, tuned_seconds = (float(np.median(found)) for found in (ours, plain, tuned))
    return {
        "seconds": seconds,
        "c_seconds": c_seconds,
        "c_tuned_seconds": tuned_seconds,
        "ratio": c_seconds / seconds,
        "ratio_tuned": tuned_seconds / seconds,
    }


def grid_case() -> dict[str, Any]:
    """Time 4,096 settings x 256 starts; the loops run a part of the settings, and their time is scaled up."""
    fn = FUNCTIONS["rosenbrock"].fn
    rates, betas = np.geomspace(1e-5, 1e-2, 64), np.linspace(0, 0.99, 64)
    starts = np.random.default_rng(0).uniform(-2, 2, (256, 2)).astype(np.float32)
    settings = [(float(r), float(b)) for r in rates for b in betas]
    chosen = np.random.default_rng(1).permutation(len(settings))
    steps = 200

    def run(optimizer: optax.GradientTransformation, start: jax.Array) -> jax.Array:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            x, state = carry
            updates, state = optimizer.update(jax.grad(fn)(x), state, x)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[0][0]

    grid = {"learning_rate": rates, "momentum": betas}

    def whole() -> float:
        began = time.perf_counter()
        sweep(fn, momentum, grid, starts, max_steps=steps, progress=False)
        return time.perf_counter() - began

    looped = jax.jit(lambda r, b: jax.vmap(lambda start: run(optax.sgd(r, b), start))(jnp.asarray(starts)))

    def loop(count: int) -> float:
        began = time.perf_counter()
        for i in chosen[:count]:
            np.asarray(looped(*settings[i]))
        return (time.perf_counter() - began) * len(settings) / count

    def rebuild(count: int) -> float:
        began = time.perf_counter()
        for i in chosen[:count]:
            optimizer = optax.sgd(*settings[i])
            np.asarray(jax.jit(jax.vmap(lambda start, optimizer=optimizer: run(optimizer, start)))(jnp.asarray(starts)))
        return (time.perf_counter() - began) * len(settings) / count

    first = whole()
    np.asarray(looped(*settings[0]))
    rounds = [(whole(), loop(400), rebuild(8)) for _ in range(5)]
    ours, jitted, rebuilt = (float(np.median(column)) for column in zip(*rounds, strict=True))
    return {
        "settings": len(settings),
        "starts": len(starts),
        "steps": steps,
        "sweep_seconds": ours,
        "sweep_first_seconds": first,
        "loop_of_jitted_runs_seconds": jitted,
        "rebuilding_seconds": rebuilt,
        "measured_of_loop": 400,
        "measured_of_rebuilding": 8,
        "ratio_loop": jitted / ours,
        "ratio_rebuilding": rebuilt / ours,
        "ratio_rebuilding_with_compilation": rebuilt / first,
    }


def main() -> None:
    for package, extra in (("pytest_benchmark", "bench"), ("torch", "oracle")):
        if importlib.util.find_spec(package) is None:
            sys.exit(f"sweep_speed: expected {package}, which is not installed: pip install -e '.[{extra}]'")
    seconds = timed_cases()
    rows: list[dict[str, Any]] = []
    order = list(dict.fromkeys(name for name, _ in seconds))
    for (name, n), found in seconds.items():
        low, median, high = np.quantile(found, [0.25, 0.5, 0.75])
        rows.append(
            {
                "contender": name,
                "starts": n,
                "seconds": median,
                "seconds_quartiles": [low, high],
                "samples": len(found),
                "million_point_steps_per_second": n * STEPS / median / 1e6,
            }
        )
    rows.sort(key=lambda r: (order.index(r["contender"]), r["starts"]))
    rate = {(r["contender"], r["starts"]): r["million_point_steps_per_second"] for r in rows}
    names = list(dict.fromkeys(name for name, _ in rate))

    def best(name: str) -> float:
        return max((value for (other, _), value in rate.items() if other == name), default=float("nan"))

    pinned = in_a_process(100_000, True, 15)
    memory = in_a_process(1_000_000, False, 1)
    side_by_side = {f"{case}, {n} starts": in_turn(case, n) for case in CASES for n in (10**4, 10**5, 10**6)}
    ratios = {
        **{f"gdlab / C, {name}": pair["ratio"] for name, pair in side_by_side.items()},
        **{f"gdlab / C, tuned flags, {name}": pair["ratio_tuned"] for name, pair in side_by_side.items()},
        "gdlab / C, one core, 100000 starts": pinned["c_seconds"] / pinned["seconds"],
        "gdlab / C, tuned flags, one core, 100000 starts": pinned["c_tuned_seconds"] / pinned["seconds"],
        "gdlab at 10^6 / torch's best": rate["gdlab", 10**6] / best("torch"),
        "gdlab at 10^6 / source's loop": rate["gdlab", 10**6] / best("source's loop"),
        "gdlab at 10^6 / optax loop's best": rate["gdlab", 10**6] / best("optax loop"),
        "cost at 10^5 / cost at 10^6": rate["gdlab", 10**6] / rate["gdlab", 10**5],
        "cost at 10^4 / cost at 10^6": rate["gdlab", 10**6] / rate["gdlab", 10**4],
    }
    grid = grid_case()
    write_json(
        ROOT / "benchmarks" / "results" / "sweep_speed.json",
        {
            "environment": environment() | {"command": "python -m benchmarks.sweep_speed"},
            "rounds": ROUNDS,
            "rows": rows,
            "ratios": ratios,
            "one_core": pinned,
            "beside_c": side_by_side,
            "memory": memory,
            "grid": grid,
        },
    )
    starts = sorted({n for _, n in rate})
    cells = [(name, *(f"{rate[name, n]:.3g}" if (name, n) in rate else "" for n in starts)) for name in names]
    print(Table(("million point-steps / s", *(f"{n:,}" for n in starts)), cells).text(), end="\n\n")
    for values in (ratios, memory, grid):
        print("\n".join(f"{name}: {value:.4g}" for name, value in values.items()), end="\n\n")


if __name__ == "__main__":
    main()
