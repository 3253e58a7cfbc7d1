"""Diagnosing: one compiled program for each problem, which tunes a contender on some seeds and judges it on others."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gdlab.compute.interrupts import check
from gdlab.compute.programs import digest_jaxprs
from gdlab.compute.promotion import standard_promotion
from gdlab.compute.threads import ahead, usable_cores
from gdlab.diagnostics.collection import PROBLEMS
from gdlab.diagnostics.maps import ONE_AT_A_TIME, choose_settings, instances
from gdlab.diagnostics.problem import Problem
from gdlab.diagnostics.run import Outcome, begin_instance, take_steps
from gdlab.hyperparameters.factories import explained, given, optimizer_from
from gdlab.judging.contenders import Contender, try_settings
from gdlab.judging.keeping import Kept
from gdlab.judging.tiers import Tier
from gdlab.optimizers import sgd

BEYOND = 1.0
"""The decimal digits beyond a problem's goal that still count."""


def digits(errors: Float[np.ndarray, "..."], goal: float) -> Float[np.ndarray, "..."]:
    """Return by how many decimal digits errors are smaller than that of the start.

    A failed run has 0, as one that ends where it began; what is gained beyond the goal counts for one more digit at
    most, so that a problem which is solved to the last bit does not outweigh others that are not solved at all.

    Args:
      errors: errors relative to that of the start; inf for a run that left the finite numbers.
      goal: the relative error at which the problem is solved.

    Returns:
      The digits, of the same shape.
    """
    most = BEYOND - np.log10(goal)
    sizes = np.clip(np.nan_to_num(errors, nan=np.inf), 1e-30, 1e30)  # rounding may leave an error below 0
    return np.clip(-np.log10(sizes), 0.0, most)


def diagnose(
    one: Contender, problems: Mapping[str, Problem], tier: Tier, kept: Kept, done: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Tune a contender on each problem and level, and judge it on other seeds.

    Args:
      one: the contender.
      problems: the problems by name.
      tier: the numbers of settings and of seeds.
      kept: what was done before; each problem is kept as soon as it is done.
      done: called with the name of each problem that is done.

    Returns:
      For each problem: `digits`, one row per level with a number per judged seed; `solved`, the share of the judged
      seeds per level; `chosen`, the setting per level; `breadth`, the share of all settings that solve each level with
      at least half of the tuning seeds; `refused`, the number of settings that the factory refuses, and the `reason`.
    """

    def work(name: str) -> dict[str, Any]:
        check()
        place = None if kept.folder is None else _name_kept(name, problems[name])
        keeper = Kept(None) if place is None else kept
        return keeper.get(place or name, lambda: diagnose_one(one, problems[name], tier))

    found = {}
    with jax.enable_x64(False), jax.disable_jit(False), standard_promotion():
        for name, result in zip(problems, ahead(work, list(problems), usable_cores()), strict=True):
            found[name] = result
            done(name)
    return found


def _name_kept(name: str, problem: Problem) -> str | None:
    """Return the name under which a result on a problem is kept, with a digest if the problem is not one of gdlab's.

    The digest covers what the problem computes, so that a result on another problem of this name is not taken for its
    own. The name is None if nobody can know that: for a problem that calls back into Python, or cannot be traced as a
    whole.
    """
    if PROBLEMS.get(name) is problem:
        return f"problem {name}"

    def run(key: Any, level: Any) -> Outcome:
        return take_steps(problem, sgd(0.1), *begin_instance(problem, level, key))

    try:
        digest = digest_jaxprs([jax.make_jaxpr(run)(jax.random.key(0), jnp.float32(problem.levels[0]))])
    except (TypeError, ValueError):  # it reads values, which it can where instances are made operation by operation
        return None
    if digest is None:
        return None
    whole = f"{digest} {[float(level) for level in problem.levels]} {problem.goal} {problem.steps}"
    return f"problem {name} {hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def diagnose_one(one: Contender, problem: Problem, tier: Tier, *, first_seed: int = 0) -> dict[str, Any]:
    """Tune a contender on one problem and judge it; see `diagnose`.

    Args:
      one: the contender.
      problem: the problem.
      tier: the numbers of settings and of seeds.
      first_seed: the first of the seeds for tuning; those for judging follow.

    Returns:
      The results, as numbers and lists.
    """
    tried = try_settings(one, tier.settings, problem.steps)
    numbers = {name: np.asarray([each[name] for each in tried.settings], np.float32) for name in tried.settings[0]}
    seeds = first_seed + np.arange(tier.tuning_seeds + tier.judged_seeds, dtype=np.uint32)
    with ONE_AT_A_TIME:
        begun = instances(problem, seeds)
    settings, levels = len(tried.settings), len(problem.levels)
    program = _Program(one, problem, settings * tier.tuning_seeds)
    every = {name: np.tile(np.repeat(x, tier.tuning_seeds), (levels, 1)) for name, x in numbers.items()}
    first = program(every, begun, np.tile(np.arange(tier.tuning_seeds), settings))
    errors = first.reshape(levels, settings, tier.tuning_seeds)
    chosen = choose_settings((errors <= problem.goal)[None], errors[None])[0]
    places = tier.tuning_seeds + np.arange(tier.judged_seeds)
    best = {name: np.tile(x[chosen][:, None], (1, tier.judged_seeds)) for name, x in numbers.items()}
    judged = program(best, begun, places)
    return {
        "digits": np.round(digits(judged, problem.goal), 4).tolist(),
        "solved": (judged <= problem.goal).mean(axis=1).tolist(),
        "chosen": [tried.settings[place] for place in chosen],
        "breadth": ((errors <= problem.goal).mean(axis=2) >= 0.5).mean(axis=1).round(4).tolist(),
        "refused": tried.refused,
        "reason": tried.reason,
    }


class _Program:
    """The compiled program of a contender on one problem: some lanes at all levels, each with its setting and seed."""

    def __init__(self, one: Contender, problem: Problem, lanes: int):
        self.one, self.problem, self.lanes = one, problem, lanes
        self.compiled: Callable[..., Outcome] | None = None

    def __call__(self, numbers: Mapping[str, np.ndarray], begun: Any, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the errors, (levels, runs), of settings (levels, runs) on the instances of these seeds."""
        errors = []
        for low in range(0, len(seeds), self.lanes):
            places = np.minimum(np.arange(low, low + self.lanes), len(seeds) - 1)
            own = {name: jnp.asarray(x[:, places]) for name, x in numbers.items()}
            at = np.asarray(seeds)[places]
            each = jax.tree.map(lambda x, at=at: x[:, at], begun)
            if self.compiled is None:
                with explained(self.one.name, list(numbers)):
                    self.compiled = self._compile(own, each)
            check()
            with ONE_AT_A_TIME:
                found = np.asarray(self.compiled(own, each).error)
            errors.append(found[:, : len(seeds) - low])
        return np.concatenate(errors, axis=1)

    def _compile(self, numbers: Any, begun: Any) -> Callable[..., Outcome]:
        make = given(self.one.factory, total_steps=self.problem.steps)

        def run(numbers: Mapping[str, Any], begun: Any) -> Outcome:
            return take_steps(self.problem, optimizer_from(self.one.name, make, numbers), *begun)

        return jax.jit(jax.vmap(jax.vmap(run))).lower(numbers, begun).compile()


def by_seed(problems: Mapping[str, Problem], found: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """Return the share of all problems and levels that is solved, as one number per judged seed.

    Args:
      problems: the problems by name.
      found: what `diagnose` returned for them.

    Returns:
      The vector.
    """
    needed = {name: -np.log10(problem.goal) - 1e-4 for name, problem in problems.items()}  # digits are rounded
    solved = [np.asarray(each["digits"]) >= needed[name] for name, each in found.items()]
    return np.mean(solved, axis=(0, 1))


def by_family(problems: Mapping[str, Problem], found: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return, for each family, the mean digits over its problems and levels, as one number per judged seed.

    Args:
      problems: the problems by name.
      found: what `diagnose` returned for them.

    Returns:
      The vectors by the names of the families.
    """
    families: dict[str, list[np.ndarray]] = {}
    for name, problem in problems.items():
        families.setdefault(problem.family, []).append(np.mean(found[name]["digits"], axis=0))
    return {family: np.mean(rows, axis=0) for family, rows in families.items()}
