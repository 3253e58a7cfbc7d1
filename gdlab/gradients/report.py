"""A report that holds a gradient against finite differences over a whole ladder of steps, and says what it saw.

For each leaf and scheme the quotient D(h) is formed for h = 1/2, 1/4, ... down to the dtype's last digits (times the
size of x). Its step is then chosen by its own consistency, never by the gradient under test: the doubt of D(h) is the
largest of its rounding noise, of |D(h) - D(h/2)|, and of what it differs from any finer quotient beyond that one's own
noise; h* is where the doubt is least. A coarse step at which a ripple happens to cancel is unmasked by the finer ones.
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

KINK, NON_FINITE, TOO_SMALL, UNDECIDED = "kink", "non-finite", "step too small", "undecided"
DEFAULT_SCHEMES = ("forward", "central", "central4", "richardson")


class GradientRow(NamedTuple):
    """One leaf under one scheme. Errors and the uncertainty are relative to the leaf's largest gradient component.

    leaf, scheme: names. directions: how many coordinates (and random directions) were checked.
    step: the step that `finite_difference` would use, or the one given (the largest over the leaf).
    error: the disagreement at that step.
    best_step, best_error, uncertainty: the most self-consistent step, the disagreement there, the quotient's own doubt.
    order: the observed order of the truncation error; NaN where none can be told.
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

    ok: the gradient is finite, agrees everywhere with the most certain scheme within rtol, which that scheme is able to
    tell, and the function has no kink at x. verdict: the same in words, PASS, FAIL or UNDECIDED.
    rows: one for each leaf and scheme. checked, against: the two sides. value: the function's value at x.
    rtol: the agreement that was asked for.
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
        note = "errors are relative to the leaf's largest component; order: observed / expected"
        return "\n".join([title, *(line.rstrip() for line in lines), note, f"verdict: {self.verdict}"])


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else "0" if value == 0 else f"{value:.1e}"


def _order(row: GradientRow) -> str:
    if math.isnan(row.expected_order):
        return "-"
    return f"{'unclear' if math.isnan(row.order) else f'{row.order:.2f}'} / {row.expected_order:g}"


class _Seen(NamedTuple):
    """What was evaluated for one leaf; all arrays lead with the directions, but one_sided with its two sides."""

    exact: Any  # (directions,): the gradient under test along each direction
    forward: Any  # (directions,): the same by forward mode
    ladder: Any  # (directions, steps)
    size: Any  # (directions,): |x| there
    one_sided: Any  # (2, directions, steps): forward and backward quotients
    found: list[Any]  # for each scheme: quotients (directions, steps), those at the step used, and that step


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


def _compare_modes(seen: _Seen, refusal: str | None, tolerance: float) -> tuple[GradientRow, list[str]]:
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
) -> _Seen:
    """All quotients of one leaf, in one compiled program; leaves narrower than float32 are widened to it first."""
    leaves, structure = jax.tree.flatten(x)
    leaves = [jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32)) for leaf in leaves]
    leaf = leaves[number].ravel()
    relative = 0.5 ** np.arange(1, int(-math.log2(jnp.finfo(leaf.dtype).eps)) - 1)
    everywhere = (jax.random.rademacher(key, leaf.shape, leaf.dtype) / math.sqrt(leaf.size)).astype(leaf.dtype)
    sides = [as_scheme("forward"), as_scheme("backward")]

    def along_one(index: jax.Array) -> _Seen:
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
        return _Seen(exact, forward, ladder, size, one_sided, [on_ladder(scheme) for scheme in schemes])

    indices = _directions(leaf.size, coordinates, key)
    work = 8 * leaf.size * len(relative)
    seen = jax.jit(lambda i: by_blocks(along_one, i, work))(indices)
    seen = jax.tree.map(lambda a: np.asarray(a, float), seen)
    return seen._replace(one_sided=np.moveaxis(seen.one_sided, 1, 0))


def _check_leaf(
    seen: _Seen, schemes: Sequence[Scheme], tolerance: float, eps: float, value: float
) -> tuple[list[GradientRow], list[str], tuple[float, str]]:
    """Rows, faults, and the error against the most certain scheme, of one leaf."""
    steps = seen.ladder.max(axis=0)
    about_a_unit = np.where(np.isfinite(seen.one_sided[0]), seen.one_sided[0], 0.0)[:, : steps.size // 4]
    floor = eps ** (1 / 3) * np.abs(about_a_unit).max(initial=0.0)
    kinks = _kinks(seen.one_sided, _noise(seen.one_sided[0], seen, eps, value))
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
        noise = _noise(estimates, seen, eps, value) if scheme.subtractive else _carried(estimates, eps)
        rungs = _Ladder(scheme, estimates.T, used, noise.max(axis=0))
        row, doubt, error = _judge(rungs, seen.exact, steps, floor)
        flags = shared
        if not np.isfinite(estimates).all():
            nearest = np.min(np.where(np.isfinite(estimates), np.inf, seen.ladder))
            flags += (f"{NON_FINITE} values within {nearest:.1e} of x",)
        scale = max(float(np.abs(seen.exact[np.isfinite(seen.exact)]).max(initial=0.0)), floor)
        bearable = 100 * max(doubt, eps ** (scheme.order / (scheme.order + 1))) * scale
        if scheme.subtractive and _too_small(used_steps, seen.size, eps, rungs.noise, steps, bearable):
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


def _noise(estimates: np.ndarray, seen: _Seen, eps: float, value: float) -> np.ndarray:
    """Rounding in D(h), of shape (directions, steps): eps |f| / h on the stencil, or what the smallest steps show."""
    slope = np.max(np.abs(np.where(np.isfinite(seen.one_sided), seen.one_sided, 0.0)), axis=(0, 1))
    changes = np.abs(np.diff(estimates, axis=1)) * seen.ladder[:, 1:]
    smallest = changes[:, -max(changes.shape[1] // 4, 3) :]
    shown = np.max(np.where(np.isfinite(smallest), smallest, 0.0), initial=0.0)
    known = eps * abs(value) if math.isfinite(value) else 0.0
    return max(shown, known) / seen.ladder + 4 * eps * slope


def _carried(estimates: np.ndarray, eps: float) -> np.ndarray:
    """Rounding in D(h) of a scheme that subtracts nothing, of the shape of estimates: eps times its size."""
    sizes = np.max(np.abs(np.where(np.isfinite(estimates), estimates, 0.0)), axis=0)
    return np.broadcast_to(4 * eps * sizes, estimates.shape)


def _judge(rungs: _Ladder, exact: np.ndarray, steps: np.ndarray, floor: float) -> tuple[GradientRow, float, float]:
    """The row of one scheme, its relative uncertainty and its relative error at the most self-consistent step."""
    changes = np.abs(np.diff(rungs.estimates, axis=0)).max(axis=1)  # (steps - 1,)
    changes = np.where(np.isfinite(changes), changes, np.inf)
    doubts = np.maximum(changes, rungs.noise[:-1])
    for finer in range(2, len(steps)):
        difference = np.abs(rungs.estimates[: finer - 1] - rungs.estimates[finer]).max(axis=1)
        beyond = np.where(np.isfinite(difference), difference - 5 * rungs.noise[finer], 0.0)
        doubts[: finer - 1] = np.maximum(doubts[: finer - 1], beyond)
    best = int(np.argmin(doubts))
    settled = rungs.estimates[best]
    scale = max(float(np.abs(settled).max()), float(np.abs(exact).max()), floor)
    scale = scale if scale > 0 and math.isfinite(scale) else 1.0
    error = float(np.abs(settled - exact).max()) / scale
    doubt = float(doubts[best]) / scale
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

    The last two such ratios are extrapolated: what they miss of the order falls with h^2. NaN where there are no two,
    or where they differ by over 0.2: the steps clear of noise are then too coarse for the leading term to lead.
    """
    clear = np.append(np.isfinite(changes) & (changes > 50 * noise[1:]), False)
    start = int(np.argmax(clear))
    usable = changes[start : start + int(np.argmin(clear[start:]))]
    if usable.size < 3:
        return math.nan
    before, last = np.log2(usable[-3:-1] / usable[-2:])
    return float(last + (last - before) / 3) if abs(last - before) < 0.2 else math.nan


def _kinks(sided: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which directions have a kink at x: |forward - backward| does not fall as h shrinks, down to the noise.

    For a smooth function it falls with h f'': by 4 over the last two halvings that are clear of noise, by 16 over four.
    The next coarser steps must show the gap too, so that one unusually large rounding error is not taken for a kink.
    """
    gap = np.abs(sided[0] - sided[1])
    kinks = np.zeros(gap.shape[0], bool)
    for direction, gaps in enumerate(gap):
        visible = np.flatnonzero(np.isfinite(gaps) & (gaps > 40 * noise[direction]))
        if visible.size == 0 or visible[-1] < 4:
            continue
        narrow, double, fourfold, _, sixteenfold = gaps[visible[-1] - 4 : visible[-1] + 1][::-1]
        stays = narrow > 0.5 * fourfold and narrow > 0.4 * sixteenfold
        kinks[direction] = bool(stays and min(double, fourfold) > 0.4 * narrow)
    return kinks


def _too_small(
    used: np.ndarray, size: np.ndarray, eps: float, noise: np.ndarray, steps: np.ndarray, bearable: float
) -> bool:
    """Whether x + h is x or moves by something else than h, or whether rounding in the quotient at h is unbearable.

    Bearable is 100 times what the scheme can reach, at its best step here or in theory, eps^(p / (p + 1)).
    """
    if not (np.abs(used) >= 50 * eps * np.maximum(size, eps)).all():
        return True
    rounding = noise[-1] * steps[-1] / float(used.min())  # at the ladder's foot all noise grows as 1 / h
    return bool(rounding > bearable)
