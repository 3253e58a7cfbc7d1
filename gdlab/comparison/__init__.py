"""Optimizers compared on tasks: the same tuning budget for all, then several seeds; every training a run folder.

`run` does what is asked for, on threads, devices or several machines (`shard`, `submit`), and goes on after a kill;
`collect` reads what there is, wherever it was computed, and `report` says what it shows.
"""

from gdlab.comparison.followers import console, tensorboard
from gdlab.comparison.reports import Report, report
from gdlab.comparison.results import Collected, Run, collect, collect_all
from gdlab.comparison.runner import Job, retrieve, run
from gdlab.comparison.study import Candidate, Measure, Problem, Study, ladder
from gdlab.comparison.submission import submit

__all__ = [
    "Candidate",
    "Collected",
    "Job",
    "Measure",
    "Problem",
    "Report",
    "Run",
    "Study",
    "collect",
    "collect_all",
    "console",
    "ladder",
    "report",
    "retrieve",
    "run",
    "submit",
    "tensorboard",
]
