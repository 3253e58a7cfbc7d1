"""CapsNet on Fashion-MNIST."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gdlab import losses, models
from gdlab.data import load
from gdlab.tasks.images import from_images
from gdlab.tasks.task import Metrics, Task

RECONSTRUCTION = 0.0005
"""The weight of the reconstruction's squared error, a sum over pixels, beside the margin loss (Sabour et al. 2017)."""


def fashion_mnist_capsnet(
    data_dir: str | Path | None = None,
    *,
    dataset: str = "fashion_mnist",
    width: int = 256,
    capsules: int = 32,
    capsule_size: int = 8,
    class_size: int = 16,
    kernel: int = 9,
    decoder: Sequence[int] = (512, 1024),
    routing: int = 3,
    learn_weights: bool = True,
    batch_size: int = 128,
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """The Demon benchmark's FMNIST-CAPS (Chen et al. 2022): three routing iterations, batches of 128, as they are.

    Metrics an image: "loss" = "margin" + 0.0005 "reconstruction", the decoder being shown the true class's capsule in
    training and evaluation; "accuracy", by the longest capsule. Pixels are in [0, 1], nothing is augmented. Sizes and
    dtype: of `models.capsnet`. settings: of `from_images`, hold_out, train_size and test_size among them.
    """
    images = load(dataset, data_dir)
    shape = images.train.images.shape[1:]
    sizes: dict[str, Any] = {
        "width": width,
        "capsules": capsules,
        "capsule_size": capsule_size,
        "class_size": class_size,
        "kernel": kernel,
        "decoder": list(decoder),
        "routing": routing,
        "learn_weights": learn_weights,
    }
    model = models.capsnet(len(images.classes), image_shape=shape, dtype=dtype, **sizes)

    def forward(
        params: PyTree,
        state: PyTree,
        inputs: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        train: Any,
        key: Array,
    ) -> tuple[Metrics, PyTree]:
        outputs, state = model.apply(params, state, models.CapsuleInputs(inputs, labels), train=train, key=key)
        margin = losses.margin_loss(outputs.lengths, labels)
        targets = inputs.reshape(len(inputs), -1).astype(outputs.reconstruction.dtype)
        error = jnp.sum(jnp.square(outputs.reconstruction - targets), axis=-1)
        return {
            "loss": margin + RECONSTRUCTION * error,
            "accuracy": losses.is_hit(outputs.lengths, labels).astype(jnp.float32),
            "margin": margin,
            "reconstruction": error,
        }, state

    return from_images(
        f"{dataset}_capsnet",
        images,
        model.init,
        forward,
        batch_size=batch_size,
        dtype=dtype,
        description={"model": {"name": "capsnet", **sizes}},
        **settings,
    )
