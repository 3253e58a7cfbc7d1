"""Every argument of the public functions of gdlab.comparison and gdlab.analysis refuses wrong values in one line."""

import re
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gdlab import FUNCTIONS, comparison, optimizers, tasks
from gdlab.analysis import arrivals, basins, claims, intervals, learning_curves, rankings, statistics, tables
from gdlab.comparison import Candidate, Measure, Problem, Run, Study, demon

NAN, INF = float("nan"), float("inf")
NOT_A_NUMBER = (None, "a", [1.0], NAN, 1j)
NOT_A_COUNT = (None, "a", 1.5, True, -1, [2])
NOT_SAMPLES = (None, "a", ["a"], [], [NAN], 3.0, [[1.0], [1.0, 2.0]], {"a": 1.0}, [1j], object())
NOT_A_MATRIX = (*NOT_SAMPLES, [1.0, 2.0], np.ones((2, 2, 2)), np.ones((0, 3)))
NOT_A_LEVEL = (*NOT_A_NUMBER, 0.0, 1.0, 2.0, -0.5)
NOT_TEXT = (None, 3, ["a"], b"a", "")
NOT_A_FLAG = (None, 1, "no")
NOT_A_FUNCTION = (None, 3, "mean")
NOT_A_PATH = (None, 3, "", "a\0b", b"a")
NOT_A_MAPPING = (None, 3, "a", [1])
NOT_A_SIGN = (None, 3, "more", ["lower"])
RESAMPLING = {"level": NOT_A_LEVEL, "resamples": (*NOT_A_COUNT, 0), "seed": NOT_A_COUNT}

SAMPLES = np.arange(6.0).reshape(2, 3)
COSTS = np.arange(1.0, 13.0).reshape(3, 2, 2)
RUNS = {
    name: [Run(s, {"loss": np.ones(12) * k, "train_loss": np.ones(12)}, np.ones(12), {}) for s in range(2)]
    for k, name in enumerate("ab")
}
CLAIM = claims.Claim("text", "criterion", ("a",), lambda found: np.ones((1, 2)))
SWEPT = xr.Dataset({name: ("start", [1]) for name in ("first_reached", "value", "reached", "diverged")})

ANALYSIS = [
    (
        intervals.share_interval,
        {"hits": 3, "total": 10},
        {"hits": (None, "a", 1.5, 11, -1, [[1], [1, 2]], NAN), "total": (*NOT_A_COUNT, 0), "level": NOT_A_LEVEL},
    ),
    (
        intervals.bootstrap_interval,
        {"samples": SAMPLES},
        {
            "samples": NOT_SAMPLES,
            "statistic": (*NOT_A_FUNCTION, lambda x: x, lambda x, axis: "a", lambda x, axis: None),
            **RESAMPLING,
        },
    ),
    (
        intervals.paired_bootstrap_interval,
        {"first": SAMPLES, "second": SAMPLES},
        {"first": NOT_SAMPLES, "second": (*NOT_SAMPLES, SAMPLES[:1]), "statistic": NOT_A_FUNCTION, **RESAMPLING},
    ),
    (intervals.mean_interval, {"samples": SAMPLES}, {"samples": (*NOT_SAMPLES, [INF]), "level": NOT_A_LEVEL}),
    (intervals.seeds_interval, {"samples": SAMPLES}, {"samples": NOT_SAMPLES, **RESAMPLING}),
    (
        intervals.paired_seeds_interval,
        {"first": SAMPLES, "second": SAMPLES},
        {"first": NOT_SAMPLES, "second": (*NOT_SAMPLES, SAMPLES[:1]), **RESAMPLING},
    ),
    (statistics.quartiles, {"samples": SAMPLES}, {"samples": NOT_SAMPLES}),
    (
        statistics.performance_profile,
        {"costs": SAMPLES + 1, "ratios": [1.0]},
        {"costs": (*NOT_A_MATRIX, -SAMPLES), "ratios": (*NOT_SAMPLES, [0.5])},
    ),
    (
        statistics.tuning_curve,
        {"scores": SAMPLES, "budgets": [1]},
        {"scores": NOT_SAMPLES, "budgets": (*NOT_SAMPLES, [1.5], [0], [4]), "better": NOT_A_SIGN},
    ),
    (
        statistics.good_region,
        {"rates": [0.1, 1.0], "scores": [0.5, 1.0]},
        {
            "rates": (*NOT_SAMPLES, [0.0, 1.0]),
            "scores": (*NOT_SAMPLES, [-1.0, 1.0], [INF, 1.0]),
            "share": (*NOT_A_NUMBER, 0.0, 1.5),
        },
    ),
    (statistics.steps_or_never, {"first": [1, -1]}, {"first": (None, "a", ["a"], [1.5], [NAN], [INF], {})}),
    (rankings.ranking, {"scores": SAMPLES}, {"scores": NOT_A_MATRIX, "better": NOT_A_SIGN, **RESAMPLING}),
    (
        rankings.compare_rankings,
        {"first": SAMPLES, "second": SAMPLES},
        {"first": NOT_A_MATRIX, "second": (*NOT_A_MATRIX, SAMPLES[:1]), "better": NOT_A_SIGN, **RESAMPLING},
    ),
    (rankings.average_ranks, {"scores": SAMPLES}, {"scores": NOT_A_MATRIX, "better": NOT_A_SIGN}),
    (
        rankings.rank_across_tasks,
        {"costs": COSTS},
        {
            "costs": (*NOT_SAMPLES, SAMPLES, COSTS[:1], COSTS[:, :0], -INF * COSTS),
            "resample_tasks": NOT_A_FLAG,
            **RESAMPLING,
        },
    ),
    (
        rankings.nemenyi_difference,
        {"solvers": 3, "tasks": 2},
        {"solvers": (*NOT_A_COUNT, 1), "tasks": (*NOT_A_COUNT, 0), "level": NOT_A_LEVEL},
    ),
    (
        rankings.indistinct_groups,
        {"ranks": [1.0, 2.0], "difference": 1.0},
        {"ranks": (None, "a", ["a"], [NAN], [INF], 3.0, SAMPLES), "difference": (*NOT_A_NUMBER, -1.0, INF)},
    ),
    (
        tables.Table,
        {"head": ("a", "b"), "rows": [("1", "2")]},
        {
            "head": (None, 3, "ab", (), ("a", 3), ("a", "b\n"), {"a": 1, "b": 2}),
            "rows": (None, 3, "ab", [3], ["ab"], [("1",)], [("1", 2)], [("1", "a\nb")]),
            "caption": (None, 3, "a\nb"),
        },
    ),
    (
        tables.render,
        {"blocks": ["a"], "markdown": True},
        {"blocks": (None, 3, "text", [3], {"a": 1}), "markdown": NOT_A_FLAG},
    ),
    (tables.Table(("a",), [("1",)]).write, {"stem": "table"}, {"stem": (*NOT_A_PATH, "folder/")}),
    (
        arrivals.first_arrival,
        {"path": SAMPLES, "minimizers": np.ones((1, 3)), "distance": 0.1},
        {
            "path": (None, "a", [1.0], [["a"]]),
            "minimizers": (None, "a", [1.0], np.ones((1, 2)), np.ones((0, 3)), [[NAN] * 3]),
            "distance": (*NOT_A_NUMBER, -1.0),
        },
    ),
    (arrivals.share_record, {"arrived": [True]}, {"arrived": (None, "a", [1], [], [[True]], True)}),
    (arrivals.arrivals_record, {"runs": SWEPT}, {"runs": (None, 3, {}, SWEPT.drop_vars("first_reached"))}),
    (arrivals.share_cells, {"record": {}}, {"record": (*NOT_A_MAPPING, {}, {"share": 0.5})}),
    (arrivals.percent, {"share": 0.5}, {"share": (*NOT_A_NUMBER, -0.1, 1.1)}),
    (arrivals.median_steps, {"first": [1, -1]}, {"first": (None, "a", [], 3, [1.5], [NAN])}),
    (
        arrivals.mean_steps,
        {"first": [1, -1], "max_steps": 5},
        {"first": (None, "a", [], 3, [1.5], [NAN]), "max_steps": (*NOT_A_COUNT, 0)},
    ),
    (
        arrivals.best_settings,
        {"first": [[1], [2]], "values": SAMPLES[:, :1]},
        {
            "first": (None, "a", [], 3, [[1.5]]),
            "values": (None, "a", SAMPLES),
            "steps": NOT_A_FUNCTION,
            "negligible": (*NOT_A_NUMBER, -1.0, 2.0),
        },
    ),
    (
        basins.find_minima,
        {"function": FUNCTIONS["booth"], "ends": np.zeros((1, 2))},
        {"function": (None, 3, "booth", FUNCTIONS["booth"].fn), "ends": (None, "a", [1.0], np.ones((1, 2, 2)))},
    ),
    (
        basins.label_ends,
        {"ends": SAMPLES, "diverged": [True, False], "minima": SAMPLES},
        {
            "ends": (None, "a", [1.0], np.ones((2, 2))),
            "diverged": (None, "a", [True], [0, 1]),
            "minima": (None, "a", [1.0], SAMPLES * NAN),
            "distance": (*NOT_A_NUMBER, 0.0, -1.0),
        },
    ),
    (
        learning_curves.band,
        {"rows": [[1.0]]},
        {"rows": (None, 3, "a", [], ["a"], [3.0], [[]], [[1j]], {"a": [1.0]}), "interval": NOT_A_FUNCTION},
    ),
    (
        learning_curves.bands,
        {"histories": {"a": [[1.0]]}},
        {"histories": (*NOT_A_MAPPING, {"a": 3}, {"a": ["b"]}, {"a": []}, {"a": [[]]})},
    ),
    (
        claims.judge_claim,
        {"claim": CLAIM, "found": RUNS},
        {
            "claim": (None, 3, "a", CLAIM._replace(margins=3)),
            "found": (*NOT_A_MAPPING, {"a": 3}, {"a": [3]}),
            "rivals": (3, "a"),
            "labels": (3, "a", ["a"]),
        },
    ),
    *(
        (
            function,
            {"found": RUNS, "metric": "loss"} | more,
            {"found": (*NOT_A_MAPPING, {"a": 3}, {"a": [3]}), "metric": (None, 3, "los")} | wrong,
        )
        for function, more, wrong in (
            (claims.at_end, {}, {}),
            (claims.by_epoch, {}, {}),
            (claims.share_ahead, {"name": "a"}, {"name": (None, 3, "c")}),
            (claims.in_order, {"names": ["a", "b"]}, {"names": (None, 3, "ab", ["c"])}),
            (claims.early_means, {}, {"parts": (*NOT_A_COUNT, 0)}),
            (claims.late_rises, {"names": ["a"]}, {"names": (None, 3, "ab", ["c"]), "parts": (*NOT_A_COUNT, 0)}),
            (claims.linearity, {"names": ["a"]}, {"names": (None, 3, "ab", ["c"])}),
        )
    ),
    (
        claims.differences,
        {"values": {"a": np.ones(2), "b": np.ones(2)}, "first": ["a"]},
        {"values": NOT_A_MAPPING, "first": (None, 3, "a", ["c"]), "second": (3, "a", ["c"])},
    ),
]


def make():
    return tasks.digits_mlp(hold_out=50, train_size=50, test_size=50, hidden=(2,), batch_size=50)


ADAM = Candidate("adam", optimizers.adam)
LOSS = Measure("loss", "loss")
ONE = Problem("digits", make, (1,), LOSS, {"adam": [{"learning_rate": 0.1}, {"learning_rate": 0.2}]})


def study(folder="nothing", problems=(ONE,), candidates=(ADAM,), seeds=(0,), **settings):
    return Study(folder, problems, candidates, seeds, **settings)


def reads_its_argument(learning_rate):
    return optimizers.sgd(float(learning_rate))


def with_problem(**fields):
    return study(problems=[ONE._replace(**fields)])


def with_measure(**fields):
    return with_problem(measure=LOSS._replace(**fields))


def with_candidate(**fields):
    return study(candidates=[ADAM._replace(**fields)])


def settings(*found):
    return {"adam": list(found)}


def trained(**fields):
    """Run a study whose task cannot be trained as the problem says, which is known once the task is made."""
    return comparison.run(with_problem(**fields), progress=False)


A_RUN = Run(0, {f"{part}_loss": np.ones(2) for part in ("train", "valid", "test")}, np.ones(2), {})
STUDY, REPORT = study(), comparison.Report()
NOT_A_STUDY = (None, 3, "study", ONE)
STUDIES = [
    (
        study,
        {},
        {
            "folder": NOT_A_PATH,
            "problems": (None, 3, "a", [], [3], [None], [ADAM], ONE.name, [ONE, ONE]),
            "candidates": (None, 3, "a", [], [3], [ONE], [ADAM, ADAM]),
            "seeds": (None, 3, "a", [], [-1], [0.5], ["a"], [True], [0, 0], [1000]),
            "tuning_seeds": (None, 3, "a", [], [-1], [0.5], [1, 1]),
            "together": NOT_A_FLAG,
        },
    ),
    (
        with_problem,
        {},
        {
            "name": (*NOT_TEXT, "../x", "a/b", ".", "a\0"),
            "make": NOT_A_FUNCTION,
            "epochs": (None, 1, "a", [], [0], [1.5], [1, 1]),
            "measure": (None, 3, "loss"),
            "trials": (*NOT_A_MAPPING, {}, {"adam": 3}, {"adam": []}, {"adam": [3]}, {"adam": ["a"]}),
            "tuning_epochs": (*NOT_A_COUNT, 0),
            "wrap": (*NOT_A_FUNCTION, lambda optimizer: 3, lambda: 3),
            "patience": ("a", 0, 1.5, True),
            "about": (None, 3),
            "label": (None, 3, "a\nb"),
        },
    ),
    (
        with_measure,
        {},
        {
            "label": (*NOT_TEXT, "a\nb"),
            "metric": NOT_TEXT,
            "convert": (*NOT_A_FUNCTION, lambda: 3, lambda value: "a", lambda value: None),
            "digits": NOT_A_COUNT,
            "better": NOT_A_SIGN,
        },
    ),
    (
        with_candidate,
        {},
        {
            "name": (*NOT_TEXT, "../x", "a/b", ".", "a\0"),
            "factory": (
                *NOT_A_FUNCTION,
                lambda learning_rate: 3,
                reads_its_argument,
            ),
            "label": (None, 3, "a\nb"),
        },
    ),
    (
        with_problem,
        {},
        {
            "trials": [
                settings({"learning_rate": value}, {"learning_rate": 0.5}) for value in (*NOT_A_NUMBER, INF, -1.0)
            ]
            + [
                settings({"nonsense": 1.0}),
                settings({"../x": 1.0}),
                settings({"learning_rate": 0.1}, {"learning_rate": 0.1}),
                settings({"total_steps": 3.0}),
                settings({"b1": 1.5}),
                settings({"mu_dtype": 3.0, "b1": "a"}),
            ]
        },
    ),
    (
        comparison.ladder,
        {"budget": 2, "learning_rate": 0.1},
        {
            "budget": (*NOT_A_COUNT, 0, 2000, 2**20),
            "learning_rate": (*NOT_A_NUMBER, 0.0, -1.0, INF),
            "momenta": (None, 3, "a", ["a"], [1.0], [NAN], [0.9, 0.9]),
            "factor": (*NOT_A_NUMBER, 1.0, INF),
            "momentum": (*NOT_TEXT, "learning_rate", "a b"),
        },
    ),
    (
        comparison.run,
        {"study": STUDY},
        {
            "study": NOT_A_STUDY,
            "problems": (None, 3, "digits", ["a"], [3]),
            "candidates": (None, 3, "adam", ["a"], [3]),
            "shard": (None, 3, (1,), (3, 2), (0, 2), ("a", 2), [1, 2]),
            "workers": ("a", 0, 1.5, True),
            "devices": (3, "cpu", [], ["cpu"], {}),
            "checkpoint_every": (*NOT_A_COUNT, 0),
            "progress": NOT_A_FLAG,
            "on_epoch": (3, "a"),
        },
    ),
    (trained, {}, {"make": (lambda: 3, lambda: None), "measure": (LOSS._replace(metric="nonsense"),)}),
    (
        comparison.collect,
        {"study": STUDY, "problem": "digits", "candidate": "adam"},
        {"study": NOT_A_STUDY, "problem": (None, 3, "a", ["digits"]), "candidate": (None, 3, "a", ["adam"])},
    ),
    (comparison.collect_all, {"study": STUDY}, {"study": NOT_A_STUDY, "candidates": (None, 3, "adam", ["a"])}),
    (
        comparison.retrieve,
        {"study": STUDY, "problem": "digits", "candidate": "adam", "epochs": 1},
        {"study": NOT_A_STUDY, "problem": (None, 3, "a"), "candidate": (None, 3, "a"), "epochs": (*NOT_A_COUNT, 2)},
    ),
    (
        comparison.report,
        {"study": STUDY},
        {
            "study": NOT_A_STUDY,
            "title": (*NOT_TEXT, "a\nb"),
            "found": (3, "a", {}, {"digits": {}}, {"digits": {"adam": 3}}),
        },
    ),
    (comparison.console, {"study": STUDY}, {"study": NOT_A_STUDY}),
    (comparison.tensorboard, {"folder": "a"}, {"folder": NOT_A_PATH}),
    (
        comparison.submit,
        {"work": print, "shards": 2, "folder": "a"},
        {
            "work": NOT_A_FUNCTION,
            "shards": (*NOT_A_COUNT, 0),
            "folder": NOT_A_PATH,
            "hours": (*NOT_A_NUMBER, 0.0, -1.0),
            "partition": (3, ""),
            "gpus": NOT_A_COUNT,
            "name": NOT_TEXT,
        },
    ),
    (
        A_RUN.value,
        {"measure": LOSS, "part": "test"},
        {"measure": (None, 3, LOSS._replace(metric="a")), "part": (None, 3, "all"), "which": (None, "first")},
    ),
    (REPORT.write, {"folder": "a"}, {"folder": NOT_A_PATH}),
    (lambda blocks: comparison.Report().add(blocks), {"blocks": "a"}, {"blocks": (None, 3, ["a"])}),
    (
        partial(demon.make_study, "folder"),
        {"tier": "smoke"},
        {
            "tier": (None, "big"),
            "kinds": (None, 3, "vae", ["vea"], []),
            "data_dir": (3, ""),
            "text": (None, 3, ""),
            "seeds": (3, "a", [], [-1]),
            "epochs": (0, 1.5, "a"),
            "columns": (None, "some"),
            "trials": (0, 1.5, "a", 2000),
            "together": (3, "a"),
        },
    ),
]


def answer(function, good, argument, value):
    """Return the error that a wrong value of an argument leads to."""
    try:
        function(**good | {argument: value})
    except (TypeError, ValueError) as error:
        return error
    return pytest.fail(f"{argument}={value!r} was taken")


@pytest.mark.parametrize(
    ("function", "good", "wrong"),
    [
        pytest.param(*case, id=f"{place}-{getattr(case[0], '__qualname__', 'make_study')}")
        for place, case in enumerate((*ANALYSIS, *STUDIES))
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_argument(function, good, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argument, values in wrong.items():
        names = rf"^\S*\b({argument}|{argument}s|budget)\b.*: .*(expected .* got |nearest: )"
        for value in values:
            error = answer(function, good, argument, value)
            said = f"{argument}={value!r}: {error}"
            assert re.search(names, str(error)), said
            assert "\n" not in str(error), said
            assert "gdlab" in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts, said
    assert not list(tmp_path.iterdir())
