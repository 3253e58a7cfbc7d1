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
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab import comparison, models, plots
from gdlab.analysis.tables import Table
from gdlab.arguments import require_choice, require_names
from gdlab.comparison import Problem, Report, Study, demon
from gdlab.comparison.options import Options, carry_out, parse
from gdlab.comparison.published import published
from gdlab.comparison.reports import longest, numbers, provenance
from gdlab.comparison.summaries import (
    Column,
    Found,
    across_table,
    across_words,
    panels_of,
    published_beside,
    rank_over_problems,
    seeds_note,
    tuned_table,
    values,
)
from gdlab.records import staged_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Options):
    """What is run, and where. What is left out is as the tier has it."""

    tier: str = "smoke"
    """smoke, laptop or gpu."""
    text: Path = Path("ptb")
    """The LSTM's text: ptb, or a folder of train.txt, valid.txt and test.txt."""
    tasks: tuple[str, ...] = tuple(demon.KINDS)
    optimizers: tuple[str, ...] = tuple(demon.ENTRIES)
    columns: str = "first"
    """Of the gpu tier: which of the article's numbers of epochs, first, last or all."""
    trials: int | None = None
    """Settings that each optimizer may try, for each task."""
    together: bool | None = None
    """One program for all optimizers of a task, or one for each; default: together, but on the gpu tier."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("tier", self.tier, demon.TIERS)
        require_choice("columns", self.columns, demon.COLUMNS)
        require_names("tasks", self.tasks, demon.KINDS)
        require_names("optimizers", self.optimizers, demon.ENTRIES)
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks: wanted each once, got {' '.join(self.tasks)}")

    @property
    def folder(self) -> Path:
        """Where all goes."""
        return self.out or Path(f"runs/overview_{self.tier}")


def make_study(config: Config) -> Study:
    """All ten optimizers are in it whichever are asked for, so that they are always the same programs."""
    settings = config.pick("data_dir", "text", "seeds", "epochs", "columns", "trials", "dtype", "together")
    return demon.make_study(config.folder, config.tier, kinds=config.tasks, **settings)


def survey_tables(config: Config, study: Study, found: Found) -> dict[str, Table]:
    """The article's two tables: ours and, where tasks and epochs agree, what is published beside."""

    def beside(problem: str, candidate: str, epochs: int) -> str | None:
        one = published(problem, candidate, epochs) if config.tier == "gpu" else None  # else the networks differ
        return f"{one.mean:.2f} ± {one.sd:.2f}" if one else None

    caption = (
        " methods on the test set at the end of the run: mean ± standard deviation over seeds (* least mean of the "
        "column). What is published does not say its split."
    )
    tables = {}
    for family in demon.FAMILIES:
        names = [name for name in config.optimizers if demon.ENTRIES[name].family == family]
        if names:
            table = published_beside(study, found, names, beside, family.capitalize() + caption)
            tables[family.replace("-", "_")] = table
    return tables


def make_report(config: Config, study: Study) -> str:
    found = comparison.collect_all(study, config.optimizers)
    report = Report()
    report.add("# Six tasks, ten optimizers", *provenance(study, found))
    report.add(f"Tier {config.tier}; {len(study.problems[0].trials['adam'])} trials an optimizer and task.")
    if config.tier != "gpu":
        report.add("Networks, data and epochs are not the article's: its numbers are not to be compared with these.")
    report.add("## Results", **survey_tables(config, study, found))
    with staged_folder(config.folder) as folder:
        if (ranked := rank_over_problems(study, found)) is not None:
            report.add("## Ranking", ranking=across_table(study, *ranked, config.optimizers))
            report.add(across_words(ranked[0], len(ranked[1])))
            plots.save(draw_ranks(config, *ranked), folder / "ranking.png")
        note = "AggMo's momentum is the second of three, after 0; YellowFin's number is the factor of its own rate."
        report.add("## Tuned values", tuned=tuned_table(study, found, note))
        for problem in study.problems:
            draw_curves(study, problem, found, folder)
            if problem.measure is demon.ELBO:
                draw_autoencoder(study, problem, found, folder)
        report.write(folder, config=config.record(), problems=numbers(study, found))
    return str(report)


def draw_ranks(config: Config, ranked: Any, kept: list[str]) -> Any:
    return plots.rank_diagram(
        [demon.ENTRIES[name].label for name in config.optimizers],
        ranked.rank.estimate,
        difference=ranked.critical_difference,
        groups=ranked.groups,
        intervals=(ranked.rank.low, ranked.rank.high),
        title=f"Average rank over {len(kept)} tasks; bars: not told apart; whiskers: other seeds",
    )


def draw_curves(study: Study, problem: Problem, found: Found, folder: Path) -> None:
    runs = longest(problem, found)
    if not any(runs.values()):
        return
    parts = {"train": "training", "valid": "validation"}
    columns = [Column(f"{word} {problem.measure.label}", problem.measure, part) for part, word in parts.items()]
    title = f"{problem.shown}, {seeds_note(study)}"
    figure = plots.learning_panels(panels_of(study, runs, columns), title=title, log_y=[None, None])
    plots.save(figure, folder / f"curves_{problem.name}.png")


def draw_autoencoder(study: Study, problem: Problem, found: Found, folder: Path) -> None:
    """Samples and the latent plane of the optimizer with the least negative ELBO, where one is there."""
    means = {
        name: values(own, problem.measure).mean()
        for name, own in longest(problem, found).items()
        if own and own[0].seed == study.seeds[0] and not own[0].diverged
    }
    if not means:
        return
    best = min(means, key=lambda name: means[name])
    epochs = max(problem.epochs)
    params, task = comparison.retrieve(study, problem.name, best, epochs)
    side, span = 12, 2.5
    images = task.test.images[:1000]
    latents, _ = models.vae_encode(params, jnp.asarray(images / np.float32(255)))
    height, width = images.shape[1:3]

    def decode(points: Any, rows: int) -> np.ndarray:
        return np.asarray(models.vae_decode(params, jnp.asarray(points))).reshape(rows, -1, height, width)

    samples = decode(jax.random.normal(jax.random.key(0), (4 * side, latents.shape[1])), 4)
    first = (images[:side, :, :, 0] / 255).reshape(1, side, height, width)
    title = f"{problem.shown}, {study.candidate(best).shown}, {epochs} epochs"
    labels = ("test image", "reconstruction", *["sample"] * 4)
    grid = plots.image_grid(np.concatenate([first, decode(latents[:side], 1), samples]), title=title, labels=labels)
    plots.save(grid, folder / "vae_samples.png")
    if latents.shape[1] == 2:
        ticks = np.linspace(-span, span, 20)
        plane = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)
        classes = np.asarray(task.test.labels[:1000])
        figure = plots.latent_map(np.asarray(latents), classes, decode(plane, 20), span, title=title)
        plots.save(figure, folder / "vae_latents.png")


if __name__ == "__main__":
    try:
        options = parse(Config, __doc__)
        carry_out(options, make_study, partial(make_report, options))
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"overview: {error}")
