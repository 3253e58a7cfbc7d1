"""Gradients of an expectation from samples: by the score function, and through reparameterized samples."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from gdlab.arguments import (
    describe,
    require_callable,
    require_choice,
    require_count,
    require_flag,
    require_key,
    require_number,
    restated,
)
from gdlab.gradients.finite import require_floating_leaves
from gdlab.types import Number

BASELINES = ("mean", "leave_one_out")
"""The baselines that are computed from the samples."""


def score_function(
    fn: Callable[[Any], Any],
    distribution: Callable[[Any], Any],
    *,
    samples: int,
    baseline: str | Number | None = "leave_one_out",
    with_value: bool = False,
) -> Callable[[Any, Any], Any]:
    """Return an estimator of grad E f(x) = E (f(x) - b) grad log p(x), where x has the density p of the parameters.

    The estimate is the mean over independent samples x. Since f is only evaluated, it may be discontinuous, and x may
    be discrete. That is also its weakness: it does not use the slope of f, and its variance grows with the dimension,
    because f varies with all components of x but each score, grad log p, belongs to one. Where f has a slope and x is
    continuous, `reparameterized` is far less noisy.

    As E grad log p = 0, a baseline b changes the variance and not the mean, provided that it does not depend on x. The
    best constant is E |s|^2 f / E |s|^2, where s is the score. Of x ~ N(1, 1) and f = x^2, whose gradient with respect
    to the mean is 2, the variance of one sample is 30 without a baseline, 18 with b = E f = 2, 14 with the best, b = 4,
    and 4 if it is reparameterized; if f is the sum over d dimensions, it is 4 d^2 + 14 d + 12, 6 d + 12 and 4 for each
    component of the gradient, without a baseline, with b = E f and reparameterized.

    Neither of the baselines from samples needs to be known beforehand. The mean of all n samples, the sample itself
    among them, shrinks the expected estimate by (n - 1) / n. The mean of the n - 1 others does not: that estimate is
    the unbiased sample covariance of f and the score.

    If p is a product, as that of a sequence of actions is, `fn` may return one value for each factor instead of one for
    all. The gradient of the log-probability of each factor is then multiplied by its own value, less its own baseline:
    REINFORCE with returns to go, sum over t of (G_t - b_t) grad log pi(a_t | s_t). This is unbiased if the value of a
    factor contains all of f that depends on it.

    Args:
      fn: a function of one sample that returns a number, or one number for each factor of its probability. It does not
        depend on the parameters.
      distribution: a function of the parameters that returns an object with two methods: `sample(key, shape)`, the
        samples along the axes `shape` of an array or of a pytree, and `log_prob(x)` of such samples, whose axes after
        those of `shape` are independent factors. `Normal`, `Categorical` and the distributions of numpyro have these;
        for those of distrax and TensorFlow Probability, `sample(seed=..., sample_shape=...)` is called.
      samples: the number of samples of one estimate.
      baseline: "leave_one_out", "mean", a number, or None for 0. Default "leave_one_out", which needs two samples.
      with_value: whether the mean of the values of `fn` is returned too. Default False.

    Returns:
      The function `gradient(params, key)`, or `value_and_gradient(params, key)` with `with_value`. The gradient has the
      structure, shapes and dtypes of the parameters, a pytree of floating-point arrays. It works under jit and vmap. It
      raises TypeError or ValueError if the parameters are not floating-point, if `key` is not a random key, if the
      distribution lacks a method, if a shape does not fit, or if a value of `fn` is not finite. Under jit, where values
      are not known, such a value makes the gradient NaN or infinite instead.

    Raises:
      TypeError: if `fn` or `distribution` is not callable, or `samples` or `baseline` is of another type.
      ValueError: if there are too few samples for the baseline, or no such baseline.

    References:
      Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", 1992,
        Machine Learning 8.
      Greensmith, Bartlett and Baxter, "Variance Reduction Techniques for Gradient Estimates in Reinforcement
        Learning", 2004, Journal of Machine Learning Research 5.
      Mohamed, Rosca, Figurnov and Mnih, "Monte Carlo Gradient Estimation in Machine Learning", 2020, Journal of Machine
        Learning Research 21 (https://arxiv.org/abs/1906.10652).
    """
    _require_estimator(fn, distribution, samples, with_value)
    if isinstance(baseline, str):
        require_choice("baseline", baseline, BASELINES)
        if samples < 2:
            raise ValueError(f"samples: expected at least 2 for the baseline {baseline}, got {samples}")
    elif baseline is not None:
        require_number("baseline", baseline)

    def estimate(params: PyTree, key: PRNGKeyArray) -> PyTree:
        _require_drawable(params, key)
        x = jax.lax.stop_gradient(_draw(distribution, params, key, samples))
        values = _values(fn, x)
        _require_finite(values)
        weights = _less_baseline(values, baseline) / samples

        def surrogate(params: PyTree) -> Array:
            terms = _log_prob(distribution, params, x, samples)
            if weights.shape not in (terms.shape, (samples,)):
                raise ValueError(
                    f"fn: expected one number, or one for each factor of log_prob, {terms.shape[1:]}, "
                    f"got shape {weights.shape[1:]}"
                )
            terms = terms if weights.shape == terms.shape else terms.sum(axis=tuple(range(1, terms.ndim)))
            return jnp.sum(weights * terms)

        gradient = jax.grad(surrogate)(params)
        return (values.mean(axis=0), gradient) if with_value else gradient

    return estimate


def reparameterized(
    fn: Callable[[Any], Any], distribution: Callable[[Any], Any], *, samples: int, with_value: bool = False
) -> Callable[[Any, Any], Any]:
    """Return an estimator of grad E f(x) = E grad f(x(params)), the pathwise gradient.

    The estimate is the mean over independent samples that are differentiable functions of the parameters, such as
    mean + scale z. Its variance is that of the slope of f, which does not grow with the dimension. `fn` must be
    continuous; if it jumps, the estimate is biased, as it does not see the jumps. Where it has no slope, or x is
    discrete, `score_function` remains.

    Args:
      fn: a function of one sample that returns a number.
      distribution: a function of the parameters that returns an object with `sample` and `log_prob`, as in
        `score_function`; its samples must be differentiable.
      samples: the number of samples of one estimate.
      with_value: whether the mean of the values of `fn` is returned too. Default False.

    Returns:
      The function `gradient(params, key)` or `value_and_gradient(params, key)`, as that of `score_function`.

    Raises:
      TypeError: if `fn` or `distribution` is not callable, or `samples` is not an integer.
      ValueError: if there is no sample.

    References:
      Kingma and Welling, "Auto-Encoding Variational Bayes", 2014 (https://arxiv.org/abs/1312.6114).
    """
    _require_estimator(fn, distribution, samples, with_value)

    def estimate(params: PyTree, key: PRNGKeyArray) -> PyTree:
        _require_drawable(params, key)

        def surrogate(params: PyTree) -> tuple[Array, Array]:
            x = _draw(distribution, params, key, samples)
            if not any(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(x)):
                raise TypeError(
                    "distribution: expected floating-point samples, through which gradients flow, got dtype "
                    f"{jax.tree.leaves(x)[0].dtype}"
                )
            values = _values(fn, x)
            if values.shape != (samples,):
                raise ValueError(f"fn: expected a function that returns one number, got shape {values.shape[1:]}")
            return values.mean(), values

        gradient, values = jax.grad(surrogate, has_aux=True)(params)
        _require_finite(values)
        return (values.mean(), gradient) if with_value else gradient

    return estimate


def _less_baseline(values: Array, baseline: str | Number | None) -> Array:
    """Subtract the baseline, which is computed over the first axis."""
    if baseline == "leave_one_out":  # f_i - sum_{j != i} f_j / (n - 1) = n (f_i - mean) / (n - 1)
        return (values - values.mean(axis=0)) * (len(values) / (len(values) - 1))
    if baseline == "mean":
        return values - values.mean(axis=0)
    return values if baseline is None else values - jnp.asarray(baseline)


def _require_estimator(fn: Any, distribution: Any, samples: Any, with_value: Any) -> None:
    """Raise unless these are two functions, a number of samples and a flag."""
    require_callable("fn", fn)
    methods = [getattr(distribution, method, None) for method in ("sample", "log_prob")]
    if all(map(callable, methods)) and not isinstance(distribution, type):
        raise TypeError(
            "distribution: expected a function of the parameters that returns an object with sample and log_prob, "
            f"got the object itself, {describe(distribution)}; pass lambda params: ..."
        )
    require_callable("distribution", distribution)
    require_count("samples", samples)
    require_flag("with_value", with_value)


def _require_drawable(params: Any, key: Any) -> None:
    """Raise unless these are floating-point parameters and a random key."""
    require_floating_leaves(params, "params")
    require_key("key", key)


def _built(distribution: Callable[[Any], Any], params: PyTree) -> Any:
    """Return the object that `distribution` returns for these parameters; raise unless it has both methods."""
    try:
        built = distribution(params)
    except Exception as error:  # the user's function may raise anything
        raise restated(error, "distribution", "a function of the parameters") from error
    for method in ("sample", "log_prob"):
        if not callable(getattr(built, method, None)):
            raise TypeError(
                "distribution: expected a function that returns an object with sample and log_prob, "
                f"got {describe(built)}, which has no {method}"
            )
    return built


def _draw(distribution: Callable[[Any], Any], params: PyTree, key: PRNGKeyArray, samples: int) -> PyTree:
    """Return samples along the first axis of every leaf."""
    sample = _built(distribution, params).sample
    try:
        if "seed" in inspect.signature(sample).parameters:  # distrax, TensorFlow Probability
            x = sample(seed=key, sample_shape=(samples,))
        else:
            x = sample(key, (samples,))
        x = jax.tree.map(jnp.asarray, x)
    except Exception as error:
        raise restated(error, "distribution", "an object with sample(key, shape)") from error
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    if not shapes or any(shape[:1] != (samples,) for shape in shapes):
        got = f"shape {shapes[0]}" if shapes else "nothing"
        raise ValueError(f"distribution: expected sample(key, ({samples},)) of shape ({samples}, ...), got {got}")
    return x


def _log_prob(distribution: Callable[[Any], Any], params: PyTree, x: PyTree, samples: int) -> Array:
    """Return the log-probabilities of the samples, along the first axis, and of their factors."""
    log_prob = _built(distribution, params).log_prob
    try:
        terms = jnp.asarray(log_prob(x))
    except Exception as error:
        raise restated(error, "distribution", "an object with log_prob(x) of its samples") from error
    if terms.shape[:1] != (samples,) or not jnp.issubdtype(terms.dtype, jnp.floating):
        raise ValueError(
            f"distribution: expected log_prob(x) of a floating-point dtype and of shape ({samples}, ...), "
            f"got {terms.dtype} of shape {terms.shape}"
        )
    return terms


def _values(fn: Callable[[Any], Any], x: PyTree) -> Array:
    """Return the values of `fn` at all samples."""
    try:
        values = jax.vmap(lambda one: jnp.asarray(fn(one)))(x)
    except Exception as error:  # the user's function may raise anything
        raise restated(error, "fn", "a function that JAX can trace for one sample") from error
    if not (jnp.issubdtype(values.dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.integer)):
        raise TypeError(f"fn: expected a function that returns real numbers, got dtype {values.dtype}")
    return values


def _require_finite(values: Array) -> None:
    """Raise unless all values are finite; traced values are not inspected."""
    if not isinstance(values, jax.core.Tracer):
        seen = np.asarray(values)
        if not np.isfinite(seen).all():
            raise ValueError(f"fn: expected finite values, got {seen[~np.isfinite(seen)][0]}")
