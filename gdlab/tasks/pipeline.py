"""A batch of images on its way to a loss: augmentation, normalization, the model, and metrics of its outputs."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gdlab import losses, models
from gdlab.data import Split, crop_and_flip, normalize
from gdlab.tasks.task import Init, Metrics
from gdlab.types import NameTable

Augment = Callable[[Array, Array], Array]
"""`augment(key, images)`: uint8 images in, as many of the same shape out."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is done to images and to the model around the training step.

    augment: applied to training images, anew in every epoch; None: nothing. augment_test: whether it is applied to
    images in evaluation too. freeze_after_first_epoch: whether the model is in evaluation mode from the second epoch
    on, so that batch normalization uses the running statistics of the first epoch and never updates them again. The
    last two are faults of the article that gdlab starts from.
    """

    augment: Augment | None = None
    augment_test: bool = False
    freeze_after_first_epoch: bool = False


PROTOCOLS: NameTable[Protocol] = NameTable(
    "protocol",
    {
        "sound": Protocol(augment=crop_and_flip),
        "source": Protocol(augment=crop_and_flip, augment_test=True, freeze_after_first_epoch=True),
    },
)
"""sound: only training images are cropped and flipped. source: what the article's listing does when it is run."""


class Phase(NamedTuple):
    """A task's state. model: the model's own. training: whether training steps still run in training mode."""

    model: PyTree
    training: Array


@typing.runtime_checkable  # the test of types at run time asks whether a `forward` is one
class Forward(typing.Protocol):
    """`forward(params, state, inputs, labels, train, key)`: the metrics of each image, and the model's new state.

    state: the model's own. inputs: normalized images. train: a bool, which may be traced. key: for dropout and noise.
    The metrics hold "loss".
    """

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        inputs: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        train: Any,
        key: Array,
        /,
    ) -> tuple[Metrics, PyTree]:
        """The metrics and the new state."""
        ...


Measure = Callable[[Any, Array, Array], Metrics]
"""`measure(outputs, inputs, labels)`: the metrics of each image from the model's outputs, "loss" among them."""


def measured(model: models.Model, measure: Measure, *, feed: Callable[[Array, Array], PyTree] | None = None) -> Forward:
    """A `Forward` that applies the model and measures its outputs.

    feed: `feed(inputs, labels)` makes the model's inputs of them; None: the model is given the inputs alone.
    """

    def forward(
        params: PyTree, state: PyTree, inputs: Array, labels: Array, train: Any, key: Array
    ) -> tuple[Metrics, PyTree]:
        fed = inputs if feed is None else feed(inputs, labels)
        outputs, state = model.apply(params, state, fed, train=train, key=key)
        return measure(outputs, inputs, labels), state

    return forward


def measure_classes(logits: Float[Array, "batch classes"], inputs: Array, labels: Int[Array, " batch"]) -> Metrics:
    """The `Measure` of a classifier.

    "loss" is the cross-entropy in nats, "accuracy" 1 where the label has the largest logit and 0 elsewhere.
    """
    del inputs
    hits = losses.is_hit(logits, labels).astype(jnp.float32)
    return {"loss": losses.cross_entropy(logits, labels), "accuracy": hits}


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
    """The functions of a task on images; see `gdlab.tasks.Task` for `init`, `loss`, `evaluate` and `after_epoch`.

    begin(key) -> (params, state): the model's. mean, std: those of each channel, in units of the full range; images are
    normalized by them. dtype: of the normalized images.
    """

    begin: Init
    forward: Forward
    protocol: Protocol
    mean: Sequence[float]
    std: Sequence[float]
    dtype: Any

    def init(self, key: Array) -> tuple[PyTree, Phase]:
        """Fresh parameters, and a state in the phase of training."""
        params, state = self.begin(key)
        return params, Phase(state, jnp.asarray(True))

    def loss(self, params: PyTree, state: Phase, batch: Split, key: Array) -> tuple[Array, tuple[Phase, Metrics]]:
        """The mean of the metric "loss" over an augmented batch."""
        train = state.training if self.protocol.freeze_after_first_epoch else True
        state, metrics = self._run(params, state, batch, key, augment=True, train=train)
        return metrics["loss"].mean(), (state, metrics)

    def evaluate(self, params: PyTree, state: Phase, batch: Split, key: Array) -> tuple[Phase, Metrics]:
        """The metrics in evaluation mode."""
        return self._run(params, state, batch, key, augment=self.protocol.augment_test, train=False)

    def after_epoch(self, state: Phase) -> Phase:
        """The state with training mode switched off, if the protocol says so."""
        return state._replace(training=jnp.asarray(False)) if self.protocol.freeze_after_first_epoch else state

    def _run(
        self, params: PyTree, state: Phase, batch: Split, key: Array, *, augment: bool, train: Any
    ) -> tuple[Phase, Metrics]:
        for_augment, for_model = jax.random.split(key)
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)
        if augment and self.protocol.augment is not None:
            images = self.protocol.augment(for_augment, images)
        inputs = normalize(images, self.mean, self.std, self.dtype)
        metrics, after = self.forward(params, state.model, inputs, labels, train, for_model)
        return Phase(after, state.training), metrics
