"""Find the results in files and folders: judgements, datasets and trainings; what cannot be read is named."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from gdlab.reporting.datasets import dataset_section
from gdlab.reporting.judgements import read_judgement
from gdlab.reporting.pieces import Section
from gdlab.reporting.trainings import Trained, read_trained, training_sections

DEEPEST = 12
"""The depth to which folders are searched."""

EXPECTED = "a judgement, a study, a dataset (.nc) or a training's folder"


class Found(NamedTuple):
    """What some files and folders hold.

    Attributes:
      sections: one for each judgement, dataset and problem.
      damaged: for what cannot be read, one line each.
    """

    sections: list[Section]
    damaged: list[str]


def find(places: Sequence[Path]) -> Found:
    """Read all results in these files and folders.

    Args:
      places: files (judgement.json, .nc) and folders, which are searched.

    Raises:
      FileNotFoundError: if a place does not exist.
      ValueError: if no result is found in one of them; the message names what is damaged.
    """
    found = Found([], [])
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"places: expected {EXPECTED}, got {place}, which does not exist")
        before, damaged = len(found.sections), len(found.damaged)
        runs: list[Trained] = []
        for path in _candidates(place):
            try:
                if path.name == "config.json":
                    runs.append(read_trained(path.parent))
                else:
                    found.sections.append(_read(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                found.damaged.append(_line(path, error))
        if runs:
            found.sections.extend(training_sections(runs, place))
        if len(found.sections) == before:
            why = found.damaged[damaged] if len(found.damaged) > damaged else "nothing of that kind"
            raise ValueError(f"places: expected {EXPECTED} in {place}, got {why}")
    return found


def _candidates(place: Path) -> Iterator[Path]:
    """Yield the files that begin a result, in the order of their names."""
    if place.is_file():
        yield place
        return
    for folder, inner, files in os.walk(place):
        inner.sort()
        if len(Path(folder).relative_to(place).parts) >= DEEPEST or "judgement.json" in files:
            inner.clear()
        at = Path(folder)
        if "config.json" in files:
            inner.clear()
            yield at / "config.json"
        if "judgement.json" in files:
            yield at / "judgement.json"
        yield from (at / name for name in sorted(files) if name.endswith(".nc"))


def _read(path: Path) -> Section:
    if path.suffix == ".nc":
        with xr.load_dataset(path) as ds:
            return dataset_section(ds, path)
    if path.suffix != ".json":
        raise ValueError(f"expected {EXPECTED}, got a file {path.suffix or 'without a suffix'}")
    return read_judgement(path).section


def _line(path: Path, error: Exception) -> str:
    """Return one line that says what is wrong with a file."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if str(path) in text else f"{path}: {text}"
