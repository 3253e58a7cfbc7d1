"""Tasks on labelled images: what is held out, augmented and normalized, around whatever is learned from them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from gdlab import losses, models
from gdlab.arguments import require_count
from gdlab.data import Dataset, crop_and_flip, normalize
from gdlab.tasks.task import Metrics, Task
from gdlab.types import NameTable


class Images(NamedTuple):
    """A batch of a labelled set, or all of it: uint8 images, shape (count, height, width, channels), and classes."""

    images: Any
    labels: Any


Augment = Callable[[Array, Array], Array]
"""`augment(key, images)`: uint8 images in, as many of the same shape out."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is done to images and model around the training step.

    augment: of training images, in every epoch anew; None: nothing. augment_test: whether test images go through it
    too. freeze_after_first_epoch: whether the model stays in evaluation mode from the second epoch on, so that batch
    normalization uses, and never again updates, the running statistics of the first. Both are faults of the article
    that gdlab starts from.
    """

    augment: Augment | None = None
    augment_test: bool = False
    freeze_after_first_epoch: bool = False


class Phase(NamedTuple):
    """model: the model's own state. training: whether training steps still run in training mode."""

    model: PyTree
    training: Array


Forward = Callable[..., tuple[Metrics, PyTree]]
"""`forward(params, state, inputs, labels, train, key) -> (metrics, state)`.

state is the model's own, inputs are normalized images; train: a bool, which may be traced.
"""


def from_images(
    name: str,
    dataset: Dataset,
    init: Callable[[Array], tuple[PyTree, PyTree]],
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
    """A task on labelled images; its loss is the mean of forward's metric "loss".

    init(key) -> (params, state): the model's. forward: see `Forward`. mean, std: of each channel in units of the full
    range; images are normalized by them, and without them are in [0, 1]. hold_out: training images that are set aside
    as `valid`, the same ones in every run: the last of a fixed shuffle. train_size, test_size: take only so many of the
    others, from the front of a fixed shuffle. dtype: of the normalized images. Raises ValueError where there are fewer
    images than asked for.
    """
    protocol = protocol or Protocol()
    channels = dataset.train.images.shape[-1]
    mean = (0.0,) * channels if mean is None else mean
    std = (1.0,) * channels if std is None else std
    require_count("batch_size", batch_size)
    require_count("evaluation_batch", evaluation_batch)
    require_count("hold_out", hold_out, low=0)
    test = _take("test_size", Images(*dataset.test), test_size)
    train, valid = Images(*dataset.train), None
    if hold_out:
        if hold_out >= len(train.labels):
            raise ValueError(f"hold_out: wanted less than the {len(train.labels)} training images, got {hold_out}")
        order = np.random.default_rng(1).permutation(len(train.labels))
        valid = Images(*(array[order[-hold_out:]] for array in train))
        train = Images(*(array[order[:-hold_out]] for array in train))
    train = _take("train_size", train, train_size)
    if batch_size > len(train.labels):
        raise ValueError(f"batch_size: wanted at most the {len(train.labels)} training images, got {batch_size}")

    def start(key: Array) -> tuple[PyTree, Phase]:
        params, state = init(key)
        return params, Phase(state, jnp.asarray(True))

    def run(params: PyTree, state: Phase, batch: Images, key: Array, augment: bool, train: Any) -> Any:
        for_augment, for_model = jax.random.split(key)
        images = batch.images
        if augment and protocol.augment is not None:
            images = protocol.augment(for_augment, images)
        inputs = normalize(images, mean, std, dtype)
        metrics, after = forward(params, state.model, inputs, batch.labels, train, for_model)
        return Phase(after, state.training), metrics

    def loss(params: PyTree, state: Phase, batch: Images, key: Array) -> tuple[Array, tuple[Phase, Metrics]]:
        in_training = state.training if protocol.freeze_after_first_epoch else True
        state, metrics = run(params, state, batch, key, True, in_training)
        return metrics["loss"].mean(), (state, metrics)

    def evaluate(params: PyTree, state: Phase, batch: Images, key: Array) -> tuple[Phase, Metrics]:
        return run(params, state, batch, key, protocol.augment_test, False)

    def after_epoch(state: Phase) -> Phase:
        return state._replace(training=jnp.asarray(False)) if protocol.freeze_after_first_epoch else state

    return Task(
        name=name,
        init=start,
        loss=loss,
        evaluate=evaluate,
        after_epoch=after_epoch,
        train=train,
        valid=valid,
        test=test,
        batch_size=batch_size,
        evaluation_batch=min(evaluation_batch, len(test.labels)),
        description={
            "data": dataset.provenance | {"name": dataset.name},
            "train": len(train.labels),
            "valid": hold_out,
            "test": len(test.labels),
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
    init: Callable[[Array], tuple[PyTree, PyTree]] | None = None,
    mean: Sequence[float],
    std: Sequence[float],
    **settings: Any,
) -> Task:
    """Classification of images by cross-entropy; metrics "loss" (nats) and "accuracy" (0 or 1).

    init: in place of the model's own, to begin from trained weights. mean, std and settings: of `from_images`.
    """

    def forward(
        params: PyTree,
        state: PyTree,
        inputs: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        train: Any,
        key: Array,
    ) -> tuple[Metrics, PyTree]:
        logits, state = model.apply(params, state, inputs, train=train, key=key)
        hits = losses.is_hit(logits, labels).astype(jnp.float32)
        return {"loss": losses.cross_entropy(logits, labels), "accuracy": hits}, state

    return from_images(name, dataset, init or model.init, forward, mean=mean, std=std, **settings)


def _take(name: str, images: Images, size: int | None) -> Images:
    """The first `size` of a fixed shuffle; all, in their order, where size is None."""
    if size is None:
        return images
    require_count(name, size)
    if size > len(images.labels):
        raise ValueError(f"{name}: wanted at most the {len(images.labels)} images there are, got {size}")
    order = np.random.default_rng(0).permutation(len(images.labels))[:size]
    return Images(*(array[order] for array in images))


CHANNELS: NameTable[tuple[tuple[float, ...], tuple[float, ...]]] = NameTable(
    "data set of colour images",
    {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    },
)
"""Mean and standard deviation of each channel over the labelled training images, in units of the full range."""

PROTOCOLS: NameTable[Protocol] = NameTable(
    "protocol",
    {
        "sound": Protocol(augment=crop_and_flip),
        "source": Protocol(augment=crop_and_flip, augment_test=True, freeze_after_first_epoch=True),
    },
)
"""sound: training images are cropped and flipped, nothing else. source: as the article's listing really runs."""
