"""`train`: the one loop over epochs, with checkpoints, early stopping and a record of what happened."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, PyTree
from tqdm.auto import tqdm

from gdlab.arguments import describe, require_callable, require_count, require_number
from gdlab.compute.devices import platform_of
from gdlab.compute.programs import digest_arrays
from gdlab.hyperparameters.factories import require_arguments
from gdlab.optimizers import evaluation_params
from gdlab.records.checkpoints import CheckpointError, load_note, load_tree, save_tree
from gdlab.records.runs import RunFolder
from gdlab.tasks.task import Data, Task, require_task
from gdlab.training.compilation import TracedRun, compile_run, trace_run
from gdlab.training.epoch import Learner
from gdlab.types import Factory


class Training(NamedTuple):
    """What came of a run.

    history: of each metric its values, one an epoch: train_loss, train_accuracy, valid_... (where images are held
    out), test_..., gradient_norm (the mean over steps of the gradient's norm), learning_rate (where it was given).
    seconds: of each epoch, evaluation included, checkpoint and compilation not. compile_seconds: tracing included; a
    run that was finished before is only traced. params, state: the model to use, on the host: with early stopping the
    best epoch's, else the last one's, at `evaluation_params`. best_epoch: from 1, the one with the least loss that was
    watched (None where no epoch was well). failed_at: the first step, from 1, whose loss was not finite, or after which
    an evaluation's was not; 0: none. stopped: whether patience ran out.
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
        """Whether a loss was not finite."""
        return self.failed_at > 0


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
    """Train the task's model with the optimizer; each epoch, evaluation included, is one compiled program.

    optimizer: any optax transformation; it is handed `value`, `grad` and `value_fn` too, for those that want them. Or,
        with `hyperparameters`, a function that returns one, such as `adam` itself.
    hyperparameters: numbers, by name, that the function is called with. They are handed to the compiled program as
        float32 numbers, so that another setting of the same function traces and compiles nothing.
    seed: decides initial parameters, the order of the data, augmentation and dropout, the same for every optimizer.
    folder: of the run (see `gdlab.records.RunFolder`). The same call goes on where a killed one stopped, and ends in
        the same bits; a call with another program, data, seed or patience raises ValueError. More epochs continue a
        run, where the optimizer's schedules do not ask for another program; fewer than are done raise ValueError. A
        damaged checkpoint begins anew.
    config: written to the folder's config.json, for its readers.
    patience: stop when the loss has not improved for so many epochs, and keep the best model: the loss of the held-out
        examples, where the task has some, else that of the test set. None: never.
    learning_rate: a number or schedule of steps to record after each epoch; it does not change the run.
    checkpoint_every: epochs between checkpoints; a killed run repeats those since its last one.
    progress: a bar of epochs, with a string as its label; False: none.
    on_epoch: called with each epoch's row: its metrics, its number and its seconds; after a restart first with the rows
        from before.
    device: default JAX's first.

    A loss that is not finite ends the run after its epoch; that is a result (`failed_at`), not an error.
    """
    require_task("task", task)
    build, values, token = _require_optimizer(optimizer, hyperparameters)
    require_count("epochs", epochs)
    require_count("seed", seed, low=0)
    require_count("checkpoint_every", checkpoint_every)
    if patience is not None:
        require_count("patience", patience)
    if learning_rate is not None and not callable(learning_rate):
        require_number("learning_rate", learning_rate)
    if on_epoch is not None:
        require_callable("on_epoch", on_epoch)
    for name, value, kinds, wanted in (
        ("progress", progress, (bool, str), "True, False or a label"),
        ("folder", folder, (str, Path, type(None)), "a folder's path"),
        ("config", config, (Mapping, type(None)), "a mapping"),
        ("device", device, (jax.Device, type(None)), "a device, such as jax.devices()[0]"),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"{name}: wanted {wanted}, got {describe(value)}")
    device = device or jax.devices()[0]
    data = jax.device_put(task.data, device)
    began = time.perf_counter()
    traced = trace_run(task.functions, build, tuple(values), data, device, token)
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
            "folder: wanted a task and an optimizer of JAX alone, got a call back into Python, untraceable"
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
    with RunFolder(folder, identity, described) as place:
        return run.loop(place, label, progress is not False, on_epoch)


def _require_optimizer(
    optimizer: Any, hyperparameters: Mapping[str, float] | None
) -> tuple[Factory, dict[str, np.float32], Any]:
    """The function that builds it, the numbers to call it with, and what the two stand for in memory."""
    if hyperparameters is None:
        for name in ("init", "update"):
            if not callable(getattr(optimizer, name, None)):
                hint = "; for a function give hyperparameters too" if callable(optimizer) else ""
                raise TypeError(
                    f"optimizer: wanted an optax transformation, such as adam(1e-3), got {describe(optimizer)}{hint}"
                )
        # Methods of one object are equal though the object may have changed: such programs are traced anew.
        methods = any(hasattr(function, "__self__") for function in (optimizer.init, optimizer.update))
        return lambda: optimizer, {}, object() if methods else (optimizer.init, optimizer.update)
    if not isinstance(hyperparameters, Mapping):
        raise TypeError(f"hyperparameters: wanted a mapping from names to numbers, got {describe(hyperparameters)}")
    require_callable("optimizer", optimizer)
    for name, value in hyperparameters.items():
        require_number(f"hyperparameters[{name!r}]", value)
    require_arguments({"optimizer": optimizer}, hyperparameters)
    optimizer(**hyperparameters)  # numbers out of range are told at the door: traced ones are not looked at
    # Their order does not make another program.
    return optimizer, {name: np.float32(hyperparameters[name]) for name in sorted(hyperparameters)}, optimizer


@dataclasses.dataclass
class _Run:
    """A checked request, and where it stands."""

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
    """Of each epoch the metrics; the learning rate is put in where they are shown."""
    seconds: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int | None = None
    best: tuple[PyTree, PyTree] | None = None
    best_written: int | None = None
    failed_at: int = 0

    def __post_init__(self) -> None:
        self.watched = "test_loss" if self.task.valid is None else "valid_loss"

    def loop(
        self,
        place: RunFolder | None,
        label: str,
        progress: bool,
        on_epoch: Callable[[Mapping[str, Any]], None] | None,
    ) -> Training:
        learner = self._resume(place) if place else None
        if len(self.rows) > self.epochs:
            raise ValueError(f"epochs: wanted at least the {len(self.rows)} that the folder holds, got {self.epochs}")
        for row, seconds in zip(self.rows, self.seconds, strict=True):
            if on_epoch:
                on_epoch(self._shown(row) | seconds)
        if learner is None or not self._over():
            began = time.perf_counter()
            compiled = compile_run(self.traced)
            self.compile_seconds += time.perf_counter() - began
            learner = compiled.begin(self.values, self.seed) if learner is None else learner
        with tqdm(
            total=self.epochs, initial=len(self.rows), desc=label, unit="epoch", disable=None if progress else True
        ) as bar:
            while not self._over():
                began = time.perf_counter()
                learner, found = compiled.epoch(self.values, self.seed, learner, self.data)
                self._record(learner, jax.device_get(found))
                self.seconds.append({"epoch": len(self.rows), "seconds": time.perf_counter() - began})
                if place and (self._over() or len(self.rows) % self.checkpoint_every == 0):
                    self._checkpoint(place, learner)
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
        # Not inf: a file of JSON would not give it back.
        self.rows.append({"epoch": epoch} | {k: float(v) if np.isfinite(v) else np.nan for k, v in found.items()})
        self.failed_at = int(learner.failed_at)
        watched = [np.inf if np.isnan(row[self.watched]) else row[self.watched] for row in self.rows]
        if watched[-1] < min(watched[:-1], default=np.inf):
            self.best_epoch = epoch
            if self.patience is not None:
                self.best = jax.device_get(self._model(learner))

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with the learning rate of the epoch's last step, where it was given."""
        if self.learning_rate is None:
            return row
        step = row["epoch"] * self.task.steps - 1
        rate = self.learning_rate(jnp.asarray(step)) if callable(self.learning_rate) else self.learning_rate
        return row | {"learning_rate": float(rate)}

    def _model(self, learner: Learner) -> tuple[PyTree, PyTree]:
        return evaluation_params(learner.optimizer, learner.params), learner.state

    def _checkpoint(self, place: RunFolder, learner: Learner) -> None:
        if self.best is not None and self.best_epoch is not None and self.best_written != self.best_epoch:
            save_tree(place.best(self.best_epoch), self.best)
            self.best_written = self.best_epoch
        note = {"rows": self.rows, "seconds": self.seconds, "best_epoch": self.best_epoch}
        save_tree(place.checkpoint, learner, note)
        self._write_rows(place)
        place.keep_best(self.best_written)

    def _write_rows(self, place: RunFolder) -> None:
        place.write_rows(map(self._shown, self.rows), self.seconds)

    def _resume(self, place: RunFolder) -> Learner | None:
        """The learner of the folder's checkpoint; None where there is none, or none that is whole."""
        like = self.traced.like
        try:
            note = load_note(place.checkpoint)
            rows, seconds, best_epoch = note["rows"], note["seconds"], note["best_epoch"]
            learner = load_tree(place.checkpoint, like)
            if self.patience is not None and best_epoch is not None:
                self.best = load_tree(place.best(best_epoch), jax.eval_shape(self._model, like))
        except FileNotFoundError as error:
            if place.checkpoint.exists():
                warnings.warn(f"{error}; the run begins anew", stacklevel=4)
            return None
        except (CheckpointError, KeyError, TypeError) as error:
            warnings.warn(f"{error}; the run begins anew", stacklevel=4)
            return None
        self.rows = [{name: np.nan if value is None else value for name, value in row.items()} for row in rows]
        self.seconds, self.best_epoch, self.failed_at = seconds, best_epoch, int(learner.failed_at)
        self.best_written = best_epoch if self.best is not None else None
        self._write_rows(place)
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
