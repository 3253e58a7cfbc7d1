"""The tables of judgements, for the page of results."""

import numpy as np

from benchmarks.tables import Results
from gdlab.analysis.intervals import seeds_interval
from gdlab.analysis.tables import Table
from gdlab.judging import baselines
from gdlab.judging.tiers import TIERS
from gdlab.optimizers import OPTIMIZERS


def judgement(found: Results) -> list[str]:
    """What `gdlab judge` prints for the README's optimizer, how often it is wrong, and the opponents' results."""
    false = found["false"]
    networks = TIERS["quick"].networks
    records = [record for name in OPTIMIZERS if (record := baselines.stored(name)) is not None]
    rows = []
    for record in sorted(records, key=lambda each: -np.mean(each.solved)):
        interval = seeds_interval(np.asarray(record.solved))
        rows.append(
            (
                record.name,
                f"{100 * interval.estimate:.1f}%",
                f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%",
                f"{100 * np.mean([each['breadth'] for each in record.problems.values()]):.0f}%",
                *(_digits(record, name) for name in networks),
            )
        )
    head = ("optimizer", "problems solved", "95% interval", "breadth", *(f"{name}, digits" for name in networks))
    return [
        f"`gdlab judge mine.py:cautious_qhadam`, the README's second example, took {found['seconds']:.0f} s:",
        "```text\n" + "\n".join(found["printed"]) + "\n```",
        f"Of {false['judgements']} simulated judgements of Adam against three opponents that are Adam as well, on "
        f"other seeds (three families, 16 seeds), {false['wrong']['overall']} call it better or worse overall, and "
        f'{false["wrong"]["parts"]} in a family; {100 * false["equal"]:.0f}% of the overall verdicts are "equal".',
        "The stored results of opponents (`gdlab/baselines`): the share of 64 problems at four levels that is solved, "
        "with its interval over 64 judged seeds; the breadth, which is the share of 32 learning rates that solve a "
        "problem and level; and the decimal digits by which the test loss of each network is below that of an answer "
        "that knows nothing, the mean over 16 seeds.",
        Table(head, rows).markdown(),
    ]


def _digits(record: baselines.Record, name: str) -> str:
    return f"{np.mean(record.networks[name]['digits']):.2f}" if name in record.networks else ""
