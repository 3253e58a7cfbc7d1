"""Multilayer perceptrons on small images: the tasks of quick demos and wide scans."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gdlab import models
from gdlab.data import load
from gdlab.tasks.images import classify
from gdlab.tasks.task import Task


def perceptron(
    dataset: str,
    data_dir: str | Path | None = None,
    *,
    hidden: Sequence[int] = (64, 64),
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """A multilayer perceptron (`models.mlp`) on a data set by name; images in [-1, 1], without augmentation.

    hidden, dtype: see `models.mlp`. settings: those of `classify`, among them batch_size, hold_out, train_size and
    test_size.
    """
    images = load(dataset, data_dir)
    shape = images.train.images.shape[1:]
    return classify(
        f"{dataset}_mlp",
        images,
        models.mlp(shape, len(images.classes), hidden=hidden, dtype=dtype),
        mean=(0.5,) * shape[-1],
        std=(0.5,) * shape[-1],
        dtype=dtype,
        description={"model": {"name": "mlp", "hidden": list(hidden)}},
        **settings,
    )


def digits_mlp(data_dir: str | Path | None = None, **settings: Any) -> Task:
    """`perceptron` on scikit-learn's digits: no download, an epoch of 1,500 images in milliseconds."""
    return perceptron("digits", data_dir, **settings)


def mnist_mlp(data_dir: str | Path | None = None, **settings: Any) -> Task:
    """`perceptron` on MNIST: 60,000 images of 28 x 28, which `gdlab.data.prepare` prepares."""
    return perceptron("mnist", data_dir, **settings)


def fashion_mnist_mlp(data_dir: str | Path | None = None, **settings: Any) -> Task:
    """`perceptron` on Fashion-MNIST: 60,000 images of 28 x 28, which `gdlab.data.prepare` prepares."""
    return perceptron("fashion_mnist", data_dir, **settings)
