"""Diagnostics: small problems that each ask one thing of an optimizer, and the map of what an optimizer can do.

`PROBLEMS` maps names to `Problem` records, about sixty in fifteen families, each at four levels of difficulty. A
problem is judged by an error without noise, relative to that of the start, over the last tenth of the steps; neither
luck nor a vanishing learning rate solves one. Some method solves each problem at each level, which the tests prove.

    ds = map_optimizer(adam)  # all problems, levels and seeds, tuned over 32 learning rates
    print(ds.share.mean("level").to_series())

References:
  Schaul, Antonoglou and Silver, "Unit tests for stochastic optimization", 2014 (https://arxiv.org/abs/1312.6055).
"""

from gdlab.diagnostics.collection import FAMILIES, PROBLEMS
from gdlab.diagnostics.maps import RATES, map_optimizer
from gdlab.diagnostics.problem import LEVELS, Problem
from gdlab.diagnostics.run import Outcome, run_problem

__all__ = ["FAMILIES", "LEVELS", "PROBLEMS", "RATES", "Outcome", "Problem", "map_optimizer", "run_problem"]
