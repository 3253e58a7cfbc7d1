"""Strategies: optimizers that need no gradient, with the protocol of optax, so that sweeps take them like any other.

`STRATEGIES` maps names to factories. A strategy looks at function values alone: each step is a round, in which it
proposes a population of points, evaluates the function there and moves to the best point so far. The following holds
for all factories:

- `init` makes the state from the start, and `update` needs the function as `value_fn`, which `gdlab.descend`,
  `gdlab.sweep` and `gdlab.train` pass. The gradient is ignored; neither `descend` nor `sweep` computes it, so functions
  without one (with jumps, plateaus, loops of unknown length) are fine.
- Random numbers follow from `seed` and from the bits of the start, so a lane of a sweep (one run of its batch) does not
  depend on other lanes, on devices or on their order, and `{"seed": range(8)}` is an axis.
- Numbers may be traced, and thus swept. Populations cannot, because they shape the program. Schedules are not accepted.
- A value that is NaN counts as inf. Where a round finds nothing better, the step is 0, so no tolerance can be set.
- `evaluations(dim)` of a strategy is the number of evaluations per round; the start takes one more.
  `gdlab.sweeps.count_evaluations` counts those of a sweep.

All but `nelder_mead` wrap evosax and need the extra `evosax` (`pip install 'gdlab[evosax]'`).
"""

from gdlab.strategies.evolution import cma_es, differential_evolution, open_es, simple_ga, simulated_annealing
from gdlab.strategies.nelder_mead import nelder_mead
from gdlab.strategies.strategy import Strategy
from gdlab.types import Factory, NameTable

_FACTORIES: tuple[Factory, ...] = (
    simple_ga,
    simulated_annealing,
    cma_es,
    open_es,
    differential_evolution,
    nelder_mead,
)

STRATEGIES: NameTable[Factory] = NameTable("strategy", {factory.__name__: factory for factory in _FACTORIES})

__all__ = ["STRATEGIES", "Strategy", *sorted(factory.__name__ for factory in _FACTORIES)]
