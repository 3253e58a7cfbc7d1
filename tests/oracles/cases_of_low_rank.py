"""Cases of the methods of low rank, in the form of `trajectories.CASES`.

The first network has a matrix that is longer than wide, one that is wider than long, and the second one a square one.
"""

import numpy as np

from tests.oracles.case import Case
from tests.oracles.problems import LAYERS

NETWORKS = (LAYERS, "mlp")


def drawn(seed):
    """Return the random projections that `apollo` documents: normal with variance 1 / rank, one for each leaf."""

    def projection(leaf, number, shape):
        import jax

        key = jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), number), leaf)
        return np.asarray(jax.random.normal(key, shape, "float64")) / np.sqrt(shape[0])

    return projection


CASES_OF_LOW_RANK = {
    "galore": Case(
        "galore",
        {},
        "numpy:galore",
        {
            "lr": 1e-3,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-6,
            "weight_decay": 0.0,
            "rank": None,
            "gap": 200,
            "scale": 0.25,
        },
        problems=NETWORKS,
    ),
    "galore-all": Case(
        "galore",
        {
            "learning_rate": 5e-3,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "rank": 2,
            "update_interval": 30,
            "scale": 0.7,
        },
        "numpy:galore",
        {"lr": 5e-3, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.3, "rank": 2, "gap": 30, "scale": 0.7},
        problems=NETWORKS,
    ),
    "apollo": Case(
        "apollo",
        {"learning_rate": 1e-4},
        "numpy:apollo",
        {
            "lr": 1e-4,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-6,
            "weight_decay": 0.0,
            "rank": None,
            "gap": 200,
            "scale": 1.0,
            "limit": 1.01,
            "tensor_wise": False,
            "projection": drawn(0),
        },
        problems=NETWORKS,
    ),
    "apollo-all": Case(
        "apollo",
        {
            "learning_rate": 1e-3,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "rank": 2,
            "update_interval": 30,
            "scale": 2.0,
            "growth_limit": 1.2,
            "seed": 4,
        },
        "numpy:apollo",
        {
            "lr": 1e-3,
            "b1": 0.8,
            "b2": 0.95,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "rank": 2,
            "gap": 30,
            "scale": 2.0,
            "limit": 1.2,
            "tensor_wise": False,
            "projection": drawn(4),
        },
        problems=NETWORKS,
    ),
    "apollo-mini": Case(
        "apollo",
        {"learning_rate": 2e-4, "rank": 1, "scale": 128.0, "tensor_wise": True, "update_interval": 50},
        "numpy:apollo",
        {
            "lr": 2e-4,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-6,
            "weight_decay": 0.0,
            "rank": 1,
            "gap": 50,
            "scale": 128.0,
            "limit": 1.01,
            "tensor_wise": True,
            "projection": drawn(0),
        },
        problems=NETWORKS,
    ),
}
