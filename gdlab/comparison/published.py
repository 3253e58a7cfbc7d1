"""Published results, with their sources, to compare measured results with."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gdlab.analysis.statistics import sign_of
from gdlab.analysis.tables import Table, counted
from gdlab.comparison.study import Study
from gdlab.comparison.summaries import Found, cell, values
from gdlab.types import NameTable


class Published(NamedTuple):
    """A published result over several runs.

    Attributes:
      mean: the mean, as printed.
      sd: the standard deviation, as printed.
    """

    mean: float
    sd: float


def _row(*values: float) -> tuple[Published, ...]:
    return tuple(Published(mean, sd) for mean, sd in zip(values[::2], values[1::2], strict=True))


class Benchmark(NamedTuple):
    """The published results of one task.

    Attributes:
      unit: the unit of all numbers.
      epochs: the number of epochs of each column.
      rows: the results of each optimizer, one per column.
    """

    unit: str
    epochs: tuple[int, ...]
    rows: dict[str, tuple[Published, ...]]


DEMON_BENCHMARK: NameTable[Benchmark] = NameTable(
    "task of the Demon benchmark",
    {
        "cifar10_resnet18": Benchmark(
            "error %",
            (30, 75, 150, 300),
            {
                "adam": _row(16.58, 0.18, 13.63, 0.22, 11.90, 0.06, 11.94, 0.06),
                "amsgrad": _row(16.98, 0.36, 13.43, 0.14, 11.83, 0.12, 10.48, 0.12),
                "adamw": _row(15.39, 0.46, 12.46, 0.52, 11.38, 0.21, 10.50, 0.17),
                "qhadam": _row(16.41, 0.38, 15.55, 0.25, 13.78, 0.08, 13.36, 0.11),
                "yellowfin": _row(17.25, 0.15, 13.66, 0.34, 12.13, 0.41, 11.39, 0.16),
                "demon_adam": _row(11.75, 0.15, 9.69, 0.10, 8.83, 0.08, 8.44, 0.05),
                "momentum": _row(11.80, 0.11, 8.82, 0.25, 8.43, 0.07, 7.32, 0.14),
                "aggmo": _row(11.14, 0.34, 8.71, 0.24, 7.93, 0.15, 7.62, 0.03),
                "qhm": _row(10.66, 0.17, 8.72, 0.14, 7.95, 0.17, 7.67, 0.10),
                "demon_sgdm": _row(10.39, 0.39, 8.74, 0.28, 7.82, 0.27, 7.58, 0.04),
            },
        ),
        "cifar100_vgg16": Benchmark(
            "error %",
            (75, 150, 300),
            {
                "adam": _row(37.98, 0.20, 33.62, 0.11, 31.09, 0.09),
                "amsgrad": _row(40.67, 0.65, 34.46, 0.21, 31.62, 0.12),
                "adamw": _row(36.96, 1.21, 33.48, 0.68, 32.22, 0.13),
                "qhadam": _row(36.53, 0.20, 32.96, 0.11, 30.97, 0.10),
                "yellowfin": _row(86.24, 3.54, 68.87, 5.82, 50.18, 4.02),
                "demon_adam": _row(32.40, 0.19, 28.84, 0.18, 27.11, 0.19),
                "momentum": _row(35.04, 0.24, 30.09, 0.32, 27.83, 0.30),
                "aggmo": _row(34.40, 0.60, 30.75, 0.55, 28.64, 0.45),
                "qhm": _row(33.27, 0.56, 29.93, 0.13, 29.01, 0.54),
                "demon_sgdm": _row(33.08, 0.49, 30.22, 0.50, 27.71, 0.05),
            },
        ),
        "stl10_wrn16_8": Benchmark(
            "error %",
            (50, 100, 200),
            {
                "adam": _row(23.35, 0.20, 19.63, 0.26, 18.65, 0.07),
                "amsgrad": _row(21.73, 0.25, 19.35, 0.20, 18.21, 0.18),
                "adamw": _row(20.39, 0.62, 18.55, 0.23, 17.00, 0.41),
                "qhadam": _row(21.25, 0.22, 19.81, 0.18, 18.52, 0.25),
                "yellowfin": _row(22.55, 0.14, 20.68, 0.04, 18.56, 0.33),
                "demon_adam": _row(19.42, 0.10, 17.82, 0.34, 16.87, 0.36),
                "momentum": _row(22.42, 0.56, 17.20, 0.35, 14.51, 0.26),
                "aggmo": _row(21.37, 0.32, 17.15, 0.35, 14.49, 0.26),
                "qhm": _row(21.75, 0.31, 18.21, 0.48, 14.44, 0.23),
                "demon_sgdm": _row(19.45, 0.20, 15.98, 0.40, 13.67, 0.13),
            },
        ),
        "fashion_mnist_capsnet": Benchmark(
            "error %",
            (50, 100),
            {
                "adam": _row(9.27, 0.08, 9.25, 0.11),
                "amsgrad": _row(9.39, 0.18, 9.28, 0.19),
                "adamw": _row(9.78, 0.62, 9.92, 0.74),
                "qhadam": _row(9.30, 0.23, 9.24, 0.15),
                "yellowfin": _row(10.96, 0.65, 10.55, 0.84),
                "demon_adam": _row(8.82, 0.12, 8.76, 0.13),
            },
        ),
        "ptb_lstm": Benchmark(
            "perplexity",
            (25, 39),
            {
                "adam": _row(115.54, 0.64, 115.02, 0.52),
                "amsgrad": _row(108.07, 0.19, 107.87, 0.25),
                "adamw": _row(116.27, 2.57, 116.21, 2.14),
                "qhadam": _row(112.52, 0.23, 112.45, 0.39),
                "yellowfin": _row(123.52, 0.52, 115.55, 0.23),
                "demon_adam": _row(101.57, 0.32, 101.44, 0.47),
                "momentum": _row(89.59, 0.07, 87.57, 0.11),
                "aggmo": _row(89.09, 0.16, 89.07, 0.15),
                "qhm": _row(94.47, 0.19, 94.44, 0.13),
                "demon_sgdm": _row(88.33, 0.16, 88.32, 0.12),
            },
        ),
        "mnist_vae": Benchmark(
            "negative ELBO (nats)",
            (50, 100, 200),
            {
                "adam": _row(136.28, 0.18, 134.64, 0.14, 134.66, 0.17),
                "amsgrad": _row(137.89, 0.12, 135.69, 0.03, 134.75, 0.18),
                "qhadam": _row(136.69, 0.17, 134.84, 0.08, 134.12, 0.12),
                "yellowfin": _row(414.74, 5.00, 351.80, 6.68, 286.69, 6.68),
                "demon_adam": _row(134.46, 0.17, 134.12, 0.08, 133.87, 0.21),
                "momentum": _row(140.28, 0.51, 137.70, 0.93, 136.34, 0.31),
                "aggmo": _row(139.49, 0.99, 136.56, 0.28, 134.93, 0.40),
                "qhm": _row(142.47, 0.50, 137.97, 0.54, 135.97, 0.29),
                "demon_sgdm": _row(139.32, 0.23, 137.51, 0.29, 135.95, 0.21),
            },
        ),
    },
)
"""The Demon benchmark's two tables, for adaptive and non-adaptive methods.

Learning rate and momentum were searched over grids; the chosen values are not published.

References:
  Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", ICASSP 2022
    (https://arxiv.org/abs/1910.04952); numbers from the first author's article of 28 February 2020
    (johnchenresearch.github.io).
"""


def published(task: str, optimizer: str, epochs: int) -> Published | None:
    """Return the Demon benchmark's result for a task, an optimizer and a number of epochs, or None if there is none."""
    if task not in DEMON_BENCHMARK:
        return None
    found = DEMON_BENCHMARK[task]
    if optimizer not in found.rows or epochs not in found.epochs:
        return None
    return found.rows[optimizer][found.epochs.index(epochs)]


def published_beside(
    study: Study,
    found: Found,
    names: Sequence[str],
    published: Callable[[str, str, int], str | None],
    caption: str,
) -> Table:
    """Make a table of measured results, with published results in columns beside them.

    There is one row per candidate and one column per problem and number of epochs. The best mean of a column has a
    star.

    Args:
      study: the study.
      found: what the folders hold for each problem and candidate.
      names: the candidates to show.
      published: a function of (problem, candidate, epochs) that returns the published result as text, or None.
      caption: the table's caption.

    Returns:
      The table.
    """
    head, columns = ["optimizer"], []
    for problem in study.problems:
        for epochs in problem.epochs:
            own = {name: values(found[problem.name][name].runs[epochs], problem.measure) for name in names}
            costs = {
                name: sign_of(problem.measure.better) * each.mean() if each.size == len(study.seeds) else np.inf
                for name, each in own.items()
            }
            least = min(costs.values())
            head.append(f"{problem.shown}, {problem.measure.label}, {counted(epochs, 'epoch')}")
            columns.append(
                [
                    cell(problem.measure, own[name], len(study.seeds))
                    + ("*" if np.isfinite(least) and costs[name] == least else "")
                    for name in names
                ]
            )
            theirs = [published(problem.name, name, epochs) for name in names]
            if any(theirs):
                head.append(f"{problem.shown}, published, {counted(epochs, 'epoch')}")
                columns.append([text or "-" for text in theirs])
    rows = [(study.candidate(name).shown, *cells) for name, *cells in zip(names, *columns, strict=True)]
    return Table(head, rows, caption)
