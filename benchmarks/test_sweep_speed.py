"""Timed cases of `benchmarks/sweep_speed.py`, which runs this file with pytest-benchmark in several rounds."""

import os
from typing import Any

import numpy as np
import pytest

from benchmarks.sweep_contenders import CONTENDERS, c_limit, starts_of

STEPS = 500
STARTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize("name", list(CONTENDERS))
@pytest.mark.parametrize("n", STARTS)
def test_contender(benchmark: Any, name: str, n: int) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    run, most = CONTENDERS[name]
    if n > most:
        pytest.skip("takes too long")
    starts = starts_of("ackley", n)
    rounds = 9 if name == "gdlab" else 1 if n * STEPS > 2e8 else 2 if n * STEPS > 5e6 else 5
    # The result is a NumPy array, so all work is done when the call returns.
    found = benchmark.pedantic(run, (starts, STEPS), warmup_rounds=0 if rounds == 1 else 1, rounds=rounds)
    assert np.isfinite(found).all()
    benchmark.extra_info.update(contender=name, starts=n)


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("threads", sorted({1, CORES}))
@pytest.mark.parametrize("n", STARTS)
def test_limit(benchmark: Any, threads: int, n: int, tuned: bool) -> None:
    seconds = c_limit(starts_of("ackley", n), STEPS, threads=threads, repeats=9, tuned=tuned)[1]
    benchmark.pedantic(lambda: None)
    name = f"C{', tuned flags' if tuned else ''}, {threads} thread{'s' if threads > 1 else ''}"
    benchmark.extra_info.update(contender=name, starts=n, seconds=seconds)
