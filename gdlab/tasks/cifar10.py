"""ResNet18 on CIFAR10, the source article's task."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from gdlab import models
from gdlab.data import load
from gdlab.tasks.images import classify
from gdlab.tasks.pipeline import PROTOCOLS
from gdlab.tasks.task import Init, Task

SOURCE_MEAN = tuple(value / 255 for value in (129.3, 124.1, 112.4))
SOURCE_STD = tuple(value / 255 for value in (68.2, 65.4, 70.4))
"""Standard deviation of CIFAR's channels; with SOURCE_MEAN, what the source article normalizes by."""


def cifar10_resnet18(
    data_dir: str | Path | None = None,
    *,
    protocol: str = "sound",
    stem: str = "imagenet",
    head: str = "source",
    width: int = 64,
    dtype: Any = jnp.float32,
    weights: str | Path | None = None,
    **settings: Any,
) -> Task:
    """The source article's task: torchvision's ResNet18 with the article's second layer, crop and flip, batches of 64.

    protocol, stem, head: names in `PROTOCOLS`, `models.STEMS` and `models.HEADS`. width, dtype: see `models.resnet18`.
    weights: a file of torchvision's ResNet18 to start from (`models.load_torchvision`), the article's
    `pretrained=True`; the second layer of head="source" is random. settings: those of `classify`, among them
    batch_size, hold_out, train_size and test_size. Raises KeyError for an unknown name.
    """
    model = models.resnet18(10, stem=models.STEMS[stem], head=models.HEADS[head], width=width, dtype=dtype)
    init = None if weights is None else _pretrained(model, weights)
    return classify(
        "cifar10_resnet18",
        load("cifar10", data_dir),
        model,
        protocol=PROTOCOLS[protocol],
        mean=SOURCE_MEAN,
        std=SOURCE_STD,
        dtype=dtype,
        init=init,
        description={
            "protocol": protocol,
            "model": {"name": "resnet18", "stem": stem, "head": head, "width": width},
            "weights": None if weights is None else str(weights),
        },
        **settings,
    )


def _pretrained(model: models.Model, weights: str | Path) -> Init:
    """An `init` that draws only what the file does not hold; the file is read once, here."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    trained = models.load_torchvision(weights, *shapes)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        def pick(mine: Any, drawn: Array) -> Array:
            return drawn if isinstance(mine, jax.ShapeDtypeStruct) else mine

        return jax.tree.map(pick, trained, model.init(key))

    return init
