"""Where the user has switched on JAX's persistent cache, every program of a second process comes from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import collections, json, sys
import jax
import jax.numpy as jnp
import numpy as np
from gdlab import FUNCTIONS, OPTIMIZERS, sweep, train, train_many
from gdlab.tasks import Task

counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name.rpartition("/")[2]]))
starts, rates = np.ones((2, 2), np.float32), {"learning_rate": [0.1, 0.2]}


def swept(name, **settings):
    sweep(FUNCTIONS["ackley"], OPTIMIZERS[name], rates, starts, max_steps=3, progress=False, **settings)


def loss(params, state, batch, key):
    squares = (params - batch + 0.1 * jax.random.normal(key)) ** 2
    return squares.mean(), (state, {"loss": squares})


task = Task(
    init=lambda key: (jnp.zeros(()), ()),
    loss=loss,
    evaluate=lambda *given: (given[1], loss(*given)[1][1]),
    train=np.arange(4, dtype=np.float32),
    test=np.arange(2, dtype=np.float32),
    batch_size=2,
)
programs = [
    lambda: swept("adam"),
    lambda: swept("shampoo"),  # eigenvalues are a custom call
    lambda: swept("adam", record="path"),
    lambda: train(task, OPTIMIZERS["adam"](0.1), epochs=1, progress=False),
    lambda: train_many(task, OPTIMIZERS["sgd"], rates, seeds=1, epochs=1, strategy="map", progress=False),
]
for run in programs[:: int(sys.argv[1])]:
    run()
print(json.dumps(counts))
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    def run(order):
        settings = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, order], env=os.environ | settings, cwd=ROOT, capture_output=True, check=True
        )
        return json.loads(done.stdout)

    first, second = run("1"), run("-1")
    assert first["cache_misses"] >= 5
    assert second["cache_hits"] == second["compile_requests_use_cache"] == first["compile_requests_use_cache"]
    assert "cache_misses" not in second
