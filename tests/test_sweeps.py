import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from gdlab import (
    FUNCTIONS,
    OPTIMIZERS,
    descend,
    given,
    linear_range,
    log_range,
    numerics,
    sample_hyperparameters,
    sweep,
)
from gdlab.compute import fusion
from gdlab.compute.scalars import TooLargeError, as_scalars
from gdlab.sweeps import crew, tiles
from gdlab.sweeps.step import LaneSpec
from gdlab.sweeps.tiles import program_for
from gdlab.sweeps.traces import trace_lane
from tests.selection import some_of

ROOT = Path(__file__).parents[1]
quiet = functools.partial(sweep, progress=False)
sgd, adam, momentum = OPTIMIZERS["sgd"], OPTIMIZERS["adam"], OPTIMIZERS["momentum"]


def bowl(x):
    return jnp.sum(jnp.array([1.0, 4.0]) * x**2) / 2


def starts_in(half_width, count, dim=2, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).uniform(-half_width, half_width, (count, dim)).astype(dtype)


def assert_same_bits(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        assert a[name].dims == b[name].dims
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))


@pytest.mark.thorough
def test_lanes_that_decompose_matrices_do_not_wait_for_each_other_forever():
    # On two cores, two programs that call LAPACK at once took both threads of XLA's pool and waited for a third.
    code = """
import numpy as np
from gdlab import FUNCTIONS, OPTIMIZERS, given, sweep
soap = given(OPTIMIZERS["soap"], precondition_1d=True)
starts = np.zeros((64, 32), np.float32)
print(sweep(FUNCTIONS["rosenbrock"], soap, {}, starts, max_steps=200, progress=False).steps.size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.strip() == "64"


# What a sweep computes -----------------------------------------------------------------------------------------------


# Adam's state consists of scalars; Shampoo's eigenvalues and YellowFin's window are arrays within each lane.
QUICK = ("adam", "aggmo", "soap", "yellowfin")
# Without residuals, gauss_newton takes no step.
WITH_A_GRADIENT = [name for name in OPTIMIZERS if name != "gauss_newton"]
EVERY = some_of(WITH_A_GRADIENT, QUICK)


@pytest.mark.parametrize("name", EVERY)
def test_lanes_are_descents(name):
    factory, rates, starts = given(OPTIMIZERS[name], total_steps=40.0), np.array([1e-4, 1e-3]), starts_in(1, 5)
    fn = FUNCTIONS["rosenbrock"]
    ds = quiet(fn, factory, {"learning_rate": rates}, starts, max_steps=40, tolerance=1e-3, target=0.5)

    def run(rate, start):
        return descend(fn.fn, factory(rate), start, max_steps=40, tolerance=1e-3)

    solo = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(rates, starts)
    assert ds.value.dims == ("learning_rate", "start")
    assert ds.point.dims == ("learning_rate", "start", "coordinate")
    np.testing.assert_allclose(ds.point, solo.point, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ds.value, solo.value[..., -1], rtol=1e-7, atol=1e-12)
    for field in ("steps", "converged", "diverged"):
        np.testing.assert_array_equal(ds[field], getattr(solo, field))
    near = np.linalg.norm(np.asarray(solo.path) - 1, axis=-1) <= 0.5
    np.testing.assert_array_equal(ds.reached, near[..., -1])
    np.testing.assert_array_equal(ds.first_reached, np.where(near.any(-1), near.argmax(-1), -1))


def test_a_grid_whose_answer_is_known():
    # Gradient descent on a quadratic: x_i <- (1 - rate lam_i) x_i; heavy ball: the companion matrix's power.
    rates, betas, steps = np.array([0.1, 0.2, 0.4]), np.array([0.0, 0.5, 0.9]), 25
    starts = starts_in(3, 4)
    ds = quiet(bowl, momentum, {"learning_rate": rates, "momentum": betas}, starts, max_steps=steps)
    assert ds.sizes == {"learning_rate": 3, "momentum": 3, "start": 4, "coordinate": 2}
    for i, rate in enumerate(rates):
        for j, beta in enumerate(betas):
            for k, curvature in enumerate((1.0, 4.0)):
                # (x, v) <- (x - rate (beta v + lam x), beta v + lam x)
                matrix = np.array([[1 - rate * curvature, -rate * beta], [curvature, beta]])
                expected = np.linalg.matrix_power(matrix, steps)[0, 0] * starts[:, k]
                found = ds.point[i, j, :, k]
                np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    assert (ds.steps == steps).all()
    assert not ds.converged.any()


def test_stopping_counts_from_the_recurrence():
    # From 1 at rate 1/4 on x^2 / 2 a step is 3^k / 4^(k + 1) long: the first below 0.05 is the seventh.
    ds = quiet(lambda x: jnp.sum(x**2) / 2, sgd, {"learning_rate": 0.25}, [[1.0]], max_steps=100, tolerance=0.05)
    assert int(ds.steps[0]) == 7
    assert bool(ds.converged[0])
    np.testing.assert_allclose(ds.point[0, 0], 0.75**7)
    near = quiet(
        lambda x: jnp.sum(x**2) / 2,
        sgd,
        {"learning_rate": 0.25},
        [[1.0], [0.01]],
        max_steps=100,
        minimizers=[[0.0]],
        target=0.5,
        stop_at_target=True,
    )
    np.testing.assert_array_equal(near.steps, [3, 0])  # 0.75^3 = 0.42; the second starts there
    np.testing.assert_array_equal(near.first_reached, [3, 0])
    assert not near.converged.any()
    assert near.reached.all()


def test_failures_are_flagged_lanes():
    starts = [[1.0, 1.0], [np.nan, 0.0], [1.0, np.inf], [1e200, 0.0]]
    ds = quiet(bowl, sgd, {"learning_rate": [0.1, 1e160]}, starts, max_steps=50)
    np.testing.assert_array_equal(ds.diverged, [[False, True, True, True], [True] * 4])
    np.testing.assert_array_equal(ds.steps[:, 1:], 0)  # the value at 1e200 overflows
    assert ds.steps[1, 0] == 2  # one step to 1e160, where the value is infinite
    assert np.isfinite(ds.point[1, 0]).all()


def test_several_optimizers_and_functions():
    functions = {"bowl": bowl, "beale": FUNCTIONS["beale"].fn}
    factories = {"sgd": sgd, "adam": adam}
    starts = {"bowl": starts_in(3, 6), "beale": starts_in(1, 6, seed=1)}
    rates = np.array([1e-3, 1e-2, 1e-1])
    ds = quiet(functions, factories, {"learning_rate": rates}, starts, max_steps=30)
    assert ds.value.dims == ("optimizer", "function", "learning_rate", "start")
    for name, fn in functions.items():
        for label, factory in factories.items():
            alone = quiet(fn, factory, {"learning_rate": rates}, starts[name], max_steps=30)
            here = ds.sel(optimizer=label, function=name)
            np.testing.assert_allclose(here.point, alone.point, rtol=1e-9)
            np.testing.assert_array_equal(here.diverged, alone.diverged)
            np.testing.assert_array_equal(here.start_point, alone.start_point)


def test_a_rate_for_each_optimizer_and_function():
    rates = xr.DataArray([[0.1, 0.2], [0.3, 0.4]], dims=("optimizer", "function"))
    functions = {"a": bowl, "b": lambda x: bowl(2 * x)}
    ds = quiet(functions, {"p": sgd, "q": adam}, {"learning_rate": rates}, starts_in(1, 3), max_steps=5)
    assert ds.value.dims == ("optimizer", "function", "start")
    for i, factory in enumerate((sgd, adam)):
        for j, fn in enumerate(functions.values()):
            alone = quiet(fn, factory, {"learning_rate": float(rates[i, j])}, starts_in(1, 3), max_steps=5)
            np.testing.assert_allclose(ds.point[i, j], alone.point, rtol=1e-12)
    np.testing.assert_array_equal(ds.learning_rate, rates)


def test_trials_for_each_optimizer():
    points = {"sgd": [{"learning_rate": 0.1}, {"learning_rate": 0.2}], "adam": [{"learning_rate": 1e-2}] * 2}
    ds = quiet(bowl, {"sgd": sgd, "adam": adam}, points, starts_in(1, 3), max_steps=4)
    assert ds.value.dims == ("optimizer", "trial", "start")
    np.testing.assert_array_equal(ds.learning_rate, [[0.1, 0.2], [0.01, 0.01]])
    np.testing.assert_allclose(ds.point[0, 1, :, 0], 0.8**4 * ds.start_point[:, 0])
    np.testing.assert_allclose(ds.point[0, 1, :, 1], 0.2**4 * ds.start_point[:, 1])


def test_history_and_reduction_agree_with_the_last_point():
    starts = starts_in(2, 7)
    given = dict(max_steps=20, tolerance=1e-2, minimizers=[[0.0, 0.0]], target=0.3)
    last = quiet(bowl, momentum, {"learning_rate": [0.1, 0.2]}, starts, **given)
    path = quiet(bowl, momentum, {"learning_rate": [0.1, 0.2]}, starts, record="path", chunk=5, **given)
    assert path.point.dims == ("learning_rate", "start", "step", "coordinate")
    assert path.value.dims == ("learning_rate", "start", "step")
    np.testing.assert_array_equal(path.step, np.arange(21))
    np.testing.assert_array_equal(path.point[:, :, 0], np.broadcast_to(starts, (2, 7, 2)))
    np.testing.assert_allclose(path.point[:, :, -1], last.point, rtol=1e-12)
    for name in ("steps", "converged", "diverged", "reached", "first_reached"):
        np.testing.assert_array_equal(path[name], last[name])
    least = quiet(
        bowl,
        momentum,
        {"learning_rate": [0.1, 0.2]},
        starts,
        record="path",
        reduce=lambda descent: {"least": jnp.min(descent.value), "ends": descent.path[jnp.array([0, -1])]},
        **given,
    )
    np.testing.assert_allclose(least.least, path.value.min("step"), rtol=1e-12)
    assert least.ends.dims == ("learning_rate", "start", "ends_0", "ends_1")
    assert "point" not in least


def test_a_gradient_of_your_own_is_used():
    ds = quiet(bowl, sgd, {"learning_rate": 0.5}, [[1.0, 1.0]], max_steps=1, gradient=lambda x: jnp.full_like(x, 3.0))
    np.testing.assert_array_equal(ds.point[0], [-0.5, -0.5])


def test_any_optax_factory_and_schedules():
    def decayed(learning_rate, momentum):
        return optax.chain(
            optax.trace(momentum), optax.scale_by_schedule(lambda t: -learning_rate / (1 + t))
        )  # all lanes share its state, the count

    ds = quiet(bowl, decayed, {"learning_rate": [0.1, 0.3], "momentum": 0.0}, [[1.0, 1.0]], max_steps=3)
    np.testing.assert_allclose(ds.point[:, 0, 0], [0.9 * 0.95 * (1 - 0.1 / 3), 0.7 * 0.85 * 0.9])
    assert ds.momentum == 0.0
    assert ds.value.dims == ("learning_rate", "start")


def test_labels_of_an_array_are_respected():
    given = xr.DataArray([0.1, 1e-5], dims="optimizer", coords={"optimizer": ["b", "a"]})
    ds = quiet(bowl, {"a": sgd, "b": sgd}, {"learning_rate": given}, [[1.0, 1.0]], max_steps=1)
    np.testing.assert_allclose(ds.point.sel(optimizer="b")[0, 0], 0.9)
    np.testing.assert_allclose(ds.point.sel(optimizer="a")[0, 0], 1 - 1e-5)
    assert float(ds.learning_rate.sel(optimizer="b")) == 0.1


def test_functions_that_look_alike_are_not_mixed_up():
    def scaled(factor):
        def outside(x):
            return np.asarray(factor * np.sum(np.asarray(x) ** 2))

        return lambda x: jax.pure_callback(outside, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="sequential")

    values = [
        float(quiet(scaled(f), sgd, {"learning_rate": 1e-9}, [[1.0, 1.0]], max_steps=1, gradient=lambda x: x).value[0])
        for f in (1.0, 5.0)
    ]
    np.testing.assert_allclose(values, [2.0, 10.0], rtol=1e-6)


def test_64_bits_only_within_a_block():
    jax.config.update("jax_enable_x64", False)
    try:
        with jax.enable_x64(True):
            for extra in ({}, {"record": "path"}):
                ds = quiet(bowl, sgd, {"learning_rate": [0.1]}, starts_in(1, 3), max_steps=2, **extra)
                assert ds.value.dtype == ds.point.dtype == np.float64
    finally:
        jax.config.update("jax_enable_x64", True)


# The same bits, whatever the batch -----------------------------------------------------------------------------------


def race(**kwargs):
    """Run lanes that stop at very different steps: some converge early, some late, some diverge, some never stop."""
    rates = [1e-5, 1e-3, 0.005, 0.01, 0.014, 0.02]
    starts = starts_in(4, 400, dtype=np.float32)
    return quiet(
        FUNCTIONS["himmelblau"],
        momentum,
        {"learning_rate": rates},
        starts,
        max_steps=700,
        tolerance=1e-5,
        **kwargs,
    )


@pytest.fixture(scope="module")
def whole():
    return race()


@pytest.fixture(scope="module")
def whole_on_cpu(whole):
    return whole if jax.default_backend() == "cpu" else race(devices=jax.devices("cpu"))


def test_the_race_has_all_kinds_of_lanes(whole):
    assert 0.1 < float(whole.converged.mean()) < 0.95
    assert float(whole.diverged.mean()) > 0
    assert float(((~whole.converged) & (~whole.diverged)).mean()) > 0.02
    assert float(whole.steps.where(whole.converged).std()) > 30


@pytest.mark.parametrize("chunk", [1, 33, 256, 4096])
def test_chunks_do_not_change_a_bit(whole, chunk):
    assert_same_bits(race(chunk=chunk), whole)


def test_dropping_lanes_does_not_change_a_bit(whole, monkeypatch):
    monkeypatch.setattr("gdlab.sweeps.driver.milestones", lambda max_steps, stoppable: [max_steps])
    assert_same_bits(race(), whole)  # one run to the end: no lane leaves early


@pytest.mark.parametrize("chunk", [64, 4])
def test_fetching_as_from_a_gpu_does_not_change_a_bit(whole, chunk, monkeypatch):
    """A GPU counts running lanes, and divides and joins the coordinates of points; a host does so for a CPU."""
    monkeypatch.setattr(crew, "in_place", lambda device: False)
    assert_same_bits(race(chunk=chunk), whole)


def test_stopped_lanes_leave_and_the_rest_is_merged(monkeypatch):
    # 64 quick lanes and 8 slow ones in 8 calls; the slow ones finish in few calls, all together.
    calls = []
    inner = crew.LaneCrew._run

    def spy(self, device, function, level, lanes, state, shared):
        calls.append((level, len(lanes)))
        return inner(self, device, function, level, lanes, state, shared)

    monkeypatch.setattr(crew.LaneCrew, "_run", spy)
    rates = np.where(np.arange(128) % 16 == 0, 1e-3, 0.5)
    ds = quiet(
        lambda x: jnp.sum(x**2) / 2,
        sgd,
        [{"learning_rate": r} for r in rates],
        [[1.0]],
        max_steps=1000,
        tolerance=1e-4,
        chunk=16,
    )
    slow = rates < 0.1
    np.testing.assert_array_equal(ds.steps.values[~slow, 0], 14)  # 2^-14 < 1e-4, the length of the fourteenth step
    assert (ds.steps.values[slow, 0] == 1000).all()
    assert sum(n for level, n in calls if level == 0) == 128
    assert sum(n for level, n in calls if level > 0) < 8 * 20
    marks = crew.milestones(1000, True)
    assert sum(n * (marks[level] - (marks[level - 1] if level else 0)) for level, n in calls) < 0.2 * 128 * 1000


def test_milestones_end_at_the_last_step():
    assert crew.milestones(10, True) == [10]
    assert crew.milestones(50_000, False) == [512, 4096, 24_096, 44_096, 50_000]
    marks = crew.milestones(100_000, True)
    assert marks[-1] == 100_000
    assert marks == sorted(set(marks))
    assert len(marks) < 60
    assert all(b - a <= 0.25 * a + 33 for a, b in itertools.pairwise(marks[1:]))


def test_one_compilation_whatever_the_values(monkeypatch):
    compiled = []
    inner = tiles.trace

    def counting(*arguments, **settings):
        compiled.append(arguments)
        return inner(*arguments, **settings)

    monkeypatch.setattr(tiles, "trace", counting)

    def fresh(learning_rate, momentum):  # a factory that no other test has compiled
        return optax.sgd(learning_rate, momentum)

    grid = {"learning_rate": np.linspace(0.01, 0.1, 7), "momentum": np.linspace(0, 0.9, 5)}
    quiet(bowl, fresh, grid, starts_in(1, 3), max_steps=200, tolerance=1e-3)
    assert len(compiled) == 1
    grid = {"learning_rate": np.linspace(0.02, 0.3, 50), "momentum": np.linspace(0, 0.5, 3)}
    quiet(bowl, fresh, grid, starts_in(1, 90), max_steps=300, tolerance=1e-3)
    assert len(compiled) == 1


ELSEWHERE = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
{prelude}
from tests.test_sweeps import race
ds = race({arguments})
if jax.process_index() == {writer}:
    ds.to_netcdf(sys.argv[1], engine="scipy")
"""


def elsewhere(path, prelude="", arguments="", writer=0, wait=True):
    code = ELSEWHERE.format(prelude=prelude, arguments=arguments, writer=writer)
    command = [sys.executable, "-c", code, str(path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # also where there is a GPU, of which there would be one only
    if wait:
        subprocess.run(command, cwd=ROOT, check=True, timeout=300, env=environment)
        return xr.load_dataset(path, engine="scipy")
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def test_four_devices_give_the_same_bits(whole_on_cpu, tmp_path):
    four = elsewhere(
        tmp_path / "four.nc",
        'jax.config.update("jax_num_cpu_devices", 4); assert len(jax.devices()) == 4',
        "chunk=256",
    )
    assert four.attrs["device"].startswith("4 x ")
    assert_same_bits(four, whole_on_cpu)


@pytest.mark.thorough
def test_two_processes_give_the_same_bits(whole_on_cpu, tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [
        elsewhere(
            tmp_path / f"{rank}.nc",
            f'jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id={rank})',
            f'save_to="{tmp_path / "parts"}"',
            writer=rank,
            wait=False,
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    for rank in (0, 1):
        found = xr.load_dataset(tmp_path / f"{rank}.nc", engine="scipy")
        assert found.attrs["processes"] == 2
        assert_same_bits(found, whole_on_cpu)
    assert len(list((tmp_path / "parts").glob("[0-9]*.npz"))) >= 2


# Resuming ------------------------------------------------------------------------------------------------------------

LONG = """
import sys
import jax
import numpy as np
jax.config.update("jax_enable_x64", True)
from gdlab import FUNCTIONS, OPTIMIZERS, sweep
starts = np.random.default_rng(0).uniform(-4, 4, (60_000, 2))
sweep(FUNCTIONS["ackley"], OPTIMIZERS["adam"], {"learning_rate": [0.01, 0.1, 0.3]}, starts, max_steps=3000,
      tolerance=1e-9, save_to=sys.argv[1], progress=False).to_netcdf(sys.argv[2], engine="scipy")
"""


@pytest.mark.thorough
def test_a_killed_sweep_resumes_and_ends_in_the_same_bits(tmp_path):
    def command(folder, result):
        return [sys.executable, "-c", LONG, str(tmp_path / folder), str(tmp_path / result)]

    process = subprocess.Popen(command("parts", "killed.nc"), cwd=ROOT)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "parts").glob("[0-9]*.npz"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("[0-9]*.npz")}
    assert 3 <= len(kept) < 12
    torn = min(kept)
    torn.write_bytes(torn.read_bytes()[:100])  # as a failing disk would leave it; it is computed again
    subprocess.run(command("parts", "resumed.nc"), cwd=ROOT, check=True, timeout=300)
    for path, when in kept.items():
        assert (path.stat().st_mtime_ns == when) == (path != torn)
    subprocess.run(command("fresh", "whole.nc"), cwd=ROOT, check=True, timeout=300)
    resumed, fresh = (xr.load_dataset(tmp_path / name, engine="scipy") for name in ("resumed.nc", "whole.nc"))
    assert_same_bits(resumed, fresh)
    assert not list(tmp_path.rglob(".*"))


def test_another_sweep_is_refused(tmp_path):
    given = dict(max_steps=20, save_to=tmp_path / "parts")
    starts = starts_in(1, 5)
    first = quiet(bowl, sgd, {"learning_rate": [0.1, 0.2]}, starts, **given)
    assert_same_bits(quiet(bowl, sgd, {"learning_rate": [0.1, 0.2]}, starts, **given), first)
    changes = {
        "function": lambda: quiet(lambda x: bowl(x) + x[0], sgd, {"learning_rate": [0.1, 0.2]}, starts, **given),
        "factory": lambda: quiet(bowl, momentum, {"learning_rate": [0.1, 0.2]}, starts, **given),
        "hyperparameters": lambda: quiet(bowl, sgd, {"learning_rate": [0.1, 0.3]}, starts, **given),
        "starts": lambda: quiet(bowl, sgd, {"learning_rate": [0.1, 0.2]}, starts + 1e-9, **given),
        "settings": lambda: quiet(bowl, sgd, {"learning_rate": [0.1, 0.2]}, starts, **given | {"max_steps": 21}),
        "gradient": lambda: quiet(bowl, sgd, {"learning_rate": [0.1, 0.2]}, starts, **given, gradient=lambda x: x),
    }
    for what, change in changes.items():
        with pytest.raises(ValueError, match=rf"save_to: .* holds another run, which differs in: .*{what}"):
            change()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="save_to: expected a new or empty folder"):
        quiet(bowl, sgd, {"learning_rate": [0.1]}, starts, max_steps=5, save_to=tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder to write to"):
        quiet(bowl, sgd, {"learning_rate": [0.1]}, starts, max_steps=5, save_to=tmp_path / "file")


# The dataset ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, np.float32])
def test_arithmetic_is_in_the_starts_dtype(dtype):
    ds = quiet(bowl, adam, {"learning_rate": [0.1]}, np.asarray(starts_in(1, 3), dtype), max_steps=5)
    assert ds.point.dtype == dtype
    assert ds.value.dtype == dtype
    assert np.isfinite(ds.value.values.astype(np.float64)).all()


def test_16_bits_are_summed_in_32_and_saved(tmp_path):
    # A running sum of 1,000 ones would stop at 256 in bfloat16.
    given = dict(max_steps=1, save_to=tmp_path / "parts")
    for _ in range(2):
        ds = quiet(lambda x: jnp.dot(x, x), sgd, {"learning_rate": 1e-9}, jnp.ones((2, 1000), jnp.bfloat16), **given)
        assert ds.value.dtype == jnp.bfloat16
        np.testing.assert_array_equal(ds.value.astype(np.float64), 1000.0)


def test_netcdf_loses_nothing(tmp_path):
    ds = quiet(
        {"bowl": bowl, "beale": FUNCTIONS["beale"].fn},
        {"sgd": sgd, "adam": adam},
        sample_hyperparameters({"learning_rate": log_range(1e-4, 1e-1)}, 3),
        starts_in(2, 4, dtype=np.float32),
        max_steps=10,
        tolerance=1e-3,
        minimizers={"bowl": [[0.0, 0.0]], "beale": [[3.0, 0.5]]},
    )
    ds.to_netcdf(tmp_path / "ds.nc", engine="scipy")
    back = xr.load_dataset(tmp_path / "ds.nc", engine="scipy")
    xr.testing.assert_identical(back, ds)
    for name in ds.variables:
        assert back[name].dtype == ds[name].dtype or ds[name].dtype.kind in "UO", name
    assert ds.value.dtype == np.float32
    for name in ("point_steps", "compile_seconds", "seconds", "device", "jax", "gdlab", "max_steps", "lanes"):
        assert name in ds.attrs
    assert ds.attrs["lanes"] == 2 * 2 * 3 * 4
    assert ds.attrs["point_steps"] == float(ds.steps.sum())


def test_sampled_points_cover_their_ranges():
    ranges = {"learning_rate": log_range(1e-4, 1.0), "momentum": linear_range(0.5, 0.9)}
    for method in ("random", "sobol", "halton", "latin_hypercube"):
        points = sample_hyperparameters(ranges, 256, method=method, seed=3)
        assert points == sample_hyperparameters(ranges, 256, method=method, seed=3)
        assert points != sample_hyperparameters(ranges, 256, method=method, seed=4)
        rates = np.array([point["learning_rate"] for point in points])
        momenta = np.array([point["momentum"] for point in points])
        assert rates.min() >= 1e-4
        assert rates.max() <= 1
        assert 0.5 <= momenta.min() < momenta.max() <= 0.9
        # Uniform in logarithm: a quarter in each decade, within 4 standard deviations of a binomial count.
        counts = np.histogram(np.log10(rates), bins=4, range=(-4, 0))[0]
        assert np.abs(counts - 64).max() <= 4 * np.sqrt(256 * 0.25 * 0.75)
        if method != "random":
            assert np.abs(counts - 64).max() <= 3  # evenly spread, which independent draws are not
    assert len(sample_hyperparameters(ranges, 5)) == 5


def test_progress_is_shown_and_can_be_silent(capsys):
    sweep(bowl, sgd, {"learning_rate": [0.1]}, starts_in(1, 8), max_steps=5, progress=False)
    assert capsys.readouterr().err == ""
    from tqdm import tqdm

    shown = []
    original = tqdm.update
    try:
        tqdm.update = lambda self, n=1: shown.append((n, self.total)) or original(self, n)
        sweep(bowl, sgd, {"learning_rate": [0.1]}, starts_in(1, 8), max_steps=5)
    finally:
        tqdm.update = original
    assert sum(n for n, _ in shown) == 8
    assert shown[0][1] == 8


# Bad input -----------------------------------------------------------------------------------------------------------


def branching(learning_rate):
    return optax.sgd(learning_rate if learning_rate > 0 else 1.0)


ONE = [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(hyperparameters={"rate": [0.1]}), ValueError, r"expected arguments of sgd \(learning_rate.*got 'rate'"),
        (
            dict(hyperparameters={"learning_rate": []}),
            ValueError,
            "learning_rate.*expected at least one value, got none",
        ),
        (dict(hyperparameters={"learning_rate": [[0.1]]}), ValueError, "expected a number or a 1-D array"),
        (dict(hyperparameters={"learning_rate": ["a"]}), TypeError, "cannot be traced; run one sweep for each"),
        (dict(hyperparameters=[]), ValueError, "expected at least one point, got an empty list"),
        (
            dict(hyperparameters=[{"learning_rate": 0.1}, {"momentum": 1}]),
            ValueError,
            "expected mappings that all have",
        ),
        (dict(hyperparameters=3), TypeError, "hyperparameters: expected a mapping"),
        (dict(hyperparameters={"value": [1.0]}), ValueError, "not reserved for the result, got 'value'"),
        (
            dict(factory=OPTIMIZERS["muon"], hyperparameters={"learning_rate": 0.1, "ns_steps": [3, 5]}),
            TypeError,
            "'ns_steps' of muon shapes the program and cannot be traced; run one sweep for each of its values",
        ),
        (
            dict(factory=OPTIMIZERS["demon_adam"]),
            ValueError,
            "expected also total_steps, which demon_adam requires, got learning_rate",
        ),
        (dict(factory=branching), TypeError, "branching reads the value of an argument in Python"),
        (dict(factory=adam(0.1)), TypeError, "factory: expected a function that returns an optimizer"),
        (dict(fn=3), TypeError, "fn: expected a function"),
        (dict(fn={}), ValueError, "fn: expected at least one entry"),
        (dict(fn=lambda x: x), ValueError, "fn: expected a function that returns a scalar"),
        (dict(starts=[1.0, 1.0]), ValueError, r"starts: expected points of shape \(starts, dim\), got shape \(2,\)"),
        (dict(starts=[[1, 1]]), TypeError, "starts: expected floating-point numbers"),
        (dict(starts=np.zeros((0, 2))), ValueError, "starts: expected points of shape"),
        (dict(starts={"other": ONE}), ValueError, "starts: expected arrays with an axis of starts in front"),
        (dict(chunk=0), ValueError, "chunk: expected an integer of at least 1, got 0"),
        (dict(max_steps=0), ValueError, "max_steps: expected an integer of at least 1"),
        (dict(tolerance=-1.0), ValueError, "tolerance: expected a number in"),
        (dict(record="all"), ValueError, "record: expected one of path, last"),
        (dict(devices=["cpu"]), TypeError, "devices: expected a list of jax devices"),
        (dict(minimizers=[[0.0]]), ValueError, r"minimizers: expected numbers of shape \(any, 2\)"),
        (dict(save_to=3), TypeError, "save_to: expected a path, got 3"),
        (dict(stop_at_target="no"), TypeError, "stop_at_target: expected True or False, got 'no'"),
        (
            dict(fn={"a": bowl}, minimizers={"b": [[0.0, 0.0]]}),
            ValueError,
            r"minimizers: expected points for each of \['a'\], got points for \['b'\]",
        ),
        (dict(stop_at_target=True), ValueError, "stop_at_target: expected minimizers="),
        (dict(record="path", stop_at_target=True), ValueError, 'stop_at_target: expected record="last"'),
        (dict(reduce=lambda d: 3, record="path"), TypeError, "reduce: expected a function that returns a dict"),
        (
            dict(hyperparameters={"learning_rate": xr.DataArray([0.1, 0.2], dims="optimizer")}),
            ValueError,
            "expected 1 values along 'optimizer', got 2",
        ),
        (
            dict(
                factory=momentum,
                hyperparameters={
                    "learning_rate": xr.DataArray([0.1, 0.2], dims="k", coords={"k": [1, 2]}),
                    "momentum": xr.DataArray([0.1, 0.2], dims="k", coords={"k": [2, 1]}),
                },
            ),
            ValueError,
            "expected the same coordinates of 'k' as in the other arguments",
        ),
        (
            dict(reduce=lambda d: {"learning_rate": d.steps}),
            ValueError,
            "not reserved for the result, got 'learning_rate'",
        ),
        (dict(factory=branching, record="path"), TypeError, "branching reads the value of an argument in Python"),
        (
            dict(gradient=lambda x: x[0]),
            ValueError,
            r"gradient: expected a function that returns the start's shape \(2,\)",
        ),
    ],
)
def test_bad_input_raises_an_error_of_one_line(change, error, message):
    given = dict(fn=bowl, factory=sgd, hyperparameters={"learning_rate": [0.1]}, starts=ONE, max_steps=3) | change
    with pytest.raises(error, match=message) as caught:
        quiet(**given)
    assert "\n" not in str(caught.value)


def test_bad_ranges_are_refused():
    with pytest.raises(ValueError, match="high: expected a number in"):
        log_range(1.0, 0.1)
    with pytest.raises(ValueError, match="low: expected a number in"):
        log_range(0.0, 0.1)
    with pytest.raises(TypeError, match="ranges\\['b'\\]: expected log_range"):
        sample_hyperparameters({"b": (0, 1)}, 3)
    with pytest.raises(ValueError, match="method: expected one of"):
        sample_hyperparameters({"b": linear_range(0, 1)}, 3, method="grid")


# One lane as scalars -------------------------------------------------------------------------------------------------


SCALAR = ("ackley", "rosenbrock", "rastrigin", "powell")


@pytest.mark.parametrize("name", some_of(FUNCTIONS, SCALAR))
def test_every_function_becomes_scalar_arithmetic(name):
    function = FUNCTIONS[name]
    x = function.minimizers(function.dim or 4)[0] + np.linspace(0.1, 0.2, function.dim or 4)
    both = jax.value_and_grad(function.fn)
    traced = jax.make_jaxpr(both)(jnp.asarray(x))
    scalar = as_scalars(traced, limit=10_000)
    assert scalar.plain
    value, *slope = jax.jit(scalar.run)(list(x))
    expected_value, expected_slope = both(jnp.asarray(x))
    np.testing.assert_allclose(value, expected_value, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-9, atol=1e-11)


def test_array_operations_as_scalars():
    def fn(a, b, k):
        c = jnp.dot(a, b) + jnp.einsum("ij,kj->ik", a, b.T)[:, ::-1]
        d = jnp.pad(c, ((1, 0), (0, 2)), constant_values=2.0).reshape(-1)
        e = jnp.where(d > 1, d, jnp.arange(d.size) * 0.5)
        f = jax.lax.cond(k > 0, lambda v: v * 2, lambda v: v - 1, e)
        g = jax.lax.while_loop(lambda s: s[0].sum() < 100, lambda s: (s[0] * 2 + 1, s[1] + 1), (f, 0))
        return jnp.max(g[0]), g[1], jnp.sort(e), jnp.concatenate([a[0], jnp.flip(b[:, 1])]), jnp.prod(a, axis=1)

    a, b = jnp.array([[1.0, 2.0, -1.0], [0.5, 3.0, 1.5]]), jnp.array([[1.0, -2.0], [0.0, 1.0], [2.0, 0.3]])
    for k in (0, 1):
        program = as_scalars(jax.make_jaxpr(fn)(a, b, k), limit=10_000)
        assert not program.plain  # the sort stays an operation on arrays
        found = jax.jit(program.run)([*a.reshape(-1), *b.reshape(-1), jnp.asarray(k)])
        expected = np.concatenate([np.ravel(part) for part in fn(a, b, k)])
        np.testing.assert_allclose(np.array(found, float), expected, rtol=1e-12)


def test_programs_too_large_for_scalars_raise_and_large_points_still_work():
    with pytest.raises(TooLargeError):
        as_scalars(jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(jnp.zeros(100)), limit=150)
    ds = quiet(lambda x: jnp.sum(x**2) / 2, sgd, {"learning_rate": [0.5, 0.25]}, np.ones((3, 5000)), max_steps=2)
    np.testing.assert_array_equal(ds.point[:, :, 7], [[0.25] * 3, [0.5625] * 3])


@pytest.mark.parametrize("name", ["adam", "adamw", "qhadam", "prodigy", "soap", "muon", "aggmo", "demon_sgdm"])
def test_common_steps_are_scalar_arithmetic(name):
    build = OPTIMIZERS[name]
    build = functools.partial(build, total_steps=9) if name == "demon_sgdm" else build
    spec = LaneSpec((FUNCTIONS["ackley"].fn,), None, None, build, ("learning_rate",), 9, None, None, False)
    assert program_for(trace_lane(spec, 2, jnp.float32), [True], 64, None, "cpu").plain


@pytest.mark.parametrize(
    ("chunk", "lengths"), [(2048, (1024, 2048)), pytest.param("auto", (1024, 1024), marks=pytest.mark.thorough)]
)
def test_the_program_for_a_gpu_takes_the_same_steps(chunk, lengths, monkeypatch):
    # Its loop takes several steps in a pass, and its calls have one tile or a few long ones. Here a CPU runs it.
    def for_a_gpu(lane, differing, lanes, chunk, backend):
        program = program_for(lane, differing, 1000, chunk, "gpu")
        assert (program.tile, program.chunk) == lengths
        assert program.unrolled == 4
        return program

    def descents():
        grid = {"learning_rate": [1e-3, 0.01, 0.014]}
        starts = starts_in(4, 500)
        return quiet(FUNCTIONS["himmelblau"], momentum, grid, starts, max_steps=127, tolerance=1e-3, chunk=chunk)

    expected = descents()
    monkeypatch.setattr("gdlab.sweeps.driver.program_for", for_a_gpu)
    found = descents()
    assert 0.1 < float(expected.converged.mean()) < 0.9
    np.testing.assert_array_equal(found.steps, expected.steps)
    np.testing.assert_allclose(found.point, expected.point, rtol=1e-8)


def test_the_size_of_a_call_on_a_gpu_follows_from_the_number_of_lanes():
    def sizes(lanes, chunk=None):
        spec = LaneSpec((FUNCTIONS["ackley"].fn,), None, None, sgd, ("learning_rate",), 9, None, None, False)
        program = program_for(trace_lane(spec, 2, jnp.float32), [False], lanes, chunk, "gpu")
        return program.tile, program.chunk

    expected = {1: 1024, 5000: 8192, 8192: 8192, 500_000: 1 << 18, 10**8: 1 << 18}
    assert {lanes: sizes(lanes) for lanes in expected} == {lanes: (size, size) for lanes, size in expected.items()}
    assert sizes(10**6, chunk=300) == (512, 512)


def test_marked_functions_are_stored_calls_only_on_cpus_without_multi_output_fusion(monkeypatch):
    # XLA would copy them into each user of their results; on a GPU each would be a kernel of its own.
    def calls(backend, fused=False):
        monkeypatch.setattr(fusion, "in_force", lambda: fused)
        tiles.PROGRAMS.clear()
        spec = LaneSpec((FUNCTIONS["ackley"].fn,), None, None, sgd, ("learning_rate",), 9, None, None, False)
        program = program_for(trace_lane(spec, 2, jnp.float32), [True], 64, None, backend)
        return str(jax.make_jaxpr(program.advance)(*program.arguments)).count("name=body")

    # One call for the value, one for its slope, and within that one for the ripple of each coordinate.
    assert calls("cpu") >= 3
    assert calls("cpu", fused=True) == 0
    assert calls("gpu") == 0
    for function in (numerics.sinpi, numerics.sinpi_squared, numerics.expm1):
        traced = jax.make_jaxpr(function)(jnp.float32(0.3))
        kept = as_scalars(traced, store=True, limit=100)
        assert "name=body" in str(jax.make_jaxpr(lambda x, run=kept.run: run([x]))(jnp.float32(0.3)))
