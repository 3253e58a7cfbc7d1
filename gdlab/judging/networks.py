"""The networks of a judgement: small tasks that need no download, and a larger one for a GPU."""

import functools
import pydoc_data.topics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdlab import models
from gdlab.compute.programs import digest_arrays
from gdlab.data import load
from gdlab.hyperparameters.factories import given
from gdlab.hyperparameters.ranges import log_range
from gdlab.judging.contenders import RATES, Contender, try_settings
from gdlab.judging.tiers import Tier
from gdlab.tasks import cifar10_resnet18, classify, digits_mlp, ptb_lstm
from gdlab.tasks.task import Task
from gdlab.training import train_many
from gdlab.types import NameTable

NETWORK_RATES = log_range(1e-5, 1e1)
"""The learning rates that are tried on networks, where a contender states no ranges of its own."""

TUNING_SEED = 1000
"""The seed of the runs on which a network's setting is chosen; the judged seeds count from 0."""


class Network(NamedTuple):
    """A network of a judgement.

    Attributes:
      what: what is trained on what, in a few words.
      task: a function that makes the task; it is called once.
      epochs: how long it is trained.
      worst: the loss of an answer that knows nothing, which a failed run counts as.
      target: the held-out loss to which steps are counted.
    """

    what: str
    task: Callable[[], Task]
    epochs: int
    worst: float
    target: float


@functools.cache
def _perceptron() -> Task:
    return digits_mlp(hold_out=300)


@functools.cache
def _convolutions() -> Task:
    model = models.wide_resnet(10, depth=10, widen=1, width=8, channels=1)
    return classify("digits_cnn", load("digits"), model, mean=(0.5,), std=(0.5,), batch_size=64, hold_out=300)


@functools.cache
def _clothes() -> Task:
    model = models.wide_resnet(10, depth=10, widen=1, width=8, channels=1)
    sizes: dict[str, Any] = {"batch_size": 64, "hold_out": 500, "train_size": 1500, "test_size": 500}
    return classify("fashion_mnist_cnn", load("fashion_mnist"), model, mean=(0.286,), std=(0.353,), **sizes)


@functools.cache
def _language() -> Task:
    """A language model of characters on the topics of Python's own help."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore").decode()[:130_000]
    cuts = {"train": text[:100_000], "valid": text[100_000:115_000], "test": text[115_000:]}
    with tempfile.TemporaryDirectory() as folder:
        for part, content in cuts.items():
            words = "\n".join(" ".join("_" if c == " " else c for c in line) for line in content.splitlines())
            (Path(folder) / f"{part}.txt").write_text(words)
        sizes: dict[str, Any] = {"width": 64, "layers": 1, "dropout": 0.0, "steps": 32, "batch_size": 32}
        return ptb_lstm(dataset=Path(folder), unknown="<unk>", **sizes)


NETWORKS: NameTable[Network] = NameTable(
    "network",
    {
        "perceptron": Network("two hidden layers on digits", _perceptron, 10, float(np.log(10)), 0.2),
        "convolutions": Network("a residual network on digits", _convolutions, 4, float(np.log(10)), 0.2),
        "language": Network("an LSTM on the characters of Python's help", _language, 4, float(np.log(90)), 2.0),
        "clothes": Network("a residual network on 1,500 images of Fashion-MNIST", _clothes, 2, float(np.log(10)), 0.8),
        "resnet18": Network(
            "ResNet18 on CIFAR-10", functools.cache(lambda: cifar10_resnet18(hold_out=5000)), 10, float(np.log(10)), 1.0
        ),
    },
)
"""The networks by name."""


def data_digest(name: str) -> str:
    """Return a digest of a network's data, since that of other versions of Python or of a package may differ.

    Args:
      name: the name of a network.

    Returns:
      A text of hexadecimal digits.
    """
    return digest_arrays(NETWORKS[name].task().data)


def tune(one: Contender, name: str, tier: Tier) -> dict[str, Any]:
    """Choose the setting of a contender for a network: the one with the smallest held-out loss after one run each.

    Args:
      one: the contender.
      name: the name of the network.
      tier: the number of settings.

    Returns:
      `chosen`, the setting; `refused`, the number of settings that the factory refuses; `data`, see `data_digest`.
    """
    network = NETWORKS[name]
    tuned = one._replace(ranges={"learning_rate": NETWORK_RATES}) if one.ranges == {"learning_rate": RATES} else one
    tried = try_settings(tuned, tier.network_settings, network.epochs * network.task().steps)
    losses = _losses(one, network, tried.settings, [TUNING_SEED])["valid_loss"][:, 0, -1]
    chosen = tried.settings[int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))]
    return {"chosen": chosen, "refused": tried.refused, "reason": tried.reason, "data": data_digest(name)}


def train(one: Contender, name: str, setting: Mapping[str, float], seeds: Sequence[int]) -> dict[str, list[Any]]:
    """Train a network with one setting from several seeds.

    Args:
      one: the contender.
      name: the name of the network.
      setting: the values of the arguments that were tuned.
      seeds: the seeds, which determine the parameters at the start and the order of the examples.

    Returns:
      One entry per seed: `digits`, the decimal digits by which the test loss is smaller than that of an answer that
      knows nothing; `curves`, the same after each epoch; and `arrived`, the steps, in whole epochs, until the held-out
      loss is at most the network's target, -1 for never.
    """
    network = NETWORKS[name]
    found = _losses(one, network, [dict(setting)], seeds)
    losses = np.clip(np.nan_to_num(found["test_loss"][0].astype(float), nan=np.inf), 1e-6, network.worst)
    curves = np.round(np.log10(network.worst / losses), 4)
    below = found["valid_loss"][0] <= network.target
    arrived = np.where(below.any(axis=1), (below.argmax(axis=1) + 1) * network.task().steps, -1)
    return {"digits": curves[:, -1].tolist(), "curves": curves.tolist(), "arrived": arrived.tolist()}


def _losses(
    one: Contender, network: Network, settings: Sequence[Mapping[str, float]], seeds: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return the losses after each epoch, (settings, seeds, epochs)."""
    task = network.task()
    factory = given(one.factory, total_steps=network.epochs * task.steps)
    if settings[0]:
        points: Any = [dict(each) for each in settings]
    else:  # nothing to tune
        points, factory = {"_nothing": [0.0]}, lambda _nothing, make=factory: make()
    ds = train_many(task, factory, points, seeds=list(seeds), epochs=network.epochs, progress=False)
    axis = next(str(each) for each in ds.valid_loss.dims if each not in ("seed", "epoch"))
    return {key: ds[key].transpose(axis, "seed", "epoch").values for key in ("valid_loss", "test_loss")}
