import shutil

import jax
import numpy as np
import pytest

from benchmarks import sweep_contenders as contenders

STARTS = np.random.default_rng(0).uniform(-5, 5, (64, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def truth():
    """Adam written out in float64, with the analytic gradient."""
    x = STARTS.astype(np.float64)
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, 6):
        radius = np.sqrt(np.mean(x**2, axis=1, keepdims=True))
        ripple = np.exp(np.mean(np.cos(2 * np.pi * x), axis=1, keepdims=True))
        g = 2 * np.exp(-0.2 * radius) * x / radius + np.pi * ripple * np.sin(2 * np.pi * x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


ORACLES = {"torch": pytest.mark.oracle}
NAMES = [pytest.param(name, marks=ORACLES.get(name, ())) for name in contenders.CONTENDERS]


@pytest.mark.parametrize("name", NAMES)
def test_contenders_agree(name, truth):
    with jax.enable_x64(False):
        found = contenders.CONTENDERS[name][0](STARTS, 5)
    # The central difference of the source is off by h^2 f''' / 6, 4e-5 of the ripples' slope.
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, atol=2e-3 if name == "source's loop" else 2e-5)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_c_program_agrees(truth, threads):
    found, seconds = contenders.c_limit(np.tile(STARTS, (5, 1))[:300], 5, threads=threads, repeats=2)
    np.testing.assert_allclose(found, np.tile(truth, (5, 1))[:300], atol=2e-5)
    assert len(seconds) == 2


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("case", ["rastrigin", "rosenbrock"])
def test_the_other_c_programs_agree_with_a_sweep(case):
    starts = contenders.starts_of(case, 40)
    with jax.enable_x64(False):
        expected = contenders.gdlab_case(case, starts, 5)
    np.testing.assert_allclose(contenders.c_limit(starts, 5, case=case, threads=1)[0], expected, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["capsnet", "lstm", "vae"])
def test_both_contenders_of_a_task_learn_the_same(name, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import task_speed

    monkeypatch.setattr(task_speed, "LEARNING_RATE", 0.01)
    with jax.enable_x64(False):
        pair = task_speed.PAIRS[name](task_speed.Size(4, 5), True)
        params, state = pair.task.init(jax.random.key(0))
        assert task_speed.parameters(pair) == sum(leaf.size for leaf in jax.tree.leaves(params))
        contenders = task_speed.ours(pair.task, params, state), task_speed.theirs(pair, params, {})
        # In the second pass each batch has been used for a step, so Adam has lowered all losses.
        (first, _), (later, theirs) = ([np.array(run(5)) for run in contenders] for _ in range(2))
    # Dropout and noise differ between the two, so only the losses of the capsules are equal.
    np.testing.assert_allclose(later, theirs, rtol=pair.tolerance if name == "capsnet" else 0.1)
    assert later.mean() < first.mean()
