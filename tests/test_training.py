import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers, tasks
from gdlab.compute.devices import compile_with_first
from gdlab.records import RunFolder, read_run, runs
from gdlab.schedules import cosine
from gdlab.tasks import Task
from gdlab.training import compilation, train
from gdlab.training.epoch import begin, run_epoch, run_evaluation


def regression(**fields):
    """Make a linear least-squares task, whose gradient is known: 13 training and 7 test examples."""
    rng, w = np.random.default_rng(0), np.array([1.0, -2.0, 0.5])
    x = rng.normal(size=(20, 3))
    y = x @ w + 0.1 * rng.normal(size=20)

    def errors(params, batch):
        return (batch[0] @ params - batch[1]) ** 2

    def loss(params, state, batch, key):
        found = errors(params, batch)
        return found.mean(), (state, {"loss": found, "large": (found > 1).astype(jnp.float32)})

    def evaluate(params, state, batch, key):
        return state, loss(params, state, batch, key)[1][1]

    settings = dict(evaluation_batch=4) | fields
    task = Task(
        init=lambda key: (jnp.zeros(3), {}),
        loss=loss,
        evaluate=evaluate,
        train=(x[:13], y[:13]),
        test=(x[13:], y[13:]),
        **({"batch_size": 4} | settings),
    )
    return task, x, y


def test_an_epoch_is_the_textbook_loop():
    task, x, y = regression(shuffled=False)
    rate, momentum = 0.05, 0.9
    found = train(task, optimizers.momentum(rate, momentum=momentum), epochs=2, progress=False, learning_rate=rate)
    w, v = np.zeros(3), np.zeros(3)
    for epoch in range(2):
        losses, norms = [], []
        for low in (0, 4, 8):  # the 13th example is left over
            batch = x[low : low + 4], y[low : low + 4]
            errors = batch[0] @ w - batch[1]
            losses.append(errors**2)
            gradient = 2 * batch[0].T @ errors / 4
            norms.append(np.sqrt(np.sum(gradient**2)))
            v = momentum * v + gradient
            w = w - rate * v
        test = (x[13:] @ w - y[13:]) ** 2
        expected = {
            "train_loss": np.mean(losses),
            "train_large": np.mean(np.array(losses) > 1),
            "test_loss": test.mean(),
            "test_large": np.mean(test > 1),
            "gradient_norm": np.mean(norms),
            "learning_rate": rate,
        }
        assert set(found.history) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found.history[name][epoch], value, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(found.params, w, rtol=1e-12)
    assert not found.diverged
    assert found.seconds.shape == (2,)
    assert found.best_epoch == 1 + int(np.argmin(found.history["test_loss"]))


def test_each_epoch_sees_each_example_once_in_another_order():
    def loss(params, state, batch, key):
        # The gradient counts how often an example was seen, and the state records when.
        seen = params[batch]
        when = state["when"].at[batch].set(state["clock"])
        return seen.sum(), ({"when": when, "clock": state["clock"] + 1}, {"loss": seen})

    task = Task(
        init=lambda key: (jnp.zeros(11), {"when": jnp.full(11, -1), "clock": 0}),
        loss=loss,
        evaluate=lambda params, state, batch, key: (state, {"loss": params[batch]}),
        train=np.arange(11),
        test=np.arange(11),
        batch_size=3,
    )
    runs = [train(task, optimizers.sgd(1.0), epochs=e, seed=s, progress=False) for e, s in ((1, 0), (2, 0), (1, 1))]
    first, second = -runs[0].params, -runs[1].params
    assert sorted(first) == [0, 0] + 9 * [1]  # 3 steps of 3, 2 left over
    assert sorted(second - first) == [0, 0] + 9 * [1]
    assert runs[0].state["when"].tolist() != runs[1].state["when"].tolist()
    assert runs[0].state["when"].tolist() != runs[2].state["when"].tolist()


def drawing(**fields):
    """Make a task whose state records a random number per step, and whose evaluation returns one."""

    def loss(params, state, batch, key):
        clock, seen = state
        seen = seen.at[clock].set(jax.random.uniform(key, dtype=jnp.float32))
        return params.sum(), ((clock + 1, seen), {"loss": jnp.zeros(len(batch))})

    def evaluate(params, state, batch, key):
        return state, {"loss": jnp.broadcast_to(jax.random.uniform(key, dtype=jnp.float32), (len(batch),))}

    begin = (jnp.zeros((), jnp.int32), jnp.zeros(6, jnp.float32))
    arrays = np.zeros(6), np.zeros(4)
    settings = dict(train=arrays[0], test=arrays[1], batch_size=2, evaluation_batch=4) | fields
    return Task(init=lambda key: (jax.random.normal(key, (2,)), begin), loss=loss, evaluate=evaluate, **settings)


def test_every_step_epoch_seed_and_evaluation_has_its_own_randomness():
    task = drawing(valid=np.zeros(4))
    runs = [train(task, optimizers.sgd(0.0), epochs=2, seed=seed, progress=False) for seed in (0, 1)]
    draws = [float(value) for run in runs for value in run.state[1]]
    for run in runs:
        draws += [*run.history["test_loss"], *run.history["valid_loss"]]
    assert len(set(draws)) == 2 * (6 + 2 + 2)
    assert runs[0].params.tolist() != runs[1].params.tolist()
    again = train(task, optimizers.sgd(0.0), epochs=2, seed=1, progress=False)
    assert again.state[1].tolist() == runs[1].state[1].tolist()


def test_programs_are_kept_and_reuse_the_memory_of_their_arguments():
    compilation.COMPILED.clear()
    task = drawing()
    for seed in (0, 1):
        train(task, optimizers.sgd(0.5), epochs=1, seed=seed, progress=False)
    assert len(compilation.COMPILED) == 1
    train(task, optimizers.sgd(0.25), epochs=1, progress=False)  # with x64 its number is fixed in the program
    assert len(compilation.COMPILED) == 2
    device = jax.devices()[0]
    traced = compilation.trace_run(task.functions, lambda: optimizers.sgd(0.25), (), task.data, device)
    compiled = compilation.compile_run(traced)
    assert len(compilation.COMPILED) == 2  # traced again, it is the same text
    learner = compiled.begin([], np.uint32(0))
    compiled.epoch([], np.uint32(0), learner, jax.device_put(task.data))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(learner.params))


def test_a_loop_over_learning_rates_compiles_once():
    compilation.COMPILED.clear()
    compilation.TRACED.clear()
    task = drawing()
    with jax.enable_x64(False):
        for rate in (0.5, 0.25):
            run = train(task, optimizers.adam(rate, b1=0.5), epochs=2, progress=False)
            fixed = train(task, optax.chain(optimizers.adam(rate, b1=0.5)), epochs=2, progress=False)
            np.testing.assert_allclose(run.params, fixed.params, rtol=1e-5)
        train(task, optimizers.aggmo(0.5, betas=(0.0, 0.5)), epochs=1, progress=False)
        train(task, optimizers.aggmo(0.25, betas=(0.0, 0.5)), epochs=1, progress=False)
        train(task, optimizers.aggmo(0.25, betas=(0.0, 0.6)), epochs=1, progress=False)
    assert len(compilation.TRACED) == len(compilation.COMPILED) == 1 + 2 + 2


def test_hyperparameters_are_passed_to_one_program(tmp_path, monkeypatch):
    compilation.COMPILED.clear()
    compilation.TRACED.clear()
    task, traced = drawing(), []

    def build(learning_rate, momentum=0.0):
        return optimizers.momentum(learning_rate, momentum=momentum)

    def run(rate, **settings):
        numbers = {"learning_rate": rate, "momentum": 0.5}
        return train(task, build, hyperparameters=numbers, epochs=2, progress=False, **settings)

    trace_both = compilation.trace_both
    monkeypatch.setattr(compilation, "trace_both", lambda *a: traced.append(a) or trace_both(*a))
    for rate in (0.5, 0.25):
        alone = train(task, optimizers.momentum(rate, momentum=0.5), epochs=2, progress=False)
        np.testing.assert_allclose(run(rate).params, alone.params, rtol=1e-6)
    assert len(traced) == len(compilation.TRACED) == 3  # the second call of `run` traced nothing
    first = run(0.5, folder=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["identity"]["hyperparameters"] == {
        "learning_rate": 0.5,
        "momentum": 0.5,
    }
    again = run(0.5, folder=tmp_path / "run")
    np.testing.assert_array_equal(again.params, first.params)
    with pytest.raises(ValueError, match="hyperparameters"):
        run(0.25, folder=tmp_path / "run")
    for arguments, answer in (
        (dict(optimizer=build), "optimizer: expected an optax transformation.*a function needs hyperparameters too"),
        (dict(optimizer=build, hyperparameters={"rate": 1.0}), r"\(learning_rate, momentum\), got 'rate'"),
        (dict(optimizer=build, hyperparameters={"learning_rate": -1.0}), "learning_rate: expected a number in"),
        (
            dict(optimizer=build, hyperparameters={"learning_rate": "1"}),
            r"hyperparameters\['learning_rate'\]: expected",
        ),
        (dict(optimizer=build, hyperparameters=0.5), "hyperparameters: expected a mapping from names to numbers"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer):
            train(task, **arguments, epochs=1, progress=False)


def test_a_limit_bounds_the_steps():
    task, x, y = regression(shuffled=False)
    optimizer = optimizers.sgd(0.05)
    learner = begin(task.functions, optimizer, 0)
    after, summary = run_epoch(task.functions, optimizer, learner, task.data, 0, jnp.int32(1))
    gradient = 2 * x[:4].T @ (x[:4] @ np.zeros(3) - y[:4]) / 4
    np.testing.assert_allclose(after.params, -0.05 * gradient, rtol=1e-12)
    np.testing.assert_allclose(summary["train_loss"], np.mean(y[:4] ** 2), rtol=1e-6)


def test_callbacks_into_python_are_not_confused(tmp_path):
    def calling(value):
        def loss(params, state, batch, key):
            shape = jax.ShapeDtypeStruct((), jnp.float32)
            slope = jax.pure_callback(lambda: np.float32(value), shape)
            return slope * params.sum(), (state, {"loss": jnp.zeros(len(batch))})

        task = drawing()
        return dataclasses.replace(task, loss=loss, init=lambda key: (jnp.zeros(1, jnp.float32), task.init(key)[1]))

    for value in (1.0, 5.0):
        assert train(calling(value), optimizers.sgd(1.0), epochs=1, progress=False).params == -3 * value
    with pytest.raises(ValueError, match="folder: expected a task and an optimizer without Python callbacks"):
        train(calling(1.0), optimizers.sgd(1.0), epochs=1, folder=tmp_path / "run", progress=False)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 100])
def test_evaluation_counts_every_example_once(size):
    task, x, y = regression(evaluation_batch=size)
    w = np.array([0.5, 0.5, 0.5])
    found = run_evaluation(task.functions, jnp.asarray(w), {}, (x[13:], y[13:]), jax.random.key(0))
    np.testing.assert_allclose(found["loss"], np.mean((x[13:] @ w - y[13:]) ** 2), rtol=1e-6)


@pytest.mark.slow
def test_optimizers_of_every_kind_train():
    task = tasks.digits_mlp(hidden=(8,), train_size=128, test_size=64)
    for name in ("demon_sgdm", "sophia", "schedule_free_adamw"):  # a schedule, a use of value_fn, an average
        arguments = {"total_steps": 4} if name.startswith("demon") else {}
        found = train(task, optimizers.OPTIMIZERS[name](**arguments), epochs=2, progress=False)
        assert np.isfinite(found.history["test_loss"]).all(), name
    narrow = tasks.digits_mlp(hidden=(8,), train_size=128, test_size=64, dtype=jnp.bfloat16)
    found = train(narrow, optimizers.adam(), epochs=2, progress=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype(np.float32)}
    assert np.isfinite(found.history["test_loss"]).all()


def test_a_loss_that_is_not_finite_ends_the_run():
    task, x, y = regression()
    narrow = [(x[low:high].astype(np.float32), y[low:high].astype(np.float32)) for low, high in ((0, 13), (13, 20))]
    task = dataclasses.replace(task, train=narrow[0], test=narrow[1], init=lambda key: (jnp.zeros(3, jnp.float32), {}))
    # |w| grows by a factor of 2 rate |x|^2, between 1e2 and 1e5 per step, and a loss overflows at |w| = 1e19.
    found = train(task, optimizers.sgd(1e3), epochs=100, progress=False)
    assert found.diverged
    assert 4 <= found.failed_at < 12
    epochs = len(found.history["train_loss"])
    assert epochs == -(-found.failed_at // 3)  # three steps per epoch; the epoch in which it failed is the last
    assert np.isnan(found.history["test_loss"][-1])
    assert np.isfinite(found.history["train_loss"][:-1]).all()


def test_an_evaluation_that_is_not_finite_ends_the_run():
    task, _, _ = regression()
    narrow = jax.tree.map(lambda array: array.astype(np.float32), (task.train, task.test))
    task = dataclasses.replace(
        task, train=narrow[0], test=narrow[1], init=lambda key: (jnp.zeros(3, jnp.float32), {}), batch_size=13
    )
    found = train(task, optimizers.sgd(1e30), epochs=5, patience=2, progress=False)
    assert found.failed_at == 1  # the only step of the first epoch, whose own loss was finite
    assert found.best_epoch is None
    assert not found.stopped
    assert len(found.history["test_loss"]) == 1


def scripted(losses, where="test"):
    """Make a task whose evaluation returns `losses` one after another, and whose parameter counts the epochs."""

    def evaluate(params, state, batch, key):
        shown = jnp.asarray(losses)[jnp.clip(state - 1, 0, len(losses) - 1)]
        other = jnp.zeros(len(batch)) + 100.0 - state  # keeps improving
        return state, {"loss": jnp.where(batch == 1, shown, other)}

    parts = {"test": np.ones(2), "valid": None} if where == "test" else {"test": np.zeros(2), "valid": np.ones(2)}
    return Task(
        init=lambda key: (jnp.zeros(()), jnp.zeros((), jnp.int32)),
        loss=lambda params, state, batch, key: (-params, (state, {"loss": jnp.zeros(len(batch))})),
        evaluate=evaluate,
        train=np.zeros(2),
        test=parts["test"],
        batch_size=2,
        valid=parts["valid"],
        after_epoch=lambda state: state + 1,
    )


@pytest.mark.parametrize("where", ["test", "valid"])
def test_early_stopping_keeps_the_best(where, tmp_path):
    task = scripted([5.0, 4.0, 3.0, 3.5, 3.0, 9.0, 1.0], where)
    found = train(task, optimizers.sgd(1.0), epochs=50, patience=3, progress=False, folder=tmp_path / "run")
    assert found.stopped
    assert found.best_epoch == 3
    assert len(found.history["test_loss"]) == 6
    assert found.params == 3.0  # one step per epoch, each of length 1
    assert found.state == 3
    assert [path.name for path in (tmp_path / "run").glob("best*")] == ["best-0003.npz"]
    again = train(task, optimizers.sgd(1.0), epochs=50, patience=3, progress=False, folder=tmp_path / "run")
    assert again.params == 3.0
    assert again.stopped
    (tmp_path / "run" / "best-0003.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="starts over"):
        train(task, optimizers.sgd(1.0), epochs=50, patience=3, progress=False, folder=tmp_path / "run")
    healed = train(task, optimizers.sgd(1.0), epochs=50, patience=3, progress=False, folder=tmp_path / "run")
    assert healed.params == 3.0
    patient = train(task, optimizers.sgd(1.0), epochs=7, patience=4, progress=False)
    assert not patient.stopped
    assert patient.best_epoch == 7
    never = train(task, optimizers.sgd(1.0), epochs=6, progress=False)
    assert never.best_epoch == 3
    assert never.params == 6.0  # without patience the last model is the result


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name == "metrics.jsonl"}


def test_the_first_options_that_compile_are_used_and_recorded(tmp_path, monkeypatch):
    choices = [{"xla_no_such_option": True}, {"xla_cpu_enable_fast_math": False}, {"xla_cpu_enable_fast_math": True}]
    monkeypatch.setattr(compilation, "repeatable", lambda device: choices)
    task, *_ = regression(batch_size=3)  # another program than those of other tests, which are kept compiled
    train(task, optimizers.sgd(0.01), epochs=1, folder=tmp_path / "run", progress=False)
    (start,) = json.loads((tmp_path / "run" / "environment.json").read_text())["starts"]
    assert start["compiler_options"] == choices[1]
    assert compile_with_first(jax.jit(jnp.sin).lower(1.0), choices[:1]).options == {}  # none rather than a failure


def test_a_run_folder_records_what_happened_and_resumes(tmp_path):
    task = tasks.digits_mlp(hidden=(8,), train_size=200, test_size=100)
    optimizer, rate = optimizers.adam(1e-2), cosine(1e-2, 12)
    folder = tmp_path / "run"
    seen = []
    settings = dict(progress=False, learning_rate=rate, config={"optimizer": "adam"}, on_epoch=seen.append)
    whole = train(task, optimizer, epochs=4, folder=tmp_path / "whole", **settings)
    seen.clear()
    train(task, optimizer, epochs=2, folder=folder, **settings)
    assert [row["epoch"] for row in seen] == [1, 2]
    assert all(row["seconds"] > 0 for row in seen)
    seen.clear()
    longer = train(task, optimizer, epochs=4, folder=folder, **settings)
    assert [row["epoch"] for row in seen] == [1, 2, 3, 4]  # the earlier ones are shown again
    assert files(folder) == files(tmp_path / "whole")
    chex.assert_trees_all_equal(longer.params, whole.params)
    record = read_run(folder)
    assert record.config["optimizer"] == "adam"
    assert record.config["task"]["train"] == 200
    assert record.metrics["epoch"] == [1, 2, 3, 4]
    np.testing.assert_array_equal(record.metrics["test_loss"], whole.history["test_loss"])
    np.testing.assert_allclose(record.metrics["learning_rate"], [float(rate(3 * e - 1)) for e in (1, 2, 3, 4)])
    assert len(record.seconds["seconds"]) == 4
    starts = json.loads((folder / "environment.json").read_text())["starts"]
    assert len(starts) == 2
    assert record.config["epochs"] == 4
    assert {"versions", "devices", "date", "command"} <= set(starts[0])
    # A finished run is only read.
    before = (folder / "checkpoint.npz").stat().st_mtime_ns
    again = train(task, optimizer, epochs=4, folder=folder, **settings)
    np.testing.assert_array_equal(again.history["test_loss"], whole.history["test_loss"])
    assert (folder / "checkpoint.npz").stat().st_mtime_ns == before
    # The learning rate is only shown.
    other = train(task, optimizer, epochs=4, folder=folder, **(settings | {"learning_rate": None}))
    assert "learning_rate" not in other.history
    assert "learning_rate" in train(task, optimizer, epochs=4, folder=folder, **settings).history
    with pytest.raises(ValueError, match="epochs: expected at least the 4 epochs that the folder holds, got 3"):
        train(task, optimizer, epochs=3, folder=folder, **settings)
    # Whatever was lost with a checkpoint is computed again.
    os.truncate(folder / "checkpoint.npz", 1000)
    (folder / "metrics.jsonl").write_text("torn")
    with pytest.warns(UserWarning, match="not a complete checkpoint.*resumes from the previous checkpoint"):
        train(task, optimizer, epochs=4, folder=folder, **settings)
    assert files(folder) == files(tmp_path / "whole")
    for name in ("checkpoint.npz", "previous.npz"):
        os.truncate(folder / name, 1000)
    with pytest.warns(UserWarning, match="previous.npz: not a complete checkpoint.*starts over"):
        train(task, optimizer, epochs=4, folder=folder, **settings)
    assert files(folder) == files(tmp_path / "whole")


def test_a_folder_of_another_run_is_refused(tmp_path):
    task = tasks.digits_mlp(hidden=(8,), train_size=200, test_size=100)
    other = tasks.digits_mlp(hidden=(8,), train_size=200, test_size=101)
    folder = tmp_path / "run"
    train(task, optimizers.adam(1e-2), epochs=1, folder=folder, progress=False)
    for other_task, rate, settings, differs in (
        (task, 2e-2, {}, "program"),
        (other, 1e-2, {}, "program, data"),
        (task, 1e-2, {"seed": 1}, "seed"),
        (task, 1e-2, {"patience": 2}, "patience"),
    ):
        with pytest.raises(ValueError, match=f"another run, which differs in: {differs};"):
            train(other_task, optimizers.adam(rate), epochs=1, folder=folder, progress=False, **settings)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"expected a new or empty folder.*thesis\.tex"):
        train(task, optimizers.adam(1e-2), epochs=1, folder=tmp_path / "full", progress=False)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not describe a run"):
        train(task, optimizers.adam(1e-2), epochs=1, folder=folder, progress=False)
    with RunFolder(tmp_path / "held", {}, {}), pytest.raises(BlockingIOError, match="in use by another process"):
        RunFolder(tmp_path / "held", {}, {})
    with pytest.raises(FileNotFoundError, match=r"without config\.json"):
        read_run(tmp_path / "nothing")


class SlowDisk:
    """Holds back the first writes until `go` is set, and keeps the arrays that are then written."""

    def __init__(self, monkeypatch, error=None):
        self.go, self.written, self.error, self.pack = threading.Event(), [], error, runs.pack
        monkeypatch.setattr(runs, "pack", self)

    def __call__(self, file, arrays, note, belongs_to):
        assert self.go.wait(30), "the run waits for its checkpoint"
        if self.error:
            raise self.error
        self.written.append({name: array.copy() for name, (array, _) in arrays.items()})
        self.pack(file, arrays, note, belongs_to)


def test_a_checkpoint_is_written_while_the_next_epochs_run(tmp_path, monkeypatch):
    task, _, _ = regression()
    optimizer = optimizers.adam(0.1)
    two, four = (train(task, optimizer, epochs=epochs, progress=False).params for epochs in (2, 4))
    disk = SlowDisk(monkeypatch)

    def follow(row):
        if row["epoch"] == 3:  # this epoch has run, and reused the memory of the second one
            disk.go.set()

    train(task, optimizer, epochs=4, folder=tmp_path, checkpoint_every=2, progress=False, on_epoch=follow)
    np.testing.assert_array_equal([each[".params"] for each in disk.written], [two, four])


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_full_disk_ends_the_run_at_the_next_checkpoint_or_at_its_end(tmp_path, monkeypatch, epochs):
    task, _, _ = regression()
    rows = []
    disk = SlowDisk(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    disk.go.set()
    with pytest.raises(OSError, match="No space left on device"):
        train(task, optimizers.sgd(), epochs=epochs, folder=tmp_path, progress=False, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [1]
    assert not (tmp_path / "checkpoint.npz").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_ends_early_waits_for_its_checkpoint(tmp_path, monkeypatch, error):
    task, _, _ = regression()
    disk = SlowDisk(monkeypatch)

    def end(row):
        threading.Timer(0.2, disk.go.set).start()
        raise error

    with pytest.raises(error):
        train(task, optimizers.sgd(), epochs=2, folder=tmp_path, progress=False, on_epoch=end)
    assert len(disk.written) == 1
    assert read_run(tmp_path).metrics["epoch"] == [1]


CHILD = """
import os, signal, sys
import gdlab.records.runs
from gdlab import optimizers, tasks
from gdlab.training import train

fatal, after = int(sys.argv[2]), sys.argv[3] == "after"
replace, count = os.replace, 0

def counted(*arguments):
    global count
    count += 1
    if count == fatal and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments)
    if count == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = counted
task = tasks.digits_mlp(hidden=(8,), train_size=200, test_size=100, hold_out=50)
train(task, optimizers.adam(3e-2), epochs=6, seed=3, patience=2, folder=sys.argv[1], progress=False)
print("done")
"""


def run_child(folder, fatal, when):
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(fatal), when],
        env=os.environ | cache,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was not killed; it fills the cache of compiled programs that the others share."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    child = run_child(folder, -1, "before")
    assert child.stdout == "done\n", child.stderr
    assert files(folder)["metrics.jsonl"].count(b"\n") >= 3
    return folder


# Files are moved into place in this order: config, environment, and in each epoch best, checkpoint, metrics, seconds.
@pytest.mark.slow
@pytest.mark.parametrize(("fatal", "when"), [(4, "after"), (9, "before")])
def test_a_killed_process_resumes_and_ends_in_the_same_bits(whole, fatal, when):
    folder = whole.parent / f"killed-{fatal}-{when}"
    assert run_child(folder, fatal, when).returncode == -signal.SIGKILL
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line)
    again = run_child(folder, -1, "before")
    assert again.stdout == "done\n", again.stderr
    assert files(folder) == files(whole)
    assert "anew" not in again.stderr
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]  # nothing is left over


@pytest.mark.slow
def test_a_process_killed_at_any_moment_resumes(whole):
    folder = whole.parent / "killed"
    arguments = [sys.executable, "-c", CHILD, str(folder), "-1", "before"]
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    child.kill()
    child.wait()
    assert run_child(folder, -1, "before").stdout == "done\n"
    assert files(folder) == files(whole)


def test_bad_input_raises_an_error_of_one_line():
    task, _, _ = regression()
    sgd = optimizers.sgd()
    for call, answer in (
        (lambda: train("cifar10", sgd, epochs=1), "task: expected a Task, .* got 'cifar10'"),
        (lambda: train(task, optimizers.sgd, epochs=1), "optimizer: expected an optax transformation, .* got function"),
        (lambda: train(task, sgd._replace(update=None), epochs=1), "optimizer: expected an optax transformation"),
        (lambda: train(dataclasses.replace(task, train=None), sgd, epochs=1), "train: expected arrays of equal length"),
        (
            lambda: train(dataclasses.replace(task, test=(np.ones((0, 3)), np.ones(0))), sgd, epochs=1),
            "test: expected at least 1 example, got 0",
        ),
        (
            lambda: train(dataclasses.replace(task, evaluation_batch=0), sgd, epochs=1),
            "evaluation_batch: expected an integer of at",
        ),
        (
            lambda: train(dataclasses.replace(task, evaluate=lambda p, s, b, k: (s, {"error": b[1]})), sgd, epochs=1),
            r"the same metrics, including \"loss\", got \['large', 'loss'\] and \['error'\]",
        ),
        (lambda: train(task, sgd, epochs=0), "epochs: expected an integer of at least 1, got 0"),
        (lambda: train(task, sgd, epochs=1, seed=-1), "seed: expected an integer of at least 0, got -1"),
        (lambda: train(task, sgd, epochs=1, patience=0), "patience: expected an integer of at least 1"),
        (lambda: train(task, sgd, epochs=1, learning_rate="fast"), "learning_rate: expected a number, got 'fast'"),
        (lambda: train(task, sgd, epochs=1, progress=5), "progress: expected True, False or a label, got 5"),
        (lambda: train(task, sgd, epochs=1, folder=5), "folder: expected a folder's path, got 5"),
        (lambda: train(task, sgd, epochs=1, config=5), "config: expected a mapping, got 5"),
        (lambda: train(task, sgd, epochs=1, device="gpu"), "device: expected a device, .* got 'gpu'"),
        (lambda: train(task, sgd, epochs=1, on_epoch=5), "on_epoch: expected a function, got 5"),
        (
            lambda: train(dataclasses.replace(task, batch_size=14), sgd, epochs=1),
            "train: expected at least 14 examples, the batch size, got 13",
        ),
        (
            lambda: train(dataclasses.replace(task, test=(np.ones(3), np.ones(2))), sgd, epochs=1),
            r"test: expected arrays of equal length, got lengths",
        ),
        (lambda: train(task, sgd, epochs=1, checkpoint_every=0), "checkpoint_every: expected an integer of at least 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
