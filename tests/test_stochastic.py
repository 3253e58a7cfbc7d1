"""Functions of a random key and of data: each step has its key, a lane is a descent, and data are no constants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import FUNCTIONS, check_gradient, descend, finite_difference, sweep
from gdlab.compute.extras import Extras
from gdlab.optimizers import adam, sgd
from gdlab.strategies import simulated_annealing
from gdlab.sweeps import tune_and_judge
from gdlab.sweeps.inputs import make_inputs
from gdlab.sweeps.step import LaneSpec
from gdlab.sweeps.tiles import program_for
from gdlab.sweeps.traces import trace_lane

KEY = jax.random.key(7)
STARTS = np.random.default_rng(0).normal(size=(5, 2))
DATA = {"aim": np.array([1.0, -2.0]), "noise": np.float64(0.5)}
RATES = [0.1, 0.2]
COMPILED = "/jax/core/compile/backend_compile_duration"
compilations: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compilations.append(event) if event == COMPILED else None
)


def pulled(x, key, data):
    """Return |x - aim|^2 / 2 with a random force: its gradient is x - aim + force."""
    force = data["noise"] * jax.random.normal(key, x.shape, x.dtype)
    return jnp.sum((x - data["aim"]) ** 2) / 2 + jnp.sum(force * x)


def by_hand(x, key, data, steps, rate=0.1):
    """Gradient descent on `pulled`: the points and the value of each under the noise of its step."""
    points, values = [x], []
    for t in range(steps + 1):
        force = data["noise"] * np.asarray(jax.random.normal(jax.random.fold_in(key, t), x.shape, x.dtype))
        values.append(np.sum((x - data["aim"]) ** 2) / 2 + np.sum(force * x))
        x = x - rate * (x - data["aim"] + force)
        points.append(x)
    return np.array(points[:-1]), np.array(values)


def quiet(*arguments, **options):
    return sweep(*arguments, **{"max_steps": 12, "progress": False, **options})


def test_step_t_has_key_t_and_the_last_value_that_of_the_last_step():
    points, values = by_hand(STARTS[0], KEY, DATA, 12)
    # It stops where a step is short, and repeats the point with its value.
    lengths = np.abs(np.diff(points, axis=0)).sum(axis=1)
    stop = int(np.argmin(lengths[:10])) + 1
    short = {"max_steps": 12, "tolerance": lengths[stop - 1] * 1.001, "key": KEY, "data": DATA}
    path = descend(pulled, sgd(0.1), STARTS[0], **short)
    assert 1 < int(path.steps) == stop < 12
    np.testing.assert_allclose(path.path, points[np.minimum(np.arange(13), stop)], rtol=1e-12)
    np.testing.assert_allclose(path.value, values[np.minimum(np.arange(13), stop)], rtol=1e-12)
    last = descend(pulled, sgd(0.1), STARTS[0], record="last", **short)
    np.testing.assert_allclose(last.value, values[stop], rtol=1e-12)


def test_a_lane_is_the_descent_with_the_key_of_its_start():
    found = quiet(pulled, sgd, {"learning_rate": RATES}, STARTS, key=KEY, data=DATA)
    for start in (0, 4):
        for place, rate in enumerate(RATES):
            points, values = by_hand(STARTS[start], jax.random.fold_in(KEY, start), DATA, 12, rate)
            np.testing.assert_allclose(found.point[place, start], points[-1], rtol=1e-12)
            np.testing.assert_allclose(found.value[place, start], values[-1], rtol=1e-12)
    key, other = jax.random.key(8), {"aim": DATA["aim"] + 1, "noise": DATA["noise"] / 2}
    before = len(compilations)
    again = quiet(pulled, sgd, {"learning_rate": RATES}, STARTS, key=key, data=other)
    assert len(compilations) == before
    points, _ = by_hand(STARTS[3], jax.random.fold_in(key, 3), other, 12)
    np.testing.assert_allclose(again.point[0, 3], points[-1], rtol=1e-12)


def residuals(x, data):
    return jnp.sum((data["matrix"] @ x - data["right"]) ** 2) / 2


def problem(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {"matrix": rng.normal(size=(rows, 2)), "right": rng.normal(size=rows)}


def test_data_are_arguments_of_the_program_and_few_of_them_are_scalars():
    for rows, plain in ((3, True), (100, False)):
        frame = make_inputs(None, problem(rows), 1).frame
        spec = LaneSpec((residuals,), None, None, sgd, ("learning_rate",), 9, None, None, False, frame=frame)
        lane = trace_lane(spec, 2, jnp.float64)
        differing = [True] + [False] * len(frame.types())
        assert program_for(lane, differing, 64, None, "cpu").plain is plain
        constants = [np.size(each) for one in (lane.begin, lane.step, lane.look) for each in one.consts]
        assert max(constants, default=0) <= 1


@pytest.mark.thorough
@pytest.mark.parametrize("rows", [3, 100])
def test_sweeps_of_data_are_descents_with_them(rows):
    rates = {"learning_rate": np.array([0.1, 0.2]) / rows}
    quiet(residuals, adam, rates, STARTS, data=problem(rows))
    before = len(compilations)
    found = quiet(residuals, adam, rates, STARTS, data=problem(rows, 1))
    assert len(compilations) == before
    for start in range(5):
        one = descend(residuals, adam(rates["learning_rate"][1]), STARTS[start], max_steps=12, data=problem(rows, 1))
        np.testing.assert_allclose(found.value[1, start], one.value[-1], rtol=1e-12)


@pytest.mark.thorough
def test_a_folder_belongs_to_its_key_and_its_data(tmp_path):
    options = {"save_to": tmp_path / "sweep", "key": KEY, "data": DATA}
    whole = quiet(pulled, adam, {"learning_rate": RATES}, STARTS, **options)
    again = quiet(pulled, adam, {"learning_rate": RATES}, STARTS, **options)
    np.testing.assert_array_equal(again.point, whole.point)
    for name, value in (("key", jax.random.key(8)), ("data", {**DATA, "noise": np.float64(0.25)})):
        with pytest.raises(ValueError, match=f"which differs in: {name};"):
            quiet(pulled, adam, {"learning_rate": RATES}, STARTS, **options | {name: value})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, np.float64),
        ({"chunk": 3, "tolerance": 0.05}, np.float32),
        ({"record": "path"}, np.float64),
        ({"reduce": lambda d: {"value": d.value[-1]}}, np.float32),
    ],
    ids=["last", "tolerance", "path", "reduce"],
)
def test_batches_are_solo_descents_whatever_the_options(options, dtype):
    starts = STARTS.astype(dtype)
    data = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), DATA)
    found = quiet({"a": pulled, "b": lambda x, key, data: 2 * pulled(x, key, data)}, {"adam": adam, "sgd": sgd},
                  {"learning_rate": RATES}, starts, max_steps=60, key=KEY, data=data, **options)  # fmt: skip
    solo = {name: options[name] for name in ("record", "tolerance") if name in options}

    @jax.jit
    def one(rate, start, key):
        return descend(pulled, adam(rate), start, max_steps=60, key=key, data=data, **{"record": "last", **solo})

    keys = jax.vmap(lambda start: jax.random.fold_in(KEY, start))(jnp.arange(5))
    batch = jax.vmap(one, (None, 0, 0))(dtype(0.2), starts, keys)
    rtol = 1e-4 if dtype is np.float32 else 1e-10
    for start in range(5):
        single = one(dtype(0.2), starts[start], keys[start])
        np.testing.assert_allclose(batch.value[start], single.value, rtol=rtol)
        lane = found.sel(optimizer="adam", function="a", learning_rate=0.2).isel(start=start)
        expected = single.value if options.get("record") == "path" else single.value[-1]
        np.testing.assert_allclose(lane.value, expected, rtol=rtol)
        assert int(lane.steps) == int(single.steps) == int(batch.steps[start])
    for other in ("sgd", "adam"):  # twice the function takes other steps, under the same noise
        start = found.sel(optimizer=other).isel(start=0, learning_rate=0)
        if options.get("record") == "path":
            np.testing.assert_allclose(
                start.value.sel(function="b")[0], 2 * start.value.sel(function="a")[0], rtol=1e-6
            )


def probe(learning_rate):
    """Move by the difference of two gradients that are equal, if key and data are: not at all."""

    def update(updates, state, params, *, grad_fn, value_fn, value):
        again = jax.tree.map(jnp.subtract, grad_fn(params), updates)
        return jax.tree.map(lambda g: learning_rate * (g + value_fn(params) - value), again), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.thorough
def test_what_an_optimizer_asks_for_has_the_key_of_the_step():
    one = descend(pulled, probe(1e3), STARTS[0], max_steps=5, key=KEY, data=DATA)
    np.testing.assert_allclose(one.point, STARTS[0], rtol=1e-9)
    found = quiet(pulled, probe, {"learning_rate": [1e3]}, STARTS, key=KEY, data=DATA)
    np.testing.assert_allclose(found.point[0], STARTS, rtol=1e-9)
    annealed = quiet(pulled, simulated_annealing, {}, STARTS, key=KEY, data=DATA)  # which needs no gradient
    single = descend(pulled, simulated_annealing(), STARTS[2], max_steps=12, key=jax.random.fold_in(KEY, 2), data=DATA)
    np.testing.assert_allclose(annealed.point[2], single.point, rtol=1e-9)


@pytest.mark.thorough
def test_gradients_take_what_the_function_takes():
    slope = lambda x, key, data: x - data["aim"] + data["noise"] * jax.random.normal(key, x.shape, x.dtype)  # noqa: E731
    points, _ = by_hand(STARTS[1], KEY, DATA, 12)
    for gradient, rtol in ((slope, 1e-12), (finite_difference(pulled, "central4"), 1e-8)):
        found = descend(pulled, sgd(0.1), STARTS[1], max_steps=12, key=KEY, data=DATA, gradient=gradient)
        np.testing.assert_allclose(found.point, points[-1], rtol=rtol)
    lanes = quiet({"f": pulled}, sgd, {"learning_rate": RATES}, STARTS, key=KEY, data=DATA, gradient={"f": slope})
    points, _ = by_hand(STARTS[1], jax.random.fold_in(KEY, 1), DATA, 12)
    np.testing.assert_allclose(lanes.point[0, 0, 1], points[-1], rtol=1e-12)


@pytest.mark.thorough
def test_keys_of_the_old_kind_draw_the_same_numbers():
    found = [quiet(pulled, sgd, {"learning_rate": RATES}, STARTS, key=key, data=DATA)
             for key in (KEY, jax.random.PRNGKey(7))]  # fmt: skip
    np.testing.assert_allclose(found[0].point, found[1].point, rtol=1e-12)


@pytest.mark.thorough
def test_races_pass_the_key_and_the_data_on():
    noisy = FUNCTIONS["sphere"]._replace(fn=lambda x, key: jnp.sum(x**2) + jnp.sum(x * jax.random.normal(key, x.shape)))
    race = tune_and_judge({"noisy": noisy}, {"sgd": sgd}, {"learning_rate": [0.01, 0.1]}, STARTS, STARTS[:2],
                          max_steps=20, key=KEY, progress=False)  # fmt: skip
    rate = float(race.judged.learning_rate[0, 0, 0])
    one = descend(noisy.fn, sgd(rate), STARTS[1], max_steps=20, key=jax.random.fold_in(KEY, 1))
    np.testing.assert_allclose(race.judged.point.values[0, 0, 0, 1], one.point, rtol=1e-9)


def test_what_does_not_fit_is_refused_in_one_line():
    settings = {"learning_rate": RATES}
    plain = lambda x: jnp.sum(x**2)  # noqa: E731
    for call in (
        lambda **more: descend(plain, sgd(0.1), STARTS[0], max_steps=2, **more),
        lambda **more: quiet(plain, sgd, settings, STARTS, **more),
    ):
        with pytest.raises(TypeError, match=r"fn: .* for one point of shape \(2,\) and a key, got TypeError"):
            call(key=KEY)
        with pytest.raises(TypeError, match=r"fn: .* and a key and data, got TypeError"):
            call(key=KEY, data=DATA)
        with pytest.raises(TypeError, match=r"fn: .* and data, got TypeError"):
            call(data=DATA)
        with pytest.raises(ValueError, match=r"data: expected a tree of arrays, got a dict without any"):
            call(data={})
        with pytest.raises(TypeError, match=r"data: expected a tree of arrays of numbers, got an array"):
            call(data={"key": KEY})
    with pytest.raises(TypeError, match=r"data: expected concrete numbers, got a traced value"):
        jax.eval_shape(lambda data: quiet(residuals, sgd, settings, STARTS, data=data).value.values, problem(3))
    assert Extras().at(3) == ()


@pytest.mark.thorough
def test_the_derivative_of_a_mean_over_common_keys_is_checked_as_sharply_as_any():
    report = check_gradient(pulled, STARTS[0], key=KEY, data=DATA, estimates=16)
    assert report.ok, report
    assert report.rtol < 1e-8
    forces = [jax.random.normal(key, (2,)) for key in jax.random.split(KEY, 16)]
    mean = np.sum((STARTS[0] - DATA["aim"]) ** 2) / 2 + 0.5 * np.mean(forces, axis=0) @ STARTS[0]
    assert report.value == pytest.approx(mean, rel=1e-12)
    biased = lambda x, key, data: 1.5 * (x - data["aim"])  # noqa: E731
    wrong = check_gradient(pulled, STARTS[0], key=KEY, data=DATA, estimates=64, gradient=biased)
    assert wrong.verdict.startswith("FAIL"), wrong
    assert check_gradient(residuals, STARTS[0], data=problem(4)).ok
    flipped = lambda x, data: -data["matrix"].T @ (data["matrix"] @ x - data["right"])  # noqa: E731
    assert check_gradient(residuals, STARTS[0], data=problem(4), gradient=flipped).verdict.startswith("FAIL")
