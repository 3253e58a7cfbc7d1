"""What a run was made from besides its setting and its seed: code and data, by which finished runs are recognized.

`train` identifies a run by its whole program. That is too strict for the finished runs of a study, whose candidates
share one program: a candidate that is added or changed gives all the others another program too, although the code
that trained them is the same. So every run also records the digests of two smaller programs in its config, under
`CODE`:

- "task": an epoch of the task under an optimizer that changes nothing. It covers the model, the loss with its gradient,
  the evaluation and the loop itself.
- "optimizer": an epoch of the candidate's own optimizer, as the problem wraps it, on parameters of the task's shapes
  under a trivial loss. It covers the optimizer's state and step, whatever numbers it is called with.

Together they determine what a training computes, since an optimizer sees the task only through parameters, gradients
and values. Nothing is compiled for them, and each is traced once: "task" per problem, as long as the network's own
trace takes, and "optimizer" per candidate, in a few tenths of a second.

A finished run is kept if both, and the digest of the data, are what they would be now. If one differs, the run is left
to `train`, which refuses the folder and names what differs. Another version of JAX or kind of device writes the same
code as another program, so the code of runs from there cannot be compared, and their data alone is. A run that was
killed before its end resumes only in the whole program that it began with, as `train` requires.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from gdlab.comparison.problems import Problem, Setting
from gdlab.compute.devices import platform_of
from gdlab.compute.programs import Cache, digest_arrays
from gdlab.records.files import to_json
from gdlab.records.manifest import AnotherRunError
from gdlab.tasks import Task
from gdlab.tasks.task import Data, Functions, unchanged
from gdlab.training.compilation import functions_of, shapes_of, trace_both
from gdlab.types import Factory

CODE = "code"
"""The entry of a run's config with the digests of its code."""

PLATFORM = "versions and device"
"""The entry of a run's identity on which the text of programs depends."""


class Origins:
    """The digests of a problem's task, data and optimizers, each calculated when it is first needed."""

    def __init__(self, task: Task, device: jax.Device):
        """Describe the runs of a task on this kind of device."""
        self._task, self._device = task, device
        self._found = Cache(4096)

    def code(self, candidate: str, factory: Factory, names: Sequence[str]) -> dict[str, str | None]:
        """Return the entry `CODE` of the runs of a candidate, whose factory takes arguments of these names."""
        parts = {
            "task": (("task",), lambda: self._digest(self._task.functions, optax.identity, (), self._task.data)),
            "optimizer": (
                ("optimizer", candidate, *sorted(names)),
                lambda: self._digest(_trivial(self._task), factory, sorted(names), _NOTHING),
            ),
        }
        return {name: self._found.get(key, make) for name, (key, make) in parts.items()}

    def differ(self, config: Mapping[str, Any], code: Mapping[str, str | None]) -> list[str]:
        """Return what the config of a finished run says otherwise: "program", "data", both or nothing.

        The programs of a run that does not record its code count as different ones, unless they are from elsewhere.
        """
        identity = config["identity"]
        here = identity.get(PLATFORM) == platform_of(self._device)
        found = ["program"] if here and (None in code.values() or config.get(CODE) != code) else []
        data = self._found.get(("data",), lambda: digest_arrays(self._task.data))
        return found + (["data"] if identity.get("data") != data else [])

    def _digest(self, task: Functions, factory: Factory, names: Sequence[str], data: Data) -> str | None:
        start, epoch = functions_of(task, factory, names, "factory")
        arguments = [jax.ShapeDtypeStruct((), np.float32)] * len(names), jax.ShapeDtypeStruct((), np.uint32)
        return trace_both(self._device, start, epoch, arguments, (shapes_of(data),)).digest


_NOTHING = Data(np.zeros(1, np.float32), None, np.zeros(1, np.float32))


def _trivial(task: Task) -> Functions:
    """Return functions with the parameters of the task, whose loss is the sum of all of them."""
    shapes, _ = jax.eval_shape(task.init, jax.random.key(0))

    def init(key: Any) -> tuple[PyTree, PyTree]:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), ()

    def metrics(params: PyTree, batch: Any) -> dict[str, Any]:
        sums = [jnp.sum(jnp.real(leaf)).astype(jnp.float32) for leaf in jax.tree.leaves(params)]
        return {"loss": batch + sum(sums)}

    def loss(params: PyTree, state: PyTree, batch: Any, key: Any) -> tuple[Any, tuple[PyTree, dict[str, Any]]]:
        found = metrics(params, batch)
        return found["loss"].mean(), (state, found)

    def evaluate(params: PyTree, state: PyTree, batch: Any, key: Any) -> tuple[PyTree, dict[str, Any]]:
        return state, metrics(params, batch)

    return Functions(init, loss, evaluate, unchanged, 1, 1, False)


def entries(problem: Problem, candidate: str, setting: Setting) -> dict[str, Any]:
    """Return what a run's config says of its place in the study."""
    return {"problem": problem.name, "candidate": candidate, "setting": dict(setting), "about": problem.about}


def require_place(folder: Path, config: Mapping[str, Any], asked: Mapping[str, Any], patience: int | None) -> None:
    """Raise AnotherRunError if a finished run records another place in the study, or another patience.

    Names of folders hold six digits of a setting, and nothing of the description or the patience.
    """
    asked = to_json(dict(asked))
    different = [name for name, value in asked.items() if config.get(name, value) != value]
    if config["identity"].get("patience", patience) != patience:
        different.append("patience")
    require_same(folder, different)


def require_same(folder: Path, different: Sequence[str]) -> None:
    """Raise AnotherRunError if something differs."""
    if different:
        raise AnotherRunError(
            f"folder: {folder} holds another run, which differs in: {', '.join(different)}; choose another folder, or "
            "remove this one"
        )


def require_alike(label: str, finals: Iterable[Mapping[str, Any]], trials: Iterable[Mapping[str, Any]]) -> None:
    """Raise ValueError unless a pair's runs come from the same data and, as far as can be seen, the same code.

    Args:
      label: the pair, and the number of epochs of its final runs.
      finals: the configs of the final runs, which must all come from the same code.
      trials: the configs of the trials. Their code is compared with that of the runs from the same version of JAX and
        kind of device.
    """
    finals, trials = list(finals), list(trials)

    def several(found: Iterable[Any]) -> bool:
        return len({str(each) for each in found}) > 1

    every = [*finals, *trials]
    platforms = {str(config["identity"].get(PLATFORM)) for config in every}
    own = [[config for config in every if str(config["identity"].get(PLATFORM)) == one] for one in platforms]
    if any(several(map(_code, group)) for group in (finals, *own)):
        different = "program"
    elif several(config["identity"].get("data") for config in every):
        different = "data"
    else:
        return
    raise ValueError(
        f"{label}: expected trials and final runs that differ only in settings, seeds and epochs, got some with "
        f"another {different}; choose another folder, or remove the older runs"
    )


def _code(config: Mapping[str, Any]) -> Any:
    """Return the digests of a run's code; those of older runs, which do not record them, are their whole programs."""
    return config.get(CODE) or config["identity"].get("program")
