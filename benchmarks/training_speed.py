"""Images per second in training steps of ResNet18 at 32x32, gdlab beside PyTorch: medians over alternating rounds.

A step is a whole one: crop, flip and normalization of random uint8 images, forward and backward pass, and SGD with
momentum. There are two stems: "source" is torchvision's, with the two linear layers of the source article (a Paperspace
tutorial that writes gradient descent and momentum from scratch, draws them on Ackley's function and compares seven
PyTorch optimizers on CIFAR10); "cifar" is the stem for small images. gdlab runs a round as one `lax.scan`. PyTorch uses
channels-last layout and one thread per core, eagerly and with torch.compile where that works; the faster of the two
counts. Both compute in float32 or, by default on a GPU, in bfloat16.

Command: python -m benchmarks.training_speed [--batch 512] [--threads 1] [--table] [--no-compiled]
Writes benchmarks/results/training_speed.json, or a file beside it for another batch size and for one thread. Bounds on
two cores: at least 0.8 of PyTorch's images per second with the source stem and 0.6 with the other. Processor time is
given beside wall-clock time, because other work on a shared machine affects the latter.
Runtime: 3 minutes with --no-compiled --rounds 3 --steps 2 on two busy cores.
"""

import dataclasses
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import tyro
from torch import nn

from benchmarks.resnet18 import STEMS, geometries
from gdlab import models
from gdlab.data import crop_and_flip, normalize
from gdlab.models import products
from gdlab.models.geometry import Geometry
from gdlab.models.products import choose
from gdlab.records import environment, write_json

RESULTS = Path(__file__).parent / "results"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
LEARNING_RATE, MOMENTUM = 0.01, 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    batch: int = 64
    """Images per step."""
    steps: int = 4
    """Steps per round."""
    rounds: int = 5
    """Number of timed rounds."""
    stems: tuple[str, ...] = ("source", "cifar")
    """The stems to measure."""
    compiled: bool = True
    """Also measure PyTorch with torch.compile."""
    table: bool = False
    """Also measure each convolution on its own."""
    dtype: str = "bfloat16" if torch.cuda.is_available() else "float32"
    """Dtype in which networks compute: float32 or bfloat16."""
    threads: int = os.cpu_count() or 1
    """Threads of both. On a busy machine compare one thread, by processor time: PyTorch's threads wait actively."""


class Clock:
    """Wall-clock seconds of calls, and the processor seconds of this process."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def time(self, run: Callable[[], Any]) -> None:
        """Call `run` and record how long it takes."""
        wall, processor = time.perf_counter(), time.process_time()
        run()
        self.processor.append(time.process_time() - processor)
        self.wall.append(time.perf_counter() - wall)

    def summary(self, images: int) -> dict[str, Any]:
        """Return the rates of calls that process `images` images each."""
        wall, processor = statistics.median(self.wall), statistics.median(self.processor)
        return {
            "images_per_second": images / wall,
            "best_images_per_second": images / min(self.wall),
            "images_per_processor_second": images / processor,
            "wall_seconds": self.wall,
            "processor_seconds": self.processor,
        }


def gdlab_round(config: Config, stem: str, head: str) -> Callable[[], None]:
    model = models.resnet18(10, stem=models.STEMS[stem], head=models.HEADS[head], dtype=jnp.dtype(config.dtype))
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    params, state = model.init(jax.random.key(0))
    images = jax.random.bits(jax.random.key(1), (config.steps, config.batch, 32, 32, 3), jnp.uint8)
    labels = jax.random.randint(jax.random.key(2), (config.steps, config.batch), 0, 10)

    def loss(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = model.apply(params, state, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state

    def step(carry: Any, batch: Any) -> tuple[Any, jax.Array]:
        (params, state, moments, key), (images, labels) = carry, batch
        key, for_crop = jax.random.split(key)
        images = normalize(crop_and_flip(for_crop, images), MEAN, STD)
        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params, state, images, labels)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), state, moments, key), value

    epoch = jax.jit(lambda carry: jax.lax.scan(step, carry, (images, labels)), donate_argnums=0)
    carry = [(params, state, optimizer.init(params), jax.random.key(3))]

    def run() -> None:
        carry[0], _ = jax.block_until_ready(epoch(carry[0]))

    return run


class Block(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(*shortcut) if stride != 1 else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


def torch_network(stem: str, head: str, width: int = 64) -> nn.Sequential:
    first = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    if stem == "imagenet":
        first = [nn.Conv2d(3, width, 7, 2, 3, bias=False), *first[1:], nn.MaxPool2d(3, 2, 1)]
    widths = [factor * width for factor in (1, 1, 1, 2, 2, 4, 4, 8, 8)]
    blocks = [Block(i, o, 1 if i == o else 2) for i, o in itertools.pairwise(widths)]
    last = [nn.Linear(8 * width, 1000), nn.Linear(1000, 10)] if head == "source" else [nn.Linear(8 * width, 10)]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last)


def torch_round(config: Config, stem: str, head: str, compiled: bool) -> Callable[[], None]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: Any = torch_network(stem, head)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=MOMENTUM)
    images = torch.randint(0, 256, (config.steps, config.batch, 32, 32, 3), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (config.steps, config.batch), device=device)
    scale = 1 / (255 * torch.tensor(STD, device=device))
    shift = torch.tensor(MEAN, device=device) / torch.tensor(STD, device=device)
    pixels = torch.arange(32, device=device)

    def augmented(images: torch.Tensor) -> torch.Tensor:
        batch = len(images)
        flipped = torch.rand((batch, 1), device=device) < 0.5
        offsets = torch.randint(0, 9, (2, batch, 1), device=device)
        rows, columns = offsets[0] + pixels, torch.where(flipped, 31 - pixels, pixels) + offsets[1]
        padded = nn.functional.pad(images, (0, 0, 4, 4, 4, 4))
        crops = padded[torch.arange(batch, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return (crops.float() * scale - shift).permute(0, 3, 1, 2)  # channels last already

    forward = torch.compile(network) if compiled else network

    def run() -> None:
        for batch, target in zip(images, labels, strict=True):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                value = nn.functional.cross_entropy(forward(augmented(batch)), target)
            value.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def best_ms(run: Callable[[], Any], repetitions: int = 5) -> float:
    """Return the processor milliseconds of the fastest of several calls."""
    run()
    clock = Clock()
    for _ in range(repetitions):
        clock.time(run)
    return 1e3 * min(clock.processor)


def ours_ms(
    one_pass: Callable[..., jax.Array], a: jax.Array, b: jax.Array, geometry: Geometry, turns: int = 3
) -> float:
    """Time one pass in a loop, as in an epoch: what is carried between iterations has to be stored."""

    def body(_: Any, carry: Any) -> Any:
        a, b, out = carry
        return a.at[0, 0, 0, 0].add(out.ravel()[0] * 1e-20), b, one_pass(a, b, geometry)

    out = jax.eval_shape(lambda: one_pass(a, b, geometry))
    loop = jax.jit(lambda a, b: jax.lax.fori_loop(0, turns, body, (a, b, jnp.zeros(out.shape, out.dtype))))
    return best_ms(lambda: jax.block_until_ready(loop(a, b))) / turns


def table(config: Config, stem: str) -> list[dict[str, Any]]:
    """Measure the processor milliseconds of the forward pass and of both gradients of all convolutions."""
    rows = []
    for geometry, inputs, outputs, times in geometries(stem):
        x, kernel, g = (
            jax.random.normal(jax.random.key(0), shape)
            for shape in (
                (config.batch, *geometry.image, inputs),
                (*geometry.kernel, inputs, outputs),
                (config.batch, *geometry.outputs, outputs),
            )
        )
        ours = [
            ours_ms(products.forward, x, kernel, geometry),
            ours_ms(products.input_gradient, g, kernel, geometry),
            ours_ms(products.kernel_gradient, x, g, geometry),
        ]
        their_x, their_g = (torch.from_numpy(np.array(value)).permute(0, 3, 1, 2) for value in (x, g))
        their_kernel = torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1).contiguous()
        stride, padding = (geometry.stride,) * 2, (geometry.padding,) * 2
        convolution = partial(nn.functional.conv2d, their_x, their_kernel, None, stride, padding)
        gradient = partial(
            torch.ops.aten.convolution_backward, their_g, their_x, their_kernel, None, stride, padding, (1, 1), False
        )
        gradients = (partial(gradient, (0, 0), 1, mask) for mask in ([True, False, False], [False, True, False]))
        with torch.no_grad():
            theirs = [best_ms(run) for run in (convolution, *gradients)]
        size = f"{geometry.image[0]}x{geometry.image[1]}, kernel {geometry.kernel[0]}, stride {geometry.stride}"
        found = {"image": size, "channels": [inputs, outputs], "times": times}
        rows.append(found | {"algorithm": choose(geometry, inputs, outputs), "gdlab_ms": ours, "torch_ms": theirs})
        print(size, inputs, outputs, *(f"{ms:.1f}" for ms in (*ours, *theirs)), flush=True)
    return rows


def measure(config: Config, name: str) -> dict[str, Any]:
    stem, head = STEMS[name]
    contenders = {"gdlab": gdlab_round(config, stem, head), "torch eager": torch_round(config, stem, head, False)}
    if config.compiled:
        contenders["torch compiled"] = torch_round(config, stem, head, True)
    compilation, failures = {}, {}
    for contender, run in list(contenders.items()):
        began = time.perf_counter()
        try:
            run()
        except Exception as error:
            if contender != "torch compiled":
                raise
            failures[contender] = f"{type(error).__name__}: {error}".splitlines()[0]
            del contenders[contender]
        compilation[contender] = time.perf_counter() - began
    clocks = {contender: Clock() for contender in contenders}
    for _ in range(config.rounds):
        for contender, run in contenders.items():
            clocks[contender].time(run)
    images = config.batch * config.steps
    found = {contender: clock.summary(images) for contender, clock in clocks.items()}

    def ratio(key: str) -> float:
        return found["gdlab"][key] / max(value[key] for contender, value in found.items() if contender != "gdlab")

    result = {
        "contenders": found,
        "ratio": ratio("images_per_second"),
        "ratio_of_best_rounds": ratio("best_images_per_second"),
        "ratio_by_processor_time": ratio("images_per_processor_second"),
        "first_round_seconds": compilation,
        "failures": failures,
    }
    for contender, value in found.items():
        print(f"{name:7s} {contender:15s} {value['images_per_second']:8.1f} images/s", flush=True)
    print(
        f"{name:7s} ratio {result['ratio']:.2f}, by processor time {result['ratio_by_processor_time']:.2f}", flush=True
    )
    return result


def main(config: Config) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-config.threads :])  # XLA counts these when it starts
    torch.set_num_threads(config.threads)
    content: dict[str, Any] = {
        "environment": environment()
        | {
            "command": " ".join(["python -m benchmarks.training_speed", *sys.argv[1:]]),
            "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
        },
        "config": dataclasses.asdict(config),
        "bounds": {"source": 0.8, "cifar": 0.6},
    }
    content["stems"] = {name: measure(config, name) for name in config.stems}
    if config.table:
        content["table"] = {name: table(config, STEMS[name][0]) for name in config.stems}
    suffix = ("" if config.batch == 64 else f"_{config.batch}") + ("_one_thread" if config.threads == 1 else "")
    write_json(RESULTS / f"training_speed{suffix}.json", content)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
