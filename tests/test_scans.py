import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from gdlab import linear_range, log_range, sample_hyperparameters, scan
from gdlab.hyperparameters.axes import Form, lay_out
from gdlab.scans import plans, programs

ROOT = Path(__file__).parents[1]
X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = X @ np.array([1.0, -1.0, 0.5, 0.0], np.float32)


def regress(key, learning_rate, momentum=0.5, steps=20):
    """Fit a line by gradient descent with momentum from a random start: a user's own training run."""

    def step(carry, _):
        w, m = carry
        loss, g = jax.value_and_grad(lambda w: jnp.mean((X @ w - Y) ** 2))(w)
        m = momentum * m + g
        return (w - learning_rate * m, m), loss

    begun = jax.random.normal(key, (4,)), jnp.zeros(4)
    (w, _), losses = jax.lax.scan(step, begun, length=steps)
    return {"loss": losses[-1], "w": w}


GRID = {"learning_rate": np.array([1e-3, 1e-2, 0.1]), "momentum": np.array([0.0, 0.9])}


def assert_solo(found, tolerance):
    """Every lane is the call that a user would make alone."""
    solo = jax.jit(regress)
    for rate in found.learning_rate.values:
        for momentum in found.momentum.values:
            for seed in found.seed.values:
                one = solo(jax.random.key(seed), learning_rate=rate, momentum=momentum)
                lane = found.sel(learning_rate=rate, momentum=momentum, seed=seed)
                np.testing.assert_allclose(lane.loss, one["loss"], rtol=tolerance)
                np.testing.assert_allclose(lane.w, one["w"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("chunk", "dtype"), [("auto", np.float64), (5, np.float32)])
def test_every_lane_is_the_solo_run(chunk, dtype):
    with jax.enable_x64(dtype is np.float64):
        found = scan(regress, GRID, seeds=[3, 7], chunk=chunk, progress=False)
        assert dict(found.sizes) == {"learning_rate": 3, "momentum": 2, "seed": 2, "w_0": 4}
        assert found.loss.dims == ("learning_rate", "momentum", "seed")
        assert found.w.dtype == dtype
        assert_solo(found, {np.float32: 1e-6, np.float64: 1e-12}[dtype])


def test_lanes_one_after_another_have_the_bits_of_jit():
    found = scan(logistic, {"rate": [0.5, 2.5, 3.0], "start": 0.3}, seeds=2, chunk=1, progress=False)
    run = jax.jit(logistic)
    expected = [[run(jax.random.key(seed), rate, 0.3)["x"] for seed in (0, 1)] for rate in (0.5, 2.5, 3.0)]
    np.testing.assert_array_equal(found.x, expected)


@pytest.fixture
def eager(monkeypatch):
    """Several lanes per call are tried at once, whatever compiling takes, and no choice is remembered."""
    monkeypatch.setattr(plans, "CHOICES", {})
    monkeypatch.setattr(
        plans.Runner, "_is_worth_trying", lambda self, left, one: not (self.choice and self.choice.width)
    )
    monkeypatch.setattr(plans, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(plans, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(plans, "CACHE", 0)


def logistic(key, rate, start):
    """The hundredth value of the logistic map, which is never 0."""
    return {"x": jax.lax.fori_loop(0, 100, lambda _, x: rate * x * (1 - x), start) + jax.random.uniform(key)}


MANY = {"rate": np.linspace(0.5, 3.0, 40), "start": linear_range(0.1, 0.9, 5)}


@pytest.mark.parametrize(("faster", "expected"), [("several", 16), pytest.param("one", 1, marks=pytest.mark.slow)])
def test_the_faster_way_is_taken_and_remembered(eager, monkeypatch, faster, expected):
    timed = plans.Runner._timed
    seconds = {"several": (2.0, 1.0), "one": (1.0, 2.0)}[faster]

    def pretend(self, size, width, device, most, limit=np.inf):
        found = timed(self, size, width, device, most, limit)
        return found and seconds[width is not None]

    scan(logistic, MANY, chunk=16, progress=False)  # compiled before, or else the other thread would do all lanes
    monkeypatch.setattr(plans.Runner, "_timed", pretend)
    found = scan(logistic, MANY, seeds=2, progress=False)
    assert (found.x != 0).all()
    (plan,) = json.loads(found.attrs["plan"])
    assert plan["lanes_per_call"] == expected
    assert plan["several_are_faster_by"] == seconds[0] / seconds[1]
    monkeypatch.setattr(plans.Runner, "_try", lambda self: pytest.fail("timed again"))
    again = scan(logistic, MANY, seeds=2, progress=False)
    np.testing.assert_allclose(again.x, found.x, rtol=1e-5)
    assert json.loads(again.attrs["plan"])[0]["lanes_per_call"] == expected


def test_the_rounds_of_a_choice():
    choice = plans.Choice(one=1.0, width=16, several=0.5)
    assert choice.best(1024, 2) == 16
    assert choice.best(17, 2) == 16  # 17 s one after another, 16 s in two calls side by side
    assert choice.best(16, 2) is None  # one thread would do nothing
    assert plans.Choice(one=1.0).best(1024, 2) is None


def test_many_small_lanes_share_a_call():
    class Small:
        def memory_analysis(self):
            return SimpleNamespace(temp_size_in_bytes=1000, output_size_in_bytes=24)

    cpu = jax.local_devices(backend="cpu")[0]
    assert programs.fitting(Small(), cpu, 2) == 16
    assert programs.fitting(Small(), cpu, 2, cache=1 << 16) == 64
    assert programs.fitting(Small(), cpu, 2, cache=1 << 30) == 1024


def test_lanes_run_one_after_another_where_vmap_fails(eager):
    def fn(key, rate):
        return {"x": jax.pure_callback(lambda x: 2 * np.asarray(x), rate, rate)}

    rates = {"rate": np.arange(1.0, 100.0)}
    message = "chunk: expected a function that jax.vmap can map, got NotImplementedError: vmap is"
    with pytest.raises(ValueError, match=message):
        scan(fn, rates, chunk=4, progress=False)
    found = scan(fn, rates, progress=False)
    np.testing.assert_array_equal(found.x.isel(seed=0), 2 * np.arange(1.0, 100.0))
    assert json.loads(found.attrs["plan"])[0]["note"].startswith("vmap failed: NotImplementedError: vmap is")


def test_static_values_are_dimensions_and_compile_once_each():
    @chex.assert_max_traces(n=4)
    def fn(key, rate, width, act):
        return {"size": act(rate * jnp.ones(width)).sum() + 0 * jax.random.uniform(key)}

    for _ in range(2):
        static = {"width": [2, 3], "act": [jnp.sin, jnp.tanh]}
        found = scan(fn, {"rate": [0.1, 0.5, 2]}, seeds=[4, 5], static=static, progress=False)
    assert dict(found.sizes) == {"width": 2, "act": 2, "rate": 3, "seed": 2}
    assert found.act.values.tolist() == ["sin", "tanh"]
    for act in (np.sin, np.tanh):
        for width in (2, 3):
            expected = width * act(np.array([0.1, 0.5, 2]))
            for seed in (4, 5):
                lane = found["size"].sel(width=width, act=act.__name__, seed=seed)
                np.testing.assert_allclose(lane, expected, rtol=1e-6)
    alone = scan(fn, {"rate": 0.5}, static={"width": 3, "act": [jnp.sin]}, progress=False)
    assert dict(alone.sizes) == {"act": 1, "seed": 1}
    assert alone.coords["width"].item() == 3


def test_all_threads_share_one_compilation(eager, monkeypatch):
    compiled = []
    compile_with_first = programs.compile_with_first
    monkeypatch.setattr(
        programs, "compile_with_first", lambda *given: compiled.append(given) or compile_with_first(*given)
    )

    def fn(key, rate):
        return {"x": rate + 17}

    for _ in range(2):
        found = scan(fn, {"rate": np.arange(50.0)}, seeds=2, chunk=1, progress=False)
        np.testing.assert_array_equal(found.x, np.arange(17.0, 67.0)[:, None].repeat(2, axis=1))
    assert len(compiled) == 1
    scan(fn, {"rate": np.arange(50.0)}, seeds=2, chunk=8, progress=False)
    assert len(compiled) == 2


def test_spaces_of_every_form():
    def fn(key, rate, count=3):
        assert (rate.dtype, jnp.result_type(count)) in ((np.float64, np.int32), (np.float64, np.int64))
        return {"product": rate * count, "rows": jnp.full((2, 3), rate)}

    found = scan(fn, {"rate": log_range(1e-2, 1.0, 3), "count": [2, 4]}, progress=False)
    np.testing.assert_allclose(found["product"].isel(seed=0), np.outer([0.01, 0.1, 1.0], [2, 4]), rtol=1e-12)
    assert found.rows.dims == ("rate", "count", "seed", "rows_0", "rows_1")
    assert found["count"].dtype.kind == "i"
    assert lay_out({"rate": linear_range(0, 1, 1)}, {}, Form(()), 1).numbers["rate"].values.tolist() == [0.5]
    points = sample_hyperparameters({"rate": log_range(0.1, 1.0)}, 5)
    by_trial = scan(fn, points, progress=False)
    np.testing.assert_allclose(by_trial["product"].isel(seed=0), [3 * point["rate"] for point in points])
    assert by_trial["product"].dims == ("trial", "seed")
    table = xr.DataArray([[0.1, 0.2], [0.3, 0.4]], dims=("model", "try"), coords={"model": ["a", "b"]})
    labelled = scan(fn, {"rate": table}, progress=False)
    assert labelled["product"].sel(model="b").isel(seed=0, **{"try": 1}) == pytest.approx(1.2)
    assert scan(lambda key: {"draw": jax.random.uniform(key)}, {}, seeds=3, progress=False).draw.shape == (3,)


def test_what_a_function_reads_has_the_value_of_the_moment():
    factor = [2.0]

    def fn(key, rate):
        return {"x": factor[0] * rate}

    before = scan(fn, {"rate": [1.0, 2.0]}, progress=False)
    factor[0] = 3.0
    after = scan(fn, {"rate": [1.0, 2.0]}, progress=False)
    np.testing.assert_array_equal(after.x, 1.5 * before.x)


def test_large_constants_are_shared_between_programs():
    data = jnp.arange(20_000.0)

    def fn(key, place):
        return {"x": data[place]}

    places = [3, 19_999, 7]
    for chunk in (1, 2):
        found = scan(fn, {"place": places}, chunk=chunk, progress=False)
        np.testing.assert_array_equal(found.x.isel(seed=0), places)


# Resuming, devices and processes --------------------------------------------------------------------------------------


def assert_same_bits(found, expected):
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize("chunk", ["auto", pytest.param(16, marks=pytest.mark.slow)])
def test_finished_lanes_are_not_computed_again(eager, tmp_path, monkeypatch, chunk):
    settings = dict(seeds=2, chunk=chunk, save_to=tmp_path / "scan", progress=False)
    whole = scan(logistic, MANY, **settings)
    blocks = sorted((tmp_path / "scan").glob("[0-9]*.npz"))
    assert len(blocks) > 8
    for block in blocks[1::3]:
        block.unlink()
    kept = {block: block.stat().st_mtime_ns for block in blocks if block.exists()}
    monkeypatch.setattr(plans, "CHOICES", {})
    assert_same_bits(scan(logistic, MANY, **settings), whole)
    assert all(block.stat().st_mtime_ns == when for block, when in kept.items())
    monkeypatch.setattr("gdlab.scans.programs.LanePrograms.call", lambda *_: pytest.fail("nothing is left to do"))
    assert_same_bits(scan(logistic, MANY, **settings), whole)
    for changed, differs in (({"seeds": 3}, "seeds"), ({"chunk": 3}, "chunk")):
        with pytest.raises(ValueError, match=f"another run, which differs in: {differs}"):
            scan(logistic, MANY, **(settings | changed))
    with pytest.raises(ValueError, match="differs in: fn"):
        scan(lambda key, rate, start: {"x": rate * start}, MANY, **settings)
    with pytest.raises(ValueError, match="save_to: expected a function without Python callbacks"):
        scan(call_back, {"rate": 1.0}, save_to=tmp_path / "other", progress=False)


def call_back(key, rate):
    """Ask Python for the result."""
    return {"x": jax.pure_callback(lambda x: 2 * np.asarray(x), rate, rate)}


ELSEWHERE = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
{prelude}
from gdlab import scan
from tests.test_scans import MANY, long_logistic
found = scan(long_logistic, MANY, seeds=40, {arguments}progress=False)
found.to_netcdf(sys.argv[1], engine="scipy")
"""


def long_logistic(key, rate, start):
    """The ten-thousandth value of the logistic map."""
    found = jax.lax.fori_loop(0, 10_000, lambda _, x: rate * x * (1 - x), start)
    return {"x": found + jax.random.uniform(key), "pair": jnp.stack([found, rate])}


def elsewhere(path, prelude="", arguments=""):
    code = ELSEWHERE.format(prelude=prelude, arguments=arguments)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )


def result(path, process):
    assert process.wait(timeout=300) == 0
    return xr.load_dataset(path, engine="scipy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.nc"
    return result(path, elsewhere(path, arguments="chunk=8, "))


@pytest.mark.slow
def test_four_devices_give_the_same_bits(whole, tmp_path):
    prelude = 'jax.config.update("jax_num_cpu_devices", 4); assert len(jax.devices()) == 4'
    four = result(tmp_path / "four.nc", elsewhere(tmp_path / "four.nc", prelude, "chunk=8, "))
    assert four.attrs["device"].startswith("4 x ")
    assert_same_bits(four, whole)


@pytest.mark.slow
def test_two_processes_give_the_same_bits(whole, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = f'chunk=8, save_to="{tmp_path / "parts"}", '
    running = {}
    for rank in (0, 1):
        prelude = f'jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id={rank})'
        running[rank] = elsewhere(tmp_path / f"{rank}.nc", prelude, arguments)
    for rank, process in running.items():
        found = result(tmp_path / f"{rank}.nc", process)
        assert found.attrs["processes"] == 2
        assert_same_bits(found, whole)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", ["auto", 8])
def test_a_killed_scan_resumes_and_ends_in_the_same_bits(whole, tmp_path, chunk):
    arguments = f"chunk={chunk!r}, save_to={str(tmp_path / 'parts')!r}, "
    process = elsewhere(tmp_path / "killed.nc", arguments=arguments)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "parts").glob("[0-9]*.npz"))) < 4 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("[0-9]*.npz")}
    torn = min(kept)
    torn.write_bytes(torn.read_bytes()[:100])  # as a failing disk would leave it; it is computed again
    resumed = result(tmp_path / "1.nc", elsewhere(tmp_path / "1.nc", arguments=arguments))
    for path, when in kept.items():
        assert (path.stat().st_mtime_ns == when) == (path != torn)
    assert_same_bits(result(tmp_path / "2.nc", elsewhere(tmp_path / "2.nc", arguments=arguments)), resumed)
    if chunk == "auto":
        np.testing.assert_allclose(resumed.x, whole.x, rtol=1e-6)
    else:
        assert_same_bits(resumed, whole)
    assert not list(tmp_path.rglob(".*"))


# Bad input ------------------------------------------------------------------------------------------------------------


def line_of(fn, text):
    """The file and the line of a function in which a text stands."""
    lines, first = inspect.getsourcelines(fn)
    return f"{__file__}:{first + next(place for place, line in enumerate(lines) if text in line)}"


def branches(key, rate, start):
    x = 2 * rate
    return {"x": start if x > 0 else x}


def shapes(key, rate, start):
    return {"x": jnp.zeros(start) + rate}


def counts(key, rate, start):
    return {"x": sum(rate for _ in range(start))}


def leaves(key, rate, start):
    return {"x": np.asarray(jnp.sin(rate)) * start}


def branches_within(key, rate, start):
    def step(x, _):
        return (x * rate if x > 0 else x), x

    return {"x": jax.lax.scan(step, start, length=3)[1]}


def flips(key, rate, start):
    return {"x": rate if jax.random.uniform(key) > 0.5 else start}


def fails(key, rate, start):
    raise RuntimeError("no\nway")


@pytest.mark.parametrize(
    ("fn", "text", "said"),
    [
        (branches, "x > 0", r"reads the value of 'rate' in Python, .*static=\{'rate': \[...\]\}"),
        (shapes, "zeros", r"reads the value of 'start' in Python, .*static=\{'start': \[...\]\}"),
        (counts, "range", r"reads the value of 'start' in Python, .*static=\{'start': \[...\]\}"),
        (leaves, "asarray", r"reads the value of 'rate' in Python"),
        (branches_within, "x > 0", r"reads one of the values of 'rate', 'start' in Python"),
        (flips, "0.5", r"reads a value that depends on the random key in Python"),
        (fails, "raise", r"got RuntimeError: no, at"),
    ],
)
def test_the_error_of_tracing_names_the_argument_and_the_line(fn, text, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        scan(fn, {"rate": [0.1, 0.2], "start": [1, 2]}, progress=False)
    assert str(caught.value).startswith("fn: expected a function that JAX can trace, got ")
    assert f", at {line_of(fn, text)}" in str(caught.value)
    assert "\n" not in str(caught.value)


kept = []


def keeps(key, rate, start):
    def step(x, _):
        kept.append(x)
        return x * rate, x

    return {"x": jax.lax.scan(step, start, length=3)[1]}


def uses_what_was_kept(key, rate, start):
    return {"x": kept[-1] + rate * start}


def test_side_effects_are_refused():
    for fn in (keeps, uses_what_was_kept):
        with pytest.raises(TypeError, match="fn: expected a function without side effects, got one that") as caught:
            scan(fn, {"rate": [0.1, 0.2], "start": 1.0}, progress=False)
        assert __file__ in str(caught.value)
    kept.clear()


def of_width(key, rate, width):
    return {"x": rate * jnp.ones(width)}


@pytest.mark.parametrize(
    ("fn", "space", "settings", "said"),
    [
        (logistic, {"rate": [], "start": 1}, {}, r"space\['rate'\]: expected at least one value, got none"),
        (logistic, {"rate": log_range(1, 2), "start": 1}, {}, r"such as log_range\(1, 2, count=16\), got log_range"),
        (logistic, {"rate": 1}, {}, "space: expected also start, which logistic requires, got rate"),
        (logistic, {"rte": 1}, {}, r"space: expected arguments of logistic \(rate, start\), got 'rte'"),
        (logistic, {"key": 1}, {}, "got 'key'; its first argument, key, is the random key"),
        (logistic, {"rate": 1, "start": 1}, {"static": {"rate": 1}}, "static: expected other arguments than those of"),
        (logistic, {"rate": ["a"], "start": 1}, {}, r"which cannot be traced; pass static=\{'rate': \['a'\]\}"),
        (logistic, {"rate": 2**40, "start": 1}, {}, "expected integers that int32 can hold, got 1099511627776"),
        (of_width, {"rate": 1}, {"static": {"width": []}}, r"static\['width'\]: expected at least one value"),
        (of_width, {"rate": 1}, {"static": {"width": [2, 2]}}, "different names, got 2 more than once"),
        (of_width, {"rate": 1}, {"static": {"width": [2, 3]}}, r"got 'x' of shape \(2,\) .* for width=2 and of shape"),
        (lambda key, x: {"x": x}, {"x": 1}, {}, "results that are not named like a dimension, got 'x'"),
        (lambda key, x: {"seed": x}, {"x": 1}, {}, "results that are not named like a dimension, got 'seed'"),
        (lambda key, x: [x], {"x": 1}, {}, "a function that returns a dict of arrays, got a list"),
        (lambda key, x: {"k": key}, {"x": 1}, {}, "expected numbers as result 'k', got random keys"),
    ],
)
def test_bad_input_raises_an_error_of_one_line(fn, space, settings, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        scan(fn, space, progress=False, **settings)
    assert "\n" not in str(caught.value)


def test_a_range_through_0_has_no_logarithm():
    with pytest.raises(ValueError, match=r"low: expected a number in \(0, inf\), got 0"):
        log_range(0, 1, 4)
