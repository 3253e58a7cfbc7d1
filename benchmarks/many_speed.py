"""Trainings per hour: a sweep by vmap, a sweep by map, one `train` after another, and a PyTorch loop, all in one run.

First case: the perceptron (64, 64) on digits, batches of 64, 10 epochs with evaluation after each, Adam, float32; 128
learning rates with one seed or with eight. Slow contenders do a part of the trainings, and their time is scaled up.
Everything counts: compilation, evaluation, and transfer of the results to the host. Contenders alternate in several
rounds; medians are reported. Second case: steps of a narrow ResNet18 on 32 x 32 images, several lanes (trainings in one
program) by vmap against one lane after another, without compilation.

Command: python -m benchmarks.many_speed (the PyTorch loop needs the extra `oracle`)
Writes benchmarks/results/many_speed.json.
Runtime: about 5 minutes on 2 CPU cores.
"""

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gdlab import models, optimizers, tasks
from gdlab.analysis.tables import Table
from gdlab.data import Dataset, Split
from gdlab.records import environment, write_json
from gdlab.training import compilation, train, train_many
from gdlab.training.lanes import Recipe, compile_lanes, seconds_per_lane, trace_lanes

RATES = np.geomspace(1e-4, 1e-1, 128)
EPOCHS = 10
ROUNDS = 3


def forget_programs() -> None:
    """Forget what earlier rounds compiled: the compilation counts, once for all rates."""
    compilation.COMPILED.clear()
    compilation.TRACED.clear()


def swept(strategy: str, seeds: int, task: tasks.Task) -> tuple[float, float, int]:
    """Return the seconds, the test accuracy at the best rate, and the number of trainings."""
    forget_programs()
    began = time.perf_counter()
    found = train_many(
        task,
        optimizers.adam,
        {"learning_rate": RATES},
        seeds=seeds,
        epochs=EPOCHS,
        strategy=strategy,
        progress=False,
    )
    accuracy = float(found.test_accuracy.isel(epoch=-1, seed=0).max())
    return time.perf_counter() - began, accuracy, len(RATES) * seeds


def one_by_one(task: tasks.Task) -> tuple[float, float, int]:
    few = RATES[::8]
    forget_programs()
    began = time.perf_counter()
    best = max(
        train(task, optimizers.adam(float(rate)), epochs=EPOCHS, progress=False).history["test_accuracy"][-1]
        for rate in few
    )
    return time.perf_counter() - began, float(best), len(few)


def torch_loop(task: tasks.Task) -> tuple[float, float, int]:
    """Train the same network with the same batches and evaluations, in the usual PyTorch style for data in memory."""
    import torch
    from torch import nn

    few = RATES[8::20]
    began = time.perf_counter()
    parts = {}
    for part in ("train", "test"):
        images, labels = getattr(task, part)
        x = torch.tensor(images.reshape(len(images), -1), dtype=torch.float32)
        parts[part] = (x / 255 - 0.5) / 0.5, torch.tensor(labels, dtype=torch.long)
    x, y = parts["train"]
    best = 0.0
    for rate in few:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(net.parameters(), lr=float(rate))
        for _ in range(EPOCHS):
            order, loss_sum, hits = torch.randperm(len(y)), torch.zeros(()), torch.zeros(())
            for low in range(0, len(y) - 63, 64):
                index = order[low : low + 64]
                optimizer.zero_grad()
                logits = net(x[index])
                loss = nn.functional.cross_entropy(logits, y[index])
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach()
                hits += (logits.argmax(1) == y[index]).sum()
            with torch.no_grad():
                logits = net(parts["test"][0])
                accuracy = float((logits.argmax(1) == parts["test"][1]).float().mean())
        best = max(best, accuracy)
    return time.perf_counter() - began, best, len(few)


def resnet_lanes(lanes: int = 4, width: int = 8) -> dict[str, Any]:
    """Compare a lane's training step by vmap and one lane after another, with two calls at a time."""
    rng = np.random.default_rng(0)
    part = Split(rng.integers(0, 256, (640, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 640).astype(np.int32))
    small = Split(part.images[:64], part.labels[:64])
    data = Dataset("random", part, small, tuple(map(str, range(10))), {"source": "random numbers"})
    third = (0.5, 0.5, 0.5)
    task = tasks.classify("random", data, models.resnet18(10, width=width), mean=third, std=third)
    arrays = jax.device_put(task.data)
    recipe = Recipe(task.functions, optimizers.adam, ("learning_rate",), arrays)
    device = jax.devices()[0]
    programs = [compile_lanes(trace_lanes(recipe, count, [device]), count) for count in (None, lanes)]
    values, seeds = [np.full(lanes, 1e-3, np.float32)], np.arange(lanes, dtype=np.uint32)
    alone, mapped = seconds_per_lane(programs, {device: arrays}, values, seeds, [device] * 2, task.steps)
    return {"width": width, "lanes": lanes, "vmap_is_faster_by": alone / mapped}


def main() -> None:
    task = tasks.digits_mlp()
    contenders: dict[str, Callable[[], tuple[float, float, int]]] = {
        "gdlab sweep of 1,024, auto": functools.partial(swept, "auto", 8, task),
        "gdlab sweep of 128, auto": functools.partial(swept, "auto", 1, task),
        "gdlab sweep of 128, vmap": functools.partial(swept, "vmap", 1, task),
        "gdlab sweep of 128, map": functools.partial(swept, "map", 1, task),
        "gdlab train, one at a time": functools.partial(one_by_one, task),
    }
    if importlib.util.find_spec("torch"):
        contenders["PyTorch loop"] = functools.partial(torch_loop, task)
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            found[name].append(run())
    rows: dict[str, dict[str, Any]] = {
        name: {
            "trainings": runs[0][2],
            "seconds": [seconds for seconds, _, _ in runs],
            "trainings_an_hour": 3600 * runs[0][2] / statistics.median(seconds for seconds, _, _ in runs),
            "best_test_accuracy": runs[0][1],
        }
        for name, runs in found.items()
    }
    base = rows["gdlab train, one at a time"]["trainings_an_hour"]
    table = Table(
        ("contender", "trainings per hour", "relative to one at a time", "best accuracy"),
        [
            (
                name,
                f"{row['trainings_an_hour']:,.0f}",
                f"{row['trainings_an_hour'] / base:.1f}",
                f"{row['best_test_accuracy']:.3f}",
            )
            for name, row in rows.items()
        ],
    )
    print(table.text())
    narrow = resnet_lanes()
    print(f"narrow ResNet18: {narrow['lanes']} lanes by vmap are {narrow['vmap_is_faster_by']:.2f} times as fast")
    write_json(
        Path(__file__).parent / "results" / "many_speed.json",
        {
            "environment": environment() | {"command": "python -m benchmarks.many_speed"},
            "epochs": EPOCHS,
            "results": rows,
            "resnet": narrow,
        },
    )


if __name__ == "__main__":
    main()
