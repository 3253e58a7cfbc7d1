import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from gdlab import optimizers
from gdlab.compute.devices import memory
from gdlab.hyperparameters import log_range, sample_hyperparameters
from gdlab.tasks import Task
from gdlab.training import compilation, train, train_many
from gdlab.training.lanes import Lanes, Recipe, compile_lanes, seconds_per_lane, trace_lanes, widest


def small_task(**fields):
    """Make a least-squares task with random noise on every batch, so that keys matter; it compiles in a second."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype(np.float32)
    y = x @ np.array([1.0, -1.0, 0.5, 0.0], np.float32) + 0.1

    def losses(params, batch):
        return (batch[0] @ params["w"] + params["b"] - batch[1]) ** 2

    def init(key):
        return {"w": jax.random.normal(key, (4,), jnp.float32), "b": jnp.zeros((), jnp.float32)}, {}

    def loss(params, state, batch, key):
        noisy = batch[0] + 0.1 * jax.random.normal(key, batch[0].shape, jnp.float32), batch[1]
        found = losses(params, noisy)
        return found.mean(), (state, {"loss": found})

    settings = dict(
        train=(x[:20], y[:20]),
        test=(x[20:], y[20:]),
        batch_size=4,
        evaluation_batch=4,
        description={"made": "up"},
    )
    return Task(
        name="small",
        init=init,
        loss=loss,
        evaluate=lambda params, state, batch, key: (state, {"loss": losses(params, batch)}),
        **(settings | fields),
    )


def test_the_options_of_each_program_are_recorded(monkeypatch):
    choices = [{"xla_no_such_option": True}, {"xla_cpu_enable_fast_math": False}]
    monkeypatch.setattr("gdlab.training.compilation.repeatable", lambda device: choices)
    ds = train_many(small_task(), optimizers.sgd, {}, seeds=1, epochs=1, strategy="map", progress=False)
    assert list(json.loads(ds.attrs["compiler_options"]).values()) == choices[1:]


@pytest.fixture(scope="module")
def task():
    return small_task()


CASES = ((1e-2, 0.9, 5), (0.1, 0.0, 3), (1e30, 0.9, 3))


@pytest.fixture(scope="module")
def alone(task):
    """Runs that some of the lanes must equal."""
    return [
        train(task, optimizers.momentum(rate, momentum=momentum), epochs=3, seed=seed, progress=False)
        for rate, momentum, seed in CASES
    ]


@pytest.mark.parametrize("strategy", ["vmap", pytest.param("map", marks=pytest.mark.slow)])
def test_every_lane_is_the_run_that_train_makes(task, alone, strategy):
    grid = {"learning_rate": [1e-2, 0.1, 1e30], "momentum": [0.0, 0.9]}
    found = train_many(
        task, optimizers.momentum, grid, seeds=[3, 5], epochs=3, strategy=strategy, chunk=5, progress=False
    )
    assert dict(found.sizes) == {"learning_rate": 3, "momentum": 2, "seed": 2, "epoch": 3}
    assert set(found.data_vars) == {"train_loss", "test_loss", "gradient_norm", "failed_at"}
    for (rate, momentum, seed), run in zip(CASES, alone, strict=True):
        lane = found.sel(learning_rate=rate, momentum=momentum, seed=seed)
        assert int(lane.failed_at) == run.failed_at
        epochs = len(run.history["test_loss"])
        for name in ("train_loss", "test_loss", "gradient_norm"):
            np.testing.assert_allclose(lane[name].values[:epochs], run.history[name], rtol=2e-5, err_msg=name)
            assert np.isnan(lane[name].values[epochs:]).all()
    assert (found.failed_at.sel(learning_rate=1e30) > 0).all()
    assert (found.failed_at.sel(learning_rate=[1e-2, 0.1]) == 0).all()
    assert json.loads(found.attrs["plan"])["strategy"] == strategy
    assert json.loads(found.attrs["description"]) == {"made": "up"}


def test_the_faster_strategy_is_chosen(task, monkeypatch):
    for taken, expected in (((1.0, 2.0), "map"), ((2.0, 1.0), "vmap")):
        monkeypatch.setattr("gdlab.training.many.seconds_per_lane", lambda *_, taken=taken: list(taken))
        found = train_many(task, optimizers.sgd, {"learning_rate": [0.1, 0.2]}, seeds=4, epochs=1, progress=False)
        plan = json.loads(found.attrs["plan"])
        assert plan["strategy"] == expected
        assert plan["vmap_is_faster_by"] == taken[0] / taken[1]


def test_lanes_are_trained_one_after_another_where_vmap_fails(task, monkeypatch):
    def compile_some(traced, width):
        if width is not None:
            raise jax.errors.JaxRuntimeError("NOT_FOUND: no algorithm worked\nand more")
        return compile_lanes(traced, width)

    monkeypatch.setattr("gdlab.training.many.compile_lanes", compile_some)
    settings = dict(seeds=1, epochs=1, progress=False)
    found = train_many(task, optimizers.sgd, {"learning_rate": [0.1, 0.2]}, **settings)
    plan = json.loads(found.attrs["plan"])
    assert (plan["strategy"], plan["width"]) == ("map", None)
    assert plan["compared"].startswith("vmap failed: ")
    assert plan["compared"].endswith("NOT_FOUND: no algorithm worked")
    assert np.isfinite(found.test_loss).all()
    with pytest.raises(jax.errors.JaxRuntimeError):  # asked for by name, it is not replaced
        train_many(task, optimizers.sgd, {"learning_rate": [0.1, 0.2]}, strategy="vmap", chunk=2, **settings)


@pytest.mark.slow
def test_several_optimizers_and_points_of_a_search(task):
    factories = {"sgd": optimizers.sgd, "adam": optimizers.adam}
    points = sample_hyperparameters({"learning_rate": log_range(1e-3, 1.0)}, 3)
    found = train_many(task, factories, points, seeds=2, epochs=1, strategy="vmap", progress=False)
    assert dict(found.sizes) == {"optimizer": 2, "trial": 3, "seed": 2, "epoch": 1}
    np.testing.assert_array_equal(found.learning_rate, [point["learning_rate"] for point in points])
    rates = xr.DataArray([[0.1, 0.2], [0.01, 0.02]], dims=("optimizer", "rate"))
    found = train_many(task, factories, {"learning_rate": rates}, seeds=[1], epochs=1, strategy="map", progress=False)
    alone = train(task, optimizers.adam(0.02), epochs=1, seed=1, progress=False)
    np.testing.assert_allclose(
        found.test_loss.sel(optimizer="adam").isel(rate=1).values, [alone.history["test_loss"]], rtol=1e-5
    )


def test_held_out_examples_are_evaluated_too():
    task = small_task()
    held = dataclasses.replace(task, valid=jax.tree.map(lambda array: array[:3], task.test))
    found = train_many(held, optimizers.sgd, {"learning_rate": 0.1}, seeds=1, epochs=1, progress=False)
    assert "valid_loss" in found
    assert dict(found.sizes) == {"seed": 1, "epoch": 1}


def test_a_sweep_resumes_where_it_was_killed(task, tmp_path, monkeypatch):
    calls = dict(seeds=5, epochs=2, progress=False, strategy="vmap", chunk=3, save_to=tmp_path / "sweep")
    grid = {"learning_rate": np.geomspace(1e-3, 1, 20)}
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / ".sweep-0123.json").write_text("{")  # left by a process killed at its first file
    whole = train_many(task, optimizers.adam, grid, **calls)
    blocks = sorted((tmp_path / "sweep").glob("*.npz"))
    assert len(blocks) > 3
    blocks[0].unlink()
    blocks[2].write_bytes(blocks[2].read_bytes()[:100])
    kept = blocks[1].stat().st_mtime_ns
    again = train_many(task, optimizers.adam, grid, **calls)
    xr.testing.assert_identical(whole.drop_attrs(), again.drop_attrs())
    assert blocks[1].stat().st_mtime_ns == kept
    with monkeypatch.context() as patch:  # nothing is left: nothing is compiled
        patch.setattr("gdlab.training.many.compile_lanes", lambda *_: pytest.fail("nothing is left to do"))
        patch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)  # nor do cores matter
        done = train_many(task, optimizers.adam, grid, **calls)
    xr.testing.assert_identical(whole.drop_attrs(), done.drop_attrs())
    for changed, differs in (
        ({"epochs": 3}, "epochs"),
        ({"seeds": 4}, "seeds"),
        ({"chunk": 4}, "strategy"),
    ):
        with pytest.raises(ValueError, match=f"another run, which differs in: {differs}"):
            train_many(task, optimizers.adam, grid, **(calls | changed))
    with pytest.raises(ValueError, match="differs in: factory"):
        train_many(task, lambda learning_rate: optimizers.adam(learning_rate, b1=0.8), grid, **calls)


def test_a_second_call_traces_and_compiles_nothing(task, monkeypatch):
    rates = {"learning_rate": [0.1, 0.2]}
    settings = dict(seeds=1, epochs=1, strategy="map", progress=False)
    first = train_many(task, optimizers.sgd, rates, **settings)
    kept = len(compilation.COMPILED)
    monkeypatch.setattr("gdlab.training.lanes.trace_both", lambda *_: pytest.fail("traced again"))
    xr.testing.assert_identical(train_many(task, optimizers.sgd, rates, **settings).drop_attrs(), first.drop_attrs())
    assert len(compilation.COMPILED) == kept


def test_lanes_fit_into_memory(task, monkeypatch):
    device = jax.devices()[0]
    recipe = Recipe(task.functions, optimizers.sgd, ("learning_rate",), task.data)
    one = compile_lanes(trace_lanes(recipe, None, [device]), None)
    assert memory(device) > 1e8
    assert widest(one, device, 2) == 16  # the maximum on a CPU, for such a small lane
    monkeypatch.setattr("gdlab.scans.programs.memory", lambda _: 1.0)
    assert widest(one, device, 2) == 1


def test_programs_are_compared_over_the_same_steps_of_a_lane():
    looked = []

    def pretend(width, seconds):
        def epoch(values, seed, learner, data, limit):
            looked.append((width, int(limit)))
            time.sleep(seconds * int(limit))
            return learner, {}

        device = jax.devices()[0]
        return Lanes({device: lambda values, seed: jnp.zeros(())}, {device: epoch}, width)

    programs = [pretend(None, 2e-3), pretend(4, 4e-3)]
    device = jax.devices()[0]
    arguments = [np.zeros(4, np.float32)], np.zeros(4, np.uint32)
    alone, mapped = seconds_per_lane(programs, {device: None}, *arguments, [device], 1000)
    assert 1.5 < alone / mapped < 2.5  # 2 ms per lane and step, against 4 ms for four lanes
    limits = {limit for width, limit in looked if width == 4}
    assert len(limits) == 1
    assert limits <= {limit for width, limit in looked if width is None}


DEVICES = """
import sys
import numpy as np
import jax
assert len(jax.devices()) == 2
from tests.test_train_many import small_task
from gdlab import optimizers
from gdlab.training import train_many
found = train_many(small_task(), optimizers.sgd, {"learning_rate": np.geomspace(1e-3, 0.1, 7)}, seeds=1, epochs=2,
              strategy="vmap", chunk=2, progress=False)
np.save(sys.argv[1], found.test_loss.values)
"""


@pytest.mark.slow
def test_several_devices_share_the_lanes(task, tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    subprocess.run([sys.executable, "-c", DEVICES, tmp_path / "found.npy"], env=environment, check=True, timeout=300)
    rates = {"learning_rate": np.geomspace(1e-3, 0.1, 7)}
    alone = train_many(task, optimizers.sgd, rates, seeds=1, epochs=2, strategy="map", progress=False)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), alone.test_loss.values, rtol=2e-5)


PROCESSES = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
address, rank, folder, out = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(rank))
import numpy as np
from tests.test_train_many import small_task
from gdlab import optimizers
from gdlab.training import train_many
found = train_many(small_task(), optimizers.sgd, {"learning_rate": np.geomspace(1e-3, 0.1, 7)}, seeds=1, epochs=2,
              strategy="map", progress=False, save_to=folder)
np.save(out, found.test_loss.values)
"""


@pytest.mark.slow
def test_several_processes_share_the_lanes(task, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[1])}
    outs = [tmp_path / f"{rank}.npy" for rank in (0, 1)]
    commands = [
        [sys.executable, "-c", PROCESSES, address, str(rank), tmp_path / "lanes", out] for rank, out in enumerate(outs)
    ]
    running = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    rates = {"learning_rate": np.geomspace(1e-3, 0.1, 7)}
    alone = train_many(task, optimizers.sgd, rates, seeds=1, epochs=2, strategy="map", progress=False)
    for out in outs:
        np.testing.assert_array_equal(np.load(out), alone.test_loss.values)
    lanes = sorted(path.name.split("-")[1] for path in (tmp_path / "lanes").glob("[0-9]*.npz"))
    assert len(lanes) == len(set(lanes)) >= 2  # each process has saved its own


def test_bad_input_raises_an_error_of_one_line(task):
    sgd, rates = optimizers.sgd, {"learning_rate": [0.1, 0.2]}

    def reads(learning_rate):
        return optimizers.sgd(0.1 if learning_rate > 0 else 0.2)

    for call, answer in (
        (lambda: train_many(5, sgd, rates, seeds=1, epochs=1), "task: expected a Task, .* got 5"),
        (lambda: train_many(task, {"a": 3}, rates, seeds=1, epochs=1), "factory: expected a function .* got 3 for 'a'"),
        (
            lambda: train_many(task, sgd, {"momentum": [0.1]}, seeds=1, epochs=1),
            r"expected arguments of sgd \(learning_rate, .*'momentum'",
        ),
        (lambda: train_many(task, sgd, {"seed": [0.1]}, seeds=1, epochs=1), "not reserved for the result, got 'seed'"),
        (
            lambda: train_many(task, sgd, {"test_loss": [1]}, seeds=1, epochs=1),
            "not reserved for the result, got 'test_loss'",
        ),
        (lambda: train_many(task, sgd, {"learning_rate": []}, seeds=1, epochs=1), "expected at least one value"),
        (lambda: train_many(task, sgd, rates, seeds=0, epochs=1), "seeds: expected an integer of at least 1, got 0"),
        (lambda: train_many(task, sgd, rates, seeds=[1, 1], epochs=1), "at least one seed and no duplicates"),
        (lambda: train_many(task, sgd, rates, seeds=1, epochs=1.5), "epochs: expected an integer, got 1.5"),
        (
            lambda: train_many(task, sgd, rates, seeds=1, epochs=1, strategy="fast"),
            "strategy: expected one of auto, vmap, map",
        ),
        (lambda: train_many(task, sgd, rates, seeds=1, epochs=1, chunk=0), "chunk: expected an integer of at least 1"),
        (
            lambda: train_many(task, sgd, rates, seeds=1, epochs=1, save_to=3),
            "save_to: expected a folder's path, got 3",
        ),
        (
            lambda: train_many(task, reads, rates, seeds=1, epochs=1, strategy="map"),
            "reads the value of an argument in Python",
        ),
        (
            lambda: train_many(task, sgd, rates, seeds=1, epochs=1, devices=[]),
            "devices: expected a list of jax devices",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
