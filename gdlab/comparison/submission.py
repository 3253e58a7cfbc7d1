"""Shards of a study as an array of Slurm jobs."""

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
    """Submit `work((i, shards))` for i from 1 to `shards` as a job array; returns the jobs' numbers.

    work must be a function that can be pickled, such as `functools.partial` of one of a module; its jobs write into the
    study's folder, which all of them share. folder: for the jobs' logs. Where there is no Slurm, processes of this
    machine do the work. Raises ImportError, in one line, where the extra `slurm` is not installed.
    """
    require_count("shards", shards)
    try:
        import submitit
    except ImportError:
        raise ImportError("slurm: wanted the package submitit: pip install 'gdlab[slurm]'") from None
    executor = submitit.AutoExecutor(folder=folder)
    executor.update_parameters(timeout_min=int(60 * hours), name=name)
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    if gpus:
        executor.update_parameters(gpus_per_node=gpus)
    return [job.job_id for job in executor.map_array(work, [(number, shards) for number in range(1, shards + 1)])]
