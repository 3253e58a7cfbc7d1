"""Contenders of the speed benchmark: Adam on Ackley's function in two dimensions, from many starts.

Every contender takes `(starts, steps)`, with starts in float32 of shape (n, 2), and returns the final points. The
learning rate is 0.1; the other arguments are Adam's defaults.
"""

import functools
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float

import gdlab
from gdlab.optimizers import adam, momentum, rmsprop

Points = Float[np.ndarray, "starts 2"]
RATE, B1, B2, EPS = 0.1, 0.9, 0.999, 1e-8


def source_loop(starts: Points, steps: int) -> Points:
    """Descend as the source article does: one start at a time, arrays of two, central differences with h = 0.001."""
    h = 1e-3

    def ackley(x: np.ndarray) -> float:
        return (
            -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + math.e
        )  # the textbook form

    ends = []
    for start in np.asarray(starts, np.float64):
        x, m, v = start.copy(), np.zeros(2), np.zeros(2)
        for t in range(1, steps + 1):
            g = np.empty(2)
            for i in range(2):
                shift = np.zeros(2)
                shift[i] = h
                g[i] = (ackley(x + shift) - ackley(x - shift)) / (2 * h)
            m = B1 * m + (1 - B1) * g
            v = B2 * v + (1 - B2) * g**2
            x = x - RATE * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)
        ends.append(x)
    return np.array(ends, np.float32)


def numpy_batched(starts: Points, steps: int) -> Points:
    """Descend with all starts in one NumPy array and a gradient derived by hand."""
    x = starts.astype(np.float32).copy()
    m, v = np.zeros_like(x), np.zeros_like(x)
    turn = np.float32(2 * np.pi)
    for t in range(1, steps + 1):
        radius = np.sqrt(np.mean(x**2, axis=1, keepdims=True))
        cone = 2 * np.exp(np.float32(-0.2) * radius) / np.maximum(radius, np.float32(1e-30))
        ripple = np.exp(np.mean(np.cos(turn * x), axis=1, keepdims=True))
        g = cone * x + np.float32(np.pi) * ripple * np.sin(turn * x)
        m = np.float32(B1) * m + np.float32(1 - B1) * g
        v = np.float32(B2) * v + np.float32(1 - B2) * g**2
        x = x - np.float32(RATE / (1 - B1**t)) * m / (np.sqrt(v * np.float32(1 / (1 - B2**t))) + np.float32(EPS))
    return x


def torch_batched(starts: Points, steps: int) -> Points:
    """Descend with torch.optim.Adam: all starts are one tensor of parameters, the sum of their values is the loss."""
    import torch

    x = torch.tensor(starts, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=RATE, betas=(B1, B2), eps=EPS)
    for _ in range(steps):
        optimizer.zero_grad()
        cone = -20 * torch.exp(-0.2 * torch.sqrt(torch.mean(x**2, dim=1)))
        ripple = -torch.exp(torch.mean(torch.cos(2 * torch.pi * x), dim=1))
        (cone + ripple).sum().backward()
        optimizer.step()
    return np.asarray(x.detach().numpy())


def _textbook(x: Array) -> Array:
    cone = -20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(x**2)))
    return cone - jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x))) + 20 + math.e


_OPTIMIZER = optax.adam(RATE, B1, B2, EPS)


def _step(x: Array, state: Any) -> tuple[Array, Any]:
    updates, state = _OPTIMIZER.update(jax.grad(_textbook)(x), state, x)
    return optax.apply_updates(x, updates), state


_batched_step = jax.jit(jax.vmap(_step))


def optax_loop(starts: Points, steps: int) -> Points:
    """Descend with optax in a Python loop around a jitted, vmapped step."""
    x = jnp.asarray(starts)
    state = jax.vmap(_OPTIMIZER.init)(x)
    for _ in range(steps):
        x, state = _batched_step(x, state)
    return np.asarray(jax.block_until_ready(x))


@functools.partial(jax.jit, static_argnames="steps")
def _scanned(starts: Array, steps: int) -> Array:
    def run(start: Array) -> Array:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            return _step(*carry), None

        return jax.lax.scan(step, (start, _OPTIMIZER.init(start)), length=steps)[0][0]

    return jax.vmap(run)(starts)


def jax_scan(starts: Points, steps: int) -> Points:
    """Descend with a jitted, vmapped `lax.scan` over the steps, the first version one would write."""
    return np.asarray(jax.block_until_ready(_scanned(jnp.asarray(starts), steps)))


def gdlab_sweep(starts: Points, steps: int) -> Points:
    """Descend with `gdlab.sweep`."""
    return gdlab_case("ackley", starts, steps)


FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp")


TUNED = ("-mno-recip", "-mprefer-vector-width=512")
"""Flags for exact square roots and divisions, faster on recent processors than -ffast-math's approximations."""


CASES: dict[str, tuple[int, float, Callable[..., Any], float]] = {
    "ackley": (2, 5.0, adam, RATE),
    "rastrigin": (2, 5.0, rmsprop, 0.01),
    "rosenbrock": (10, 2.0, functools.partial(momentum, momentum=0.9), 1e-4),
}
"""The cases with a C program: dimension, half the width of the starts' box, optimizer and learning rate."""


def starts_of(case: str, n: int) -> Float[np.ndarray, "starts dim"]:
    """Draw the starts of a case, from a seed of its own."""
    dim, width = CASES[case][:2]
    return np.random.default_rng(0).uniform(-width, width, (n, dim)).astype(np.float32)


def gdlab_case(case: str, starts: Float[np.ndarray, "starts dim"], steps: int) -> Float[np.ndarray, "starts dim"]:
    """Descend with `gdlab.sweep`, on any case."""
    optimizer, rate = CASES[case][2:]
    fn = gdlab.FUNCTIONS[case].fn
    ds = gdlab.sweep(fn, optimizer, {"learning_rate": [rate]}, starts, max_steps=steps, progress=False)
    return np.asarray(ds["point"].values[0])


@functools.cache
def build_limit(tuned: bool, case: str) -> Path:
    """Compile the C program of a case, with or without the tuned flags; raise RuntimeError if there is no gcc."""
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc: expected it on the PATH to compile the C program, got none")
    program = Path(tempfile.mkdtemp(prefix="gdlab-limit-")) / "sweep_limit"
    source = Path(__file__).with_name(f"sweep_limit_{case}.c")
    more = TUNED if tuned else ()
    subprocess.run(["gcc", *FLAGS, *more, str(source), "-lm", "-o", str(program)], check=True)
    return program


def c_limit(
    starts: Float[np.ndarray, "starts dim"],
    steps: int,
    *,
    case: str = "ackley",
    threads: int | None = None,
    repeats: int = 1,
    tuned: bool = True,
) -> tuple[Float[np.ndarray, "starts dim"], list[float]]:
    """Run a C program; return the final points, and its own seconds per repeat without reading and writing files."""
    count = threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "starts.f32", Path(folder) / "points.f32"
        np.ascontiguousarray(starts, np.float32).tofile(source)
        numbers = [str(n) for n in (len(starts), steps, count, repeats)]
        command = [str(build_limit(tuned, case)), *numbers, str(source), str(target)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        ends = np.fromfile(target, np.float32, count=starts.size).reshape(starts.shape)
        return ends, [float(line) for line in out.stdout.split()]


CONTENDERS: dict[str, tuple[Callable[[Points, int], Points], int]] = {
    "gdlab": (gdlab_sweep, 1_000_000),
    "jax scan of a vmap": (jax_scan, 1_000_000),
    "optax loop": (optax_loop, 1_000_000),
    "torch": (torch_batched, 1_000_000),
    "NumPy, batched": (numpy_batched, 100_000),
    "source's loop": (source_loop, 10),
}
"""The contenders, each with the largest number of starts for which it is timed."""
