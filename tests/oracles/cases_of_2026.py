"""Cases of the optimizers that came into use after 2022, in the form of `trajectories.CASES`.

They are compared on a network with matrices of two shapes that are not square, and on Rosenbrock's function of a
vector: an optimizer that confuses inputs with outputs fails on the first.
"""

import math

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


class Probes:
    """The random arrays that our optimizer draws in step t, for a reference: it cannot find the fixed point without.

    Args:
      seed: the seed of the first key.
    """

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, t, shapes):
        """Return one array per leaf: a key is split in two in every step, and the second by leaves."""
        import jax

        key = jax.random.key(self.seed)
        for _ in range(t):
            key, now = jax.random.split(key)
        keys = jax.random.split(now, len(shapes))
        return [np.asarray(jax.random.normal(k, shape, np.float64)) for k, shape in zip(keys, shapes, strict=True)]


def first_bases(seed, rank):
    """Return the function of shapes that gives Dion's random first bases, one per matrix: our optimizer's own."""

    def first(shapes):
        import jax

        matrices = [shape for shape in shapes if len(shape) == 2]
        keys = iter(jax.random.split(jax.random.key(seed), max(len(matrices), 1)))
        return [
            np.asarray(jax.random.normal(next(keys), (shape[0], rank), np.float64)) if len(shape) == 2 else None
            for shape in shapes
        ]

    return first


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
    "moonlight": Case(
        "moonlight",
        {},
        "numpy:moonlight",
        {
            "lr": 1e-3,
            "momentum": 0.95,
            "weight_decay": 0.1,
            "nesterov": True,
            "eps": 1e-7,
            "adam_lr": 1e-3,
            **ADAM,
            "adam_eps": 1e-8,
        },
        problems=BOTH,
    ),
    "moonlight-all": Case(
        "moonlight",
        {
            "learning_rate": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "nesterov": False,
            "ns_steps": 12,
            "eps": 1e-2,
            "coefficients": "classic",
            "adam_ratio": 0.5,
            **ADAM_ALL,
        },
        "numpy:moonlight",
        {
            "lr": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "nesterov": False,
            "eps": 1e-2,
            "adam_lr": 2.5e-3,
            "name": "classic",
            **ADAM_ALL,
        },
        problems=BOTH,
    ),
    "normuon": Case(
        "normuon",
        {"learning_rate": 5e-3},
        "numpy:normuon",
        {
            "lr": 5e-3,
            "momentum": 0.95,
            "b2": 0.95,
            "weight_decay": 0.0,
            "nesterov": True,
            "eps": 1e-7,
            "norm_eps": 1e-10,
            "adam_lr": 5e-3 * 0.015,
            **ADAM,
        },
        problems=BOTH,
    ),
    "normuon-all": Case(
        "normuon",
        {
            "learning_rate": 5e-3,
            "momentum": 0.8,
            "b2": 0.7,
            "weight_decay": 0.3,
            "nesterov": False,
            "ns_steps": 12,
            "eps": 1e-2,
            "norm_eps": 1e-2,
            "coefficients": "classic",
            "adam_ratio": 0.5,
            **ADAM_ALL,
        },
        "numpy:normuon",
        {
            "lr": 5e-3,
            "momentum": 0.8,
            "b2": 0.7,
            "weight_decay": 0.3,
            "nesterov": False,
            "eps": 1e-2,
            "norm_eps": 1e-2,
            "adam_lr": 2.5e-3,
            "name": "classic",
            **ADAM_ALL,
        },
        problems=BOTH,
    ),
    "adamuon": Case(
        "adamuon",
        {"learning_rate": 5e-3},
        "numpy:adamuon",
        {
            "lr": 5e-3,
            "momentum": 0.95,
            "weight_decay": 0.01,
            "nesterov": True,
            "eps": 1e-7,
            "moment_eps": 1e-8,
            "adam_lr": 5e-3 * 0.015,
            **ADAM,
        },
        problems=BOTH,
    ),
    "adamuon-all": Case(
        "adamuon",
        {
            "learning_rate": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "nesterov": False,
            "ns_steps": 12,
            "eps": 1e-2,
            "moment_eps": 1e-2,
            "coefficients": "classic",
            "adam_ratio": 0.5,
            **ADAM_ALL,
        },
        "numpy:adamuon",
        {
            "lr": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "nesterov": False,
            "eps": 1e-2,
            "moment_eps": 1e-2,
            "adam_lr": 2.5e-3,
            "name": "classic",
            **ADAM_ALL,
        },
        problems=BOTH,
    ),
    "scion": Case(
        "scion",
        {},
        "numpy:scion",
        {
            "lr": 1e-3,
            "momentum": 0.9,
            "radius": 1.0,
            "norms": ["spectral", "rms"] * 2,
            "constrained": False,
            "eps": 1e-7,
            "vector_eps": 1e-8,
        },
        problems=NETWORK,
    ),
    "scion-all": Case(
        "scion",
        {
            "learning_rate": 1e-3,
            "momentum": 0.7,
            "radius": 3.0,
            "constrained": True,
            "ns_steps": 12,
            "eps": 1e-2,
            "vector_eps": 1e-2,
            "coefficients": "classic",
        },
        "numpy:scion",
        {
            "lr": 1e-3,
            "momentum": 0.7,
            "radius": 3.0,
            "norms": ["spectral", "rms"] * 2,
            "constrained": True,
            "eps": 1e-2,
            "vector_eps": 1e-2,
            "name": "classic",
        },
        problems=NETWORK,
    ),
    "scion-sign": Case(
        "scion",
        {"learning_rate": 5e-3, "norm": "sign"},
        "numpy:scion",
        {
            "lr": 5e-3,
            "momentum": 0.9,
            "radius": 1.0,
            "norms": ["sign"] * 4,
            "constrained": False,
            "eps": 1e-7,
            "vector_eps": 1e-8,
        },
        problems=NETWORK,
    ),
    "psgd_kron": Case(
        "psgd_kron",
        {},
        "numpy:psgd_kron",
        {
            "lr": 3e-4,
            "b1": 0.9,
            "precondition_lr": 0.1,
            "initial_scale": 1.0,
            "clip": 1.1,
            "weight_decay": 0.0,
            "interval": lambda t: 1 / max(0.03, min(1.0, math.exp(-0.001 * (t - 1 - 500)))),
            "probes": Probes(0),
            "damping": 2.0**-11.5,
        },
        problems=BOTH,
    ),
    "psgd_kron-all": Case(
        "psgd_kron",
        {
            "learning_rate": 3e-3,
            "b1": 0.8,
            "precondition_lr": 0.3,
            "initial_scale": 2.0,
            "clip": 0.5,
            "weight_decay": 0.3,
            "damping": 0.1,
            "update_interval": 3.0,
            "seed": 5,
        },
        "numpy:psgd_kron",
        {
            "lr": 3e-3,
            "b1": 0.8,
            "precondition_lr": 0.3,
            "initial_scale": 2.0,
            "clip": 0.5,
            "weight_decay": 0.3,
            "interval": lambda t: 3,
            "probes": Probes(5),
            "damping": 0.1,
        },
        problems=BOTH,
    ),
    "muonh": Case(
        "muonh",
        {"learning_rate": 2e-3},
        "numpy:hyperball",
        {
            "method": "muon",
            "lr": 2e-3,
            "eps": 1e-10,
            "ns_eps": 1e-7,
            "b1": 0.95,
            "b2": None,
            "moment_eps": None,
            "adam_lr": 2e-3 * 0.015,
            "adam": (0.9, 0.95, 1e-10, 0.0),
        },
        problems=BOTH,
    ),
    "muonh-all": Case(
        "muonh",
        {
            "learning_rate": 5e-3,
            "momentum": 0.8,
            "nesterov": False,
            "ns_steps": 12,
            "eps": 1e-2,
            "norm_eps": 2.0,
            "coefficients": "classic",
            "adam_ratio": 0.5,
            **ADAM_ALL,
            "adam_decay": 0.3,
        },
        "numpy:hyperball",
        {
            "method": "muon",
            "lr": 5e-3,
            "eps": 2.0,
            "ns_eps": 1e-2,
            "b1": 0.8,
            "b2": None,
            "moment_eps": None,
            "adam_lr": 2.5e-3,
            "adam": (0.8, 0.9, 1e-3, 0.3),
            "nesterov": False,
            "name": "classic",
        },
        problems=BOTH,
    ),
    "adamh": Case(
        "adamh",
        {},
        "numpy:hyperball",
        {
            "method": "adam",
            "lr": 0.018,
            "eps": 1e-10,
            "ns_eps": None,
            "b1": 0.9,
            "b2": 0.95,
            "moment_eps": 1e-8,
            "adam_lr": 0.018 * 0.015,
            "adam": (0.9, 0.95, 1e-8, 0.0),
        },
        problems=BOTH,
    ),
    "adamh-all": Case(
        "adamh",
        {
            "learning_rate": 5e-3,
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-3,
            "norm_eps": 2.0,
            "adam_ratio": 0.5,
            "adam_decay": 0.3,
        },
        "numpy:hyperball",
        {
            "method": "adam",
            "lr": 5e-3,
            "eps": 2.0,
            "ns_eps": None,
            "b1": 0.8,
            "b2": 0.9,
            "moment_eps": 1e-3,
            "adam_lr": 2.5e-3,
            "adam": (0.8, 0.9, 1e-3, 0.3),
        },
        problems=BOTH,
    ),
    "soap_muon": Case(
        "soap_muon",
        {"learning_rate": 2e-3},
        "numpy:soap_muon",
        {
            "lr": 2e-3,
            "momentum": 0.95,
            "b2": 0.9,
            "shampoo_beta": 0.9,
            "weight_decay": 0.0,
            "eps": 1e-7,
            "moment_eps": 1e-8,
            "adam_lr": 2e-3 * 0.015,
            **ADAM,
        },
        problems=BOTH,
    ),
    "soap_muon-all": Case(
        "soap_muon",
        {
            "learning_rate": 3e-3,
            "momentum": 0.8,
            "b2": 0.95,
            "shampoo_beta": 0.8,
            "weight_decay": 0.3,
            "ns_steps": 5,
            "eps": 1e-2,
            "moment_eps": 1e-2,
            "coefficients": "jordan",
            "adam_ratio": 0.5,
            **ADAM_ALL,
        },
        "numpy:soap_muon",
        {
            "lr": 3e-3,
            "momentum": 0.8,
            "b2": 0.95,
            "shampoo_beta": 0.8,
            "weight_decay": 0.3,
            "eps": 1e-2,
            "moment_eps": 1e-2,
            "adam_lr": 1.5e-3,
            "name": "jordan",
            **ADAM_ALL,
        },
        problems=BOTH,
    ),
    "kl_soap": Case(
        "kl_soap",
        {"learning_rate": 1e-3, "eps": 1e-3},
        "numpy:kl_soap",
        {
            "lr": 1e-3,
            "b1": 0.95,
            "b2": 0.9,
            "shampoo_beta": 0.9,
            "eps": 1e-3,
            "weight_decay": 0.01,
            "frequency": 1,
            "cap": 4000.0,
            "first_value": 0.1,
            "adam_lr": 1e-3,
            **ADAM,
            "adam_eps": 1e-3,
        },
        problems=BOTH,
    ),
    "kl_soap-all": Case(
        "kl_soap",
        {
            "learning_rate": 2e-3,
            "b1": 0.8,
            "b2": 0.95,
            "shampoo_beta": 0.8,
            "eps": 1e-2,
            "weight_decay": 0.3,
            "precondition_frequency": 3,
            "cap": 5.0,
            "initial_value": 0.5,
            "adam_ratio": 0.5,
            "adam_b1": 0.8,
            "adam_b2": 0.9,
        },
        "numpy:kl_soap",
        {
            "lr": 2e-3,
            "b1": 0.8,
            "b2": 0.95,
            "shampoo_beta": 0.8,
            "eps": 1e-2,
            "weight_decay": 0.3,
            "frequency": 3,
            "cap": 5.0,
            "first_value": 0.5,
            "adam_lr": 1e-3,
            "adam_b1": 0.8,
            "adam_b2": 0.9,
            "adam_eps": 1e-2,
        },
        problems=BOTH,
    ),
    "dion": Case(
        "dion",
        {},
        "numpy:dion",
        {
            "lr": 0.01,
            "momentum": 0.95,
            "weight_decay": 0.01,
            "eps": 1e-8,
            "first": first_bases(0, 3),
            "adam_lr": 1e-3,
            **ADAM,
        },
        problems=BOTH,
    ),
    "dion-all": Case(
        "dion",
        {
            "learning_rate": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "rank": 2,
            "eps": 1e-2,
            "seed": 5,
            "adam_ratio": 0.5,
            **ADAM_ALL,
        },
        "numpy:dion",
        {
            "lr": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "eps": 1e-2,
            "first": first_bases(5, 2),
            "adam_lr": 2.5e-3,
            **ADAM_ALL,
        },
        problems=BOTH,
    ),
}

OF_2026 = {case.optimizer for case in CASES_OF_2026.values()} - {"muon"}
"""The names of these optimizers. Of their tests, those that compile are slow."""
