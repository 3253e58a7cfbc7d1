"""From a batch of images to its loss: augmentation, normalization, the model, and the metrics of its outputs."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gdlab import losses, models
from gdlab.arguments import describe, require_callable, require_flag
from gdlab.compute.promotion import standard_promotion
from gdlab.data import Split, crop_and_flip, normalize
from gdlab.tasks.task import Init, Metrics
from gdlab.types import NameTable

Augment = Callable[[Array, Array], Array]
"""`augment(key, images)` returns the augmented images; they are uint8 and keep their number and shape."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How images are augmented, and in which mode the model trains.

    `augment_test` and `freeze_after_first_epoch` reproduce two faults of the article that gdlab starts from.

    Attributes:
      augment: the function that augments training images, differently in every epoch; None means no augmentation.
      augment_test: whether images are augmented in evaluation, too.
      freeze_after_first_epoch: whether the model is in evaluation mode from the second epoch on. Batch normalization
        then uses the running statistics of the first epoch and never updates them again.
    """

    augment: Augment | None = None
    augment_test: bool = False
    freeze_after_first_epoch: bool = False

    def __post_init__(self) -> None:
        if self.augment is not None:
            require_callable("augment", self.augment)
        require_flag("augment_test", self.augment_test)
        require_flag("freeze_after_first_epoch", self.freeze_after_first_epoch)


PROTOCOLS: NameTable[Protocol] = NameTable(
    "protocol",
    {
        "sound": Protocol(augment=crop_and_flip),
        "source": Protocol(augment=crop_and_flip, augment_test=True, freeze_after_first_epoch=True),
    },
)
"""Protocols by name. "sound" crops and flips training images only; "source" does what the article's code does."""


class Phase(NamedTuple):
    """The state of a task on images.

    Attributes:
      model: the state of the model.
      training: whether training steps still run the model in training mode.
    """

    model: PyTree
    training: Array


@typing.runtime_checkable  # required by the tests that check types at run time
class Forward(typing.Protocol):
    """The type of functions `forward(params, state, inputs, labels, train, key)` from images to metrics.

    Such a function applies a model to a batch and returns the metrics of each image, "loss" among them, and the new
    state of the model. `measured` makes one from a model and a `Measure`.
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
        """Return the metrics of each image and the new state of the model.

        Args:
          params: the parameters of the model.
          state: the state of the model.
          inputs: the normalized images.
          labels: the classes of the images, counted from 0.
          train: whether the model is in training mode; may be traced.
          key: a random key for dropout and noise.
        """
        ...


Measure = Callable[[Any, Array, Array], Metrics]
"""`measure(outputs, inputs, labels)` returns the metrics of each image, "loss" among them, given a model's outputs."""


def require_model(model: Any) -> None:
    """Raise TypeError unless `model` has the two functions of a `models.Model`."""
    for part in ("init", "apply"):
        if not hasattr(model, part):
            raise TypeError(f"model: expected a Model, such as gdlab.models.mlp(...), got {describe(model)}")
        require_callable(f"model.{part}", getattr(model, part))


def measured(model: models.Model, measure: Measure, *, feed: Callable[[Array, Array], PyTree] | None = None) -> Forward:
    """Make a `Forward` that applies a model and measures its outputs.

    Args:
      model: the model.
      measure: computes the metrics of each image from the model's outputs, the images and the labels.
      feed: `feed(inputs, labels)` returns the inputs of the model, for models that need the labels. None: the images.

    Returns:
      A function as described by `Forward`.

    Raises:
      TypeError: if an argument is not a model or a function.
    """
    require_model(model)
    require_callable("measure", measure)
    if feed is not None:
        require_callable("feed", feed)

    def forward(
        params: PyTree, state: PyTree, inputs: Array, labels: Array, train: Any, key: Array
    ) -> tuple[Metrics, PyTree]:
        fed = inputs if feed is None else feed(inputs, labels)
        outputs, state = model.apply(params, state, fed, train=train, key=key)
        return measure(outputs, inputs, labels), state

    return forward


def measure_classes(logits: Float[Array, "batch classes"], inputs: Array, labels: Int[Array, " batch"]) -> Metrics:
    """Return the metrics of a classifier.

    "loss" is the cross-entropy in nats; "accuracy" is 1 if the label has the largest logit, and 0 otherwise.
    """
    del inputs
    hits = losses.is_hit(logits, labels).astype(jnp.float32)
    return {"loss": losses.cross_entropy(logits, labels), "accuracy": hits}


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
    """The functions of a task on images; see `gdlab.tasks.Task` for `init`, `loss`, `evaluate` and `after_epoch`.

    Attributes:
      begin: the model's function `begin(key)`, which returns (params, state).
      forward: computes the metrics of a batch.
      protocol: the augmentation and mode of the model.
      mean: the mean of each channel in units of the full range, by which images are normalized.
      std: the standard deviation of each channel in units of the full range, by which images are normalized.
      dtype: the dtype of the normalized images.
    """

    begin: Init
    forward: Forward
    protocol: Protocol
    mean: Sequence[float]
    std: Sequence[float]
    dtype: Any

    def init(self, key: Array) -> tuple[PyTree, Phase]:
        """Return initial parameters and a state in training mode."""
        with standard_promotion():
            params, state = self.begin(key)
        return params, Phase(state, jnp.asarray(True))

    def loss(self, params: PyTree, state: Phase, batch: Split, key: Array) -> tuple[Array, tuple[Phase, Metrics]]:
        """Return the mean of the metric "loss" over the augmented batch."""
        train = state.training if self.protocol.freeze_after_first_epoch else True
        state, metrics = self._run(params, state, batch, key, augment=True, train=train)
        return metrics["loss"].mean(), (state, metrics)

    def evaluate(self, params: PyTree, state: Phase, batch: Split, key: Array) -> tuple[Phase, Metrics]:
        """Return the new state and the metrics in evaluation mode."""
        return self._run(params, state, batch, key, augment=self.protocol.augment_test, train=False)

    def after_epoch(self, state: Phase) -> Phase:
        """Return the state, with training mode switched off if the protocol says so."""
        return state._replace(training=jnp.asarray(False)) if self.protocol.freeze_after_first_epoch else state

    def _run(
        self, params: PyTree, state: Phase, batch: Split, key: Array, *, augment: bool, train: Any
    ) -> tuple[Phase, Metrics]:
        with standard_promotion():
            return self._measure(params, state, batch, key, augment=augment, train=train)

    def _measure(
        self, params: PyTree, state: Phase, batch: Split, key: Array, *, augment: bool, train: Any
    ) -> tuple[Phase, Metrics]:
        for_augment, for_model = jax.random.split(key)
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)
        if augment and self.protocol.augment is not None:
            images = self.protocol.augment(for_augment, images)
        inputs = normalize(images, self.mean, self.std, self.dtype)
        metrics, after = self.forward(params, state.model, inputs, labels, train, for_model)
        return Phase(after, state.training), metrics
