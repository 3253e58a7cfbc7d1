"""Submit a study's shards as an array of Slurm jobs."""

from collections.abc import Callable
from pathlib import Path

from gdlab.arguments import require_count


def submit(
    work: Callable[[tuple[int, int]], None],
    shards: int,
    folder: Path,
    *,
    hours: float = 24.0,
    partition: str | None = None,
    gpus: int = 0,
    name: str = "gdlab",
) -> list[str]:
    """Submit `work((i, shards))` for i from 1 to `shards` as a Slurm job array.

    On a machine without Slurm, local processes do the work.

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
      ImportError: if the extra `slurm` is not installed.
    """
    require_count("shards", shards)
    try:
        import submitit
    except ImportError:
        raise ImportError(
            "slurm: expected the package submitit, got none installed; run pip install 'gdlab[slurm]'"
        ) from None
    executor = submitit.AutoExecutor(folder=folder)
    executor.update_parameters(timeout_min=int(60 * hours), name=name)
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    if gpus:
        executor.update_parameters(gpus_per_node=gpus)
    return [job.job_id for job in executor.map_array(work, [(number, shards) for number in range(1, shards + 1)])]
