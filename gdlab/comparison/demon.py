"""The Demon benchmark: six tasks and ten optimizers, at the published size for a GPU or small enough for a laptop.

The published results are in `gdlab.comparison.published`.

References:
  Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", ICASSP 2022
    (https://arxiv.org/abs/1910.04952), and the first author's article of February 2020.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from gdlab import optimizers, schedules, tasks
from gdlab.arguments import as_path, require_choice, require_count, require_names, require_sequence
from gdlab.comparison.problems import Candidate, Measure, Problem
from gdlab.comparison.study import Study, ladder
from gdlab.types import Hyperparameter, NameTable

# Optimizers


class Entry(NamedTuple):
    """An optimizer of the benchmark.

    Attributes:
      label: the name in tables and figures.
      family: "adaptive" or "non-adaptive".
      factory: a function that returns the optimizer.
      scale: the factor of the family's common learning rate. Default 1.
      momentum: the name of the factory's momentum argument; None if it has none. Default "momentum".
    """

    label: str
    family: str
    factory: Callable[..., optax.GradientTransformation]
    scale: float = 1.0
    momentum: str | None = "momentum"


def aggmo(
    learning_rate: Hyperparameter, *, momentum: Hyperparameter, total_steps: Hyperparameter
) -> optax.GradientTransformation:
    """AggMo with the momenta 0, `momentum` and 0.9 + 0.1 `momentum`, and the learning rate of `sgdm`.

    The second momentum is tuned. The third is ten times nearer to 1, as 0.99 is in the paper next to 0.9.
    """
    return optimizers.aggmo(schedules.step(learning_rate, total_steps), betas=(0.0, momentum, 0.9 + 0.1 * momentum))


def sgdm(
    learning_rate: Hyperparameter, *, momentum: Hyperparameter, total_steps: Hyperparameter
) -> optax.GradientTransformation:
    """SGD with momentum, whose learning rate is divided by 10 at 50% and again at 75% of the steps."""
    return optimizers.momentum(schedules.step(learning_rate, total_steps), momentum=momentum)


def qhm(
    learning_rate: Hyperparameter, *, momentum: Hyperparameter, total_steps: Hyperparameter
) -> optax.GradientTransformation:
    """QHM with the rate learning_rate / (1 - momentum), divided by 10 at the same steps as in `sgdm`."""
    return optimizers.qhm(schedules.step(learning_rate / (1 - momentum), total_steps), momentum=momentum)


ENTRIES: NameTable[Entry] = NameTable(
    "optimizer of the overview",
    {
        "adam": Entry("Adam", "adaptive", optimizers.adam, momentum="b1"),
        "amsgrad": Entry("AMSGrad", "adaptive", optimizers.amsgrad, momentum="b1"),
        "adamw": Entry("AdamW", "adaptive", optimizers.adamw, momentum="b1"),
        "qhadam": Entry("QHAdam", "adaptive", optimizers.qhadam, momentum="b1"),
        "yellowfin": Entry("YellowFin", "adaptive", optimizers.yellowfin, momentum=None),
        # The paper's form is undamped, so its first steps are ten times as long.
        "demon_adam": Entry("Demon Adam", "adaptive", optimizers.demon_adam, 0.1),
        "momentum": Entry("SGDM", "non-adaptive", sgdm),
        "aggmo": Entry("AggMo", "non-adaptive", aggmo, 0.3),  # its third momentum alone takes steps ten times as long
        "qhm": Entry("QHM", "non-adaptive", qhm),
        "demon_sgdm": Entry("Demon SGDM", "non-adaptive", optimizers.demon_sgdm),
    },
)
FAMILIES = ("adaptive", "non-adaptive")


def trials_of(name: str, budget: int, rates: tuple[float, float]) -> list[dict[str, float]]:
    """Return the settings that an optimizer may try.

    Args:
      name: the name of the optimizer in ENTRIES.
      budget: the number of settings.
      rates: the middle learning rates of the adaptive and of the non-adaptive methods.
    """
    entry = ENTRIES[name]
    if entry.momentum is None:  # YellowFin tunes only a factor of the rate that it finds itself
        return [dict(setting) for setting in ladder(budget, 1.0, momenta=())]
    rate = entry.scale * rates[FAMILIES.index(entry.family)]
    return [dict(setting) for setting in ladder(budget, rate, momentum=entry.momentum)]


# Tasks

ERROR = Measure("error %", "accuracy", lambda accuracy: 100 * (1 - accuracy))
PERPLEXITY = Measure("perplexity", "loss", np.exp)
ELBO = Measure("negative ELBO", "loss")


class Kind(NamedTuple):
    """A task of the benchmark.

    Attributes:
      label: the name in tables and figures.
      dataset: the name of the data set.
      make: a function that returns the task.
      measure: the number that is reported.
      rates: the middle learning rates of the adaptive and of the non-adaptive methods' trials.
      epochs: the published numbers of epochs.
      clip: the norm at which gradients are clipped. Default None: no clipping.
    """

    label: str
    dataset: str
    make: Callable[..., tasks.Task]
    measure: Measure
    rates: tuple[float, float]
    epochs: tuple[int, ...]
    clip: float | None = None


KINDS: NameTable[Kind] = NameTable(
    "task of the overview",
    {
        "resnet18": Kind("ResNet18", "cifar10", tasks.cifar10_resnet18, ERROR, (1e-3, 0.03), (30, 75, 150, 300)),
        "vgg16": Kind("VGG16", "cifar100", tasks.cifar100_vgg16, ERROR, (1e-3, 0.03), (75, 150, 300)),
        "wrn16_8": Kind("WRN-16-8", "stl10", tasks.stl10_wrn16_8, ERROR, (1e-3, 0.03), (50, 100, 200)),
        "capsnet": Kind("CapsNet", "fashion_mnist", tasks.fashion_mnist_capsnet, ERROR, (1e-3, 0.1), (50, 100)),
        "lstm": Kind("LSTM", "ptb", tasks.ptb_lstm, PERPLEXITY, (1e-3, 3.0), (25, 39), 5 / 35),
        "vae": Kind("VAE", "mnist", tasks.mnist_vae, ELBO, (1e-3, 1e-3), (50, 100, 200)),
    },
)


class Tier(NamedTuple):
    """The size of a study.

    Attributes:
      settings: keyword arguments of each task's function.
      epochs: the number of epochs of each task's final runs; None: as published.
      tuning_epochs: the number of epochs of each task's trials; None: the least published number.
      trials: the number of settings that each optimizer may try.
      seeds: the seeds of the final runs.
      rates: for some tasks, learning rates in place of those of `Kind`.
      clip: for some tasks, a norm in place of that of `Kind`.
      together: whether the optimizers of a task share one compiled program. Default True.
    """

    settings: dict[str, dict[str, Any]]
    epochs: dict[str, int] | None
    tuning_epochs: dict[str, int] | None
    trials: int
    seeds: tuple[int, ...]
    rates: dict[str, tuple[float, float]]
    clip: dict[str, float]
    together: bool = True


def _sized(train: int, held: int, test: int, batch: int) -> dict[str, int]:
    return {"train_size": train, "hold_out": held, "test_size": test, "batch_size": batch, "evaluation_batch": 100}


TIERS: NameTable[Tier] = NameTable(
    "tier",
    {
        "smoke": Tier(
            {
                "resnet18": {"head": "linear", "width": 16, **_sized(800, 300, 500, 16)},
                "vgg16": {"dataset": "cifar10", "width": 8, **_sized(600, 300, 300, 16)},
                "wrn16_8": {"dataset": "cifar10", "depth": 10, "widen": 1, "width": 8, **_sized(600, 300, 300, 16)},
                "capsnet": {
                    **{"width": 16, "capsules": 4, "capsule_size": 4, "class_size": 8, "decoder": (64,)},
                    **_sized(1000, 300, 300, 25),
                },
                "lstm": {
                    **{"width": 64, "steps": 20, "dropout": 0.1, "vocabulary_size": 1000},
                    **{"train_size": 30_000, "valid_size": 6_000, "test_size": 6_000},
                },
                "vae": {"hidden": (128, 64), **_sized(10_000, 1000, 1000, 100)},
            },
            {"resnet18": 2, "vgg16": 2, "wrn16_8": 2, "capsnet": 2, "lstm": 2, "vae": 5},
            dict.fromkeys(KINDS, 1),
            2,
            (0, 1),
            {
                **{"resnet18": (3e-3, 0.03), "vgg16": (3e-3, 0.03), "wrn16_8": (1e-2, 0.1), "capsnet": (3e-3, 0.1)},
                **{"lstm": (1e-2, 3.0), "vae": (3e-3, 3e-3)},
            },
            {"lstm": 0.25},
        ),
        "laptop": Tier(
            {
                "resnet18": {"head": "linear", "width": 16, **_sized(5000, 1000, 2000, 32)},
                "vgg16": {"dataset": "cifar10", "width": 8, **_sized(3500, 700, 1500, 32)},
                "wrn16_8": {"dataset": "cifar10", "depth": 10, "widen": 1, "width": 8, **_sized(3500, 700, 1500, 32)},
                "capsnet": {
                    **{"width": 16, "capsules": 8, "capsule_size": 4, "class_size": 8, "decoder": (64,)},
                    **_sized(3500, 700, 1500, 50),
                },
                "lstm": {
                    **{"width": 96, "dropout": 0.2, "vocabulary_size": 4000, "batch_size": 10},
                    **{"train_size": 50_000, "valid_size": 10_000, "test_size": 20_000},
                },
                "vae": {"hidden": (256, 128), **_sized(25_000, 5000, 5000, 100)},
            },
            {"resnet18": 5, "vgg16": 5, "wrn16_8": 5, "capsnet": 5, "lstm": 5, "vae": 10},
            {"resnet18": 2, "vgg16": 2, "wrn16_8": 2, "capsnet": 2, "lstm": 2, "vae": 3},
            3,
            (0, 1, 2),
            {"capsnet": (3e-3, 0.1), "lstm": (3e-3, 3.0), "wrn16_8": (3e-3, 0.1), "vae": (1e-3, 2e-3)},
            {"lstm": 0.25},
        ),
        "gpu": Tier(
            {
                "resnet18": {"stem": "cifar", "head": "linear", "batch_size": 128, "hold_out": 5000},
                "vgg16": {"hold_out": 5000},
                "wrn16_8": {"hold_out": 500},
                "capsnet": {"hold_out": 5000},
                "lstm": {},
                "vae": {"hold_out": 5000},
            },
            None,
            None,
            9,
            (0, 1, 2),
            {},
            {},
            together=False,
        ),
    },
)

COLUMNS = {"first": slice(1), "last": slice(-1, None), "all": slice(None)}
"""Names for selections of the published numbers of epochs."""


def make_study(
    folder: str | Path,
    tier: str,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    data_dir: str | Path | None = None,
    text: str | Path = Path("ptb"),
    seeds: Sequence[int] | None = None,
    epochs: int | None = None,
    columns: str = "first",
    trials: int | None = None,
    dtype: Any = jnp.float32,
    together: bool | None = None,
) -> Study:
    """Return the benchmark as a study of all ten optimizers.

    Arguments that are None take the tier's value.

    Args:
      folder: the study's folder.
      tier: a name in TIERS.
      kinds: names of tasks in KINDS. Default: all six.
      data_dir: the folder of prepared data sets.
      text: the LSTM's text: "ptb" (default) or a folder.
      seeds: the seeds of the final runs.
      epochs: the number of epochs of all final runs.
      columns: which of the published numbers of epochs to run ("first", "last" or "all"), for a tier that has them.
        Default "first".
      trials: the number of settings that each optimizer may try.
      dtype: the dtype in which networks compute. Default float32.
      together: whether the optimizers of a task share one compiled program.

    Returns:
      The study.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if a name is unknown or a number is out of range.
    """
    require_choice("tier", tier, TIERS)
    require_sequence("kinds", kinds, "names of tasks")
    require_names("kinds", kinds, KINDS)
    require_choice("columns", columns, COLUMNS)
    for label, count in (("epochs", epochs), ("trials", trials)):
        if count is not None:
            require_count(label, count)
    text = as_path("text", text)
    data_dir = None if data_dir is None else as_path("data_dir", data_dir)
    size = TIERS[tier]

    def problem(name: str) -> Problem:
        kind, settings = KINDS[name], dict(size.settings[name])
        dataset = settings.get("dataset", kind.dataset)
        if name == "lstm":
            is_ptb = str(text) == "ptb"
            dataset = "ptb" if is_ptb else text.resolve().name
            settings |= {"dataset": str(text)} | ({} if is_ptb else {"unknown": "<unk>"})
        budget = size.trials if trials is None else trials
        rates = size.rates.get(name, kind.rates)
        lengths = kind.epochs[COLUMNS[columns]] if size.epochs is None else (size.epochs[name],)
        lengths = lengths if epochs is None else (epochs,)
        tuning = kind.epochs[0] if size.tuning_epochs is None else size.tuning_epochs[name]
        clip = size.clip.get(name, kind.clip)
        return Problem(
            f"{dataset}_{name}",
            partial(kind.make, data_dir, dtype=jnp.dtype(dtype), **settings),
            lengths,
            kind.measure,
            {entry: trials_of(entry, budget, rates) for entry in ENTRIES},
            tuning_epochs=min(tuning, max(lengths)),
            wrap=partial(_clipped, clip),
            about="" if clip is None else f"gradients clipped at norm {clip:.4g}",
            label=f"{dataset.replace('_', '-').upper()} {kind.label}",
        )

    return Study(
        as_path("folder", folder),
        [problem(name) for name in kinds],
        [Candidate(name, entry.factory, entry.label) for name, entry in ENTRIES.items()],
        size.seeds if seeds is None else seeds,
        together=size.together if together is None else together,
    )


def _clipped(norm: float | None, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optimizer if norm is None else optax.chain(optax.clip_by_global_norm(norm), optimizer)
