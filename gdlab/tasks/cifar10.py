"""ResNet18 on CIFAR10, the task of the source article (the article whose experiments gdlab starts from)."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from gdlab import models
from gdlab.arguments import as_path, require_floating
from gdlab.data import load
from gdlab.tasks.images import SIZES, classify, require_settings
from gdlab.tasks.pipeline import PROTOCOLS
from gdlab.tasks.task import Init, Task

SOURCE_MEAN = tuple(value / 255 for value in (129.3, 124.1, 112.4))
SOURCE_STD = tuple(value / 255 for value in (68.2, 65.4, 70.4))
"""Standard deviation of each channel, by which, with SOURCE_MEAN, the source article normalizes CIFAR10."""


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
    """ResNet18 on CIFAR10, the task of the article that gdlab starts from.

    The defaults are torchvision's ResNet18 with the second linear layer that the article adds, random crops and flips
    of the training images, and batches of 64.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      protocol: the augmentation and mode of the model, a name in `PROTOCOLS`. Default "sound".
      stem: the first layers, a name in `models.STEMS`. Default "imagenet".
      head: the last layers, a name in `models.HEADS`. Default "source", the article's.
      width: the number of channels of the first stage; see `models.resnet18`. Default 64.
      dtype: the dtype in which the network computes; see `models.resnet18`.
      weights: a file of torchvision's ResNet18 to start from (see `models.load_torchvision`), the article's
        `pretrained=True`. The second layer of head="source" is still drawn at random. None: all parameters are drawn.
      **settings: further arguments of `classify`, such as batch_size, hold_out, train_size and test_size.

    Returns:
      A `Task`.

    Raises:
      KeyError: if `protocol`, `stem` or `head` is an unknown name.
    """
    require_settings("cifar10_resnet18", settings, SIZES)
    require_floating("dtype", dtype)
    rules = PROTOCOLS[protocol]
    model = models.resnet18(10, stem=models.STEMS[stem], head=models.HEADS[head], width=width, dtype=dtype)
    weights = None if weights is None else as_path("weights", weights)
    init = None if weights is None else _pretrained(model, weights)
    return classify(
        "cifar10_resnet18",
        load("cifar10", data_dir),
        model,
        protocol=rules,
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
    """Return an `init` that draws only those arrays that the file lacks; the file is read once, by this call."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    trained = models.load_torchvision(weights, *shapes)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        def pick(mine: Any, drawn: Array) -> Array:
            return drawn if isinstance(mine, jax.ShapeDtypeStruct) else mine

        return jax.tree.map(pick, trained, model.init(key))

    return init
