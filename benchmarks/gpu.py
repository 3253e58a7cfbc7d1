"""One command that checks and measures gdlab on a machine with a GPU, and ends by a deadline.

Each phase is a process of its own, so that one that crashes or hangs costs the others nothing:

- smoke: which compiler options work, whether numbers come out the same twice, and the GPU against the CPU.
- training: images per second of whole epochs of ResNet18, and the share of the GPU's peak, for both stems, float32 and
  bfloat16, and batches of 64 and 512. torch: steps of the same networks in PyTorch, eager and then compiled.
- sweep: Ackley's function with Adam from 10^4 to 10^7 starts, beside a plain scan, and the share of the GPU's limits.
- runs: the source article's comparison, seven optimizers with 50 epochs each (experiments/cifar10_resnet18.py), as far
  as the time allows. The next call goes on from there.

Command: python -m benchmarks.gpu [--deadline 540] [--phases smoke sweep] [--data-dir FOLDER] [--smoke]
Writes benchmarks/results/gpu.json after every measurement; phases that are not run keep their earlier entries. An entry
has a "value"; or an "error" and where it arose; or "skipped" and why. The last two are no measurements. Without
--data-dir the images of the runs are random, so that their accuracies mean nothing; those of the other phases always
are. In float32, products are TF32 in both libraries.
Runtime: 9 minutes at most. --smoke needs no GPU and takes 2 minutes on one idle core.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import tyro

from benchmarks.gpu_phases import PHASES, Phase
from gdlab.arguments import require_names, require_number

ROOT = Path(__file__).parents[1]
SHARES = {"smoke": 80.0, "training": 150.0, "torch": 120.0, "sweep": 40.0, "runs": 150.0}
"""How the time is divided. What a phase leaves is divided among those after it."""
MARGIN = 15.0
"""The seconds from the moment at which a phase begins nothing more to that at which it is killed."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    deadline: float = 540.0
    """Seconds after which the command has ended, whatever it has measured by then."""
    phases: tuple[str, ...] = tuple(PHASES)
    """The phases to run, in this order."""
    data_dir: Path | None = None
    """Folder of prepared data sets with CIFAR10, for the runs. Default: random images."""
    out: Path = ROOT / "benchmarks" / "results" / "gpu.json"
    """File of the results."""
    runs: Path = ROOT / "runs" / "gpu"
    """Folder of the runs, from which they are resumed."""
    smoke: bool = False
    """Run everything on a tiny scale, to see that it works; also without a GPU."""

    def __post_init__(self) -> None:
        require_names("phases", self.phases, PHASES)
        require_number("deadline", self.deadline, 0.0, open_low=True)


def run_phase(config: Config, name: str, seconds: float) -> None:
    """Run a phase in a process that is killed after these seconds; record how it ended if that was not by itself."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(config).items()}
    phase = Phase(name, settings | {"until": time.time() + seconds - MARGIN})
    phase.clear()
    if phase.left() <= 0:
        phase.put("the phase", {"skipped": f"{seconds:.0f} s left for it"})
        return
    command = [sys.executable, "-m", "benchmarks.gpu_phases", name, json.dumps(phase.settings)]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log, start_new_session=True)
        try:
            status: int | str = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = f"none after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
        if status != 0:
            log.seek(0)
            error = f"expected status 0, got {status}"
            phase.put("the phase", {"error": error, "where": log.read().splitlines()[-12:]})


def main(config: Config) -> None:
    began = time.monotonic()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # each process takes only the memory that it needs
    if not config.smoke and jax.default_backend() != "gpu":
        sys.exit(f"gpu: expected a GPU, got {jax.default_backend()} alone; --smoke runs everything on a tiny scale")
    for place, name in enumerate(config.phases):
        share = SHARES[name] / sum(SHARES[each] for each in config.phases[place:])
        run_phase(config, name, share * (config.deadline - (time.monotonic() - began)))
    print(f"{config.out}: written, after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"gpu: {error}")
