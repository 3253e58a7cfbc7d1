"""Finished runs as small files without their checkpoints, one for each: a report can be made from these alone.

The file of a run has the name of its folder: `results/digits/adam/epochs-5/default/seed-0.json` is the run in
`study.folder/runs/digits/adam/epochs-5/default/seed-0`.
"""

import os
from pathlib import Path
from typing import Any

from gdlab.arguments import as_path, require_instance
from gdlab.comparison.results import read_finished
from gdlab.comparison.study import Study
from gdlab.records.files import read_json, staged_folder, write_json, write_lines
from gdlab.records.runs import read_run

FIELDS = ("config", "environment", "metrics", "seconds")
"""What the file of a run holds: the contents of the files of its folder."""

EXPECTED = "the file of a finished run, as write_results writes it"


def write_results(study: Study, results: str | os.PathLike[str]) -> list[Path]:
    """Write each finished run of a study, trials among them, to a file of its own.

    Such files are small enough to be committed, so that results outlive the machine. They hold what identifies a run,
    the versions and the device that it was made with, and its metrics for each epoch.

    Args:
      study: the study.
      results: the folder of the files. A file that is there remains as it is.

    Returns:
      The files that were written.

    Raises:
      TypeError: if an argument has the wrong type.
    """
    require_instance("study", study, Study, "a Study")
    folder, runs = as_path("results", results), study.folder / "runs"
    written = []
    for manifest in sorted(runs.rglob("config.json")):
        place = manifest.parent.relative_to(runs)
        file = folder / f"{place}.json"
        if file.exists() or not _is_finished(study, place):
            continue
        found = read_run(manifest.parent)
        starts = manifest.parent / "environment.json"
        environment = read_json(starts) if starts.exists() else {"starts": []}
        write_json(file, dict(zip(FIELDS, (found.config, environment, found.metrics, found.seconds), strict=True)))
        written.append(file)
    return written


def read_results(study: Study, results: str | os.PathLike[str]) -> list[Path]:
    """Put finished runs into the folder of a study, from the files that `write_results` wrote, perhaps elsewhere.

    The study then neither repeats these runs nor needs their data for its report. Runs that its folder has remain as
    they are.

    Args:
      study: the study.
      results: the folder of the files.

    Returns:
      The folders of the runs that were put there.

    Raises:
      TypeError: if an argument has the wrong type.
      FileNotFoundError: if the folder does not exist.
      ValueError: if it holds no such file, or one that is damaged or belongs to no problem of the study.
    """
    require_instance("study", study, Study, "a Study")
    folder = as_path("results", results)
    if not folder.is_dir():
        raise FileNotFoundError(f"results: expected a folder of finished runs, got {folder}, which does not exist")
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise ValueError(f"results: expected a folder of finished runs, got {folder} without any")
    contents = {file: _read(study, file, folder) for file in files}  # all are read before anything is written
    put = []
    for file, found in contents.items():
        target = study.folder / "runs" / file.relative_to(folder).with_suffix("")
        if not (target / "config.json").exists():
            with staged_folder(target) as staging:
                _write_run(staging, found)
            put.append(target)
    return put


def _is_finished(study: Study, place: Path) -> bool:
    """Return whether the run at this place below `runs` belongs to the study and is finished."""
    if len(place.parts) != 5:
        return False
    problem, _, length, _, seed = place.parts
    kind, _, epochs = length.partition("-")
    number = seed.removeprefix("seed-")
    if problem not in [each.name for each in study.problems] or not (epochs.isdecimal() and number.isdecimal()):
        return False
    patience = study.problem(problem).patience if kind == "epochs" else None
    return read_finished(study.folder / "runs" / place, int(epochs), int(number), patience) is not None


def _read(study: Study, file: Path, folder: Path) -> dict[str, Any]:
    problem, *parts = file.relative_to(folder).parts
    if len(parts) != 4 or problem not in [each.name for each in study.problems]:
        names = ", ".join(each.name for each in study.problems)
        raise ValueError(f"results: expected runs of the problems {names}, got {file}")
    found = read_json(file)
    if not isinstance(found, dict) or [type(found.get(each)) for each in FIELDS] != [dict] * len(FIELDS):
        raise ValueError(f"results: expected {EXPECTED}, got {file} with other contents")
    columns = [*found["metrics"].values(), *found["seconds"].values()]
    if not all(isinstance(each, list) and each and len(each) == len(columns[0]) for each in columns):
        raise ValueError(f"results: expected {EXPECTED}, got {file} with columns of different lengths")
    return found


def _write_run(folder: Path, found: dict[str, Any]) -> None:
    """Write the files of a run's folder, except for its checkpoint."""
    for name in ("config", "environment"):
        write_json(folder / f"{name}.json", found[name])
    for name in ("metrics", "seconds"):
        columns = found[name]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        write_lines(folder / f"{name}.jsonl", rows)
