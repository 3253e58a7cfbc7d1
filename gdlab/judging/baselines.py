"""What one contender achieves, as a record; those of gdlab's own optimizers are stored, so that only newcomers run."""

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdlab.diagnostics import PROBLEMS
from gdlab.diagnostics.problem import Problem
from gdlab.judging import diagnosing, networks
from gdlab.judging.contenders import Contender, digest_contender, known
from gdlab.judging.keeping import Kept
from gdlab.judging.tiers import TIERS, Tier
from gdlab.records import atomic_path, environment

FOLDER = Path(__file__).parents[1] / "baselines"
"""The records that are part of the package, one file for each optimizer, of the tier "quick"."""

CHEAP = "layer_scales"
"""The problem on which stored records are compared with this machine's results."""


class Record(NamedTuple):
    """What a contender achieves.

    Attributes:
      name: the name of the contender.
      digest: that of what it computes; see `digest_contender`.
      problems: for each problem, by level: the share of seeds that solve it, the chosen setting, and the breadth (see
        `diagnosing.diagnose`).
      solved: for each judged seed, the share of all problems and levels that is solved.
      families: for each family of problems, the mean digits of each judged seed; see `diagnosing.digits`.
      networks: for each network, the chosen setting, a digest of the data, and the digits, curves and arrivals of each
        seed (see `networks.train`).
      refused: the number of settings that the factory refuses on a problem.
      reason: the first refusal, in one line.
      seconds: how long the diagnostics and each network took.
      made: the versions and the machine.
    """

    name: str
    digest: str
    problems: dict[str, dict[str, Any]]
    solved: list[float]
    families: dict[str, list[float]]
    networks: dict[str, dict[str, Any]]
    refused: int
    reason: str
    seconds: dict[str, float]
    made: dict[str, Any]

    @property
    def digits(self) -> dict[str, np.ndarray]:
        """The scores by family, as arrays."""
        return {name: np.asarray(row) for name, row in self.families.items()}

    @property
    def network_digits(self) -> dict[str, np.ndarray]:
        """The scores by network, as arrays."""
        return {name: np.asarray(found["digits"]) for name, found in self.networks.items()}


def make_record(
    one: Contender,
    tier: Tier,
    kept: Kept,
    done: Callable[[str], None],
    *,
    problems: Mapping[str, Problem] | None = None,
) -> Record:
    """Return the record of a contender on all problems, as yet without networks.

    Args:
      one: the contender.
      tier: how much is computed.
      kept: what was done before.
      done: called with the name of each problem that is done.
      problems: the problems by name. Default None: all of `PROBLEMS`.

    Returns:
      The `Record`.
    """
    began = time.perf_counter()
    chosen = PROBLEMS if problems is None else problems
    found = diagnosing.diagnose(one, chosen, tier, kept, done)
    families = {name: np.round(row, 4).tolist() for name, row in diagnosing.by_family(chosen, found).items()}
    rows = {name: {key: each[key] for key in ("solved", "chosen", "breadth")} for name, each in found.items()}
    worst = max(found.values(), key=lambda each: each["refused"])
    seconds = {"diagnostics": round(time.perf_counter() - began, 1)}
    return Record(
        one.name,
        digest_contender(one),
        rows,
        np.round(diagnosing.by_seed(chosen, found), 4).tolist(),
        families,
        {},
        worst["refused"],
        worst["reason"],
        seconds,
        environment(),
    )


def train_network(one: Contender, record: Record, name: str, tier: Tier, kept: Kept, seeds: Sequence[int]) -> Record:
    """Return the record with the results of a network, which is tuned first, for these seeds and all before them.

    Args:
      one: the contender.
      record: its record.
      name: the name of the network.
      tier: how much is computed.
      kept: what was done before.
      seeds: the seeds to train from, which continue those of the record.

    Returns:
      The new `Record`.
    """
    began = time.perf_counter()
    place = f"network {name} {networks.data_digest(name)[:16]}"
    found = dict(record.networks.get(name) or kept.get(place, lambda: networks.tune(one, name, tier)))
    runs = kept.get(f"{place} {seeds[0]} to {seeds[-1]}", lambda: networks.train(one, name, found["chosen"], seeds))
    for key, row in runs.items():
        found[key] = [*found.get(key, []), *row]
    took = round(time.perf_counter() - began + record.seconds.get(name, 0.0), 1)
    return record._replace(
        networks=record.networks | {name: found},
        seconds=record.seconds | {name: took},
        refused=max(record.refused, found["refused"]),
        reason=record.reason or found["reason"],
    )


@functools.cache
def stored(name: str) -> Record | None:
    """Return the stored record of an optimizer of gdlab, or None if there is none."""
    path = FOLDER / f"{name}.json"
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def store(record: Record, folder: Path = FOLDER) -> Path:
    """Write a record to a folder of records, one line for each field and entry.

    Args:
      record: the record.
      folder: the folder. Default: that of the package.

    Returns:
      The file.
    """
    path = folder / f"{record.name}.json"
    lines = [f" {json.dumps(key)}: {_rows(value)}" for key, value in record._asdict().items()]
    with atomic_path(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


def _rows(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value, allow_nan=False)
    return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in value.items()) + "\n }"


def drift(record: Record) -> float:
    """Return by how much a record's share of solved seeds differs from that on this machine, at most, on one problem.

    Args:
      record: a stored record of an optimizer of gdlab.

    Returns:
      The largest difference over the levels, from 0 to 1.
    """
    some = {CHEAP: PROBLEMS[CHEAP]}
    found = diagnosing.diagnose(known(record.name), some, TIERS["quick"], Kept(None), lambda _: None)
    return float(np.max(np.abs(np.subtract(found[CHEAP]["solved"], record.problems[CHEAP]["solved"]))))
