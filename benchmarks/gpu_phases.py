"""The phases of benchmarks/gpu.py, which describes them and starts a process for each."""

import contextlib
import itertools
import json
import statistics
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.resnet18 import STEMS, operations, random_cifar10
from benchmarks.sweep_contenders import RATE, gdlab_sweep, jax_scan
from gdlab import FUNCTIONS, OPTIMIZERS, comparison, sweep, tasks
from gdlab.optimizers import momentum
from gdlab.records import environment, read_json, write_json
from gdlab.training import compilation, train
from gdlab.training.epoch import begin, run_epoch

PEAKS: dict[str, dict[str, float]] = {
    "H100 PCIe": {"bfloat16": 756e12, "float32": 378e12, "vectors": 51e12, "memory": 2.0e12},
    "H100": {"bfloat16": 989e12, "float32": 495e12, "vectors": 67e12, "memory": 3.35e12},
    "H200": {"bfloat16": 989e12, "float32": 495e12, "vectors": 67e12, "memory": 4.8e12},
    "A100": {"bfloat16": 312e12, "float32": 156e12, "vectors": 19.5e12, "memory": 2.0e12},
}
"""By a part of the device's name, the first that fits: operations per second of dense products in bfloat16 and in TF32,
and of other arithmetic in float32; bytes per second of the memory. Source: NVIDIA's data sheets."""

OPTIONS: dict[str, dict[str, Any]] = {
    "deterministic": {"xla_gpu_deterministic_ops": True},
    "deterministic, no Triton products": {"xla_gpu_deterministic_ops": True, "xla_gpu_enable_triton_gemm": False},
    "no options": {},
}
"""The last set comes last, because XLA remembers the algorithms of convolutions that it chooses without options."""


class LateError(Exception):
    """The phase has no time left."""


class Phase:
    """A phase's settings, and its entries in the file of the results, which is complete after each of them."""

    def __init__(self, name: str, settings: dict[str, Any]):
        """Take the settings of `benchmarks.gpu.Config`, and "until": when the phase begins nothing more."""
        self.name, self.settings, self.smoke = name, settings, settings["smoke"]
        self._lock = threading.Lock()

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.settings["until"] - time.time()

    def clear(self) -> None:
        """Forget the entries of an earlier call."""
        path = Path(self.settings["out"])
        phases = read_json(path)["phases"] if path.exists() else {}
        mine = {"environment": environment(), "smoke": self.smoke, "entries": {}}
        write_json(path, {"phases": phases | {self.name: mine}})

    def put(self, entry: str, found: Mapping[str, Any]) -> None:
        """Store an entry."""
        with self._lock:
            content = read_json(self.settings["out"])
            content["phases"][self.name]["entries"][entry] = found
            write_json(self.settings["out"], content)
            print(f"{self.name}: {entry}: {json.dumps(found)[:200]}", flush=True)

    def measure(self, entry: str, run: Callable[..., Any], *arguments: Any, needs: float = 0.0, **more: Any) -> Any:
        """Store the value of `run(*arguments, **more)` or its error; skip it with less than `needs` seconds left."""
        began, value = time.perf_counter(), None
        try:
            if self.left() < needs:
                raise LateError(f"{self.left():.0f} s left, {needs:.0f} needed")
            value = run(*arguments, **more)
            found = {"value": value, "seconds": time.perf_counter() - began}
        except LateError as late:
            found = {"skipped": str(late)}
        except Exception as error:  # whatever fails, the next measurement may work
            where = traceback.format_exc().splitlines()[-9:-1]
            found = {"error": f"{type(error).__name__}: {str(error)[:1000]}", "where": where}
        self.put(entry, found)
        return value


def peak() -> dict[str, float]:
    """Return the limits of this device; nothing if they are unknown."""
    return next((found for name, found in PEAKS.items() if name in jax.devices()[0].device_kind), {})


def compiled_with(task: tasks.Task, options: dict[str, Any]) -> dict[str, Any]:
    optimizer, seed = momentum(0.1), np.uint32(0)
    learner, data = jax.jit(lambda: begin(task.functions, optimizer, seed))(), jax.device_put(task.data)
    epoch = jax.jit(lambda learner, data: run_epoch(task.functions, optimizer, learner, data, seed))
    began = time.perf_counter()
    program = epoch.lower(learner, data).compile(compiler_options=options)
    seconds = time.perf_counter() - began
    first, second = (jax.tree.leaves(jax.device_get(program(learner, data))) for _ in range(2))
    return {"compile_seconds": seconds, "same_bits_twice": all(map(np.array_equal, first, second))}


def smoke(phase: Phase) -> None:
    digits = tasks.digits_mlp(train_size=256, test_size=64) if phase.smoke else tasks.digits_mlp()
    small = {"digits": digits}
    if not phase.smoke:
        with random_cifar10(1024, 512):
            small["narrow ResNet18"] = tasks.cifar10_resnet18(width=16)
    for (name, task), (chosen, options) in itertools.product(small.items(), OPTIONS.items()):
        phase.measure(f"{name}, {chosen}", compiled_with, task, options, needs=10)

    def losses(**more: Any) -> list[float]:
        compilation.TRACED.clear()  # so that it is compiled again
        compilation.COMPILED.clear()
        return train(digits, momentum(0.1), epochs=2, progress=False, **more).history["test_loss"].tolist()

    ours = phase.measure("train: losses of two epochs", losses)
    phase.measure("train: the same bits, compiled again", lambda: losses() == ours)
    cpu = jax.devices("cpu")[0]
    phase.measure("train: losses of two epochs on the CPU", losses, device=cpu)
    starts = np.random.default_rng(0).uniform(-5, 5, (4096, 2)).astype(np.float32)

    def alike(optimizer: str) -> float:
        ours, theirs = (
            sweep(FUNCTIONS["ackley"].fn, OPTIMIZERS[optimizer], {"learning_rate": [0.05]}, starts, max_steps=200,
                  devices=devices, progress=False).value.values
            for devices in (None, [cpu])
        )  # fmt: skip
        return float(np.mean(np.abs(ours - theirs) < 1e-3))

    for optimizer in ("sgd", "adam") if phase.smoke else ("sgd", "adam", "lion", "shampoo", "soap"):
        phase.measure(f"sweep, {optimizer}: share within 1e-3 of the CPU's values", alike, optimizer, needs=10)


def cases(phase: Phase) -> list[tuple[str, str, int]]:
    """Return (name in `STEMS`, dtype, batch size) of what is trained, the fastest first."""
    if phase.smoke:
        return [("source", "float32", 8)]
    return [(stem, dtype, batch) for dtype in ("bfloat16", "float32") for batch in (512, 64) for stem in STEMS]


def speed(stem: str, dtype: str, images: int, first: float, seconds: list[float]) -> dict[str, Any]:
    """Return images per second, and the share of the device's peak that the multiplications reach."""
    rate = images / statistics.median(seconds)
    share = {"share_of_peak": rate * operations(*STEMS[stem]) / peak()[dtype]} if peak() else {}
    return {"images_per_second": rate, "first_seconds": first, "seconds": seconds} | share


def training(phase: Phase) -> None:
    def epochs(stem: str, dtype: str, batch: int) -> dict[str, Any]:
        images, count, width = (4 * batch, 3, 8) if phase.smoke else (25_600, 5, 64)
        kind = dict(zip(("stem", "head"), STEMS[stem], strict=True))
        with random_cifar10(images, batch):
            task = tasks.cifar10_resnet18(dtype=jnp.dtype(dtype), batch_size=batch, width=width, **kind)
        found = train(task, momentum(0.01), epochs=count, progress=False)
        return speed(stem, dtype, images, found.compile_seconds, found.seconds[1:].tolist())

    for case in cases(phase):
        phase.measure("{} stem, {}, batch {}".format(*case), epochs, *case, needs=25)


def torch_steps(phase: Phase) -> None:
    try:
        import torch

        from benchmarks import training_speed
    except ImportError as error:
        phase.put("the phase", {"skipped": str(error)})
        return
    torch.set_float32_matmul_precision("high")  # TF32, XLA's default

    def rounds(stem: str, dtype: str, batch: int, compiled: bool) -> dict[str, Any]:
        torch.compiler.reset()  # otherwise a second batch size is compiled for all sizes
        config = training_speed.Config(batch=batch, dtype=dtype, steps=1 if phase.smoke else 50)
        run, clock = training_speed.torch_round(config, *STEMS[stem], compiled), training_speed.Clock()
        for _ in range(2 if phase.smoke else 5):
            clock.time(run)
        return speed(stem, dtype, batch * config.steps, clock.wall[0], clock.wall[1:])

    for compiled in (False,) if phase.smoke else (False, True):
        for case in cases(phase):
            entry = "{}: {} stem, {}, batch {}".format("compiled" if compiled else "eager", *case)
            phase.measure(entry, rounds, *case, compiled, needs=45 if compiled else 10)


def step_cost() -> dict[str, float]:
    """Count what a step of Adam on Ackley's function needs: operations, as XLA counts them, and bytes.

    The bytes are those of the point and both moments, read and written. A program that keeps them in registers for
    several steps may exceed the limit that follows.
    """
    optimizer, x = optax.adam(RATE), jnp.ones(2, jnp.float32)
    with jax.default_device(jax.devices("cpu")[0]):  # a GPU's compiler does not count before it compiles
        step = jax.jit(lambda x, state: optimizer.update(jax.grad(FUNCTIONS["ackley"].fn)(x), state, x))
        counted: Any = step.lower(x, optimizer.init(x)).cost_analysis()
    return {"vectors": counted["flops"] + counted["transcendentals"], "memory": 2.0 * 3 * x.nbytes}


def sweeps(phase: Phase) -> None:
    counts, steps, repeats = ((100, 1000), 50, 2) if phase.smoke else ((10**4, 10**5, 10**6, 10**7), 500, 4)
    cost = phase.measure("operations and bytes of a step", step_cost) or {}

    def descents(run: Callable[[Any, int], Any], count: int) -> dict[str, Any]:
        starts = np.random.default_rng(0).uniform(-5, 5, (count, 2)).astype(np.float32)
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            run(starts, steps)
            seconds.append(time.perf_counter() - began)
        rate = count * steps / statistics.median(seconds[1:])
        found = {"million_point_steps_per_second": rate / 1e6, "first_seconds": seconds[0], "seconds": seconds[1:]}
        return found | {f"share_of_{name}": rate * cost[name] / peak()[name] for name in cost if peak()}

    contenders = {"gdlab.sweep": gdlab_sweep, "scan of a vmapped step": jax_scan}
    for count, (name, run) in itertools.product(counts, contenders.items()):
        phase.measure(f"{name}, {count:,} starts", descents, run, count, needs=10)


def runs(phase: Phase) -> None:
    from experiments import cifar10_resnet18 as experiment

    given = phase.settings["data_dir"]
    folder = Path(phase.settings["runs"]) / ("given" if given else "random")
    jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    tiny = {"epochs": 2, "width": 8, "batch_size": 16, "train_size": 32, "test_size": 16, "optimizers": ("momentum",)}
    more: dict[str, Any] = tiny if phase.smoke else {}
    config = experiment.Config(out=folder, seeds=(0,), data_dir=Path(given) if given else None, **more)
    study, seconds = experiment.make_study(config), defaultdict(list)

    def follow(job: Any, row: Mapping[str, Any]) -> None:
        seconds[job.candidate].append(row["seconds"])
        median = statistics.median(seconds[job.candidate])
        phase.put(job.candidate, {"value": {"epochs": row["epoch"], "median_seconds": median, "last": row}})
        if phase.left() < 0:
            raise LateError("the rest of the epochs; the next call goes on from here")

    def train_all() -> str:
        comparison.run(study, workers=2, progress=False, on_epoch=follow)  # one compiles while the other trains
        return experiment.make_report(config, study)

    phase.put("images", {"value": given or "random numbers"})
    with contextlib.nullcontext() if given else random_cifar10(50_000, 10_000):
        phase.measure("report on all epochs", train_all)


PHASES = {"smoke": smoke, "training": training, "torch": torch_steps, "sweep": sweeps, "runs": runs}

if __name__ == "__main__":
    chosen = Phase(sys.argv[1], json.loads(sys.argv[2]))
    PHASES[chosen.name](chosen)
