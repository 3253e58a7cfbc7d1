"""Compare one step of simple optimizers with optax's and with PyTorch's fused and ordinary ones.

The parameters are those of `benchmarks.optimizer_cost`, ResNet18's and a small GPT's, and gradients are random and stay
the same. PyTorch's fused optimizers read and write each array once; XLA computes each output in a pass of its own.
In each round all take turns, and the ratio is the median over rounds.

Command: python -m benchmarks.fused_step [--rounds 15]
Writes benchmarks/results/fused_step.json. Needs the extra oracle. Runtime: about two minutes on two CPU cores.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
import optax
import tyro

from benchmarks.optimizer_cost import IN_OPTAX, NETWORKS, Runner, draw
from gdlab import optimizers
from gdlab.arguments import require_count
from gdlab.records import environment, write_json

RESULT = Path(__file__).parent / "results" / "fused_step.json"

OURS: Mapping[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": lambda: optimizers.sgd(1e-3),
    "momentum": lambda: optimizers.momentum(1e-3),
    "adagrad": lambda: optimizers.adagrad(1e-3),
    "adam": lambda: optimizers.adam(1e-3),
    "adamw": lambda: optimizers.adamw(1e-3),
}
"""Those that PyTorch has in a fused form."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    rounds: int = 15
    """Number of timed rounds."""
    steps: int = 10
    """Steps per round."""
    small: bool = False
    """Use narrow networks to check that everything runs; nothing is written."""

    def __post_init__(self) -> None:
        require_count("rounds", self.rounds)
        require_count("steps", self.steps)


class TorchRunner:
    """The step of one of PyTorch's optimizers on the same arrays."""

    def __init__(self, name: str, params: Any, gradients: Any, **how: bool):
        import torch

        self.params = [torch.nn.Parameter(torch.tensor(np.asarray(leaf))) for leaf in jax.tree.leaves(params)]
        for parameter, leaf in zip(self.params, jax.tree.leaves(gradients), strict=True):
            parameter.grad = torch.tensor(np.asarray(leaf))
        kind = {"sgd": "SGD", "momentum": "SGD", "adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW"}[name]
        more = {"momentum": 0.9} if name == "momentum" else {}
        self.optimizer = getattr(torch.optim, kind)(self.params, lr=1e-3, **more, **how)
        self.run(1)

    def run(self, steps: int) -> float:
        """Take steps and return the seconds per step."""
        began = time.perf_counter()
        for _ in range(steps):
            self.optimizer.step()
        return (time.perf_counter() - began) / steps


def measure(name: str, network: str, config: Config) -> dict[str, Any]:
    """Return the seconds per step of all contenders, and ours relative to each of the others."""
    shapes = NETWORKS[network](config.small)
    params, gradients = draw(shapes, 0), draw(shapes, 1)
    runners: dict[str, Runner | TorchRunner] = {
        "ours": Runner(OURS[name](), params, gradients),
        "optax": Runner(IN_OPTAX[name](), params, gradients),
        "torch fused": TorchRunner(name, params, gradients, fused=True),
        "torch foreach": TorchRunner(name, params, gradients, foreach=True),
        "torch": TorchRunner(name, params, gradients, foreach=False),
    }
    seconds: dict[str, list[float]] = {who: [] for who in runners}
    order = list(runners)
    for _ in range(config.rounds):
        order.append(order.pop(0))  # nobody always follows the same one, whose arrays fill the caches
        for who in order:
            seconds[who].append(runners[who].run(config.steps))
    return {
        "optimizer": name,
        "network": network,
        "seconds_a_step": {who: median(times) for who, times in seconds.items()},
        "time_over": {
            who: median(a / b for a, b in zip(seconds["ours"], times, strict=True))
            for who, times in seconds.items()
            if who != "ours"
        },
    }


def main(config: Config) -> None:
    rows = []
    for name in OURS:
        for network in NETWORKS:
            rows.append(row := measure(name, network, config))
            ratios = ", ".join(f"{ratio:.2f} of {who}" for who, ratio in row["time_over"].items())
            print(f"{name:10s} {network:9s} {1e3 * row['seconds_a_step']['ours']:8.2f} ms: {ratios}", flush=True)
    if not config.small:
        command = f"python -m benchmarks.fused_step --rounds {config.rounds}"
        write_json(RESULT, {"environment": environment() | {"command": command}, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
