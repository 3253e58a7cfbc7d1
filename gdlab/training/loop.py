"""`train`: the loop over epochs of one run, with checkpoints, early stopping and a record of all metrics."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Float, PyTree
from tqdm.auto import tqdm

from gdlab.arguments import (
    as_path,
    require_callable,
    require_count,
    require_instance,
)
from gdlab.compute.devices import platform_of
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import check, heeded
from gdlab.compute.programs import digest_arrays
from gdlab.hyperparameters.factories import explained
from gdlab.optimizers import evaluation_params
from gdlab.records.runs import RunFolder
from gdlab.tasks.checks import require_task
from gdlab.tasks.task import Data, Task
from gdlab.training.compilation import TracedRun, compile_run, trace_run
from gdlab.training.epoch import Learner
from gdlab.training.given import as_factory, rate_at
from gdlab.training.resuming import Checkpoints, Progress, compare_cores
from gdlab.types import Factory


class Training(NamedTuple):
    """The result of `train`.

    Attributes:
      history: for each metric, one value per epoch: train_loss, train_accuracy, ..., valid_... (if examples are held
        out), test_..., gradient_norm (the mean norm of the gradient over the steps) and learning_rate (if it was
        given).
      seconds: the duration of each epoch in seconds, including its evaluation but neither checkpoints nor compilation.
      compile_seconds: the duration of tracing and compilation in seconds. A run that had already finished is only
        traced.
      params: the trained parameters, on the host. With early stopping they are those of the best epoch, otherwise
        those of the last epoch; both at `evaluation_params`.
      state: the model's state that belongs to `params`, on the host.
      best_epoch: the epoch, counted from 1, with the smallest watched loss (see `patience` of `train`); None if this
        loss was never finite.
      failed_at: the first step, counted from 1, whose loss was not finite, or after which the loss of an evaluation
        was not finite; 0 if there is no such step.
      stopped: whether the run ended because patience ran out.
    """

    history: dict[str, Float[np.ndarray, " epochs"]]
    seconds: Float[np.ndarray, " epochs"]
    compile_seconds: float
    params: PyTree
    state: PyTree
    best_epoch: int | None
    failed_at: int
    stopped: bool

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite during the run."""
        return self.failed_at > 0


@heeded()
def train(
    task: Task,
    optimizer: optax.GradientTransformation | Factory,
    *,
    epochs: int,
    hyperparameters: Mapping[str, float] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    patience: int | None = None,
    learning_rate: Any = None,
    checkpoint_every: int = 1,
    progress: bool | str = True,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
    device: jax.Device | None = None,
) -> Training:
    """Train the model of a task with one optimizer.

    Each epoch, including its evaluation, is one compiled program. A loss that is not finite ends the run after the
    epoch in which it occurs; this is a result (`failed_at`), not an error.

    A program is traced once for a task and an optimizer, and again as soon as anything that their functions read has
    changed: variables, the contents of lists and arrays, arguments of `functools.partial`. Where that cannot be known,
    as for methods of your own classes, it is traced by every call, and compiled only if it is another program. JAX's
    setting `jax_disable_jit` has no effect here.

    Args:
      task: the data, the model and the loss; see `gdlab.tasks.Task`.
      optimizer: any optax transformation. Its `update` also receives `value`, `grad`, `value_fn` and `grad_fn`, if it
        takes them; see `gdlab.optimizers.protocol`. Gradients of complex parameters are conjugated, as optax expects.
        The numbers that an optimizer of gdlab was called with are passed to the compiled program, so that a loop over
        `adam(rate)` compiles once (except with x64 enabled, and within `optax.chain`). With `hyperparameters`, a
        function that returns a transformation, such as `adam` itself.
      epochs: the number of epochs of the whole run.
      hyperparameters: numbers by name, with which the function `optimizer` is called. They are passed to the compiled
        program as float32 values, so other values for the same function need no new tracing or compilation.
      seed: determines the initial parameters, the order of the data, augmentation and dropout, in the same way for
        every optimizer. Default 0.
      folder: the folder of the run (see `gdlab.records.RunFolder`). The same call resumes a run that was killed, and
        the result is the same bit for bit. More epochs continue a finished run, unless the optimizer's schedules lead
        to a different program. If the checkpoint is damaged or another run's, the run resumes from the one before it,
        or starts over, with a warning. A finished run can be read where nothing can be written. None: nothing is
        saved.
      config: a mapping that is added to the folder's config.json, for its readers; paths are written as text.
      patience: stop when the loss has not improved for this many epochs, and return the best model. The watched loss
        is that of the held-out examples if the task has any, otherwise that of the test set. None: never stop early.
      learning_rate: a number or a schedule over steps that is recorded after each epoch; it does not affect the run.
      checkpoint_every: the number of epochs between two checkpoints. A run that was killed repeats the epochs since
        its last checkpoint. A checkpoint is written while the next epochs run; one that cannot be written ends the run
        at the next one, or at its end. Default 1.
      progress: whether to show a progress bar of the epochs; a string is its label.
      on_epoch: called after each epoch with a mapping of its metrics, its number and its duration in seconds. A
        resumed run first calls it with the epochs from before.
      device: the device to train on. Default: JAX's first device.

    Returns:
      A `Training` with the history of all metrics and the trained model.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a number is out of range; if the folder holds a run that differs in its program, data, seed,
        hyperparameters, patience, version of JAX or kind of device, or that has more epochs; or if a run with a
        folder calls back into Python.
      BlockingIOError: if another process is using the folder.
      FileNotFoundError: if the folder is moved or deleted during the run.
      PermissionError: if the folder cannot be written to, and the run is not finished.
      RuntimeError: in a process that was forked after JAX had started.
    """
    require_unforked("train")
    require_task("task", task)
    factory, values = as_factory(optimizer, hyperparameters)
    require_count("epochs", epochs)
    require_count("seed", seed, low=0)
    require_count("checkpoint_every", checkpoint_every)
    if patience is not None:
        require_count("patience", patience)
    if learning_rate is not None:
        for step in (0, epochs * task.steps - 1):
            rate_at(learning_rate, step)
    if on_epoch is not None:
        require_callable("on_epoch", on_epoch)
    for name, value, kinds, expected in (
        ("progress", progress, (bool, str), "True, False or a label"),
        ("folder", folder, (str, os.PathLike, type(None)), "a folder's path"),
        ("config", config, (Mapping, type(None)), "a mapping"),
        ("device", device, (jax.Device, type(None)), "a device, such as jax.devices()[0]"),
    ):
        require_instance(name, value, kinds, expected)
    if folder is not None:
        folder = as_path("folder", folder)
    device = device or jax.devices()[0]
    data = jax.device_put(task.data, device)
    began = time.perf_counter()
    with explained("optimizer", tuple(values)):
        traced = trace_run(task.functions, factory, tuple(values), data, device)
    run = _Run(
        task,
        traced,
        [*values.values()],
        data,
        epochs,
        np.uint32(seed),
        patience,
        learning_rate,
        checkpoint_every,
        time.perf_counter() - began,
    )
    label = progress if isinstance(progress, str) else task.name
    if folder is None:
        return run.loop(None, label, progress is not False, on_epoch)
    if traced.digest is None:
        raise ValueError(
            "folder: expected a task and an optimizer without Python callbacks, got a program that calls Python"
        )
    identity = {
        "seed": seed,
        "patience": patience,
        "program": traced.digest,
        "data": digest_arrays(task.data),
        "versions and device": platform_of(device),
        **({"hyperparameters": {name: float(value) for name, value in values.items()}} if values else {}),
    }
    described = {"task": {"name": task.name, **task.description}, "epochs": epochs, **(config or {})}
    with RunFolder(folder, identity, described) as place, Checkpoints(place) as checkpoints:
        return run.loop(checkpoints, label, progress is not False, on_epoch)


@dataclasses.dataclass
class _Run:
    """A checked call of `train` and its progress."""

    task: Task
    traced: TracedRun
    values: list[np.float32]
    data: Data
    epochs: int
    seed: np.uint32
    patience: int | None
    learning_rate: Any
    checkpoint_every: int
    compile_seconds: float
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The metrics of each epoch; the learning rate is added when they are reported."""
    seconds: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int | None = None
    best: tuple[PyTree, PyTree] | None = None
    failed_at: int = 0

    def __post_init__(self) -> None:
        self.watched = "test_loss" if self.task.valid is None else "valid_loss"

    def loop(
        self,
        checkpoints: Checkpoints | None,
        label: str,
        progress: bool,
        on_epoch: Callable[[Mapping[str, Any]], None] | None,
    ) -> Training:
        place = checkpoints.place if checkpoints else None
        learner = self._resume(checkpoints) if checkpoints else None
        if len(self.rows) > self.epochs:
            raise ValueError(
                f"epochs: expected at least the {len(self.rows)} epochs that the folder holds, got {self.epochs}"
            )
        for row, seconds in zip(self.rows, self.seconds, strict=True):
            if on_epoch:
                on_epoch(self._shown(row) | seconds)
        if learner is None or not self._over():
            if place and not place.writable:
                raise PermissionError(
                    f"folder: expected a finished run, or a folder that can be written to, got {place.folder}"
                )
            began = time.perf_counter()
            compiled = compile_run(self.traced)
            self.compile_seconds += time.perf_counter() - began
            if place and compiled.epoch.options is not None:
                place.write_environment(compiler_options=compiled.epoch.options)
            learner = compiled.begin(self.values, self.seed) if learner is None else learner
        with tqdm(
            total=self.epochs, initial=len(self.rows), desc=label, unit="epoch", disable=None if progress else True
        ) as bar:
            while not self._over():
                check()
                began = time.perf_counter()
                learner, found = compiled.epoch(self.values, self.seed, learner, self.data)
                self._record(learner, jax.device_get(found))
                self.seconds.append({"epoch": len(self.rows), "seconds": time.perf_counter() - began})
                if checkpoints and (self._over() or len(self.rows) % self.checkpoint_every == 0):
                    self._checkpoint(checkpoints, learner)
                if on_epoch:
                    on_epoch(self._shown(self.rows[-1]) | self.seconds[-1])
                bar.set_postfix(
                    {k: f"{v:.4g}" for k, v in self.rows[-1].items() if k in ("train_loss", "test_accuracy")}
                )
                bar.update()
        return self._result(learner)

    def _over(self) -> bool:
        return len(self.rows) >= self.epochs or self.failed_at > 0 or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        return self.patience is not None and len(self.rows) - (self.best_epoch or 0) >= self.patience

    def _record(self, learner: Learner, found: Mapping[str, Any]) -> None:
        epoch = len(self.rows) + 1
        # NaN replaces inf, which cannot be read back from a JSON file.
        self.rows.append({"epoch": epoch} | {k: float(v) if np.isfinite(v) else np.nan for k, v in found.items()})
        self.failed_at = int(learner.failed_at)
        watched = [np.inf if np.isnan(row[self.watched]) else row[self.watched] for row in self.rows]
        if watched[-1] < min(watched[:-1], default=np.inf):
            self.best_epoch = epoch
            if self.patience is not None:
                self.best = jax.device_get(self._model(learner))

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with the learning rate of the epoch's last step, if one was given."""
        if self.learning_rate is None:
            return row
        step = row["epoch"] * self.task.steps - 1
        return row | {"learning_rate": rate_at(self.learning_rate, step)}

    def _model(self, learner: Learner) -> tuple[PyTree, PyTree]:
        return evaluation_params(learner.optimizer, learner.params), learner.state

    def _checkpoint(self, checkpoints: Checkpoints, learner: Learner) -> None:
        progress = Progress(learner, self.rows, self.seconds, self.best_epoch, self.best)
        checkpoints.save(progress, map(self._shown, self.rows))

    def _resume(self, checkpoints: Checkpoints) -> Learner | None:
        """Return the learner of the folder's newest intact checkpoint, or None if there is none."""
        place, like = checkpoints.place, self.traced.like
        progress = checkpoints.restore(like, None if self.patience is None else jax.eval_shape(self._model, like))
        if progress is None:
            return None
        learner, self.rows, self.seconds, self.best_epoch, self.best = progress
        self.failed_at = int(learner.failed_at)
        if place.writable:
            place.write_rows(map(self._shown, self.rows), self.seconds)
        if not self._over():
            compare_cores(place.starts, self.traced.device, place.folder)
        return jax.device_put(learner, jax.tree.leaves(self.data)[0].sharding)

    def _result(self, learner: Learner) -> Training:
        rows = [self._shown(row) for row in self.rows]
        history = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "epoch"}
        params, state = self.best if self.best is not None else jax.device_get(self._model(learner))
        return Training(
            history,
            np.array([row["seconds"] for row in self.seconds]),
            self.compile_seconds,
            params,
            state,
            self.best_epoch,
            self.failed_at,
            self._out_of_patience(),
        )
