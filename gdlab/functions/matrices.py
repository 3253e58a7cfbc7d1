"""Functions of matrices, on which optimizers for matrices (Muon, Shampoo, SOAP) are what they are.

Each factory fixes sizes, condition and seed, and returns a `MatrixFunction`. Its `fn` takes one matrix or a dict of
matrices, as `gdlab.descend` and `gdlab.sweep` do, and its `starts` are initial points for both. A global minimizer is
known for each. The matrices that define a function are random, and determined by `seed`.

    one = MATRIX_FUNCTIONS["low_rank_factorization"](rank=3)
    ds = sweep(one.fn, muon, {"learning_rate": [0.01, 0.1]}, one.starts(jax.random.key(0), 20), max_steps=500)
    gap = ds.value - one.minimum
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdlab.arguments import require_count, require_flag, require_number
from gdlab.types import NameTable


class MatrixFunction(NamedTuple):
    """What is known about a function of matrices. `fn` is the function; the record itself is not callable.

    Attributes:
      name: the name in snake_case.
      fn: the function, which is pure; it maps one matrix, or a dict of matrices, to a scalar.
      minimizer: one global minimizer, in float64. Most of these functions have many.
      minimum: the value there.
      spread: the standard deviation of the entries of an initial point, for each matrix.
      about: what makes it hard, in words.
      source: the publication that studies it.
    """

    name: str
    fn: Callable[[Any], Array]
    minimizer: Any
    minimum: float
    spread: Any
    about: str
    source: str

    def starts(self, key: Key[Array, ""], count: int, dtype: Any = np.float32) -> Any:
        """Return random initial points: independent normal entries of mean 0.

        Args:
          key: the random key.
          count: the number of points, which is the length of each array's first axis.
          dtype: the dtype of the arrays. Default float32.

        Returns:
          An array, or a dict of arrays.

        Raises:
          ValueError: if `count` is less than 1.
        """
        require_count("count", count)
        leaves, structure = jax.tree.flatten(self.minimizer)
        keys = jax.random.split(key, len(leaves))
        draws = [
            spread * jax.random.normal(one, (count, *np.shape(leaf)), dtype)
            for one, leaf, spread in zip(keys, leaves, jax.tree.leaves(self.spread), strict=True)
        ]
        return jax.tree.unflatten(structure, draws)


def _rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a random orthogonal matrix."""
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def _spectrum(size: int, condition: float) -> np.ndarray:
    """Return `size` numbers from 1 to 1 / condition, evenly spaced on a logarithmic scale."""
    return np.geomspace(1.0, 1.0 / condition, size)


def _half_square(x: Array) -> Array:
    return jnp.sum(x**2) / 2


def _check(condition: float, seed: int, **sizes: int) -> np.random.Generator:
    for name, size in sizes.items():
        require_count(name, size)
    require_number("condition", condition, 1.0)
    require_count("seed", seed, low=0)
    return np.random.default_rng(seed)


def matrix_square_root(size: int = 6, *, condition: float = 100.0, seed: int = 0) -> MatrixFunction:
    """|X X - A|^2 / 2 for a symmetric positive definite A, whose square root is the minimizer.

    Args:
      size: the number of rows of X.
      condition: the condition number of A. Default 100.
      seed: the seed of A. Default 0.

    Returns:
      A `MatrixFunction` with minimum 0.

    Raises:
      ValueError: if a number is out of range.

    References:
      Jain, Jin, Kakade and Netrapalli, "Global convergence of non-convex gradient descent for computing matrix
        squareroot", 2017 (https://arxiv.org/abs/1507.05854).
    """
    rng = _check(condition, seed, size=size)
    basis, values = _rotation(rng, size), _spectrum(size, condition)
    target, root = (basis * values) @ basis.T, (basis * np.sqrt(values)) @ basis.T

    def fn(x: Float[Array, "size size"]) -> Array:
        return _half_square(x @ x - jnp.asarray(target, x.dtype))

    return MatrixFunction(
        "matrix_square_root",
        fn,
        root,
        0.0,
        1 / math.sqrt(size),
        "saddle points at the roots of other signs; curvature that depends on the point",
        "Jain et al. 2017",
    )


def low_rank_factorization(
    rows: int = 8, columns: int = 6, *, rank: int = 2, condition: float = 10.0, seed: int = 0
) -> MatrixFunction:
    """|L R^T - M|^2 / 2, with fewer columns in L and R than M has ranks.

    By the theorem of Eckart and Young the minimum is half the sum of the squares of the singular values that are left
    out.

    Args:
      rows: the number of rows of M and of L.
      columns: the number of columns of M, which R has as rows.
      rank: the number of columns of L and R, at most that of M's singular values.
      condition: the ratio of M's largest singular value to its smallest. Default 10.
      seed: the seed of M. Default 0.

    Returns:
      A `MatrixFunction` of {"left": L, "right": R}.

    Raises:
      ValueError: if a number is out of range.

    References:
      Eckart and Young, "The approximation of one matrix by another of lower rank", 1936
        (https://doi.org/10.1007/BF02288367).
    """
    rng = _check(condition, seed, rows=rows, columns=columns, rank=rank)
    full = min(rows, columns)
    if rank > full:
        raise ValueError(f"rank: expected an integer of at most {full}, the smaller side of M, got {rank}")
    left, right = _rotation(rng, rows)[:, :full], _rotation(rng, columns)[:, :full]
    values = _spectrum(full, condition)
    target = (left * values) @ right.T

    def fn(p: dict[str, Array]) -> Array:
        return _half_square(p["left"] @ p["right"].T - jnp.asarray(target, p["left"].dtype))

    roots = np.sqrt(values[:rank])
    return MatrixFunction(
        "low_rank_factorization",
        fn,
        {"left": left[:, :rank] * roots, "right": right[:, :rank] * roots},
        float(np.sum(values[rank:] ** 2) / 2),
        {"left": 0.1, "right": 0.1},
        "a saddle point at 0, from near which it starts; directions of scale that cost nothing",
        "Eckart and Young 1936",
    )


def orthogonal_procrustes(
    size: int = 5, *, rows: int = 10, condition: float = 10.0, weight: float = 1.0, seed: int = 0
) -> MatrixFunction:
    """|A X - B|^2 / 2 + weight |X^T X - I|^2 / 4 with B = A Q: find the rotation Q between two sets of points.

    The second term takes the place of the constraint that X is orthogonal. Both vanish at Q.

    Args:
      size: the number of rows of X.
      rows: the number of points, the rows of A; at least `size`.
      condition: the condition number of A. Default 10.
      weight: the weight of the second term. Default 1.
      seed: the seed of A and Q. Default 0.

    Returns:
      A `MatrixFunction` with minimum 0.

    Raises:
      ValueError: if a number is out of range.

    References:
      Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966
        (https://doi.org/10.1007/BF02289451).
    """
    rng = _check(condition, seed, size=size, rows=rows)
    require_number("weight", weight, 0.0)
    if rows < size:
        raise ValueError(f"rows: expected an integer of at least size, {size}, got {rows}")
    points = (_rotation(rng, rows)[:, :size] * _spectrum(size, condition)) @ _rotation(rng, size)
    turn = _rotation(rng, size)
    turned = points @ turn

    def fn(x: Float[Array, "size size"]) -> Array:
        a, b, unit = (jnp.asarray(each, x.dtype) for each in (points, turned, np.eye(size)))
        return _half_square(a @ x - b) + weight * _half_square(x.T @ x - unit) / 2

    return MatrixFunction(
        "orthogonal_procrustes",
        fn,
        turn,
        0.0,
        1 / math.sqrt(size),
        "a curved valley along the orthogonal matrices, and an ill-conditioned slope within it",
        "Schönemann 1966",
    )


def deep_linear(
    width: int = 5, *, depth: int = 4, condition: float = 10.0, gain: float = 1.0, seed: int = 0
) -> MatrixFunction:
    """|W_depth ... W_1 - M|^2 / 2: a network of linear layers, whose loss is linear in none of them.

    Args:
      width: the number of rows and columns of each layer.
      depth: the number of layers.
      condition: the condition number of M. Default 10.
      gain: initial entries have the standard deviation gain / sqrt(width). Default 1; gradients vanish below it and
        explode above it as the depth grows.
      seed: the seed of M. Default 0.

    Returns:
      A `MatrixFunction` of {"layer_1": W_1, ...} with minimum 0.

    Raises:
      ValueError: if a number is out of range.

    References:
      Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
        networks", 2014 (https://arxiv.org/abs/1312.6120).
    """
    rng = _check(condition, seed, width=width, depth=depth)
    require_number("gain", gain, 0.0, open_low=True)
    left, right = _rotation(rng, width), _rotation(rng, width)
    values = _spectrum(width, condition)
    target = (left * values) @ right.T
    names = [f"layer_{number}" for number in range(1, depth + 1)]

    def fn(p: dict[str, Array]) -> Array:
        product = p[names[0]]
        for name in names[1:]:
            product = p[name] @ product
        return _half_square(product - jnp.asarray(target, product.dtype))

    factor = np.diag(values ** (1 / depth))
    layers = [factor] * depth
    layers[0] = layers[0] @ right.T
    layers[-1] = left @ layers[-1]
    return MatrixFunction(
        "deep_linear",
        fn,
        dict(zip(names, layers, strict=True)),
        0.0,
        dict.fromkeys(names, gain / math.sqrt(width)),
        "plateaus, each followed by a drop, one for each singular value of M",
        "Saxe, McClelland and Ganguli 2014",
    )


def teacher_student(
    inputs: int = 5, hidden: int = 4, *, examples: int = 64, condition: float = 1.0, seed: int = 0
) -> MatrixFunction:
    """Half the mean of (student(x) - teacher(x))^2, for networks x -> a max(W x, 0) of equal size.

    Args:
      inputs: the number of columns of W.
      hidden: the number of rows of W.
      examples: the number of inputs x, with independent normal entries.
      condition: the ratio of the largest standard deviation of an input's entries to the smallest. Default 1.
      seed: the seed of the teacher and the inputs. Default 0.

    Returns:
      A `MatrixFunction` of {"hidden": W, "output": a} with minimum 0, at the teacher.

    Raises:
      ValueError: if a number is out of range.

    References:
      Saad and Solla, "On-line learning in soft committee machines", 1995 (https://doi.org/10.1103/PhysRevE.52.4225).
    """
    rng = _check(condition, seed, inputs=inputs, hidden=hidden, examples=examples)
    x = rng.normal(size=(examples, inputs)) * _spectrum(inputs, condition)
    teacher = {"hidden": rng.normal(size=(hidden, inputs)), "output": rng.normal(size=(1, hidden))}
    y = np.maximum(x @ teacher["hidden"].T, 0) @ teacher["output"].T

    def fn(p: dict[str, Array]) -> Array:
        given, aims = (jnp.asarray(each, p["hidden"].dtype) for each in (x, y))
        return _half_square(jnp.maximum(given @ p["hidden"].T, 0) @ p["output"].T - aims) / examples

    return MatrixFunction(
        "teacher_student",
        fn,
        teacher,
        0.0,
        {"hidden": 1 / math.sqrt(inputs), "output": 1 / math.sqrt(hidden)},
        "units that die, units that copy one another, and kinks where W x = 0",
        "Saad and Solla 1995",
    )


def matrix_rosenbrock(size: int = 3, *, steepness: float = 100.0) -> MatrixFunction:
    """|I - X|^2 + steepness |Y - X X|^2: Rosenbrock's function, with matrices in place of numbers.

    Args:
      size: the number of rows of X and Y. With 1 it is Rosenbrock's function.
      steepness: the factor of the second term. Default 100.

    Returns:
      A `MatrixFunction` of {"x": X, "y": Y} with minimum 0, at X = Y = I.

    Raises:
      ValueError: if a number is out of range.

    References:
      Rosenbrock, "An automatic method for finding the greatest or least value of a function", 1960
        (https://doi.org/10.1093/comjnl/3.3.175), for numbers. The generalization is gdlab's.
    """
    require_count("size", size)
    require_number("steepness", steepness, 0.0, open_low=True)
    unit = np.eye(size)

    def fn(p: dict[str, Array]) -> Array:
        x, y = p["x"], p["y"]
        return jnp.sum((jnp.asarray(unit, x.dtype) - x) ** 2) + steepness * jnp.sum((y - x @ x) ** 2)

    return MatrixFunction(
        "matrix_rosenbrock",
        fn,
        {"x": unit, "y": unit},
        0.0,
        {"x": 1 / math.sqrt(size), "y": 1 / math.sqrt(size)},
        "a curved, flat valley along Y = X X",
        "Rosenbrock 1960, generalized",
    )


def kronecker_quadratic(
    rows: int = 6, columns: int = 4, *, condition: float = 1e4, rotated: bool = True, seed: int = 0
) -> MatrixFunction:
    """tr(X^T L X R) / 2, whose Hessian is the Kronecker product of R and L.

    Shampoo and SOAP are made for Hessians of this form; Adam is at its best where both are diagonal.

    Args:
      rows: the number of rows of X.
      columns: the number of columns of X.
      condition: the condition number of the Hessian, which L and R share equally. Default 1e4.
      rotated: whether L and R have random eigenvectors; if not, they are diagonal. Default True.
      seed: the seed of the eigenvectors. Default 0.

    Returns:
      A `MatrixFunction` with minimum 0, at 0.

    Raises:
      TypeError: if `rotated` is not a bool.
      ValueError: if a number is out of range.

    References:
      Gupta, Koren and Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018
        (https://arxiv.org/abs/1802.09568).
    """
    rng = _check(condition, seed, rows=rows, columns=columns)
    require_flag("rotated", rotated)
    sides = []
    for size in (rows, columns):
        basis = _rotation(rng, size) if rotated else np.eye(size)
        sides.append((basis * _spectrum(size, math.sqrt(condition))) @ basis.T)

    def fn(x: Float[Array, "rows columns"]) -> Array:
        left, right = (jnp.asarray(side, x.dtype) for side in sides)
        return jnp.sum(x * (left @ x @ right)) / 2

    return MatrixFunction(
        "kronecker_quadratic",
        fn,
        np.zeros((rows, columns)),
        0.0,
        1.0,
        "ill-conditioned along rows and columns at once",
        "Gupta, Koren and Singer 2018",
    )


MATRIX_FUNCTIONS: NameTable[Callable[..., MatrixFunction]] = NameTable(
    "function of matrices",
    {
        make.__name__: make
        for make in (
            matrix_square_root,
            low_rank_factorization,
            orthogonal_procrustes,
            deep_linear,
            teacher_student,
            matrix_rosenbrock,
            kronecker_quadratic,
        )
    },
)
"""The factories of functions of matrices, by name."""
