"""Submit a study's shards as an array of Slurm jobs."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from gdlab.arguments import as_path, require_callable, require_count, require_number, require_text


def submit(
    work: Callable[[tuple[int, int]], None],
    shards: int,
    folder: str | Path,
    *,
    hours: float = 24.0,
    partition: str | None = None,
    gpus: int = 0,
    name: str = "gdlab",
) -> list[str]:
    """Submit `work((i, shards))` for i from 1 to `shards` as a Slurm job array.

    Args:
      work: a function of the shard (i, shards) that can be pickled, such as a `functools.partial` of a module's
        function. Its jobs write into the study's folder, which all of them share.
      shards: the number of jobs.
      folder: the folder for the jobs' logs.
      hours: the time limit of a job. Default 24.
      partition: the Slurm partition. Default None: the cluster's default.
      gpus: the number of GPUs of a job. Default 0.
      name: the name of the job array. Default "gdlab".

    Returns:
      The job ids.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if a number is out of range.
      FileNotFoundError: if this machine has no Slurm.
      ImportError: if the extra `slurm` is not installed.
    """
    require_callable("work", work)
    require_count("shards", shards)
    folder = as_path("folder", folder)
    require_number("hours", hours, 0.0, open_low=True)
    if partition is not None:
        require_text("partition", partition)
    require_count("gpus", gpus, low=0)
    require_text("name", name)
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise FileNotFoundError(
            "slurm: expected Slurm on this machine, with its commands sbatch and srun, got none; without it, run each "
            "part by itself, such as with --shard 1/4 to 4/4"
        )
    try:
        import submitit
    except ImportError:
        raise ImportError(
            "slurm: expected the package submitit, got none installed; run pip install 'gdlab[slurm]'"
        ) from None
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(timeout_min=math.ceil(60 * hours), name=name)
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    if gpus:
        executor.update_parameters(gpus_per_node=gpus)
    return [job.job_id for job in executor.map_array(work, [(number, shards) for number in range(1, shards + 1)])]
