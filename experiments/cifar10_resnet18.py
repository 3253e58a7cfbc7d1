"""ResNet18 on CIFAR10 under seven optimizers: the source article's comparison, as published and done soundly.

The source article is a Paperspace tutorial that writes gradient descent and momentum from scratch, draws them on
Ackley's function and compares seven PyTorch optimizers on CIFAR10. Claim (in detail: CLAIMS): Adamax trains best; SGD,
Adam and AdamW end near it; Adagrad and Adadelta stay behind. The article's listing has faults that change what it
measures: from the second epoch on the model stays in evaluation mode, which freezes batch normalization, and test
images are augmented. --protocol source keeps these two, sound (the default) does not, both runs and compares the two.

Protocol: torchvision's ResNet18 with the article's head of two layers; random flips and crops; batches of 64; 50
epochs; PyTorch's default hyperparameters, except for SGD, which has learning rate 0.01 and momentum 0.9. The constants
of the normalization are the article's; CIFAR10's own are (125.3, 123.0, 113.9) / 255 and (63.0, 62.1, 66.7) / 255.
"Validation" means the test set, as in the article, unless --hold-out sets training images aside. A seed gives all
optimizers the same initial parameters, data order and augmentation: differences are paired over seeds. The article
starts from ImageNet weights: --weights FILE. `gdlab.analysis.claims` judges each claim by margins, one value per seed.

Command:   python experiments/cifar10_resnet18.py [--protocol both] [--seeds 0 1 2] [--width 16] [--smoke]
Expect:    report.md, results.json, tables and learning curves in --out, which also holds a folder for each run, so a
           killed command resumes and ends in the same numbers. The smoke run does not show which optimizer is better.
Runtime:   --smoke: 2.5 minutes on 2 idle CPU cores, most of it compilation. A seed of one protocol: 80 minutes on two
           fast cores with --width 16, and 6.5 hours at full width.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
from functools import partial
from pathlib import Path

import jax.numpy as jnp

from gdlab import OPTIMIZERS, comparison, models, plots, tasks
from gdlab.analysis import claims
from gdlab.analysis.claims import Claim, at_end, differences, judge_claim
from gdlab.arguments import require_choice, require_count, require_names
from gdlab.comparison import Candidate, Measure, Problem, Report, Run, Study, reports, summaries
from gdlab.comparison.curve_tables import curve_tables
from gdlab.comparison.options import Options, carry_out, parse, report_folder
from gdlab.compute.interrupts import command

ARTICLE = {
    **{"momentum": "SGD", "adam": "Adam", "adadelta": "Adadelta", "adagrad": "Adagrad", "adamw": "AdamW"},
    **{"adamax": "Adamax", "asgd": "ASGD"},
}
"""Names of the optimizers in gdlab, and in the article."""

SETTINGS = {"momentum": {"learning_rate": 0.01}}
"""Settings of the article that differ from our defaults, which are PyTorch's."""

Runs = dict[str, list[Run]]
Verdicts = list[claims.Verdict]
ACCURACY = Measure("accuracy (%)", "accuracy", lambda value: 100 * value, better="higher")
LOSS = Measure("loss (nats)", "loss", digits=4)
COLUMNS = {
    f"{part}_{measure.metric}": summaries.Column(f"{word} {measure.label}", measure, part)
    for measure in (ACCURACY, LOSS)
    for part, word in (("train", "training"), ("test", "test"))
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Settings of the benchmark: by default the article's, with options for narrower networks and less data."""

    out: Path = Path("runs/cifar10_resnet18")
    optimizers: tuple[str, ...] = tuple(ARTICLE)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 50
    workers: int = 1
    protocol: str = "sound"
    """The protocol to run: sound, source or both."""
    batch_size: int = 64
    width: int = 64
    """Channels of the first stage; a narrower network is faster."""
    stem: str = "imagenet"
    """First layers: imagenet (7x7, stride 2, and a pool) or cifar (3x3)."""
    head: str = "source"
    """Last layers: source (512 to 1000 to 10, as in the article) or linear (512 to 10)."""
    weights: Path | None = None
    """State dict of torchvision's ResNet18 to start from (.pth or .safetensors)."""
    train_size: int | None = None
    """Number of training images to use; default: all."""
    test_size: int | None = None
    hold_out: int = 0
    """Number of training images to set aside for validation."""
    patience: int | None = None
    """Stop a run when its validation loss has not improved for this many epochs, and report its best epoch."""
    smoke: bool = False
    """Run everything on a small scale, with other defaults for epochs, seeds, width, data and --out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expand("weights")
        for name, low in (("batch_size", 1), ("width", 1), ("hold_out", 0)):
            require_count(name, getattr(self, name), low=low)
        for name in ("train_size", "test_size", "patience"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        require_choice("stem", self.stem, models.STEMS)
        require_choice("head", self.head, models.HEADS)
        require_choice("protocol", self.protocol, (*tasks.PROTOCOLS, "both"))
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        if self.patience is not None and not self.hold_out and self.protocol != "source":
            raise ValueError("patience: expected --hold-out above 0, since runs must not stop by the test set; got 0")


SMOKE = Config(
    epochs=2, seeds=(0,), width=8, train_size=1024, test_size=500, out=Path("runs/cifar10_smoke"), smoke=True
)
TASK = ("batch_size", "width", "stem", "head", "weights", "train_size", "test_size", "hold_out")


def make_study(config: Config) -> Study:
    """Make a study with one problem per protocol, in which nothing is tuned."""
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
"""Two accuracies that differ by at most this count as alike."""
CLAIMS = (
    Claim(
        "Adamax is best in training throughout",
        "share of epochs in which no other optimizer of the article has a higher training accuracy, minus 0.9",
        LEADERS,
        lambda found: claims.share_ahead(found, "train_accuracy", "adamax") - 0.9,
        whole_curves=True,
        metric="train_accuracy",
    ),
    Claim(
        "Training ends in the order Adamax, SGD, Adam, AdamW",
        "final training accuracy of each, minus that of the next",
        LEADERS,
        lambda found: claims.in_order(found, "train_accuracy", LEADERS),
        metric="train_accuracy",
    ),
    Claim(
        "Adamax, SGD, Adam and AdamW end with similar test accuracy",
        f"{ALIKE} minus the difference of final test accuracies, for every pair in both directions",
        LEADERS,
        lambda found: ALIKE - differences(at_end(found, "test_accuracy"), LEADERS, LEADERS),
        metric="test_accuracy",
    ),
    Claim(
        "Adamax and SGD improve most in the first epochs",
        "mean test accuracy over the first tenth of the epochs, of each of the two minus each of the others",
        LEADERS,
        lambda found: differences(claims.early_means(found, "test_accuracy"), ("adamax", "momentum")),
        whole_curves=True,
        metric="test_accuracy",
    ),
    Claim(
        "Adam and AdamW have the lowest test loss",
        "final test loss of each of the others minus that of each of the two",
        LEADERS,
        lambda found: -differences(at_end(found, "test_loss"), ("adam", "adamw")),
        metric="test_loss",
    ),
    Claim(
        "SGD's and Adamax's test loss rises at the end",
        "mean test loss over the last fifth of the epochs, relative to the lowest mean over any fifth, minus 1.05",
        ("momentum", "adamax"),
        lambda found: claims.late_rises(found, "test_loss", ("momentum", "adamax")) - 1.05,
        whole_curves=True,
        metric="test_loss",
    ),
    Claim(
        "Adagrad and Adadelta improve linearly",
        "R^2 of a rising line fitted to training accuracy over epochs, minus 0.98",
        LAGGARDS,
        lambda found: claims.linearity(found, "train_accuracy", LAGGARDS) - 0.98,
        whole_curves=True,
        metric="train_accuracy",
    ),
    Claim(
        "Adagrad and Adadelta stay behind",
        f"final test accuracy of each of the other four minus that of each of the two, minus {ALIKE}",
        LEADERS + LAGGARDS,
        lambda found: differences(at_end(found, "test_accuracy"), LEADERS, LAGGARDS) - ALIKE,
        metric="test_accuracy",
    ),
)


def make_report(config: Config, study: Study) -> str:
    found = comparison.collect_all(study)
    runs = {problem.name: reports.longest(problem, found) for problem in study.problems}
    verdicts = {
        name: [judge_claim(claim, own, rivals=tuple(ARTICLE), labels=ARTICLE) for claim in CLAIMS]
        for name, own in runs.items()
    }
    random = [] if config.weights else ["random initial weights (ImageNet's)"]
    ours, source = (c.pick("epochs", "dtype", "patience", *TASK) for c in (config, Config(weights=config.weights)))
    report = Report()
    report.add("# ResNet18 on CIFAR10", *reports.provenance(study, found), reports.settings_line(ours, source, *random))
    with report_folder(config) as folder:
        for problem in study.problems:
            report_one(report, study, problem, runs[problem.name], verdicts[problem.name], folder / problem.name)
        if len(runs) == 2 and len(config.optimizers) > 1:
            compare_protocols(report, study, runs, folder / "protocols.png")
        report.add("## The article's claims", claims=reports.claims_table(verdicts))
        records = {name: [one.record() for one in own] for name, own in verdicts.items()}
        numbers = reports.numbers(study, found, [*COLUMNS.values()])
        report.write(folder, config=config.record(), protocols=numbers, claims=records)
    return str(report)


def report_one(report: Report, study: Study, problem: Problem, runs: Runs, verdicts: Verdicts, folder: Path) -> None:
    """Add the tables and verdicts of a protocol, and draw its curves with the claims that speak of them."""
    columns, rank_by = [*COLUMNS.values()], [each for name, each in COLUMNS.items() if name != "train_loss"]
    report.add(f"## The {problem.shown}", **summaries.problem_tables(study, problem, runs, columns, rank_by))
    if problem.patience is None:
        report.add(**curve_tables(study, problem, runs, COLUMNS["test_accuracy"]))
    report.add("The article's claims:", *reports.claims_blocks(verdicts))
    title = f"ResNet18 on CIFAR10, {problem.shown}\n{summaries.seeds_note(study)}"
    panels = summaries.panels_of(study, runs, columns)
    notes = {column.label: reports.claims_note(verdicts, name) for name, column in COLUMNS.items()}
    plots.save_learning(panels, folder, title=title, log_y=[False, False, None, None], notes=notes)


def compare_protocols(report: Report, study: Study, runs: dict[str, Runs], file: Path) -> None:
    """Add what the faults of the article's listing do to the ranking, and draw it."""
    column = COLUMNS["test_accuracy"]
    compared = summaries.orders_compared(runs["sound"], runs["source"], column)
    question = "Does the ranking by final test accuracy survive the article's faults?"
    report.add("## The two protocols compared", *summaries.orders_words(study, compared, question))
    report.results["comparison"] = compared
    if scores := summaries.scores_across(study, runs, column):
        title = f"Without the faults of the article's listing, and with them\n{summaries.seeds_note(study, 'bars')}"
        plots.save(plots.slopes(scores, [*runs], title=title, label=column.label), file)


if __name__ == "__main__":
    with command("cifar10_resnet18", OSError, ValueError, ImportError):
        options = parse(Config, __doc__, smoke=SMOKE)
        carry_out(options, make_study, partial(make_report, options))
