"""The collection of problems, by name, family after family."""

from gdlab.diagnostics import (
    classification,
    cliffs,
    conditioning,
    drifts,
    games,
    kinks,
    matrices,
    networks,
    noise,
    plateaus,
    quantization,
    ravines,
    saddles,
    scales,
    sequences,
)
from gdlab.diagnostics.problem import ENTRIES, Problem
from gdlab.types import NameTable

MODULES = (
    *(conditioning, scales, saddles, plateaus, ravines, cliffs, kinks, quantization, noise, drifts, games),
    *(matrices, networks, sequences, classification),
)
"""The modules of the families, in the order of the collection."""

FAMILIES: tuple[str, ...] = tuple(module.COMMON["family"] for module in MODULES)
"""The names of the families."""

PROBLEMS: NameTable[Problem] = NameTable(
    "problem", {one.name: one for family in FAMILIES for one in ENTRIES.values() if one.family == family}
)
