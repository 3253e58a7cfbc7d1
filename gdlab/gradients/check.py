"""`check_gradient`, which compares a gradient with finite differences over a whole range of steps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from gdlab.arguments import require_callable, require_count, require_number, require_scalar_function
from gdlab.gradients.evidence import (
    Ladder,
    Seen,
    carried_noise,
    find_kinks,
    is_too_small,
    judge_ladder,
    rounding_noise,
)
from gdlab.gradients.finite import Scheme, along, as_scheme, autodiff, by_blocks, require_floating_leaves
from gdlab.gradients.report import KINK, NON_FINITE, TOO_SMALL, UNDECIDED, GradientReport, GradientRow
from gdlab.types import Number

DEFAULT_SCHEMES = ("forward", "central", "central4", "richardson")


def check_gradient(
    fn: Callable[[Any], Any],
    x: PyTree,
    *,
    gradient: Callable[[Any], Any] | None = None,
    schemes: Sequence[str | Scheme] = DEFAULT_SCHEMES,
    step: Number | None = None,
    rtol: float | None = None,
    coordinates: int = 64,
    seed: int = 0,
) -> GradientReport:
    """Compare a gradient of `fn` at `x` with finite differences and report the result.

    Quotients are formed for a whole ladder of steps, and each scheme is judged at its most self-consistent step. A
    component is judged relative to the leaf's largest one, or to eps^(1/3) times the slope of the function over a
    unit step if that is larger, so that a gradient of zero can be checked too. A kink is detected where the forward
    and the backward quotient remain different as h shrinks. What the quotients cannot decide is reported as
    undecided, never as agreement.

    Disagreement is reported and does not raise. For float32 parameters, enable x64
    (`jax.config.update("jax_enable_x64", True)`) to get a far sharper check.

    Args:
      fn: a function of an array or a pytree of floating-point arrays that returns a scalar.
      x: the point at which the gradient is checked.
      gradient: the gradient function to test. The default is reverse-mode autodiff of `fn`, which is then compared
        with the forward mode too. (A function with a custom VJP has no forward mode, which the report states.)
      schemes: names from `SCHEMES`, or `Scheme`s. "complex" suits analytic functions only. Default: forward, central,
        central4 and richardson.
      step: the absolute step that the column `step` judges. None uses each scheme's default.
      rtol: the relative agreement required. The default, None, is 30 eps^(2/3) of the leaf's dtype (1e-9 in float64,
        7e-4 in float32), or 10 eps for narrower dtypes.
      coordinates: the number of directions to check in leaves that have more elements than this: random coordinates,
        and one random direction in which every element counts. At least 2. Default 64.
      seed: the seed that selects them. Default 0.

    Returns:
      A `GradientReport`, which prints as a table.

    Raises:
      TypeError: if `fn` or `gradient` is not callable, or if a leaf of `x` is not floating-point.
      ValueError: if `fn` does not return a scalar, if `x` has no elements, if there are no schemes, or if the
        gradient does not have the structure and the shapes of `x`.
    """
    require_scalar_function("fn", fn, x)
    require_floating_leaves(x)
    require_count("coordinates", coordinates, low=2)
    if gradient is not None:
        require_callable("gradient", gradient)
    for name, value in (("step", step), ("rtol", rtol)):
        if value is not None:
            require_number(name, value, 0.0, open_low=True)
    names = [schemes] if isinstance(schemes, (str, Scheme)) else schemes
    chosen = [as_scheme(scheme) for scheme in names]
    if not chosen:
        raise ValueError("schemes: expected at least one scheme, got none")
    if sum(jnp.size(leaf) for leaf in jax.tree.leaves(x)) == 0:
        raise ValueError("x: expected at least one number to check the gradient at, got none")

    value = float(jax.jit(fn)(x))
    tested = jax.jit(autodiff(fn) if gradient is None else gradient)(x)
    expected, got = str(jax.tree.structure(x)), str(jax.tree.structure(tested))
    if got != expected:
        raise ValueError(f"gradient: expected the structure of x, {expected}, got {got}")
    refusal = _forward_mode_refusal(fn, x) if gradient is None else None

    rows: list[GradientRow] = []
    problems: list[str] = [] if math.isfinite(value) else [f"fn is {value} at x"]
    agreements, asked = [], 0.0
    components = jax.tree.leaves(tested)
    keys = jax.random.split(jax.random.key(seed), len(components))
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(x)):
        name = f"x{jax.tree_util.keystr(path)}"
        if jnp.shape(components[number]) != jnp.shape(leaf):
            raise ValueError(
                f"gradient: expected shape {jnp.shape(leaf)} for {name}, got {jnp.shape(components[number])}"
            )
        if jnp.size(leaf) == 0:
            continue
        both = gradient is None and refusal is None
        seen = _examine(fn, x, number, components[number], chosen, step, coordinates, keys[number], both)
        eps = float(jnp.finfo(jnp.result_type(leaf)).eps)
        tolerance = float(rtol) if rtol is not None else min(30 * eps ** (2 / 3), 10 * eps if eps > 1e-6 else 1.0)
        asked = max(asked, tolerance)
        fine = min(eps, float(jnp.finfo(jnp.float32).eps))  # narrower leaves were widened to float32
        found, faults, agreement = _check_leaf(seen, chosen, tolerance, fine, value)
        if gradient is None:
            row, fault = _compare_modes(seen, refusal, tolerance)
            found.append(row)
            faults += fault
        rows += [row._replace(leaf=name) for row in found]
        agreements.append((*agreement, name))
        problems += [f"{name}: {fault}" for fault in faults]

    side = "autodiff (reverse mode)" if gradient is None else f"{getattr(gradient, '__name__', 'gradient')} (given)"
    against = f"finite differences of {getattr(fn, '__name__', 'fn')}"
    against += ", autodiff (forward mode)" if gradient is None else ""
    return GradientReport(not problems, _verdict(problems, agreements, asked), tuple(rows), side, against, value, asked)


def _verdict(problems: list[str], agreements: list[tuple[float, str, str]], asked: float) -> str:
    if not problems:
        error, scheme, leaf = max(agreements)
        where = f"for {leaf} against {scheme}, the scheme with the least uncertainty"
        return f"PASS: the largest error is {error:.1e}, {where}; the tolerance is {asked:.1e}"
    word = "UNDECIDED" if all(UNDECIDED in problem for problem in problems) else "FAIL"
    hint = f" (the tolerance is {asked:.1e}; enable x64, or raise rtol)" if word == "UNDECIDED" else ""
    return f"{word}: {'; '.join(problems)}{hint}"


def _compare_modes(seen: Seen, refusal: str | None, tolerance: float) -> tuple[GradientRow, list[str]]:
    """Return the row of the forward mode, along the same directions, and a fault if the two modes differ."""
    nan = math.nan
    row = GradientRow("x", "forward mode", seen.exact.size, nan, nan, nan, nan, nan, nan, nan, ())
    if refusal is not None:
        return row._replace(flags=(f"not available: {refusal[:60]}",)), []
    scale = max(np.abs(seen.exact).max(), np.abs(seen.forward).max(), np.finfo(float).tiny)
    error = float(np.abs(seen.exact - seen.forward).max() / scale)
    differ = not (error <= tolerance or math.isnan(error))
    return row._replace(error=error), [f"the two modes of autodiff differ by {error:.1e}"] if differ else []


def _forward_mode_refusal(fn: Callable[[Any], Any], x: PyTree) -> str | None:
    """Return the reason why there is no forward mode (a custom VJP, for example), or None."""
    try:
        jax.jit(lambda x: jax.jvp(fn, (x,), (x,))).lower(x)
    except TypeError as error:
        return str(error).splitlines()[0]
    return None


def _directions(size: int, coordinates: int, key: jax.Array) -> jax.Array:
    """Return the indices of the coordinates to check; a final -1 means one random direction."""
    if size <= coordinates:
        return jnp.arange(size)
    picked = jax.random.choice(key, size, (coordinates - 1,), replace=False)
    return jnp.append(jnp.sort(picked), -1)


def _examine(
    fn: Callable[[Any], Any],
    x: PyTree,
    number: int,
    component: Any,
    schemes: Sequence[Scheme],
    step: Number | None,
    coordinates: int,
    key: jax.Array,
    with_forward: bool,
) -> Seen:
    """Compute all quotients of one leaf in one compiled program, after widening narrower leaves to float32."""
    leaves, structure = jax.tree.flatten(x)
    leaves = [jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32)) for leaf in leaves]
    leaf = leaves[number].ravel()
    relative = 0.5 ** np.arange(1, int(-math.log2(jnp.finfo(leaf.dtype).eps)) - 1)
    everywhere = (jax.random.rademacher(key, leaf.shape, leaf.dtype) / math.sqrt(leaf.size)).astype(leaf.dtype)
    sides = [as_scheme("forward"), as_scheme("backward")]

    def along_one(index: jax.Array) -> Seen:
        unit = jnp.where(index < 0, everywhere, jnp.zeros_like(leaf).at[index].set(1))
        line = along(fn, structure, leaves, number, unit)
        size = jnp.where(index < 0, jnp.abs(leaf).max(), jnp.abs(leaf[index]))
        scale = 2 ** jnp.ceil(jnp.log2(jnp.maximum(1, size)))
        ladder = (jnp.asarray(relative) * scale).astype(leaf.dtype)

        def on_ladder(scheme: Scheme) -> tuple[Any, Any, Any]:
            h = scheme.default_step(size.astype(leaf.dtype)) if step is None else jnp.asarray(step, leaf.dtype)
            rungs = jnp.append(ladder, h)
            estimates = by_blocks(lambda k: scheme.quotient(line, rungs[k]), jnp.arange(rungs.size), 8 * leaf.size)
            return estimates[:-1], estimates[-1], h

        exact = jnp.vdot(unit, jnp.ravel(component).astype(leaf.dtype))
        zero, one = jnp.zeros([], leaf.dtype), jnp.ones([], leaf.dtype)
        forward = jax.jvp(line, (zero,), (one,))[1] if with_forward else exact
        one_sided = jnp.stack([on_ladder(side)[0] for side in sides])
        return Seen(exact, forward, ladder, size, one_sided, [on_ladder(scheme) for scheme in schemes])

    indices = _directions(leaf.size, coordinates, key)
    work = 8 * leaf.size * len(relative)
    seen = jax.jit(lambda i: by_blocks(along_one, i, work))(indices)
    seen = jax.tree.map(lambda a: np.asarray(a, float), seen)
    return seen._replace(one_sided=np.moveaxis(seen.one_sided, 1, 0))


def _check_leaf(
    seen: Seen, schemes: Sequence[Scheme], tolerance: float, eps: float, value: float
) -> tuple[list[GradientRow], list[str], tuple[float, str]]:
    """Return the rows of one leaf, its faults, and its error against the scheme with the least uncertainty."""
    steps = seen.ladder.max(axis=0)
    about_a_unit = np.where(np.isfinite(seen.one_sided[0]), seen.one_sided[0], 0.0)[:, : steps.size // 4]
    floor = eps ** (1 / 3) * np.abs(about_a_unit).max(initial=0.0)
    kinks = find_kinks(seen.one_sided, rounding_noise(seen.one_sided[0], seen, eps, value))
    bad = int(np.sum(~np.isfinite(seen.exact)))

    faults: list[str] = []
    shared: tuple[str, ...] = ()
    if bad:
        faults.append(f"the gradient is not finite in {bad} of {seen.exact.size} directions")
        shared += (f"{NON_FINITE} gradient",)
    if kinks.any():
        faults.append(f"not differentiable in {np.sum(kinks)} of {kinks.size} directions (kink)")
        shared += (f"{KINK} in {np.sum(kinks)} of {kinks.size}",)
    rows, judged = [], []
    for scheme, (estimates, used, used_steps) in zip(schemes, seen.found, strict=True):
        noise = rounding_noise(estimates, seen, eps, value) if scheme.subtractive else carried_noise(estimates, eps)
        rungs = Ladder(scheme, estimates.T, used, noise.max(axis=0))
        row, doubt, error = judge_ladder(rungs, seen.exact, steps, floor)
        flags = shared
        if not np.isfinite(estimates).all():
            nearest = np.min(np.where(np.isfinite(estimates), np.inf, seen.ladder))
            flags += (f"{NON_FINITE} values within {nearest:.1e} of x",)
        scale = max(float(np.abs(seen.exact[np.isfinite(seen.exact)]).max(initial=0.0)), floor)
        bearable = 100 * max(doubt, eps ** (scheme.order / (scheme.order + 1))) * scale
        if scheme.subtractive and is_too_small(used_steps, seen.size, eps, rungs.noise, steps, bearable):
            flags += (TOO_SMALL,)
        rows.append(row._replace(directions=seen.exact.size, step=float(used_steps.max()), flags=flags))
        judged.append((doubt, error, scheme.name))
    doubt, error, name = min(judged, key=lambda item: math.inf if math.isnan(item[0]) else item[0])
    settled = doubt <= tolerance
    if not error <= (tolerance if settled else max(tolerance, 10 * doubt)):
        faults.append(f"differs from {name} by {error:.1e} (+- {doubt:.1e})")
    elif not settled:
        faults.append(f"{UNDECIDED}, because even {name} has an uncertainty of {doubt:.1e}")
    return rows, faults, (error, name)
