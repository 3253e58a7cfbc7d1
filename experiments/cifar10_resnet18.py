"""ResNet18 on CIFAR10 under seven optimizers: what the source article measured, and the same measured soundly.

The article's claims are CLAIMS below: Adamax trains best, SGD, Adam and AdamW end near it, Adagrad and Adadelta stay
behind. Its listing has faults that change what it measures: from the second epoch on the model stays in evaluation
mode, so that batch normalization is frozen, and test images are augmented. --protocol source keeps these two, sound
(the default) does not, both runs and compares them.

Protocol: torchvision's ResNet18 with the article's head of two layers; random flip and crop; batches of 64; 50 epochs;
PyTorch's defaults, but SGD with learning rate 0.01 and momentum 0.9. The normalization is the article's; CIFAR10's own
numbers are (125.3, 123.0, 113.9) / 255 and (63.0, 62.1, 66.7) / 255. "Validation" is the test set there, and here too
unless --hold-out sets training images aside. A seed gives all optimizers the same start, order of data and
augmentation, so differences are paired over seeds. The article starts from ImageNet's weights: --weights FILE. Each
claim is a set of margins (CLAIMS), with a value for each seed; `gdlab.analysis.claims` decides. Every (protocol,
optimizer, seed) is a run folder below --out: the same command goes on after a kill, and ends in the same numbers.

Command:   python experiments/cifar10_resnet18.py [--protocol both] [--seeds 0 1 2] [--dtype bfloat16] [--smoke]
Expect:    report.md, results.json, tables and learning curves in --out. A run that diverges is recorded, and the others
           go on. The smoke run tells whether all works, not which optimizer is better.
Runtime:   --smoke takes 2.5 minutes on 2 idle CPU cores, nearly all of it compilation. The benchmark needs a GPU.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path

import jax.numpy as jnp

from gdlab import OPTIMIZERS, comparison, plots, tasks
from gdlab.analysis import claims
from gdlab.analysis.claims import Claim, at_end, differences, judge
from gdlab.arguments import require_choice, require_names
from gdlab.comparison import Candidate, Measure, Problem, Report, Study
from gdlab.comparison.options import Options, carry_out, parse
from gdlab.comparison.reports import claims_blocks, claims_table, longest, numbers, provenance, settings_line
from gdlab.comparison.summaries import Column, orders_compared, orders_words, panels_of, problem_tables, seeds_note
from gdlab.records import staged_folder

ARTICLE = {
    **{"momentum": "SGD", "adam": "Adam", "adadelta": "Adadelta", "adagrad": "Adagrad", "adamw": "AdamW"},
    **{"adamax": "Adamax", "asgd": "ASGD"},
}
"""Our names, and the article's."""

SETTINGS = {"momentum": {"learning_rate": 0.01}}
"""Where our defaults, which are PyTorch's, are not the article's settings."""

ACCURACY = Measure("accuracy (%)", "accuracy", lambda value: 100 * value, better="higher")
LOSS = Measure("loss (nats)", "loss", digits=4)
COLUMNS = {
    f"{part}_{measure.metric}": Column(f"{word} {measure.label}", measure, part)
    for measure in (ACCURACY, LOSS)
    for part, word in (("train", "training"), ("test", "test"))
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Options):
    """The article's settings, and how often, how wide and on how much data to run them."""

    out: Path = Path("runs/cifar10_resnet18")
    optimizers: tuple[str, ...] = tuple(ARTICLE)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 50
    workers: int = 1
    protocol: str = "sound"
    """sound, source or both."""
    batch_size: int = 64
    width: int = 64
    """Channels of the first stage; a narrower twin is quicker."""
    stem: str = "imagenet"
    """imagenet (7x7, stride 2, and a pool) or cifar (3x3)."""
    head: str = "source"
    """source (512 to 1000 to 10, as in the article) or linear (512 to 10)."""
    weights: Path | None = None
    """A state dict of torchvision's ResNet18 to start from (.pth or .safetensors)."""
    train_size: int | None = None
    """Use only so many training images."""
    test_size: int | None = None
    hold_out: int = 0
    """Training images that are set aside for validation."""
    patience: int | None = None
    """Stop a run when its validation loss has not improved for so many epochs, and report its best epoch."""
    smoke: bool = False
    """A small run of everything: other defaults for epochs, seeds, width, data and --out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("protocol", self.protocol, (*tasks.PROTOCOLS, "both"))
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        if self.patience is not None and not self.hold_out and self.protocol != "source":
            raise ValueError("patience: wanted --hold-out above 0 with it, not to stop by what is reported; got 0")


SMOKE = Config(
    epochs=2, seeds=(0,), width=8, train_size=1024, test_size=500, out=Path("runs/cifar10_smoke"), smoke=True
)
TASK = ("batch_size", "width", "stem", "head", "weights", "train_size", "test_size", "hold_out")


def make_study(config: Config) -> Study:
    """A problem per protocol; nothing is tuned."""
    dtype = jnp.dtype(config.dtype)
    make = partial(tasks.cifar10_resnet18, config.data_dir, dtype=dtype, **config.pick(*TASK))
    problems = [
        Problem(
            protocol,
            partial(make, protocol=protocol),
            (config.epochs,),
            ACCURACY,
            {name: [SETTINGS.get(name, {})] for name in config.optimizers},
            patience=config.patience,
            label=f"{protocol} protocol",
        )
        for protocol in (tasks.PROTOCOLS if config.protocol == "both" else (config.protocol,))
    ]
    candidates = [Candidate(name, OPTIMIZERS[name], ARTICLE.get(name, "")) for name in config.optimizers]
    return Study(config.out, problems, candidates, config.seeds, together=False)


LEADERS, LAGGARDS = ("adamax", "momentum", "adam", "adamw"), ("adagrad", "adadelta")
ALIKE = 0.02
"""Two accuracies are alike within this."""
CLAIMS = (
    Claim(
        "Adamax is best in training throughout",
        "share of epochs in which no other optimizer of the article has a higher training accuracy, less 0.9",
        LEADERS,
        lambda found: claims.share_ahead(found, "train_accuracy", "adamax") - 0.9,
        whole_curves=True,
    ),
    Claim(
        "Training ends in the order Adamax, SGD, Adam, AdamW",
        "final training accuracy, each less the next one's",
        LEADERS,
        lambda found: claims.in_order(found, "train_accuracy", LEADERS),
    ),
    Claim(
        "On test accuracy Adamax, SGD, Adam and AdamW end alike",
        f"{ALIKE} less the difference of final test accuracy, for every pair in both directions",
        LEADERS,
        lambda found: ALIKE - differences(at_end(found, "test_accuracy"), LEADERS, LEADERS),
    ),
    Claim(
        "Adamax and SGD improve most in the first epochs",
        "mean test accuracy over the first tenth of the epochs, each of the two less each of the others",
        LEADERS,
        lambda found: differences(claims.early_means(found, "test_accuracy"), ("adamax", "momentum")),
        whole_curves=True,
    ),
    Claim(
        "Adam and AdamW have the lowest test loss",
        "final test loss, each of the others less each of the two",
        LEADERS,
        lambda found: -differences(at_end(found, "test_loss"), ("adam", "adamw")),
    ),
    Claim(
        "SGD's and Adamax's test loss rises at the end",
        "mean test loss over the last fifth of the epochs, relative to the least mean over any fifth, less 1.05",
        ("momentum", "adamax"),
        lambda found: claims.late_rises(found, "test_loss", ("momentum", "adamax")) - 1.05,
        whole_curves=True,
    ),
    Claim(
        "Adagrad and Adadelta improve linearly",
        "R^2 of a rising line through training accuracy over epochs, less 0.98",
        LAGGARDS,
        lambda found: claims.linearity(found, "train_accuracy", LAGGARDS) - 0.98,
        whole_curves=True,
    ),
    Claim(
        "Adagrad and Adadelta stay behind",
        f"final test accuracy of each of the other four less each of the two, less {ALIKE}",
        LEADERS + LAGGARDS,
        lambda found: differences(at_end(found, "test_accuracy"), LEADERS, LAGGARDS) - ALIKE,
    ),
)


def make_report(config: Config, study: Study) -> str:
    found = comparison.collect_all(study)
    runs = {problem.name: longest(problem, found) for problem in study.problems}
    verdicts = {
        name: [judge(claim, own, rivals=tuple(ARTICLE), labels=ARTICLE) for claim in CLAIMS]
        for name, own in runs.items()
    }
    random = [] if config.weights else ["random initial weights (ImageNet's)"]
    report = Report()
    ours, article = (
        each.pick("epochs", "dtype", "patience", *TASK) for each in (config, Config(weights=config.weights))
    )
    report.add("# ResNet18 on CIFAR10", *provenance(study, found), settings_line(ours, article, *random))
    rank_by = [COLUMNS[name] for name in ("test_accuracy", "train_accuracy", "test_loss")]
    with staged_folder(config.out) as folder:
        for problem in study.problems:
            own = runs[problem.name]
            report.add(f"## The {problem.shown}", **problem_tables(study, problem, own, [*COLUMNS.values()], rank_by))
            report.add("The article's claims:", *claims_blocks(verdicts[problem.name]))
            title = f"ResNet18 on CIFAR10, {problem.shown}\n{seeds_note(study)}"
            panels = panels_of(study, own, [*COLUMNS.values()])
            plots.save_learning(panels, folder / problem.name, title=title, log_y=[False, False, None, None])
        if len(runs) == 2 and len(config.optimizers) > 1:
            compared = orders_compared(runs["sound"], runs["source"], COLUMNS["test_accuracy"])
            question = "Does the ranking by final test accuracy survive the article's faults?"
            report.add("## Sound and source", *orders_words(study, compared, question))
            report.results["comparison"] = compared
        report.add("## The article's claims", claims=claims_table(verdicts))
        records = {name: [one.record() for one in own] for name, own in verdicts.items()}
        protocols = numbers(study, found, [*COLUMNS.values()])
        report.write(folder, config=config.record(), protocols=protocols, claims=records)
    return str(report)


if __name__ == "__main__":
    try:
        options = parse(Config, __doc__, smoke=SMOKE)
        carry_out(options, make_study, partial(make_report, options))
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"cifar10_resnet18: {error}")
