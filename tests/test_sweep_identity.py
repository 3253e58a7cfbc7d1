"""A sweep computes what its functions say now, and a folder holds only what its name says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import FUNCTIONS, OPTIMIZERS, sweep
from gdlab.compute.programs import calls_python, digest_jaxprs
from gdlab.sweeps import driver, tiles
from gdlab.sweeps.histories import history_chunk, trace_history
from gdlab.sweeps.space import make_space
from gdlab.sweeps.step import LaneSpec
from gdlab.sweeps.traces import trace_lane

quiet = functools.partial(sweep, progress=False)
sgd, adam, momentum = OPTIMIZERS["sgd"], OPTIMIZERS["adam"], OPTIMIZERS["momentum"]
ONE = np.ones((1, 2), np.float32)


def least_squares(seed):
    """Return a jitted function that closes over data, and its minimum."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(20, 2)).astype(np.float32), rng.normal(size=20).astype(np.float32)
    return jax.jit(lambda x: jnp.mean((a @ x - b) ** 2)), float(np.linalg.lstsq(a, b)[1][0]) / 20


def scaled_rule(scale):
    """Return |x|^2 with a custom derivative rule, whose gradient is `scale` times the right one."""
    fn = jax.custom_vjp(lambda x: jnp.sum(x**2))
    fn.defvjp(lambda x: (jnp.sum(x**2), x), lambda x, g: (scale * 2 * g * x,))
    return fn


def test_data_of_a_jitted_function_is_part_of_a_folders_identity(tmp_path):
    run = functools.partial(quiet, factory=sgd, hyperparameters={"learning_rate": [0.1]}, starts=ONE, max_steps=300)
    for seed in (0, 1):
        fn, least = least_squares(seed)
        ds = run(fn, save_to=tmp_path / str(seed))
        np.testing.assert_allclose(float(ds.value[0, 0]), least, rtol=1e-4)
    with pytest.raises(ValueError, match="holds another run, which differs in: function"):
        run(least_squares(1)[0], save_to=tmp_path / "0")


def test_custom_derivative_rules_are_part_of_a_folders_identity(tmp_path):
    run = functools.partial(quiet, factory=sgd, hyperparameters={"learning_rate": [0.1]}, starts=ONE, max_steps=3)
    assert run(scaled_rule(1.0), save_to=tmp_path / "a").point.values[0, 0, 0] == pytest.approx(0.8**3)
    assert run(scaled_rule(2.0), save_to=tmp_path / "b").point.values[0, 0, 0] == pytest.approx(0.6**3)
    with pytest.raises(ValueError, match="differs in: function"):
        run(scaled_rule(2.0), save_to=tmp_path / "a")


@pytest.mark.parametrize("record", ["last", "path"])
def test_what_a_function_reads_has_its_value_of_the_moment(record, tmp_path):
    target = np.float32(1.0)

    def fn(x):
        return jnp.sum((x - target) ** 2) + target

    def minimum(folder):
        options = dict(max_steps=99, record=record, save_to=tmp_path / folder)
        return float(quiet(fn, sgd, {"learning_rate": [0.4]}, ONE * 0, **options).value.values.flat[-1])

    assert minimum("first") == 1.0
    target = np.float32(5.0)
    assert minimum("second") == 5.0
    with pytest.raises(ValueError, match="differs in: function"):
        minimum("first")


def test_a_factory_reads_its_value_of_the_moment():
    settings = {"scale": 1.0}

    def factory(learning_rate):
        return sgd(settings["scale"] * learning_rate)

    run = functools.partial(quiet, lambda x: jnp.sum(x**2), factory, {"learning_rate": [0.1]}, ONE, max_steps=1)
    first = float(run().point[0, 0, 0])
    settings["scale"] = 2.0
    assert (first, float(run().point[0, 0, 0])) == pytest.approx((0.8, 0.6))


def test_programs_are_kept_by_what_they_compute():
    run = functools.partial(quiet, factory=sgd, hyperparameters={"learning_rate": [0.1]}, starts=ONE, max_steps=2)
    run(lambda x: jnp.sum(x**2))
    kept = len(tiles.PROGRAMS)
    run(lambda y: jnp.sum(y**2), max_steps=7)
    assert len(tiles.PROGRAMS) == kept
    run(lambda x: jnp.sum(x**2) + 1)
    assert len(tiles.PROGRAMS) > kept


@pytest.mark.parametrize(("record", "trace"), [("last", "trace_lane"), ("path", "trace_history")])
def test_what_reads_the_same_is_not_traced_again(record, trace, monkeypatch):
    def fn(x):
        return jnp.sum((x - 0.3) ** 2)

    def refuse(*_):
        raise AssertionError("traced again")

    run = functools.partial(quiet, fn, sgd, {"learning_rate": [0.1]}, ONE, max_steps=2, record=record)
    first = run()
    monkeypatch.setattr(driver, trace, refuse)
    np.testing.assert_array_equal(run().point.values, first.point.values)
    with pytest.raises(ValueError, match="traced again"):
        run(minimizers=[[0.3, 0.3]])


def test_digests_cover_nested_constants_batching_rules_and_random_keys():
    def digest(fn):
        return digest_jaxprs([jax.make_jaxpr(fn)(jnp.ones(2))])

    def with_rule(scale):
        mapped = jax.custom_batching.custom_vmap(lambda x: x * 2)
        mapped.def_vmap(lambda size, batched, x: (x * scale, True))
        return lambda x: mapped(x)

    def drawing(seed):
        key = jax.random.key(seed)
        return lambda x: x + jax.random.normal(key)

    def table(value):
        held = np.full((3, 2), value)
        return lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jax.jit(lambda z: z + held[0])(y), x)

    for make in (with_rule, drawing, table):
        assert digest(make(1)) == digest(make(1))
        assert digest(make(1)) != digest(make(2))


def test_a_name_is_no_call_into_python():
    def callback_cost(x):
        return jnp.sum(x**2)

    def called(x):
        return jax.pure_callback(lambda v: np.float32(np.sum(v)), jax.ShapeDtypeStruct((), jnp.float32), x)

    x = jnp.ones(2, jnp.float32)
    assert not calls_python(jax.make_jaxpr(jax.jit(callback_cost))(x))
    assert calls_python(jax.make_jaxpr(jax.jit(called))(x))


# Arguments that no lane uses, and what a lane allocates ---------------------------------------------------------------


@pytest.mark.parametrize("use", [lambda r, m: r, lambda r, m: r * m**0, lambda r, m: jnp.where(True, r, m)])
def test_a_hyperparameter_that_the_optimizer_ignores_changes_nothing(use):
    def factory(learning_rate, momentum):
        return sgd(use(learning_rate, momentum))

    grid = {"learning_rate": [0.1, 0.2], "momentum": [0.5, 0.9]}
    found = quiet(lambda x: jnp.sum(x**2) / 2, factory, grid, ONE, max_steps=2).point.values[..., 0, 0]
    np.testing.assert_allclose(found, np.array([[0.9, 0.9], [0.8, 0.8]]) ** 2, rtol=1e-6)


def test_tiles_follow_the_lanes_and_what_a_step_allocates():
    data = jnp.ones((50_000, 10), jnp.float32)
    spec = LaneSpec((lambda w: jnp.mean((data @ w) ** 2),), None, None, sgd, ("learning_rate",), 9, None, None, False)
    lane = trace_lane(spec, 10, jnp.float32)
    for lanes, most in ((4, 16), (1000, 64)):  # the residuals of a lane are 200 kB, and 8 MiB are for a tile
        assert tiles.program_for(lane, [True], lanes, None, "cpu").tile <= most
    history = trace_history(spec, "path", None, 10, jnp.float32)
    space = make_space(spec.functions[0], sgd, {"learning_rate": 0.1}, np.ones((4, 10), np.float32), None, None)
    assert history_chunk(history, space, 9, "path") <= 256
    small = LaneSpec((lambda w: jnp.sum(jnp.sort(w) ** 2),), None, None, sgd, ("learning_rate",), 9, None, None, False)
    lane = trace_lane(small, 10, jnp.float32)
    assert tiles.program_for(lane, [True], 4, None, "cpu").tile == 16
    assert tiles.program_for(lane, [True], 10_000, None, "cpu").tile == 1024


@pytest.mark.parametrize("setting", ["jax_debug_nans", "jax_disable_jit"])
@pytest.mark.parametrize("record", ["last", "path"])
def test_settings_of_jax_for_debugging_change_nothing(setting, record):
    run = functools.partial(quiet, FUNCTIONS["booth"], adam, {"learning_rate": [0.1]}, ONE, max_steps=4, record=record)
    expected = run().point.values
    with getattr(jax, setting.removeprefix("jax_"))(True):
        np.testing.assert_array_equal(run().point.values, expected)


def test_rank_promotion_may_raise():
    with jax.numpy_rank_promotion("raise"):
        for record in ("last", "path"):
            quiet(FUNCTIONS["himmelblau"], sgd, {"learning_rate": [0.1]}, ONE, max_steps=2, record=record)


# Values that a factory refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        (
            {"learning_rate": [0.1], "b1": [0.9, 1.5]},
            r"hyperparameters: b1: expected a number in \[0, 1\), got 1.5, for",
        ),
        ({"learning_rate": [0.1], "b2": -0.5}, r"hyperparameters: b2: expected a number in \[0, 1\), got -0.5"),
        ({"learning_rate": [0.1], "b1": [1 - 1e-12]}, r"hyperparameters: b1: expected a number in \[0, 1\), got 1,"),
        ({"learning_rate": [0.1, -0.1]}, "hyperparameters: learning_rate: expected a number in .*, got -0.1"),
        ({"learning_rate": [0.1], "eps": [-1.0]}, "hyperparameters: eps: expected a number in .*, got -1"),
        ({"learning_rate": [0.1, np.nan]}, r"hyperparameters\['learning_rate'\]: expected finite numbers, got nan"),
        ({"learning_rate": np.inf}, r"hyperparameters\['learning_rate'\]: expected finite numbers, got inf"),
        ({"learning_rate": [1e300]}, r"hyperparameters\['learning_rate'\]: .* that float32 can hold, got 1e\+300"),
        ({"learning_rate": [0.1, 0.2, 0.1]}, r"hyperparameters\['learning_rate'\]: expected distinct values, got 0.1"),
        ([{"b1": 0.5}, {"b1": 1.0}], r"hyperparameters: b1: expected a number in \[0, 1\), got 1, for adam"),
        (
            {"learning_rate": 0.1, "b1": np.r_[np.linspace(0, 0.9, 5000), -1e-3]},
            r"hyperparameters: b1: expected a number in \[0, 1\), got -0.001",
        ),
        ({"learning_rate": [adam, sgd]}, r"hyperparameters\['learning_rate'\]: expected numbers, got a function"),
        ({"learning_rate": [0.1], "b1": [[0.1], [0.2, 0.3]]}, r"hyperparameters\['b1'\]: expected a number or a 1-D"),
    ],
)
def test_values_that_a_factory_refuses_are_refused_before_compilation(hyperparameters, message):
    kept = len(tiles.PROGRAMS)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        quiet(FUNCTIONS["rosenbrock"], adam, hyperparameters, ONE, max_steps=2)
    assert "\n" not in str(caught.value)
    assert len(tiles.PROGRAMS) == kept


def raising(learning_rate):
    raise RuntimeError("first\nsecond")


def traced_range(learning_rate):
    return sgd(sum(0.1 for _ in range(learning_rate)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(factory=lambda learning_rate: 5), "factory: expected <lambda> to return an optax transformation, got 5"),
        (dict(factory=raising), "hyperparameters: .*RuntimeError: first, for raising"),
        (dict(factory=traced_range), "traced_range"),
        (dict(reduce=lambda d: {"v": float(d.value[-1])}), "reduce: expected a function that JAX can trace, got"),
        (dict(reduce=lambda d: {"v": "text"}), "reduce: expected an array for 'v', got 'text'"),
        (dict(fn=lambda x: jax.lax.while_loop(lambda v: v < 1, lambda v: v + x[0], 0.0)), "fn: .* its gradient, got"),
        (dict(fn=lambda x, y: 0.0), r"fn: expected a function .* one point of shape \(2,\), got TypeError"),
        (dict(devices=3), "devices: expected a list of jax devices, .* got 3"),
        (dict(minimizers="a"), "minimizers: expected numbers, got 'a'"),
        (dict(minimizers=[[np.nan, 0.0]]), "minimizers: expected finite numbers, got nan"),
        (dict(save_to=3), "save_to: expected a path, got 3"),
    ],
)
def test_errors_name_the_argument_that_is_at_fault(change, message):
    given = dict(fn=lambda x: jnp.sum(x**2), factory=sgd, hyperparameters={"learning_rate": [0.1]}, starts=ONE)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        quiet(**given | change, max_steps=2)
    assert "\n" not in str(caught.value)


def test_traced_starts_are_refused_by_name():
    with pytest.raises(TypeError, match="starts: expected concrete points, got a traced value; call this outside"):
        jax.jit(lambda s: quiet(FUNCTIONS["booth"], sgd, {"learning_rate": [0.1]}, s, max_steps=2).value.values)(ONE)
