"""The check of labelled images: shapes, dtypes, and labels that a classifier can learn, before anything is computed."""

from typing import Any

import jax
import numpy as np

from gdlab.arguments import (
    abstract_result,
    describe,
    require_instance,
    require_mapping,
    require_strings,
    require_text,
)
from gdlab.compute.promotion import standard_promotion
from gdlab.data import Dataset
from gdlab.tasks.pipeline import require_model


def require_images(dataset: Any) -> None:
    """Raise an error unless both parts of a data set hold uint8 images of one shape, with one label each."""
    require_instance("dataset", dataset, Dataset, "a Dataset, as returned by gdlab.data.load")
    require_text("dataset.name", dataset.name)
    require_strings("dataset.classes", dataset.classes, expected="names", empty=False)
    require_mapping("dataset.provenance", dataset.provenance, "from names to what is known of the files")
    shapes = set()
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        require_instance("dataset", split, tuple, f"a Split as its {part} part")
        images, labels = split
        if getattr(images, "dtype", None) != np.uint8 or images.ndim != 4:
            raise TypeError(
                f"dataset: expected {part} images as uint8 of shape (count, height, width, channels), got "
                f"{describe(images)}"
            )
        if np.shape(labels)[:1] != images.shape[:1]:
            raise ValueError(
                f"dataset: expected one label for each of the {len(images)} {part} images, got labels of shape "
                f"{np.shape(labels)}"
            )
        shapes.add(images.shape[1:])
    if len(shapes) > 1:
        raise ValueError(f"dataset: expected images of one shape, got {' and '.join(map(str, sorted(shapes)))}")


def require_labels(dataset: Dataset, outputs: int) -> None:
    """Raise an error unless all labels are integers from 0, below the number of classes and of the model's outputs."""
    count = min(outputs, len(dataset.classes) or outputs)
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        labels = np.asarray(split.labels)
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise TypeError(f"dataset: expected {part} labels as a vector of integers, got {describe(labels)}")
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high >= count:
            what = "classes" if count < outputs or outputs == len(dataset.classes) else "outputs of the model"
            raise ValueError(
                f"dataset: expected {part} labels from 0 to {count - 1}, for the {count} {what}, got {low} to {high}"
            )


def count_outputs(model: Any, dataset: Dataset) -> int:
    """Return the number of logits that a classifier returns for an image, found without computing anything."""
    require_model(model)
    images = jax.ShapeDtypeStruct((1, *dataset.train.images.shape[1:]), np.float32)

    def outputs(images: Any) -> Any:
        params, state = model.init(jax.random.key(0))
        return model.apply(params, state, images, train=False, key=None)[0]

    with jax.disable_jit(False), standard_promotion():
        logits = abstract_result("model", outputs, images, takes=f"images of shape {images.shape[1:]}")
    if getattr(logits, "ndim", None) != 2:
        raise ValueError(
            f"model: expected a classifier that returns logits of shape (batch, classes), got "
            f"{getattr(logits, 'shape', type(logits).__name__)}"
        )
    return int(logits.shape[-1])
