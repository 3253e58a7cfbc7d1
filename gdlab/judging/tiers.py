"""Tiers: how much a judgement computes, from ten minutes on two cores to networks that need a GPU."""

from typing import NamedTuple

from gdlab.types import NameTable


class Tier(NamedTuple):
    """What a judgement computes.

    Attributes:
      settings: the number of settings over which a contender is tuned on each problem and level.
      tuning_seeds: the number of seeds on which a setting of a problem is chosen.
      judged_seeds: the number of other seeds on which it is judged.
      networks: the names of the networks, in the order in which they are trained.
      network_settings: the number of settings over which it is tuned on each network, from one seed.
      network_seeds: the numbers of other seeds after which the networks are looked at: the verdict on the first ends it
        if it is clear.
      needs_gpu: whether it is meant for a GPU, and refused without one.
    """

    settings: int
    tuning_seeds: int
    judged_seeds: int
    networks: tuple[str, ...]
    network_settings: int
    network_seeds: tuple[int, ...]
    needs_gpu: bool = False


TIERS: NameTable[Tier] = NameTable(
    "tier",
    {
        "quick": Tier(32, 2, 64, ("perceptron", "convolutions", "language"), 13, (8, 16)),
        "standard": Tier(32, 4, 128, ("perceptron", "convolutions", "language", "clothes"), 25, (8, 16, 32)),
        "gpu": Tier(32, 4, 128, ("perceptron", "convolutions", "language", "clothes", "resnet18"), 13, (8, 16), True),
    },
)
"""The tiers by name."""
