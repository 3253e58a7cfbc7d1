"""The mean of many estimates of a gradient, along the directions of a check, and how far it is from its expectation."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # loads scipy.special when it is used, which takes a tenth of a second
from jaxtyping import Array, PRNGKeyArray, PyTree

from gdlab.arguments import require_callable, restated
from gdlab.gradients.finite import finite_difference
from gdlab.gradients.ladder import component_along, directions, everywhere

FALSE_ALARM = 1e-3
"""The share of unbiased gradients for which any interval of a check is meant to miss, at most."""


class Noise(NamedTuple):
    """What the estimates of one leaf say along each direction.

    Attributes:
      mean: their mean.
      error: the standard error of the mean.
      half: half the length of the confidence interval of the expectation; 0 if all estimates are equal.
    """

    mean: np.ndarray
    error: np.ndarray
    half: np.ndarray


def average(
    gradient: Any,
    x: PyTree,
    key: PRNGKeyArray,
    estimates: int,
    coordinates: int,
    leaf_keys: Array,
    noisy_fn: Callable[[Any, Any], Any] | None = None,
) -> list[Noise]:
    """Return the noise of each leaf, from so many independent estimates.

    If the function is noisy too, the noise is that of the difference from its slope with the same random numbers.

    Args:
      gradient: the function of x and a key.
      x: the point.
      key: the random key of the estimates.
      estimates: their number.
      coordinates: the largest number of directions of a leaf.
      leaf_keys: the random keys that select the directions.
      noisy_fn: the function of x and a key, if it is noisy too.
    """
    leaves = jax.tree.leaves(x)

    def along_all(key: PRNGKeyArray) -> tuple[list[Array], list[Array]]:
        components = jax.tree.leaves(gradient(x, key))
        found = [_along(components[k], leaf, leaf_keys[k], coordinates) for k, leaf in enumerate(leaves)]
        if noisy_fn is None:
            return found, [jnp.zeros_like(one) for one in found]
        slopes = jax.tree.leaves(finite_difference(lambda x: noisy_fn(x, key))(x))
        return found, [_along(slopes[k], leaf, leaf_keys[k], coordinates) for k, leaf in enumerate(leaves)]

    keys = jax.random.split(key, estimates)
    block = max(1, min(estimates, 256, 2**22 // max(sum(jnp.size(leaf) for leaf in leaves), 1)))
    seen = jax.jit(lambda keys: jax.lax.map(along_all, keys, batch_size=block))(keys)
    found, slopes = jax.tree.map(lambda one: np.asarray(one, float), seen)
    count = sum(one.shape[1] for one in found)
    noises = [summarize(one - slope, count) for one, slope in zip(found, slopes, strict=True)]
    return [noise._replace(mean=one.mean(axis=0)) for noise, one in zip(noises, found, strict=True)]


def takes_key(fn: Any, others: int = 0) -> bool:
    """Return whether `fn` must be called with a key besides x and so many other arguments."""
    known = [None] * (1 + others)
    try:
        signature = inspect.signature(fn)
        signature.bind(*known, None)
    except (TypeError, ValueError):  # no such arguments, or no signature, or no function
        return False
    try:
        signature.bind(*known)
    except TypeError:
        return True
    return False


def common_numbers(fn: Callable[[Any, Any], Any], key: PRNGKeyArray, estimates: int) -> Callable[[Any], Any]:
    """Return the mean of `fn(x, key)` over the keys of the estimates, the same at each x."""
    keys = jax.random.split(key, estimates)

    @functools.wraps(fn)
    def mean(x: PyTree) -> Array:
        return jnp.mean(jax.lax.map(lambda key: fn(x, key), keys, batch_size=min(estimates, 256)))

    return mean


def require_noisy_gradient(gradient: Any, x: PyTree, key: PRNGKeyArray) -> PyTree:
    """Return the shapes of `gradient(x, key)`; raise unless JAX can trace it."""
    require_callable("gradient", gradient)
    try:
        return jax.eval_shape(lambda x, key: gradient(x, key), x, key)
    except Exception as error:  # the user's function may raise anything
        raise restated(error, "gradient", "a function of x and a key that JAX can trace") from error


def _along(component: Array, leaf: Any, leaf_key: Array, coordinates: int) -> Array:
    """Return one estimate of a leaf's gradient along each direction of the check."""
    dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
    flat = jnp.ravel(component).astype(dtype)
    spread = everywhere(leaf_key, flat.shape, dtype)
    return jax.vmap(lambda index: component_along(flat, index, spread))(directions(flat.size, coordinates, leaf_key))


def summarize(seen: np.ndarray, count: int) -> Noise:
    """Return the mean of estimates along the first axis, and the interval, one of `count` that hold together.

    It is Student's with Bonferroni's correction, widened by what the skewness of the estimates moves its ends, to first
    order: (2 t^2 + 1) skewness / (6 sqrt(n)) standard errors (Hall, "The Bootstrap and Edgeworth Expansion", 1992).
    Over 20,000 checks of 1,024 estimates it misses the expectation of a score function in 0.06%, of one with rare
    values in 0% and of a log-normal one in 0.2%; without the correction in 0.15, 1.3 and 0.7%.
    """
    n = len(seen)
    with np.errstate(all="ignore"):  # estimates that are not finite
        mean, spread = seen.mean(axis=0), seen.std(axis=0, ddof=1)
        skewness = np.abs(((seen - mean) ** 3).mean(axis=0)) / spread**3
        t = scipy.special.stdtrit(n - 1, 1 - FALSE_ALARM / (2 * max(count, 1)))
        error = spread / np.sqrt(n)
        half = error * (t + (2 * t**2 + 1) * skewness / (6 * np.sqrt(n)))
    return Noise(mean, error, np.where(spread > 0, half, 0.0))
