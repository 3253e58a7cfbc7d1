"""Tasks: data, model and loss joined as pure functions; `TASKS` holds them by name.

To add a task, write a model and a function in this package that returns a `Task`. For labelled images, `from_images`
and `classify` do most of the work.
"""

from collections.abc import Callable

from gdlab.tasks.checks import require_task
from gdlab.tasks.cifar10 import cifar10_resnet18
from gdlab.tasks.cifar100 import cifar100_vgg16
from gdlab.tasks.fashion_mnist import fashion_mnist_capsnet
from gdlab.tasks.images import CHANNELS, classify, from_images
from gdlab.tasks.mnist import mnist_vae
from gdlab.tasks.penn_treebank import ptb_lstm
from gdlab.tasks.perceptron import digits_mlp, fashion_mnist_mlp, mnist_mlp, perceptron
from gdlab.tasks.pipeline import PROTOCOLS, Forward, Phase, Protocol, measured
from gdlab.tasks.stl10 import stl10_wrn16_8
from gdlab.tasks.task import Task, count_examples, metric_names
from gdlab.types import NameTable

_TASKS: tuple[Callable[..., Task], ...] = (
    *(digits_mlp, mnist_mlp, fashion_mnist_mlp),
    *(cifar10_resnet18, cifar100_vgg16, stl10_wrn16_8, fashion_mnist_capsnet, ptb_lstm, mnist_vae),
)

TASKS: NameTable[Callable[..., Task]] = NameTable("task", {make.__name__: make for make in _TASKS})
"""Functions that return a task, by name; each is called as `make(data_dir=None, **settings)`."""

__all__ = [
    "CHANNELS",
    "PROTOCOLS",
    "TASKS",
    "Forward",
    "Phase",
    "Protocol",
    "Task",
    "classify",
    "count_examples",
    "from_images",
    "measured",
    "metric_names",
    "require_task",
    *sorted(TASKS),
    "perceptron",
]
