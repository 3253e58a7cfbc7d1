"""Cases that compare our wrappers with independent ones: NumPy references, packages of PyTorch, and optax.

A case names a wrapper, the base that it is put around, and an oracle: `numpy:function` of `numpy_wrappers.py`,
`torch:function` of `torch_wrappers.py` or `optax:function` of this module. The problems are those of `problems.py`.
"""

import functools
import importlib.metadata
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from gdlab import optimizers as o
from gdlab.optimizers import WRAPPERS, evaluation_params
from gdlab.optimizers.protocol import take_update, with_any_arguments
from tests.oracles import numpy_wrappers, torch_wrappers
from tests.oracles.problems import PROBLEMS, data, flat, gradient, loss, start

STEPS = 200

OURS = {
    "sgd": lambda: o.sgd(1.0),
    "gentle": lambda: o.sgd(1e-3),
    "decayed": lambda: o.sgd(1e-3, weight_decay=0.2),
    "momentum": lambda: o.momentum(2e-4, momentum=0.9),
    "adam": lambda: o.adam(2e-3),
}
THEIRS = {
    "sgd": lambda: numpy_wrappers.heavy_ball(lr=1.0, momentum=0.0),
    "gentle": lambda: numpy_wrappers.heavy_ball(lr=1e-3, momentum=0.0),
    "decayed": lambda: numpy_wrappers.heavy_ball(lr=1e-3, momentum=0.0, weight_decay=0.2),
    "momentum": lambda: numpy_wrappers.heavy_ball(lr=2e-4, momentum=0.9),
    "adam": lambda: numpy_wrappers.adam(lr=2e-3),
}
"""The bases, ours and theirs; rates are small enough not to amplify rounding on Rosenbrock's function."""


class Case(NamedTuple):
    """A comparison of one of our wrappers with an oracle.

    Attributes:
      wrapper: the name of our wrapper.
      base: the name of the base.
      ours: the arguments of our wrapper.
      oracle: the kind of oracle and the name of its function.
      theirs: the arguments of the oracle.
      average: compare the points to evaluate at, instead of the points.
      problems: the problems to compare on.
      tolerance: relative.
      why: the reason, where the tolerance is looser than 1e-10.
    """

    wrapper: str
    base: str
    ours: dict
    oracle: str
    theirs: dict
    average: bool = False
    problems: tuple = PROBLEMS
    tolerance: float = 1e-10
    why: str = ""


TAME = ("least_squares", "mlp")
"""The problems on which rounding is not amplified where steps do not shrink with the gradient, or follow the value."""


def _ramp(count):
    """A learning rate that rises, then falls: the weights of Schedule-Free depend on the largest so far."""
    return jnp.minimum(1.0, (jnp.asarray(count, float) + 1) / 20) * jnp.where(count > 100, 0.5, 1.0)


CASES = {
    "sam": Case("sam", "momentum", {}, "numpy:sam", {"rho": 0.05}),
    "sam-all": Case("sam", "adam", {"rho": 0.3}, "numpy:sam", {"rho": 0.3}),
    "sam-torch": Case(
        "sam",
        "gentle",
        {"rho": 0.2},
        "torch:sam",
        {"rho": 0.2},
        problems=TAME,
        tolerance=1e-8,
        why="it takes the norm in float32",
    ),
    "sam-optax": Case("sam", "gentle", {"rho": 0.2}, "optax:sam", {"rho": 0.2}),
    "asam": Case("asam", "adam", {}, "numpy:asam", {"rho": 0.5, "eta": 0.01, "least_axes": 2}),
    "asam-all": Case(
        "asam",
        "adam",
        {"rho": 0.2, "eta": 0.3, "select": lambda name, leaf: True},
        "numpy:asam",
        {"rho": 0.2, "eta": 0.3, "least_axes": 0},
    ),
    "asam-torch": Case(
        "asam",
        "gentle",
        {"rho": 0.2, "eta": 0.0, "select": lambda name, leaf: True},
        "torch:sam",
        {"rho": 0.2, "adaptive": True},
        problems=TAME,
        tolerance=1e-8,
        why="it takes the norm in float32",
    ),
    "lookahead": Case("lookahead", "momentum", {}, "numpy:lookahead", {"k": 5, "alpha": 0.5}),
    "lookahead-slow": Case(
        "lookahead", "adam", {"sync_period": 7, "alpha": 0.8}, "numpy:lookahead", {"k": 7, "alpha": 0.8}, True
    ),
    "lookahead-torch": Case(
        "lookahead", "gentle", {"sync_period": 6, "alpha": 0.4}, "torch:lookahead", {"k": 6, "alpha": 0.4}
    ),
    "lookahead-optax": Case(
        "lookahead", "momentum", {"sync_period": 6, "alpha": 0.4}, "optax:lookahead", {"k": 6, "alpha": 0.4}, True
    ),
    "ema": Case(
        "ema",
        "momentum",
        {},
        "numpy:ema",
        {"decay": 0.999, "start_step": 0, "blend": 1.0, "debias": False},
        True,
    ),
    "ema-all": Case(
        "ema",
        "adam",
        {"decay": 0.95, "start_step": 50.0, "blend": 0.6, "debias": True},
        "numpy:ema",
        {"decay": 0.95, "start_step": 50, "blend": 0.6, "debias": True},
        True,
    ),
    "ema-debiased": Case(
        "ema",
        "adam",
        {"decay": 0.95, "debias": True},
        "numpy:ema",
        {"decay": 0.95, "start_step": 0, "blend": 1.0, "debias": True},
        True,
    ),
    "ema-points": Case(
        "ema",
        "adam",
        {"decay": 0.9},
        "numpy:ema",
        {"decay": 0.9, "start_step": 0, "blend": 1.0, "debias": False},
    ),
    "ema-torch": Case("ema", "gentle", {"decay": 0.98}, "torch:ema", {"decay": 0.98}, True),
    "ema_nesterov": Case(
        "ema_nesterov", "momentum", {}, "numpy:ema_nesterov", {"beta": 0.3, "decay": 0.99, "start_step": 0}
    ),
    "ema_nesterov-all": Case(
        "ema_nesterov",
        "adam",
        {"beta": 0.6, "decay": 0.9, "start_step": 20.0},
        "numpy:ema_nesterov",
        {"beta": 0.6, "decay": 0.9, "start_step": 20},
    ),
    "ema_nesterov-behind": Case(
        "ema_nesterov",
        "adam",
        {"beta": 0.6, "decay": 0.9, "start_step": 20.0},
        "numpy:ema_nesterov",
        {"beta": 0.6, "decay": 0.9, "start_step": 20},
        True,
    ),
    "schedule_free": Case(
        "schedule_free",
        "decayed",
        {},
        "numpy:schedule_free",
        {"momentum": 0.9, "rates": lambda t: 1.0, "r": 0.0, "power": 2.0},
    ),
    "schedule_free-all": Case(
        "schedule_free",
        "adam",
        {"learning_rate": _ramp, "momentum": 0.7, "r": 0.5, "weight_lr_power": 1.5},
        "numpy:schedule_free",
        {"momentum": 0.7, "rates": lambda t: float(_ramp(t)), "r": 0.5, "power": 1.5},
        True,
    ),
    "schedule_free-torch": Case("schedule_free", "gentle", {"momentum": 0.8}, "torch:schedule_free", {"momentum": 0.8}),
    "schedule_free-optax": Case(
        "schedule_free", "adam", {"momentum": 0.8}, "optax:schedule_free", {"momentum": 0.8}, True
    ),
    "cautious": Case("cautious", "momentum", {}, "numpy:cautious", {"floor": 1e-3}),
    "cautious-all": Case("cautious", "adam", {"floor": 0.7}, "numpy:cautious", {"floor": 0.7}),
    "cautious_decay": Case("cautious_decay", "adam", {}, "numpy:cautious_decay", {"lr": 1e-3, "weight_decay": 0.1}),
    "cautious_decay-all": Case(
        "cautious_decay",
        "momentum",
        {"learning_rate": 3e-3, "weight_decay": 0.7},
        "numpy:cautious_decay",
        {"lr": 3e-3, "weight_decay": 0.7},
    ),
    "orthogonalized": Case(
        "orthogonalized",
        "momentum",
        {"learning_rate": 1e-3},
        "numpy:orthogonalized",
        {"lr": 1e-3, "ns_steps": 5, "eps": 1e-7},
    ),
    "orthogonalized-all": Case(
        "orthogonalized",
        "adam",
        {"learning_rate": 0.005, "ns_steps": 3, "eps": 1e-3},
        "numpy:orthogonalized",
        {"lr": 0.005, "ns_steps": 3, "eps": 1e-3},
    ),
    "centralize": Case("centralize", "momentum", {}, "numpy:centralize", {"least_axes": 2}),
    "centralize-all": Case("centralize", "adam", {"min_ndim": 3}, "numpy:centralize", {"least_axes": 3}),
    "centralize-torch": Case("centralize", "gentle", {}, "torch:centralize", {}),
    "grokfast": Case("grokfast", "momentum", {}, "numpy:grokfast", {"decay": 0.98, "factor": 2.0}),
    "grokfast-all": Case(
        "grokfast", "adam", {"decay": 0.8, "factor": 5.0}, "numpy:grokfast", {"decay": 0.8, "factor": 5.0}
    ),
    "grokfast-torch": Case(
        "grokfast", "gentle", {"decay": 0.9, "factor": 0.5}, "torch:grokfast", {"alpha": 0.9, "lamb": 0.5}
    ),
    "adaptive_clip": Case("adaptive_clip", "momentum", {}, "numpy:adaptive_clip", {"clipping": 0.01, "eps": 1e-3}),
    "adaptive_clip-all": Case(
        "adaptive_clip", "adam", {"clipping": 0.1, "eps": 0.5}, "numpy:adaptive_clip", {"clipping": 0.1, "eps": 0.5}
    ),
    "adaptive_clip-torch": Case(
        "adaptive_clip", "gentle", {"clipping": 0.1}, "torch:adaptive_clip", {"clipping": 0.1, "eps": 1e-3}
    ),
    "adaptive_clip-optax": Case("adaptive_clip", "adam", {"clipping": 0.1}, "optax:adaptive_clip", {"clipping": 0.1}),
    "noisy": Case("noisy", "momentum", {}, "optax:noisy", {"eta": 0.01, "gamma": 0.55, "key": 0}),
    "noisy-all": Case(
        "noisy", "adam", {"eta": 0.3, "gamma": 0.9, "seed": 5}, "optax:noisy", {"eta": 0.3, "gamma": 0.9, "key": 5}
    ),
    "every_k": Case("every_k", "momentum", {}, "numpy:every_k", {"k": 4}),
    "every_k-all": Case("every_k", "adam", {"k": 7}, "numpy:every_k", {"k": 7}),
    "every_k-optax": Case("every_k", "adam", {"k": 3}, "optax:every_k", {"k": 3}),
    "partitioned": Case("partitioned", "momentum", {"rest": o.adam(2e-3)}, "numpy:partitioned", {"rest": "adam"}),
    "partitioned-optax": Case(
        "partitioned",
        "adam",
        {"rest": o.sgd(1e-3), "select": lambda name, leaf: name in ("0", "3")},
        "optax:partitioned",
        {"rest": "gentle", "own": (0, 3)},
    ),
    "backtracking": Case(
        "backtracking",
        "sgd",
        {},
        "numpy:backtracking",
        {"slope_rtol": 1e-4, "decrease": 0.8, "increase": 1.5, "largest": 1.0, "most": 15},
        problems=TAME,
    ),
    "backtracking-all": Case(
        "backtracking",
        "sgd",
        {
            "max_backtracking_steps": 60,
            "slope_rtol": 0.3,
            "decrease_factor": 0.5,
            "increase_factor": 2.0,
            "max_learning_rate": 0.7,
        },
        "numpy:backtracking",
        {"slope_rtol": 0.3, "decrease": 0.5, "increase": 2.0, "largest": 0.7, "most": 60},
        problems=("rosenbrock", "mlp"),
    ),
    "polyak": Case(
        "polyak",
        "sgd",
        {"f_min": -0.01},
        "numpy:polyak",
        {"f_min": -0.01, "max_learning_rate": 1.0, "eps": 0.0},
        problems=("mlp",),
    ),
    "polyak-all": Case(
        "polyak",
        "sgd",
        {"max_learning_rate": 0.05, "f_min": -0.2, "eps": 0.5, "nonnegative": True},
        "numpy:polyak",
        {"f_min": -0.2, "max_learning_rate": 0.05, "eps": 0.5},
        problems=TAME,
    ),
    "polyak-optax": Case("polyak", "sgd", {"max_learning_rate": 0.05}, "optax:polyak", {"rate": 0.05}, problems=TAME),
}


def kind_of(case):
    """Return "numpy", "torch" or "optax"."""
    return CASES[case].oracle.split(":")[0]


def version_of(case):
    """Return the version of the oracle's package."""
    function = CASES[case].oracle.split(":")[1]
    package = {"numpy": "numpy", "optax": "optax"}.get(kind_of(case)) or torch_wrappers.PACKAGES[function]
    return f"{package} {importlib.metadata.version(package)}"


def _value(problem):
    fn = loss(problem, np, [np.asarray(a) for a in data(problem)])
    return lambda params: float(fn(params))


def theirs(case, problem, steps=STEPS):
    """Return the oracle's steps + 1 points, flattened, in float64."""
    entry = CASES[case]
    kind, function = entry.oracle.split(":")
    if kind == "optax":
        return _walk(globals()[f"_optax_{function}"](OURS[entry.base](), **entry.theirs), problem, steps, entry.average)
    if kind == "torch":
        return getattr(torch_wrappers, function)(problem, steps, **entry.theirs)
    return np.stack([flat(p) for p in reference(case, start(problem), gradient(problem), steps, _value(problem))])


def reference(case, first, slope, steps, value):
    """Return the steps + 1 points of a NumPy reference, from a start, with a gradient and a loss on lists of arrays."""
    entry = CASES[case]
    function = entry.oracle.split(":")[1]
    arguments = dict(entry.theirs)
    if function in ("polyak", "backtracking"):
        arguments["value"] = value
    if function == "partitioned":
        arguments["rest"] = THEIRS[arguments["rest"]]()
    points = getattr(numpy_wrappers, function)(first, slope, steps, THEIRS[entry.base](), **arguments)
    return points[1 if entry.average else 0] if isinstance(points, tuple) else points


def optimizer_of(case):
    """Return our optimizer of a case."""
    entry = CASES[case]
    return WRAPPERS[entry.wrapper](OURS[entry.base](), **entry.ours)


@functools.cache
def ours(case, problem, steps=STEPS):
    """Return our steps + 1 points, flattened, in float64 (which must be enabled)."""
    return _walk(optimizer_of(case), problem, steps, CASES[case].average)


def _walk(optimizer, problem, steps, average):
    return np.asarray(jax.jit(lambda: trace(optimizer, problem, steps, average))())


def trace(optimizer, problem, steps, average):
    """Return the steps + 1 points of an optimizer as part of a program."""
    fn = loss(problem, jnp, [jnp.asarray(a) for a in data(problem)])
    full = with_any_arguments(optimizer)
    first = [jnp.asarray(p) for p in start(problem)]

    def shown(params, state):
        if average and isinstance(params, optax.LookaheadParams):
            params = params.slow
        elif isinstance(params, optax.LookaheadParams):
            params = params.fast
        elif average:
            params = evaluation_params(state, params)
        return jnp.concatenate([jnp.ravel(p) for p in params])

    def step(carry, _):
        params, state = carry
        at = params.fast if isinstance(params, optax.LookaheadParams) else params
        value, slope = jax.value_and_grad(fn)(at)
        updates, state = take_update(full, slope, state, params, value=value, value_fn=fn, grad_fn=jax.grad(fn))
        params = optax.apply_updates(params, updates)
        return (params, state), shown(params, state)

    begin = optax.LookaheadParams.init_synced(first) if getattr(optimizer, "in_pairs", False) else first
    points = jax.lax.scan(step, (begin, full.init(begin)), length=steps)[1]
    return jnp.concatenate([jnp.concatenate([jnp.ravel(p) for p in first])[None], points])


def deviation(a, b):
    """Return the largest difference, relative to the oracle's largest coordinate."""
    return float(np.abs(a - b).max() / np.abs(b).max())


class _Pairs(optax.GradientTransformationExtraArgs):
    """optax's lookahead, whose parameters are pairs of fast and slow ones."""

    in_pairs = True


def _optax_lookahead(base, *, k, alpha):
    return _Pairs(*optax.with_extra_args_support(optax.lookahead(base, k, alpha)))


def _optax_sam(base, *, rho):
    return contrib.sam(base, optax.chain(contrib.normalize(), optax.sgd(rho)), opaque_mode=True)


def _optax_schedule_free(base, *, momentum):
    return contrib.schedule_free(base, 1.0, b1=momentum)


def _optax_adaptive_clip(base, *, clipping):
    return optax.chain(optax.adaptive_grad_clip(clipping), base)


def _optax_noisy(base, *, eta, gamma, key):
    return optax.chain(optax.add_noise(eta, gamma, key), base)


def _optax_every_k(base, *, k):
    return optax.MultiSteps(base, k, accumulator_dtype=jnp.float64).gradient_transformation()


def _optax_partitioned(base, *, rest, own):
    def labels(params):
        return ["own" if i in own else "rest" for i in range(len(params))]

    return optax.partition({"own": base, "rest": OURS[rest]()}, labels)


def _optax_polyak(base, *, rate):
    del base
    return optax.polyak_sgd(max_learning_rate=rate)
