"""Run a study, or one shard of it, on threads of this machine: trials, the choice among them, and final runs."""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from tqdm.auto import tqdm

from gdlab.arguments import describe, require_callable, require_count
from gdlab.comparison.results import choose, read_finished
from gdlab.comparison.study import Problem, Setting, Study, StudyFactory
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import heeded
from gdlab.compute.threads import Crew, thread_devices
from gdlab.optimizers import evaluation_params
from gdlab.records.files import to_json
from gdlab.records.runs import read_checkpoint
from gdlab.tasks import Task
from gdlab.training import train
from gdlab.training.compilation import KEPT
from gdlab.training.epoch import begin


class Job(NamedTuple):
    """One training of a study.

    Attributes:
      problem: the name of the problem.
      candidate: the name of the candidate.
      setting: the hyperparameters.
      epochs: the number of epochs.
      seed: the seed.
      is_trial: whether it is a trial rather than a final run.
    """

    problem: str
    candidate: str
    setting: Setting
    epochs: int
    seed: int
    is_trial: bool


OnEpoch = Callable[[Job, Mapping[str, Any]], None]
"""A function of a job and an epoch's row, as in `train`. After a restart, earlier rows of all runs come first."""


@heeded()
def run(
    study: Study,
    *,
    problems: Sequence[str] = (),
    candidates: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    workers: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    checkpoint_every: int = 1,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train everything in a study that is not done yet.

    For each pair (problem, candidate), all trials come first. Then come the final runs with the setting of the best
    trial, judged on the held-out part of the training data. One thread works on a pair. A training that diverges is a
    result, not an error. Every problem's task is made first, so that missing data is found before the first training.

    Args:
      study: the study.
      problems: names of the problems to train on. Default: all.
      candidates: names of the candidates to train. Default: all.
      shard: (i, n), with i from 1 to n: do the i-th of n parts of the pairs. Other machines do the other parts, into
        the same folder or into copies that are merged. Default (1, 1): everything.
      workers: the number of threads. Default: one per core if devices are CPUs, otherwise one per device.
      devices: the devices to train on. Default: all local devices.
      checkpoint_every: the number of epochs between checkpoints. Default 1.
      progress: whether to show a progress bar. Default True.
      on_epoch: a function that is called after each epoch; see `OnEpoch`. Default None.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if an argument is out of range, or a problem with several settings has no held-out part.
      RuntimeError: in a process that was forked after JAX had started.
      Exception: whatever a training raises, after the other threads have ended their current training.
    """
    require_unforked("run")
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"shard: expected two numbers, (i, n), got {describe(shard)}")
    number, count = shard
    require_count("shard", count)
    require_count("shard", number)
    if number > count:
        raise ValueError(f"shard: expected a number from 1 to {count}, got {number}")
    if workers is not None:
        require_count("workers", workers)
    if on_epoch is not None:
        require_callable("on_epoch", on_epoch)
    if not isinstance(progress, bool):
        raise TypeError(f"progress: expected True or False, got {describe(progress)}")
    threads = thread_devices(list(devices or jax.local_devices()))
    threads = (threads * -(-workers // len(threads)))[:workers] if workers else threads
    pairs = _interleaved(study.pairs(problems, candidates)[number - 1 :: count], min(len(threads), KEPT - 1))
    _Request(study, pairs, Crew(threads), checkpoint_every, on_epoch).run(progress)


def _interleaved(pairs: Sequence[tuple[str, str]], together: int) -> list[tuple[str, str]]:
    """Order pairs so that `together` problems take turns, and then the next ones.

    Threads then begin with different problems, whose programs they compile at the same time.
    """
    names = list(dict.fromkeys(name for name, _ in pairs))
    found = []
    for low in range(0, len(names), together):
        columns = [[pair for pair in pairs if pair[0] == name] for name in names[low : low + together]]
        found += [pair for row in itertools.zip_longest(*columns) for pair in row if pair is not None]
    return found


class _Request:
    """The work to be done, and the state that its threads share."""

    def __init__(
        self,
        study: Study,
        pairs: Sequence[tuple[str, str]],
        crew: Crew,
        checkpoint_every: int,
        on_epoch: OnEpoch | None,
    ):
        self.study = study
        self.pairs = pairs
        self.crew = crew
        self.checkpoint_every = checkpoint_every
        self.on_epoch = on_epoch
        self.lock = threading.Lock()
        self.made: dict[str, tuple[Task, StudyFactory]] = {}
        self.left = {name: sum(pair[0] == name for pair in pairs) for name, _ in pairs}
        self.bar: Any = None

    def run(self, progress: bool) -> None:
        for name in self.left:
            self._made(self.study.problem(name))  # missing data is found before the first training
        total = sum(job.epochs for pair in self.pairs for job in (*self._trials(*pair), *self._finals(*pair, {})))
        with tqdm(total=total, unit="epoch", disable=None if progress else True) as self.bar:
            self.crew.run(self._pair, self.pairs)

    def _trials(self, name: str, candidate: str) -> list[Job]:
        problem = self.study.problem(name)
        if not problem.is_tuned(candidate):
            return []
        return [
            Job(name, candidate, setting, problem.tuning_epochs, seed, True)
            for setting in problem.trials[candidate]
            for seed in self.study.tuning_seeds
        ]

    def _finals(self, name: str, candidate: str, setting: Setting) -> list[Job]:
        return [
            Job(name, candidate, setting, epochs, seed, False)
            for epochs in self.study.problem(name).epochs
            for seed in self.study.seeds
        ]

    def _pair(self, pair: tuple[str, str], device: jax.Device) -> None:
        name, candidate = pair
        for job in self._trials(name, candidate):
            self._train(job, device)
        if self.crew.stopped.is_set():
            return
        best, _, missing = choose(self.study, self.study.problem(name), candidate)
        if best is None:
            raise RuntimeError(
                f"{name}, {candidate}: expected all trials to be done after running them, got {missing} missing"
            )
        for job in self._finals(name, candidate, best):
            self._train(job, device)
        with self.lock:
            self.left[name] -= 1
            if not self.left[name]:
                self.made.pop(name, None)  # its data is no longer needed

    def _made(self, problem: Problem) -> tuple[Task, StudyFactory]:
        """Return the problem's task and optimizers.

        All pairs get the same objects, so that each program is traced once.
        """
        with self.lock:
            if problem.name not in self.made:
                task = problem.make()
                if task.valid is None and any(map(problem.is_tuned, problem.trials)):
                    raise ValueError(
                        f"problems[{problem.name}]: expected a task with a held-out part to tune on, got none"
                    )
                self.made[problem.name] = task, self.study.factory(problem)
            return self.made[problem.name]

    def _train(self, job: Job, device: jax.Device) -> None:
        if self.crew.stopped.is_set():
            return
        problem = self.study.problem(job.problem)
        task, factory = self._made(problem)
        folder = folder_of(self.study, job)
        patience = None if job.is_trial else problem.patience
        about = {
            "problem": problem.name,
            "candidate": job.candidate,
            "setting": dict(job.setting),
            "about": problem.about,
        }
        done = read_finished(folder, job.epochs, job.seed, patience)
        asked = to_json({"task": {"name": task.name, **task.description}, "epochs": job.epochs, **about})
        if done is not None and asked.items() <= done.config.items():
            if self.on_epoch is not None:
                for row in done.rows():
                    self.on_epoch(job, row)
            self._tick(job.epochs)
            return
        seen = 0

        def follow(row: Mapping[str, Any]) -> None:
            nonlocal seen
            seen += 1
            self._tick(1)
            if self.on_epoch is not None:
                self.on_epoch(job, row)

        train(
            task,
            factory(job.candidate),
            hyperparameters=factory.numbers(job.candidate, job.setting, float(job.epochs * task.steps)),
            epochs=job.epochs,
            seed=job.seed,
            folder=folder,
            config=about,
            patience=patience,
            checkpoint_every=self.checkpoint_every,
            progress=False,
            on_epoch=follow,
            device=device,
        )
        self._tick(job.epochs - seen)  # the epochs after an early end count as done

    def _tick(self, epochs: int) -> None:
        with self.lock:
            self.bar.update(epochs)


def folder_of(study: Study, job: Job) -> Path:
    """Return the folder of the training."""
    if job.is_trial:
        return study.trial_folder(job.problem, job.candidate, job.setting, job.seed)
    return study.final_folder(job.problem, job.candidate, job.epochs, job.setting, job.seed)


def retrieve(study: Study, problem: str, candidate: str, epochs: int) -> tuple[PyTree, Task]:
    """Return the trained parameters of the first seed's final run, and the task.

    Only the checkpoint is read, which may have been written on another machine. It holds the last epoch's model, even
    if the run was stopped early.

    Args:
      study: the study.
      problem: the name of the problem.
      candidate: the name of the candidate.
      epochs: the number of epochs of the final run.

    Returns:
      The parameters to evaluate at, and the task.

    Raises:
      ValueError: if a name is unknown, or if trials or the run are not done.
    """
    study.require_names([problem], [candidate])
    one = study.problem(problem)
    setting, _, _ = choose(study, one, candidate)
    if setting is None:
        raise ValueError(f"{problem}, {candidate}: expected all trials to be done, got some missing")
    seed = study.seeds[0]
    folder = study.final_folder(problem, candidate, epochs, setting, seed)
    if read_finished(folder, epochs, seed, one.patience) is None:
        raise ValueError(f"{problem}, {candidate}: expected a finished run in {folder}, got none")
    task, factory = one.make(), study.factory(one)
    optimizer = factory(candidate)(**factory.numbers(candidate, setting, float(epochs * task.steps)))
    like = jax.eval_shape(lambda: begin(task.functions, optimizer, np.uint32(seed)))
    learner = read_checkpoint(folder, like)
    return evaluation_params(learner.optimizer, learner.params), task
