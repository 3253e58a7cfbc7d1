"""What gdlab's own optimizers achieve under `gdlab judge`, stored with the package so that judging runs only newcomers.

Command:   python -m benchmarks.baselines [adam momentum ...] [--signatures]
Runtime:   about three minutes for each optimizer on 2 idle CPU cores; a minute and a half for the signatures.
"""

import dataclasses
import json
from pathlib import Path

import tyro

from gdlab.arguments import require_names
from gdlab.compute.interrupts import command
from gdlab.judging import baselines, nearness
from gdlab.judging.contenders import digest_contender, known
from gdlab.judging.keeping import Kept
from gdlab.judging.tiers import TIERS
from gdlab.optimizers import OPTIMIZERS
from gdlab.records import atomic_path
from gdlab.version import VERSION


@dataclasses.dataclass(frozen=True)
class Config:
    """Which records are made."""

    optimizers: tyro.conf.Positional[tuple[str, ...]] = ("adam", "momentum", "sgd")
    """Names of optimizers in OPTIMIZERS."""
    signatures: bool = False
    """Make the signatures of all optimizers, by which the nearest ones are found, and no records."""
    networks: bool = True
    """Train the networks, too."""
    out: Path = baselines.FOLDER
    """The folder of the records."""
    kept: Path = Path("runs/baselines")
    """The folder of what is done, from which an interrupted run continues."""

    def __post_init__(self) -> None:
        require_names("optimizers", self.optimizers, OPTIMIZERS)


def record(config: Config, name: str) -> baselines.Record:
    """Return the record of one optimizer."""
    one, tier = known(name), TIERS["quick"]
    kept = Kept(config.kept / VERSION / name / digest_contender(one))
    found = baselines.make_record(one, tier, kept, lambda problem: print(problem, end=" ", flush=True))
    print()
    for network in tier.networks if config.networks else ():
        low = 0
        for high in tier.network_seeds:
            found = baselines.train_network(one, found, network, tier, kept, range(low, high))
            low = high
    return found._replace(made=found.made | {"command": f"python -m benchmarks.baselines {name}"})


def write_signatures(path: Path) -> None:
    """Write the signatures of all optimizers."""
    rows = {}
    for name, factory in OPTIMIZERS.items():
        try:
            rows[name] = nearness.signature(factory).round(4).tolist()
        except ValueError as error:  # Gauss-Newton needs residuals, which a sequence of gradients does not have
            print(f"{name} is left out: {error}")
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    with atomic_path(path) as temporary:
        temporary.write_text(f'{{\n "version": "{VERSION}",\n "signatures": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


def main(config: Config) -> None:
    if config.signatures:
        write_signatures(config.out / nearness.SIGNATURES.name)
        return
    for name in config.optimizers:
        found = record(config, name)
        print(baselines.store(found, config.out), found.seconds, flush=True)


if __name__ == "__main__":
    with command("baselines", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
