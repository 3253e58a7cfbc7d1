"""Write benchmarks/RESULTS.md: every measured table, from the JSON files in benchmarks/results.

Command: python -m benchmarks.results

A test compares the page with the files, so a number on the page is always a number in a file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.author_claims import MARGIN, ON_MATRICES, ON_VECTORS, Claim, findings
from benchmarks.cost_tables import costs, fused
from benchmarks.judgement_tables import judgement
from benchmarks.speed_tables import (
    gpu,
    imports,
    many_speed,
    pages,
    scan_speed,
    sweep_speed,
    task_speed,
    training_speed,
)
from benchmarks.tables import Results, table
from gdlab.analysis.arrivals import share_cells
from gdlab.sweeps import FOR_VECTORS, changed_arguments

HERE = Path(__file__).parent
PAGE = HERE / "RESULTS.md"


def main() -> None:
    PAGE.write_text(page())
    print(f"{PAGE}: written")


def page() -> str:
    """The whole page."""
    parts = [
        "# Results",
        "Every number here comes from a file in `benchmarks/results`, which names the device, the versions and the "
        "command that measured it. This page is written by `python -m benchmarks.results`; do not edit it by hand.",
    ]
    for name, title, section in SECTIONS:
        found = json.loads((HERE / "results" / f"{name}.json").read_text())
        parts += [f"## {title}", *section(found), measured(name, found)]
    return "\n\n".join(parts) + "\n"


def measured(name: str, found: Results) -> str:
    """Where the numbers come from."""
    how = found["environment"]
    device = how.get("device") or f"{how['cores']} cores ({how['processor']})"
    versions = ", ".join(f"{package} {version}" for package, version in how["versions"].items())
    seconds = f", {found['seconds']:.0f} s" if isinstance(found.get("seconds"), float) else ""
    command = how["command"] if "`" in how["command"] else f"`{how['command']}`"
    return f"*`results/{name}.json`: {command}, {how['date']}, {device}, {versions}{seconds}.*"


def ackley(found: Results) -> list[str]:
    sound = [one for one in found["starts"] if one["gradient"] == "autodiff"]
    (source,) = (one for one in found["starts"] if one["gradient"] != "autodiff")
    rates, shares = found["shares"]["learning_rates"], found["shares"]["shares"]["sgd"]
    small = min(range(len(rates)), key=lambda k: abs(rates[k] - 0.01))
    rows = [
        (
            one["method"],
            f"{one['learning_rate']:.3g}",
            *share_cells(one),
        )
        for one in sound
    ]
    return [
        "The share of 1,000 starts in [-5, 5]^2 that reach the global minimum: gradients by automatic differentiation, "
        "the learning rate tuned on other starts, cosine decay, 500 steps; Wilson's intervals for 95%.",
        table(("method", "learning rate", "reach the global minimum", "95% interval"), rows),
        f"With the difference quotient as the source article prints it, {source['share']:.1%} of the starts reach "
        f"the minimum. At learning rate 0.01 gradient descent reaches it from {shares[small]:.1%} of the starts.",
    ]


def zoo(found: Results) -> list[str]:
    rows = []
    for function in dict.fromkeys(one["function"] for one in found["results"]):
        ranked = sorted(
            (one for one in found["results"] if one["function"] == function and one["optimizer"] in FOR_VECTORS),
            key=lambda one: (-one["share"], one["median_steps"] or float("inf")),
        )
        rows.append(
            [
                function,
                *(f"{one['optimizer']} {100 * one['share']:.0f}% in {one['median_steps']:.0f}" for one in ranked[:5]),
            ]
        )
    return [
        "Every optimizer has the same budget: 22 learning rates, each constant and with cosine decay, on 128 starts "
        "for tuning; then 256 other starts of 1,000 steps are judged. The share of starts that reach the minimum, and "
        "the median of the steps that those take; a step of L-BFGS, SSBroyden or Newton-CG computes several gradients. "
        "Functions whose minimizer is the origin are moved. All optimizers: "
        "[summary](../experiments/pictures/zoo_summary.png).",
        table(("function", "first", "second", "third", "fourth", "fifth"), rows),
        changed_arguments(FOR_VECTORS),
    ]


def race(found: Results) -> list[str]:
    def ranked(records: list[Results]) -> str:
        rows = [
            (
                one["optimizer"],
                *share_cells(one),
                f"{one['rank']:.1f}",
                "never" if one["steps_median"] is None else f"{one['steps_median']:.0f}",
                f"{one['good_decades']:.2f}",
            )
            for one in records
        ]
        return table(("optimizer", "share", "95% interval", "rank", "half", "decades"), rows)

    vectors = [
        "The same Sobol search of 32 learning rates for all, on 128 tuning starts of each of twelve functions; then "
        "1,024 other starts, 1,000 steps in float32. Share: of all starts that come within 0.01 of a global minimum; "
        "rank: mean over functions; half: steps by which half of all starts have arrived; decades: width of the region "
        "of learning rates whose share is at least 90% of the best. A step of L-BFGS, SSBroyden or Newton-CG computes "
        "several gradients.",
        ranked([one for one in found["results"] if one["optimizer"] in FOR_VECTORS]),
        changed_arguments(FOR_VECTORS),
        authors_claims(ON_VECTORS, found["results"]),
    ]
    if "matrices" not in found:  # measured before there was a race on matrices
        return vectors
    return [
        *vectors,
        f"On matrices: the same search, on 8 tuning starts of each of {len(found['matrices'][0]['functions'])} "
        "functions; then 64 other starts, 500 steps. All optimizers have their own defaults, but no weight decay. A "
        "descent arrives when f(x) - minimum has fallen to a thousandth of that at its start.",
        ranked(found["matrices"]),
        authors_claims(ON_MATRICES, found["matrices"]),
        "Authors make their claims about networks and noisy gradients, and these functions have neither: a claim that "
        f"fails here does not hold in general, and may hold there. Equal: within {100 * MARGIN:.0f} points. The "
        "intervals are about other starts of the same functions, leave out the chance of the search, and each of them "
        "misses its difference with a probability of 5%.",
    ]


def authors_claims(claims: tuple[Claim, ...], records: list[Results]) -> str:
    """What the authors of optimizers claim, as one table."""
    rows = [
        (
            f"{one.claim.optimizer} {'better than' if one.claim.better else 'as good as'} {one.claim.other}",
            f"{100 * one.difference:+.1f}",
            f"{100 * one.low:+.1f} to {100 * one.high:+.1f}",
            one.verdict,
        )
        for one in findings(claims, records)
    ]
    return table(("claim of its authors", "difference in points", "95% interval", "here"), rows)


def rates(found: Results) -> list[str]:
    rows = [
        (
            one["optimizer"],
            f"{one['learning_rate']:.3g}",
            *share_cells({"share": one["test_accuracy"], "share_low": one["test_low"], "share_high": one["test_high"]}),
            f"{one['good_decades']:.2f}",
        )
        for one in found["results"]
    ]
    lanes, seeds = found["settings"]["lanes"], found["settings"]["config"]["seeds"]
    return [
        f"{lanes:,} trainings of a perceptron on digits, {seeds} seeds of each setting. The rate is chosen on held-out "
        "images and judged on others. Decades: width of the region of rates whose held-out accuracy above chance is at "
        "least 90% of the best.",
        table(("optimizer", "rate", "test accuracy", "95% interval", "decades"), rows),
    ]


def policies(found: Results) -> list[str]:
    rows = [
        (
            one["problem"],
            one["optimizer"],
            f"{one['learning_rate']:.3g}",
            f"{one['return']:.4g}",
            f"{one['return_low']:.4g} to {one['return_high']:.4g}",
            *share_cells(one),
            "never" if one["updates_to_goal"] is None else f"{one['updates_to_goal']:.0f}",
            f"{one['gradient_growth']:.0f}",
        )
        for one in found["results"]
    ]
    return [
        "REINFORCE with a leave-one-out baseline. The learning rate is tuned on other seeds. Return: of the last tenth "
        f"of the updates, mean over {found['results'][0]['starts']} seeds; the best is 1 on the bandit and 500 on the "
        "cart-pole. Solved: the share of seeds whose return there is at least 0.95 and 475. Updates: the median until "
        "one reaches that. Growth: the largest norm of the gradient, relative to the first; the median.",
        table(
            ("problem", "optimizer", "rate", "return", "95% interval", "solved", "95% interval", "updates", "growth"),
            rows,
        ),
    ]


def gradient_free(found: Results) -> list[str]:
    def grid(kind: str, cell: Callable[[Results], str]) -> str:
        mine = [one for one in found["results"] if kind in one]
        places = sorted(dict.fromkeys((one["function"], one["dim"]) for one in mine), key=lambda place: place[0])
        cells = {(one["method"], one["function"], one["dim"]): cell(one) for one in mine}
        methods = dict.fromkeys(one["method"] for one in mine)
        several = len({dim for _, dim in places}) > 1
        head = [f"{name}, {dim}" if several else name for name, dim in places]
        return table(("method", *head), [(m, *(cells[m, *place] for place in places)) for m in methods])

    def arrival(one: Results) -> str:
        share, interval = share_cells(one)
        median = one["median_evaluations"]
        return f"{share} ({interval})" + ("" if median is None else f", {median:.0f}")

    return [
        "Every method has 2,000 function evaluations from each start, a gradient counts as three of them, and 8 "
        "settings are tried. The share of 128 starts (SciPy's: 32) that come within 0.1 of the minimizer in two "
        "dimensions, Wilson's interval for 95%, and the evaluations by which more than half of all starts have.",
        grid("share", arrival),
        "Digits by which the budget lowers the value, by number of dimensions: the median of 12 starts, 7 at most, and "
        "its bootstrap interval for 95%.",
        grid("digits", lambda one: f"{one['digits']:.1f} ({one['digits_low']:.1f} to {one['digits_high']:.1f})"),
    ]


def overview(found: Results) -> list[str]:
    names = list(found["measures"])
    rows = [
        (name, f"{row['rank']:.2f}", *(f"{row['test'][task]:.1f} ± {row['sd'][task]:.1f}" for task in names))
        for name, row in found["optimizers"].items()
    ]
    return [
        "The smoke tier of `experiments/overview.py`: narrow networks, little data, two seeds, two epochs (the VAE: "
        "five). It shows that everything works; **it does not show which optimizer is better**. Mean ± standard "
        "deviation over the seeds on the test set, and the average rank.",
        table(("optimizer", "mean rank", *(f"{task}, {what}" for task, what in found["measures"].items())), rows),
        found["note"],
    ]


def oracles(found: Results) -> list[str]:
    rows = [
        (
            one["optimizer"],
            one["oracle"],
            one["version"],
            f"{one['largest']:.1e}" + (f" ({one['why']})" if one["why"] else ""),
        )
        for one in found["rows"]
    ]
    return [
        f"Trajectories of {found['steps']} steps in float64 on Rosenbrock's function, a random least-squares problem "
        "and a small network, once with the defaults and once with every argument changed. The deviation is the "
        "largest difference of any coordinate at any step, relative to the largest coordinate. The tests hold every "
        "one below 1e-10, except where the table says why not. Where no package implements a method as published, "
        "the oracle is a reference in plain NumPy, written from the equations alone "
        "(`tests/oracles/numpy_optimizers.py`).",
        table(("optimizer", "oracle", "version", "largest relative deviation"), rows),
    ]


def gpu_programs(found: Results) -> list[str]:
    def cells(one: Any) -> tuple[str, str]:
        most = sorted(one["kernels"].items(), key=lambda kind: -kind[1])[:3]
        return f"{one['kernels_per_step']:,.0f}", ", ".join(f"{number} {kind}" for kind, number in most)

    return [
        "Kernels a step, counted in what XLA compiles for an H100. No GPU took part, and no speed follows. The kinds "
        "are those of one pass of the loop, which takes up to four steps in a sweep.",
        table(
            ("program", "kernels a step", "the most frequent in a pass"),
            [(name, *cells(one)) for name, one in found["programs"].items()],
        ),
    ]


SECTIONS: tuple[tuple[str, str, Callable[[Results], list[str]]], ...] = (
    ("ackley_descent", "The source article's first half: Ackley's function", ackley),
    ("optimizer_zoo", "The optimizers on four functions", zoo),
    ("toy_race", "The optimizers on twelve functions", race),
    ("learning_rate_scan", "Which learning rate, on a network", rates),
    ("policy_gradient", "REINFORCE on a bandit and a cart-pole", policies),
    ("gradient_free", "When a gradient pays", gradient_free),
    ("judgement", "An optimizer judged", judgement),
    ("overview_smoke", "Six tasks, ten optimizers, smoke tier", overview),
    ("sweep_speed", "Speed of sweeps", sweep_speed),
    ("training_speed", "Speed of training", training_speed),
    ("task_speed", "Speed of the six tasks", task_speed),
    ("scan_speed", "Speed of a scan", scan_speed),
    ("many_speed", "Speed of many trainings", many_speed),
    ("gpu_second_run", "Runs on a GPU", gpu),
    ("gpu_first_run", "First runs on a GPU", gpu),
    ("gpu_programs", "Programs for a GPU", gpu_programs),
    ("page_speed", "Pages", pages),
    ("import_time", "Import time", imports),
    ("optimizer_cost", "What an optimizer costs", costs),
    ("fused_step", "A step against optax and PyTorch", fused),
    ("oracle_deviation", "Deviation from independent implementations", oracles),
)

if __name__ == "__main__":
    main()
