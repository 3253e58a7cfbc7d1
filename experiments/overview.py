"""Six tasks under ten optimizers: the Demon benchmark with the tuning, the seeds and the intervals that it lacks.

Source: Chen, Wolfe, Li & Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay" (arXiv:1910.04952)
and the first author's article of February 2020, whose two tables (adaptive and non-adaptive methods; mean and standard
deviation of error %, perplexity and negative ELBO) stand beside the measured numbers where tasks and epochs agree.
Claim there: Demon Adam is the best adaptive method in every column, and Demon SGDM is among the best of the others.

Protocol: the article's, as far as it says. SGDM, AggMo and QHM decay the learning rate by 10 at 50% and 75% of the
epochs, Demon decays its momentum over the whole run, QHM has learning rate / (1 - momentum). AdamW alone decays
weights, by PyTorch's 0.01, which is not tuned. Learning rate and momentum are tuned (the smoke tier's two trials are
two rates), with the same number of trials for every optimizer (nearest to a common rate first,
`gdlab.comparison.ladder`), by what a held-out part of the training set says at the end of a trial; the test set has no
say. YellowFin's one number is the factor of the rate that it finds; its trials are all rates. Final runs have other
seeds than trials, and keep the held-out part out: numbers can be a little worse than those of a whole training set.

--tier smoke: narrow networks on parts of MNIST, Fashion-MNIST, CIFAR-10 (in place of CIFAR-100 and STL-10 too) and of a
text, to see that all works. laptop: wider, longer, the same data. gpu: the article's networks, data and epochs.
The text is Penn Treebank where it is prepared, or any folder of train.txt, valid.txt, test.txt: --text FOLDER.

Every training is a run folder below --out: the same command goes on after a kill. --shard i/n does the i-th of n parts
of the pairs of task and optimizer, so that several machines share the work; --collect then only makes the report.
--slurm n submits n shards as a job array (extra `slurm`).

Command:   python experiments/overview.py [--tier smoke] [--text FOLDER] [--tasks ...] [--optimizers ...] [--shard 1/4]
Expect:    report.md, tables (text, CSV, LaTeX), results.json, curves of each task, the ranking and the VAE's latent
           plane in --out. On the smoke tier: the numbers of benchmarks/results/overview_smoke.json, roughly.
Runtime:   smoke: 5 to 6 minutes on 2 CPU cores. laptop: sized for about an hour, and gpu: both unmeasured.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from gdlab import comparison, models, optimizers, plots, published, rankings, runs, schedules, tasks
from gdlab import statistics as st
from gdlab.arguments import require_choice, require_count, require_names
from gdlab.comparison import Candidate, Collected, Measure, Problem, Study, ladder
from gdlab.tables import Block, Table, render
from gdlab.types import NameTable

# --- optimizers ----------------------------------------------------------------------------------------------------

Number = Any
"""A number, which may be traced."""


def aggmo(learning_rate: Number, momentum: Number, total_steps: Number) -> optax.GradientTransformation:
    """The momentum that is tuned is the second of three; the third is as much nearer to 1 as the paper has it."""
    return optimizers.aggmo(schedules.step(learning_rate, total_steps), betas=(0.0, momentum, 0.9 + 0.1 * momentum))


class Entry(NamedTuple):
    """shown: its name in tables. scale: of the common rate. momenta: what its trials take turns in."""

    shown: str
    family: str
    build: Callable[[Number, Number, Number], optax.GradientTransformation]
    scale: float = 1.0
    momenta: tuple[float, ...] = (0.9, 0.95, 0.99)


ENTRIES: NameTable[Entry] = NameTable(
    "optimizer of the overview",
    {
        "adam": Entry("Adam", "adaptive", lambda rate, momentum, steps: optimizers.adam(rate, b1=momentum)),
        "amsgrad": Entry("AMSGrad", "adaptive", lambda rate, momentum, steps: optimizers.amsgrad(rate, b1=momentum)),
        "adamw": Entry("AdamW", "adaptive", lambda rate, momentum, steps: optimizers.adamw(rate, b1=momentum)),
        "qhadam": Entry("QHAdam", "adaptive", lambda rate, momentum, steps: optimizers.qhadam(rate, b1=momentum)),
        "yellowfin": Entry(
            "YellowFin", "adaptive", lambda rate, momentum, steps: optimizers.yellowfin(rate), momenta=(0.0,)
        ),
        "demon_adam": Entry(
            "Demon Adam",
            "adaptive",
            lambda rate, momentum, steps: optimizers.demon_adam(rate, total_steps=steps, momentum=momentum),
            0.1,  # the paper's form is not damped: its steps begin ten times as long
        ),
        "momentum": Entry(
            "SGDM",
            "non-adaptive",
            lambda rate, momentum, steps: optimizers.momentum(schedules.step(rate, steps), momentum=momentum),
        ),
        "aggmo": Entry("AggMo", "non-adaptive", aggmo, 0.3),  # its third momentum alone moves ten times as far
        "qhm": Entry(
            "QHM",
            "non-adaptive",
            lambda rate, momentum, steps: optimizers.qhm(
                schedules.step(rate / (1 - momentum), steps), momentum=momentum
            ),
        ),
        "demon_sgdm": Entry(
            "Demon SGDM",
            "non-adaptive",
            lambda rate, momentum, steps: optimizers.demon_sgdm(rate, total_steps=steps, momentum=momentum),
        ),
    },
)
FAMILIES = ("adaptive", "non-adaptive")


def candidates() -> list[Candidate]:
    def build(entry: Entry, learning_rate: Number, momentum: Number, total_steps: Number) -> Any:
        return entry.build(learning_rate, momentum, total_steps)

    return [Candidate(name, partial(build, entry)) for name, entry in ENTRIES.items()]


# --- tasks ---------------------------------------------------------------------------------------------------------

ERROR = Measure("error %", "accuracy", lambda accuracy: 100 * (1 - accuracy))
PERPLEXITY = Measure("perplexity", "loss", np.exp)
ELBO = Measure("negative ELBO", "loss", lambda loss: loss)


class Kind(NamedTuple):
    """A task of the benchmark, and its data set. rates: the middle of the adaptive methods' trials, and of the others'.

    clip: the norm that gradients are clipped at; None: they are not. epochs: the article's, the gpu tier's.
    """

    shown: str
    dataset: str
    make: Callable[..., tasks.Task]
    measure: Measure
    rates: tuple[float, float]
    epochs: tuple[int, ...]
    clip: float | None = None


KINDS: NameTable[Kind] = NameTable(
    "task of the overview",
    {
        "resnet18": Kind("ResNet18", "cifar10", tasks.cifar10_resnet18, ERROR, (1e-3, 0.03), (30, 75, 150, 300)),
        "vgg16": Kind("VGG16", "cifar100", tasks.cifar100_vgg16, ERROR, (1e-3, 0.03), (75, 150, 300)),
        "wrn16_8": Kind("WRN-16-8", "stl10", tasks.stl10_wrn16_8, ERROR, (1e-3, 0.03), (50, 100, 200)),
        "capsnet": Kind("CapsNet", "fashion_mnist", tasks.fashion_mnist_capsnet, ERROR, (1e-3, 0.1), (50, 100)),
        "lstm": Kind("LSTM", "ptb", tasks.ptb_lstm, PERPLEXITY, (1e-3, 3.0), (25, 39), 5 / 35),
        "vae": Kind("VAE", "mnist", tasks.mnist_vae, ELBO, (1e-3, 1e-3), (50, 100, 200)),
    },
)
CIFAR_STEM = {"stem": "cifar", "head": "linear"}


class Tier(NamedTuple):
    """How large all is. settings: of each task's function. epochs: None: the article's. rates: in place of `Kind`'s."""

    settings: dict[str, dict[str, Any]]
    epochs: dict[str, int] | None
    tuning_epochs: dict[str, int] | None
    trials: int
    seeds: tuple[int, ...]
    rates: dict[str, tuple[float, float]]
    clip: dict[str, float]


def sized(train: int, held: int, test: int, batch: int) -> dict[str, int]:
    return {"train_size": train, "hold_out": held, "test_size": test, "batch_size": batch, "evaluation_batch": 100}


TIERS: NameTable[Tier] = NameTable(
    "tier",
    {
        "smoke": Tier(
            {
                "resnet18": {"head": "linear", "width": 16, **sized(800, 300, 500, 16)},
                "vgg16": {"dataset": "cifar10", "width": 8, **sized(600, 300, 300, 16)},
                "wrn16_8": {"dataset": "cifar10", "depth": 10, "widen": 1, "width": 8, **sized(600, 300, 300, 16)},
                "capsnet": {
                    **{"width": 16, "capsules": 4, "capsule_size": 4, "class_size": 8, "decoder": (64,)},
                    **sized(1000, 300, 300, 25),
                },
                "lstm": {
                    **{"width": 64, "steps": 20, "dropout": 0.1, "vocabulary_size": 1000},
                    **{"train_size": 30_000, "valid_size": 6_000, "test_size": 6_000},
                },
                "vae": {"hidden": (128, 64), **sized(10_000, 1000, 1000, 100)},
            },
            {"resnet18": 2, "vgg16": 2, "wrn16_8": 2, "capsnet": 2, "lstm": 2, "vae": 5},
            dict.fromkeys(KINDS, 1),
            2,
            (0, 1),
            {
                **{"resnet18": (3e-3, 0.03), "vgg16": (3e-3, 0.03), "wrn16_8": (1e-2, 0.1), "capsnet": (3e-3, 0.1)},
                **{"lstm": (1e-2, 3.0), "vae": (3e-3, 3e-3)},
            },
            {"lstm": 0.25},
        ),
        "laptop": Tier(
            {
                "resnet18": {"head": "linear", "width": 16, **sized(5000, 1000, 2000, 32)},
                "vgg16": {"dataset": "cifar10", "width": 8, **sized(3500, 700, 1500, 32)},
                "wrn16_8": {"dataset": "cifar10", "depth": 10, "widen": 1, "width": 8, **sized(3500, 700, 1500, 32)},
                "capsnet": {
                    **{"width": 16, "capsules": 8, "capsule_size": 4, "class_size": 8, "decoder": (64,)},
                    **sized(3500, 700, 1500, 50),
                },
                "lstm": {
                    **{"width": 96, "dropout": 0.2, "vocabulary_size": 4000, "batch_size": 10},
                    **{"train_size": 50_000, "valid_size": 10_000, "test_size": 20_000},
                },
                "vae": {"hidden": (256, 128), **sized(25_000, 5000, 5000, 100)},
            },
            {"resnet18": 5, "vgg16": 5, "wrn16_8": 5, "capsnet": 5, "lstm": 5, "vae": 10},
            {"resnet18": 2, "vgg16": 2, "wrn16_8": 2, "capsnet": 2, "lstm": 2, "vae": 3},
            3,
            (0, 1, 2),
            {"capsnet": (3e-3, 0.1), "lstm": (3e-3, 3.0), "wrn16_8": (3e-3, 0.1), "vae": (1e-3, 2e-3)},
            {"lstm": 0.25},
        ),
        "gpu": Tier(
            {
                "resnet18": {**CIFAR_STEM, "batch_size": 128, "hold_out": 5000},
                "vgg16": {"hold_out": 5000},
                "wrn16_8": {"hold_out": 500},
                "capsnet": {"hold_out": 5000},
                "lstm": {},
                "vae": {"hold_out": 5000},
            },
            None,
            None,
            9,
            (0, 1, 2),
            {},
            {},
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run, and where. What is left out is as the tier has it."""

    tier: str = "smoke"
    """smoke, laptop or gpu."""
    out: Path | None = None
    """Folder for the runs and the report; default runs/overview_TIER."""
    data_dir: Path | None = None
    """Where data sets were prepared; otherwise $GDLAB_DATA_DIR, then ~/tensorflow_datasets."""
    text: Path = Path("ptb")
    """The LSTM's text: ptb, or a folder of train.txt, valid.txt and test.txt."""
    tasks: tuple[str, ...] = tuple(KINDS)
    optimizers: tuple[str, ...] = tuple(ENTRIES)
    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    """Of every final run; on the gpu tier one of the article's columns is meant."""
    columns: str = "first"
    """Of the gpu tier: which of the article's numbers of epochs, first, last or all."""
    trials: int | None = None
    """Settings that each optimizer may try, for each task."""
    dtype: str = "float32"
    """What networks compute in: float32 or bfloat16."""
    together: bool | None = None
    """One program for all optimizers of a task, or one for each; default: together, but on the gpu tier."""
    shard: str = "1/1"
    """i/n: do the i-th of n parts."""
    workers: int | None = None
    """Threads; default one for each CPU core, or for each other device."""
    collect: bool = False
    """Train nothing: report what there is."""
    slurm: int = 0
    """Submit so many shards as a job array and return (needs the extra `slurm`)."""
    slurm_partition: str | None = None
    slurm_hours: float = 24.0

    def __post_init__(self) -> None:
        require_choice("tier", self.tier, TIERS)
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        require_choice("columns", self.columns, ("first", "last", "all"))
        require_names("tasks", self.tasks, KINDS)
        require_names("optimizers", self.optimizers, ENTRIES)
        for name in ("tasks", "optimizers"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: wanted each once, got {' '.join(getattr(self, name))}")
        require_count("slurm", self.slurm, low=0)
        if self.slurm and (self.collect or self.shard != "1/1"):
            raise ValueError("slurm: wanted neither --shard nor --collect with it, got one of them")
        self.part()

    @property
    def folder(self) -> Path:
        """Where all goes."""
        return self.out or Path(f"runs/overview_{self.tier}")

    def part(self) -> tuple[int, int]:
        """The shard as numbers."""
        number, _, count = self.shard.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard: wanted i/n with i from 1 to n, such as 1/4, got {self.shard!r}")
        return int(number), int(count)


def text_name(text: Path) -> str:
    return "ptb" if str(text) == "ptb" else text.expanduser().resolve().name


def make_problem(config: Config, name: str) -> Problem:
    kind, tier = KINDS[name], TIERS[config.tier]
    settings = dict(tier.settings[name])
    dataset = settings.get("dataset", kind.dataset)
    if name == "lstm":
        dataset = text_name(config.text)
        ptb = str(config.text) == "ptb"
        settings |= {"dataset": str(config.text)} | ({} if ptb else {"unknown": "<unk>"})
    adaptive, other = tier.rates.get(name, kind.rates)
    budget = tier.trials if config.trials is None else config.trials
    trials = {}
    for optimizer, entry in ENTRIES.items():
        rate = 1.0 if optimizer == "yellowfin" else entry.scale * (adaptive if entry.family == "adaptive" else other)
        trials[optimizer] = ladder(budget, rate, momenta=entry.momenta)
    if tier.epochs is None:
        columns = {"first": kind.epochs[:1], "last": kind.epochs[-1:], "all": kind.epochs}[config.columns]
        epochs, tuning = columns, kind.epochs[0]
    else:
        epochs, tuning = (tier.epochs[name],), (tier.tuning_epochs or tier.epochs)[name]
    epochs = epochs if config.epochs is None else (config.epochs,)
    clip = tier.clip.get(name, kind.clip)

    def wrap(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        return optimizer if clip is None else optax.chain(optax.clip_by_global_norm(clip), optimizer)

    return Problem(
        f"{dataset}_{name}",
        partial(kind.make, config.data_dir, dtype=jnp.dtype(config.dtype), **settings),
        epochs,
        min(tuning, max(epochs)),
        kind.measure,
        trials,
        wrap,
        "" if clip is None else f"gradients clipped at norm {clip:.4g}",
    )


def make_study(config: Config) -> Study:
    """All ten optimizers are in it whichever are asked for, so that they are always the same programs."""
    tier = TIERS[config.tier]
    return Study(
        config.folder,
        [make_problem(config, name) for name in config.tasks],
        candidates(),
        tier.seeds if config.seeds is None else config.seeds,
        together=config.tier != "gpu" if config.together is None else config.together,
    )


# --- the report ----------------------------------------------------------------------------------------------------

Found = Mapping[str, Mapping[str, Collected]]
"""Of each problem and optimizer what its folders hold."""


def kind_of(problem: str) -> str:
    return next(name for name in KINDS if problem.endswith(name))


def shown(problem: str) -> str:
    name = kind_of(problem)
    return f"{problem.removesuffix('_' + name).replace('_', '-').upper()} {KINDS[name].shown}"


def final_values(problem: Problem, found: Collected, epochs: int, part: str = "test") -> np.ndarray:
    """The measure of each final run at its end; inf for a run that diverged."""
    return np.array([comparison.score(problem, run, part) for run in found.runs[epochs]])


def cell(values: np.ndarray, digits: int, wanted: int) -> str:
    """Mean and standard deviation; how many diverged, or how many of those wanted there are, where it is not all."""
    if not values.size:
        return "-"
    failed = int(np.isinf(values).sum())
    if failed:
        return f"{failed} of {values.size} diverged"
    spread = f" ± {values.std(ddof=1):.{digits}f}" if values.size > 1 else ""
    part = f" ({values.size} of {wanted})" if values.size < wanted else ""
    return f"{values.mean():.{digits}f}{spread}{part}"


def survey_table(study: Study, found: Found, family: str, names: Sequence[str], *, beside: bool = True) -> Table | None:
    """The article's table of the family: ours and, beside, what is published for the same task and epochs."""
    chosen = [name for name in names if ENTRIES[name].family == family]
    if not chosen:
        return None
    head, columns = ["optimizer"], []
    for problem in study.problems:
        for epochs in problem.epochs:
            values = {name: final_values(problem, found[problem.name][name], epochs) for name in chosen}
            whole = len(study.seeds)
            means = {name: each.mean() if each.size == whole else np.inf for name, each in values.items()}
            least = min(means.values())
            column = [
                cell(values[name], problem.measure.digits, whole)
                + ("*" if np.isfinite(least) and means[name] == least else "")
                for name in chosen
            ]
            head.append(f"{shown(problem.name)}, {problem.measure.label}, {epochs} epochs")
            columns.append(column)
            theirs = [published.published(problem.name, name, epochs) for name in chosen]
            if beside and any(theirs):
                head.append(f"{shown(problem.name)}, published, {epochs} epochs")
                columns.append([f"{one.mean:.2f} ± {one.sd:.2f}" if one else "-" for one in theirs])
    rows = [(ENTRIES[name].shown, *cells) for name, cells in zip(chosen, zip(*columns, strict=True), strict=True)]
    caption = (
        f"{family.capitalize()} methods on the test set at the end of the run: mean ± standard deviation over seeds "
        "(* least mean of the column). What is published does not say its split."
    )
    return Table(head, rows, caption)


def tuned_table(study: Study, found: Found, names: Sequence[str]) -> Table:
    def setting(one: Collected) -> str:
        if one.setting is None:
            return "-"
        edge = "*" if one.at_the_edge else ""
        momentum = f", {one.setting['momentum']:g}" if one.candidate != "yellowfin" else ""
        return f"{one.setting['learning_rate']:.3g}{edge}{momentum}"

    rows = [
        (ENTRIES[name].shown, *(setting(found[problem.name][name]) for problem in study.problems)) for name in names
    ]
    trials = study.problems[0].trials["adam"]
    rates, momenta = ({trial[name] for trial in trials} for name in ("learning_rate", "momentum"))
    caption = (
        f"Learning rate and momentum of the best of {len(trials)} trials: for Adam {len(rates)} rates and "
        f"{len(momenta)} momenta (* the least or greatest rate tried). QHM is given the rate over 1 - momentum; "
        "AggMo's momentum is the second of three, after 0; YellowFin's number is the factor of its own rate."
    )
    return Table(("optimizer", *(shown(problem.name) for problem in study.problems)), rows, caption)


def rank_all(study: Study, found: Found, names: Sequence[str]) -> tuple[rankings.AcrossTasks, list[str]] | None:
    """Over the problems on which every optimizer has all its seeds, each at its longest; None: less than two."""
    kept, costs = [], []
    for problem in study.problems:
        longest = max(problem.epochs)
        values = [final_values(problem, found[problem.name][name], longest) for name in names]
        if all(each.size == len(study.seeds) for each in values):
            kept.append(problem.name)
            costs.append(np.stack(values))
    if len(names) < 2 or len(kept) < 2:
        return None
    return rankings.rank_across_tasks(np.stack(costs, axis=1)), kept


def ranking_table(ranked: rankings.AcrossTasks, kept: Sequence[str], names: Sequence[str]) -> Table:
    order = np.argsort(ranked.rank.estimate, kind="stable")
    rows = []
    for index in order:
        low, high = ranked.rank.low[index], ranked.rank.high[index]
        ends = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        ranks = (f"{rank:g}" for rank in ranked.by_task[index])
        rows.append((ENTRIES[names[index]].shown, f"{ranked.rank.estimate[index]:.2f}{ends}", *ranks))
    caption = (
        "Average rank over tasks [95% bootstrap interval: other seeds on these tasks; too narrow for few seeds], and "
        "the rank on each, 1 is best."
    )
    return Table(("optimizer", "average rank", *map(shown, kept)), rows, caption)


def ranking_words(ranked: rankings.AcrossTasks, count: int) -> str:
    groups = "no two optimizers lie so near together" if not ranked.groups else "a bar joins those that do not"
    return (
        f"Friedman's test of no difference: p = {ranked.friedman[1]:.3g} (Iman and Davenport's form "
        f"{ranked.iman_davenport[1]:.3g}). Average ranks over {count} tasks that differ by more than "
        f"{ranked.critical_difference:.2f} are told apart (Nemenyi, 5%); {groups}."
    )


def notes(config: Config, study: Study, found: Found) -> list[str]:
    place = runs.environment()
    versions = ", ".join(f"{name} {version}" for name, version in place["versions"].items())
    lines = [
        f"Report of {place['date']}; {', '.join(place['devices'])}; {place['cores']} cores ({place['processor']}); "
        f"{versions}.",
        f"Tier {config.tier}; seeds {', '.join(map(str, study.seeds))}; {len(study.problems[0].trials['adam'])} trials "
        "an optimizer and task; final runs leave the held-out part out.",
    ]
    sizes = []
    for problem in study.problems:
        every = [run for one in found[problem.name].values() for each in one.runs.values() for run in each]
        if every:
            about = every[0].config["task"]
            sizes.append(
                f"- {shown(problem.name)}: {about['train']:,} for training, {about['valid']:,} held out, "
                f"{about['test']:,} for the test ({'words' if problem.measure is PERPLEXITY else 'images'}); trials of "
                f"{problem.tuning_epochs} epochs; {about['model']}."
            )
            if "lossy" in about["data"].get("encoding", ""):
                sizes[-1] += " Its images went through a lossy code: they are not quite the published pixels."
    on = {
        str(run.config["identity"].get("versions and device"))
        for each in found.values()
        for one in each.values()
        for runs_of in one.runs.values()
        for run in runs_of
    }
    lines.append(f"Trained on: {'; '.join(sorted(on)) or 'nothing yet'}.")
    missing = sum(one.missing for each in found.values() for one in each.values())
    if missing:
        lines.append(f"{missing} trainings are not done yet: a dash stands for what has no run.")
    if config.tier != "gpu":
        lines.append("Networks, data and epochs are not the article's: its numbers are not to be compared with these.")
    return [*lines, "\n".join(sizes)] if sizes else lines


def draw_curves(study: Study, found: Found, names: Sequence[str], folder: Path) -> None:
    for problem in study.problems:
        epochs = max(problem.epochs)
        panels: dict[str, dict[str, list[np.ndarray]]] = {}
        for part, label in (("train", "training"), ("valid", "validation")):
            histories = {
                ENTRIES[name].shown: [
                    np.asarray(problem.measure.convert(run.history[f"{part}_{problem.measure.metric}"]))
                    for run in found[problem.name][name].runs[epochs]
                ]
                for name in names
                if found[problem.name][name].runs[epochs]
            }
            panels[f"{label} {problem.measure.label}"] = histories
        if not all(panels.values()):
            continue
        count = len(study.seeds)
        note = "one seed" if count == 1 else f"mean of {count} seeds, shaded: 95% bootstrap interval"
        figure = plots.learning_panels(panels, title=f"{shown(problem.name)}, {note}", log_y=[None, None])
        plots.save(figure, folder / f"curves_{problem.name}.png")


def draw_autoencoder(study: Study, problem: Problem, found: Mapping[str, Collected], folder: Path) -> None:
    """Samples and the latent plane of the optimizer with the least negative ELBO, where one is there."""
    epochs = max(problem.epochs)
    means = {
        name: final_values(problem, one, epochs).mean()
        for name, one in found.items()
        if one.runs[epochs] and one.runs[epochs][0].seed == study.seeds[0] and not one.runs[epochs][0].diverged
    }
    if not means:
        return
    best = min(means, key=lambda name: means[name])
    params, task = comparison.retrieve(study, problem.name, best, epochs)
    side = 12
    images = task.test.images[:1000]
    latents, _ = models.vae_encode(params, jnp.asarray(images / np.float32(255)))
    height, width = images.shape[1:3]
    draws = jax.random.normal(jax.random.key(0), (4 * side, latents.shape[1]))
    samples = np.asarray(models.vae_decode(params, draws)).reshape(4, side, height, width)
    again = np.asarray(models.vae_decode(params, latents[:side])).reshape(1, side, height, width)
    first = (images[:side, :, :, 0] / 255).reshape(1, side, height, width)
    title = f"{shown(problem.name)}, {ENTRIES[best].shown}, {epochs} epochs"
    plots.save(
        plots.image_grid(
            np.concatenate([first, again, samples]),
            title=title,
            labels=("test image", "reconstruction", *["sample"] * 4),
        ),
        folder / "vae_samples.png",
    )
    if latents.shape[1] == 2:
        span = 2.5
        ticks = np.linspace(-span, span, 20)
        plane = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)
        decoded = np.asarray(models.vae_decode(params, jnp.asarray(plane))).reshape(20, 20, height, width)
        labels = np.asarray(task.test.labels[:1000])
        plots.save(
            plots.latent_map(np.asarray(latents), labels, decoded, span, title=title), folder / "vae_latents.png"
        )


def report(config: Config, study: Study, seconds: float) -> str:
    names = list(config.optimizers)
    found: Found = {
        problem.name: {name: comparison.collect(study, problem.name, name) for name in names}
        for problem in study.problems
    }
    with runs.staged_folder(config.folder) as folder:
        beside = config.tier == "gpu"  # elsewhere the networks are not the article's
        both = {each.replace("-", "_"): survey_table(study, found, each, names, beside=beside) for each in FAMILIES}
        tables: dict[str, Table] = {name: table for name, table in both.items() if table is not None}
        blocks: list[Block] = ["# Six tasks, ten optimizers", *notes(config, study, found)]
        blocks += ["## Results", *tables.values()]
        if (over := rank_all(study, found, names)) is not None:
            ranked, kept = over
            tables["ranking"] = ranking_table(ranked, kept, names)
            blocks += ["## Ranking", tables["ranking"], ranking_words(ranked, len(kept))]
            figure = plots.critical_difference(
                [ENTRIES[name].shown for name in names],
                ranked.rank.estimate,
                difference=ranked.critical_difference,
                groups=ranked.groups,
                intervals=(ranked.rank.low, ranked.rank.high),
                title=f"Average rank over {len(kept)} tasks; bars: not told apart; whiskers: other seeds",
            )
            plots.save(figure, folder / "ranking.png")
        tables["tuned"] = tuned_table(study, found, names)
        blocks += ["## Tuned values", tables["tuned"]]
        for name, table in tables.items():
            table.write(folder / name)
        draw_curves(study, found, names, folder)
        for problem in study.problems:
            if problem.measure is ELBO:
                draw_autoencoder(study, problem, found[problem.name], folder)
        (folder / "report.txt").write_text(render(blocks, markdown=False))
        (folder / "report.md").write_text(render(blocks, markdown=True))
        runs.write_json(folder / "results.json", results(config, study, found, seconds))
    return render(blocks, markdown=False)


def results(config: Config, study: Study, found: Found, seconds: float) -> dict[str, Any]:
    """All numbers, tuned values and trials among them."""

    def pair(problem: Problem, one: Collected) -> dict[str, Any]:
        finals = {}
        for epochs, each in one.runs.items():
            values = final_values(problem, one, epochs)
            well = bool(values.size) and bool(np.isfinite(values).all())
            interval = st.mean_interval(values) if well else st.Interval(None, None, None)
            finals[str(epochs)] = {
                "test": values,
                "valid": final_values(problem, one, epochs, "valid"),
                "mean": interval.estimate,
                "sd": float(values.std(ddof=1)) if well and values.size > 1 else None,
                "interval": [interval.low, interval.high],
                "seconds": [run.seconds for run in each],
                "diverged": [run.diverged for run in each],
            }
        return {
            "setting": None if one.setting is None else dict(one.setting),
            "at_the_edge": one.at_the_edge,
            "trials": [
                {**setting, problem.measure.label: score} for setting, score in zip(one.trials, one.scores, strict=True)
            ],
            "final": finals,
            "missing": one.missing,
        }

    settings = {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()}
    return {
        "config": settings,
        "environment": runs.environment(),
        "seconds": seconds,
        "problems": {
            problem.name: {
                "measure": problem.measure.label,
                "optimizers": {name: pair(problem, one) for name, one in found[problem.name].items()},
            }
            for problem in study.problems
        },
    }


# --- running -------------------------------------------------------------------------------------------------------


def compute(config: Config) -> None:
    study = make_study(config)
    every = 1 if config.tier == "gpu" else max(max(problem.epochs) for problem in study.problems)
    comparison.run(
        study,
        candidates=config.optimizers,
        shard=config.part(),
        workers=config.workers,
        checkpoint_every=every,
    )


def submit(config: Config) -> str:
    """Shards as a job array; the report is made afterwards, with --collect."""
    try:
        import submitit
    except ImportError:
        raise ImportError("slurm: wanted the package submitit: pip install 'gdlab[slurm]'") from None
    executor = submitit.AutoExecutor(folder=config.folder / "slurm")
    executor.update_parameters(timeout_min=int(60 * config.slurm_hours), name="gdlab-overview")
    if config.slurm_partition is not None:
        executor.update_parameters(slurm_partition=config.slurm_partition)
    if config.tier == "gpu":
        executor.update_parameters(gpus_per_node=1)
    parts = [dataclasses.replace(config, slurm=0, shard=f"{k}/{config.slurm}") for k in range(1, config.slurm + 1)]
    jobs = executor.map_array(compute, parts)
    return f"submitted {', '.join(job.job_id for job in jobs)}; when they are done, the same command with --collect"


def main(config: Config) -> None:
    began = time.perf_counter()
    runs.require_folder(config.folder)
    if config.slurm:
        print(submit(config))
        return
    if not config.collect:
        compute(config)
    if config.part() != (1, 1) and not config.collect:
        print(f"shard {config.shard} is done; when all are, the same command with --collect makes the report")
        return
    text = report(config, make_study(config), time.perf_counter() - began)
    print(f"\n{text}\nwritten to {config.folder} in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"overview: {error}")
