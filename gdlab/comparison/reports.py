"""A study's report: tables as text, Markdown, CSV, LaTeX and JSON, the words between them, and where it all was run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdlab.analysis.claims import COVERAGE, DECISION, Verdict
from gdlab.analysis.tables import Block, Table, render
from gdlab.comparison.results import Collected, Run, collect_all
from gdlab.comparison.study import Problem, Study
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
from gdlab.records.files import write_json


@dataclasses.dataclass
class Report:
    """Blocks to read, and numbers to calculate with. tables: by the name of their files. results: for results.json."""

    blocks: list[Block] = dataclasses.field(default_factory=list)
    tables: dict[str, Table] = dataclasses.field(default_factory=dict)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, *blocks: Block, **tables: Table) -> None:
        """Blocks at the end, and after them tables, which are written to files of their own too."""
        self.blocks += [*blocks, *tables.values()]
        self.tables |= tables

    def __str__(self) -> str:
        return render(self.blocks, markdown=False)

    def write(self, folder: Path, **results: Any) -> None:
        """report.txt, report.md, results.json, and each table as .txt, .csv and .tex.

        results: further numbers for results.json, which says where it was written too.
        """
        for name, table in self.tables.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            table.write(folder / name)
        (folder / "report.txt").write_text(str(self))
        (folder / "report.md").write_text(render(self.blocks, markdown=True))
        write_json(folder / "results.json", {"environment": environment(), **self.results, **results})


def report(study: Study, *, title: str = "Comparison", found: Found | None = None) -> Report:
    """The report of all that the study's folder holds.

    For each problem the measure on the test set, as mean and standard deviation over seeds with Student's interval, and
    paired differences to the best; over several problems average ranks with Friedman's test; the settings that were
    tuned; and on what all was run. found: as of `collect_all(study)`, the default. The pieces it is made of serve for a
    report of one's own.
    """
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
    """Of each candidate the problem's final runs of the greatest length."""
    return {name: one.runs[max(problem.epochs)] for name, one in found[problem.name].items()}


def claims_blocks(verdicts: Sequence[Verdict]) -> list[Block]:
    """A line per claim, with what decided it."""
    lines = [f"- {one.claim.text}: {one.verdict} ({one.why}). Margin: {one.claim.criterion}." for one in verdicts]
    return ["\n".join(lines)]


def claims_table(verdicts: Mapping[str, Sequence[Verdict]]) -> Table:
    """A row per claim, a column per problem."""
    claims = [one.claim.text for one in next(iter(verdicts.values()))]
    rows = [(text, *(own[place].verdict for own in verdicts.values())) for place, text in enumerate(claims)]
    return Table(("claim", *verdicts), rows, DECISION)


def settings_line(settings: Mapping[str, Any], source: Mapping[str, Any], *more: str) -> str:
    """Where settings are not those of what is reproduced. more: other differences, in words."""
    changed = [f"{name} {value} ({source[name]})" for name, value in settings.items() if value != source[name]]
    return f"Not as in the source (whose setting is in parentheses): {'; '.join([*changed, *more]) or 'nothing'}."


def provenance(study: Study, found: Found) -> list[Block]:
    """Where and on what the runs were made, how many seeds there are, and what is missing."""
    here = environment()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    runs = [run for each in found.values() for one in each.values() for own in one.runs.values() for run in own]
    on = {str(run.config["identity"].get("versions and device")) for run in runs}
    lines: list[Block] = [
        f"Report of {here['date']}; {', '.join(here['devices'])}; {here['cores']} cores ({here['processor']}); "
        f"{versions}.",
        f"Trained on: {'; '.join(sorted(on)) or 'nothing yet'}. Seeds: {', '.join(map(str, study.seeds))}.",
    ]
    if sizes := [line for problem in study.problems if (line := data_line(problem, found[problem.name]))]:
        lines.append("\n".join(sizes))
    missing = sum(one.missing for each in found.values() for one in each.values())
    if missing:
        lines.append(f"{missing} trainings are not done yet: a dash stands for what has no run.")
    return [*lines, seeds_line(len(study.seeds))]


def data_line(problem: Problem, found: Mapping[str, Collected]) -> str:
    """The sizes of the problem's data and what it is trained with, as its runs say; "" where there is none."""
    every = [run for one in found.values() for own in one.runs.values() for run in own]
    if not every:
        return ""
    task = every[0].config["task"]
    sizes = [f"{task[key]:,} {word}" for key, word in _PARTS.items() if key in task]
    trials = f"; trials of {problem.tuning_epochs} epochs" if any(map(problem.is_tuned, found)) else ""
    line = f"- {problem.shown}: {', '.join(sizes) or 'sizes unknown'}{trials}"
    line += f"; {task['model']}." if "model" in task else "."
    if "lossy" in task.get("data", {}).get("encoding", ""):
        encoding = task["data"]["encoding"]
        line += f" The images were stored as {encoding}: they are not quite the published pixels."
    return line


_PARTS = {"train": "for training", "valid": "held out", "test": "for the test"}


def seeds_line(count: int) -> str:
    """What intervals over so many seeds are worth."""
    if count == 1:
        return "One seed does not tell how much seeds differ: no interval, and no claim is decided."
    hold = COVERAGE[max(n for n in COVERAGE if n <= count)]
    return (
        f"Of bootstrap intervals for 95% over {count} seeds about {hold}% hold the mean if results are normal; "
        "Student's are right then. No interval is corrected for the number of comparisons."
    )


def numbers(study: Study, found: Found, columns: Sequence[Column] = ()) -> dict[str, Any]:
    """All of the study's numbers, tuned values and trials among them, for a file of JSON.

    columns: what is told of each final run, at its end and at its best epoch; default each problem's measure.
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
