"""AdaBelief: Adam with the squared distance of gradients from their average in place of the squared gradient."""

import jax
import optax

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average
from gdlab.types import Hyperparameter


@transformation
def scale_by_adabelief(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-16
) -> optax.GradientTransformation:
    """Scale gradients by AdaBelief's rule: mhat / (sqrt(shat) + eps).

    Here m <- b1 m + (1 - b1) g and s <- b2 s + (1 - b2) (g - m)^2 + eps, with mhat = m / (1 - b1^t) and
    shat = s / (1 - b2^t).

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of squared distances from m. Default 0.999.
      eps: a constant added both to s, where it accumulates as in the paper's algorithm and code, and to the
        denominator. Default 1e-16.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu = average(b1, state.mu, updates)
        nu = jax.tree.map(lambda g, m, s: b2 * s + (1 - b2) * (g - m) ** 2 + eps, updates, mu, state.nu)
        first, second = one_minus_power(b1, steps), one_minus_power(b2, steps)
        return jax.tree.map(lambda m, s: m / first / (safe_sqrt(s / second) + eps), mu, nu), AdamState(steps, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def adabelief(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-16,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AdaBelief: x <- x - learning_rate (mhat / (sqrt(shat) + eps) + weight_decay x).

    Here m <- b1 m + (1 - b1) g and s <- b2 s + (1 - b2) (g - m)^2 + eps, and the hats divide by 1 - b1^t and
    1 - b2^t. Each coordinate is scaled by how far its gradients stray from their average instead of by their size,
    so that steps are long where successive gradients agree and short where they do not: an alternative to Adam with
    the same arguments.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, the authors'.
      b1: the decay of the average of gradients. Default 0.9, the authors'.
      b2: the decay of the average of squared distances from m. Default 0.999, the authors'.
      eps: a constant added both to s, where it accumulates, and to the denominator. Default 1e-16, the authors'.
      weight_decay: decoupled weight decay, as in the authors' code. Default 0.

    State:
      m and s, two values per parameter.

    Example:
      >>> optimizer = adabelief(1e-3, eps=1e-12)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `optax.adabelief` and to pytorch-optimizer's AdaBelief with rectify=False. The rectification of
    the authors' code, which is RAdam's, is left out. Where the gradient is constant, s consists of eps alone and
    steps grow large; this is a property of the method.

    References:
      Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", 2020,
      algorithm 2 (https://arxiv.org/abs/2010.07468).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_adabelief(b1, b2, eps),
        decoupled_decay("adabelief", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
