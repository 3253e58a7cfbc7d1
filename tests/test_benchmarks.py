import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import author_claims, fused_step, gpu, gpu_kernels, gpu_phases, gpu_programs, optimizer_cost
from benchmarks import sweep_contenders as contenders
from benchmarks.resnet18 import operations
from gdlab.analysis.intervals import share_interval

ROOT = Path(__file__).parents[1]

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


# The command for a GPU -----------------------------------------------------------------------------------------------


def entries(path, phase):
    return json.loads(path.read_text())["phases"][phase]["entries"]


def test_a_resnets_operations_are_those_of_its_layers():
    # The forward pass takes 1.82e9 multiplications for an image of 224 x 224 (He et al. 2016, table 1: 1.8e9), so with
    # the same first layers about 1 / 49 of that for 32 x 32; an addition each, and twice as much for the gradients.
    assert operations("imagenet", "linear") == pytest.approx(6 * 1.82e9 / 49, rel=0.03)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="needs a machine without a GPU")
def test_without_a_gpu_the_command_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")  # restored afterwards
    with pytest.raises(SystemExit, match=r"^gpu: expected a GPU, got .*; --smoke runs everything on a tiny scale$"):
        gpu.main(gpu.Config(out=tmp_path / "gpu.json"))
    assert not (tmp_path / "gpu.json").exists()


def test_each_measurement_is_stored_as_a_value_an_error_or_a_skip(tmp_path):
    out = tmp_path / "gpu.json"
    for name in ("smoke", "sweep"):
        phase = gpu_phases.Phase(name, {"out": str(out), "smoke": True, "until": time.time() + 100})
        phase.clear()
        assert phase.measure("sum", sum, [1, 2]) == 3
    assert phase.measure("division", lambda: 1 / 0) is None
    assert phase.measure("late", sum, [1], needs=1000) is None
    found = entries(out, "sweep")
    assert found["sum"]["value"] == 3
    assert found["division"]["error"] == "ZeroDivisionError: division by zero"
    assert any("lambda" in line for line in found["division"]["where"])
    assert list(found["late"]) == ["skipped"]
    assert entries(out, "smoke")["sum"]["value"] == 3


@pytest.mark.parametrize(
    ("does", "seconds", "error"), [("sleep 3600", 1.0, "none after 1 s"), ("echo broken >&2; exit 3", 30.0, "got 3")]
)
def test_a_phase_that_hangs_or_crashes_is_recorded(tmp_path, monkeypatch, does, seconds, error):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(gpu, "MARGIN", 0.0)
    began = time.monotonic()
    gpu.run_phase(gpu.Config(out=tmp_path / "gpu.json", smoke=True), "sweep", seconds)
    assert time.monotonic() - began < 600
    found = entries(tmp_path / "gpu.json", "sweep")["the phase"]
    assert error in found["error"]
    assert found["where"] == (["broken"] if "broken" in does else [])


@pytest.mark.slow
def test_the_command_for_a_gpu_runs_everything_on_a_tiny_scale(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--deadline", "1500", "--out", out]
    command += ["--runs", tmp_path / "runs"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1600)
    found = {phase: entries(out, phase) for phase in gpu_phases.PHASES}
    for phase, one in found.items():
        for name, entry in one.items():
            assert "value" in entry or (phase == "torch" and "skipped" in entry), (phase, name, entry)
    assert found["smoke"]["digits, deterministic"]["value"]["same_bits_twice"]
    assert found["smoke"]["train: the same bits, compiled again"]["value"]
    assert found["training"]["source stem, float32, batch 8"]["value"]["images_per_second"] > 0
    assert found["sweep"]["gdlab.sweep, 1,000 starts"]["value"]["million_point_steps_per_second"] > 0
    # A second call goes on from what the first one has trained, and leaves the other phases as they are.
    subprocess.run([*command, "--phases", "runs"], cwd=ROOT, check=True, timeout=600)
    assert entries(out, "runs")["momentum"] == found["runs"]["momentum"]
    assert entries(out, "smoke") == found["smoke"]


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


def test_the_interval_of_a_difference_is_newcombes():
    # Newcombe 1998, table II, method 10: the difference of 56/70 and 48/80 is 0.2, from 0.0524 to 0.3339.
    records = []
    for name, hits, total in (("one", 56, 70), ("other", 48, 80)):
        found = share_interval(hits, total)
        records.append({"optimizer": name, "share": hits / total, "share_low": found.low, "share_high": found.high})
    (found,) = author_claims.findings((author_claims.Claim("one", "other", True),), records)
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("shares", "better", "verdict"),
    [
        ((0.9, 0.5), True, "holds"),
        ((0.5, 0.9), True, "worse"),
        ((0.501, 0.5), True, "equal"),
        ((0.525, 0.5), True, "cannot be told"),
        ((0.501, 0.5), False, "holds"),
        ((0.46, 0.5), False, "cannot be told"),
        ((0.4, 0.5), False, "worse"),
    ],
)
def test_a_claim_of_authors_is_judged_by_the_interval_of_the_difference(shares, better, verdict):
    records = [
        {"optimizer": name, "share": share, "share_low": share - 0.02, "share_high": share + 0.02}
        for name, share in zip(("one", "other"), shares, strict=True)
    ]
    claim = author_claims.Claim("one", "other", better)
    assert author_claims.findings((claim,), records)[0].verdict == verdict


@pytest.mark.slow
def test_costs_are_measured_kept_and_continued(tmp_path, capsys):
    settings = {"networks": ("gpt",), "small": True, "rounds": 2, "keep": tmp_path / "rows"}
    optimizer_cost.main(optimizer_cost.Config(optimizers=("adam", "shampoo"), **settings))
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [row["optimizer"] for row in rows] == ["adam", "shampoo"]
    assert rows[0]["state_bytes_per_parameter"] == pytest.approx(8, rel=0.01)
    assert rows[0]["time_over_optax"] > 0
    capsys.readouterr()
    optimizer_cost.main(optimizer_cost.Config(optimizers=("adam", "shampoo", "sgd"), **settings))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["optimizer", "sgd"]
    assert len((tmp_path / "rows").read_text().splitlines()) == 3
    gradients = optimizer_cost.gradients_per_step("newton_cg")
    assert 1 + 2 <= gradients <= 1 + 2 * 4  # one to four products with a Hessian in four dimensions


@pytest.mark.oracle
def test_simple_steps_are_timed_beside_pytorchs():
    pytest.importorskip("torch", reason="the oracle extra is not installed")
    row = fused_step.measure("adam", "gpt", fused_step.Config(rounds=2, steps=2, small=True))
    assert set(row["time_over"]) == {"optax", "torch fused", "torch foreach", "torch"}
    assert all(ratio > 0 for ratio in row["time_over"].values())
