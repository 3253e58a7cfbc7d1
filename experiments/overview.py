"""Six tasks under ten optimizers: the Demon benchmark with the tuning, seeds and intervals that the original lacks.

Claim: Demon Adam is the best adaptive method in every column, and Demon SGDM is among the best of the others. The
sources are Chen, Wolfe, Li & Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay"
(arXiv:1910.04952), and the first author's article of February 2020, whose two tables (adaptive and non-adaptive
methods; mean and standard deviation of error %, perplexity and negative ELBO) are shown beside the measured numbers
where tasks and epochs agree.

Protocol: the article's, as far as it is described. SGDM, AggMo and QHM divide the learning rate by 10 at 50% and 75% of
the epochs, Demon decays its momentum over the whole run, and QHM has learning rate / (1 - momentum). Only AdamW decays
weights, by PyTorch's default of 0.01, which is not tuned. Learning rate and momentum are tuned, with the same number of
trials for every optimizer: those nearest to a common rate come first (`gdlab.comparison.ladder`), so the two trials of
the smoke tier differ in the rate. A trial is judged at its end by a held-out part of the training set; the test set is
not used for tuning. YellowFin tunes only the factor on its own rate, so its trials are all rates. Final runs have other
seeds than trials and also leave out the held-out part: numbers can be a little worse than with a whole training set.

--tier smoke: narrow networks on parts of MNIST, Fashion-MNIST, CIFAR-10 (also in place of CIFAR-100 and STL-10) and a
text, to check that everything works. laptop: wider networks and longer runs on the same data. gpu: the article's
networks, data and epochs. The text is Penn Treebank where it is prepared, or any folder with train.txt, valid.txt and
test.txt: --text FOLDER.

Every training has a run folder below --out, from which the same command resumes after an interruption. --shard i/n does
the i-th of n parts of the pairs of task and optimizer, so that several machines can share the work; --collect then only
writes the report. --slurm n submits n shards as a job array (extra `slurm`).

Command:   python experiments/overview.py [--tier smoke] [--text FOLDER] [--tasks ...] [--optimizers ...] [--shard 1/4]
Expect:    report.md, tables (text, CSV, LaTeX), results.json, curves of each task, the ranking and the VAE's latent
           plane in --out. On the smoke tier, roughly the numbers of benchmarks/results/overview_smoke.json.
Runtime:   smoke: 5 to 6 minutes on 2 CPU cores. laptop: intended for about an hour, not measured. gpu: not measured.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
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
from gdlab.comparison.options import Options, carry_out, parse, report_folder
from gdlab.comparison.published import published, published_beside
from gdlab.comparison.reports import longest, numbers, provenance
from gdlab.comparison.summaries import (
    Column,
    Found,
    across_table,
    across_words,
    panels_of,
    rank_over_problems,
    seeds_note,
    tuned_table,
    values,
)
from gdlab.compute.interrupts import command


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Settings of the benchmark; those that are left out take the tier's values."""

    tier: str = "smoke"
    """Size of the benchmark: smoke, laptop or gpu."""
    text: Path = Path("ptb")
    """Text for the LSTM: ptb, or a folder with train.txt, valid.txt and test.txt."""
    tasks: tuple[str, ...] = tuple(demon.KINDS)
    optimizers: tuple[str, ...] = tuple(demon.ENTRIES)
    columns: str = "first"
    """On the gpu tier, which of the article's numbers of epochs to run: first, last or all."""
    trials: int | None = None
    """Number of settings that each optimizer tries on each task."""
    together: bool | None = None
    """Whether the optimizers of a task share one program; default: yes, except on the gpu tier."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expand("text")
        require_choice("tier", self.tier, demon.TIERS)
        require_choice("columns", self.columns, demon.COLUMNS)
        require_names("tasks", self.tasks, demon.KINDS)
        require_names("optimizers", self.optimizers, demon.ENTRIES)
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks: expected distinct names, got {' '.join(self.tasks)}")
        make_study(self)  # it checks the other settings, and trains nothing

    @property
    def folder(self) -> Path:
        """Output folder."""
        return self.out or Path(f"runs/overview_{self.tier}")


def make_study(config: Config) -> Study:
    """Make a study of all ten optimizers, whichever are requested, so that the programs are always the same."""
    settings = config.pick("data_dir", "text", "seeds", "epochs", "columns", "trials", "dtype", "together")
    return demon.make_study(config.folder, config.tier, kinds=config.tasks, **settings)


def survey_tables(config: Config, study: Study, found: Found) -> dict[str, Table]:
    """Make the article's two tables, with published numbers beside ours where tasks and epochs agree."""

    def beside(problem: str, candidate: str, epochs: int) -> str | None:
        one = published(problem, candidate, epochs) if config.tier == "gpu" else None  # elsewhere networks differ
        return f"{one.mean:.2f} ± {one.sd:.2f}" if one else None

    caption = (
        " methods on the test set at the end of the run: mean ± standard deviation over seeds (*: lowest mean of the "
        "column). The published numbers do not state their split."
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
    report.add(f"Tier {config.tier}; {len(study.problems[0].trials['adam'])} trials per optimizer and task.")
    if config.tier != "gpu":
        report.add("Networks, data and epochs are not the article's, so its numbers cannot be compared with these.")
    report.add("## Results", **survey_tables(config, study, found))
    with report_folder(config) as folder:
        if (ranked := rank_over_problems(study, found)) is not None:
            report.add("## Ranking", ranking=across_table(study, *ranked, config.optimizers))
            report.add(across_words(ranked[0], len(ranked[1])))
            plots.save(draw_ranks(config, *ranked), folder / "ranking.png")
        note = "AggMo's momentum is the second of three, after 0; YellowFin's number is the factor on its own rate."
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
        title=f"Average rank over {len(kept)} tasks; bars: no significant difference",
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
    """Draw samples and the latent plane of the optimizer with the lowest negative ELBO, if there is a result."""
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
    with command("overview", OSError, ValueError, ImportError):
        options = parse(Config, __doc__)
        carry_out(options, make_study, partial(make_report, options))
