"""Multilayer perceptrons on small images: tasks for quick demonstrations and large scans."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gdlab import models
from gdlab.arguments import require_floating, require_sequence
from gdlab.data import load, places
from gdlab.tasks.images import SIZES, classify, require_settings
from gdlab.tasks.task import Task

SETTINGS = ("hidden", "dtype", "protocol", "init", *SIZES)
"""The arguments of `perceptron` besides the data."""


def perceptron(
    dataset: str,
    data_dir: str | Path | None = None,
    *,
    hidden: Sequence[int] = (64, 64),
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """A multilayer perceptron (`models.mlp`) on a data set of labelled images.

    Images are in [-1, 1] and not augmented.

    Args:
      dataset: the name of a data set in `gdlab.data.DATASETS`.
      data_dir: where to look for the data first; see `gdlab.data.places`.
      hidden: the sizes of the hidden layers. Default (64, 64).
      dtype: the dtype in which the network computes; see `models.mlp`.
      **settings: further arguments of `classify`, such as batch_size, hold_out, train_size and test_size.

    Returns:
      A `Task`.
    """
    require_settings("perceptron", settings, SETTINGS)
    require_sequence("hidden", hidden, "the sizes of the hidden layers")
    require_floating("dtype", dtype)
    places(data_dir)  # "digits" are not read from a folder, but a wrong argument is one all the same
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
    """A multilayer perceptron on scikit-learn's digits.

    It needs no download, and an epoch of its 1,500 training images takes milliseconds.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      **settings: further arguments of `perceptron`, such as hidden, batch_size and hold_out.

    Returns:
      A `Task`.
    """
    require_settings("digits_mlp", settings, SETTINGS)
    return perceptron("digits", data_dir, **settings)


def mnist_mlp(data_dir: str | Path | None = None, **settings: Any) -> Task:
    """A multilayer perceptron on MNIST.

    The training part has 60,000 images of 28 x 28 pixels; `gdlab.data.prepare` prepares them.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      **settings: further arguments of `perceptron`, such as hidden, batch_size and hold_out.

    Returns:
      A `Task`.
    """
    require_settings("mnist_mlp", settings, SETTINGS)
    return perceptron("mnist", data_dir, **settings)


def fashion_mnist_mlp(data_dir: str | Path | None = None, **settings: Any) -> Task:
    """A multilayer perceptron on Fashion-MNIST.

    The training part has 60,000 images of 28 x 28 pixels; `gdlab.data.prepare` prepares them.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      **settings: further arguments of `perceptron`, such as hidden, batch_size and hold_out.

    Returns:
      A `Task`.
    """
    require_settings("fashion_mnist_mlp", settings, SETTINGS)
    return perceptron("fashion_mnist", data_dir, **settings)
