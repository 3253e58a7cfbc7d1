"""A task joins data, model and loss as pure functions: all that the training loop knows of a problem."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from gdlab import losses, models
from gdlab.arguments import describe, require_count
from gdlab.data import Dataset, crop_and_flip, load, normalize
from gdlab.types import NameTable

__all__ = [
    "PROTOCOLS",
    "TASKS",
    "Images",
    "Phase",
    "Protocol",
    "Task",
    "cifar10_resnet18",
    "classify",
    "count_examples",
    "digits_mlp",
    "fashion_mnist_mlp",
    "metric_names",
    "mnist_mlp",
    "perceptron",
    "require_task",
]

Metrics = dict[str, Float[Array, " batch"]]
"""One number an example and name; "loss" is among the names."""


class Task(NamedTuple):
    """Pure functions and data. Adding a task is one model and one function that returns this.

    init(key) -> (params, state): params are what an optimizer steps; state is all else that a model carries from step
    to step (batch statistics, a recurrent net's memory, a flag).
    loss(params, state, batch, key) -> (loss, (state, metrics)): the mean over the batch that is differentiated, in
    training mode, and the metrics of each example.
    evaluate(params, state, batch, key) -> (state, metrics): in evaluation mode.
    after_epoch(state) -> state: what happens to the state when an epoch's training is over, before evaluation.
    train, test: pytrees of arrays whose first axis counts examples; valid: the like, held out of the training data, or
    None. shuffled: whether each epoch draws a new order of the training data; a batch is `batch_size` consecutive
    examples of that order, and what is left at the end of an epoch is left out.
    description: what a run's config says of the task.
    """

    name: str
    init: Callable[[Key[Array, ""]], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[Array, tuple[PyTree, Metrics]]]
    evaluate: Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[PyTree, Metrics]]
    after_epoch: Callable[[PyTree], PyTree]
    train: PyTree
    valid: PyTree | None
    test: PyTree
    batch_size: int
    evaluation_batch: int
    shuffled: bool
    description: dict[str, Any]

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return count_examples(self.train) // self.batch_size


def count_examples(examples: PyTree) -> int:
    """The length of the first axis, which all arrays share."""
    return len(jax.tree.leaves(examples)[0])


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


def classify(
    name: str,
    dataset: Dataset,
    model: models.Model,
    *,
    protocol: Protocol | None = None,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 64,
    evaluation_batch: int = 500,
    hold_out: int = 0,
    train_size: int | None = None,
    test_size: int | None = None,
    dtype: Any = jnp.float32,
    init: Callable[[Array], tuple[PyTree, PyTree]] | None = None,
    description: dict[str, Any] | None = None,
) -> Task:
    """Classification of images by cross-entropy; metrics "loss" (nats) and "accuracy" (0 or 1).

    mean, std: of each channel in units of the full range; images are normalized by them. hold_out: training images
    that are set aside as `valid`, the same ones in every run: the last of a fixed shuffle. train_size, test_size: take
    only so many of the others, from the front of a fixed shuffle. init: in place of the model's own, to begin from
    trained weights. dtype: of the normalized images. Raises ValueError where there are fewer images than asked for.
    """
    protocol = protocol or Protocol()
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
        params, state = (init or model.init)(key)
        return params, Phase(state, jnp.asarray(True))

    def forward(params: PyTree, state: Phase, batch: Images, key: Array, augment: bool, train: Any) -> Any:
        for_augment, for_model = jax.random.split(key)
        images = batch.images
        if augment and protocol.augment is not None:
            images = protocol.augment(for_augment, images)
        inputs = normalize(images, mean, std, dtype)
        logits, after = model.apply(params, state.model, inputs, train=train, key=for_model)
        metrics = {
            "loss": losses.cross_entropy(logits, batch.labels),
            "accuracy": losses.is_hit(logits, batch.labels).astype(jnp.float32),
        }
        return Phase(after, state.training), metrics

    def loss(params: PyTree, state: Phase, batch: Images, key: Array) -> tuple[Array, tuple[Phase, Metrics]]:
        in_training = state.training if protocol.freeze_after_first_epoch else True
        state, metrics = forward(params, state, batch, key, True, in_training)
        return metrics["loss"].mean(), (state, metrics)

    def evaluate(params: PyTree, state: Phase, batch: Images, key: Array) -> tuple[Phase, Metrics]:
        return forward(params, state, batch, key, protocol.augment_test, False)

    def after_epoch(state: Phase) -> Phase:
        return state._replace(training=jnp.asarray(False)) if protocol.freeze_after_first_epoch else state

    return Task(
        name,
        start,
        loss,
        evaluate,
        after_epoch,
        train,
        valid,
        test,
        batch_size,
        min(evaluation_batch, len(test.labels)),
        True,
        {
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


def _take(name: str, images: Images, size: int | None) -> Images:
    """The first `size` of a fixed shuffle; all, in their order, where size is None."""
    if size is None:
        return images
    require_count(name, size)
    if size > len(images.labels):
        raise ValueError(f"{name}: wanted at most the {len(images.labels)} images there are, got {size}")
    order = np.random.default_rng(0).permutation(len(images.labels))[:size]
    return Images(*(array[order] for array in images))


SOURCE_MEAN = tuple(value / 255 for value in (129.3, 124.1, 112.4))
SOURCE_STD = tuple(value / 255 for value in (68.2, 65.4, 70.4))
"""Of CIFAR's channels, as the source article normalizes them."""

PROTOCOLS: NameTable[Protocol] = NameTable(
    "protocol",
    {
        "sound": Protocol(augment=crop_and_flip),
        "source": Protocol(augment=crop_and_flip, augment_test=True, freeze_after_first_epoch=True),
    },
)
"""sound: training images are cropped and flipped, nothing else. source: as the article's listing really runs."""


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
    """The source article's task: torchvision's ResNet18 with its second head, crop and flip, batches of 64.

    protocol: a name in `PROTOCOLS`. stem, head, width, dtype: of `models.resnet18`. weights: a file of torchvision's
    ResNet18 to begin from (`models.load_torchvision`), the article's `pretrained=True`; the second layer of
    head="source" is drawn. settings: of `classify`, batch_size, hold_out, train_size and test_size among them.
    """
    model = models.resnet18(10, stem=stem, head=head, width=width, dtype=dtype)
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


def _pretrained(model: models.Model, weights: str | Path) -> Callable[[Array], tuple[PyTree, PyTree]]:
    """An `init` that takes from the file what the file has, which is read once, here."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    trained = models.load_torchvision(weights, *shapes)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        def pick(mine: Any, drawn: Array) -> Array:
            return drawn if isinstance(mine, jax.ShapeDtypeStruct) else mine

        return jax.tree.map(pick, trained, model.init(key))

    return init


def perceptron(
    dataset: str,
    data_dir: str | Path | None = None,
    *,
    hidden: Sequence[int] = (64, 64),
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """A multilayer perceptron (`models.mlp`) on the data set, images centred to [-1, 1], nothing augmented."""
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
    """`perceptron` on MNIST: 60,000 images of 28 x 28, prepared before (`gdlab.data`)."""
    return perceptron("mnist", data_dir, **settings)


def fashion_mnist_mlp(data_dir: str | Path | None = None, **settings: Any) -> Task:
    """`perceptron` on Fashion-MNIST: 60,000 images of 28 x 28, prepared before (`gdlab.data`)."""
    return perceptron("fashion_mnist", data_dir, **settings)


TASKS: NameTable[Callable[..., Task]] = NameTable(
    "task", {make.__name__: make for make in (digits_mlp, mnist_mlp, fashion_mnist_mlp, cifar10_resnet18)}
)
"""Functions that return a task: `make(data_dir=None, **settings)`."""


def require_task(name: str, task: Any) -> tuple[str, ...]:
    """The names of the task's metrics; TypeError unless `task` is a Task, ValueError where its parts do not fit."""
    if not isinstance(task, Task):
        raise TypeError(f"{name}: wanted a Task, as the functions in gdlab.tasks.TASKS return, got {describe(task)}")
    require_count(f"{name}.batch_size", task.batch_size)
    require_count(f"{name}.evaluation_batch", task.evaluation_batch)
    for part, least in (("train", task.batch_size), ("valid", 1), ("test", 1)):
        examples = getattr(task, part)
        if examples is None and part == "valid":
            continue
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(f"{name}: wanted arrays of one length in {part}, got lengths {sorted(lengths)}")
        if count_examples(examples) < least:
            what = "training examples, a batch" if part == "train" else f"example in {part}"
            raise ValueError(f"{name}: wanted at least {least} {what}, got {count_examples(examples)}")
    key = jax.random.key(0)
    params, state = jax.eval_shape(task.init, key)
    batch = abstract_batch(task.train, task.batch_size)
    trained = tuple(jax.eval_shape(task.loss, params, state, batch, key)[1][1])
    evaluated = metric_names(task, params, state, task.test)
    if set(trained) != set(evaluated) or "loss" not in trained:
        raise ValueError(
            f'{name}: wanted the same metrics, "loss" among them, from loss and evaluate, got {sorted(trained)} and '
            f"{sorted(evaluated)}"
        )
    return evaluated


def abstract_batch(examples: PyTree, size: int) -> PyTree:
    """Shapes and dtypes of so many of the examples."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype), examples)


def metric_names(task: Task, params: PyTree, state: PyTree, examples: PyTree) -> tuple[str, ...]:
    """The names of what the task's `evaluate` returns, found without running it."""
    batch = abstract_batch(examples, min(task.evaluation_batch, count_examples(examples)))
    return tuple(jax.eval_shape(task.evaluate, params, state, batch, jax.random.key(0))[1])
