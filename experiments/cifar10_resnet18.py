"""ResNet18 on CIFAR10 under seven optimizers: what the source article measured, and the same measured soundly.

Claims of the article: Adamax is best in training throughout, then SGD, Adam, AdamW; on validation accuracy these four
end alike; Adam and AdamW have the lowest validation loss, while SGD's and Adamax's rise at the end; Adagrad and
Adadelta improve linearly and stay behind. Its listing has faults that change what it measures: from the second epoch on
the model stays in evaluation mode, so that batch normalization is frozen, and test images are augmented. --protocol
source keeps these two, sound (the default) does not, both runs and compares them. (Two more are in no protocol: all
optimizers share one list of results, and batches of unequal size weigh the same.)

Protocol: torchvision's ResNet18 with the article's head of two layers; random flip and crop; batches of 64; 50 epochs;
PyTorch's defaults, but SGD with learning rate 0.01 and momentum 0.9. The normalization is the article's; CIFAR10's own
numbers are (125.3, 123.0, 113.9) / 255 and (63.0, 62.1, 66.7) / 255. "Validation" is the test set there, and here too
unless --hold-out sets training images aside. A seed gives all optimizers the same start, order of data and
augmentation, so differences are paired over seeds. The article starts from ImageNet's weights: --weights FILE. Each
claim is a set of margins (CLAIMS), with a value for each seed. It holds where the bootstrap intervals of all means lie
above 0, it does not hold where one lies below, and otherwise it cannot be told.

Every (protocol, optimizer, seed) is a run folder below --out. The same command goes on after a kill, and ends in the
same numbers.

Command:   python experiments/cifar10_resnet18.py [--protocol both] [--seeds 0 1 2] [--dtype bfloat16] [--smoke]
Expect:    an epoch's row on the console (its time is with evaluation); report.md, results.json, tables
           and learning curves in --out. A run that diverges is recorded, and the others go on. The smoke run tells
           whether all works, not which optimizer is better.
Runtime:   --smoke takes 2.5 minutes on 2 idle CPU cores, nearly all of it compilation; 8 were measured on two that
           others used as well. The benchmark needs a GPU.
"""

import dataclasses
import inspect
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import tyro
from tqdm.auto import tqdm

from gdlab import OPTIMIZERS, plots, runs, tasks
from gdlab import statistics as st
from gdlab.arguments import require_choice, require_count, require_names
from gdlab.runs import staged_folder, write_json
from gdlab.tables import Block, Table, render
from gdlab.training import Training, train

ARTICLE = {
    "momentum": "SGD",
    "adam": "Adam",
    "adadelta": "Adadelta",
    "adagrad": "Adagrad",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "asgd": "ASGD",
}
"""Our names, and the article's."""

ARGUMENTS: dict[str, dict[str, Any]] = {"momentum": {"learning_rate": 0.01}}
"""Where our defaults, which are PyTorch's, are not the article's settings."""

DATASETS = {"cifar10": tasks.cifar10_resnet18}
SMOKE = {
    "epochs": 2,
    "seeds": (0,),
    "width": 8,
    "train_size": 1024,
    "test_size": 500,
    "out": Path("runs/cifar10_smoke"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The article's settings, and how often, how wide and on how much data to run them."""

    out: Path = Path("runs/cifar10_resnet18")
    """Folder for the runs, and for the report, results.json, tables and figures."""
    data_dir: Path | None = None
    """Where data sets were prepared; otherwise $GDLAB_DATA_DIR, then ~/tensorflow_datasets."""
    dataset: str = "cifar10"
    protocol: str = "sound"
    """sound, source or both."""
    optimizers: tuple[str, ...] = tuple(ARTICLE)
    """Names in OPTIMIZERS."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 50
    batch_size: int = 64
    width: int = 64
    """Channels of the first stage; a narrower twin is quicker."""
    stem: str = "imagenet"
    """imagenet (7x7, stride 2, and a pool) or cifar (3x3)."""
    head: str = "source"
    """source (512 to 1000 to 10, as in the article) or linear (512 to 10)."""
    dtype: str = "float32"
    """What the network computes in: float32 or bfloat16."""
    weights: Path | None = None
    """A state dict of torchvision's ResNet18 to start from (.pth or .safetensors)."""
    train_size: int | None = None
    """Use only so many training images."""
    test_size: int | None = None
    hold_out: int = 0
    """Training images that are set aside for validation."""
    patience: int | None = None
    """Stop a run when its validation loss has not improved for so many epochs, and report its best epoch."""
    checkpoint_every: int = 1
    """Epochs; a killed run repeats those since its last checkpoint."""
    tensorboard: bool = False
    """Also write events for TensorBoard to OUT/tensorboard (needs the extra `tensorboard`)."""
    smoke: bool = False
    """A small run of everything: whatever is left at its default is made smaller."""

    def __post_init__(self) -> None:
        if self.smoke:
            for name, value in SMOKE.items():
                if getattr(self, name) == type(self).__dataclass_fields__[name].default:
                    object.__setattr__(self, name, value)
        require_choice("dataset", self.dataset, DATASETS)
        require_choice("protocol", self.protocol, (*tasks.PROTOCOLS, "both"))
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        require_count("epochs", self.epochs)
        for name in ("seeds", "optimizers"):
            if not (values := getattr(self, name)) or len(set(values)) < len(values):
                raise ValueError(f"{name}: wanted at least one, each once, got {' '.join(map(str, values)) or 'none'}")
        if self.patience is not None and not self.hold_out and self.protocol != "source":
            raise ValueError(
                "patience: wanted --hold-out above 0 with it, since stopping by the test set chooses by what is "
                "reported; got --hold-out 0"
            )

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of those to run."""
        return tuple(tasks.PROTOCOLS) if self.protocol == "both" else (self.protocol,)


# --- running -------------------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    return ARTICLE.get(name, "plain SGD" if name == "sgd" else name)


def make_task(config: Config, protocol: str) -> tasks.Task:
    names = ("batch_size", "width", "stem", "head", "weights", "train_size", "test_size", "hold_out")
    settings = {name: getattr(config, name) for name in names}
    dtype = jnp.dtype(config.dtype)
    return DATASETS[config.dataset](config.data_dir, protocol=protocol, dtype=dtype, **settings)


def make_arguments(name: str, steps: int) -> dict[str, Any]:
    needs = inspect.signature(OPTIMIZERS[name]).parameters
    return ARGUMENTS.get(name, {}) | ({"total_steps": steps} if "total_steps" in needs else {})


def epochs_before(folder: Path) -> int:
    """How many epochs a run folder holds, whose rows `train` repeats."""
    try:
        return len(runs.read_run(folder).seconds.get("epoch", []))
    except (OSError, ValueError):
        return 0


def event_writer(config: Config, *run: str) -> Any:
    """A writer of events in a folder that is new with each start, since all rows come again; None if not wanted."""
    if not config.tensorboard:
        return None
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard: wanted the package tensorboardX: pip install 'gdlab[tensorboard]'") from None
    folder = config.out.joinpath("tensorboard", *run)
    return SummaryWriter(str(folder / f"start-{len(list(folder.glob('start-*'))):03d}")) if run else None


def run_all(config: Config) -> dict[str, dict[str, list[Training]]]:
    """Protocol -> optimizer -> a training for each seed. One task and optimizer serve all seeds: compiled once."""
    event_writer(config)  # is the package there?
    todo = list(itertools.product(config.protocols, config.optimizers, config.seeds))
    folders = {each: config.out.joinpath("runs", *each[:2], f"seed-{each[2]}") for each in todo}
    found: dict[str, dict[str, list[Training]]] = {}
    before = sum(min(epochs_before(folder), config.epochs) for folder in folders.values())
    with tqdm(
        total=len(todo) * config.epochs, initial=before, desc="all runs", unit="epoch", position=0, disable=None
    ) as total:
        for protocol in config.protocols:
            task = make_task(config, protocol)
            for name in config.optimizers:
                arguments = make_arguments(name, config.epochs * task.steps)
                optimizer = OPTIMIZERS[name](**arguments)
                for seed in config.seeds:
                    each = (protocol, name, seed)
                    tqdm.write(f"\n{protocol}, {shown(name)}, seed {seed} (run {todo.index(each) + 1} of {len(todo)})")
                    tqdm.write(HEAD)
                    about = {"optimizer": {"name": name, "arguments": arguments}, "dataset": config.dataset}
                    training = run_one(config, task, optimizer, each, folders[each], about, total)
                    training = training._replace(params=None, state=None)  # the folders have them
                    found.setdefault(protocol, {}).setdefault(name, []).append(training)
    return found


HEAD = f"{'epoch':>6}{'train acc':>11}{'train loss':>12}{'val acc':>10}{'val loss':>11}{'time':>10}"


def run_one(
    config: Config,
    task: tasks.Task,
    optimizer: Any,
    each: tuple[str, str, int],
    folder: Path,
    about: Mapping[str, Any],
    total: tqdm,
) -> Training:
    """Train, or go on; each epoch gives a line, a tick of both bars, and events."""
    protocol, name, seed = each
    before, part = epochs_before(folder), "valid" if config.hold_out else "test"
    writer = event_writer(config, protocol, name, f"seed-{seed}")
    label = f"{protocol} {shown(name)} {seed}"
    with tqdm(
        total=config.epochs, initial=before, desc=label, unit="epoch", position=1, leave=False, disable=None
    ) as bar:
        bar.set_postfix_str("compiling")

        def follow(row: Mapping[str, Any]) -> None:
            epoch = row["epoch"]
            tqdm.write(
                f"{epoch:>6}{row['train_accuracy']:>11.2%}{row['train_loss']:>12.4f}{row[f'{part}_accuracy']:>10.2%}"
                f"{row[f'{part}_loss']:>11.4f}{row['seconds']:>8.1f} s"
            )
            if writer is not None:
                for key, value in row.items():
                    if key not in ("epoch", "seconds") and np.isfinite(value):
                        writer.add_scalar(key.replace("_", "/", 1), value, epoch)
            if epoch > before:
                bar.set_postfix(train=f"{row['train_loss']:.3f}", val=f"{row[f'{part}_accuracy']:.1%}")
                bar.update()
                total.update()

        training = train(
            task,
            optimizer,
            epochs=config.epochs,
            seed=seed,
            folder=folder,
            config=about,
            patience=config.patience,
            checkpoint_every=config.checkpoint_every,
            progress=False,
            on_epoch=follow,
        )
    if writer is not None:
        writer.close()
    done = len(training.seconds)
    if training.diverged:
        tqdm.write(f"diverged: the loss of step {training.failed_at} is not finite; the other runs go on")
    elif training.stopped:
        tqdm.write(
            f"stopped: no lower validation loss for {config.patience} epochs; epoch {training.best_epoch} is kept"
        )
    total.update(config.epochs - max(done, before))  # what ended early counts as done
    return training


# --- analysis: pure functions from trainings to numbers ------------------------------------------------------------

METRICS = {
    "train_accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "train_loss": "training loss (nats)",
    "test_loss": "test loss (nats)",
}


Found = Mapping[str, Sequence[Training]]
"""Of each optimizer a training for each seed."""


def kept(training: Training, patience: int | None) -> Training:
    """The training up to the epoch whose model counts: the best one with early stopping, else all of it."""
    if patience is None or training.diverged:
        return training
    epochs = slice(training.best_epoch)
    history = {name: values[epochs] for name, values in training.history.items()}
    return training._replace(history=history, seconds=training.seconds[epochs])


def at_epoch(trainings: Sequence[Training], metric: str, which: str = "final") -> np.ndarray:
    """The metric of each seed at its "final" or "best" epoch; a run that diverged ends with accuracy -inf, loss inf."""
    values = []
    for training in trainings:
        history = training.history[metric]
        if which == "best" and training.best_epoch:
            values.append(history[training.best_epoch - 1])
        else:
            failure = np.inf if metric.endswith("loss") else -np.inf
            values.append(failure if training.diverged or np.isnan(history[-1]) else history[-1])
    return np.array(values, float)


def summarize(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation over seeds and Student's interval; None where a run diverged or there is one seed."""
    well = bool(np.isfinite(values).all())
    interval = st.mean_interval(values) if well else st.Interval(None, None, None)
    spread = float(values.std(ddof=1)) if well and len(values) > 1 else None
    return {"values": values, "mean": interval.estimate, "sd": spread, "low": interval.low, "high": interval.high}


def rank(found: Found, metric: str) -> list[dict[str, Any]]:
    """Optimizers by the mean of their final metric, the best first; differences are positive where it leads."""
    names = list(found)
    sign = -1.0 if metric.endswith("loss") else 1.0
    ranked = st.ranking(np.stack([sign * at_epoch(found[name], metric) for name in names]))
    return [
        {
            "optimizer": names[index],
            "mean": sign * ranked.mean[place],
            "mean_rank": ranked.rank[place],
            "behind": [end[place] for end in ranked.behind],
            "ahead": [end[place] for end in ranked.ahead],
        }
        for place, index in enumerate(ranked.order)
    ]


def final(found: Found, metric: str) -> dict[str, np.ndarray]:
    return {name: at_epoch(trainings, metric) for name, trainings in found.items()}


def curves(found: Found, metric: str) -> dict[str, np.ndarray]:
    """Of each optimizer, shape (seeds, epochs)."""
    return {name: np.stack([each.history[metric] for each in trainings]) for name, trainings in found.items()}


def differences(values: Mapping[str, np.ndarray], first: Sequence[str], second: Sequence[str] = ()) -> np.ndarray:
    """Each of the first less each of the second, which are by default all others; a row a pair."""
    return np.array([values[a] - values[b] for a in first for b in second or [n for n in values if n not in first]])


def share_led(found: Found) -> np.ndarray:
    accuracy = curves(found, "train_accuracy")
    rest = np.max([curve for name, curve in accuracy.items() if name != "adamax"], axis=0)
    return np.array([(accuracy["adamax"] >= rest).mean(axis=1)])


def training_order(found: Found) -> np.ndarray:
    accuracy = final(found, "train_accuracy")
    return np.array([accuracy[better] - accuracy[worse] for better, worse in itertools.pairwise(LEADERS)])


def early_lead(found: Found) -> np.ndarray:
    accuracy = curves(found, "test_accuracy").items()
    early = {name: curve[:, : -(-curve.shape[1] // 10)].mean(axis=1) for name, curve in accuracy}
    return differences(early, ("adamax", "momentum"))


def late_rise(found: Found) -> np.ndarray:
    losses = [curves(found, "test_loss")[name] for name in ("momentum", "adamax")]
    fifths = [np.lib.stride_tricks.sliding_window_view(loss, loss.shape[1] // 5, 1).mean(axis=-1) for loss in losses]
    return np.array([means[:, -1] / means.min(axis=1) for means in fifths])


def linearity(found: Found) -> np.ndarray:
    def fit(curve: np.ndarray) -> float:
        r = np.corrcoef(np.arange(len(curve)), curve)[0, 1] if np.ptp(curve) else 0.0
        return float(r * abs(r))  # a falling line is no improvement

    return np.array([[fit(curve) for curve in curves(found, "train_accuracy")[name]] for name in LAGGARDS])


class Claim(NamedTuple):
    """margins(found) -> (margins, seeds): all must be positive in the mean. trend: whether it is about whole curves."""

    text: str
    criterion: str
    needs: tuple[str, ...]
    trend: bool
    margins: Callable[[Found], np.ndarray]


LEADERS, LAGGARDS = ("adamax", "momentum", "adam", "adamw"), ("adagrad", "adadelta")
ALIKE = 0.02
"""Two accuracies are alike within this."""
CLAIMS = (
    Claim(
        "Adamax is best in training throughout",
        "share of epochs in which no other optimizer of the article has a higher training accuracy, less 0.9",
        LEADERS,
        True,
        lambda found: share_led(found) - 0.9,
    ),
    Claim(
        "Training ends in the order Adamax, SGD, Adam, AdamW",
        "final training accuracy, each less the next one's",
        LEADERS,
        False,
        training_order,
    ),
    Claim(
        "On test accuracy Adamax, SGD, Adam and AdamW end alike",
        f"{ALIKE} less the difference of final test accuracy, for every pair in both directions",
        LEADERS,
        False,
        lambda found: ALIKE - differences(final(found, "test_accuracy"), LEADERS, LEADERS),
    ),
    Claim(
        "Adamax and SGD improve most in the first epochs",
        "mean test accuracy over the first tenth of the epochs, each of the two less each of the others",
        LEADERS,
        True,
        early_lead,
    ),
    Claim(
        "Adam and AdamW have the lowest test loss",
        "final test loss, each of the others less each of the two",
        LEADERS,
        False,
        lambda found: -differences(final(found, "test_loss"), ("adam", "adamw")),
    ),
    Claim(
        "SGD's and Adamax's test loss rises at the end",
        "mean test loss over the last fifth of the epochs, relative to the least mean over any fifth, less 1.05",
        ("momentum", "adamax"),
        True,
        lambda found: late_rise(found) - 1.05,
    ),
    Claim(
        "Adagrad and Adadelta improve linearly",
        "R^2 of a rising line through training accuracy over epochs, less 0.98",
        LAGGARDS,
        True,
        lambda found: linearity(found) - 0.98,
    ),
    Claim(
        "Adagrad and Adadelta stay behind",
        f"final test accuracy of each of the other four less each of the two, less {ALIKE}",
        LEADERS + LAGGARDS,
        False,
        lambda found: differences(final(found, "test_accuracy"), LEADERS, LAGGARDS) - ALIKE,
    ),
)
DECISION = (
    "A claim holds where the bootstrap intervals of all its margins lie above 0; it does not hold where one lies below."
)
LEAST_EPOCHS = 10
"""Claims about whole curves are not told from fewer."""


def judge(claim: Claim, found: Found) -> dict[str, Any]:
    """The claim's verdict, and why.

    Only the article's optimizers count, and as rivals of those that the claim names only such as never diverged.
    """
    record: dict[str, Any] = {"claim": claim.text, "criterion": claim.criterion, "verdict": "cannot be told"}
    if missing := [shown(name) for name in claim.needs if name not in found]:
        return record | {"why": f"it needs {', '.join(missing)}, which did not run"}
    failed = [name for name, trainings in found.items() if any(training.diverged for training in trainings)]
    if lost := [shown(name) for name in claim.needs if name in failed]:
        return record | {"why": f"a run of {', '.join(lost)} diverged"}
    asked = {name: found[name] for name in found if name in ARTICLE and name not in failed}
    flat = [training for trainings in asked.values() for training in trainings]
    lengths = {len(training.seconds) for training in flat}
    if len(flat) == len(asked):
        return record | {"why": "one seed has no interval"}
    if claim.trend and (len(lengths) > 1 or max(lengths) < LEAST_EPOCHS):
        return record | {"why": f"it needs whole curves of at least {LEAST_EPOCHS} epochs"}
    margins = st.bootstrap_interval(claim.margins(asked))
    if (margins.low > 0).all():
        record["verdict"] = "holds"
    elif (margins.high < 0).any():
        record["verdict"] = "does not hold"
    worst = int(np.argmin(margins.estimate))
    least, low, high = (f"{end[worst]:.4g}" for end in margins)
    return record | {"why": f"least margin {least} [{low}, {high}]", "margins": np.stack(margins, axis=-1)}


def compare(sound: Found, source: Found) -> dict[str, Any]:
    """Whether the ranking by final test accuracy is the same under both protocols.

    "no" where a pair of optimizers is reversed and its intervals exclude 0 under both; "yes" where no pair is reversed,
    nor is there one seed alone; else it cannot be told.
    """
    scores = [np.stack([at_epoch(found[name], "test_accuracy") for name in sound]) for found in (sound, source)]
    agreement, names = st.compare_rankings(*scores), list(sound)
    place = {record["optimizer"]: k for k, record in enumerate(rank(sound, "test_accuracy"))}
    swapped = [
        {"better": names[i], "worse": names[j], "neighbours": place[names[j]] - place[names[i]] == 1, "told": told}
        for (i, j), told in zip(agreement.reversed, agreement.told, strict=True)
    ]
    survives = "no" if any(agreement.told) else "cannot be told" if swapped or scores[0].shape[1] < 2 else "yes"
    pairs = len(names) * (len(names) - 1) // 2
    return {"survives": survives, "kendall_tau": agreement.tau, "pairs": pairs, "reversed": swapped}


# --- report --------------------------------------------------------------------------------------------------------

COVERAGE = {2: 50, 3: 75, 4: 80, 5: 84, 6: 87, 8: 88, 10: 90, 20: 93}
"""Percent of percentile-bootstrap intervals for 95% that hold the mean of n normal samples (8,000 simulated)."""


def number(metric: str, value: float | None) -> str:
    """Accuracies in percent, losses in nats; what has no finite value is a dash."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.4f}" if metric.endswith("loss") else f"{100 * value:.2f}"


def with_interval(metric: str, middle: str, low: float | None, high: float | None) -> str:
    bounded = low is not None and high is not None and np.isfinite([low, high]).all()
    return middle if not bounded else f"{middle} [{number(metric, low)}, {number(metric, high)}]"


def summary_table(found: Found, which: str, watched: str) -> Table:
    rows = []
    for name, trainings in found.items():
        failed = sum(training.diverged for training in trainings)
        last = [len(training.seconds) for training in trainings]
        epochs = last if which == "final" else [training.best_epoch or 0 for training in trainings]
        cells = []
        for metric in METRICS:
            found_at = summarize(at_epoch(trainings, metric, which))
            spread = "" if found_at["sd"] is None else f" ± {number(metric, found_at['sd'])}"
            middle = f"{failed} of {len(trainings)} diverged" if found_at["mean"] is None else ""
            middle = middle or number(metric, found_at["mean"]) + spread
            cells.append(with_interval(metric, middle, found_at["low"], found_at["high"]))
        pace = np.median(np.concatenate([training.seconds for training in trainings]))
        span = f"{min(epochs)}" + (f" to {max(epochs)}" if max(epochs) > min(epochs) else "")
        rows.append((shown(name), span, *cells, f"{pace:.1f} s"))
    what = {"final": "At the end of each run", "best": f"At each run's epoch of least {watched} loss"}[which]
    head = ("optimizer", "epoch", *(label.replace("accuracy", "acc.") for label in METRICS.values()), "per epoch")
    return Table(head, rows, f"{what}: mean ± standard deviation over seeds [95% interval, Student].")


def ranking_table(records: Sequence[Mapping[str, Any]], metric: str) -> Table:
    def difference(ends: Sequence[float]) -> str:
        return with_interval(metric, number(metric, ends[0]), ends[1], ends[2])

    rows = [
        (
            str(place),
            shown(record["optimizer"]),
            number(metric, record["mean"]) if np.isfinite(record["mean"]) else "diverged",
            f"{record['mean_rank']:.2f}",
            difference(record["behind"]) if place > 1 else "-",
            difference(record["ahead"]),
        )
        for place, record in enumerate(records, 1)
    ]
    head = ("place", "optimizer", METRICS[metric], "mean rank", "behind the best", "ahead of the next")
    return Table(head, rows, f"By final {METRICS[metric]}: differences are paired over seeds [95% bootstrap interval].")


def notes(config: Config, task: Mapping[str, Any]) -> list[str]:
    """What this run is, and what it is not."""
    ours = (
        "out",
        "data_dir",
        "dataset",
        "protocol",
        "optimizers",
        "seeds",
        "weights",
        "checkpoint_every",
        "tensorboard",
    )
    article = {field.name: field.default for field in dataclasses.fields(Config) if field.name not in (*ours, "smoke")}
    settings = {name: getattr(config, name) for name in article}
    changed = [f"{name} {value} ({article[name]})" for name, value in settings.items() if value != article[name]]
    changed += ["random initial weights (ImageNet's)"] if config.weights is None else []
    place, data, count = runs.environment(), task["data"], len(config.seeds)
    versions = ", ".join(f"{name} {version}" for name, version in place["versions"].items())
    lines = [
        f"{place['date']}; {', '.join(place['devices'])}; {place['cores']} cores ({place['processor']}); {versions}.",
        f"{task['train']} training, {task['valid']} held-out and {task['test']} test images of {data['name']} "
        f"{data.get('version', '')}; seeds: {', '.join(map(str, config.seeds))}.",
    ]
    if changed:
        lines.append(f"Not as in the article (whose setting is in parentheses): {'; '.join(changed)}.")
    if "lossy" in data.get("encoding", ""):
        lines.append(f"The images were stored as {data['encoding']}: they are not quite the published pixels.")
    if count == 1:
        return [*lines, "One seed does not tell how much seeds differ: no interval, and no claim is decided."]
    hold = COVERAGE[max(n for n in COVERAGE if n <= count)]
    return [
        *lines,
        f"Of bootstrap intervals for 95% over {count} seeds about {hold}% hold the mean if results are normal; "
        "Student's are right then. No interval is corrected for the number of comparisons.",
    ]


def claim_lines(verdicts: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"- {v['claim']}: {v['verdict']} ({v['why']}). Margin: {v['criterion']}." for v in verdicts)


def claims_table(verdicts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows = [(claim.text, *(found[k]["verdict"] for found in verdicts.values())) for k, claim in enumerate(CLAIMS)]
    return Table(("claim", *(f"{protocol} protocol" for protocol in verdicts)), rows, "Verdicts.")


def comparison_blocks(result: Mapping[str, Any]) -> list[Block]:
    answer = ("no", "yes")
    pairs = [
        (f"{shown(pair['better'])}, {shown(pair['worse'])}", answer[pair["neighbours"]], answer[pair["told"]])
        for pair in result["reversed"]
    ]
    survives = (
        f"Does the ranking by final test accuracy survive the article's faults? {result['survives'].capitalize()}. "
        f"Kendall's tau is {result['kendall_tau']:.2f}; {len(pairs)} of {result['pairs']} pairs are reversed. (No: a "
        "pair is reversed, and its intervals exclude 0 under both protocols. Yes: no pair is reversed.)"
    )
    head = ("sound order, reversed in source", "neighbours", "told by both intervals")
    return ["## Sound and source", survives, *([Table(head, pairs, "Pairs whose order differs.")] if pairs else [])]


def draw(found: Found, protocol: str, config: Config, folder: Path) -> None:
    count = len(config.seeds)
    note = "one seed" if count == 1 else f"mean of {count} seeds, shaded: 95% bootstrap interval"
    title = f"ResNet18 on {config.dataset.upper()}, {protocol} protocol\n{note}"
    panels = {
        label: {
            shown(name): [training.history[metric] * (1 if metric.endswith("loss") else 100) for training in trainings]
            for name, trainings in found.items()
        }
        for metric, label in METRICS.items()
    }
    logs = [None if metric.endswith("loss") else False for metric in METRICS]
    for metric, (label, histories), log in zip(METRICS, panels.items(), logs, strict=True):
        plots.save(plots.learning(histories, title=title, label=label, log_y=log), folder / f"{metric}.png")
    plots.save(plots.learning_panels(panels, title=title, log_y=logs), folder / "learning.png")


def main(config: Config) -> None:
    began = time.perf_counter()
    runs.require_folder(config.out)
    trainings = run_all(config)
    counted = {
        protocol: {name: [kept(each, config.patience) for each in seeds] for name, seeds in found.items()}
        for protocol, found in trainings.items()
    }
    first = config.out.joinpath("runs", config.protocols[0], config.optimizers[0], f"seed-{config.seeds[0]}")
    about = runs.read_run(first).config["task"]
    blocks: list[Block] = ["# ResNet18 on CIFAR10", *notes(config, about)]
    settings = {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()}
    results: dict[str, Any] = {"config": settings}
    results |= {"task": about, "environment": runs.environment(), "protocols": {}}
    all_verdicts: dict[str, list[dict[str, Any]]] = {}
    with staged_folder(config.out) as folder:
        for protocol, found in counted.items():
            rankings = {metric: rank(found, metric) for metric in ("test_accuracy", "train_accuracy", "test_loss")}
            verdicts = [judge(claim, found) for claim in CLAIMS]
            watched = "validation" if config.hold_out else "test"
            tables = {which: summary_table(found, which, watched) for which in ("final", "best")}
            tables |= {f"ranking_{metric}": ranking_table(records, metric) for metric, records in rankings.items()}
            (folder / protocol).mkdir()
            for name, table in tables.items():
                table.write(folder / protocol / name)
            draw(trainings[protocol], protocol, config, folder / protocol)
            blocks += [f"## The {protocol} protocol", *tables.values(), "The article's claims:", claim_lines(verdicts)]
            all_verdicts[protocol] = verdicts
            optimizers = {
                name: {
                    "shown": shown(name),
                    "failed_at": [each.failed_at for each in seeds],
                    "best_epoch": [each.best_epoch for each in seeds],
                    "seconds": [float(each.seconds.sum()) for each in seeds],
                    "final": {metric: summarize(at_epoch(seeds, metric)) for metric in METRICS},
                    "best": {metric: summarize(at_epoch(seeds, metric, "best")) for metric in METRICS},
                }
                for name, seeds in found.items()
            }
            results["protocols"][protocol] = {"optimizers": optimizers, "rankings": rankings, "claims": verdicts}
        if len(counted) == 2 and len(config.optimizers) > 1:
            results["comparison"] = compare(counted["sound"], counted["source"])
            blocks += comparison_blocks(results["comparison"])
        claims = claims_table(all_verdicts)
        claims.write(folder / "claims")
        blocks += ["## The article's claims", DECISION, claims]
        (folder / "report.txt").write_text(render(blocks, markdown=False))
        (folder / "report.md").write_text(render(blocks, markdown=True))
        write_json(folder / "results.json", results)
    print(f"\n{render(blocks, markdown=False)}\nwritten to {config.out} in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"cifar10_resnet18: {error}")
