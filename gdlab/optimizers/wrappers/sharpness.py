"""SAM and ASAM: the gradient is taken where the loss is highest nearby (Foret et al. 2021, Kwon et al. 2021)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.numerics import absolute, safe_sqrt
from gdlab.optimizers.transformation import require_non_negative, require_params, transformation
from gdlab.optimizers.trees import divide, inner
from gdlab.optimizers.wrappers.base import like, prepare, require_passed
from gdlab.optimizers.wrappers.leaves import Select, choose, has_two_axes, require_select
from gdlab.types import Hyperparameter


class SharpnessState(NamedTuple):
    """State of `sam` and `asam`.

    Attributes:
      inner: the state of the wrapped optimizer.
    """

    inner: optax.OptState


def _climbing(name: str, base: Any, climb: Callable[[PyTree, PyTree], PyTree]) -> optax.GradientTransformationExtraArgs:
    """Wrap `base` so that it receives the gradient at x + climb(g, x)."""
    base = prepare("base", base)

    def init(params: optax.Params) -> SharpnessState:
        return SharpnessState(base.init(params))

    def update(
        updates: optax.Updates,
        state: SharpnessState,
        params: optax.Params | None = None,
        *,
        grad_fn: Callable[[Any], Any] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, SharpnessState]:
        params = require_params(name, params)
        grad_fn = require_passed("grad_fn", grad_fn, "the gradient as a function of the parameters")
        above = like(jax.tree.map(jnp.add, params, climb(updates, params)), params)
        steepest = like(grad_fn(above), updates)
        moves, state_after = base.update(steepest, state.inner, params, grad_fn=grad_fn, **extra)
        return moves, SharpnessState(state_after)

    return optax.GradientTransformationExtraArgs(init, update)


def _length(tree: PyTree) -> Array:
    """Return the Euclidean norm over all leaves; its derivative at 0 is 0."""
    return safe_sqrt(inner(tree, tree))


@transformation
def sam(base: optax.GradientTransformation, *, rho: Hyperparameter = 0.05) -> optax.GradientTransformationExtraArgs:
    """SAM: x <- the step of base at x with the gradient at x + rho g / ||g||.

    The norm is that of the whole gradient. To first order x + rho g / ||g|| is the highest point within rho of x, so
    the base descends on the worst loss in a neighborhood, which favors flat minima. A step takes two gradients.

    Args:
      base: the optimizer that makes the step.
      rho: the radius of the neighborhood. Default 0.05, the authors'.

    State:
      that of base.

    Example:
      >>> optimizer = sam(momentum(0.1), rho=0.1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, grad_fn=jax.grad(loss))

    `update` needs `grad_fn(params)`, the gradient on the same batch, which `descend`, `sweep` and `train` pass. The
    parameters stay the points x, unlike those of `optax.contrib.sam` in its default mode, whose every second step goes
    to the perturbed point. Where the gradient is 0, so is the perturbation; that of `optax.contrib.normalize` is NaN.

    References:
      Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization",
      2021, algorithm 1 (https://arxiv.org/abs/2010.01412).
    """
    require_non_negative(rho=rho)

    def climb(g: PyTree, params: PyTree) -> PyTree:
        del params
        scale = divide(jnp.asarray(rho), _length(g))
        return jax.tree.map(lambda g: scale * g, g)

    return _climbing("sam", base, climb)


@transformation
def asam(
    base: optax.GradientTransformation,
    *,
    rho: Hyperparameter = 0.5,
    eta: Hyperparameter = 0.01,
    select: Select | None = None,
) -> optax.GradientTransformationExtraArgs:
    """ASAM: x <- the step of base at x with the gradient at x + rho T^2 g / ||T g||, where T = |x| + eta.

    The neighborhood is scaled with the parameters, so it does not change if a layer is multiplied by a number and the
    next one divided by it, which leaves the network the same. T is 1 for the leaves that `select` leaves out. A step
    takes two gradients.

    Args:
      base: the optimizer that makes the step.
      rho: the radius of the scaled neighborhood. Default 0.5, the authors'.
      eta: added to |x|, so that parameters at 0 are perturbed too. Default 0.01, the authors'.
      select: `select(name, leaf)` tells whether T = |x| + eta for a leaf; the name is its path, as "layer/kernel".
        Default None: leaves with two axes or more. The authors select the parameters that are called weights.

    State:
      that of base.

    Example:
      >>> optimizer = asam(momentum(0.1), rho=1.0)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, grad_fn=jax.grad(loss))

    `update` needs `grad_fn`, as in `sam`. David Samuel's widespread `sam.py` has eta = 0 and T = |x| for all leaves
    instead, and so does pytorch-optimizer's `SAM(adaptive=True)`.

    References:
      Kwon, Kim, Park and Choi, "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep
      Neural Networks", 2021, algorithm 1 (https://arxiv.org/abs/2102.11600).
    """
    require_non_negative(rho=rho, eta=eta)
    require_select(select)

    def climb(g: PyTree, params: PyTree) -> PyTree:
        chosen = choose(select or has_two_axes, params)
        scales = jax.tree.map(lambda on, x: absolute(x) + eta if on else jnp.ones_like(x), chosen, params)
        scaled = jax.tree.map(jnp.multiply, scales, g)
        length = divide(jnp.asarray(rho), _length(scaled))
        return jax.tree.map(lambda t, tg: length * t * tg, scales, scaled)

    return _climbing("asam", base, climb)
