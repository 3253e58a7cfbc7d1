"""Tasks on labelled images: the data set cut into its parts, joined with the functions of `gdlab.tasks.pipeline`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab import models
from gdlab.arguments import require_count
from gdlab.data import Dataset, Split
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
    """A task on labelled images; its loss is the mean of the metric "loss" of `forward`.

    init(key) -> (params, state): the model's. forward: see `Forward`; `measured` makes one of a model. protocol: None:
    images are neither augmented nor is the model frozen. mean, std: of each channel, in units of the full range; images
    are normalized by them, and without them are in [0, 1]. hold_out: the number of training images that are set aside
    as `valid`, the same ones in every run: the last of a fixed shuffle. train_size, test_size: take only so many of the
    others, from the front of a fixed shuffle; None: all. dtype: of the normalized images. description: what the task's
    description says of the model and all else that is not known here.

    Raises TypeError and ValueError for sizes that are not integers, and ValueError where there are fewer images than
    asked for.
    """
    require_count("batch_size", batch_size)
    require_count("evaluation_batch", evaluation_batch)
    parts = _cut(dataset, hold_out, train_size, test_size)
    counts = {"train": len(parts.train.labels), "valid": hold_out, "test": len(parts.test.labels)}
    if batch_size > counts["train"]:
        raise ValueError(f"batch_size: wanted at most the {counts['train']} training images, got {batch_size}")
    protocol = protocol or Protocol()
    channels = dataset.train.images.shape[-1]
    mean = (0.0,) * channels if mean is None else mean
    std = (1.0,) * channels if std is None else std
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
            "mean": [float(m) for m in mean],
            "std": [float(s) for s in std],
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
    """Classification of images by cross-entropy, with the metrics of `measure_classes`.

    init: used in place of the model's own, to start from trained weights. mean, std, settings: see `from_images`.
    """
    forward = measured(model, measure_classes)
    return from_images(name, dataset, init or model.init, forward, mean=mean, std=std, **settings)


def _cut(dataset: Dataset, hold_out: int, train_size: int | None, test_size: int | None) -> Data:
    """The parts of a task: what is held out first, then so many of the others as are wanted."""
    require_count("hold_out", hold_out, low=0)
    test = _take("test_size", dataset.test, test_size)
    train, valid = dataset.train, None
    count = len(train.labels)
    if hold_out:
        if hold_out >= count:
            raise ValueError(f"hold_out: wanted less than the {count} training images, got {hold_out}")
        order = np.random.default_rng(1).permutation(count)
        train, valid = _pick(train, order[:-hold_out]), _pick(train, order[-hold_out:])
    return Data(_take("train_size", train, train_size), valid, test)


def _take(name: str, part: Split, size: int | None) -> Split:
    """The first `size` of a fixed shuffle; all, in their order, where size is None."""
    if size is None:
        return part
    require_count(name, size)
    if size > len(part.labels):
        raise ValueError(f"{name}: wanted at most the {len(part.labels)} images there are, got {size}")
    return _pick(part, np.random.default_rng(0).permutation(len(part.labels))[:size])


def _pick(part: Split, numbers: np.ndarray) -> Split:
    return Split(part.images[numbers], part.labels[numbers])
