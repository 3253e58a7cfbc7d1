"""Optimizers compared on tasks: the same tuning budget for all, then several seeds; every training a run folder.

`run` does what is asked for, on threads, devices or several machines (`shard`), and goes on after a kill; `collect`
reads what there is, wherever it was computed.
"""

from gdlab.comparison.collecting import Collected, Run, collect, score
from gdlab.comparison.running import retrieve, run
from gdlab.comparison.study import Candidate, Measure, Problem, Study, ladder

__all__ = [
    "Candidate",
    "Collected",
    "Measure",
    "Problem",
    "Run",
    "Study",
    "collect",
    "ladder",
    "retrieve",
    "run",
    "score",
]
