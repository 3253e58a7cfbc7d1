"""Cases of the methods that use curvature, in the form of `trajectories.CASES`."""

from tests.oracles.case import Case
from tests.oracles.problems import LAYERS, LOGISTIC, PROBLEMS

CONVEX = ("least_squares", LOGISTIC)
"""On Rosenbrock's function some of them turn a change in the last digit into one in the tenth or in the second."""

VALLEY = ("rosenbrock", *CONVEX)
FITS = (*PROBLEMS, LAYERS)

CASES_OF_SECOND_ORDER = {
    "lbfgs": Case("lbfgs", {}, "optax:lbfgs", {}, problems=VALLEY, uses_loss=True),
    "lbfgs-all": Case(
        "lbfgs",
        {"learning_rate": 0.3, "memory": 4, "max_search_steps": 8},
        "optax:lbfgs",
        {"learning_rate": 0.3, "memory_size": 4},
        problems=VALLEY,
        uses_loss=True,
    ),
    "ssbroyden": Case(
        "ssbroyden", {}, "numpy:ssbroyden", {"lr": 1.0, "formula": "ssbroyden"}, problems=CONVEX, uses_loss=True
    ),
    "ssbroyden-all": Case(
        "ssbroyden",
        {"learning_rate": 0.7, "formula": "ssbfgs"},
        "numpy:ssbroyden",
        {"lr": 0.7, "formula": "ssbfgs"},
        problems=VALLEY,
        uses_loss=True,
    ),
    "ssbroyden-bfgs": Case(
        "ssbroyden",
        {"formula": "bfgs"},
        "numpy:ssbroyden",
        {"lr": 1.0, "formula": "bfgs"},
        problems=CONVEX,
        uses_loss=True,
    ),
    "newton_cg": Case(
        "newton_cg",
        {},
        "numpy:newton_cg",
        {"lr": 1.0, "forcing": 0.5, "max_iterations": 20, "max_search_steps": 20},
        problems=CONVEX,
        uses_loss=True,
    ),
    "newton_cg-all": Case(
        "newton_cg",
        {"learning_rate": 0.8, "forcing": 0.1, "max_iterations": 3, "max_search_steps": 4},
        "numpy:newton_cg",
        {"lr": 0.8, "forcing": 0.1, "max_iterations": 3, "max_search_steps": 4},
        problems=VALLEY,
        uses_loss=True,
    ),
    "gauss_newton": Case(
        "gauss_newton",
        {},
        "numpy:gauss_newton",
        {"lr": 1.0, "damping": 1e-3, "factor": 10.0},
        problems=FITS,
        uses_loss=True,
    ),
    "gauss_newton-all": Case(
        "gauss_newton",
        {"learning_rate": 0.5, "damping": 0.3, "factor": 3.0},
        "numpy:gauss_newton",
        {"lr": 0.5, "damping": 0.3, "factor": 3.0},
        problems=FITS,
        uses_loss=True,
    ),
}
