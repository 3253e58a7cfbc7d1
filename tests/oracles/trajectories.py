"""Trajectories of independent implementations, the oracles of the optimizers; run as a script, it stores them.

Each case names one of our factories with its arguments, and an oracle with its own: `package:Class` of a PyTorch
package, or `numpy:function` of one of the REFERENCES, modules with references written from the equations. The first
case of each optimizer leaves our arguments at their defaults as far as the problems allow, so that the defaults are
compared too. Of the packages' trajectories every 25th of 200 steps is stored; the NumPy references and optax run every
time.

Rates are small enough not to amplify rounding: at 0.03, Adam on Rosenbrock's function turns a change of the start's
last digit into 4e-10 after 200 steps, in any implementation.

Command: python -m tests.oracles.trajectories
"""

import functools
import importlib
import importlib.metadata
import inspect
import sys
from pathlib import Path

import numpy as np

from tests.oracles import numpy_adam_family, numpy_low_rank, numpy_matrices, numpy_optimizers, numpy_second_order
from tests.oracles.case import Case
from tests.oracles.cases_of_2026 import CASES_OF_2026
from tests.oracles.cases_of_low_rank import CASES_OF_LOW_RANK
from tests.oracles.cases_of_second_order import CASES_OF_SECOND_ORDER
from tests.oracles.problems import data, flat, gradient, loss, residuals, start

STEPS = 200
EVERY = 25
INSTALLED = ("numpy", "optax")
"""What is installed anyway, so that its trajectories are not stored."""
STORED = Path(__file__).with_suffix(".npz")
REFERENCES = (numpy_optimizers, numpy_adam_family, numpy_matrices, numpy_low_rank, numpy_second_order)
DISTRIBUTIONS = {"torch.optim": "torch", "torch_optimizer": "torch-optimizer", "pytorch_optimizer": "pytorch-optimizer"}


CASES = {
    "sgd": Case("sgd", {}, "torch.optim:SGD", {}),
    "sgd-l2": Case(
        "sgd", {"learning_rate": 5e-4, "weight_decay": 0.3}, "torch.optim:SGD", {"lr": 5e-4, "weight_decay": 0.3}
    ),
    "momentum": Case("momentum", {}, "torch.optim:SGD", {"momentum": 0.9}),
    "momentum-dampened": Case(
        "momentum",
        {"learning_rate": 2e-3, "momentum": 0.8, "dampening": 0.6, "weight_decay": 0.1},
        "torch.optim:SGD",
        {"lr": 2e-3, "momentum": 0.8, "dampening": 0.6, "weight_decay": 0.1},
    ),
    "momentum-zero-dampened": Case(
        "momentum", {"momentum": 0.0, "dampening": 0.5}, "torch.optim:SGD", {"momentum": 0.0, "dampening": 0.5}
    ),
    "nesterov": Case("nesterov", {}, "torch.optim:SGD", {"momentum": 0.9, "nesterov": True}),
    "nesterov-l2": Case(
        "nesterov",
        {"learning_rate": 5e-4, "momentum": 0.7, "weight_decay": 0.2},
        "torch.optim:SGD",
        {"lr": 5e-4, "momentum": 0.7, "nesterov": True, "weight_decay": 0.2},
    ),
    "sutskever": Case("sutskever_nesterov", {}, "torch.optim:SGD", {"momentum": 0.9, "nesterov": True}),
    "sutskever-l2": Case(
        "sutskever_nesterov",
        {"learning_rate": 5e-4, "momentum": 0.7, "weight_decay": 0.2},
        "numpy:sutskever_nesterov",
        {"lr": 5e-4, "momentum": 0.7, "weight_decay": 0.2},
    ),
    "sutskever-iterate": Case(
        "sutskever_nesterov",
        {"learning_rate": 5e-4, "momentum": 0.7, "weight_decay": 0.2},
        "numpy:sutskever_nesterov",
        {"lr": 5e-4, "momentum": 0.7, "weight_decay": 0.2},
        average=True,
    ),
    "asgd": Case("asgd", {"learning_rate": 1e-3}, "torch.optim:ASGD", {"lr": 1e-3}),
    "asgd-all": Case(
        "asgd",
        {"learning_rate": 1e-3, "lambd": 0.1, "alpha": 0.6, "t0": 20.0, "weight_decay": 0.1},
        "torch.optim:ASGD",
        {"lr": 1e-3, "lambd": 0.1, "alpha": 0.6, "t0": 20, "weight_decay": 0.1},
    ),
    "asgd-average": Case(
        "asgd",
        {"learning_rate": 1e-3, "lambd": 0.1, "alpha": 0.6, "t0": 20.0, "weight_decay": 0.1},
        "torch.optim:ASGD",
        {"lr": 1e-3, "lambd": 0.1, "alpha": 0.6, "t0": 20, "weight_decay": 0.1},
        average=True,
    ),
    "rprop": Case("rprop", {}, "torch.optim:Rprop", {}),
    "rprop-all": Case(
        "rprop",
        {"learning_rate": 0.02, "eta_minus": 0.6, "eta_plus": 1.1, "min_step_size": 1e-3, "max_step_size": 0.05},
        "torch.optim:Rprop",
        {"lr": 0.02, "etas": (0.6, 1.1), "step_sizes": (1e-3, 0.05)},
    ),
    "adam": Case("adam", {}, "torch.optim:Adam", {}),
    "adam-all": Case(
        "adam",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        "torch.optim:Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": Case("adamw", {}, "torch.optim:AdamW", {}),
    "adamw-all": Case(
        "adamw",
        {"learning_rate": 3e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.3},
        "torch.optim:AdamW",
        {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3},
    ),
    "adamax": Case("adamax", {}, "torch.optim:Adamax", {}),
    "adamax-all": Case(
        "adamax",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        "torch.optim:Adamax",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "amsgrad": Case("amsgrad", {}, "torch.optim:Adam", {"amsgrad": True}),
    "amsgrad-all": Case(
        "amsgrad",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.7, "eps": 1e-3, "weight_decay": 0.1},
        "torch.optim:Adam",
        {"lr": 0.01, "betas": (0.8, 0.7), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True},
    ),
    "amsgrad-paper": Case(
        "amsgrad",
        {"b2": 0.9, "bias_correction": False},
        "numpy:amsgrad_paper",
        {"lr": 1e-3, "b1": 0.9, "b2": 0.9, "eps": 1e-8},
    ),
    "nadam": Case("nadam", {}, "torch.optim:NAdam", {}),
    "nadam-all": Case(
        "nadam",
        {"learning_rate": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "momentum_decay": 0.05, "weight_decay": 0.1},
        "torch.optim:NAdam",
        {"lr": 5e-3, "betas": (0.8, 0.95), "eps": 1e-3, "momentum_decay": 0.05, "weight_decay": 0.1},
    ),
    "radam": Case("radam", {}, "torch.optim:RAdam", {}),
    "radam-all": Case(
        "radam",
        {"learning_rate": 2e-4, "b1": 0.8, "b2": 0.95, "eps": 1e-2, "weight_decay": 0.1},
        "torch.optim:RAdam",
        {"lr": 2e-4, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1},
    ),
    "adagrad": Case("adagrad", {}, "torch.optim:Adagrad", {}),
    "adagrad-all": Case(
        "adagrad",
        {"learning_rate": 0.2, "lr_decay": 0.01, "initial_accumulator_value": 0.5, "eps": 1e-2, "weight_decay": 0.1},
        "torch.optim:Adagrad",
        {"lr": 0.2, "lr_decay": 0.01, "initial_accumulator_value": 0.5, "eps": 1e-2, "weight_decay": 0.1},
    ),
    "adadelta": Case("adadelta", {}, "torch.optim:Adadelta", {}),
    "adadelta-all": Case(
        "adadelta",
        {"learning_rate": 0.1, "rho": 0.95, "eps": 1e-5, "weight_decay": 0.1},
        "torch.optim:Adadelta",
        {"lr": 0.1, "rho": 0.95, "eps": 1e-5, "weight_decay": 0.1},
    ),
    "rmsprop": Case("rmsprop", {"learning_rate": 1e-3}, "torch.optim:RMSprop", {"lr": 1e-3}),
    "rmsprop-all": Case(
        "rmsprop",
        {"learning_rate": 3e-4, "decay": 0.95, "eps": 1e-1, "momentum": 0.6, "weight_decay": 0.1, "centered": True},
        "torch.optim:RMSprop",
        {"lr": 3e-4, "alpha": 0.95, "eps": 1e-1, "momentum": 0.6, "weight_decay": 0.1, "centered": True},
    ),
    "qhm": Case("qhm", {}, "qhoptim.pyt:QHM", {"lr": 1e-3, "momentum": 0.999, "nu": 0.7}),
    "qhm-all": Case(
        "qhm",
        {"learning_rate": 5e-3, "momentum": 0.9, "nu": 0.5, "weight_decay": 0.1},
        "qhoptim.pyt:QHM",
        {"lr": 5e-3, "momentum": 0.9, "nu": 0.5, "weight_decay": 0.1},
    ),
    "qhadam": Case("qhadam", {}, "qhoptim.pyt:QHAdam", {"nus": (0.7, 1.0), "betas": (0.995, 0.999)}),
    "qhadam-all": Case(
        "qhadam",
        {"learning_rate": 5e-3, "b1": 0.9, "b2": 0.95, "nu1": 0.6, "nu2": 0.8, "eps": 1e-3, "weight_decay": 0.1},
        "qhoptim.pyt:QHAdam",
        {"lr": 5e-3, "betas": (0.9, 0.95), "nus": (0.6, 0.8), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "aggmo": Case("aggmo", {}, "torch_optimizer:AggMo", {}),
    "aggmo-all": Case(
        "aggmo",
        {"learning_rate": 5e-4, "betas": (0.5, 0.8), "weight_decay": 0.1},
        "torch_optimizer:AggMo",
        {"lr": 5e-4, "betas": (0.5, 0.8), "weight_decay": 0.1},
    ),
    "yellowfin": Case(
        "yellowfin",
        {"learning_rate": 0.5},
        "numpy:yellowfin",
        {
            "lr_factor": 0.5,
            "initial_lr": 1e-4,
            "initial_momentum": 0.0,
            "beta": 0.999,
            "window": 20,
            "eps": 1e-6,
            "slow_start": 10,
            "stat_protect": 100,
            "guard": 100,
            "weight_decay": 0.0,
        },
    ),
    "yellowfin-all": Case(
        "yellowfin",
        {
            "learning_rate": 0.5,
            "initial_learning_rate": 1e-3,
            "beta": 0.99,
            "window": 7,
            "eps": 1e-5,
            "slow_start": 5.0,
            "clip_factor": 1.5,
            "max_move": 0.05,
            "weight_decay": 0.1,
        },
        "numpy:yellowfin",
        {
            "lr_factor": 0.5,
            "initial_lr": 1e-3,
            "initial_momentum": 0.5,
            "beta": 0.99,
            "window": 7,
            "eps": 1e-5,
            "slow_start": 5,
            "stat_protect": 1.5,
            "guard": 0.05,
            "weight_decay": 0.1,
        },
    ),
    "demon_sgdm": Case(
        "demon_sgdm",
        {"total_steps": 150},
        "numpy:demon_sgdm",
        {"lr": 1e-3, "momentum": 0.9, "total_steps": 150, "weight_decay": 0.0},
    ),
    "demon_sgdm-all": Case(
        "demon_sgdm",
        {"learning_rate": 5e-4, "momentum": 0.95, "total_steps": 300, "weight_decay": 0.1},
        "numpy:demon_sgdm",
        {"lr": 5e-4, "momentum": 0.95, "total_steps": 300, "weight_decay": 0.1},
    ),
    "demon_adam": Case(
        "demon_adam",
        {"total_steps": 150},
        "numpy:demon_adam",
        {
            "lr": 1e-3,
            "momentum": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "total_steps": 150,
            "weight_decay": 0.0,
            "form": "undamped",
        },
    ),
    "demon_adam-damped": Case(
        "demon_adam",
        {
            "learning_rate": 5e-3,
            "momentum": 0.95,
            "b2": 0.95,
            "eps": 1e-3,
            "total_steps": 300,
            "weight_decay": 0.1,
            "damped": True,
        },
        "numpy:demon_adam",
        {
            "lr": 5e-3,
            "momentum": 0.95,
            "b2": 0.95,
            "eps": 1e-3,
            "total_steps": 300,
            "weight_decay": 0.1,
            "form": "ema",
        },
    ),
    "adabelief": Case("adabelief", {}, "torch_optimizer:AdaBelief", {"eps": 1e-16, "rectify": False}),
    "adabelief-all": Case(
        "adabelief",
        {"learning_rate": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
        "torch_optimizer:AdaBelief",
        {
            "lr": 5e-3,
            "betas": (0.8, 0.95),
            "eps": 1e-4,
            "weight_decay": 0.1,
            "weight_decouple": True,
            "rectify": False,
        },
    ),
    "yogi": Case("yogi", {}, "torch_optimizer:Yogi", {}),
    "yogi-all": Case(
        "yogi",
        {
            "learning_rate": 5e-3,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-2,
            "initial_accumulator_value": 0.1,
            "weight_decay": 0.1,
        },
        "torch_optimizer:Yogi",
        {"lr": 5e-3, "betas": (0.8, 0.95), "eps": 1e-2, "initial_accumulator": 0.1, "weight_decay": 0.1},
    ),
    "adan": Case("adan", {}, "pytorch_optimizer:Adan", {}),
    "adan-all": Case(
        "adan",
        {"learning_rate": 2e-3, "b1": 0.9, "b2": 0.8, "b3": 0.95, "eps": 1e-3, "weight_decay": 0.3},
        "pytorch_optimizer:Adan",
        {"lr": 2e-3, "betas": (0.9, 0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3, "weight_decouple": False},
    ),
    "adopt": Case("adopt", {}, "pytorch_optimizer:ADOPT", {"clip_lambda": lambda step: (step - 1) ** 0.25}),
    "adopt-all": Case(
        "adopt",
        {"learning_rate": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-2, "weight_decay": 0.1, "clip": False},
        "pytorch_optimizer:ADOPT",
        {
            "lr": 5e-3,
            "betas": (0.8, 0.95),
            "eps": 1e-2,
            "weight_decay": 0.1,
            "weight_decouple": True,
            "clip_lambda": None,
        },
    ),
    "ademamix": Case("ademamix", {}, "pytorch_optimizer:AdEMAMix", {}),
    "ademamix-all": Case(
        "ademamix",
        {
            "learning_rate": 5e-3,
            "b1": 0.8,
            "b2": 0.95,
            "b3": 0.99,
            "alpha": 2.0,
            "eps": 1e-3,
            "weight_decay": 0.1,
        },
        "pytorch_optimizer:AdEMAMix",
        {
            "lr": 5e-3,
            "betas": (0.8, 0.95, 0.99),
            "alpha": 2.0,
            "eps": 1e-3,
            "weight_decay": 0.1,
            "weight_decouple": True,
        },
    ),
    "madgrad": Case("madgrad", {}, "torch_optimizer:MADGRAD", {}),
    "madgrad-all": Case(
        "madgrad",
        {"learning_rate": 2e-3, "momentum": 0.7, "eps": 1e-3, "weight_decay": 0.1},
        "torch_optimizer:MADGRAD",
        {"lr": 2e-3, "momentum": 0.7, "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adafactor": Case("adafactor", {"learning_rate": 1e-3}, "torch.optim:Adafactor", {"lr": 1e-3}),
    "adafactor-all": Case(
        "adafactor",
        {
            "learning_rate": 3e-4,
            "beta2_decay": -0.6,
            "eps1": 1e-4,
            "eps2": 1e-2,
            "clip_threshold": 1.05,
            "weight_decay": 0.1,
        },
        "torch.optim:Adafactor",
        {"lr": 3e-4, "beta2_decay": -0.6, "eps": (1e-4, 1e-2), "d": 1.05, "weight_decay": 0.1},
    ),
    "signum": Case("signum", {}, "numpy:signum", {"lr": 1e-4, "momentum": 0.9, "weight_decay": 0.0}),
    "signum-all": Case(
        "signum",
        {"learning_rate": 1e-3, "momentum": 0.7, "weight_decay": 0.1},
        "pytorch_optimizer:SignSGD",
        {"lr": 1e-3, "momentum": 0.7, "weight_decay": 0.1, "weight_decouple": True},
    ),
    "lion": Case("lion", {}, "lion_pytorch:Lion", {}),
    "lion-all": Case(
        "lion",
        {"learning_rate": 1e-3, "b1": 0.8, "b2": 0.95, "weight_decay": 0.1},
        "lion_pytorch:Lion",
        {"lr": 1e-3, "betas": (0.8, 0.95), "weight_decay": 0.1},
    ),
    "lamb": Case("lamb", {}, "numpy:lamb", {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-6, "weight_decay": 0.0}),
    "lamb-all": Case(
        "lamb",
        {"learning_rate": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        "numpy:lamb",
        {"lr": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
    ),
    "lamb-torch": Case("lamb", {"eps": 1e-15}, "torch_optimizer:Lamb", {"lr": 1e-3, "eps": 1e-15, "clamp_value": 1e30}),
    "lars": Case(
        "lars", {}, "numpy:lars", {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.0, "coefficient": 1e-3, "eps": 0.0}
    ),
    "lars-all": Case(
        "lars",
        {"learning_rate": 0.5, "momentum": 0.7, "weight_decay": 0.1, "trust_coefficient": 2e-3, "eps": 1e-2},
        "torch_optimizer:LARS",
        {"lr": 0.5, "momentum": 0.7, "weight_decay": 0.1, "trust_coefficient": 2e-3, "eps": 1e-2},
    ),
    "novograd": Case("novograd", {"learning_rate": 1e-3}, "pytorch_optimizer:NovoGrad", {"lr": 1e-3}),
    "novograd-all": Case(
        "novograd",
        {"learning_rate": 2e-3, "b1": 0.8, "b2": 0.9, "eps": 1e-2, "weight_decay": 0.1},
        "numpy:novograd",
        {"lr": 2e-3, "b1": 0.8, "b2": 0.9, "eps": 1e-2, "weight_decay": 0.1},
    ),
    "muon": Case(
        "muon",
        {"learning_rate": 5e-3},
        "numpy:muon",
        {
            "lr": 5e-3,
            "momentum": 0.95,
            "weight_decay": 0.0,
            "ns_steps": 5,
            "eps": 1e-7,
            "nesterov": True,
            "adam_lr": 5e-3 * 0.015,
            "adam_b1": 0.9,
            "adam_b2": 0.95,
            "adam_eps": 1e-10,
        },
    ),
    "muon-all": Case(
        "muon",
        {
            "learning_rate": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.1,
            "ns_steps": 3,
            "eps": 1e-3,
            "nesterov": False,
            "adam_ratio": 0.5,
            "adam_b1": 0.8,
            "adam_b2": 0.9,
            "adam_eps": 1e-3,
        },
        "numpy:muon",
        {
            "lr": 5e-3,
            "momentum": 0.8,
            "weight_decay": 0.1,
            "ns_steps": 3,
            "eps": 1e-3,
            "nesterov": False,
            "adam_lr": 2.5e-3,
            "adam_b1": 0.8,
            "adam_b2": 0.9,
            "adam_eps": 1e-3,
        },
    ),
    "shampoo": Case("shampoo", {"learning_rate": 1e-3}, "pytorch_optimizer:Shampoo", {"lr": 1e-3}),
    "shampoo-all": Case(
        "shampoo",
        {"learning_rate": 1e-2, "momentum": 0.5, "eps": 1e-2, "weight_decay": 0.1},
        "numpy:shampoo",
        {"lr": 1e-2, "momentum": 0.5, "eps": 1e-2, "weight_decay": 0.1},
    ),
    "soap": Case(
        "soap",
        {"learning_rate": 1e-3, "eps": 1e-3},
        "numpy:soap",
        {
            "lr": 1e-3,
            "b1": 0.95,
            "b2": 0.95,
            "shampoo_beta": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.01,
            "precondition_frequency": 10,
            "precondition_1d": False,
        },
    ),
    "soap-all": Case(
        "soap",
        {
            "learning_rate": 2e-3,
            "b1": 0.9,
            "b2": 0.98,
            "shampoo_beta": 0.9,
            "eps": 1e-2,
            "weight_decay": 0.1,
            "precondition_frequency": 3,
            "precondition_1d": True,
        },
        "numpy:soap",
        {
            "lr": 2e-3,
            "b1": 0.9,
            "b2": 0.98,
            "shampoo_beta": 0.9,
            "eps": 1e-2,
            "weight_decay": 0.1,
            "precondition_frequency": 3,
            "precondition_1d": True,
        },
        problems=("rosenbrock",),  # a vector of 5 does not determine its first eigenbasis
    ),
    "soap-torch": Case(
        "soap",
        {"learning_rate": 1e-3, "eps": 1e-3, "weight_decay": 0.1},
        "pytorch_optimizer:SOAP",
        {"lr": 1e-3, "eps": 1e-3, "weight_decay": 0.1},
        tolerance=1e-6,
        why="it runs its QR in float32",
    ),
    "sophia": Case(
        "sophia",
        {},
        "numpy:sophia",
        {
            "lr": 1e-4,
            "b1": 0.965,
            "b2": 0.99,
            "gamma": 0.01,
            "eps": 1e-12,
            "weight_decay": 0.1,
            "interval": 10,
            "hessian": lambda params, gradients: [g**2 for g in gradients],
        },
    ),
    "sophia-all": Case(
        "sophia",
        {
            "learning_rate": 1e-3,
            "b1": 0.8,
            "b2": 0.9,
            "gamma": 0.5,
            "eps": 1e-2,
            "weight_decay": 0.2,
            "update_interval": 3,
        },
        "numpy:sophia",
        {
            "lr": 1e-3,
            "b1": 0.8,
            "b2": 0.9,
            "gamma": 0.5,
            "eps": 1e-2,
            "weight_decay": 0.2,
            "interval": 3,
            "hessian": lambda params, gradients: [g**2 for g in gradients],
        },
    ),
    "schedule_free_sgd": Case(
        "schedule_free_sgd", {"learning_rate": 1e-3}, "schedulefree:SGDScheduleFree", {"lr": 1e-3}
    ),
    "schedule_free_sgd-all": Case(
        "schedule_free_sgd",
        {
            "learning_rate": 1e-3,
            "momentum": 0.8,
            "weight_decay": 0.1,
            "warmup_steps": 20,
            "r": 0.5,
            "weight_lr_power": 1.5,
        },
        "schedulefree:SGDScheduleFree",
        {"lr": 1e-3, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 20, "r": 0.5, "weight_lr_power": 1.5},
    ),
    "schedule_free_sgd-average": Case(
        "schedule_free_sgd",
        {"learning_rate": 1e-3, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 20, "r": 0.5},
        "schedulefree:SGDScheduleFree",
        {"lr": 1e-3, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 20, "r": 0.5},
        average=True,
    ),
    "schedule_free_adamw": Case("schedule_free_adamw", {}, "schedulefree:AdamWScheduleFree", {}),
    "schedule_free_adamw-all": Case(
        "schedule_free_adamw",
        {
            "learning_rate": 1e-2,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.1,
            "warmup_steps": 20,
            "r": 0.5,
            "weight_lr_power": 1.5,
        },
        "schedulefree:AdamWScheduleFree",
        {
            "lr": 1e-2,
            "betas": (0.8, 0.95),
            "eps": 1e-3,
            "weight_decay": 0.1,
            "warmup_steps": 20,
            "r": 0.5,
            "weight_lr_power": 1.5,
        },
    ),
    "schedule_free_adamw-average": Case(
        "schedule_free_adamw",
        {"learning_rate": 2e-3, "b1": 0.8, "b2": 0.95, "weight_decay": 0.1, "warmup_steps": 20},
        "numpy:schedule_free_adamw",
        {
            "lr": 2e-3,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-8,
            "weight_decay": 0.1,
            "warmup_steps": 20,
            "r": 0.0,
            "weight_lr_power": 2.0,
        },
        average=True,
    ),
    "dadapt_adam": Case("dadapt_adam", {}, "dadaptation:DAdaptAdam", {}),
    "dadapt_adam-all": Case(
        "dadapt_adam",
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.1,
            "d0": 1e-5,
            "bias_correction": True,
            "decoupled": True,
        },
        "dadaptation:DAdaptAdam",
        {
            "lr": 0.1,
            "betas": (0.8, 0.95),
            "eps": 1e-3,
            "weight_decay": 0.1,
            "d0": 1e-5,
            "use_bias_correction": True,
            "decouple": True,
        },
    ),
    "dadapt_adam-l2": Case(
        "dadapt_adam",
        {"learning_rate": 0.1, "weight_decay": 0.1},
        "dadaptation:DAdaptAdam",
        {"lr": 0.1, "weight_decay": 0.1},
    ),
    "prodigy": Case("prodigy", {}, "prodigyopt:Prodigy", {}),
    "prodigy-all": Case(
        "prodigy",
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.95,
            "b3": 0.9,
            "eps": 1e-3,
            "weight_decay": 0.1,
            "d0": 1e-3,
            "d_coef": 0.5,
            "bias_correction": True,
            "safeguard_warmup": True,
        },
        "prodigyopt:Prodigy",
        {
            "lr": 0.1,
            "betas": (0.8, 0.95),
            "beta3": 0.9,
            "eps": 1e-3,
            "weight_decay": 0.1,
            "d0": 1e-3,
            "d_coef": 0.5,
            "use_bias_correction": True,
            "safeguard_warmup": True,
        },
    ),
    **CASES_OF_2026,
    **CASES_OF_LOW_RANK,
    **CASES_OF_SECOND_ORDER,
}

SLOW = {**CASES_OF_2026, **CASES_OF_LOW_RANK, **CASES_OF_SECOND_ORDER}
"""Cases whose programs compile for so long that they are slow tests."""

ARTICLE = {"sgd", "adam", "adadelta", "adagrad", "adamw", "adamax", "asgd"}
QUICK = {*ARTICLE, "momentum", "nesterov", "rmsprop", "muon", "soap", "schedule_free_sgd"}
"""Optimizers all of whose tests belong to the default run: the source article's and one of each family."""


def package_of(case):
    """Return the import name of the oracle's package, "numpy" for our own references."""
    return CASES[case].oracle.split(":")[0]


def version_of(case):
    """Return the version of the oracle's distribution."""
    package = package_of(case)
    distribution = DISTRIBUTIONS.get(package, package.split(".")[0].replace("_", "-"))
    return importlib.metadata.version(distribution)


def theirs(case, problem):
    """Return the oracle's STEPS + 1 points, flattened, in float64."""
    if package_of(case) == "numpy":
        name = CASES[case].oracle.split(":")[1]
        walk = next(getattr(module, name) for module in REFERENCES if hasattr(module, name))
        named = inspect.signature(walk).parameters
        supplied = {name: supply(problem) for name, supply in SUPPLIED.items() if name in named}
        points = walk(start(problem), gradient(problem), STEPS, **CASES[case].theirs, **supplied)
        if isinstance(points, tuple):
            points = points[1 if CASES[case].average else 0]
        return np.stack([flat(p) for p in points])
    if package_of(case) == "optax":
        import optax

        factory = getattr(optax, CASES[case].oracle.split(":")[1])
        return _jax_trajectory(factory(**CASES[case].theirs), problem, uses_loss=CASES[case].uses_loss)
    return _torch_trajectory(case, problem)


def _wolfe_search(problem):
    """Return optax's line search, for references of methods that do not say how they search."""
    import jax
    import jax.numpy as jnp
    import optax

    fn = loss(problem, jnp, [jnp.asarray(a) for a in data(problem)])
    search = optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")

    @jax.jit
    def length(x, direction, slope):
        state = search.init(x)
        return search.update(direction, state, x, value=fn(x), grad=slope, value_fn=fn)[1].learning_rate

    return lambda *lists: float(length(*([jnp.asarray(a) for a in arrays] for arrays in lists)))


SUPPLIED = {
    "value": lambda problem: loss(problem, np, data(problem)),
    "residual": lambda problem: residuals(problem, np, data(problem)),
    "search": _wolfe_search,
}
"""Functions of the problem that a reference takes, if it has an argument of this name."""


def _torch_trajectory(case, problem):
    import torch

    torch.set_default_dtype(torch.float64)  # some optimizers keep numbers in the default dtype
    try:
        package, cls = CASES[case].oracle.split(":")
        fn = loss(problem, torch, [torch.tensor(a) for a in data(problem)])
        params = [torch.tensor(p, requires_grad=True) for p in start(problem)]
        optimizer = getattr(importlib.import_module(package), cls)(params, **CASES[case].theirs)

        def point():
            if not CASES[case].average:
                return flat([p.detach().numpy() for p in params])
            if cls == "ASGD":
                return flat([optimizer.state[p].get("ax", p).detach().numpy() for p in params])
            optimizer.eval()
            average = flat([p.detach().numpy().copy() for p in params])
            optimizer.train()
            return average

        if package == "schedulefree":
            optimizer.train()
        points = [point().copy()]
        for _ in range(STEPS):
            optimizer.zero_grad()
            fn(params).backward()
            optimizer.step()
            points.append(point().copy())
        return np.stack(points)
    finally:
        torch.set_default_dtype(torch.float32)


@functools.cache
def ours(case, problem):
    """Return our STEPS + 1 points, flattened, in float64 (which must be enabled)."""
    from gdlab.optimizers import OPTIMIZERS

    optimizer = OPTIMIZERS[CASES[case].optimizer](**CASES[case].ours)
    return _jax_trajectory(optimizer, problem, average=CASES[case].average, uses_loss=CASES[case].uses_loss)


def _jax_trajectory(optimizer, problem, *, average=False, uses_loss=False):
    import jax
    import jax.numpy as jnp
    import optax

    from gdlab.optimizers import evaluation_params
    from gdlab.optimizers.protocol import with_any_arguments

    arrays = [jnp.asarray(a) for a in data(problem)]
    fn = loss(problem, jnp, arrays)
    first = [jnp.asarray(p) for p in start(problem)]
    optimizer = with_any_arguments(optimizer)

    def value_fn(params, *, grad_fn=None, residual_fn=None):
        # optax's line searches pass `value_fn` what they receive, and refuse what it does not take.
        return fn(params)

    known = {"value_fn": value_fn, "grad_fn": jax.grad(fn), "residual_fn": residuals(problem, jnp, arrays)}

    def step(carry, _):
        params, state = carry
        slope = jax.grad(fn)(params)
        updates, state = optimizer.update(
            slope, state, params, **(known | {"value": fn(params), "grad": slope} if uses_loss else {})
        )
        params = optax.apply_updates(params, updates)
        shown = evaluation_params(state, params) if average else params
        return (params, state), jnp.concatenate([jnp.ravel(p) for p in shown])

    run = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)[1])
    return np.concatenate([flat(start(problem))[None], np.asarray(run(first))])


def deviation(a, b):
    """Return the largest difference, relative to the oracle's largest coordinate."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def main():
    stored = {}
    versions = {f"python {sys.version.split()[0]}", f"numpy {np.__version__}"}
    for case in CASES:
        if package_of(case) in INSTALLED:
            continue
        try:
            versions.add(f"{package_of(case)} {version_of(case)}")
        except importlib.metadata.PackageNotFoundError as missing:
            sys.exit(f"trajectories: {missing}; install the oracles: pip install -e '.[oracle]'")
        for problem in CASES[case].problems:
            stored[f"{case}/{problem}"] = theirs(case, problem)[::EVERY]
    np.savez_compressed(STORED, versions=np.array(sorted(versions)), **stored)
    print(f"{len(stored)} trajectories in {STORED.name}, {STORED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
