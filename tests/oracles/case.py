"""A comparison of one of our optimizers with an oracle."""

from typing import NamedTuple

from tests.oracles.problems import PROBLEMS


class Case(NamedTuple):
    """A comparison of one of our optimizers with an oracle.

    Attributes:
      optimizer: the name of our optimizer.
      ours: the arguments of our factory.
      oracle: `package:Class`, `numpy:function` or `optax:function`.
      theirs: the arguments of the oracle.
      problems: the problems to compare on.
      average: compare the result of `evaluation_params` with the oracle's averages, instead of the points.
      tolerance: relative.
      why: the reason, where the tolerance is looser than 1e-10.
      uses_loss: let our optimizer have the loss, its gradient and its residuals as functions.
    """

    optimizer: str
    ours: dict
    oracle: str
    theirs: dict
    problems: tuple = PROBLEMS
    average: bool = False
    tolerance: float = 1e-10
    why: str = ""
    uses_loss: bool = False
