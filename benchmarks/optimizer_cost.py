"""Measure what each optimizer costs: memory, time of a step, gradients per step and compilation.

The parameters are those of ResNet18 for CIFAR-10 and of a small GPT, whose matrices have other shapes; gradients are
random and stay the same, and the network itself does not run. Bytes of state follow from the shapes alone. The time of
a step is the median over rounds in which all optimizers of a group take turns with SGD, relative to SGD's in the same
round, so that other work on the machine affects both. Where optax has the optimizer, its time stands beside ours. The
gradients per step are counted by the optimizers that ask for some, in 50 steps on Rosenbrock's function of 4 variables.

Command: python -m benchmarks.optimizer_cost [--optimizers adam soap] [--networks gpt] [--small]
Writes benchmarks/results/optimizer_cost.json if all optimizers and networks are measured at full size.
Runtime: about fifty minutes on two CPU cores.
"""

import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from gdlab import FUNCTIONS, OPTIMIZERS, models
from gdlab.arguments import require_count, require_names, require_number
from gdlab.optimizers.protocol import with_any_arguments
from gdlab.records import environment, write_json

RESULT = Path(__file__).parent / "results" / "optimizer_cost.json"
LEAST_ROUNDS = 3
SLOW = 0.3
"""Seconds above which the steps of an optimizer are timed one by one."""
VERY_SLOW = 10.0
"""Seconds above which one timed step is enough."""
LARGEST = 8 * 2**30
"""Bytes of state above which an optimizer is not run."""

ARGUMENTS: Mapping[str, dict[str, Any]] = {
    "demon_sgdm": {"total_steps": 1000},
    "demon_adam": {"total_steps": 1000},
}
"""Arguments without a default. Without a residual, gauss_newton has no step, so it is left out."""

IN_OPTAX: Mapping[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": lambda: optax.sgd(1e-3),
    "momentum": lambda: optax.sgd(1e-3, momentum=0.9),
    "nesterov": lambda: optax.sgd(1e-3, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(1e-3),
    "adamw": lambda: optax.adamw(1e-3),
    "adamax": lambda: optax.adamax(1e-3),
    "nadam": lambda: optax.nadam(1e-3),
    "radam": lambda: optax.radam(1e-3),
    "adagrad": lambda: optax.adagrad(1e-3),
    "adadelta": lambda: optax.adadelta(1e-3),
    "rmsprop": lambda: optax.rmsprop(1e-3),
    "adabelief": lambda: optax.adabelief(1e-3),
    "yogi": lambda: optax.yogi(1e-3),
    "adan": lambda: optax.adan(1e-3),
    "lion": lambda: optax.lion(1e-3),
    "lamb": lambda: optax.lamb(1e-3),
    "lars": lambda: optax.lars(1e-3),
    "novograd": lambda: optax.novograd(1e-3),
    "muon": lambda: optax.contrib.muon(1e-3),
    "ademamix": lambda: optax.contrib.ademamix(1e-3),
    "adopt": lambda: optax.contrib.adopt(1e-3),
    "madgrad": lambda: optax.contrib.madgrad(1e-3),
    "prodigy": lambda: optax.contrib.prodigy(),
    "schedule_free_sgd": lambda: optax.contrib.schedule_free_sgd(1e-3),
    "schedule_free_adamw": lambda: optax.contrib.schedule_free_adamw(1e-3),
    "galore": lambda: optax.contrib.galore(1e-3),
    "amsgrad": lambda: optax.amsgrad(1e-3),
    "rprop": lambda: optax.rprop(1e-3),
    "adafactor": lambda: optax.adafactor(1e-3),
    "dadapt_adam": lambda: optax.contrib.dadapt_adamw(),
    "lbfgs": lambda: optax.lbfgs(1e-3, linesearch=None),
}
"""The same optimizers of optax at their defaults. galore projects the other side there, and to rank 128."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    optimizers: tuple[str, ...] = ()
    """Names in OPTIMIZERS. Empty, the default: all that need no residuals."""
    networks: tuple[str, ...] = ("resnet18", "gpt")
    """Whose parameters: resnet18, gpt."""
    rounds: int = 7
    """Number of timed rounds."""
    patience: float = 60.0
    """Seconds after which no round but the first three of an optimizer on a network begins."""
    steps: int = 10
    """Steps per round; ten of them hold one renewal of most preconditioners. A slow optimizer takes its ten steps in
    ten rounds."""
    keep: Path | None = None
    """A file in which rows are kept as they are measured, to continue from with the same settings. Default: they are
    not kept."""
    small: bool = False
    """Use narrow networks to check that everything runs; nothing is written."""

    def __post_init__(self) -> None:
        require_names("optimizers", self.optimizers, OPTIMIZERS, empty=True)
        require_names("networks", self.networks, NETWORKS)
        require_count("rounds", self.rounds)
        require_number("patience", self.patience, 0.0)
        require_count("steps", self.steps)
        if self.keep is not None and not self.keep.parent.is_dir():
            raise ValueError(f"keep: expected a file in a folder that exists, got {self.keep}")

    @property
    def names(self) -> tuple[str, ...]:
        """The optimizers to measure."""
        return self.optimizers or tuple(name for name in OPTIMIZERS if name != "gauss_newton")


def resnet18(small: bool) -> Any:
    """Return the shapes of the parameters of ResNet18 for CIFAR-10."""
    network = models.resnet18(10, stem=models.cifar_stem, width=4 if small else 64)
    return jax.eval_shape(network.init, jax.random.key(0))[0]


def gpt(small: bool) -> Any:
    """Return the shapes of the parameters of a GPT with 4 layers of width 256, 256 places and 8,192 tokens."""
    layers, width, places, tokens = (1, 16, 8, 32) if small else (4, 256, 256, 8192)

    def norm() -> dict[str, Any]:
        return {"scale": array(width), "shift": array(width)}

    def dense(inputs: int, outputs: int) -> dict[str, Any]:
        return {"kernel": array(inputs, outputs), "bias": array(outputs)}

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.float32)

    blocks = [
        {
            "norms": [norm(), norm()],
            "attention": [dense(width, 3 * width), dense(width, width)],
            "mlp": [dense(width, 4 * width), dense(4 * width, width)],
        }
        for _ in range(layers)
    ]
    return {"tokens": array(tokens, width), "places": array(places, width), "blocks": blocks, "norm": norm()}


NETWORKS: Mapping[str, Callable[[bool], Any]] = {"resnet18": resnet18, "gpt": gpt}


def size_of(tree: Any) -> int:
    """Return the bytes of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class Runner:
    """The compiled step of one optimizer on one network."""

    def __init__(self, optimizer: optax.GradientTransformation, params: Any, gradients: Any):
        self.gradients = gradients

        def step(params: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        state = optimizer.init(params)
        began = time.perf_counter()
        self.step = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, gradients).compile()
        self.compile_seconds = time.perf_counter() - began
        self.carry = jax.tree.map(jnp.array, (params, state))  # some states share arrays, which cannot be donated
        self.step_seconds = self.run(1)
        if self.step_seconds < VERY_SLOW:  # the first step also allocates
            self.step_seconds = self.run(1)

    def run(self, steps: int) -> float:
        """Take steps and return the seconds per step."""
        began = time.perf_counter()
        for _ in range(steps):
            self.carry = self.step(*self.carry, self.gradients)
        jax.block_until_ready(self.carry)
        return (time.perf_counter() - began) / steps


def draw(shapes: Any, seed: int) -> Any:
    """Return random arrays of these shapes."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(generator.normal(size=x.shape) * 0.02, x.dtype), shapes)


def gradients_per_step(name: str, steps: int = 50) -> float:
    """Return how many gradients a step takes, where a product with a Hessian counts as two."""
    optimizer = OPTIMIZERS[name](**ARGUMENTS.get(name, {}))
    start = jnp.asarray([-1.2, 1.0, 0.5, 2.0])
    counts = {"evaluations": 1, "products": 2}
    fields = jax.eval_shape(optimizer.init, start)
    found = [field for field in counts if optax.tree.get(fields, field) is not None]
    if not found:
        return 1.0
    fn, full = FUNCTIONS["rosenbrock"].fn, with_any_arguments(optimizer)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        x, state = carry
        updates, state = full.update(jax.grad(fn)(x), state, x, value=fn(x), value_fn=fn, grad_fn=jax.grad(fn))
        return (x + updates, state), None

    (_, state), _ = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), length=steps))(start)
    return 1.0 + sum(counts[field] * float(optax.tree.get(state, field)) for field in found) / steps


def measure(name: str, network: str, config: Config) -> dict[str, Any]:
    """Return the costs of one optimizer on the parameters of one network."""
    shapes = NETWORKS[network](config.small)
    optimizer = OPTIMIZERS[name](**ARGUMENTS.get(name, {}))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    state = size_of(jax.eval_shape(optimizer.init, shapes))
    row: dict[str, Any] = {"optimizer": name, "network": network, "state_bytes_per_parameter": state / count}
    if state > LARGEST:
        return row | {"left_out": f"its state would take {state / 2**30:.0f} GiB"}
    params, gradients = draw(shapes, 0), draw(shapes, 1)
    built = {"ours": optimizer, "sgd": optax.sgd(1e-3)}
    if name in IN_OPTAX:
        built["optax"] = IN_OPTAX[name]()
    runners = {who: Runner(one, params, gradients) for who, one in built.items()}
    seconds: dict[str, list[float]] = {who: [] for who in runners}
    slow = runners["ours"].step_seconds > SLOW
    least = 1 if runners["ours"].step_seconds > VERY_SLOW else LEAST_ROUNDS
    rounds, steps = (config.steps, 1) if slow else (config.rounds, config.steps)
    began = time.perf_counter()
    for k in range(rounds):
        if k >= least and time.perf_counter() - began > config.patience:
            break
        for who, runner in runners.items():
            seconds[who].append(runner.run(steps))
    for other in built:
        if other != "ours":
            ratios = [a / b for a, b in zip(seconds["ours"], seconds[other], strict=True)]
            # A step that renews a preconditioner takes longer than others, so the mean of single steps counts.
            whole = sum(seconds["ours"]) / sum(seconds[other])
            row[f"time_over_{other}"] = whole if slow else statistics.median(ratios)
    return row | {
        "step_seconds": statistics.median(seconds["ours"]),
        "compile_seconds": runners["ours"].compile_seconds,
        "seconds": seconds,
    }


def line(row: Mapping[str, Any], gradients: float) -> str:
    """Format one row of the table."""
    head = f"{row['optimizer']:20s} {row['network']:9s} {row['state_bytes_per_parameter']:9.2f} {gradients:9.2f}"
    if "left_out" in row:
        return f"{head}  {row['left_out']}"
    optax_ratio = f"{row['time_over_optax']:8.2f}" if "time_over_optax" in row else "       -"
    return f"{head} {row['time_over_sgd']:9.2f} {optax_ratio} {row['compile_seconds']:8.1f}"


def main(config: Config) -> None:
    titles = ("bytes/par", "gradients", "time/SGD", "/optax", "compile")
    print(f"{'optimizer':20s} {'network':9s} {titles[0]} {titles[1]} {titles[2]:>9s} {titles[3]:>8s} {titles[4]:>8s}")
    kept = config.keep.read_text().splitlines() if config.keep and config.keep.exists() else []
    rows = [json.loads(one) for one in kept]
    gradients = {name: gradients_per_step(name) for name in config.names}
    there = {(row["optimizer"], row["network"]) for row in rows}
    for name, network in itertools.product(config.names, config.networks):
        if (name, network) not in there:
            rows.append(measure(name, network, config))
            if config.keep:
                with config.keep.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
            print(line(rows[-1], gradients[name]), flush=True)
    if not config.small and not config.optimizers and set(config.networks) == set(NETWORKS):
        record = {
            "environment": environment() | {"command": "python -m benchmarks.optimizer_cost"},
            "steps": config.steps,
        }
        write_json(RESULT, record | {"gradients_per_step": gradients, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
