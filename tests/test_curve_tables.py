"""What curves say beyond their ends: where early stopping ends a run, epochs to a target, and compared scores."""

import numpy as np
import pytest

from gdlab.comparison import Candidate, Measure, Problem, Run, Study, summaries
from gdlab.comparison.curve_tables import curve_tables, early_stop, epochs_to
from gdlab.comparison.summaries import Column
from gdlab.optimizers import sgd

ACCURACY = Measure("accuracy (%)", "accuracy", lambda value: 100 * value, better="higher")
TEST = Column("test accuracy (%)", ACCURACY, "test")


def trained(seed, accuracy, loss, *, diverged=False):
    accuracy, loss = np.asarray(accuracy, float), np.asarray(loss, float)
    train_loss = np.where(np.arange(len(loss)) == len(loss) - 1, np.nan, loss) if diverged else loss
    history = {"test_accuracy": accuracy, "test_loss": loss, "train_loss": train_loss}
    return Run(seed, history, np.ones(len(loss)), {})


def study(names, seeds=(0, 1)):
    problem = Problem("sound", lambda: None, (6,), ACCURACY, {name: [{}] for name in names}, label="sound protocol")
    return Study("out", [problem], [Candidate(name, sgd) for name in names], seeds)


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3, 2, 1, 2, 2, 0], 2, (5, 3)),  # the better one at the end is never seen
        ([3, 2, 1, 2, 2, 0], 3, (6, 6)),
        ([3, 2, 1], 1, (3, 3)),
        ([1, 1, 1], 2, (3, 1)),  # an equal loss is no improvement
        ([1, np.nan, np.nan, 0], 2, (3, 1)),
        ([np.nan, np.nan, np.nan], 5, (3, 1)),
    ],
)
def test_a_run_stops_when_its_patience_is_at_an_end(losses, patience, expected):
    assert early_stop(np.asarray(losses, float), patience) == expected


def test_targets_are_a_part_of_the_best_value_of_any_run():
    runs = {
        "fast": [trained(0, [0.5, 0.8, 0.7], [1, 1, 1]), trained(1, [0.64, 0.7, 0.7], [1, 1, 1])],
        "slow": [trained(0, [0.1, 0.2, 0.63], [1, 1, 1]), trained(1, [0.1, np.nan, np.nan], [1, 1, 1])],
    }
    target, epochs = epochs_to(runs, TEST, 0.8)
    assert target == pytest.approx(64)
    assert {name: each.tolist() for name, each in epochs.items()} == {"fast": [2, 1], "slow": [np.inf, np.inf]}
    assert epochs_to({"none": []}, TEST, 0.8)[1]["none"].size == 0


def test_tables_rank_by_the_peak_and_say_what_stopping_costs():
    runs = {
        "late": [trained(seed, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [6, 5, 4, 3, 2, 1]) for seed in (0, 1)],
        "early": [trained(seed, [0.5, 0.8 + 0.01 * seed, 0.6, 0.6, 0.6, 0.6], [2, 1, 3, 3, 3, 3]) for seed in (0, 1)],
        "lost": [trained(seed, [0.5] * 6, [1] * 6, diverged=True) for seed in (0, 1)],
        "half": [trained(0, [0.65] * 6, [6, 5, 4, 3, 2, 1]), trained(1, [0.5] * 6, [6, 5, 4, 3, 2, 1], diverged=True)],
    }
    one = study(runs)
    tables = curve_tables(one, one.problems[0], runs, TEST, share=0.8, patience=3)
    assert list(tables) == [f"sound/{name}" for name in ("ranking_peak", "epochs_to_target", "early_stopping")]
    peak, target, stopping = tables.values()
    assert [row[1] for row in peak.rows][:2] == ["early", "late"]  # the others diverged
    assert "chosen by the test set" in peak.caption
    assert peak.rows[0][2] == "80.50"
    assert "reaches 64.80" in target.caption
    assert list(target.rows) == [
        ("early", "2.0 ± 0.0", "2 of 2"),
        ("late", "6.0 ± 0.0", "2 of 2"),
        ("half", "1.0", "1 of 2"),
        ("lost", "-", "0 of 2"),
    ]
    by_name = {row[0]: row[1:] for row in stopping.rows}
    assert by_name["late"] == ("6.0", "0%", "70.00 ± 0.00", "+0.00 [0.00, 0.00]")
    assert by_name["early"][:2] == ("5.0", "17%")  # one epoch of six is saved
    assert by_name["early"][3].startswith("+20.50 [14.15, 26.85]")  # 20 and 21, with t = 12.706 for two seeds
    assert by_name["lost"] == ("4.0", "33%", "50.00 ± 0.00", "-")  # each run stops before it diverges
    assert by_name["half"] == ("6.0", "0%", "57.50 ± 10.61", "+0.00")
    assert "test loss had not improved for 3 epochs" in stopping.caption
    assert "a little too good" in stopping.caption


def test_other_measures_and_numbers_are_refused():
    one, runs = study(["it"]), {"it": []}
    loss = Column("test loss", Measure("loss", "loss"), "test")
    for column, settings, message in (
        (loss, {}, "column: expected a measure of which more is better, got test loss"),
        (TEST, {"share": 1.5}, "share: expected a number"),
        (TEST, {"patience": 0}, "patience: expected an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            curve_tables(one, one.problems[0], runs, column, **settings)
    empty = curve_tables(one, one.problems[0], runs, TEST)
    assert empty["sound/early_stopping"].rows == (("it", "-", "-", "-", "-"),)
    assert empty["sound/epochs_to_target"].rows == (("it", "-", "0 of 2"),)


def test_stopping_watches_what_is_held_out():
    run = trained(0, [0.5, 0.6, 0.7, 0.7], [4, 3, 2, 1])
    run.history["valid_loss"] = np.array([1.0, 2.0, 3.0, 4.0])
    one = study(["it"], seeds=(0,))
    tables = curve_tables(one, one.problems[0], {"it": [run]}, TEST, patience=2)
    assert "sound/ranking_peak" not in tables  # a single optimizer has no rank
    (row,) = tables["sound/early_stopping"].rows
    assert row == ("it", "3.0", "25%", "50.00", "-20.00")
    assert "held-out loss" in tables["sound/early_stopping"].caption


def test_scores_of_candidates_without_a_run_that_diverged():
    runs = {
        problem: {
            "it": [trained(seed, [at + seed], [1]) for seed in (0, 1)],
            "lost": [trained(0, [0.5], [1], diverged=problem == "b"), trained(1, [0.5], [1])],
        }
        for problem, at in (("a", 0.1), ("b", 0.2))
    }
    found = summaries.scores_across(study(["it", "lost"]), runs, TEST)
    assert list(found) == ["it"]
    np.testing.assert_allclose(found["it"][:, 0], [60, 70])
    np.testing.assert_allclose(found["it"][0, 2] - 60, 12.706 * 50, rtol=1e-4)  # t of one degree of freedom
