"""Test functions for optimizers, each with its domain, its global minimizers and its source.

`FUNCTIONS` maps names to `Function` records. Each function is a pure `fn(x)` of one point; for batches use
`jax.vmap(fn)`. All functions work in float32 and float64, under jit, grad and hessian. A function of your own does
not need to be registered: everything in gdlab accepts a plain `fn`. `MATRIX_FUNCTIONS` holds functions of matrices.

Besides the original sources, which each function names, two surveys were used.

References:
  Jamil and Yang, "A literature survey of benchmark functions for global optimisation problems", 2013
    (https://arxiv.org/abs/1308.4008).
  Surjanovic and Bingham, "Virtual Library of Simulation Experiments", 2013.
"""

from gdlab.functions import any_dimension, two_dimensions
from gdlab.functions.function import ENTRIES, Function, evaluate_grid, off_origin
from gdlab.functions.matrices import MATRIX_FUNCTIONS, MatrixFunction
from gdlab.types import NameTable

FUNCTIONS: NameTable[Function] = NameTable("function", ENTRIES)

__all__ = [
    "FUNCTIONS",
    "MATRIX_FUNCTIONS",
    "Function",
    "MatrixFunction",
    "any_dimension",
    "evaluate_grid",
    "off_origin",
    "two_dimensions",
]
