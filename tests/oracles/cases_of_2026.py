"""Cases of the optimizers that came into use after 2022, in the form of `trajectories.CASES`.

They are compared on a network with matrices of two shapes that are not square, and on Rosenbrock's function of a
vector: an optimizer that confuses inputs with outputs fails on the first.
"""

import numpy as np

from tests.oracles.case import Case
from tests.oracles.problems import LAYERS

BOTH = (LAYERS, "rosenbrock")
NETWORK = (LAYERS,)

ELEMENTS = [np.arange(4), np.arange(3)]
BY_OUTPUT = [np.tile(np.arange(4), (3, 1)), ELEMENTS[0], np.tile(np.arange(3), (4, 1)), ELEMENTS[1]]
BY_HAND = [np.tile([0, 0, 1, 1], (3, 1)), ELEMENTS[0], np.tile(np.arange(4)[:, None], (1, 3)), np.zeros(3, int)]
"""Labels of the elements of the network's leaves, by the output and by hand: two heads, elements, inputs, a tensor."""

ADAM = {"adam_b1": 0.9, "adam_b2": 0.95, "adam_eps": 1e-10}
"""AdamW's numbers, for vectors, at the defaults of the optimizers of matrices."""

ADAM_ALL = {"adam_b1": 0.8, "adam_b2": 0.9, "adam_eps": 1e-3}

CASES_OF_2026 = {
    "nadamw": Case(
        "nadamw",
        {},
        "numpy:nadamw",
        {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
        problems=BOTH,
    ),
    "nadamw-all": Case(
        "nadamw",
        {"learning_rate": 3e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.3},
        "numpy:nadamw",
        {"lr": 3e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.3},
        problems=BOTH,
    ),
    "stable_adamw": Case("stable_adamw", {}, "pytorch_optimizer:StableAdamW", {"eps": 1e-6}, problems=BOTH),
    "stable_adamw-all": Case(
        "stable_adamw",
        {"learning_rate": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.3},
        "pytorch_optimizer:StableAdamW",
        {"lr": 5e-3, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
        problems=BOTH,
    ),
    "stable_adamw-numpy": Case(
        "stable_adamw",
        {"learning_rate": 5e-3, "b1": 0.8, "b2": 0.9, "eps": 1e-2, "weight_decay": 0.3},
        "numpy:stable_adamw",
        {"lr": 5e-3, "b1": 0.8, "b2": 0.9, "eps": 1e-2, "weight_decay": 0.3},
        problems=BOTH,
    ),
    "adam_mini": Case(
        "adam_mini",
        {},
        "numpy:adam_mini",
        {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "blocks": BY_OUTPUT},
        problems=NETWORK,
    ),
    "adam_mini-all": Case(
        "adam_mini",
        {
            "learning_rate": 5e-3,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "blocks": [2, "element", "input", "tensor"],
        },
        "numpy:adam_mini",
        {"lr": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.3, "blocks": BY_HAND},
        problems=NETWORK,
    ),
    "mars": Case(  # the package adds eps to the uncorrected root
        "mars", {"eps": 1e-15}, "pytorch_optimizer:MARS", {"eps": 1e-15}, problems=BOTH
    ),
    "mars-all": Case(
        "mars",
        {
            "learning_rate": 2e-3,
            "b1": 0.9,
            "b2": 0.95,
            "gamma": 0.1,
            "eps": 1e-3,
            "weight_decay": 0.2,
            "adam_ratio": 0.5,
            "adam_b1": 0.8,
            "adam_b2": 0.9,
            "adam_decay": 0.3,
        },
        "numpy:mars",
        {
            "lr": 2e-3,
            "b1": 0.9,
            "b2": 0.95,
            "gamma": 0.1,
            "eps": 1e-3,
            "weight_decay": 0.2,
            "adam_lr": 1e-3,
            "adam_b1": 0.8,
            "adam_b2": 0.9,
            "adam_decay": 0.3,
        },
        problems=BOTH,
    ),
    "mars-lion": Case(
        "mars",
        {"learning_rate": 1e-3, "form": "lion", "eps": 1e-15},
        "pytorch_optimizer:MARS",
        {"lr": 1e-3, "lr_1d": 1e-3, "mars_type": "lion", "eps": 1e-15},
        problems=BOTH,
    ),
    "mars-shampoo": Case(
        "mars",
        {"learning_rate": 1e-3, "gamma": 0.05, "form": "shampoo", "weight_decay": 0.1},
        "numpy:mars_shampoo",
        {
            "lr": 1e-3,
            "b1": 0.95,
            "gamma": 0.05,
            "eps": 1e-8,
            "weight_decay": 0.1,
            "adam_lr": 1e-3,
            "adam_b1": 0.9,
            "adam_b2": 0.95,
            "adam_eps": 1e-8,
            "adam_decay": 0.1,
        },
        problems=BOTH,
    ),
    "splus": Case(
        "splus",
        {"learning_rate": 0.01},
        "numpy:splus",
        {
            "lr": 0.01,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-30,
            "weight_decay": 1e-2,
            "average_decay": 0.999,
            "interval": 100,
            "vector_scale": 1e-3,
        },
        problems=BOTH,
    ),
    "splus-all": Case(
        "splus",
        {
            "learning_rate": 0.02,
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "average_decay": 0.95,
            "update_interval": 30,
            "vector_scale": 0.05,
        },
        "numpy:splus",
        {
            "lr": 0.02,
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "average_decay": 0.95,
            "interval": 30,
            "vector_scale": 0.05,
        },
        problems=BOTH,
    ),
    "splus-average": Case(
        "splus",
        {"learning_rate": 0.02, "average_decay": 0.95, "weight_decay": 0.3},
        "numpy:splus",
        {
            "lr": 0.02,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-30,
            "weight_decay": 0.3,
            "average_decay": 0.95,
            "interval": 100,
            "vector_scale": 1e-3,
        },
        problems=BOTH,
        average=True,
    ),
    "splus-torch": Case(
        "splus",
        {"learning_rate": 0.01, "b2": 0.99, "update_interval": 50},
        "pytorch_optimizer:SPlus",
        {"lr": 0.01, "betas": (0.9, 0.99), "inverse_steps": 50},
        problems=BOTH,
        tolerance=1e-5,
        why="it decomposes in float32",
    ),
    "muon-layers": Case(
        "muon",
        {"learning_rate": 5e-3, "weight_decay": 0.1},
        "numpy:muon",
        {
            "lr": 5e-3,
            "momentum": 0.95,
            "weight_decay": 0.1,
            "ns_steps": 5,
            "eps": 1e-7,
            "nesterov": True,
            "adam_lr": 5e-3 * 0.015,
            **ADAM,
        },
        problems=NETWORK,
    ),
    "muon-polar-express": Case(
        "muon",
        {"learning_rate": 5e-3, "coefficients": "polar_express"},
        "numpy:muon_by_values",
        {"lr": 5e-3, "momentum": 0.95, "weight_decay": 0.0, "eps": 1e-7, "name": "polar_express", "ns_steps": 5},
        problems=NETWORK,
    ),
    "muon-classic": Case(
        "muon",
        {"learning_rate": 5e-3, "coefficients": "classic", "ns_steps": 12, "weight_decay": 0.1},
        "numpy:muon_by_values",
        {"lr": 5e-3, "momentum": 0.95, "weight_decay": 0.1, "eps": 1e-7, "name": "classic", "ns_steps": 12},
        problems=NETWORK,
    ),
}
