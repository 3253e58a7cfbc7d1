"""The map of an optimizer: which problems it solves, at which level, when it is tuned on other seeds."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from gdlab.arguments import describe, require_count, require_flag, require_mapping
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import check, heeded
from gdlab.compute.programs import Cache
from gdlab.compute.promotion import standard_promotion
from gdlab.compute.threads import ahead, usable_cores
from gdlab.diagnostics.collection import PROBLEMS
from gdlab.diagnostics.problem import LEVELS, Problem, require_problem
from gdlab.diagnostics.run import Outcome, begin_instance, take_steps
from gdlab.hyperparameters.axes import Form, Layout, lay_out
from gdlab.hyperparameters.factories import (
    explained,
    factories_by_name,
    given,
    optimizer_from,
    require_arguments,
    require_values,
)
from gdlab.types import Factory

RATES = np.geomspace(1e-6, 1e2, 32)
"""The learning rates that are tried by default, four in each power of ten."""

RESERVED = (
    *("problem", "level", "setting", "seed", "family", "difficulty", "goal"),
    *("error", "arrived", "solved", "chosen", "share", "breadth"),
)
"""The names of a map's dimensions and variables, which no hyperparameter can have."""

INSTANCES = Cache(256)
"""The instances of problems, by problem and seeds."""

ONE_AT_A_TIME = threading.Lock()
"""Held while a program runs, since programs that decompose matrices may wait for each other (`calls_lapack`)."""


@heeded()
def map_optimizer(
    factory: Factory,
    hyperparameters: Any = None,
    *,
    problems: Mapping[str, Problem] | None = None,
    tuning_seeds: int = 2,
    judged_seeds: int = 4,
    progress: bool = True,
) -> xr.Dataset:
    """Find out which problems an optimizer solves, at which level of difficulty, when it is tuned.

    Each problem is one compiled program, in which all levels, settings and seeds run at once, and all settings see the
    same instances, starts and noise. A setting is chosen for each problem and level on the first seeds: the one that
    solves it with most of them, and then the one with the smallest error. It is judged on the other seeds.

    Args:
      factory: a function that returns an optimizer, as in `gdlab.sweep`. If it has an argument `total_steps`, it gets
        the number of steps of each problem.
      hyperparameters: the settings to tune over: a mapping from arguments to a number or a 1-D array, whose product is
        tried, or a list of the points of a search, as in `gdlab.sweep`. Default None: the learning rates `RATES`, 32
        from 1e-6 to 100.
      problems: a mapping from names to problems. Default None: all of `PROBLEMS`.
      tuning_seeds: the number of seeds on which the settings are chosen. Default 2.
      judged_seeds: the number of other seeds on which they are judged. Default 4.
      progress: whether to show a progress bar on a terminal. Default True.

    Returns:
      A dataset with the dimensions "problem", "level", "setting" and "seed". `share` is the share of the judged seeds
      with which the chosen setting solves the problem, `chosen` is that setting, and `breadth` the share of all
      settings that solve the problem with at least half of all seeds. `error`, `arrived` and `solved` hold every run
      (see `Outcome`; a problem is solved if the error is at most `goal`). Coordinates are the family, the number that
      states the difficulty, the goal, and the hyperparameters along "setting".

    Raises:
      TypeError: if a value is not of the expected type, or an argument of the factory cannot be traced.
      ValueError: if the factory does not take an argument or refuses a value.
      RuntimeError: in a process that was forked after JAX had started.
    """
    require_unforked("map_optimizer")
    require_count("tuning_seeds", tuning_seeds)
    require_count("judged_seeds", judged_seeds)
    require_flag("progress", progress)
    chosen = PROBLEMS if problems is None else problems
    require_mapping("problems", chosen, "from names to problems", least=1)
    for name, problem in chosen.items():
        require_problem(f"problems[{name!r}]", problem)
    layout = _layout(factory, {"learning_rate": RATES} if hyperparameters is None else hyperparameters, chosen)
    settings = {name: layout.values(name, range(layout.lanes)).astype(np.float32) for name in layout.numbers}
    seeds = np.arange(tuning_seeds + judged_seeds, dtype=np.uint32)
    began = time.perf_counter()

    def run(problem: Problem) -> Outcome:
        check()
        with ONE_AT_A_TIME:
            begun = instances(problem, seeds)
        with explained(_label(factory), list(settings)):
            program = compile_map(problem, factory, settings, begun)
        with ONE_AT_A_TIME:
            return jax.tree.map(np.asarray, program(settings, begun))

    outcomes = []
    bar = _bar(len(chosen), progress)
    with jax.enable_x64(False), jax.disable_jit(False), standard_promotion(), bar:
        for outcome in ahead(run, list(chosen.values()), usable_cores()):
            outcomes.append(outcome)
            bar.update()
    errors, arrivals = (np.stack(each) for each in zip(*outcomes, strict=True))
    found = _dataset(chosen, layout, seeds, errors, arrivals, tuning_seeds)
    return found.assign_attrs(optimizer=_label(factory), seconds=time.perf_counter() - began)


def _bar(total: int, progress: bool) -> Any:
    return tqdm(total=total, unit=" problems", disable=None if progress else True)


def _label(factory: Factory) -> str:
    return next(iter(factories_by_name(factory)))


def _layout(factory: Any, hyperparameters: Any, problems: Mapping[str, Problem]) -> Layout:
    """Return the settings, after checking that the factory takes them."""
    factories = factories_by_name(factory)
    if len(factories) > 1:
        raise TypeError(f"factory: expected one factory, got {len(factories)}")
    layout = lay_out(hyperparameters, {"optimizer": None}, Form(RESERVED), 1)
    if not layout.axes:
        layout = lay_out([dict(hyperparameters)], {"optimizer": None}, Form(RESERVED), 1)
    steps = next(iter(problems.values())).steps
    made = {label: given(each, total_steps=steps) for label, each in factories.items()}
    require_arguments(made, layout.numbers)
    if not require_values(made, layout, np.float32):
        raise TypeError(f"factory: expected an optimizer that uses gradients, got {describe(factory)}")
    return layout


def instances(problem: Problem, seeds: np.ndarray) -> Any:
    """Return the instances of all levels and seeds of a problem, with these two axes in front; see `begin_instance`.

    They are made operation by operation, since random numbers take longer to compile than the rest of a program, and
    kept, since all optimizers need the same.
    """

    def make() -> Any:
        def of_level(level: Any) -> Any:
            return jax.vmap(lambda seed: begin_instance(problem, level, jax.random.key(seed)))(jnp.asarray(seeds))

        return jax.vmap(of_level)(jnp.asarray(problem.levels, jnp.float32))

    return INSTANCES.get((problem, tuple(seeds.tolist())), make)


def compile_map(problem: Problem, factory: Factory, settings: Mapping[str, Any], begun: Any) -> Callable[..., Any]:
    """Compile the program `run(settings, begun)` of one problem, whose outcomes are (levels, settings, seeds)."""
    make = given(factory, total_steps=problem.steps)

    def of_instance(settings: Any, begun: Any) -> Outcome:
        def of_setting(numbers: Mapping[str, Any]) -> Outcome:
            return take_steps(problem, optimizer_from(_label(factory), make, numbers), *begun)

        return jax.vmap(of_setting)(settings)

    of_seeds = jax.vmap(of_instance, (None, 0), out_axes=1)
    return jax.jit(jax.vmap(of_seeds, (None, 0))).lower(settings, begun).compile()


def _dataset(
    problems: Mapping[str, Problem],
    layout: Layout,
    seeds: np.ndarray,
    errors: np.ndarray,
    arrivals: np.ndarray,
    tuning: int,
) -> xr.Dataset:
    """Return the map from the outcomes, of shape (problems, levels, settings, seeds)."""
    goals = np.asarray([problem.goal for problem in problems.values()], np.float32)
    solved = errors <= goals[:, None, None, None]
    chosen = choose_settings(solved[..., :tuning], errors[..., :tuning])
    judged = np.take_along_axis(solved[..., tuning:].mean(axis=-1), chosen[..., None], axis=2)[..., 0]
    every = ("problem", "level", "setting", "seed")
    variables = {
        "share": (every[:2], judged),
        "chosen": (every[:2], chosen),
        "breadth": (every[:2], (solved.mean(axis=-1) >= 0.5).mean(axis=-1)),
        "solved": (every, solved),
        "error": (every, errors),
        "arrived": (every, arrivals),
    }
    coordinates = {
        "problem": list(problems),
        "level": list(LEVELS),
        "seed": seeds,
        "family": ("problem", [problem.family for problem in problems.values()]),
        "goal": ("problem", goals),
        "difficulty": (every[:2], np.asarray([problem.levels for problem in problems.values()])),
        **{name: ("setting", layout.values(name, range(layout.lanes))) for name in layout.numbers},
    }
    return xr.Dataset(variables, coordinates, {"tuning_seeds": tuning})


def choose_settings(solved: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the index of the best setting for each problem and level, from arrays (problems, levels, settings, seeds).

    It is the setting that solves the problem with most seeds; among these, the one with the smallest geometric mean of
    the errors.
    """
    shares = solved.mean(axis=-1)
    with np.errstate(divide="ignore"):
        sizes = np.log(np.clip(errors, 1e-30, 1e30)).mean(axis=-1)
    best = shares == shares.max(axis=-1, keepdims=True)
    return np.where(best, sizes, np.inf).argmin(axis=-1)
