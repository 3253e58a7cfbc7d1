import shutil

import jax
import numpy as np
import pytest

from benchmarks import gpu_kernels, gpu_programs
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


COMPILED = """HloModule jit_epoch, is_scheduled=true

%fused_computation (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  %sine.1 = f32[8]{0} sine(%param_0)
  ROOT %cosine.1 = f32[8]{0} cosine(%sine.1)
}

%time (arg: (s32[], f32[8])) -> (s32[], f32[8]) {
  %arg = (s32[], /*index=1*/f32[8]{0}) parameter(0)
  %leaf = f32[8]{0} get-tuple-element(%arg), index=1
  %fusion.1 = f32[8]{0} fusion(%leaf), kind=kLoop, calls=%fused_computation
  ROOT %custom-call.1 = (f32[8]{0}, s8[4]{0}) custom-call(%fusion.1), custom_call_target="__cublas$lt$matmul"
}

%less (arg: (s32[], f32[8])) -> pred[] {
  %arg = (s32[], f32[8]{0}) parameter(0)
  ROOT %wrapped_compare = pred[] fusion(%arg), kind=kLoop, calls=%fused_computation
}

%seldom (arg: f32[8]) -> f32[8] {
  %arg = f32[8]{0} parameter(0)
  %copy.1 = f32[8]{0} copy(%arg)
  ROOT %copy.2 = f32[8]{0} copy(%copy.1)
}

%often (arg: f32[8]) -> f32[8] {
  ROOT %arg = f32[8]{0} parameter(0)
}

%step (arg: (s32[], f32[8])) -> (s32[], f32[8]) {
  %arg = (s32[], f32[8]{0}) parameter(0)
  %while.1 = (s32[], f32[8]{0}) while(%arg), condition=%less, body=%time, backend_config={"known_trip_count":{"n":"5"}}
  %conditional.1 = f32[8]{0} conditional(%p, %a, %b), true_computation=%seldom, false_computation=%often
  %input_transpose_fusion = f32[8]{0} fusion(%conditional.1), kind=kInput, calls=%fused_computation
  %sort-start = (f32[8]{0}) async-start(%input_transpose_fusion), calls=%seldom
  ROOT %sort-done = f32[8]{0} async-done(%sort-start)
}

ENTRY %main.8 (data: f32[8]) -> f32[8] {
  %data = f32[8]{0} parameter(0)
  %copy.9 = f32[8]{0} copy(%data)
  ROOT %while.2 = (s32[], f32[8]{0}) while(%copy.9), condition=%less, body=%step KNOWN
}
"""


@pytest.mark.parametrize("known", ["", ', backend_config={"known_trip_count":{"n":"3"}}'])
def test_kernels_of_a_step_are_counted(known):
    # Five times the inner loop with its condition, the longer branch, the transpose, the copies; the outer condition.
    expected = {"fusion": 5 * 2 + 1, "__cublas$lt$matmul": 5, "copy": 2 + 2, "fusion (transpose)": 1}
    text = COMPILED.replace(" KNOWN", known)
    assert gpu_kernels.step_kernels(text) == expected
    loops = []
    whole = gpu_kernels.kernels(gpu_kernels.computations(text), "ENTRY", 0, loops)
    assert whole.total() == 1 + 3 * bool(known) * sum(expected.values())  # a loop of unknown length counts by itself
    assert len(loops) == 2


def test_without_cuda_the_count_of_kernels_is_skipped_with_a_reason(monkeypatch, capsys):
    monkeypatch.setattr(gpu_programs, "find_spec", lambda name: None)
    gpu_programs.main(gpu_programs.Config())
    assert "skipped" in capsys.readouterr().out
