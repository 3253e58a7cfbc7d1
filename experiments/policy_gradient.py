"""REINFORCE on a bandit and on a cart-pole, both written in JAX, under five optimizers: what does the optimizer change?

Claim: on the cart-pole, AdaGrad, RMSprop and Adam teach all policies to hold the pole for 500 steps, and half of them
reach 475 within 7 updates; SGD and momentum teach half of theirs in 60. The norm of the gradient grows a hundredfold as
episodes become longer, so a rate that moves SGD at the beginning throws it off later, unless the gradient is divided by
the size of past ones. On the bandit, where it only doubles, the five differ by less than their intervals.

Protocol: the gradient is the mean over the episodes of an update of sum_t (G_t - b_t) grad log pi(a_t | s_t), where G_t
is the sum of the rewards from step t on, and b_t its mean over the other episodes. The policy of the bandit is a
softmax of one logit per arm, that of the cart-pole a network with one hidden layer. Each optimizer has its own learning
rate from a common grid, chosen on other seeds: of the rates whose mean return over the last tenth of the updates is
within 1% of the best, the one with the highest mean over all updates. The return of an update is exact for the bandit
(sum_i p_i r_i), and the mean over its episodes for the cart-pole.

Command:   python experiments/policy_gradient.py [--out DIR] [--optimizers adam ...] [--seeds 32]
Expect:    the table of benchmarks/results/policy_gradient.json: a mean return above 475 of 500 on the cart-pole.
Runtime:   one to two minutes on 2 CPU cores.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array
from matplotlib.figure import Figure

from gdlab import OPTIMIZERS, plots
from gdlab.analysis import intervals
from gdlab.analysis import statistics as st
from gdlab.analysis.arrivals import share_cells, share_record
from gdlab.analysis.learning_curves import bands
from gdlab.analysis.tables import Table
from gdlab.arguments import as_path, require_count, require_names
from gdlab.compute.interrupts import command
from gdlab.gradients import Categorical, score_function
from gdlab.optimizers import one_of
from gdlab.records import staged_folder, write_json

# The cart-pole of Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control
# problems", 1983, with the constants of gymnasium's CartPole-v1 (https://gymnasium.farama.org).
GRAVITY, CART, POLE, HALF_LENGTH, FORCE = 9.8, 1.0, 0.1, 0.5, 10.0  # m/s^2, kg, kg, m, N
TAU, FARTHEST, STEEPEST, HORIZON = 0.02, 2.4, np.pi / 15, 500  # s per Euler step, m, rad, steps
START, HIDDEN = 0.05, 8  # each number of the first state is uniform in [-0.05, 0.05]; units of the policy's network
UNITS = np.array([2.4, 2.0, 0.2, 2.0], np.float32)  # what that network divides the state by
ARMS = np.linspace(-1.0, 1.0, 10, dtype=np.float32)  # the arms' mean rewards; noise of standard deviation 1 is added


def move(state: Array, action: Array) -> Array:
    """One Euler step of the cart-pole; a state holds position, velocity, angle and angular velocity."""
    _, velocity, angle, spin = jnp.moveaxis(state, -1, 0)
    sine, cosine, mass = jnp.sin(angle), jnp.cos(angle), CART + POLE
    push = (jnp.where(action == 1, FORCE, -FORCE) + POLE * HALF_LENGTH * spin**2 * sine) / mass
    turn = (GRAVITY * sine - cosine * push) / (HALF_LENGTH * (4 / 3 - POLE * cosine**2 / mass))
    slide = push - POLE * HALF_LENGTH * turn * cosine / mass
    return state + TAU * jnp.stack([velocity, slide, spin, turn], axis=-1)


def act(params: Any, state: Array) -> Categorical:
    """The policy of the cart-pole: the distribution of the actions 0 (left) and 1 (right) in each state."""
    hidden = jnp.tanh(state / UNITS @ params["w"] + params["b"])
    return Categorical(hidden @ params["v"] + params["c"])


def episodes(params: Any) -> Any:
    """The distribution of whole episodes of the cart-pole: states, actions and whether the pole still stood."""

    def sample(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
        def go(now: tuple[Array, Array], key: Array) -> Any:
            state, stands = now
            action = act(params, state).sample(key)
            after = move(state, action)
            falls = (jnp.abs(after[..., 0]) > FARTHEST) | (jnp.abs(after[..., 2]) > STEEPEST)
            return (after, stands & ~falls), (state, action, stands)

        first, second = jax.random.split(key)
        start = jax.random.uniform(first, (*shape, 4), minval=-START, maxval=START), jnp.ones(shape, bool)
        _, steps = jax.lax.scan(go, start, jax.random.split(second, HORIZON))
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, len(shape)), steps)

    def log_prob(x: tuple[Array, Array, Array]) -> Array:
        states, actions, stands = x  # the start and the physics do not depend on the parameters
        return jnp.where(stands, act(params, states).log_prob(actions), 0.0)

    return SimpleNamespace(sample=sample, log_prob=log_prob)


def pulls(logits: Array) -> Any:
    """The distribution of pulls of the bandit: an arm, and its reward."""

    def sample(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        first, second = jax.random.split(key)
        arms = Categorical(logits).sample(first, shape)
        return arms, jnp.asarray(ARMS)[arms] + jax.random.normal(second, shape)

    return SimpleNamespace(sample=sample, log_prob=lambda x: Categorical(logits).log_prob(x[0]))


def first_network(key: Array) -> dict[str, Array]:
    weights = jax.random.normal(key, (4, HIDDEN)) / 2
    return {"w": weights, "b": jnp.zeros(HIDDEN), "v": jnp.zeros((HIDDEN, 2)), "c": jnp.zeros(2)}


def returns_to_go(episode: tuple[Array, Array, Array]) -> Array:
    return jnp.cumsum(episode[2][::-1].astype(jnp.float32))[::-1]  # a reward of 1 for each step begun upright


class Problem(NamedTuple):
    """A problem of reinforcement learning."""

    init: Callable[[Array], Any]  # key -> parameters
    distribution: Callable[[Any], Any]  # parameters -> distribution of episodes
    returns: Callable[[Any], Array]  # episode -> the return of each action
    progress: Callable[[Any, Array], Array]  # (parameters, mean returns of an update) -> the return
    goal: float  # the return that counts as solved
    lowest_rate: float
    updates: int


BANDIT = (lambda key: jnp.zeros(10), pulls, lambda pull: pull[1], lambda logits, _: jax.nn.softmax(logits) @ ARMS)
CART_POLE = (first_network, episodes, returns_to_go, lambda _, returns: returns[0])
PROBLEMS = {
    "bandit": Problem(*BANDIT, goal=0.95, lowest_rate=1e-3, updates=100),
    "cart-pole": Problem(*CART_POLE, goal=475.0, lowest_rate=3e-5, updates=60),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    out: Path = Path("runs/policy_gradient")
    """Output folder: results.json, the table and the pictures."""
    optimizers: tuple[str, ...] = ("sgd", "momentum", "adagrad", "rmsprop", "adam")
    rates: int = 10
    """Number of learning rates to try, each three times the one before."""
    tuning_seeds: int = 16
    seeds: int = 32
    episodes: int = 16  # per update

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", as_path("out", self.out))  # with ~ as the home directory
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        for name in ("rates", "tuning_seeds", "seeds", "episodes"):
            require_count(name, getattr(self, name), low=2)


def trainer(config: Config, problem: Problem) -> Callable[..., tuple[Array, Array]]:
    """Compile (index of an optimizer, learning rates, seeds) -> each lane's learning curve and norms of gradients."""
    losses = lambda episode: -problem.returns(episode)  # noqa: E731
    estimate = score_function(losses, problem.distribution, samples=config.episodes, with_value=True)
    build = one_of([OPTIMIZERS[name] for name in config.optimizers])

    def train(choice: Array, rate: Array, seed: Array) -> tuple[Array, Array]:
        first, *keys = jax.random.split(jax.random.key(seed), 1 + problem.updates)
        params, optimizer = problem.init(first), build(choice, learning_rate=rate)

        def update(now: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
            params, state = now
            value, gradient = estimate(params, key)
            seen = problem.progress(params, -value), optax.tree.norm(gradient)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), seen

        return jax.lax.scan(update, (params, optimizer.init(params)), jnp.stack(keys))[1]

    return jax.jit(jax.vmap(train, (None, 0, 0)))


def study(config: Config, problem: Problem) -> dict[str, dict[str, Any]]:
    """Tune each optimizer's learning rate on seeds of their own, and judge it on others."""
    train, found = trainer(config, problem), {}
    rates = problem.lowest_rate * 3.0 ** np.arange(config.rates)
    lanes, seeds = (grid.ravel() for grid in np.meshgrid(rates, config.seeds + np.arange(config.tuning_seeds)))
    # Each call has as many lanes as are judged, so that one program serves both.
    places = [np.arange(k, k + config.seeds) % len(lanes) for k in range(0, len(lanes), config.seeds)]
    for choice, name in enumerate(config.optimizers):
        tuning = np.concatenate([train(choice, lanes[place], seeds[place])[0] for place in places])[
            : len(lanes)
        ].reshape(config.tuning_seeds, config.rates, -1)
        last = tuning[:, :, -(problem.updates // 10) :].mean(axis=2).T
        good = last.mean(axis=1) >= 0.99 * last.mean(axis=1).max()
        best = int(np.argmax(np.where(good, tuning.mean(axis=(0, 2)), -np.inf)))
        curves, norms = map(np.asarray, train(choice, np.full(config.seeds, rates[best]), np.arange(config.seeds)))
        found[name] = {"rates": rates, "best": best, "tuning": last, "curves": curves, "norms": norms}
    return found


def measure(problem: Problem, found: dict[str, Any]) -> dict[str, Any]:
    norms, reached = found["norms"], found["curves"] >= problem.goal
    returns = found["curves"][:, -(problem.updates // 10) :].mean(axis=1)
    mean, low, high = map(float, intervals.seeds_interval(returns))
    first = np.where(reached.any(axis=1), 1 + reached.argmax(axis=1), -1)
    return {
        "learning_rate": float(found["rates"][found["best"]]),
        "at_edge": found["best"] in (0, len(found["rates"]) - 1),
        **{"return": mean, "return_low": low, "return_high": high},
        **share_record(returns >= problem.goal),
        "updates_to_goal": float(st.quartiles(st.steps_or_never(first)).median),
        "gradient_growth": float(np.median(norms.max(axis=1) / norms[:, 0])),
    }


def tabulate(records: list[dict[str, Any]]) -> Table:
    rows = []
    for r in records:
        rate = f"{r['learning_rate']:.3g}" + ("*" if r["at_edge"] else "")
        returns = f"{r['return']:.4g}", f"{r['return_low']:.4g} to {r['return_high']:.4g}"
        updates = f"{r['updates_to_goal']:.0f}" if np.isfinite(r["updates_to_goal"]) else "never"
        last = updates, f"{r['gradient_growth']:.0f}"
        rows.append((r["problem"], r["optimizer"], rate, *returns, *share_cells(r), *last))
    head = ("problem", "optimizer", "rate", "return", "95% interval", "solved", "95% interval", "updates", "growth")
    return Table(head, rows, "Each optimizer at its tuned learning rate (*: at an end of the grid), on other seeds.")


def draw(title: str, found: dict[str, dict[str, Any]]) -> dict[str, Figure]:
    one = next(iter(found.values()))
    lines = bands({name: list(each["curves"]) for name, each in found.items()})
    caption = f"{title}: mean and 95% interval over {len(one['curves'])} seeds; gray: the goal"
    curves = plots.learning(lines, title=caption, label="mean return")
    curves.axes[0].set_xlabel("update")
    curves.axes[0].axhline(PROBLEMS[title].goal, color="0.6", lw=0.8, zorder=1)
    scores = {name: intervals.seeds_interval(each["tuning"]) for name, each in found.items()}
    caption = f"{title}: mean and 95% interval over {one['tuning'].shape[1]} tuning seeds; dots: the highest mean"
    labels = ("learning rate", "mean return, last tenth of the updates")
    rates = plots.sensitivity(one["rates"], scores, title=caption, labels=labels)
    return {"curves": curves, "rates": rates}


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        records = []
        for title, problem in PROBLEMS.items():
            found = study(config, problem)
            records += [{"problem": title, "optimizer": name, **measure(problem, one)} for name, one in found.items()]
            for kind, figure in draw(title, found).items():
                plots.save_indexed(figure, folder / f"{title.replace('-', '_')}_{kind}.png")
        table = tabulate(records)
        table.write(folder / "table")
        write_json(folder / "results.json", records)
    goals = " and ".join(f"{problem.goal:g} on the {title}" for title, problem in PROBLEMS.items())
    print(f"{table.text()}\n\nreturn: of the last tenth of the updates; solved: share of seeds with {goals};")
    print("updates: median until one reaches that; growth: the gradient's largest norm over its first, median.")
    print(f"Written to {config.out} in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    with command("policy_gradient", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
