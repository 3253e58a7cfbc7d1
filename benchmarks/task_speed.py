"""Seconds per training step of the Demon benchmark's six tasks, gdlab beside PyTorch: medians over alternating rounds.

A step is a forward pass, a backward pass and an update by Adam, with full-size networks on random data without
augmentation, in float32 and on all cores. gdlab runs the task's own loss in one compiled loop over a round's steps.
PyTorch runs eagerly, with convolutions in channels-last layout, fused Adam and the networks of tests/oracles. Both
start from the same parameters and see the same batches, and their first losses are compared before anything is timed.
Batch sizes are the benchmark's, except for two networks whose steps take long on two cores: ResNet18 with the stem for
small images has 64 instead of 128, and WRN-16-8 on 96 x 96 pixels has 4 instead of 64.

Command: python -m benchmarks.task_speed [--tasks vae lstm] [--rounds 3] [--small] [--threads 1]
Writes benchmarks/results/task_speed.json if all tasks are run at full size on all cores. The ratio is that of steps per
second, above 1 where gdlab is faster. It is also given for the best rounds and by processor time, because other work on
a shared machine affects wall-clock times.
Runtime: 3 minutes on two idle cores.
"""

import dataclasses
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import optax
import torch
import tyro
from torch import nn
from torch.nn import functional

from benchmarks.training_speed import Clock, torch_network
from gdlab import models, tasks
from gdlab.analysis.tables import Table
from gdlab.data import Dataset
from gdlab.data.datasets import Split
from gdlab.optimizers import adam
from gdlab.records import environment, write_json
from gdlab.tasks import CHANNELS, Task
from gdlab.tasks.fashion_mnist import RECONSTRUCTION
from tests.oracles import torch_networks

RESULT = Path(__file__).parent / "results" / "task_speed.json"
LEARNING_RATE = 1e-4


class Pair(NamedTuple):
    """A task and its counterpart in PyTorch.

    Attributes:
      task: the task of gdlab.
      network: the network in PyTorch.
      rename: converts our trees to trees with the names of `network`.
      loss: (network, *batch) -> the loss, where the batch consists of arrays of `task.train`.
      tolerance: the relative difference allowed between the first losses; noise and dropout need a larger one.
    """

    task: Task
    network: nn.Module
    rename: Callable[[Any], Any]
    loss: Callable[..., torch.Tensor]
    tolerance: float


class Size(NamedTuple):
    """Size of a benchmark.

    Attributes:
      batch: examples per step; for the LSTM, streams of 35 words.
      steps: steps per round.
    """

    batch: int
    steps: int


SIZES = {
    "resnet18": Size(64, 1),
    "vgg16": Size(128, 1),
    "wrn16_8": Size(4, 1),
    "capsnet": Size(128, 1),
    "lstm": Size(20, 2),
    "vae": Size(100, 50),
}
"""Full sizes, by task."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    tasks: tuple[str, ...] = tuple(SIZES)
    """Names of the tasks to measure."""
    rounds: int = 3
    """Number of timed rounds."""
    small: bool = False
    """Use narrow networks and small batches to check that everything runs; nothing is written."""
    threads: int = os.cpu_count() or 1
    """Threads of both. On a busy machine compare one thread, by processor time: PyTorch's threads wait actively."""


def images(count: int, side: int, channels: int, classes: int) -> Dataset:
    """Make a data set of random images, with uniform bytes and labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, side, side, channels), np.uint8)
    part = Split(pixels, rng.integers(0, classes, count).astype(np.int32))
    return Dataset("random", part, part, tuple(map(str, range(classes))), {"source": "random numbers"})


def floats(pixels: torch.Tensor, name: str | None = None) -> torch.Tensor:
    """Convert bytes to NCHW in channels-last layout, normalized like the data set of that name."""
    mean, std = CHANNELS[name] if name else ((0.0,), (1.0,))
    scale = 1 / (255 * torch.tensor(std))
    return (pixels.float() * scale - torch.tensor(mean) / torch.tensor(std)).permute(0, 3, 1, 2)


def classifier(
    data: str, side: int, classes: int, count: int, batch: int, model: models.Model, network: nn.Module, rename: Any
) -> Pair:
    mean, std = CHANNELS[data]
    task = tasks.classify("classifier", images(count, side, 3, classes), model, mean=mean, std=std, batch_size=batch)

    def loss(network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(network(floats(pixels, data)), labels.long())

    return Pair(task, network, rename, loss, 1e-3)


def as_it_is(tree: Any) -> Any:
    return tree


def number_layers(tree: Any) -> Any:
    """Rename the layers of a ResNet to the numbers of the layers in `torch_network`."""
    numbers = {"conv1": 0, "bn1": 1, "fc": 13}
    for stage in range(4):
        numbers |= {f"layer{stage + 1}_{block}": 3 + 2 * stage + block for block in range(2)}
    shortcut = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
    return {
        str(numbers[name]): {shortcut.get(key, key): value for key, value in layer.items()}
        for name, layer in tree.items()
    }


def resnet18(size: Size, small: bool) -> Pair:
    width = 16 if small else 64  # a width of 4 takes XLA minutes to compile
    return classifier(
        *("cifar10", 32, 10, size.batch * size.steps, size.batch),
        models.resnet18(10, stem=models.cifar_stem, width=width),
        torch_network("cifar", "linear", width),
        number_layers,
    )


def vgg16(size: Size, small: bool) -> Pair:
    width = 4 if small else 64
    return classifier(
        *("cifar100", 32, 100, size.batch * size.steps, size.batch),
        models.vgg16(100, width=width),
        torch_networks.Vgg(100, width),
        as_it_is,
    )


def wrn16_8(size: Size, small: bool) -> Pair:
    widen, depth, side = (1, 10, 16) if small else (8, 16, 96)
    return classifier(
        *("stl10", side, 10, size.batch * size.steps, size.batch),
        models.wide_resnet(10, depth=depth, widen=widen),
        torch_networks.WideResNet(10, depth, widen),
        as_it_is,
    )


def capsnet(size: Size, small: bool) -> Pair:
    sizes: dict[str, Any] = {"width": 8, "capsules": 2, "decoder": (16, 16)} if small else {}
    with mock.patch.object(sys.modules["gdlab.tasks.fashion_mnist"], "load", return_value=drawings(size)):
        task = tasks.fashion_mnist_capsnet(batch_size=size.batch, **sizes)

    def loss(network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x, labels = floats(pixels), labels.long()
        lengths, _, reconstruction = network(x, labels)
        present = functional.one_hot(labels, 10).float()
        missed, claimed = torch.relu(0.9 - lengths) ** 2, torch.relu(lengths - 0.1) ** 2
        error = ((reconstruction - x.reshape(len(x), -1)) ** 2).sum(1)
        return ((present * missed + 0.5 * (1 - present) * claimed).sum(1) + RECONSTRUCTION * error).mean()

    return Pair(task, torch_networks.CapsNet(**sizes), as_it_is, loss, 1e-3)


def drawings(size: Size) -> Dataset:
    return images(size.batch * size.steps, 28, 1, 10)


def vae(size: Size, small: bool) -> Pair:
    hidden = (16, 8) if small else (512, 256)
    with mock.patch.object(sys.modules["gdlab.tasks.mnist"], "load", return_value=drawings(size)):
        task = tasks.mnist_vae(hidden=hidden, batch_size=size.batch)

    def loss(network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        del labels
        x = floats(pixels).reshape(len(pixels), -1)
        mean, log_variance, logits = network(x, torch.randn(len(x), 2))
        error = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (error + 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()) / len(x)

    return Pair(task, torch_networks.Autoencoder(hidden=hidden), as_it_is, loss, 2e-2)


def lstm(size: Size, small: bool) -> Pair:
    words, width = (50, 8) if small else (10_000, 650)
    rng = np.random.default_rng(0)
    others = rng.integers(1, words, size.batch * (35 * size.steps + 1))
    text = " ".join(f"w{number}" for number in (*rng.permutation(np.arange(1, words)), *others))
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "valid", "test"):
            (Path(folder) / f"{part}.txt").write_text(text)
        task = tasks.ptb_lstm(dataset=folder, width=width, batch_size=size.batch)

    def rename(tree: Any) -> Any:
        if not isinstance(tree, dict) or not tree:
            return {}  # the memory has no parameters
        layers: dict[str, Any] = {}
        for name, layer in tree.items():
            if match := re.fullmatch(r"layer(\d)", name):
                number = match[1]
                layers |= {f"weight_ih_l{number}": layer["input"].T, f"weight_hh_l{number}": layer["hidden"].T}
                layers |= {f"bias_ih_l{number}": layer["bias"], f"bias_hh_l{number}": 0 * layer["bias"]}
        return {"embedding": {"weight": tree["embedding"]}, "lstm": layers, "output": tree["output"]}

    memory: list[Any] = [None]

    def loss(network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits, after = network(inputs.long(), memory[0])
        memory[0] = tuple(part.detach() for part in after)
        return functional.cross_entropy(logits.reshape(-1, words), targets.reshape(-1).long())

    return Pair(task, torch_networks.Lstm(words, width), rename, loss, 1e-2)


PAIRS: dict[str, Callable[[Size, bool], Pair]] = {
    "resnet18": resnet18,
    "vgg16": vgg16,
    "wrn16_8": wrn16_8,
    "capsnet": capsnet,
    "lstm": lstm,
    "vae": vae,
}


def ours(task: Task, params: Any, state: Any) -> Callable[[int], np.ndarray]:
    """Return `run(steps)`, which continues training for that many steps and returns the losses of all batches."""
    optimizer = adam(LEARNING_RATE)
    train = jax.device_put(task.train)

    def step(number: Any, carried: Any) -> Any:
        params, state, moments, losses = carried
        batch = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, number * task.batch_size, task.batch_size), train
        )
        key = jax.random.fold_in(jax.random.key(1), number)
        (loss, (state, _)), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, state, batch, key)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), state, moments, losses.at[number].set(loss)

    # The count is an argument, because XLA would unroll a loop of one step, and no training is that short.
    loop = jax.jit(lambda steps, carried: jax.lax.fori_loop(0, steps, step, carried), donate_argnums=1)
    held = [(jax.tree.map(np.array, params), state, optimizer.init(params), np.zeros(task.steps, np.float32))]

    def run(steps: int) -> np.ndarray:
        held[0] = jax.block_until_ready(loop(steps, held[0]))
        return np.asarray(held[0][-1])

    return run


def theirs(pair: Pair, params: Any, state: Any) -> Callable[[int], np.ndarray]:
    """Return the counterpart of `ours` in PyTorch."""
    network = torch_networks.load(pair.network, pair.rename(params), pair.rename(state))
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
    train = [torch.from_numpy(np.array(array)) for array in pair.task.train]
    size, losses = pair.task.batch_size, np.zeros(pair.task.steps, np.float32)

    def run(steps: int) -> np.ndarray:
        for number in range(steps):
            optimizer.zero_grad()
            loss = pair.loss(network, *(array[size * number : size * (number + 1)] for array in train))
            loss.backward()
            optimizer.step()
            losses[number] = loss.item()
        return losses

    return run


def parameters(pair: Pair) -> int:
    """Return the common number of parameters, without the second bias that PyTorch's LSTM has beside the first."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(pair.task.init, jax.random.key(0))[0]))
    twin = sum(value.numel() for name, value in pair.network.named_parameters() if "bias_hh" not in name)
    if count != twin:
        raise RuntimeError(f"expected networks of equal size, got {count} and {twin} parameters")
    return count


def measure(name: str, config: Config) -> dict[str, Any]:
    """Measure one task and return its row."""
    size = Size(4 if config.small else SIZES[name].batch, 2 if config.small else SIZES[name].steps)
    pair = PAIRS[name](size, config.small)
    count = parameters(pair)
    params, phase = pair.task.init(jax.random.key(0))
    contenders = {
        "gdlab": ours(pair.task, params, phase),
        "torch": theirs(pair, params, getattr(phase, "model", phase)),
    }
    first, began = {}, time.perf_counter()
    for contender, run in contenders.items():
        first[contender] = float(run(1)[0])
    compilation = time.perf_counter() - began
    if not math.isclose(*first.values(), rel_tol=pair.tolerance):
        raise RuntimeError(f"{name}: expected equal losses on the first batch, got {first}")
    clocks = {contender: Clock() for contender in contenders}
    for _ in range(config.rounds):
        for contender, run in contenders.items():
            clocks[contender].time(partial(run, size.steps))

    def median(kind: str) -> dict[str, float]:
        return {key: statistics.median(getattr(clock, kind)) / size.steps for key, clock in clocks.items()}

    wall, processor = median("wall"), median("processor")
    best = {key: min(clock.wall) / size.steps for key, clock in clocks.items()}
    row = {
        "batch": size.batch,
        "steps_of_a_round": size.steps,
        "parameters": count,
        "first_loss": first,
        "seconds_a_step": wall,
        "ratio": wall["torch"] / wall["gdlab"],
        "ratio_of_best_rounds": best["torch"] / best["gdlab"],
        "processor_seconds_a_step": processor,
        "ratio_by_processor_time": processor["torch"] / processor["gdlab"],
        "wall_seconds": {key: clock.wall for key, clock in clocks.items()},
        "first_steps_seconds": compilation,
    }
    print(f"{name}: gdlab {wall['gdlab']:.3g} s per step, PyTorch {wall['torch']:.3g}, {row['ratio']:.2f}", flush=True)
    return row


def main(config: Config) -> None:
    if unknown := set(config.tasks) - set(SIZES):
        raise ValueError(f"tasks: expected some of {', '.join(SIZES)}, got {', '.join(sorted(unknown))}")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-config.threads :])  # XLA counts these when it starts
    torch.set_num_threads(config.threads)
    load = os.getloadavg()[0]
    rows = {name: measure(name, config) for name in config.tasks}
    cells = [
        (
            name,
            str(row["batch"]),
            f"{row['parameters']:,}",
            *(f"{row['seconds_a_step'][key]:.3g}" for key in ("gdlab", "torch")),
            *(f"{row[key]:.2f}" for key in ("ratio", "ratio_by_processor_time")),
        )
        for name, row in rows.items()
    ]
    header = ("task", "batch", "parameters", "gdlab, s/step", "PyTorch, s/step", "ratio", "by processor time")
    print(Table(header, cells).text())
    if config.small or set(rows) != set(SIZES) or config.threads != Config().threads:
        return
    content = {
        "environment": environment()
        | {
            "command": " ".join(["python -m benchmarks.task_speed", *sys.argv[1:]]),
            "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
            "load": [load, os.getloadavg()[0]],
        },
        "config": dataclasses.asdict(config),
        "tasks": rows,
    }
    write_json(RESULT, content)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
