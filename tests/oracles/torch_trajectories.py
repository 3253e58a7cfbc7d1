"""Trajectories of `torch.optim`, the oracle of the first optimizers; run as a script it stores them beside itself.

Each case names one of our factories with its arguments and PyTorch's class with its own; the first case of each
optimizer leaves both at their defaults, so that the defaults are compared too. Every 10th of 200 steps is stored.
Learning rates are small enough for rounding not to be amplified: at 0.03, Adam on Rosenbrock turns a change of the
start's last digit into 4e-10 after 200 steps, whichever implementation runs it.

Command: python -m tests.oracles.torch_trajectories
"""

import sys
from pathlib import Path

import numpy as np

STEPS = 200
STORED = Path(__file__).with_suffix(".npz")

# name: (our factory, our arguments, torch.optim's class, its arguments)
CASES = {
    "sgd": ("sgd", {}, "SGD", {}),
    "sgd-l2": ("sgd", {"learning_rate": 5e-4, "weight_decay": 0.3}, "SGD", {"lr": 5e-4, "weight_decay": 0.3}),
    "momentum": ("momentum", {}, "SGD", {"momentum": 0.9}),
    "momentum-dampened": (
        "momentum",
        {"learning_rate": 2e-3, "momentum": 0.8, "dampening": 0.6, "weight_decay": 0.1},
        "SGD",
        {"lr": 2e-3, "momentum": 0.8, "dampening": 0.6, "weight_decay": 0.1},
    ),
    "momentum-zero-dampened": (
        "momentum",
        {"momentum": 0.0, "dampening": 0.5},
        "SGD",
        {"momentum": 0.0, "dampening": 0.5},
    ),
    "nesterov": ("nesterov", {}, "SGD", {"momentum": 0.9, "nesterov": True}),
    "nesterov-l2": (
        "nesterov",
        {"learning_rate": 5e-4, "momentum": 0.7, "weight_decay": 0.2},
        "SGD",
        {"lr": 5e-4, "momentum": 0.7, "nesterov": True, "weight_decay": 0.2},
    ),
    "adam": ("adam", {}, "Adam", {}),
    "adam-all": (
        "adam",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": ("adamw", {}, "AdamW", {}),
    "adamw-all": (
        "adamw",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.3},
        "AdamW",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3},
    ),
    "adamax": ("adamax", {}, "Adamax", {}),
    "adamax-all": (
        "adamax",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        "Adamax",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adagrad": ("adagrad", {}, "Adagrad", {}),
    "adagrad-all": (
        "adagrad",
        {
            "learning_rate": 0.2,
            "lr_decay": 0.01,
            "initial_accumulator_value": 0.5,
            "eps": 1e-2,
            "weight_decay": 0.1,
        },
        "Adagrad",
        {"lr": 0.2, "lr_decay": 0.01, "initial_accumulator_value": 0.5, "eps": 1e-2, "weight_decay": 0.1},
    ),
    "adadelta": ("adadelta", {}, "Adadelta", {}),
    "adadelta-all": (
        "adadelta",
        {"learning_rate": 0.1, "rho": 0.95, "eps": 1e-5, "weight_decay": 0.1},
        "Adadelta",
        {"lr": 0.1, "rho": 0.95, "eps": 1e-5, "weight_decay": 0.1},
    ),
    "rmsprop": ("rmsprop", {}, "RMSprop", {}),
    "rmsprop-all": (
        "rmsprop",
        {"learning_rate": 3e-4, "decay": 0.95, "eps": 1e-1, "momentum": 0.6, "weight_decay": 0.1, "centered": True},
        "RMSprop",
        {"lr": 3e-4, "alpha": 0.95, "eps": 1e-1, "momentum": 0.6, "weight_decay": 0.1, "centered": True},
    ),
}


def least_squares_data():
    """A of shape (12, 5), b of shape (12,) and the start: random, but the same everywhere."""
    generator = np.random.default_rng(20261122)
    return generator.normal(size=(12, 5)), generator.normal(size=12), generator.normal(size=5)


def rosenbrock(x):
    """The same code serves PyTorch and JAX."""
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def least_squares(matrix, target):
    return lambda x: 0.5 * ((matrix @ x - target) ** 2).mean()


def torch_trajectory(case, problem):
    """All STEPS + 1 points of PyTorch's optimizer, in float64."""
    import torch

    matrix, target, start = least_squares_data()
    if problem == "rosenbrock":
        fn, start = rosenbrock, np.array([-1.2, 1.0])
    else:
        fn = least_squares(torch.tensor(matrix), torch.tensor(target))
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    _, _, name, arguments = CASES[case]
    optimizer = getattr(torch.optim, name)([x], **arguments)
    points = [x.detach().numpy().copy()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        fn(x).backward()
        optimizer.step()
        points.append(x.detach().numpy().copy())
    return np.stack(points)


def main():
    import torch

    stored = {
        "versions": np.array(
            [f"torch {torch.__version__}", f"numpy {np.__version__}", f"python {sys.version.split()[0]}"]
        )
    }
    for case in CASES:
        for problem in ("rosenbrock", "least_squares"):
            stored[f"{case}/{problem}"] = torch_trajectory(case, problem)[::10]
    np.savez_compressed(STORED, **stored)
    print(f"{len(stored) - 1} trajectories in {STORED.name}, {STORED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
