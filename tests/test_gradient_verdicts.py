"""Counts of the verdicts of `check_gradient`: no right gradient FAILs, and no planted wrong one PASSes.

One compiled program per function and dtype evaluates the quotients at all points and scales; the scale is data.
"""

import collections
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.functions import FUNCTIONS
from gdlab.gradients.check import DEFAULT_SCHEMES, default_tolerance
from gdlab.gradients.ladder import climb
from gdlab.gradients.leaf_verdict import judge_leaf
from gdlab.gradients.schemes import SCHEMES

USED = [SCHEMES[name] for name in DEFAULT_SCHEMES]
SCALES = (1e-10, 1e-5, 1.0, 1e5, 1e10)
KEY = jax.random.key(0)


def verdict(seen, value, dtype, with_forward):
    """The first word of the verdict, from what was evaluated for one leaf."""
    eps = float(jnp.finfo(dtype).eps)
    faults = judge_leaf(seen, USED, default_tolerance(eps), eps, value, with_forward).faults
    return "PASS" if not faults else "FAIL" if any(fault.proven for fault in faults) else "UNDECIDED"


def planted(exact, dtype):
    """Wrong gradients by name, each with a fault in its largest component that the dtype can show."""
    largest = int(np.argmax(np.abs(exact)))
    if not np.isfinite(exact).all() or exact[largest] == 0:
        return {}
    small = 1.001 if dtype == jnp.float64 else 1.05
    faults = {"sign": -1.0, "missing": 0.0, "slightly too long": small}
    wrong = {name: np.where(np.arange(exact.size) == largest, factor * exact, exact) for name, factor in faults.items()}
    return wrong | {"all too long": 1.1 * exact}


def count(look, xs, extra, dtype, plant, counts, wrong):
    """Judge each point with the right gradient, and with one planted fault in turn where `plant` says so."""
    values, seen = jax.tree.map(lambda a: np.asarray(a, float), look(xs, *extra))
    for number, value in enumerate(values):
        one = jax.tree.map(lambda a, k=number: a[k], seen)
        right = verdict(one, value, dtype, True)
        counts["right", right] += 1
        wrong += [(number, "right")] if right == "FAIL" else []
        faults = planted(one.exact, dtype) if plant[number] else {}
        for name in list(faults)[number % 4 : number % 4 + 1]:
            found = verdict(one._replace(exact=faults[name]), value, dtype, False)
            counts["wrong", found] += 1
            wrong += [(number, name)] if found == "PASS" else []


def count_function(name, dtype, points, counts):
    """Count at random points of the domain and at the minimizers, at all scales; return the wrong verdicts."""
    function = FUNCTIONS[name]
    dim = function.dim or (4 if name == "powell" else 3)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    random = rng.uniform(*function.bounds(dim), (points, dim))
    minimizers = np.asarray(function.minimizers(dim))[:4].reshape(-1, dim)
    xs = np.repeat(np.concatenate([random, minimizers]), len(SCALES), axis=0)
    scales = np.tile(SCALES, points + len(minimizers))

    @jax.jit
    @jax.vmap
    def look(x, scale):
        scaled, at = (lambda z: function.fn(z / scale)), x * scale
        value, gradient = jax.value_and_grad(scaled)(at)
        return value, climb(scaled, at, 0, gradient, USED, None, 64, KEY, True)

    wrong = []
    plant = np.arange(len(xs)) < points * len(SCALES)
    count(look, jnp.asarray(xs, dtype), (jnp.asarray(scales, dtype),), dtype, plant, counts, wrong)
    return [(name, dtype.__name__, xs[k], scales[k], fault) for k, fault in wrong]


def test_no_verdict_is_wrong_at_a_few_points():
    counts = collections.Counter()
    assert count_function("beale", jnp.float64, 3, counts) == []
    assert counts["right", "PASS"] >= 12
    assert counts["wrong", "FAIL"] >= 9


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_no_verdict_is_wrong_over_all_functions_and_scales(dtype, programs_are_forgotten):
    counts, wrong = collections.Counter(), []
    for name in FUNCTIONS:
        wrong += count_function(name, dtype, 38, counts)
    print(dtype.__name__, dict(counts))
    assert wrong == []
    assert sum(number for (kind, _), number in counts.items() if kind == "right") > 1000 * len(SCALES)
    assert counts["right", "PASS"] > (0.5 if dtype == jnp.float32 else 0.9) * 1000 * len(SCALES)
    assert counts["wrong", "FAIL"] > (0.5 if dtype == jnp.float32 else 0.9) * 1000 * len(SCALES)


@jax.custom_vjp
def straight_through(x):
    return jax.nn.relu(x)


straight_through.defvjp(lambda x: (jax.nn.relu(x), None), lambda _, cotangent: (cotangent,))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_no_verdict_is_wrong_over_small_relu_networks(dtype, programs_are_forgotten):
    networks, rng = 150, np.random.default_rng(3)
    shapes = ((3, 6), (6,), (6, 4), (4,), (4,), ())
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    weights = rng.normal(size=(networks, ends[-1])) * np.repeat([0.01, 0.3, 2.0], networks // 3)[:, None]
    inputs, targets = rng.normal(size=(networks, 5, 3)), rng.normal(size=(networks, 5))

    def loss(vector, inputs, targets, second=jax.nn.relu):
        parts = zip(jnp.split(vector, ends[:-1]), shapes, strict=True)
        a, b, c, d, e, f = (part.reshape(shape) for part, shape in parts)
        return jnp.mean((second(jax.nn.relu(inputs @ a + b) @ c + d) @ e + f - targets) ** 2)

    @jax.jit
    @jax.vmap
    def look(vector, *data):
        value, gradient = jax.value_and_grad(loss)(vector, *data)
        return value, climb(lambda v: loss(v, *data), vector, 0, gradient, USED, None, 64, KEY, True)

    counts, wrong = collections.Counter(), []
    data = tuple(jnp.asarray(part, dtype) for part in (inputs, targets))
    count(look, jnp.asarray(weights, dtype), data, dtype, np.ones(networks, bool), counts, wrong)

    # A custom rule that forgets the mask of the second ReLU.
    forgetful = jax.vmap(jax.grad(lambda v, *data: loss(v, *data, second=straight_through)))
    values, seen = jax.tree.map(lambda a: np.asarray(a, float), look(jnp.asarray(weights, dtype), *data))
    for number, gradient in enumerate(np.asarray(forgetful(jnp.asarray(weights, dtype), *data), float)):
        one = jax.tree.map(lambda a, k=number: a[k], seen)
        if np.abs(gradient - one.exact).max() > 0.05 * np.abs(one.exact).max():
            found = verdict(one._replace(exact=gradient), values[number], dtype, False)
            counts["forgetful", found] += 1
            wrong += [(number, "forgetful")] if found == "PASS" else []
    print(dtype.__name__, dict(counts))
    assert wrong == []
    assert counts["right", "PASS"] > networks / 3
    assert counts["wrong", "FAIL"] > networks / 2
    assert counts["forgetful", "FAIL"] > networks / 3
