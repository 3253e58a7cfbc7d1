"""Compare optimizers on tasks: the same tuning budget for every optimizer, then several seeds at the chosen setting.

`run` does the trainings of a `Study`, on threads, devices or several machines (`shard`, `submit`). Every training is
a run folder, so a killed study resumes. `collect` reads what is finished, wherever it was computed, and `report`
summarizes it. `write_results` and `read_results` keep finished runs as small files.
"""

from gdlab.comparison.exchange import read_results, write_results
from gdlab.comparison.followers import console, tensorboard
from gdlab.comparison.problems import Candidate, Measure, Problem
from gdlab.comparison.reports import Report, report
from gdlab.comparison.results import Collected, Run, collect, collect_all
from gdlab.comparison.runner import Job, retrieve, run
from gdlab.comparison.study import Study, ladder
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
    "read_results",
    "report",
    "retrieve",
    "run",
    "submit",
    "tensorboard",
    "write_results",
]
