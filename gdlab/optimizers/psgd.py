"""PSGD with Kronecker factors: a preconditioner fitted by gradient descent (Li 2015)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.matrices import as_matrix
from gdlab.optimizers.shampoo import along_axis, shape_as_tensor, unfold_product
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, divide, norm, zeros
from gdlab.types import Hyperparameter

Factors = tuple[Array, ...]


class PSGDState(NamedTuple):
    """State of `scale_by_psgd_kron`.

    The factors are listed per leaf, in the order of jax.tree, and per axis of the leaf as a matrix or vector: upper
    triangles of shape (n, n), or diagonals of shape (n,). They are kept in float32 or wider.

    Attributes:
      steps: number of completed steps.
      since: the number of steps since the factors were last updated.
      key: the key from which the probes of the next step are drawn.
      mu: the average of g, shaped like the parameters.
      factors: the factors Q.
    """

    steps: Int[Array, ""]
    since: Int[Array, ""]
    key: Key[Array, ""]
    mu: PyTree
    factors: tuple[Factors, ...]


def annealed_interval(steps: Int[Array, ""]) -> Array:
    """Return kron_torch's number of steps between two updates: 1 for the first 500 steps, then up to 33."""
    return 1 / jnp.clip(jnp.exp(-0.001 * (steps.astype(jnp.result_type(float)) - 500)), 0.03, 1.0)


def _folded(x: Array) -> Array:
    """Return a leaf as a matrix, or as a vector if it has fewer than two axes."""
    return as_matrix(x) if x.ndim >= 2 else x.reshape(shape_as_tensor(x.shape))


def _along(g: Array, factor: Array, axis: int, *, transposed: bool = False) -> Array:
    """Multiply a tensor by a factor, or by its transpose, along an axis."""
    if factor.ndim == 2:
        return along_axis(g, factor.T if transposed else factor, axis)
    return g * factor.reshape([-1 if k == axis else 1 for k in range(g.ndim)])


def _solved(v: Array, factor: Array, axis: int) -> Array:
    """Multiply a tensor by the inverse of the transpose of a factor along an axis."""
    if factor.ndim < 2:
        return _along(v, 1 / factor, axis)
    moved = jnp.moveaxis(v, axis, 0)
    flat = jax.scipy.linalg.solve_triangular(factor, moved.reshape(len(factor), -1), trans=1, lower=False)
    return jnp.moveaxis(flat.reshape(moved.shape), 0, axis)


def _precondition(g: Array, factors: Factors) -> Array:
    for axis, factor in enumerate(factors):
        g = _along(_along(g, factor, axis), factor, axis, transposed=True)
    return g


def _norm_from_below(a: Array) -> Array:
    """Return a lower bound of the spectral norm of a symmetric matrix: one power step from its longest column."""
    column = a[:, jnp.argmax(jnp.sum(a**2, axis=0))]
    row = column @ a
    return norm(a @ divide(row, norm(row)))


@exact_products
def _refit(g: Array, probe: Array, factors: Factors, rate: Hyperparameter, damping: Hyperparameter) -> Factors:
    """Take one step of gradient descent on the factors, and balance them."""
    noisy = g + damping * jnp.mean(jnp.abs(g)) * probe
    whitened, inverse = noisy, probe
    for axis, factor in enumerate(factors):
        whitened, inverse = _along(whitened, factor, axis), _solved(inverse, factor, axis)
    found = []
    for axis, factor in enumerate(factors):
        if factor.ndim == 2:
            first, second = unfold_product(whitened, axis), unfold_product(inverse, axis)
            change = divide(jnp.triu(first - second), _norm_from_below(first + second)) @ factor
        else:
            others = [k for k in range(g.ndim) if k != axis]
            first, second = jnp.sum(whitened**2, axis=others), jnp.sum(inverse**2, axis=others)
            change = divide(first - second, jnp.max(first + second)) * factor
        found.append(factor - rate * change)
    sizes = jnp.stack([jnp.max(jnp.abs(factor)) for factor in found])
    common = jnp.exp(jnp.mean(jnp.log(sizes)))
    return tuple(factor * (common / size) for factor, size in zip(found, sizes, strict=True))


@transformation
def scale_by_psgd_kron(
    b1: Hyperparameter = 0.9,
    *,
    precondition_lr: Hyperparameter = 0.1,
    initial_scale: Hyperparameter = 1.0,
    clip: Hyperparameter = 1.1,
    damping: Hyperparameter = 2.0**-11.5,
    update_interval: Hyperparameter | None = None,
    max_dim: int = 8192,
    seed: int = 0,
) -> optax.GradientTransformation:
    """Scale gradients by PSGD's rule: P mhat, with a root mean square of at most `clip`; P is that of `psgd_kron`.

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      precondition_lr: the step size of the factors. Default 0.1.
      initial_scale: the product of the first factors is this number times the identity. Default 1.
      clip: the largest root mean square of the direction of one leaf. Default 1.1.
      damping: the share of the mean of |mhat| by which the probes enter the fit. Default 2^-11.5.
      update_interval: the number of steps between two updates of the factors. Default None, which means 1 for 500
        steps and more and more later, up to 33.
      max_dim: the length above which a factor is diagonal, static. Default 8192.
      seed: the seed of the probes. Default 0.
    """
    require_fractions(b1=b1)
    require_positive(initial_scale=initial_scale, clip=clip)
    require_non_negative(precondition_lr=precondition_lr, damping=damping)
    if update_interval is not None:
        require_positive(update_interval=update_interval)
    require_count("max_dim", max_dim)
    require_count("seed", seed, low=0)

    def first(x: Array) -> Factors:
        dtype = jnp.result_type(x, jnp.float32)
        shape = jax.eval_shape(_folded, x).shape
        if 0 in shape:
            return ()
        scale = initial_scale ** (1 / len(shape))
        triangular = [len(shape) > 1 and 1 < n <= max_dim for n in shape]
        pairs = zip(shape, triangular, strict=True)
        return tuple((scale * (jnp.eye(n) if full else jnp.ones(n))).astype(dtype) for n, full in pairs)

    def init(params: optax.Params) -> PSGDState:
        factors = tuple(first(jnp.asarray(x)) for x in jax.tree.leaves(params))
        return PSGDState(begin(), begin(), jax.random.key(seed), zeros(params), factors)

    def update(
        updates: optax.Updates, state: PSGDState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, PSGDState]:
        del params
        count = optax.safe_increment(state.steps)
        interval = annealed_interval(state.steps) if update_interval is None else jnp.asarray(update_interval)
        due = state.since + 1 >= interval
        key, now = jax.random.split(state.key)
        mu = average(b1, state.mu, updates)
        leaves, tree = jax.tree.flatten(mu)
        correction = one_minus_power(b1, count)
        moved, factors = [], []
        for m, old, own in zip(leaves, state.factors, jax.random.split(now, max(len(leaves), 1)), strict=False):
            if not m.size:
                moved.append(m)
                factors.append(old)
                continue
            mhat = _folded(m / correction.astype(m.dtype))
            probe = jax.random.normal(own, mhat.shape, mhat.dtype)
            fitted = jax.lax.cond(
                due,
                lambda g, v, q: _cast(_refit(g, v, q, precondition_lr, damping), q),
                lambda g, v, q: q,
                *(mhat, probe, old),
            )
            direction = exact_products(_precondition)(mhat, fitted)
            size = safe_sqrt(jnp.mean(direction**2))
            moved.append((direction * jnp.minimum(1.0, clip / (size + 1e-12))).reshape(m.shape))
            factors.append(fitted)
        since = jnp.where(due, 0, state.since + 1)
        return jax.tree.unflatten(tree, moved), PSGDState(count, since, key, mu, tuple(factors))

    return optax.GradientTransformation(init, update)


def _cast(new: Factors, old: Factors) -> Factors:
    return tuple(a.astype(b.dtype) for a, b in zip(new, old, strict=True))


@transformation
def psgd_kron(
    learning_rate: Hyperparameter = 3e-4,
    *,
    b1: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
    precondition_lr: Hyperparameter = 0.1,
    initial_scale: Hyperparameter = 1.0,
    clip: Hyperparameter = 1.1,
    damping: Hyperparameter = 2.0**-11.5,
    update_interval: Hyperparameter | None = None,
    max_dim: int = 8192,
    seed: int = 0,
) -> optax.GradientTransformation:
    """PSGD-Kron: x <- x - learning_rate (P mhat + weight_decay x), where P = Q_L^T Q_L (.) Q_R^T Q_R is fitted.

    Here mhat is the bias-corrected average of g. The triangular factors follow Q_L <- Q_L - precondition_lr
    triu(A A^T - B B^T) Q_L / |A A^T + B B^T|, where A = Q_L (mhat + d V) Q_R^T and B = Q_L^-T V Q_R^-1 for a random
    matrix V; Q_R likewise. The fixed point is the P that whitens gradients: E[P g g^T P] = I. Unlike Shampoo it
    has no matrix roots, and triangular solves suffice.

    A vector has one diagonal factor, and so has a side of length 1 or longer than max_dim. A leaf of more than two axes
    is treated as a matrix of shape (all axes but the last, last axis).

    Args:
      learning_rate: the step size, a number or a schedule. Default 3e-4, that of kron_torch.
      b1: the decay of the average of gradients. Default 0.9, that of kron_torch.
      weight_decay: decoupled weight decay of leaves of two or more axes. Default 0, that of kron_torch.
      precondition_lr: the step size of the factors. Default 0.1, that of kron_torch.
      initial_scale: the root of the first P, times the identity; > 0. Default 1, that of kron_torch.
      clip: the largest root mean square of P mhat of one leaf, > 0. Default 1.1, that of kron_torch.
      damping: d, as a multiple of the mean of |mhat|. Default 2^-11.5, the root of float32's precision, as in
        kron_torch.
      update_interval: the number of steps between two updates of the factors. Default None: 1 for 500 steps, then
        exp(0.001 (t - 500)), up to 33, as in kron_torch.
      max_dim: the length above which a factor is diagonal. Static. Default 8192, that of kron_torch.
      seed: the seed of V, which is drawn anew for every leaf and step from a key in the state. Default 0.

    State:
      the average of g, one value per parameter, and an n x n factor for every side of length n of a matrix.

    Example:
      >>> optimizer = psgd_kron(1e-3, update_interval=2)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The factors of a leaf are balanced at every update instead of at one in a hundred, which changes them by a constant
    and P not at all; the noise d V enters the fit only, whereas kron_torch steps along the noisy average. The norm that
    divides is a lower bound, from one power step.

    References:
      Li, "Preconditioned Stochastic Gradient Descent", 2015 (https://arxiv.org/abs/1512.04202); the factors as in
      kron_torch (https://github.com/evanatyourservice/kron_torch).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    scale = scale_by_psgd_kron(
        b1,
        precondition_lr=precondition_lr,
        initial_scale=initial_scale,
        clip=clip,
        damping=damping,
        update_interval=update_interval,
        max_dim=max_dim,
        seed=seed,
    )

    def decay(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        held = require_params("psgd_kron", params)
        return jax.tree.map(lambda u, x: u + weight_decay * x if jnp.ndim(x) >= 2 else u, updates, held)

    plain = isinstance(weight_decay, (int, float)) and weight_decay == 0
    return optax.chain(
        scale,
        optax.identity() if plain else optax.stateless(decay),
        optax.scale_by_learning_rate(learning_rate),
    )
