"""YellowFin: momentum SGD that tunes its own learning rate and momentum (Zhang & Mitliagkas 2017)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_count
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, inner, statistic, zeros
from gdlab.types import Hyperparameter


class YellowFinState(NamedTuple):
    """State of `yellowfin`; velocity and mean are shaped like the parameters, the rest describes the whole model.

    Attributes:
      steps: number of completed steps.
      velocity: the velocity v.
      mean: the average of g.
      squared_norms: the squared norms of the last `window` gradients.
      log_low: the average of the logarithm of the smallest of them.
      log_high: the average of the logarithm of the largest of them.
      square: the average of |g|^2.
      norm: the average of |g|.
      distance: the average of norm / square.
    """

    steps: Int[Array, ""]
    velocity: PyTree
    mean: PyTree
    squared_norms: Float[Array, " window"]
    log_low: Float[Array, ""]
    log_high: Float[Array, ""]
    square: Float[Array, ""]
    norm: Float[Array, ""]
    distance: Float[Array, ""]


@transformation
def yellowfin(
    learning_rate: Hyperparameter = 1.0,
    *,
    initial_learning_rate: Hyperparameter = 1e-4,
    beta: Hyperparameter = 0.999,
    window: int = 20,
    eps: Hyperparameter = 1e-6,
    slow_start: Hyperparameter = 10.0,
    clip_factor: Hyperparameter = 100.0,
    max_move: Hyperparameter = 100.0,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """YellowFin: v <- mu_t v + g; x <- x - eta_t v, with mu_t and eta_t from measured curvature, noise and distance.

    One learning rate and one momentum for the whole model are computed anew in each step, so that neither needs to be
    tuned by hand:

    - Curvature: h_min and h_max are the smallest and the largest |g|^2 of the last `window` steps; their logarithms are
      averaged.
    - Variance: C = E|g|^2 - |E g|^2, where E is an exponential average with decay beta.
    - Distance to the optimum: D = E(E|g| / E|g|^2).
    - r = sqrt(mu) minimizes r^2 D^2 + (1 - r)^4 C / h_min^2, but mu is at least ((sqrt(k) - 1) / (sqrt(k) + 1))^2 with
      k = h_max / h_min; eta = (1 - sqrt(mu))^2 / h_min.
    - Slow start: eta grows linearly over the first slow_start * window steps.
    - Guards: eta |g| <= max_move. A gradient with |g|^2 > clip_factor h_max is shortened to that bound before it is
      measured, and one with |g|^2 > h_max is shortened to h_max before it is used.

    Args:
      learning_rate: a factor on eta (lr_factor in the authors' code), applied before the max_move guard; a number or a
        schedule. Default 1, that of the authors' code.
      initial_learning_rate: the value of eta in the first step. There is no initial momentum, which would act on a
        velocity of 0. Default 1e-4, that of the authors' code.
      beta: the decay of all averages. Default 0.999, that of the authors' code.
      window: the number of recent gradients in h_min and h_max. It is static, because it fixes a shape. Default 20,
        that of the authors' code.
      eps: a small positive number added to denominators and logarithms. Default 1e-6, that of the authors' code.
      slow_start: the length of the slow start, in windows. Default 10, that of the authors' code.
      clip_factor: the multiple of h_max above which |g|^2 is clipped before it is measured. Default 100, that of the
        authors' code.
      max_move: the largest eta |g|. Default 100, that of the authors' code.
      weight_decay: L2 regularization, added to the gradient after the measurements. Default 0, that of the authors'
        code.

    State:
      v and the average of g, two values per parameter, and window + 5 numbers.

    Example:
      >>> optimizer = yellowfin(1.0, initial_learning_rate=1e-3, window=10)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Details that the paper leaves open follow the authors' PyTorch code, with three differences: r is the exact root
    (the code adds eps to a divisor); norms are clipped exactly (PyTorch's clip divides by |g| + 1e-6); and v keeps the
    first gradient, which the code loses with its initial momentum of 0. No package offers YellowFin, so it is checked
    against a NumPy reference that was written from the equations.

    References:
      Zhang and Mitliagkas, "YellowFin and the Art of Momentum Tuning", 2017, algorithms 1 to 4
      (https://arxiv.org/abs/1706.03471).
    """
    require_fractions(beta=beta)
    require_count("window", window)
    require_positive(eps=eps, slow_start=slow_start)
    require_non_negative(
        learning_rate=learning_rate,
        initial_learning_rate=initial_learning_rate,
        clip_factor=clip_factor,
        max_move=max_move,
        weight_decay=weight_decay,
    )

    def init(params: optax.Params) -> YellowFinState:
        zero = statistic(params)
        squared_norms = jnp.zeros(window, zero.dtype)
        return YellowFinState(begin(), zeros(params), zeros(params), squared_norms, zero, zero, zero, zero, zero)

    def update(
        updates: optax.Updates, state: YellowFinState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, YellowFinState]:
        params = require_params("yellowfin", params)
        done = state.steps
        steps = optax.safe_increment(done)
        debias = one_minus_power(beta, steps)
        high_before = jnp.exp(state.log_high / one_minus_power(beta, jnp.maximum(done, 1)))

        # 1. Clip an exploding gradient, so that it does not spoil the averages.
        length = safe_sqrt(inner(updates, updates))
        limit = jnp.where(done > 1, safe_sqrt(clip_factor * high_before) + eps, length)
        gradient = _clip(updates, length, limit)
        length = jnp.minimum(length, limit)
        squared = length**2

        # 2. Update the averages.
        squared_norms = state.squared_norms.at[done % window].set(squared.astype(state.squared_norms.dtype))
        seen = jnp.arange(window) <= done
        low_now = jnp.min(jnp.where(seen, squared_norms, jnp.inf))
        high_now = jnp.max(jnp.where(seen, squared_norms, 0.0))
        log_low = beta * state.log_low + (1 - beta) * jnp.log(low_now + eps)
        log_high = beta * state.log_high + (1 - beta) * jnp.log(high_now + eps)
        mean = average(beta, state.mean, gradient)
        square = beta * state.square + (1 - beta) * squared
        norm = beta * state.norm + (1 - beta) * length
        distance = beta * state.distance + (1 - beta) * norm / (square + eps)

        # 3. Derive the learning rate and the momentum from the averages.
        low, high = jnp.exp(log_low / debias), jnp.exp(log_high / debias)
        variance = jnp.maximum(square / debias - inner(mean, mean) / debias**2, eps)
        rate, momentum = _single_step(low, high, variance, distance / debias, eps)
        rate = rate * jnp.minimum(1.0, steps / (slow_start * window))
        rate = learning_rate * jnp.where(done > 0, rate, initial_learning_rate)
        rate = jnp.where(rate * length >= max_move, max_move / jnp.sqrt(squared + eps), rate)
        momentum = jnp.where(done > 0, momentum, 0.0)

        # 4. Take a heavy-ball step.
        limit = jnp.where((done >= 1) & (squared >= high_before), safe_sqrt(high_before) + eps, length)
        gradient = _clip(gradient, length, limit)
        velocity = jax.tree.map(lambda v, g, x: momentum * v + g + weight_decay * x, state.velocity, gradient, params)
        moves = jax.tree.map(lambda v: -rate * v, velocity)
        return moves, YellowFinState(steps, velocity, mean, squared_norms, log_low, log_high, square, norm, distance)

    return optax.GradientTransformation(init, update)


def _clip(updates: optax.Updates, length: Array, limit: Array) -> optax.Updates:
    """Shorten the updates, whose norm is `length`, to the norm `limit` if they are longer."""
    shrink = jnp.where(length > limit, limit / jnp.where(length > 0, length, 1.0), 1.0)
    return jax.tree.map(lambda g: shrink * g, updates)


def _single_step(low: Array, high: Array, variance: Array, distance: Array, eps: Hyperparameter) -> tuple[Array, Array]:
    """Return the learning rate and the momentum of algorithm 1.

    They minimize the expected distance to the optimum after one step on a noisy quadratic.

    sqrt(mu) = 1 + y, where y is the real root of y^3 + p y + p = 0. Cardano's formula is rearranged: with
    s = sqrt(1 + 4 p / 27), a^3 = p (s + 1) / 2 and b = p / (3 a), y = b - a = -p / (a^2 + a b + b^2) and
    1 + y = -y^3 / p. In this form nothing overflows or cancels, whereas the textbook form of 1 + y loses all digits in
    float32 for p above 1e7.
    """
    p = ((distance + eps) * (low + eps)) ** 2 / (2 * (variance + eps))
    p = jnp.maximum(p, jnp.finfo(p.dtype).tiny)
    a = jnp.cbrt(p * (jnp.sqrt(1 + 4 * p / 27) + 1) / 2)
    b = p / (3 * a)
    y = -p / (a**2 + p / 3 + b**2)
    root = -(y**3) / p
    spread = jnp.sqrt(jnp.maximum((high + eps) / (low + eps), 1 + jnp.asarray(eps)))
    momentum = jnp.maximum(root**2, ((spread - 1) / (spread + 1)) ** 2)
    return (1 - jnp.sqrt(momentum)) ** 2 / (low + eps), momentum
