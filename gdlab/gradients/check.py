"""`check_gradient`: a gradient against finite differences over a whole ladder of steps."""

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
    """Hold a gradient of `fn` at `x` against finite differences and report what is seen; it raises for nothing it sees.

    fn: takes an array or a pytree of floating-point arrays, returns a scalar. x: where.
    gradient: the gradient function under test; by default reverse-mode autodiff of `fn`, and then the forward mode is
        held against it too (a function with a custom VJP has none, which the report says).
    schemes: names from `SCHEMES`, or `Scheme`s. "complex" suits analytic functions only.
    step: the absolute step that the column `step` judges; None: each scheme's default.
    rtol: relative agreement asked for; None: 30 eps^(2/3) of the leaf's dtype (1e-9 in float64, 7e-4 in float32), or
        10 eps of a narrower one. What the quotients cannot tell is reported as undecided, never as agreement.
    coordinates: leaves with more elements are checked on so many: random coordinates, and one random direction in
        which every element counts. seed: picks them.

    A component is judged relative to the leaf's largest, or to eps^(1/3) times the function's slope over a unit step
    where that is more, so that a gradient of zero can be checked too. Kinks are seen where the forward and the backward
    quotient stay apart as h shrinks. In float32 enable x64 (`jax.config.update("jax_enable_x64", True)`) for a far
    sharper check.
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
        raise ValueError("schemes: wanted at least one scheme, got none")
    if sum(jnp.size(leaf) for leaf in jax.tree.leaves(x)) == 0:
        raise ValueError("x: wanted at least one number to check the gradient at, got none")

    value = float(jax.jit(fn)(x))
    tested = jax.jit(autodiff(fn) if gradient is None else gradient)(x)
    wanted, got = str(jax.tree.structure(x)), str(jax.tree.structure(tested))
    if got != wanted:
        raise ValueError(f"gradient: wanted the structure of x, {wanted}, got {got}")
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
                f"gradient: wanted shape {jnp.shape(leaf)} for {name}, got {jnp.shape(components[number])}"
            )
        if jnp.size(leaf) == 0:
            continue
        both = gradient is None and refusal is None
        seen = _examine(fn, x, number, components[number], chosen, step, coordinates, keys[number], both)
        eps = float(jnp.finfo(jnp.result_type(leaf)).eps)
        tolerance = float(rtol) if rtol is not None else min(30 * eps ** (2 / 3), 10 * eps if eps > 1e-6 else 1.0)
        asked = max(asked, tolerance)
        fine = min(eps, float(jnp.finfo(jnp.float32).eps))  # narrower leaves are widened to float32
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
        where = f"of {leaf} against {scheme}, its most certain scheme"
        return f"PASS: the largest error is {error:.1e}, {where}; asked for {asked:.1e}"
    word = "UNDECIDED" if all(UNDECIDED in problem for problem in problems) else "FAIL"
    hint = f" (asked for {asked:.1e}; enable x64, or ask for less with rtol)" if word == "UNDECIDED" else ""
    return f"{word}: {'; '.join(problems)}{hint}"


def _compare_modes(seen: Seen, refusal: str | None, tolerance: float) -> tuple[GradientRow, list[str]]:
    """The row of the forward mode, along the same directions, and its fault if the two modes differ."""
    nan = math.nan
    row = GradientRow("x", "forward mode", seen.exact.size, nan, nan, nan, nan, nan, nan, nan, ())
    if refusal is not None:
        return row._replace(flags=(f"not available: {refusal[:60]}",)), []
    scale = max(np.abs(seen.exact).max(), np.abs(seen.forward).max(), np.finfo(float).tiny)
    error = float(np.abs(seen.exact - seen.forward).max() / scale)
    differ = not (error <= tolerance or math.isnan(error))
    return row._replace(error=error), [f"the two modes of autodiff differ by {error:.1e}"] if differ else []


def _forward_mode_refusal(fn: Callable[[Any], Any], x: PyTree) -> str | None:
    """Why there is no forward mode (a custom VJP, for example), or None."""
    try:
        jax.jit(lambda x: jax.jvp(fn, (x,), (x,))).lower(x)
    except TypeError as error:
        return str(error).splitlines()[0]
    return None


def _directions(size: int, coordinates: int, key: jax.Array) -> jax.Array:
    """Indices of the coordinates to check; -1, at the end of a selection, stands for a random direction."""
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
    """All quotients of one leaf, in one compiled program; leaves narrower than float32 are widened to it first."""
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
    """Rows, faults, and the error against the most certain scheme, of one leaf."""
    steps = seen.ladder.max(axis=0)
    about_a_unit = np.where(np.isfinite(seen.one_sided[0]), seen.one_sided[0], 0.0)[:, : steps.size // 4]
    floor = eps ** (1 / 3) * np.abs(about_a_unit).max(initial=0.0)
    kinks = find_kinks(seen.one_sided, rounding_noise(seen.one_sided[0], seen, eps, value))
    bad = int(np.sum(~np.isfinite(seen.exact)))

    faults: list[str] = []
    shared: tuple[str, ...] = ()
    if bad:
        faults.append(f"the gradient is not finite in {bad} of {seen.exact.size}")
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
        faults.append(f"{UNDECIDED}, even {name} is sure only to {doubt:.1e}")
    return rows, faults, (error, name)
