"""Strategies of evosax: a genetic algorithm, simulated annealing, CMA-ES, OpenAI-ES and differential evolution.

The algorithms are evosax's own. What differs from its defaults is stated for each factory, and three things for all:
the function's value at the start counts, and the best point so far begins with it; algorithms that keep a population
evaluate their first one, which is drawn around the start, in their first round; and random numbers follow from a seed
and the start.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, UInt32

from gdlab.arguments import require_count, require_number
from gdlab.strategies.strategy import Strategy, Vector, make_strategy
from gdlab.types import Hyperparameter

Make = Callable[[Any, int], tuple[Any, Any]]
"""`make(algorithms, dim)` returns an algorithm from the module `evosax.algorithms`, and its parameters."""


class EvolutionState(NamedTuple):
    """State of a strategy of evosax.

    Attributes:
      rounds: the number of completed rounds.
      key: the data of the lane's random key.
      best: the best point so far.
      best_value: its value; inf before the first round.
      inner: the state of evosax's algorithm.
    """

    rounds: Int[Array, ""]
    key: UInt32[Array, "2"]
    best: Vector
    best_value: Float[Array, ""]
    inner: Any


def simple_ga(
    *,
    population: int = 32,
    spread: Hyperparameter = 1.0,
    std: Hyperparameter = 0.5,
    std_decay: Hyperparameter = 0.98,
    crossover_rate: Hyperparameter = 0.5,
    seed: Hyperparameter = 0,
) -> Strategy:
    """A genetic algorithm: children of the better half, by uniform crossover and normal mutation, replace all parents.

    A child takes each coordinate from its second parent with the probability `crossover_rate`, and from its first
    otherwise; then std std_decay^t z is added in round t, where z is standard normal. It needs no order in the function
    beyond better and worse, and is simple to run in parallel, but it follows no slope: its progress slows with the
    number of coordinates.

    evosax's own defaults are a crossover rate of 0, which leaves mutation alone, and a constant standard deviation of
    1, with which the population never narrows.

    Args:
      population: the number of points per round, at least 2. Default 32.
      spread: the standard deviation of the first population around the start. Default 1.
      std: the standard deviation of mutation at first. Default 0.5.
      std_decay: its factor from round to round, in (0, 1]. Default 0.98.
      crossover_rate: the probability, in [0, 1], that a coordinate comes from the second parent. Default 0.5.
      seed: a whole number from which, with the start, random numbers follow. Default 0.

    Returns:
      The `Strategy`.

    Raises:
      ImportError: if the extra `evosax` is not installed.

    References:
      Such et al., "Deep Neuroevolution", 2017 (https://arxiv.org/abs/1712.06567).
    """
    require_count("population", population, low=2)
    _require_positive(spread=spread, std=std)
    require_number("std_decay", std_decay, 0.0, 1.0, open_low=True)
    require_number("crossover_rate", crossover_rate, 0.0, 1.0)

    def make(algorithms: Any, dim: int) -> tuple[Any, Any]:
        algorithm = algorithms.SimpleGA(population, jnp.zeros(dim), std_schedule=_decaying(std, std_decay))
        return algorithm, algorithm.default_params.replace(crossover_rate=crossover_rate)

    return _evolve("simple_ga", lambda dim: population, make, seed, spread)


def simulated_annealing(
    *,
    population: int = 1,
    std: Hyperparameter = 0.5,
    std_decay: Hyperparameter = 0.999,
    temperature: Hyperparameter = 1.0,
    cooling: Hyperparameter = 0.99,
    seed: Hyperparameter = 0,
) -> Strategy:
    """Simulated annealing: a random step is accepted if it improves, or with the probability exp(-increase / T).

    The temperature T falls by the factor `cooling` from round to round, and the standard deviation of the steps by
    `std_decay`. While T is high, the point crosses barriers of about its height; at T = 0 the method is a random
    descent. With a population, the best of several steps is the one that may be accepted.

    evosax multiplies its temperature of 1 by a constant of 5, lets it fall to 0.1 by 0.999 per round, and keeps the
    standard deviation at 1; here T is in the function's units, falls to 0, and steps shorten. evosax accepts the first
    step in any case; here it is compared with the start.

    Args:
      population: the number of steps tried per round. Default 1, as in the original method.
      std: the standard deviation of a step at first. Default 0.5.
      std_decay: its factor from round to round, in (0, 1]. Default 0.999.
      temperature: the temperature at first, in the function's units. Default 1.
      cooling: its factor from round to round, in (0, 1]. Default 0.99.
      seed: a whole number from which, with the start, random numbers follow. Default 0.

    Returns:
      The `Strategy`.

    Raises:
      ImportError: if the extra `evosax` is not installed.

    References:
      Kirkpatrick, Gelatt and Vecchi, "Optimization by Simulated Annealing", 1983, Science 220.
    """
    require_count("population", population)
    _require_positive(std=std, temperature=temperature)
    require_number("std_decay", std_decay, 0.0, 1.0, open_low=True)
    require_number("cooling", cooling, 0.0, 1.0, open_low=True)

    def make(algorithms: Any, dim: int) -> tuple[Any, Any]:
        algorithm = algorithms.SimulatedAnnealing(population, jnp.zeros(dim), std_schedule=_decaying(std, std_decay))
        return algorithm, algorithm.default_params.replace(
            temperature_init=temperature, temperature_limit=0.0, temperature_decay=cooling, boltzmann_constant=1.0
        )

    return _evolve("simulated_annealing", lambda dim: population, make, seed)


def cma_es(*, population: int | None = None, std: Hyperparameter = 1.0, seed: Hyperparameter = 0) -> Strategy:
    """CMA-ES: points are drawn from N(m, s^2 C), and m, s and C learn from the better half of them.

    C comes to resemble the inverse Hessian, so bad scaling and correlation cost a learning phase of about dim^2
    evaluations and not more, and only the order of values matters. It is the usual choice for up to some 100
    coordinates where there is no gradient. A round costs an eigendecomposition of a matrix of dim x dim.

    The constants are Hansen's, which evosax uses, with negative weights of the worse half.

    Args:
      population: the number of points per round, at least 4. Default 4 + floor(3 ln dim), Hansen's.
      std: the standard deviation s at first, about a third of the distance to the minimum that is expected. Default 1.
      seed: a whole number from which, with the start, random numbers follow. Default 0.

    Returns:
      The `Strategy`.

    Raises:
      ImportError: if the extra `evosax` is not installed.

    References:
      Hansen, "The CMA Evolution Strategy: A Tutorial", 2016 (https://arxiv.org/abs/1604.00772).
    """
    if population is not None:
        require_count("population", population, low=4)
    _require_positive(std=std)

    def size(dim: int) -> int:
        return population or 4 + math.floor(3 * math.log(dim))

    def make(algorithms: Any, dim: int) -> tuple[Any, Any]:
        algorithm = algorithms.CMA_ES(size(dim), jnp.zeros(dim))
        return algorithm, algorithm.default_params.replace(std_init=jnp.asarray(std, float))

    return _evolve("cma_es", size, make, seed)


def open_es(
    learning_rate: Hyperparameter = 0.1,
    *,
    population: int = 16,
    std: Hyperparameter = 0.3,
    std_decay: Hyperparameter = 0.995,
    seed: Hyperparameter = 0,
) -> Strategy:
    """OpenAI-ES: Adam with the estimate g = sum_i F_i z_i / (population std), from normal z_i in pairs of z and -z.

    F_i is the rank of f(m + std z_i) among the population, from -1/2 to 1/2, so g is no estimate of the gradient of f,
    but -g points to where ranks fall. The method needs little memory and communication, which is why it is used on
    policies with millions of parameters; its noise grows with dim / population.

    evosax's own defaults are gradient descent at 0.001 and a constant standard deviation of 1.

    Args:
      learning_rate: the step size of Adam, >= 0. Default 0.1.
      population: the number of points per round, even, because they come in pairs. Default 16.
      std: the standard deviation of the points at first. Default 0.3.
      std_decay: its factor from round to round, in (0, 1]. Default 0.995.
      seed: a whole number from which, with the start, random numbers follow. Default 0.

    Returns:
      The `Strategy`, whose point is the best that was evaluated, not the mean m.

    Raises:
      ImportError: if the extra `evosax` is not installed.

    References:
      Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning", 2017
        (https://arxiv.org/abs/1703.03864).
    """
    require_number("learning_rate", learning_rate, 0.0)
    require_count("population", population, low=2)
    if population % 2:
        raise ValueError(f"population: expected an even number, since points come in pairs, got {population}")
    _require_positive(std=std)
    require_number("std_decay", std_decay, 0.0, 1.0, open_low=True)

    def make(algorithms: Any, dim: int) -> tuple[Any, Any]:
        algorithm = algorithms.Open_ES(
            population, jnp.zeros(dim), optimizer=optax.adam(learning_rate), std_schedule=_decaying(std, std_decay)
        )
        return algorithm, algorithm.default_params

    return _evolve("open_es", lambda dim: population, make, seed)


def differential_evolution(
    *,
    population: int | None = None,
    spread: Hyperparameter = 1.0,
    weight: Hyperparameter = 0.7,
    crossover_rate: Hyperparameter = 0.9,
    seed: Hyperparameter = 0,
) -> Strategy:
    """Differential evolution (best/1/bin): each point is replaced by best + weight (b - c), if that is better.

    b and c are random points of the population, so steps take the population's own scale and directions, and shrink
    with it. Each coordinate of the point is kept with the probability 1 - crossover_rate, but for at least one.

    The base vector is the best point, as in evosax and in SciPy's "best1bin". evosax's weight is 0.8; SciPy draws it
    from 0.5 to 1 and crosses over at 0.7.

    Args:
      population: the number of points, at least 4. Default 10 dim, as Storn and Price have it, but from 16 to 100.
      spread: the standard deviation of the first population around the start. Default 1.
      weight: the factor of a difference, in (0, 2]. Default 0.7.
      crossover_rate: the probability, in [0, 1], that a coordinate is replaced. Default 0.9.
      seed: a whole number from which, with the start, random numbers follow. Default 0.

    Returns:
      The `Strategy`.

    Raises:
      ImportError: if the extra `evosax` is not installed.

    References:
      Storn and Price, "Differential Evolution", 1997, Journal of Global Optimization 11.
    """
    if population is not None:
        require_count("population", population, low=4)
    _require_positive(spread=spread)
    require_number("weight", weight, 0.0, 2.0, open_low=True)
    require_number("crossover_rate", crossover_rate, 0.0, 1.0)

    def size(dim: int) -> int:
        return population or min(max(10 * dim, 16), 100)

    def make(algorithms: Any, dim: int) -> tuple[Any, Any]:
        algorithm = algorithms.DifferentialEvolution(size(dim), jnp.zeros(dim))
        same = jnp.asarray(weight, float)  # at all rounds: evosax draws from a range that has two ends
        return algorithm, algorithm.default_params.replace(
            crossover_rate=crossover_rate,
            differential_weight=same,
            differential_weight_min=same,
            differential_weight_max=same,
        )

    return _evolve("differential_evolution", size, make, seed, spread)


def _require_positive(**values: Hyperparameter) -> None:
    for name, value in values.items():
        require_number(name, value, 0.0, open_low=True)


def _decaying(std: Hyperparameter, decay: Hyperparameter) -> Callable[[Any], Any]:
    return lambda rounds: std * jnp.asarray(decay, float) ** rounds


def _evolve(
    name: str, size: Callable[[int], int], make: Make, seed: Hyperparameter, spread: Hyperparameter | None = None
) -> Strategy:
    """Return the strategy; with a spread, its algorithm keeps a population, which begins around the start."""
    _require_seed(seed)
    algorithms = _evosax()

    def begin(flat: Vector) -> EvolutionState:
        algorithm, numbers = make(algorithms, flat.size)
        key = _lane_key(seed, flat)
        if spread is not None:
            drawn = jax.random.normal(jax.random.fold_in(key, 0), (size(flat.size), flat.size), flat.dtype)
            inner = algorithm.init(key, flat + spread * drawn, jnp.full(size(flat.size), jnp.inf), numbers)
        else:
            inner = algorithm.init(key, flat, numbers)
        inner = jax.tree.map(lambda leaf: _as_stored(leaf, flat.dtype), inner)
        unknown = jnp.full([], jnp.inf, flat.dtype)
        return EvolutionState(jnp.zeros([], jnp.int32), jax.random.key_data(key), flat, unknown, inner)

    def take_round(
        state: EvolutionState, flat: Vector, fn: Callable[[Vector], Array], value_of_start: Callable[[], Array]
    ) -> tuple[Vector, EvolutionState]:
        algorithm, numbers = make(algorithms, flat.size)
        key = jax.random.fold_in(_wrapped(state.key), state.rounds + 1)
        ask, tell = jax.random.split(key)
        fresh = state.rounds == 0
        value = jnp.where(fresh, value_of_start(), state.best_value)
        inner = state.inner
        if hasattr(inner, "temperature"):  # evosax would accept the first step in any case
            inner = inner.replace(fitness=jnp.where(fresh, value, inner.fitness))
        points, asked = algorithm.ask(ask, inner, numbers)
        if spread is not None:
            points = jnp.where(fresh, inner.population, points)
        points = points.astype(flat.dtype)
        values = jax.vmap(fn)(points)
        inner, _ = algorithm.tell(tell, points, values, asked, numbers)
        place = jnp.argmin(values)
        better = values[place] < value
        best = jnp.where(better, points[place], state.best)
        return best, EvolutionState(state.rounds + 1, state.key, best, jnp.where(better, values[place], value), inner)

    return make_strategy(name, size, begin, take_round)


def _evosax() -> Any:
    try:
        from evosax import algorithms
    except ImportError:
        raise ImportError(
            "strategy: expected the package evosax, got none installed; run pip install 'gdlab[evosax]'"
        ) from None
    return algorithms


def _as_stored(leaf: Any, dtype: Any) -> Array:
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, dtype if floating else jnp.int32)


def _require_seed(seed: Hyperparameter) -> None:
    require_number("seed", seed, 0.0)
    if not isinstance(seed, jax.core.Tracer) and not (float(seed) == int(seed) and float(seed) < 2**32):
        raise ValueError(f"seed: expected a whole number below 2^32, got {float(seed):g}")


def _wrapped(data: UInt32[Array, "2"]) -> Key[Array, ""]:
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def _lane_key(seed: Hyperparameter, flat: Vector) -> Key[Array, ""]:
    """Return a key that follows from the seed and from every bit of the start, whatever JAX's default generator is."""
    key = jax.random.key(jnp.asarray(seed).astype(jnp.uint32), impl="threefry2x32")
    words = jax.lax.bitcast_convert_type(flat, jnp.uint32).ravel()

    def fold(data: Array, word: Array) -> tuple[Array, None]:
        return jax.random.key_data(jax.random.fold_in(_wrapped(data), word)), None

    return _wrapped(jax.lax.scan(fold, jax.random.key_data(key), words)[0])
