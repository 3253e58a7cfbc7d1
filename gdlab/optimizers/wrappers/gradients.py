"""What may be done to a gradient before an optimizer receives it: centering, filtering, clipping, noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree, UInt32

from gdlab.arguments import require_count
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, divide, zeros
from gdlab.optimizers.wrappers.base import prepare
from gdlab.types import Hyperparameter


class FilteredState(NamedTuple):
    """State of the wrappers in this module.

    Attributes:
      filter: what the wrapper keeps from step to step.
      inner: the state of the wrapped optimizer.
    """

    filter: Any
    inner: optax.OptState


def _filtered(
    base: Any, start: Callable[[PyTree], Any], change: Callable[[PyTree, Any, PyTree], tuple[PyTree, Any]]
) -> optax.GradientTransformationExtraArgs:
    """Wrap `base` so that it receives the first part of change(gradient, filter, params); the other is kept."""
    base = prepare("base", base)

    def init(params: optax.Params) -> FilteredState:
        return FilteredState(start(params), base.init(params))

    def update(
        updates: optax.Updates, state: FilteredState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, FilteredState]:
        changed, kept = change(updates, state.filter, params)
        moves, inner = base.update(changed, state.inner, params, **extra)
        return moves, FilteredState(kept, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _input_axes(x: Array) -> tuple[int, ...]:
    """Return the axes of a kernel that belong to one output: all but the last, and the only one of a vector."""
    return tuple(range(x.ndim - 1)) if x.ndim > 1 else tuple(range(x.ndim))


@transformation
def centralize(base: optax.GradientTransformation, *, min_ndim: int = 2) -> optax.GradientTransformationExtraArgs:
    """Gradient centralization: base receives g <- g - mean(g), the mean over all inputs of each output.

    The weights of each output then keep their sum, which regularizes and often speeds up the training of networks with
    convolutions.

    Args:
      base: the optimizer that receives the gradient.
      min_ndim: the number of axes from which on a leaf is centered, static; others stay as they are. Default 2, as in
        the authors' code; 4 is for convolutions alone.

    State:
      that of base.

    Example:
      >>> optimizer = centralize(momentum(0.1))
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The last axis is the output, as in the kernels of Flax. `optax.centralize` averages over all axes but the first,
    which is the authors' rule for PyTorch's kernels (output first) and for those of JAX takes the mean over outputs.

    References:
      Yong, Huang, Hua and Zhang, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks",
      2020, equation 1 (https://arxiv.org/abs/2004.01461).
    """
    require_count("min_ndim", min_ndim, low=2)

    def center(g: Array) -> Array:
        if g.ndim < min_ndim or not g.size:
            return g
        return g - jnp.mean(g, axis=_input_axes(g), keepdims=True)

    return _filtered(base, lambda params: (), lambda g, kept, params: (jax.tree.map(center, g), kept))


class GrokfastState(NamedTuple):
    """What `grokfast` keeps.

    Attributes:
      steps: number of completed steps.
      mean: the average of the gradients, shaped like the parameters.
    """

    steps: Int[Array, ""]
    mean: PyTree


@transformation
def grokfast(
    base: optax.GradientTransformation, *, decay: Hyperparameter = 0.98, factor: Hyperparameter = 2.0
) -> optax.GradientTransformationExtraArgs:
    """Grokfast: h <- decay h + (1 - decay) g; base receives g <- g + factor h, where h begins at the first g.

    The slow part of the gradient, which the average keeps, is amplified. In tasks that are first learned by heart, it
    is the part that leads to generalization.

    Args:
      base: the optimizer that receives the gradient.
      decay: the decay of the average. Default 0.98, the authors'.
      factor: the multiple of the average that is added. Default 2, the authors'.

    State:
      h, one value per parameter, and that of base.

    Example:
      >>> optimizer = grokfast(adamw(1e-3), factor=5.0)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    It is Grokfast-EMA of the paper, and equivalent to pytorch-optimizer's `gradfilter_ema`.

    References:
      Lee, Kang, Kim and Lee, "Grokfast: Accelerated Grokking by Amplifying Slow Gradients", 2024, algorithm 2
      (https://arxiv.org/abs/2405.20233).
    """
    require_fractions(decay=decay)
    require_non_negative(factor=factor)

    def change(g: PyTree, kept: GrokfastState, params: PyTree) -> tuple[PyTree, GrokfastState]:
        del params
        first = kept.steps == 0
        mean = average(decay, jax.tree.map(lambda h, g: jnp.where(first, g, h), kept.mean, g), g)
        amplified = jax.tree.map(lambda g, h: g + factor * h, g, mean)
        return amplified, GrokfastState(optax.safe_increment(kept.steps), mean)

    return _filtered(base, lambda params: GrokfastState(begin(), zeros(params)), change)


@transformation
def adaptive_clip(
    base: optax.GradientTransformation, *, clipping: Hyperparameter = 0.01, eps: Hyperparameter = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """Adaptive gradient clipping: base receives g <- g min(1, clipping max(||w||, eps) / ||g||) for each output.

    Here w are the weights of one output, a column of a matrix, and g their gradient; a vector counts as one output. So
    the relative change of the weights is bounded, which lets networks without normalization train with large batches.

    Args:
      base: the optimizer that receives the gradient.
      clipping: the largest ratio of the norms. Default 0.01, the authors'; larger for small batches.
      eps: the least norm of the weights, so that those at 0 can move. Default 1e-3, the authors'.

    State:
      that of base.

    Example:
      >>> optimizer = adaptive_clip(nesterov(0.1), clipping=0.02)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The authors leave out the last layer, which `partitioned` can do. Equal to `optax.adaptive_grad_clip` for vectors,
    matrices and kernels with four axes; here every leaf with several axes has its outputs along the last.

    References:
      Brock, De, Smith and Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization", 2021,
      equation 3 (https://arxiv.org/abs/2102.06171).
    """
    require_non_negative(clipping=clipping)
    require_positive(eps=eps)

    def clip(g: Array, w: Array) -> Array:
        size, largest = _norms(g), clipping * jnp.maximum(_norms(w), eps)
        return g * jnp.where(size > largest, divide(largest, size), 1.0)

    def change(g: PyTree, kept: Any, params: PyTree) -> tuple[PyTree, Any]:
        return jax.tree.map(clip, g, require_params("adaptive_clip", params)), kept

    return _filtered(base, lambda params: (), change)


def _norms(x: Array) -> Array:
    return safe_sqrt(jnp.sum(x**2, axis=_input_axes(x), keepdims=True))


class NoiseState(NamedTuple):
    """What `noisy` keeps.

    Attributes:
      steps: number of completed steps.
      key: the random key of the next step.
    """

    steps: Int[Array, ""]
    key: UInt32[Array, " two"]


@transformation
def noisy(
    base: optax.GradientTransformation, *, eta: Hyperparameter = 0.01, gamma: Hyperparameter = 0.55, seed: int = 0
) -> optax.GradientTransformationExtraArgs:
    """Gradient noise: base receives g <- g + N(0, eta / (1 + t)^gamma), with t from 0.

    Noise that fades helps very deep networks out of poor starts.

    Args:
      base: the optimizer that receives the gradient.
      eta: the variance of the noise in the first step. Default 0.01; the authors try 0.01, 0.3 and 1.
      gamma: the power by which the variance falls. Default 0.55, the authors'.
      seed: the seed of the noise, static. Default 0.

    State:
      the random key, and that of base.

    Example:
      >>> optimizer = noisy(sgd(0.1), eta=0.3, seed=7)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The key is part of the state, so a resumed run draws what it would have drawn. Runs with the same seed share their
    noise; give each its own. The draws are those of `optax.add_noise` with the same key.

    References:
      Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015, section 3
      (https://arxiv.org/abs/1511.06807).
    """
    require_non_negative(eta=eta, gamma=gamma)
    require_count("seed", seed, low=0)

    def change(g: PyTree, kept: NoiseState, params: PyTree) -> tuple[PyTree, NoiseState]:
        del params
        steps = optax.safe_increment(kept.steps)
        key, draw = jax.random.split(kept.key)
        deviation = safe_sqrt(jnp.asarray(eta / jnp.asarray(steps, float) ** gamma))
        noise = optax.tree.random_like(draw, g)
        return jax.tree.map(lambda g, e: g + deviation * e, g, noise), NoiseState(steps, key)

    return _filtered(base, lambda params: NoiseState(begin(), jax.random.PRNGKey(seed)), change)
