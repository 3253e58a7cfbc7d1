"""Optimizers as optax gradient transformations, with PyTorch's semantics and defaults.

`OPTIMIZERS` maps names to factories. A factory is `name(learning_rate=default, *, ...)` and returns an
`optax.GradientTransformation`, which chains with everything in optax. What holds for all of them:

- learning_rate: a number >= 0, a traced scalar, or a schedule `count -> number` (count from 0).
- Every numeric hyperparameter may be a traced scalar: `jax.vmap` over a function that builds the optimizer scans it.
- A concrete number out of its range raises ValueError at construction, naming the value and the range.
- weight_decay of `adamw` is decoupled (taken from the parameters); everywhere else it is L2, added to the gradient
  before all else, and 0 by default, as in PyTorch.
- State and updates keep the dtypes of parameters and gradients, whatever the dtype of a traced hyperparameter.
"""

from collections.abc import Callable

import optax

from gdlab.optimizers.adagrad import (
    adadelta,
    adagrad,
    rmsprop,
    scale_by_adagrad,
    scale_by_rms,
)
from gdlab.optimizers.adam import adam, adamax, adamw, scale_by_adam
from gdlab.optimizers.dtypes import stable_dtypes
from gdlab.optimizers.gradient_descent import momentum, nesterov, scale_by_momentum, sgd
from gdlab.types import NameTable

OPTIMIZERS: NameTable[Callable[..., optax.GradientTransformation]] = NameTable(
    "optimizer",
    {
        "sgd": sgd,
        "momentum": momentum,
        "nesterov": nesterov,
        "adam": adam,
        "adamw": adamw,
        "adamax": adamax,
        "adagrad": adagrad,
        "adadelta": adadelta,
        "rmsprop": rmsprop,
    },
)

__all__ = [
    "OPTIMIZERS",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "momentum",
    "nesterov",
    "rmsprop",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_momentum",
    "scale_by_rms",
    "sgd",
    "stable_dtypes",
]
