"""What is asked of every optimizer, as a check that a factory of one's own can be put through too."""

import dataclasses
import functools
import inspect
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import require_callable, require_choice, require_count
from gdlab.optimizers.evaluation import evaluation_params
from gdlab.types import Factory

FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""A default d is varied as these times d; from 1 on as d over these; 0 as 0.1 times these."""
TIGHT, LOOSE = 1e-12, 1e-6
"""Between runs that should be the same, in float64 and float32, relative to the largest coordinate."""
# A check's time goes into compiling; its programs run for milliseconds.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Check(NamedTuple):
    """One demand: its name, whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str


class ContractReport(NamedTuple):
    """What `check_contract` found. Prints as a table; `ok` if every check passed.

    numbers: the hyperparameters that were traced and varied. static: the arguments that were not.
    """

    factory: str
    checks: tuple[Check, ...]
    numbers: tuple[str, ...]
    static: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        lines = [f"{self.factory}: {'keeps' if self.ok else 'BREAKS'} the contract"]
        lines.append(f"  traced: {', '.join(self.numbers) or 'nothing'}; static: {', '.join(self.static) or 'nothing'}")
        width = max(len(check.name) for check in self.checks)
        lines += [f"  {'pass' if c.passed else 'FAIL'}  {c.name.ljust(width)}  {c.detail}" for c in self.checks]
        return "\n".join(lines)


@dataclasses.dataclass
class _Case:
    """A factory and the numbers it is varied in; `numbers` maps a name (or "betas[0]") to its default."""

    factory: Factory
    fixed: dict[str, Any]
    numbers: dict[str, float]
    lengths: dict[str, int]
    steps: int

    @functools.cached_property
    def alone(self) -> "_Counted":
        """One run in float64 from traced numbers: what the others are compared with."""
        return _Counted(lambda values: _run(self.build(list(values)), _params("float64"), self.steps))

    @property
    def defaults(self) -> Array:
        return jnp.asarray(list(self.numbers.values()))

    def build(self, values: Sequence[Any]) -> optax.GradientTransformation:
        named = dict(zip(self.numbers, values, strict=True))
        arguments = dict(self.fixed)
        for name, length in self.lengths.items():
            arguments[name] = tuple(named.pop(f"{name}[{k}]") for k in range(length))
        return optax.with_extra_args_support(self.factory(**arguments, **named))


def check_contract(
    factory: Factory, arguments: Mapping[str, Any] | None = None, *, steps: int = 20, skip: Sequence[str] = ()
) -> ContractReport:
    """Whether an optimizer is pure, traceable, stable in dtypes and finite; on a small tree of odd leaves.

    factory: `factory(**numbers)` returns an optax transformation whose `update(gradients, state, params)` needs nothing
        more. Each argument whose default is a number, or a tuple of numbers, is traced and varied, unless it is
        annotated int, bool or str, which declares it static.
    arguments: values for arguments without a default, and for those to be varied around another value than their
        default (None, say). A number here is varied; anything else is passed on as it is.
    steps: of each run, at least 4.
    skip: names of checks to leave out, as the report prints them; "order of leaves" for one that draws noise per leaf.

    What is checked: `update` gives the same twice, leaves its inputs alone and remembers nothing outside of its state;
    one compilation serves all steps; each hyperparameter at 5 values in one vmapped program equals 5 solo runs, to
    1e-12 in float64 and 1e-6 in float32, each with one compilation, and one of them at least changes something; Python
    numbers give what traced ones give; so do schedules that fall what an optimizer rebuilt at every step gives, where
    the factory takes schedules (`gdlab.optimizers.transformation`); derivatives by parameters and hyperparameters
    through all steps are finite; structure and dtypes of the state stay, for bfloat16, float32 and float64 parameters,
    with Python and with traced float32 hyperparameters; lists, tuples, None and bare arrays serve as parameters; the
    state goes through a file, and an optimizer built anew goes on the same from it; the order of leaves does not
    matter; zero gradients at zero parameters give no NaN, nor do their derivatives. Whether it descends is not asked.

    A failed check is a line of the report, and so is an exception in one. It takes a few seconds, for compilations; its
    64-bit parts switch x64 on for themselves. Raises TypeError for a factory that is none, or an argument without a
    value.
    """
    require_callable("factory", factory)
    require_count("steps", steps, low=4)
    case, static = _case(factory, dict(arguments or {}), steps)
    probes: tuple[tuple[str, Callable[[_Case], str]], ...] = (
        ("vmap = solo, float64", _vmapped_equals_solo),
        ("vmap = solo, float32", _vmapped_equals_solo_in_float32),
        ("pure, one compilation, restorable", _step_by_step),
        ("schedules of all numbers", _schedules),
        ("derivatives are finite", _derivatives),
        ("dtypes stay", _dtypes),
        ("bfloat16 stays finite", _bfloat16),
        ("any tree of parameters", _trees),
        ("order of leaves", _order),
        ("zeros give no NaN", _zeros),
    )
    for name in skip:
        require_choice("skip", name, tuple(name for name, _ in probes))
    checks = []
    for name, probe in probes:
        if name in skip or (name.startswith("schedules") and not getattr(factory, "takes_schedules", False)):
            continue
        try:
            with jax.enable_x64(True):
                checks.append(Check(name, True, probe(case)))
        except _BrokenError as broken:
            checks.append(Check(name, False, str(broken)))
        except jax.errors.ConcretizationTypeError:
            names = ", ".join(_untraceable(case)) or "a number"
            checks.append(Check(name, False, f"{names}: cannot be traced; annotate it int or bool if it is static"))
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            checks.append(Check(name, False, f"{type(error).__name__}: {first[:200]}"))
    return ContractReport(getattr(factory, "__name__", "factory"), tuple(checks), tuple(case.numbers), static)


class _BrokenError(Exception):
    """The contract is broken; the message says how."""


def _case(factory: Factory, arguments: dict[str, Any], steps: int) -> tuple[_Case, tuple[str, ...]]:
    fixed: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    lengths: dict[str, int] = {}
    static = []
    parameters = inspect.signature(factory).parameters
    for name in arguments:
        if name not in parameters:
            raise TypeError(f"arguments: wanted names of the factory's arguments, got {name!r}")
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = arguments.get(name, parameter.default)
        if value is parameter.empty:
            raise TypeError(f"arguments: wanted a value for {name}, which has no default; got none")
        declared = parameter.annotation in (int, bool, str, "int", "bool", "str")
        if not declared and _is_number(value):
            numbers[name] = float(value)
        elif not declared and isinstance(value, (list, tuple)) and value and all(_is_number(v) for v in value):
            lengths[name] = len(value)
            numbers |= {f"{name}[{k}]": float(v) for k, v in enumerate(value)}
        else:
            static.append(name)
            if name in arguments:
                fixed[name] = value
    return _Case(factory, fixed, numbers, lengths, steps), tuple(static)


def _untraceable(case: _Case) -> list[str]:
    """The numbers that the factory looks at in Python."""
    found = []
    for name in case.numbers:

        def build(value: Array, name: str = name) -> PyTree:
            optimizer = case.build([value if n == name else d for n, d in case.numbers.items()])
            params = _params("float32")
            return optimizer.update(params, optimizer.init(params), params)

        try:
            jax.eval_shape(build, jnp.float32(1.0))
        except jax.errors.ConcretizationTypeError:
            found.append(name)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _varied(default: float) -> list[float]:
    if default == 0:
        return [0.1 * factor for factor in FACTORS]
    return [default / factor if abs(default) >= 1 else default * factor for factor in FACTORS]


SHAPES: dict[str, tuple[int, ...]] = {
    "matrix": (3, 2),
    "vector": (3,),
    "scalar": (),
    "kernel": (2, 1, 2, 2),
    "empty": (0, 3),
}
# Two small models; every leaf costs compile time.
FIRST = ("kernel", "vector", "empty")
SECOND = ("matrix", "scalar")


def _params(dtype: Any, names: Sequence[str] = FIRST) -> dict[str, Array]:
    return {name: jnp.asarray(1.5 * np.cos(1.0 + _numbered(name)), dtype) for name in names}


def _numbered(name: str) -> np.ndarray:
    """Numbers of the leaf's shape, all different and none round."""
    shape = SHAPES[name]
    return 2.3 * np.arange(math.prod(shape)).reshape(shape) + len(name)


def _weights(name: str) -> np.ndarray:
    return 0.3 + 0.3 * np.sin(_numbered(name)) ** 2


def _loss(params: Mapping[str, Array]) -> Array:
    """A quadratic bowl with curvatures between 0.3 and 1, all of whose elements are coupled."""
    total = sum((jnp.sum(x) for x in params.values()), jnp.zeros([]))
    bowls = (jnp.sum(_weights(name).astype(x.dtype) * (x - 0.2) ** 2) for name, x in params.items())
    return 0.5 * sum(bowls, jnp.zeros([])) + 0.01 * total**2


def _slope(params: Mapping[str, Array]) -> dict[str, Array]:
    """The gradient of `_loss`, by hand: it compiles faster."""
    total = sum((jnp.sum(x) for x in params.values()), jnp.zeros([]))
    slope = {name: jnp.asarray(_weights(name)) * (x - 0.2) + 0.02 * total for name, x in params.items()}
    return {name: slope[name].astype(x.dtype) for name, x in params.items()}


def _run(optimizer: Any, params: PyTree, steps: int, slope: Callable[[PyTree], PyTree] = _slope) -> PyTree:
    """Parameters after the steps, and those to evaluate at."""

    def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
        x, state = carry
        updates, state = optimizer.update(slope(x), state, x)
        return (optax.apply_updates(x, updates), state), None

    (x, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return x, evaluation_params(state, x)


def _flat(tree: PyTree) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(tree))])


def _deviation(a: PyTree, b: PyTree) -> float:
    x, y = _flat(a), _flat(b)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise _BrokenError("a parameter is not finite")
    return float(np.max(np.abs(x - y), initial=0.0) / max(np.max(np.abs(y), initial=0.0), 1e-300))


def _require_close(what: str, a: PyTree, b: PyTree, tolerance: float) -> str:
    deviation = _deviation(a, b)
    if not deviation <= tolerance:
        raise _BrokenError(f"{what} differ by {deviation:.1e}, relative; {tolerance:g} is allowed")
    return f"{deviation:.1e}"


def _quick(fn: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(fn, compiler_options=QUICK)


class _Counted:
    """A function that counts how often JAX traces it, which is how often it is compiled."""

    def __init__(self, fn: Callable[..., Any]):
        self.traces = 0

        def counting(*arguments: Any) -> Any:
            self.traces += 1
            return fn(*arguments)

        self.compiled = _quick(counting)

    def __call__(self, *arguments: Any) -> Any:
        return self.compiled(*arguments)

    def require_one(self, what: str) -> None:
        if self.traces != 1:
            raise _BrokenError(f"{what}: wanted one compilation, got {self.traces}")


def _step_by_step(case: _Case) -> str:
    optimizer, another = (case.build(list(case.numbers.values())) for _ in range(2))
    params = _params("float64")
    state = optimizer.init(params)

    def step(params: PyTree, state: PyTree, optimizer: Any = optimizer) -> Any:
        updates, state = optimizer.update(_slope(params), state, params)
        return optax.apply_updates(params, updates), state

    # A memory outside of the state shows in the program itself: in its text or in its constants.
    programs = [jax.make_jaxpr(step)(params, state) for _ in range(2)]
    texts = [re.sub("0x[0-9a-f]+", "", str(program)) for program in programs]
    if texts[0] != texts[1] or _bytes(programs[0].consts) != _bytes(programs[1].consts):
        raise _BrokenError("traced twice, update gives two programs: it remembers something outside of its state")
    one = _Counted(step)
    before = [np.array(_array(leaf)) for leaf in jax.tree.leaves((params, state))]
    if _bytes(one(params, state)) != _bytes(one(params, state)):
        raise _BrokenError("the same inputs give different outputs")
    if _bytes(before) != _bytes((params, state)):
        raise _BrokenError("update changed its inputs")

    x = params
    for number in range(case.steps):
        if number == case.steps // 2:
            restored = _through_a_file((x, state))
        x, state = one(x, state)
    one.require_one("stepping on with the returned state")
    anew = _quick(lambda x, state: step(x, state, another))  # it has never seen these parameters
    for _ in range(case.steps // 2, case.steps):
        restored = anew(*restored)
    if _bytes(restored) != _bytes((x, state)):
        raise _BrokenError("a restored state continues differently")
    _require_close("runs with Python numbers and with traced ones", x, case.alone(case.defaults)[0], TIGHT)
    return f"{case.steps} steps, one compilation, the same bits after a restore"


def _array(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _bytes(tree: PyTree) -> list[bytes]:
    return [_array(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def _through_a_file(tree: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    file = io.BytesIO()
    np.savez(file, *[_array(leaf) for leaf in leaves])
    file.seek(0)
    restored = []
    with np.load(file, allow_pickle=False) as stored:
        for k, leaf in enumerate(leaves):
            array = jnp.asarray(stored[f"arr_{k}"])
            restored.append(jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array)
    return jax.tree.unflatten(structure, restored)


def _vmapped_equals_solo(case: _Case) -> str:
    seen, lanes = _compare_lanes(case, "float64", FIRST, case.alone, TIGHT)
    plain = case.alone(case.defaults)
    idle = [
        name
        for k, name in enumerate(case.numbers)
        if all(_deviation(lane, plain) == 0 for lane in lanes[k * len(FACTORS) : (k + 1) * len(FACTORS)])
    ]
    if case.numbers and len(idle) == len(case.numbers):
        raise _BrokenError("no number changes anything")
    return seen + (f"; without effect here: {', '.join(idle)}" if idle else "")


def _vmapped_equals_solo_in_float32(case: _Case) -> str:
    alone = _Counted(lambda values: _run(case.build(list(values)), _params("float32", SECOND), case.steps))
    return _compare_lanes(case, "float32", SECOND, alone, LOOSE)[0]


def _compare_lanes(
    case: _Case, dtype: str, names: Sequence[str], alone: "_Counted", tolerance: float
) -> tuple[str, list[PyTree]]:
    """What was seen, and where each lane ended."""
    defaults = list(case.numbers.values())
    lanes = [
        [value if place == k else default for place, default in enumerate(defaults)]
        for k, middle in enumerate(defaults)
        for value in _varied(middle)
    ]
    values = np.array(lanes, dtype)
    together = _Counted(jax.vmap(lambda values: _run(case.build(list(values)), _params(dtype, names), case.steps)))
    all_lanes = jax.tree.map(np.asarray, together(jnp.asarray(values)))
    together(jnp.asarray(values[::-1]))
    together.require_one("all values in one vmapped program")
    worst = 0.0
    ends = [jax.tree.map(lambda leaf, k=k: leaf[k], all_lanes) for k in range(len(values))]
    for k, lane in enumerate(values):
        deviation = _deviation(ends[k], alone(jnp.asarray(lane)))
        worst = max(worst, deviation)
        if not deviation <= tolerance:
            name = list(case.numbers)[k // len(FACTORS)]
            raise _BrokenError(
                f"{name}: vmapped and solo runs differ by {deviation:.1e}, relative; {tolerance:g} is allowed"
            )
    alone.require_one("one value after the other")
    return f"{len(lanes)} lanes in one compilation, worst {worst:.1e}", ends


def _schedules(case: _Case) -> str:
    def falling(value: Any) -> Callable[[Any], Array]:
        return lambda count: value * (1 - 0.01 * jnp.asarray(count, float))

    schedules = [falling(value) for value in case.numbers.values()]
    x, _ = _quick(lambda: _run(case.build(schedules), _params("float64"), case.steps))()

    def rebuilt() -> PyTree:
        def step(carry: tuple[PyTree, PyTree], count: Array) -> tuple[tuple[PyTree, PyTree], None]:
            x, state = carry
            now = case.build([schedule(count) for schedule in schedules])
            updates, state = now.update(_slope(x), state, x)
            return (optax.apply_updates(x, updates), state), None

        x = _params("float64")
        first = case.build([schedule(0) for schedule in schedules])
        return jax.lax.scan(step, (x, first.init(x)), jnp.arange(case.steps))[0][0]

    return "worst " + _require_close("schedules and numbers rebuilt at every step", x, _quick(rebuilt)(), TIGHT)


def _derivatives(case: _Case) -> str:
    def final(values: Array, params: PyTree) -> Array:
        return _loss(_run(case.build(list(values)), params, case.steps)[1])

    by_values, by_params = _quick(jax.grad(final, argnums=(0, 1)))(case.defaults, _params("float64", SECOND))
    for name, slope in zip(case.numbers, by_values, strict=True):
        if not jnp.isfinite(slope):
            raise _BrokenError(f"the derivative by {name} is {float(slope)}")
    if not np.isfinite(_flat(by_params)).all():
        raise _BrokenError("a derivative by the first parameters is not finite")
    return f"by {len(case.numbers)} hyperparameters and all parameters"


def _dtypes(case: _Case) -> str:
    def two_steps(params: PyTree, *values: Any) -> tuple[Any, Any, Any]:
        optimizer = case.build(values if values else list(case.numbers.values()))
        first = optimizer.init(params)
        updates, state = optimizer.update(params, first, params)
        updates, state = optimizer.update(updates, state, params)
        return first, state, updates

    traced = [jnp.float32(value) for value in case.numbers.values()]
    for dtype in ("bfloat16", "float32", "float64"):
        for how, values in (("Python numbers", []), ("traced float32 numbers", traced)):
            params = _params(dtype, tuple(SHAPES))
            first, last, updates = jax.eval_shape(two_steps, params, *values)
            place = f"{dtype} parameters, {how}"
            if str(jax.tree.structure(first)) != str(jax.tree.structure(last)):
                raise _BrokenError(f"{place}: the state changes its structure")
            for what, old, new in (("the state", first, last), ("an update", params, updates)):
                for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
                    if _shape(a) != _shape(b):
                        raise _BrokenError(f"{place}: {what} turns from {_shape(a)} to {_shape(b)}")
    return "bfloat16, float32 and float64 parameters, Python and traced float32 numbers"


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _bfloat16(case: _Case) -> str:
    params = _params("bfloat16", SECOND)
    x = _quick(lambda values: _run(case.build(list(values)), params, case.steps))(case.defaults.astype("float32"))
    if not np.isfinite(_flat(x)).all():
        raise _BrokenError("a parameter is not finite")
    return f"{case.steps} steps"


def _trees(case: _Case) -> str:
    optimizer = case.build(list(case.numbers.values()))
    trees: dict[str, PyTree] = {
        "a bare vector": jnp.ones(3),
        "a bare scalar": jnp.ones([]),
        "a list in a tuple in a dict, with None": {"a": (jnp.ones((2, 3)), [jnp.ones(1), None]), "b": None},
        "no leaf": {},
        "a leaf without elements": {"a": jnp.ones((0,)), "b": jnp.ones((2, 0, 3))},
        "leaves of two dtypes": {"a": jnp.ones((2, 2), jnp.float32), "b": jnp.ones(2, jnp.float64)},
    }
    for name, tree in trees.items():

        def step(x: PyTree) -> PyTree:
            state = optimizer.init(x)
            updates, state = optimizer.update(x, state, x)
            return optax.apply_updates(x, optimizer.update(updates, state, x)[0])

        try:
            after = jax.eval_shape(step, tree)
        except Exception as error:
            raise _BrokenError(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:160]}") from None
        if jax.tree.map(_shape, after) != jax.tree.map(_shape, tree):
            raise _BrokenError(f"{name}: the parameters change their shapes or dtypes")
    return ", ".join(trees)


def _order(case: _Case) -> str:
    """The leaves under names whose order is reversed: each must end where it did."""
    names = sorted(FIRST)
    renamed = {old: f"{len(names) - k}" for k, old in enumerate(names)}

    def back(params: PyTree) -> PyTree:
        return {old: params[new] for old, new in renamed.items()}

    def slope(params: PyTree) -> PyTree:
        return {renamed[old]: g for old, g in _slope(back(params)).items()}

    start = {renamed[old]: x for old, x in _params("float64").items()}
    turned, _ = _quick(lambda values: _run(case.build(list(values)), start, case.steps, slope))(case.defaults)
    plain, _ = case.alone(case.defaults)
    return "worst " + _require_close("runs with leaves in another order", back(turned), plain, TIGHT)


def _zeros(case: _Case) -> str:
    nothing = jax.tree.map(jnp.zeros_like, _params("float32", SECOND))

    def moved(values: Array, gradients: PyTree, params: PyTree) -> tuple[Array, PyTree]:
        optimizer = case.build(list(values))
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(params)), jnp.zeros([])), (params, state)

    slopes, (params, state) = _quick(jax.grad(moved, argnums=(0, 1, 2), has_aux=True))(
        case.defaults.astype("float32"), nothing, nothing
    )
    if not np.isfinite(_flat(params)).all():
        raise _BrokenError("a parameter is not finite after zero gradients at zero")
    if np.isnan(_flat([leaf.astype(float) for leaf in jax.tree.leaves(state) if not _is_key(leaf)])).any():
        raise _BrokenError("the state holds a NaN after zero gradients at zero")
    for what, tree in zip(("hyperparameters", "gradients", "parameters"), slopes, strict=True):
        if not np.isfinite(_flat(tree)).all():
            raise _BrokenError(f"zero gradients at zero: a derivative by the {what} is not finite")
    return "values and derivatives"
