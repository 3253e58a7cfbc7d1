"""`check_gradient`, which compares a gradient with finite differences over a whole range of steps."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from gdlab.arguments import (
    abstract_result,
    as_numbers,
    describe,
    require_callable,
    require_count,
    require_key,
    require_number,
    require_scalar_function,
    require_sequence,
    restated,
)
from gdlab.compute.extras import as_data, with_last
from gdlab.compute.precision import exact_products
from gdlab.compute.trees import is_floating
from gdlab.gradients.finite import autodiff, finite_difference, open_floating
from gdlab.gradients.ladder import climb
from gdlab.gradients.leaf_verdict import Fault, forward_mode_row, judge_leaf
from gdlab.gradients.noise import Noise, average, common_numbers, require_noisy_gradient, takes_key
from gdlab.gradients.report import GradientReport, GradientRow
from gdlab.gradients.schemes import SCHEMES, Scheme, as_scheme
from gdlab.types import Number

DEFAULT_SCHEMES = ("forward", "central", "central4", "richardson")

NOISY_TOLERANCE = 0.05
"""The default of `rtol` for a noisy gradient."""


@exact_products
def check_gradient(
    fn: Callable[..., Any],
    x: PyTree,
    *,
    gradient: Callable[..., Any] | None = None,
    schemes: Sequence[str | Scheme] = DEFAULT_SCHEMES,
    step: Number | None = None,
    rtol: float | None = None,
    coordinates: int = 64,
    seed: int = 0,
    key: PRNGKeyArray | None = None,
    estimates: int = 4096,
    data: PyTree | None = None,
) -> GradientReport:
    """Compare a gradient of `fn` at `x` with finite differences and report the result.

    Quotients are formed for a whole ladder of steps, and each scheme is judged at its most self-consistent step along
    each direction, which is chosen without regard to the gradient. Errors are relative to the leaf's largest quotient,
    or to a fraction of the slopes nearby if that is larger, so that a gradient of zero can be checked too.

    A check that passes means that all components agree within `rtol` with quotients whose own uncertainty is within
    `rtol`. It fails only on proof: a gradient that is not finite, or a component that differs from the quotients by
    more than ten times their uncertainty, more than a kink at x could explain, and more than `rtol` of its own size.
    Everything else is undecided, with the reason, never agreement. That includes a kink at x, seen where the forward
    and the backward quotient remain different as h shrinks to the last step that shows anything, because the quotients
    cannot distinguish it from a kink beside x; functions that vary below the smallest step; and rounding.

    With `key`, the gradient is noisy: it takes a random key besides x, as one of `score_function` does, and its
    expected value is checked. The mean of many independent estimates takes the gradient's place, and its confidence
    interval separates bias from noise; it holds for all directions together, at a level of 99.9%. The check passes if
    the whole interval of the bias is within `rtol`. It fails if the interval does not contain 0, and the bias found is
    above `rtol`. Otherwise there are too few estimates to tell. The expectation of very skewed estimates is missed more
    often than in 0.1% (log-normal ones: 2% of checks of 64 estimates, 0.2% of 1,024 or more). If the expectation is
    not known, `fn(x, key)` may be noisy too: then the quotients are those of its mean over the keys of the estimates,
    the same keys at all x, and the noise is that of the difference between an estimate and the slope for its key.
    Without a `gradient`, it is the derivative of that mean that is checked: random numbers that are common to all x are
    no noise, so the tolerance is that of a function without them.

    Products of float32 matrices are computed in float32, also on a GPU, whose default, TF32, is off by 5e-4.
    Disagreement is reported and does not raise. For float32 parameters, enable x64
    (`jax.config.update("jax_enable_x64", True)`) to get a far sharper check.

    Args:
      fn: a function of an array or a pytree that returns a scalar; with `key`, the expectation, or a function of x and
        a key whose expectation that is; with `data`, a function of these too, as `fn(x, data)` or `fn(x, key, data)`.
      x: the point at which the gradient is checked; finite, and not traced. Leaves that are not floating-point, such as
        counts and activation functions in a module, stay what they are; the gradient has None in their place.
      gradient: the gradient function to test. One that JAX cannot trace, written in NumPy for example, is called once
        with `x` itself. The default is reverse-mode autodiff of `fn`, which is then compared
        with the forward mode too. (A function with a custom VJP has no forward mode, which the report states.)
      schemes: names from `SCHEMES`, or `Scheme`s. "complex" suits analytic functions only. Default: forward, central,
        central4 and richardson.
      step: the absolute step that the column `step` judges. None uses each scheme's default.
      rtol: the relative agreement required. The default, None, is 30 eps^(2/3) of the leaf's dtype (1e-9 in float64,
        7e-4 in float32), or 10 eps for narrower dtypes; with `key` it is 0.05.
      coordinates: the number of directions to check in leaves that have more elements than this: random coordinates,
        and one random direction in which every element counts. At least 2. Default 64.
      seed: the seed that selects them. Default 0.
      key: the random key of a noisy gradient, `gradient(x, key)`, or of a noisy `fn`. Default None: both are functions
        of x alone.
      estimates: the number of independent estimates of a noisy gradient, or of keys over which a noisy `fn` is
        averaged; at least 2. Default 4096.
      data: a tree of arrays that `fn` and `gradient` take as their last argument. Default None: they take none.

    Returns:
      A `GradientReport`, which prints as a table.

    Raises:
      TypeError: if `fn` or `gradient` is not a function, or if `x` or the gradient is not floating-point.
      ValueError: if `fn` does not return a scalar, if `x` has no elements or is not finite, if there are no schemes, or
        if the gradient does not have the structure and the shapes of `x`.
      KeyError: if there is no scheme of a name given.
    """
    require_count("estimates", estimates, low=2)
    fn, x, gradient, key, noisy_fn, about = _sides(fn, x, gradient, key, data, estimates)
    point = _as_concrete(x)
    require_scalar_function("fn", fn, x)
    require_count("coordinates", coordinates, low=2)
    require_count("seed", seed, low=0)
    for name, given in (("step", step), ("rtol", rtol)):
        if given is not None:
            require_number(name, given, 0.0, open_low=True)
            as_numbers(name, given, shape=())
    chosen = _as_schemes(schemes)
    for scheme in chosen:
        _require_usable(scheme, fn, x, step)

    value = float(jax.jit(fn)(x))
    if key is not None:
        tested = _noisy_gradient(gradient, x, key)
    else:
        tested = jax.jit(autodiff(fn))(x) if gradient is None else _given_gradient(gradient, x)
    refusal = _forward_mode_refusal(fn, x) if gradient is None else None
    both = gradient is None and refusal is None

    rows: list[GradientRow] = []
    faults: list[Fault] = [] if math.isfinite(value) else [Fault(f"fn is {value} at x", True)]
    agreements, asked = [], 0.0
    components = jax.tree.leaves(tested)
    keys = jax.random.split(jax.random.key(seed), len(components))
    noises: list[Noise | None] = [None] * len(components)
    if key is not None:
        noises = [*average(gradient, x, key, estimates, coordinates, keys, noisy_fn)]
    for number, (name, leaf) in enumerate(point.items()):
        if leaf.size == 0:
            continue
        look = functools.partial(
            climb, fn, number=number, schemes=chosen, step=step, coordinates=coordinates, with_forward=both
        )
        seen = jax.jit(look)(x, component=jnp.asarray(components[number]), key=keys[number])
        seen = jax.tree.map(lambda a: np.asarray(a, float), seen)
        eps = float(jnp.finfo(leaf.dtype).eps)
        usual = default_tolerance(eps) if key is None else NOISY_TOLERANCE
        tolerance = float(rtol) if rtol is not None else usual
        asked = max(asked, tolerance)
        verdict = judge_leaf(seen, chosen, tolerance, eps, value, both, noises[number])
        found = verdict.rows
        if refusal is not None:
            found = [*found, forward_mode_row(seen.exact.size)._replace(flags=(f"not available: {refusal[:60]}",))]
        rows += [row._replace(leaf=name) for row in found]
        agreements.append((verdict.error, verdict.scheme, name, verdict.half))
        faults += [Fault(f"{name}: {fault.text}", fault.proven) for fault in verdict.faults]

    side = "autodiff (reverse mode)" if gradient is None else f"{getattr(gradient, '__name__', 'gradient')} (given)"
    side += about
    against = f"finite differences of {getattr(fn, '__name__', 'fn')}"
    against += ", autodiff (forward mode)" if gradient is None else ""
    return GradientReport(
        not faults, _verdict(faults, agreements, asked, key is not None), tuple(rows), side, against, value, asked
    )


def default_tolerance(eps: float) -> float:
    """Return the default of `rtol` for a dtype of this spacing."""
    return min(30 * eps ** (2 / 3), 10 * eps if eps > 1e-6 else 1.0)


def _verdict(faults: list[Fault], agreements: list[tuple[float, str, str, float]], asked: float, noisy: bool) -> str:
    if not faults:
        error, scheme, leaf, half = max(agreements)
        where = f"for {leaf} against {scheme}, the scheme with the least uncertainty"
        found = f"bias is {error:.1e} +- {half:.1e}" if noisy else f"error is {error:.1e}"
        return f"PASS: the largest {found}, {where}; the tolerance is {asked:.1e}"
    proven = [fault.text for fault in faults if fault.proven]
    texts = proven + [fault.text for fault in faults if not fault.proven]
    word = "FAIL" if proven else "UNDECIDED"
    remedy = "take more estimates" if noisy else "enable x64"
    hint = "" if proven else f" (the tolerance is {asked:.1e}; {remedy}, or raise rtol)"
    return f"{word}: {'; '.join(texts)}{hint}"


class _Sides(NamedTuple):
    """What is compared, as functions of the leaves that move.

    Attributes:
      fn: the function of x; a noisy one is the mean over its keys.
      x: the point, with None in place of leaves that stay.
      gradient: the gradient under test, of x, or of x and a key if it is noisy; None for autodiff of `fn`.
      key: the random key of a noisy gradient, or None.
      noisy_fn: the function of x and a key, if the gradient and the function are noisy.
      about: what the report says of the gradient besides its name.
    """

    fn: Callable[[Any], Any]
    x: PyTree
    gradient: Callable[..., Any] | None
    key: Any
    noisy_fn: Callable[[Any, Any], Any] | None
    about: str


def _sides(fn: Any, x: PyTree, gradient: Any, key: Any, data: Any, estimates: int) -> _Sides:
    """Bring what `check_gradient` takes into a form in which functions take x alone, or x and a key."""
    opened, kept = open_floating(x), _kept(x)
    others = () if data is None else (as_data(data),)
    is_noisy = key is not None and takes_key(fn, len(others))
    fn = with_last(opened.on(fn), others)
    gradient = None if gradient is None else with_last(opened.on(gradient), others)
    noisy_fn, about = None, f"; unchanged: {kept}" if kept else ""
    if key is not None:
        require_key("key", key)
        noisy_fn, fn = (fn, common_numbers(fn, key, estimates)) if is_noisy else (None, fn)
        if gradient is None and is_noisy:
            return _Sides(fn, opened.params, None, None, None, f", of the mean over {estimates} keys{about}")
        about = f", the mean of {estimates} estimates{about}"
    return _Sides(fn, opened.params, gradient, key, noisy_fn, about)


def _kept(x: PyTree) -> str:
    """Return the names of the leaves that are not floating-point, at most three of them."""
    leaves = jax.tree_util.tree_leaves_with_path(x)
    names = [f"x{jax.tree_util.keystr(path)}" for path, leaf in leaves if not is_floating(leaf)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _as_concrete(x: PyTree) -> dict[str, np.ndarray]:
    """Return the leaves of `x` by name; raise, naming the leaf, unless they are finite."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        name = f"x{jax.tree_util.keystr(path)}"
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(f"{name}: expected concrete numbers, got a traced value; call check_gradient outside jit")
        leaves[name] = np.asarray(leaf, jnp.result_type(leaf))
        bad = ~np.isfinite(leaves[name].astype(float))
        if bad.any():
            raise ValueError(f"{name}: expected finite numbers, got {leaves[name].astype(float)[bad].flat[0]}")
    if sum(leaf.size for leaf in leaves.values()) == 0:
        raise ValueError("x: expected at least one number to check the gradient at, got none")
    return leaves


def _as_schemes(schemes: Any) -> list[Scheme]:
    if isinstance(schemes, (str, Scheme)):
        return [as_scheme(schemes, "schemes")]
    require_sequence("schemes", schemes, "names or Schemes")
    if not schemes:
        raise ValueError("schemes: expected at least one scheme, got none")
    return [as_scheme(scheme, "schemes") for scheme in schemes]


def _require_usable(scheme: Scheme, fn: Callable[[Any], Any], x: PyTree, step: Number | None) -> None:
    """Raise unless the quotient can be traced for `fn`; the schemes of real values that gdlab defines always can."""
    if scheme == SCHEMES["complex"]:
        jax.eval_shape(finite_difference(fn, scheme, step), x)
    elif scheme not in SCHEMES.values():
        abstract_result("schemes", finite_difference(fn, scheme, step), x, takes="x")


def _given_gradient(gradient: Any, x: PyTree) -> PyTree:
    """Return `gradient(x)`, called with concrete values if it cannot be traced, after a check of its leaves."""
    require_callable("gradient", gradient)
    try:
        result = jax.jit(gradient)(x)
    except Exception:  # written in NumPy, for example
        try:
            result = gradient(x)
        except Exception as error:
            raise restated(error, "gradient", "a function of x") from error
    _require_gradient_of(x, result)
    return result


def _noisy_gradient(gradient: Any, x: PyTree, key: PRNGKeyArray) -> PyTree:
    """Return zeros of the shape of `gradient(x, key)`, after a check of its leaves."""
    shapes = require_noisy_gradient(gradient, x, key)
    _require_gradient_of(x, shapes)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _require_gradient_of(x: PyTree, result: PyTree) -> None:
    """Raise unless the leaves of `result`, or their shapes, are a gradient at x."""
    expected, got = str(jax.tree.structure(x)), str(jax.tree.structure(result))
    if got != expected:
        raise ValueError(f"gradient: expected the structure of x, {expected}, got {got}")
    for (path, leaf), component in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(result), strict=True):
        name = f"x{jax.tree_util.keystr(path)}"
        dtype = getattr(component, "dtype", type(component))
        if dtype is not float and not jnp.issubdtype(dtype, jnp.floating):
            got = f"dtype {dtype}" if hasattr(component, "dtype") else describe(component)
            raise TypeError(f"gradient: expected floating-point numbers for {name}, got {got}")
        if jnp.shape(component) != jnp.shape(leaf):
            raise ValueError(f"gradient: expected shape {jnp.shape(leaf)} for {name}, got {jnp.shape(component)}")


def _forward_mode_refusal(fn: Callable[[Any], Any], x: PyTree) -> str | None:
    """Return the reason why there is no forward mode (a custom VJP, for example), or None."""
    try:
        jax.jit(lambda x: jax.jvp(fn, (x,), (x,))).lower(x)
    except TypeError as error:
        return str(error).splitlines()[0]
    return None
