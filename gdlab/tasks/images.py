"""Tasks on labelled images: a split data set, joined with the functions of `gdlab.tasks.pipeline`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab import models
from gdlab.arguments import (
    as_numbers,
    require_callable,
    require_count,
    require_floating,
    require_instance,
    require_mapping,
    require_number,
    require_sequence,
    require_text,
)
from gdlab.data import Dataset, Split
from gdlab.tasks.labels import count_outputs, require_images, require_labels
from gdlab.tasks.pipeline import Forward, Pipeline, Protocol, measure_classes, measured
from gdlab.tasks.task import Data, Init, Task
from gdlab.types import NameTable

CHANNELS: NameTable[tuple[tuple[float, ...], tuple[float, ...]]] = NameTable(
    "data set of colour images",
    {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    },
)
"""Mean and standard deviation of each channel over the labelled training images, in units of the full range."""


def from_images(
    name: str,
    dataset: Dataset,
    init: Init,
    forward: Forward,
    *,
    protocol: Protocol | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int = 64,
    evaluation_batch: int = 500,
    hold_out: int = 0,
    train_size: int | None = None,
    test_size: int | None = None,
    dtype: Any = jnp.float32,
    description: dict[str, Any] | None = None,
) -> Task:
    """Make a task on labelled images, with any model and any loss.

    The loss is the mean over the batch of the metric "loss" that `forward` returns.

    Args:
      name: the name of the task.
      dataset: the training and test images with their labels.
      init: the model's function `init(key)`, which returns (params, state).
      forward: the function that computes the metrics of a batch; see `Forward`. `measured` makes one from a model.
      protocol: the augmentation and mode of the model. None: images are not augmented and the model is never frozen.
      mean: the mean of each channel in units of the full range, subtracted from the images. None: 0.
      std: the standard deviation of each channel in units of the full range, by which the images are divided. None: 1.
        Without `mean` and `std`, images are in [0, 1].
      batch_size: the number of images in a training batch. Default 64.
      evaluation_batch: the largest number of images in a batch of evaluation. Default 500.
      hold_out: the number of training images that are set aside as `valid`: the last ones of a fixed shuffle, so they
        are the same in every run. Default 0.
      train_size: the number of the remaining training images to use, from the front of a fixed shuffle. None: all.
      test_size: the number of test images to use, from the front of a fixed shuffle. None: all.
      dtype: the dtype of the normalized images.
      description: entries to add to the task's description, such as those that describe the model.

    Returns:
      A `Task`.

    Raises:
      TypeError: if an argument has the wrong type, or images are not uint8.
      ValueError: if a size is out of range or larger than the number of images, or images and labels do not fit.
    """
    require_text("name", name)
    require_images(dataset)
    require_callable("init", init)
    require_callable("forward", forward)
    require_instance("protocol", protocol, (Protocol, type(None)), "a Protocol, such as gdlab.tasks.PROTOCOLS['sound']")
    require_count("batch_size", batch_size)
    require_count("evaluation_batch", evaluation_batch)
    require_mapping("description", {} if description is None else description, "from names to what is recorded")
    require_floating("dtype", dtype)
    parts = _cut(dataset, hold_out, train_size, test_size)
    counts = {"train": len(parts.train.labels), "valid": hold_out, "test": len(parts.test.labels)}
    if batch_size > counts["train"]:
        raise ValueError(f"batch_size: expected at most the {counts['train']} training images, got {batch_size}")
    protocol = protocol or Protocol()
    channels = dataset.train.images.shape[-1]
    mean = _per_channel("mean", (0.0,) * channels if mean is None else mean, channels)
    std = _per_channel("std", (1.0,) * channels if std is None else std, channels, low=0.0)
    pipeline = Pipeline(init, forward, protocol, mean, std, dtype)
    return Task(
        name=name,
        init=pipeline.init,
        loss=pipeline.loss,
        evaluate=pipeline.evaluate,
        after_epoch=pipeline.after_epoch,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        batch_size=batch_size,
        evaluation_batch=min(evaluation_batch, counts["test"]),
        description={
            "data": dataset.provenance | {"name": dataset.name},
            **counts,
            "batch_size": batch_size,
            "mean": list(mean),
            "std": list(std),
            "augment_test": protocol.augment_test,
            "freeze_after_first_epoch": protocol.freeze_after_first_epoch,
            "dtype": jnp.dtype(dtype).name,
            **(description or {}),
        },
    )


def classify(
    name: str,
    dataset: Dataset,
    model: models.Model,
    *,
    init: Init | None = None,
    mean: Sequence[float],
    std: Sequence[float],
    **settings: Any,
) -> Task:
    """Make a task that classifies images by cross-entropy, with the metrics "loss" and "accuracy".

    Args:
      name: the name of the task.
      dataset: the training and test images with their labels.
      model: the classifier; it returns one logit per class.
      init: replaces the model's own `init`, to start from trained weights. None: `model.init`.
      mean: the mean of each channel; see `from_images`.
      std: the standard deviation of each channel; see `from_images`.
      **settings: further arguments of `from_images`, such as batch_size, hold_out, train_size and test_size.

    Returns:
      A `Task`.

    Raises:
      TypeError: if an argument has the wrong type, or labels are not integers.
      ValueError: if a label is negative, or not below the number of classes or of the model's outputs; or as
        `from_images`.
    """
    require_settings("classify", settings, FURTHER)
    require_text("name", name)
    require_images(dataset)
    require_labels(dataset, count_outputs(model, dataset))
    forward = measured(model, measure_classes)
    for given, value in (("mean", mean), ("std", std)):
        require_sequence(given, value, "a number for each channel")
    return from_images(name, dataset, model.init if init is None else init, forward, mean=mean, std=std, **settings)


SIZES = ("batch_size", "evaluation_batch", "hold_out", "train_size", "test_size")
"""The arguments of `from_images` that every task on images passes on."""

FURTHER = (*SIZES, "protocol", "dtype", "description")
"""The arguments of `from_images` that `classify` passes on."""


def require_settings(task: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise TypeError if a setting of a task is none of the `known` arguments; the message lists these."""
    for name in settings:
        if name not in known:
            raise TypeError(f"{name}: expected an argument of {task} ({', '.join(known)}), got {name!r}")


def _per_channel(name: str, numbers: Any, channels: int, low: float = -np.inf) -> tuple[float, ...]:
    found = as_numbers(name, numbers, shape=(channels,))
    for number in found:
        require_number(name, float(number), low, open_low=True)
    return tuple(float(number) for number in found)


def _cut(dataset: Dataset, hold_out: int, train_size: int | None, test_size: int | None) -> Data:
    """Return the parts of a task; the held-out images are set aside before the training images are limited."""
    require_count("hold_out", hold_out, low=0)
    test = _take("test_size", dataset.test, test_size)
    train, valid = dataset.train, None
    count = len(train.labels)
    if hold_out:
        if hold_out >= count:
            raise ValueError(f"hold_out: expected fewer than the {count} training images, got {hold_out}")
        order = np.random.default_rng(1).permutation(count)
        train, valid = _pick(train, order[:-hold_out]), _pick(train, order[-hold_out:])
    return Data(_take("train_size", train, train_size), valid, test)


def _take(name: str, part: Split, size: int | None) -> Split:
    """Return the first `size` examples of a fixed shuffle; None returns all in their original order."""
    if size is None:
        return part
    require_count(name, size)
    if size > len(part.labels):
        raise ValueError(f"{name}: expected at most {len(part.labels)}, the number of images, got {size}")
    return _pick(part, np.random.default_rng(0).permutation(len(part.labels))[:size])


def _pick(part: Split, numbers: np.ndarray) -> Split:
    return Split(part.images[numbers], part.labels[numbers])
