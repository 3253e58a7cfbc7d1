"""A report that holds a gradient against finite differences over a whole ladder of steps, and says what it saw.

For each leaf and scheme the quotient D(h) is formed for h = 1/2, 1/4, ... down to the dtype's last digits (times the
size of x). Its step is then chosen by its own consistency, never by the gradient under test: h* is where the largest of
|D(h) - D(h/2)|, |D(2h) - D(h)| and the rounding noise of D(h) is least, and that least value is the quotient's own
uncertainty. So an agreement is no accident of a lucky step, and a disagreement beyond the uncertainty is an error.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from gdlab.arguments import require_callable, require_count, require_number, require_scalar_function
from gdlab.gradients.finite import Scheme, along, as_scheme, autodiff, by_blocks, require_floating_leaves
from gdlab.types import Number

KINK, NON_FINITE, TOO_SMALL = "kink", "non-finite", "step too small"
DEFAULT_SCHEMES = ("forward", "central", "central4", "richardson")


class GradientRow(NamedTuple):
    """One leaf under one scheme. Errors and the uncertainty are relative to the leaf's largest gradient component.

    leaf, scheme: names. directions: how many coordinates (and random directions) were checked.
    step: the step that `finite_difference` would use, or the one given (the largest over the leaf).
    error: the disagreement at that step.
    best_step, best_error, uncertainty: the most self-consistent step, the disagreement there, the quotient's own doubt.
    order: the observed order of the truncation error; NaN where rounding hides it (or the quotient is exact).
    expected_order: the scheme's.
    flags: among "kink", "non-finite" and "step too small", with details.
    """

    leaf: str
    scheme: str
    directions: int
    step: float
    error: float
    best_step: float
    best_error: float
    uncertainty: float
    order: float
    expected_order: float
    flags: tuple[str, ...]


class GradientReport(NamedTuple):
    """What `check_gradient` saw; `print` it for a table.

    ok: the gradient is finite, agrees everywhere with the most certain scheme, and the function has no kink at x.
    verdict: the same in words. rows: one for each leaf and scheme. checked, against: the two sides.
    value: the function's value at x. rtol: the agreement that was asked for.
    """

    ok: bool
    verdict: str
    rows: tuple[GradientRow, ...]
    checked: str
    against: str
    value: float
    rtol: float

    def __str__(self) -> str:
        head = ("leaf", "against", "step", "error", "best step", "error there", "+-", "order", "flags")
        body = [
            (
                row.leaf,
                row.scheme,
                _figure(row.step),
                _figure(row.error),
                _figure(row.best_step),
                _figure(row.best_error),
                _figure(row.uncertainty),
                _order(row),
                "; ".join(row.flags),
            )
            for row in self.rows
        ]
        widths = [max(len(line[k]) for line in (head, *body)) for k in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *body)
        ]
        title = f"checked: {self.checked}\nagainst: {self.against}"
        note = (
            "errors are relative to the leaf's largest component; order: observed / expected (unseen: below rounding)"
        )
        return "\n".join([title, *(line.rstrip() for line in lines), note, f"verdict: {self.verdict}"])


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else "0" if value == 0 else f"{value:.1e}"


def _order(row: GradientRow) -> str:
    if math.isnan(row.expected_order):
        return "-"
    return f"{'unseen' if math.isnan(row.order) else f'{row.order:.2f}'} / {row.expected_order:g}"


class _Ladder(NamedTuple):
    """D(h) of one scheme for all steps and directions of one leaf, and the rounding noise in it."""

    scheme: Scheme
    estimates: np.ndarray  # (steps, directions)
    used: np.ndarray  # (directions,): at the step that would be used
    noise: np.ndarray  # (steps,)


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
    rtol: relative agreement asked for; None: 30 eps^(2/3) of the leaf's dtype (1e-9 in float64, 7e-4 in float32).
    coordinates: leaves with more elements are checked on so many: random coordinates, and one random direction in
        which every element counts. seed: picks them.

    A component is judged relative to the leaf's largest, or to sqrt(eps) times the function's slope over a unit step
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
    chosen = [as_scheme(scheme) for scheme in schemes]
    if not chosen:
        raise ValueError("schemes: wanted at least one scheme, got none")

    value = float(jax.jit(fn)(x))
    tested = jax.jit(autodiff(fn) if gradient is None else gradient)(x)
    wanted, got = str(jax.tree.structure(x)), str(jax.tree.structure(tested))
    if got != wanted:
        raise ValueError(f"gradient: wanted the structure of x, {wanted}, got {got}")
    forward = _forward_mode(fn, x) if gradient is None else None

    rows: list[GradientRow] = []
    problems: list[str] = [] if math.isfinite(value) else [f"fn is {value} at x"]
    tolerances, agreements = [], []
    keys = jax.random.split(jax.random.key(seed), max(len(jax.tree.leaves(x)), 1))
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(x)):
        name = f"x{jax.tree_util.keystr(path)}"
        component = jax.tree.leaves(tested)[number]
        if jnp.shape(component) != jnp.shape(leaf):
            raise ValueError(f"gradient: wanted shape {jnp.shape(leaf)} for {name}, got {jnp.shape(component)}")
        eps = float(jnp.finfo(jnp.result_type(leaf)).eps)
        tolerance = 30 * eps ** (2 / 3) if rtol is None else float(rtol)
        tolerances.append(tolerance)
        if jnp.size(leaf) == 0:
            continue
        found, faults, agreement = _check_leaf(
            fn, x, number, component, chosen, step, tolerance, value, coordinates, keys[number]
        )
        rows += [row._replace(leaf=name) for row in found]
        agreements.append((*agreement, name))
        problems += [f"{name}: {fault}" for fault in faults]
        if forward is not None:
            row, fault = _compare_modes(name, component, forward, number, tolerance)
            rows.append(row)
            problems += fault

    asked = max(tolerances, default=0.0)
    verdict = f"FAIL: {'; '.join(problems)}" if problems else _praise(agreements, asked)
    side = "autodiff (reverse mode)" if gradient is None else f"{getattr(gradient, '__name__', 'gradient')} (given)"
    against = f"finite differences of {getattr(fn, '__name__', 'fn')}" + (
        "" if forward is None else ", autodiff (forward mode)"
    )
    return GradientReport(not problems, verdict, tuple(rows), side, against, value, asked)


def _praise(agreements: list[tuple[float, str, str]], asked: float) -> str:
    error, scheme, leaf = max(agreements, default=(0.0, "nothing", "x"))
    where = f"of {leaf} against {scheme}, its most certain scheme"
    return f"PASS: the largest error is {error:.1e}, {where}; asked for {asked:.1e}"


def _forward_mode(fn: Callable[[Any], Any], x: PyTree) -> PyTree | str:
    """The gradient in forward mode, or why there is none."""
    try:
        return jax.jit(autodiff(fn, "forward"))(x)
    except TypeError as error:  # a custom VJP, for example
        return str(error).splitlines()[0]


def _compare_modes(
    name: str, component: Any, forward: PyTree | str, number: int, tolerance: float
) -> tuple[GradientRow, list[str]]:
    nan = math.nan
    row = GradientRow(name, "forward mode", int(jnp.size(component)), nan, nan, nan, nan, nan, nan, nan, ())
    if isinstance(forward, str):
        return row._replace(flags=(f"not available: {forward[:60]}",)), []
    one, other = np.asarray(component, float), np.asarray(jax.tree.leaves(forward)[number], float)
    error = float(np.abs(one - other).max() / max(np.abs(one).max(), np.abs(other).max(), np.finfo(float).tiny))
    fault = (
        [] if error <= tolerance or math.isnan(error) else [f"{name}: the two modes of autodiff differ by {error:.1e}"]
    )
    return row._replace(error=error), fault


def _directions(size: int, coordinates: int, key: jax.Array) -> tuple[jax.Array, bool]:
    """Indices of the coordinates to check, and whether a random direction (index -1) stands at their end."""
    if size <= coordinates:
        return jnp.arange(size), False
    picked = jax.random.choice(key, size, (coordinates - 1,), replace=False)
    return jnp.append(jnp.sort(picked), -1), True


def _check_leaf(
    fn: Callable[[Any], Any],
    x: PyTree,
    number: int,
    component: Any,
    schemes: Sequence[Scheme],
    step: Number | None,
    tolerance: float,
    value: float,
    coordinates: int,
    key: jax.Array,
) -> tuple[list[GradientRow], list[str], tuple[float, str]]:
    leaves, structure = jax.tree.flatten(x)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    leaf = leaves[number].ravel()
    eps = float(jnp.finfo(leaf.dtype).eps)
    indices, _ = _directions(leaf.size, coordinates, key)
    halvings = int(-math.log2(eps)) - 2
    relative = 0.5 ** np.arange(1, halvings + 1)
    everywhere = (jax.random.rademacher(key, leaf.shape, leaf.dtype) / math.sqrt(leaf.size)).astype(leaf.dtype)
    sides = [as_scheme("forward"), as_scheme("backward")]

    def examine(index: jax.Array) -> Any:
        unit = jnp.where(index < 0, everywhere, jnp.zeros_like(leaf).at[index].set(1))
        line = along(fn, structure, leaves, number, unit)
        size = jnp.where(index < 0, jnp.abs(leaf).max(), jnp.abs(leaf[index]))
        scale = 2 ** jnp.ceil(jnp.log2(jnp.maximum(1, size)))
        ladder = (jnp.asarray(relative) * scale).astype(leaf.dtype)

        def all_steps(scheme: Scheme) -> Any:
            h = scheme.default_step(size.astype(leaf.dtype)) if step is None else jnp.asarray(step, leaf.dtype)
            estimates = jax.vmap(lambda h: scheme.quotient(line, h))(jnp.append(ladder, h))
            return estimates[:-1], estimates[-1], h

        exact = jnp.vdot(unit, jnp.ravel(component).astype(leaf.dtype))
        return exact, ladder, size, [all_steps(scheme) for scheme in schemes], [all_steps(side)[0] for side in sides]

    exact, ladder, size, found, one_sided = jax.tree.map(
        lambda a: np.asarray(a, float), jax.jit(lambda i: by_blocks(examine, i))(indices)
    )
    steps = ladder.max(axis=0)
    sided = np.stack(one_sided)  # (2, directions, steps)
    about_a_unit = np.where(np.isfinite(sided[0]), sided[0], 0.0)[:, : halvings // 4]
    floor = math.sqrt(eps) * np.abs(about_a_unit).max(initial=0.0)
    kinks = _kinks(sided, _noise(sided[0], sided, ladder, eps, value))

    faults: list[str] = []
    if not np.isfinite(exact).all():
        faults.append(f"the gradient is not finite in {np.sum(~np.isfinite(exact))} of {exact.size}")
    if kinks.any():
        faults.append(f"not differentiable in {np.sum(kinks)} of {kinks.size} directions (kink)")
    rows, judged = [], []
    for scheme, (estimates, used, used_steps) in zip(schemes, found, strict=True):
        noise = _noise(estimates, sided, ladder, eps, value) if scheme.subtractive else _carried(estimates, eps)
        rungs = _Ladder(scheme, estimates.T, used, noise.max(axis=0))
        row, doubt, error = _judge(rungs, exact, steps, floor)
        flags = []
        if kinks.any():
            flags.append(f"{KINK} in {np.sum(kinks)} of {kinks.size}")
        if not np.isfinite(exact).all():
            flags.append(f"{NON_FINITE} gradient")
        if not np.isfinite(estimates).all():
            flags.append(
                f"{NON_FINITE} values within {np.min(np.where(np.isfinite(estimates), np.inf, ladder)):.1e} of x"
            )
        h = float(used_steps.max())
        scale = max(float(np.nanmax(np.abs(exact), initial=0.0)), floor)
        bearable = 100 * max(doubt, eps ** (scheme.order / (scheme.order + 1))) * scale
        if scheme.subtractive and _too_small(used_steps, size, eps, rungs.noise, steps, bearable):
            flags.append(TOO_SMALL)
        rows.append(row._replace(directions=exact.size, step=h, flags=tuple(flags)))
        judged.append((doubt, error, scheme.name))
    doubt, error, name = min(judged, key=lambda item: math.inf if math.isnan(item[0]) else item[0])
    if math.isnan(doubt) or doubt > 1e-2:
        faults.append(f"no scheme settles (the most certain, {name}, is unsure by {doubt:.1e})")
    elif not error <= max(tolerance, 10 * doubt):
        faults.append(f"differs from {name} by {error:.1e} (+- {doubt:.1e})")
    return rows, faults, (error, name)


def _noise(estimates: np.ndarray, one_sided: np.ndarray, ladder: np.ndarray, eps: float, value: float) -> np.ndarray:
    """Rounding in D(h), of the shape of estimates: eps |f| / h on the stencil, or what the smallest steps show.

    estimates, ladder: (directions, steps). one_sided: (2, directions, steps).
    """
    slope = np.max(np.abs(np.where(np.isfinite(one_sided), one_sided, 0.0)), axis=(0, 1))
    changes = np.abs(np.diff(estimates, axis=1)) * ladder[:, 1:]
    smallest = changes[:, -max(changes.shape[1] // 4, 3) :]
    seen = np.max(np.where(np.isfinite(smallest), smallest, 0.0), initial=0.0)
    known = eps * abs(value) if math.isfinite(value) else 0.0
    return max(seen, known) / ladder + 4 * eps * slope


def _carried(estimates: np.ndarray, eps: float) -> np.ndarray:
    """Rounding in D(h) of a scheme that subtracts nothing, of the shape of estimates: eps times its size."""
    sizes = np.max(np.abs(np.where(np.isfinite(estimates), estimates, 0.0)), axis=0)
    return np.broadcast_to(4 * eps * sizes, estimates.shape)


def _judge(rungs: _Ladder, exact: np.ndarray, steps: np.ndarray, floor: float) -> tuple[GradientRow, float, float]:
    """The row of one scheme, its relative uncertainty and its relative error at the most self-consistent step."""
    changes = np.abs(np.diff(rungs.estimates, axis=0)).max(axis=1)  # (steps - 1,)
    changes = np.where(np.isfinite(changes), changes, np.inf)
    doubts = np.maximum(np.maximum(changes[:-1], changes[1:]), rungs.noise[1:-1])
    best = int(np.argmin(doubts)) + 1
    settled = rungs.estimates[best]
    scale = max(float(np.abs(settled).max()), float(np.abs(exact).max()), floor)
    scale = scale if scale > 0 and math.isfinite(scale) else 1.0
    error = float(np.abs(settled - exact).max()) / scale
    doubt = float(doubts[best - 1]) / scale
    row = GradientRow(
        leaf="x",
        scheme=rungs.scheme.name,
        directions=exact.size,
        step=math.nan,
        error=float(np.abs(rungs.used - exact).max()) / scale,
        best_step=float(steps[best]),
        best_error=error,
        uncertainty=doubt,
        order=_observed_order(changes, rungs.noise),
        expected_order=rungs.scheme.order,
        flags=(),
    )
    return row, doubt, error


def _observed_order(changes: np.ndarray, noise: np.ndarray) -> float:
    """log2 of the ratio of successive changes |D(2h) - D(h)| / |D(h) - D(h/2)|, at the smallest steps clear of noise.

    The last two such ratios are extrapolated: what they miss of the order falls with h^2. NaN where none is clear.
    """
    clear = np.append(np.isfinite(changes) & (changes > 50 * noise[1:]), False)
    start = int(np.argmax(clear))
    usable = changes[start : start + int(np.argmin(clear[start:]))]
    if usable.size < 2:
        return math.nan
    orders = np.log2(usable[:-1] / usable[1:])
    return float(orders[-1] + (orders[-1] - orders[-2]) / 3 if orders.size > 1 else orders[-1])


def _kinks(sided: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which directions have a kink at x: |forward - backward| does not fall as h shrinks by 16, down to the noise.

    For a smooth function it falls with h f''.
    """
    gap = np.abs(sided[0] - sided[1])
    kinks = np.zeros(gap.shape[0], bool)
    for direction, gaps in enumerate(gap):
        visible = np.flatnonzero(np.isfinite(gaps) & (gaps > 40 * noise[direction]))
        if visible.size == 0 or visible[-1] < 4:
            continue
        smallest = int(visible[-1])
        wider = gaps[smallest - 4]
        kinks[direction] = bool(np.isfinite(wider) and gaps[smallest] > 0.4 * wider)
    return kinks


def _too_small(
    used: np.ndarray, size: np.ndarray, eps: float, noise: np.ndarray, steps: np.ndarray, bearable: float
) -> bool:
    """Whether x + h is x or moves by something else than h, or whether rounding in the quotient at h is unbearable.

    Bearable is 100 times what the scheme can reach, at its best step here or in theory, eps^(p / (p + 1)).
    """
    moved = np.abs(used) >= 50 * eps * np.maximum(size, eps)
    rounding = (
        noise[-1] * steps[-1] / float(used.min())
    )  # at the ladder's foot all noise is of the kind that grows as 1 / h
    return not bool(moved.all()) or bool(rounding > bearable)
