"""Test functions for optimizers: each a pure `fn(x)` on one point, beside its domain, its minimizers and its source.

`FUNCTIONS` maps names to `Function` records. A function of your own needs no entry anywhere: everything in gdlab takes
a plain `fn`. Batches are `jax.vmap(fn)`; all functions work in float32 and float64, under jit, grad and hessian.
Surveys used beside the original sources: Jamil & Yang 2013 (arXiv:1308.4008), Surjanovic & Bingham 2013 (Virtual
Library of Simulation Experiments).
"""

from gdlab.functions import any_dimension, two_dimensions
from gdlab.functions.function import ENTRIES, Function, evaluate_grid, off_origin
from gdlab.types import NameTable

FUNCTIONS: NameTable[Function] = NameTable("function", ENTRIES)

__all__ = ["FUNCTIONS", "Function", "any_dimension", "evaluate_grid", "off_origin", "two_dimensions"]
