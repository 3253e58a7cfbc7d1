"""A study's report: tables as text, Markdown, CSV, LaTeX and JSON, explanations, and the runs' provenance."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdlab.analysis.claims import DECISION, Verdict
from gdlab.analysis.intervals import FEW
from gdlab.analysis.tables import Block, Table, counted, render
from gdlab.arguments import as_path, require_instance, require_mapping
from gdlab.comparison.problems import Problem, require_line
from gdlab.comparison.results import Collected, Run, collect_all
from gdlab.comparison.study import Study
from gdlab.comparison.summaries import (
    Column,
    Found,
    across_table,
    across_words,
    problem_tables,
    rank_over_problems,
    summarize,
    tuned_table,
    values,
)
from gdlab.records.environment import environment
from gdlab.records.files import require_folder, write_json


@dataclasses.dataclass
class Report:
    """A report: blocks of text and tables to read, and numbers for further calculations.

    Attributes:
      blocks: the text and tables, in order.
      tables: the tables that are also written to files of their own, by the name of these files.
      results: the content of results.json.
    """

    blocks: list[Block] = dataclasses.field(default_factory=list)
    tables: dict[str, Table] = dataclasses.field(default_factory=dict)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, *blocks: Block, **tables: Table) -> None:
        """Append blocks, and after them tables.

        Args:
          *blocks: text and tables.
          **tables: tables that are also written to files of their own, by the name of these files.
        """
        for block in blocks:
            require_instance("blocks", block, (str, Table), "text and tables")
        for name, table in tables.items():
            require_instance(f"tables[{name}]", table, Table, "a Table")
        self.blocks += [*blocks, *tables.values()]
        self.tables |= tables

    def __str__(self) -> str:
        return render(self.blocks, markdown=False)

    def write(self, folder: str | Path, **results: Any) -> None:
        """Write report.txt, report.md, results.json, and each table as .txt, .csv and .tex.

        Args:
          folder: the folder to write to.
          **results: further entries of results.json, which also records the environment.
        """
        folder = as_path("folder", folder)
        require_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            table.write(folder / name)
        (folder / "report.txt").write_text(str(self), encoding="utf-8")
        (folder / "report.md").write_text(render(self.blocks, markdown=True), encoding="utf-8")
        write_json(folder / "results.json", {"environment": environment(), **self.results, **results})


def report(study: Study, *, title: str = "Comparison", found: Found | None = None) -> Report:
    """Make the report of everything that a study's folder holds.

    It shows, for each problem, the measure on the test set as mean and standard deviation over seeds with Student's
    interval, and paired differences to the best candidate; for several problems, average ranks with Friedman's test;
    the tuned settings; and the machines and versions of the runs. The functions that make its parts are also
    available for other reports.

    Args:
      study: the study.
      title: the report's title. Default "Comparison".
      found: what the folders hold, as from `collect_all`. Default: `collect_all(study)`.

    Returns:
      The report.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: as `collect` does, or if `found` lacks a problem.
    """
    require_instance("study", study, Study, "a Study")
    require_line("title", title, empty=False)
    if found is not None:
        require_mapping("found", found, "from problems to candidates, as from collect_all")
        for problem in study.problems:
            own = found.get(problem.name)
            require_mapping(f"found[{problem.name}]", own, "from candidates to Collected", least=1)
            for one in found[problem.name].values():
                require_instance(f"found[{problem.name}]", one, Collected, "the Collected of each candidate")
    found = collect_all(study) if found is None else found
    made = Report()
    made.add(f"# {title}", *provenance(study, found), "## Results")
    for problem in study.problems:
        columns = [Column(f"test {problem.measure.label}", problem.measure, "test")]
        made.add(f"### {problem.shown}", **problem_tables(study, problem, longest(problem, found), columns, columns))
    if (over := rank_over_problems(study, found)) is not None:
        made.add("## Ranking", ranking=across_table(study, *over, list(next(iter(found.values())))))
        made.add(across_words(over[0], len(over[1])))
    if any(problem.is_tuned(name) for problem in study.problems for name in found[problem.name]):
        made.add("## Tuned values", tuned=tuned_table(study, found))
    made.results = {"problems": numbers(study, found)}
    return made


def longest(problem: Problem, found: Found) -> dict[str, list[Run]]:
    """Return each candidate's final runs of the problem's greatest number of epochs."""
    return {name: one.runs[max(problem.epochs)] for name, one in found[problem.name].items()}


def claims_blocks(verdicts: Sequence[Verdict]) -> list[Block]:
    """Return a list with one line per claim: its verdict, and what decided it."""
    lines = [f"- {one.claim.text}: {one.verdict} ({one.why}). Margin: {one.claim.criterion}." for one in verdicts]
    return ["\n".join(lines)]


def claims_note(verdicts: Sequence[Verdict], metric: str) -> str:
    """Return the claims about a metric, a line each with the verdict first, to write below its curves."""
    return "\n".join(f"{one.verdict}: {one.claim.text}" for one in verdicts if one.claim.metric == metric)


def claims_table(verdicts: Mapping[str, Sequence[Verdict]]) -> Table:
    """Make a table of verdicts with one row per claim and one column per problem."""
    claims = [one.claim.text for one in next(iter(verdicts.values()))]
    rows = [(text, *(own[place].verdict for own in verdicts.values())) for place, text in enumerate(claims)]
    return Table(("claim", *verdicts), rows, DECISION)


def settings_line(settings: Mapping[str, Any], source: Mapping[str, Any], *more: str) -> str:
    """Describe how settings differ from those of the source that is reproduced.

    Args:
      settings: the settings.
      source: the source's settings.
      *more: other differences, in words.
    """
    changed = [f"{name} {value} ({source[name]})" for name, value in settings.items() if value != source[name]]
    return f"Differences from the source (its settings are in parentheses): {'; '.join([*changed, *more]) or 'none'}."


def provenance(study: Study, found: Found) -> list[Block]:
    """Describe when, where and on what the runs were made, with which seeds, and how many are missing."""
    here = environment()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    runs = [run for each in found.values() for one in each.values() for own in one.runs.values() for run in own]
    on = {str(run.config["identity"].get("versions and device")) for run in runs}
    lines: list[Block] = [
        f"Report written on {here['date']} with {', '.join(here['devices'])}; {counted(here['cores'], 'core')} "
        f"({here['processor']}); {versions}.",
        f"Trained on: {'; '.join(sorted(on)) or 'no finished run yet'}. Seeds: {', '.join(map(str, study.seeds))}.",
    ]
    if sizes := [line for problem in study.problems if (line := data_line(problem, found[problem.name]))]:
        lines.append("\n".join(sizes))
    missing = sum(one.missing for each in found.values() for one in each.values())
    if missing:
        verb = "is" if missing == 1 else "are"
        lines.append(f"{counted(missing, 'training')} {verb} not done yet; a dash marks a result without a run.")
    return [*lines, seeds_line(len(study.seeds))]


def data_line(problem: Problem, found: Mapping[str, Collected]) -> str:
    """Describe the sizes of the problem's data and the model, as its runs record them; "" if there are no runs."""
    every = [run for one in found.values() for own in one.runs.values() for run in own]
    if not every:
        return ""
    task = every[0].config.get("task")
    task = task if isinstance(task, dict) else {}
    sizes = [f"{task[key]:,} {word}" for key, word in _PARTS.items() if isinstance(task.get(key), int)]
    trials = f"; trials of {counted(problem.tuning_epochs, 'epoch')}" if any(map(problem.is_tuned, found)) else ""
    line = f"- {problem.shown}: {', '.join(sizes) or 'sizes unknown'}{trials}"
    line += f"; model: {task['model']}." if "model" in task else "."
    data = task.get("data")
    encoding = str(data.get("encoding", "")) if isinstance(data, dict) else ""
    if "lossy" in encoding:
        line += f" The images were stored as {encoding}, so their pixels differ slightly from the published ones."
    return line


_PARTS = {"train": "for training", "valid": "held out", "test": "for testing"}


def seeds_line(count: int) -> str:
    """Describe how reliable intervals over `count` seeds are."""
    if count == 1:
        return "One seed does not show how much results vary: there are no intervals, and all claims are undecided."
    kind = (
        "Student's, of paired differences where two are compared" if count < FEW else "percentile bootstrap intervals"
    )
    return f"Intervals over {count} seeds are {kind}. No interval is corrected for multiple comparisons."


def numbers(study: Study, found: Found, columns: Sequence[Column] = ()) -> dict[str, Any]:
    """Collect all numbers of the study, including tuned values and trials, for a JSON file.

    Args:
      study: the study.
      found: what the folders hold for each problem and candidate.
      columns: the measures of each final run, at its end and at its best epoch. Default: each problem's measure on
        the training, held-out and test data.

    Returns:
      Nested dictionaries by problem and candidate.
    """

    def pair(problem: Problem, one: Collected) -> dict[str, Any]:
        measure = problem.measure
        asked = columns or [Column(part, measure, part) for part in ("train", "valid", "test")]
        finals = {}
        for epochs, runs in one.runs.items():
            there = [each for each in asked if runs and f"{each.part}_{each.measure.metric}" in runs[0].history]
            finals[str(epochs)] = {
                **{
                    which: {each.label: summarize(values(runs, each.measure, each.part, which)) for each in there}
                    for which in ("final", "best")
                },
                "seconds": [float(run.seconds.sum()) for run in runs],
                "best_epoch": [run.best_epoch for run in runs],
                "diverged": [run.diverged for run in runs],
            }
        return {
            "label": study.candidate(one.candidate).shown,
            "setting": None if one.setting is None else dict(one.setting),
            "at_the_edge": one.at_the_edge,
            "trials": [
                {**setting, measure.label: score} for setting, score in zip(one.trials, one.scores, strict=True)
            ],
            "runs": finals,
            "missing": one.missing,
        }

    return {
        problem.name: {
            "measure": problem.measure.label,
            "optimizers": {name: pair(problem, one) for name, one in found[problem.name].items()},
        }
        for problem in study.problems
    }
