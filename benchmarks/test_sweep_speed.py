"""The timed cases of `benchmarks/sweep_speed.py`, which runs this file with pytest-benchmark several times in turn."""

import os

import numpy as np
import pytest

from benchmarks.sweep_contenders import CONTENDERS, c_limit
from gdlab.sweeps.program import has_avx512

STEPS = 500
STARTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
CASES = [(name, n) for name, (_, most) in CONTENDERS.items() for n in STARTS if n <= most]
CORES = len(os.sched_getaffinity(0))
LIMITS = [(threads, wide) for threads in sorted({1, CORES}) for wide in ((False, True) if has_avx512() else (False,))]


def starts_of(n):
    return np.random.default_rng(0).uniform(-5, 5, (n, 2)).astype(np.float32)


@pytest.mark.parametrize(("name", "n"), CASES, ids=lambda value: str(value))
def test_contender(benchmark, name, n):
    if name == "torch":
        pytest.importorskip("torch")
    run, _ = CONTENDERS[name]
    starts = starts_of(n)
    slow = name not in ("gdlab",) and n * STEPS > 5e6
    # The result is a NumPy array, so the work is done when the call returns.
    found = benchmark.pedantic(run, (starts, STEPS), warmup_rounds=1, rounds=2 if slow else 5)
    assert np.isfinite(found).all()
    benchmark.extra_info.update(contender=name, starts=n, steps=STEPS)


@pytest.mark.parametrize("n", STARTS)
@pytest.mark.parametrize(("threads", "wide"), LIMITS)
def test_limit(benchmark, threads, wide, n):
    starts = starts_of(n)
    seconds = c_limit(starts, STEPS, threads=threads, wide=wide, repeats=7)[1]
    benchmark.pedantic(lambda: None)
    name = f"C, {threads} thread{'s' if threads > 1 else ''}, {512 if wide else 256} bits"
    benchmark.extra_info.update(contender=name, starts=n, steps=STEPS, seconds=seconds)
