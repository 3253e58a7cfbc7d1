"""`run`: trials, the choice among them, and final runs, on threads of this machine; a shard of them, if asked for."""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from tqdm.auto import tqdm

from gdlab.arguments import describe, require_count
from gdlab.checkpoints import load_tree
from gdlab.comparison.collecting import choose, read_finished
from gdlab.comparison.study import Problem, Setting, Study
from gdlab.optimizers import evaluation_params
from gdlab.runs import to_json
from gdlab.sweeps.workers import usable_cores, with_settings
from gdlab.tasks import Task
from gdlab.training import train
from gdlab.training.program import KEPT, begin

Factories = dict[str, tuple[Callable[..., Any], dict[str, float]]]


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
) -> None:
    """Train all that is not done yet of these problems and candidates; none named: of all.

    Of each pair (problem, candidate) all trials come first, then the final runs at the best one's setting, judged on
    the part of the training data that is held out. A pair is one thread's work. shard: (i, n), i from 1: do the i-th of
    n parts of the pairs; other machines do the others, into the same folder or into copies that are put together.
    workers: threads, by default one for each core of CPUs and one for each other device. A training that diverges is a
    result. Raises what a training raises, after the others have ended their current one.
    """
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"shard: wanted two numbers, (i, n), got {describe(shard)}")
    number, count = shard
    require_count("shard", count)
    require_count("shard", number)
    if number > count:
        raise ValueError(f"shard: wanted a number from 1 to {count}, got {number}")
    if workers is not None:
        require_count("workers", workers)
    if not isinstance(progress, bool):
        raise TypeError(f"progress: wanted True or False, got {describe(progress)}")
    devices = list(devices or jax.local_devices())
    places = devices * (usable_cores() if devices[0].platform == "cpu" else 1)
    places = (places * -(-workers // len(places)))[:workers] if workers else places
    pairs = _interleaved(study.pairs(problems, candidates)[number - 1 :: count], min(len(places), KEPT - 1))
    _Crew(study, pairs, places, checkpoint_every).work(progress)


def _interleaved(pairs: Sequence[tuple[str, str]], together: int) -> list[tuple[str, str]]:
    """So many problems by turns, then the next ones: threads begin with different ones, whose programs they compile."""
    names = list(dict.fromkeys(name for name, _ in pairs))
    found = []
    for low in range(0, len(names), together):
        columns = [[pair for pair in pairs if pair[0] == name] for name in names[low : low + together]]
        found += [pair for row in itertools.zip_longest(*columns) for pair in row if pair is not None]
    return found


class _Crew:
    """Threads that share the pairs."""

    def __init__(
        self, study: Study, pairs: Sequence[tuple[str, str]], places: Sequence[jax.Device], checkpoint_every: int
    ) -> None:
        self.study = study
        self.pairs = pairs
        self.places = list(places)
        self.checkpoint_every = checkpoint_every
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.made: dict[str, tuple[Task, Factories]] = {}
        self.left = {name: sum(pair[0] == name for pair in pairs) for name, _ in pairs}
        self.bar: Any = None

    def work(self, progress: bool) -> None:
        tuning, seeds = len(self.study.tuning_seeds), len(self.study.seeds)
        total = 0
        for name, candidate in self.pairs:
            problem = self.study.problem(name)
            total += len(problem.trials[candidate]) * tuning * problem.tuning_epochs + seeds * sum(problem.epochs)
        with tqdm(total=total, unit="epoch", disable=None if progress else True) as self.bar:
            with ThreadPoolExecutor(len(self.places)) as pool:
                do = with_settings(self._do)
                futures = [pool.submit(do, pair) for pair in self.pairs]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                except BaseException:
                    self.stopped.set()
                    raise
                if any(future.done() and future.exception() for future in futures):
                    self.stopped.set()
            for future in futures:
                future.result()

    def _do(self, pair: tuple[str, str]) -> None:
        if self.stopped.is_set():
            return
        with self.lock:
            device = self.places.pop(0)
        try:
            self._pair(*pair, device)
        except BaseException:
            self.stopped.set()
            raise
        finally:
            with self.lock:
                self.places.append(device)
                self.left[pair[0]] -= 1
                if not self.left[pair[0]]:
                    self.made.pop(pair[0], None)  # its data is not needed any more

    def _pair(self, name: str, candidate: str, device: jax.Device) -> None:
        study, problem = self.study, self.study.problem(name)
        for setting in problem.trials[candidate]:
            for seed in study.tuning_seeds:
                folder = study.trial_folder(name, candidate, setting, seed)
                self._train(problem, candidate, setting, problem.tuning_epochs, seed, folder, device)
        if self.stopped.is_set():
            return
        best, _, missing = choose(study, problem, candidate)
        if best is None:
            raise RuntimeError(f"{name}, {candidate}: {missing} trials are missing after they were run")
        for epochs in problem.epochs:
            for seed in study.seeds:
                folder = study.final_folder(name, candidate, epochs, best, seed)
                self._train(problem, candidate, best, epochs, seed, folder, device)

    def _made(self, problem: Problem) -> tuple[Task, Factories]:
        """The problem's task and optimizers; the same objects for all pairs, so that programs are traced once."""
        with self.lock:
            if problem.name not in self.made:
                task = problem.make()
                if task.valid is None:
                    raise ValueError(
                        f"problems[{problem.name}]: wanted a task with a part held out to tune by, got none"
                    )
                self.made[problem.name] = task, self.study.factories(problem)
            return self.made[problem.name]

    def _train(
        self,
        problem: Problem,
        candidate: str,
        setting: Setting,
        epochs: int,
        seed: int,
        folder: Path,
        device: jax.Device,
    ) -> None:
        if self.stopped.is_set():
            return
        task, factories = self._made(problem)
        build, numbers = factories[candidate]
        about = {"problem": problem.name, "candidate": candidate, "setting": dict(setting), "about": problem.about}
        done = read_finished(folder, epochs, seed)
        wanted = to_json({"task": {"name": task.name, **task.description}, "epochs": epochs, **about})
        if done is not None and wanted.items() <= done.config.items():
            self._tick(epochs)
            return
        seen = 0

        def follow(row: Mapping[str, Any]) -> None:
            nonlocal seen
            del row
            seen += 1
            self._tick(1)

        train(
            task,
            build,
            hyperparameters=numbers | _hyperparameters(task, setting, epochs),
            epochs=epochs,
            seed=seed,
            folder=folder,
            config=about,
            checkpoint_every=self.checkpoint_every,
            progress=False,
            on_epoch=follow,
            device=device,
        )
        self._tick(epochs - seen)  # what ended early counts as done

    def _tick(self, epochs: int) -> None:
        with self.lock:
            self.bar.update(epochs)


def _hyperparameters(task: Task, setting: Setting, epochs: int) -> dict[str, float]:
    """All that a candidate's function is called with."""
    return {**setting, "total_steps": float(epochs * task.steps)}


def retrieve(study: Study, problem: str, candidate: str, epochs: int) -> tuple[PyTree, Task]:
    """The parameters to evaluate at of the first seed's final run, and the task; the run must be done.

    Only the checkpoint is read: it may have been written on another machine.
    """
    study.pairs([problem], [candidate])  # are there such?
    one = study.problem(problem)
    setting, _, _ = choose(study, one, candidate)
    if setting is None:
        raise ValueError(f"{problem}, {candidate}: wanted all trials to be done, some are missing")
    seed = study.seeds[0]
    folder = study.final_folder(problem, candidate, epochs, setting, seed)
    if read_finished(folder, epochs, seed) is None:
        raise ValueError(f"{problem}, {candidate}: wanted a finished run in {folder}, got none")
    task = one.make()
    build, numbers = study.factories(one)[candidate]
    optimizer = build(**numbers, **_hyperparameters(task, setting, epochs))
    like = jax.eval_shape(lambda: begin(task, optimizer, np.uint32(seed)))
    learner = load_tree(folder / "checkpoint.npz", like)
    return evaluation_params(learner.optimizer, learner.params), task
