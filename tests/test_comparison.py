"""Studies on scikit-learn's digits: budgets, resumption, shards, and choices, which are recomputed here."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import comparison, optimizers, tasks
from gdlab.comparison import Candidate, Measure, Problem, Study, collect, ladder
from gdlab.records import write_json, write_lines
from gdlab.training import compilation, train

ERROR = Measure("error %", "accuracy", lambda accuracy: 100 * (1 - accuracy), 2)


def make(hidden=8):
    return tasks.digits_mlp(hold_out=300, train_size=400, hidden=(hidden,), batch_size=50)


# Each candidate has arguments of its own to tune.
TRIALS = {
    "adam": ({"learning_rate": 1e-4, "b1": 0.9}, {"learning_rate": 2e-2, "b1": 0.9}),
    "demon": ({"learning_rate": 0.1, "momentum": 0.9}, {"learning_rate": 1e30, "momentum": 0.9}),
}


def problem(name="digits", **settings):
    arguments = {"make": make, "epochs": (2, 3), "tuning_epochs": 2, "measure": ERROR, "trials": TRIALS} | settings
    return Problem(name, **arguments)


def study(folder, **settings):
    both = Candidate("adam", optimizers.adam), Candidate("demon", optimizers.demon_sgdm, "Demon")
    arguments = {"problems": [problem()], "candidates": both, "seeds": (0, 1), "tuning_seeds": (7,)} | settings
    return Study(folder, **arguments)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("metrics.jsonl"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    comparison.run(study(folder), progress=False)
    return folder


def test_the_choice_is_the_best_trial_on_held_out_data_and_runs_are_trainings(whole):
    task = make()
    for name, build in (("adam", optimizers.adam), ("demon", optimizers.demon_sgdm)):
        found = collect(study(whole), "digits", name)
        alone = []
        for trial in TRIALS[name]:
            whole_setting = trial | ({"total_steps": float(2 * task.steps)} if name == "demon" else {})
            alone.append(train(task, build, hyperparameters=whole_setting, epochs=2, seed=7, progress=False))
        errors = [100 * (1 - one.history["valid_accuracy"][-1]) for one in alone]
        best = int(np.nanargmin(errors))
        assert found.setting == TRIALS[name][best]
        assert best == {"adam": 1, "demon": 0}[name]
        assert found.at_the_edge
        assert found.missing == 0
        expected = np.where(np.isnan(errors), np.inf, errors)
        np.testing.assert_allclose(found.scores, expected, atol=0.7)  # rounding may affect two of 300 images
        for epochs in (2, 3):
            assert [run.seed for run in found.runs[epochs]] == [0, 1]
            setting = found.setting | ({"total_steps": float(epochs * task.steps)} if name == "demon" else {})
            final = train(task, build, hyperparameters=setting, epochs=epochs, seed=1, progress=False)
            run = found.runs[epochs][1]
            np.testing.assert_allclose(run.history["train_loss"], final.history["train_loss"], rtol=1e-3)
            assert len(run.history["train_loss"]) == epochs
            assert not run.diverged
    assert np.isinf(collect(study(whole), "digits", "demon").scores[1])  # a trial that diverged is a result


def test_the_test_set_does_not_influence_the_choice(whole):
    # A study with another test set makes the same choice.
    def blind():
        task = make()
        return dataclasses.replace(task, test=task.test._replace(labels=np.zeros_like(task.test.labels)))

    folder = whole.parent / "blind"
    other = study(folder, problems=[problem(make=blind)])
    comparison.run(other, candidates=["adam"], progress=False)
    one, two = collect(study(whole), "digits", "adam"), collect(other, "digits", "adam")
    assert one.setting == two.setting
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one.runs[2][0].history["test_accuracy"][-1] != two.runs[2][0].history["test_accuracy"][-1]


def test_finished_runs_are_kept_as_small_files_and_taken_elsewhere(whole, tmp_path):
    results = tmp_path / "results"
    written = comparison.write_results(study(whole), results)
    assert len(written) == len(files(whole)) == 12
    assert max(file.stat().st_size for file in written) < 10_000
    assert comparison.write_results(study(whole), results) == []
    other = study(tmp_path / "other")
    assert len(comparison.read_results(other, results)) == 12
    assert comparison.read_results(other, results) == []
    assert files(other.folder) == files(whole)
    for name in TRIALS:
        chosen, same = collect(other, "digits", name), collect(study(whole), "digits", name)
        assert (chosen.setting, chosen.missing) == (same.setting, 0)
        np.testing.assert_array_equal(chosen.scores, same.scores)
        np.testing.assert_array_equal(chosen.runs[3][1].seconds, same.runs[3][1].seconds)
    comparison.run(other, progress=False)  # which finds nothing to do
    assert not [*other.folder.rglob("checkpoint.npz")]


def test_runs_that_are_not_finished_are_not_kept(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    rows = next(copy.glob("runs/digits/adam/epochs-3/*/seed-1/metrics.jsonl"))
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    assert len(comparison.write_results(study(copy), tmp_path / "results")) == 11


PLACE = "digits/adam/epochs-1/default/seed-0.json"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (None, None, "results: expected a folder of finished runs, got .* without any"),
        ("stray.json", {}, r"results: expected runs of the problems digits, got .*stray\.json"),
        (PLACE, {"config": {}}, "results: expected the file of a finished run.* with other contents"),
        (
            PLACE,
            {"config": {}, "environment": {}, "metrics": {"train_loss": [1.0]}, "seconds": {"seconds": []}},
            "columns of different lengths",
        ),
    ],
)
def test_other_files_are_not_taken(tmp_path, file, content, message):
    (tmp_path / "results").mkdir()
    if file is not None:
        (tmp_path / "results" / file).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / "results" / file, content)
    with pytest.raises(ValueError, match=message):
        comparison.read_results(study(tmp_path / "study"), tmp_path / "results")
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_shards_and_single_programs_give_the_same_results(whole, tmp_path):
    for number in (1, 2):
        comparison.run(study(tmp_path / "shards"), shard=(number, 2), workers=1, progress=False)
    assert files(tmp_path / "shards") == files(whole)
    apart = study(tmp_path / "apart", together=False)
    comparison.run(apart, progress=False)
    assert set(files(tmp_path / "apart")) == set(files(whole))
    for name in TRIALS:
        for epochs in (2, 3):
            both = (collect(each, "digits", name).runs[epochs] for each in (apart, study(whole)))
            pairs = zip(*both, strict=True)
            for one, other in pairs:
                np.testing.assert_allclose(one.history["train_loss"], other.history["train_loss"], rtol=1e-3)


def test_a_second_run_trains_nothing_and_another_task_is_refused(whole, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("checkpoint.npz")}
    assert len(before) == 2 * (2 + 4)
    with monkeypatch.context() as patch:
        patch.setattr("gdlab.comparison.runner.train", lambda *a, **k: pytest.fail("a finished run was trained"))
        comparison.run(study(whole), progress=False)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("checkpoint.npz")} == before
    with pytest.raises(ValueError, match="holds another run"):
        comparison.run(study(whole, problems=[problem(make=lambda: make(9))]), progress=False)


def test_candidates_that_are_together_share_one_program(tmp_path):
    compilation.COMPILED.clear()
    trials = {name: settings[:1] for name, settings in TRIALS.items()}
    comparison.run(study(tmp_path, problems=[problem(trials=trials, epochs=(1,))], seeds=(0,)), progress=False)
    assert len(compilation.COMPILED) == 1


def test_missing_data_is_reported_before_the_first_training(tmp_path):
    def nothing():
        raise FileNotFoundError("no such data")

    with pytest.raises(FileNotFoundError, match="no such data"):
        comparison.run(study(tmp_path, problems=[problem(), problem("other", make=nothing)]), progress=False)
    assert not list(tmp_path.iterdir())


def test_missing_runs_are_counted(whole, tmp_path):
    empty = collect(study(tmp_path), "digits", "adam")
    assert (empty.setting, empty.missing) == (None, 2 + 4)
    more = study(whole, seeds=(0, 1, 2))
    assert collect(more, "digits", "adam").missing == 2
    longer = study(whole, problems=[problem(epochs=(2, 3, 4))])
    assert collect(longer, "digits", "adam").missing == 2
    shorter = study(whole, problems=[problem(tuning_epochs=1)])
    assert collect(shorter, "digits", "adam").setting is None  # longer trials do not count as shorter ones
    assert np.isnan(collect(shorter, "digits", "adam").scores).all()
    with pytest.raises(ValueError, match="expected all trials to be done"):
        comparison.retrieve(study(tmp_path), "digits", "adam", 2)


def test_a_model_is_retrieved(whole):
    params, task = comparison.retrieve(study(whole), "digits", "adam", 3)
    found = collect(study(whole), "digits", "adam").runs[3][0]
    _, state = task.init(jax.random.key(0))
    _, metrics = task.evaluate(params, state, jax.tree.map(jnp.asarray, task.test), jax.random.key(0))
    np.testing.assert_allclose(metrics["accuracy"].mean(), found.history["test_accuracy"][-1], rtol=1e-6)


def test_problems_wrap_their_optimizers(tmp_path):
    still = problem(wrap=lambda optimizer: optax.chain(optimizer, optax.scale(0.0)), epochs=(2,))
    one = study(tmp_path, problems=[still])
    comparison.run(one, candidates=["adam"], progress=False)
    loss = collect(one, "digits", "adam").runs[2][0].history["test_loss"]
    assert loss[0] == loss[1]


@pytest.mark.slow
def test_a_killed_study_resumes_and_ends_in_the_same_bytes(whole, tmp_path):
    script = f"""
        import sys
        import jax
        jax.config.update("jax_enable_x64", True)  # as in the process of the tests
        from pathlib import Path
        from gdlab import comparison
        from tests.test_comparison import study
        comparison.run(study(Path({str(tmp_path / "run")!r})), progress=False)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    place = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(place)}
    process = subprocess.Popen(command, cwd=place, env=environment)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "run").rglob("metrics.jsonl"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(files(tmp_path / "run")) < len(files(whole))
    subprocess.run(command, cwd=place, env=environment, check=True, timeout=240)
    assert files(tmp_path / "run") == files(whole)


def test_run_folders_describe_their_runs(whole):
    (path,) = (whole / "runs" / "digits" / "adam" / "epochs-3").glob("*/seed-1/config.json")
    config = json.loads(path.read_text())
    assert config["candidate"] == "adam"
    assert config["setting"] == TRIALS["adam"][1]
    assert config["task"]["name"] == "digits_mlp"
    assert path.parent.parent.name == "learning_rate-0.02_b1-0.9"


@pytest.mark.slow
def test_a_single_setting_needs_neither_trials_nor_held_out_data(tmp_path):
    one = problem(
        make=lambda: tasks.digits_mlp(train_size=200, test_size=100, hidden=(8,), batch_size=50),
        measure=Measure("accuracy", "accuracy", better="higher"),
        trials={"adam": [{}], "decayed": [{"weight_decay": 0.1}]},
        epochs=(1,),
    )
    both = Candidate("adam", optimizers.adam), Candidate("decayed", optimizers.adamw)
    seen = []
    alone = study(tmp_path, problems=[one], candidates=both, seeds=(0,))
    comparison.run(alone, progress=False, on_epoch=lambda job, row: seen.append((job.candidate, row["epoch"])))
    assert sorted(seen) == [("adam", 1), ("decayed", 1)]
    assert len(files(tmp_path)) == 2
    found = collect(alone, "digits", "decayed")
    assert found.setting == {"weight_decay": 0.1}
    assert np.isnan(found.scores).all()
    assert (found.missing, found.at_the_edge) == (0, False)
    losses = [collect(alone, "digits", name).runs[1][0].history["train_loss"][0] for name in ("adam", "decayed")]
    assert losses[0] != losses[1]  # the weight decay has an effect


def test_a_run_that_stops_early_is_finished_and_counts_up_to_its_best_epoch(tmp_path):
    stopping = problem(trials={"adam": [{"learning_rate": 0.3}]}, epochs=(30,), patience=1)
    alone = study(tmp_path, problems=[stopping], candidates=[Candidate("adam", optimizers.adam)], seeds=(0,))
    comparison.run(alone, progress=False)
    found = collect(alone, "digits", "adam")
    (run,) = found.runs[30]
    (path,) = tmp_path.rglob("metrics.jsonl")
    rows = [json.loads(line)["valid_loss"] for line in path.read_text().splitlines()]
    assert len(rows) < 30
    assert len(run.history["valid_loss"]) == np.argmin(rows) + 1 == len(rows) - 1
    assert run.value(ERROR, "valid") == run.value(ERROR, "valid", "best")
    before = path.stat().st_mtime_ns
    comparison.run(alone, progress=False)
    assert path.stat().st_mtime_ns == before


def test_the_report_describes_the_contents_of_the_folder(whole, tmp_path):
    made = comparison.report(study(whole), title="Digits")
    text = str(made)
    for part in ("Digits", "Demon", "300 held out", "trials of 2 epochs", "Student's 95% interval", "cpu"):
        assert part in text, part
    made.write(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["environment"]["versions"]["jax"] == jax.__version__
    adam = results["problems"]["digits"]["optimizers"]["adam"]
    runs = collect(study(whole), "digits", "adam").runs[3]
    errors = [100 * (1 - run.history["test_accuracy"][-1]) for run in runs]
    final = adam["runs"]["3"]["final"]["test"]
    np.testing.assert_allclose(final["values"], errors)
    assert final["mean"] == pytest.approx(np.mean(errors))
    assert final["sd"] == pytest.approx(np.std(errors, ddof=1))
    assert adam["setting"] == TRIALS["adam"][1]
    assert (tmp_path / "report.md").read_text().startswith("# Digits")
    for name in ("digits/final", "digits/best", "digits/ranking_test_accuracy", "tuned"):
        assert all((tmp_path / f"{name}{suffix}").exists() for suffix in (".txt", ".csv", ".tex")), name
    assert "0.02*, b1 0.9" not in text
    assert "0.02, b1 0.9*" in text  # the largest rate that was tried
    empty = comparison.report(study(tmp_path / "nothing"))
    assert "trainings are not done yet" in str(empty)


def test_a_larger_budget_only_adds_settings():
    large = ladder(12, 0.1)
    assert large[:5] == ladder(5, 0.1)
    assert large[0] == {"learning_rate": 0.1, "momentum": 0.9}
    assert len({tuple(setting.values()) for setting in large}) == 12
    assert {setting["momentum"] for setting in large} == {0.9, 0.95, 0.99}
    rates = [setting["learning_rate"] for setting in large if setting["momentum"] == 0.9]
    np.testing.assert_allclose(rates[:4], [0.1, 0.1 * 10**0.5, 0.1 / 10**0.5, 1.0])
    only = ladder(4, 1.0, momenta=(0.0,), factor=2.0)
    assert [setting["learning_rate"] for setting in only] == [1.0, 2.0, 0.5, 4.0]
    bare = ladder(2, 1.0, momenta=(), factor=2.0)
    assert bare == [{"learning_rate": 1.0}, {"learning_rate": 2.0}]
    assert ladder(1, 0.1, momentum="b1") == [{"learning_rate": 0.1, "b1": 0.9}]


def scaled(scale):
    def build(learning_rate, total_steps):
        return optax.chain(optimizers.adam(learning_rate), optax.scale(scale))

    return build


def line(through=lambda x: x):
    """Make a task with one parameter, which compiles quickly: its distance from the examples, which are numbers."""

    def evaluate(params, state, batch, key):
        return state, {"loss": (through(params["w"]) - batch) ** 2}

    def loss(params, state, batch, key):
        state, metrics = evaluate(params, state, batch, key)
        return metrics["loss"].mean(), (state, metrics)

    parts = {part: np.arange(4, dtype=np.float32) for part in ("train", "valid", "test")}
    return tasks.Task(
        init=lambda key: ({"w": jnp.zeros(2)[0]}, ()), loss=loss, evaluate=evaluate, batch_size=2, name="line", **parts
    )


@pytest.mark.slow
def test_changed_code_of_a_candidate_or_of_a_task_is_noticed(tmp_path):
    def shifted():  # another task of the same description
        return line(lambda x: 2 * x)

    def refilled():
        return dataclasses.replace(line(), test=np.zeros(4, np.float32))

    trials = {name: [{"learning_rate": 0.01}, {"learning_rate": 0.02}] for name in ("mine", "other")}
    loss = Measure("loss", "loss")
    one = problem("p", make=line, epochs=(1,), tuning_epochs=1, measure=loss, trials=trials)

    def made(mine=1.0, other=1.0, **settings):
        both = Candidate("mine", scaled(mine)), Candidate("other", scaled(other))
        arguments = {"problems": [one], "candidates": both, "seeds": (0,)} | settings
        return study(tmp_path, **arguments)

    comparison.run(made(), progress=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.npz")}
    assert len(before) == 2 * (2 + 1)
    # Another factory of the same code is kept, also if other candidates are changed and added.
    third = Candidate("third", optimizers.sgd)
    more = one._replace(trials=trials | {"third": trials["mine"]})
    grown = made(problems=[more], candidates=[third, *made(other=0.5).candidates])
    for again in (made(), grown):
        comparison.run(again, candidates=["mine"], progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.npz")} == before
    # Its own code, the task's code and the data are not.
    for changed, what in (
        (made(mine=0.1), "program"),
        (made(problems=[one._replace(make=shifted)]), "program"),
        (made(problems=[one._replace(wrap=lambda optimizer: optax.chain(optimizer, optax.scale(0.5)))]), "program"),
        (made(problems=[one._replace(make=refilled)]), "data"),
    ):
        with pytest.raises(ValueError, match=f"holds another run, which differs in: {what};"):
            comparison.run(changed, candidates=["mine"], progress=False)
    with pytest.raises(ValueError, match="holds another run, which differs in: program;"):
        comparison.retrieve(made(mine=0.1), "p", "mine", 1)
    # The text of programs from other versions of JAX is another one: such runs are kept.
    for path in tmp_path.glob("runs/p/mine/**/config.json"):
        path.write_text(path.read_text().replace(f"jax {jax.__version__}", "jax 0.0.1"))
    comparison.run(made(mine=0.1), candidates=["mine"], progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.npz")} == before


def finished(study, settings=()):
    """Write the files of finished runs of one candidate, each with other entries of its config and its identity."""
    (one,), (candidate,) = study.problems, study.candidates
    setting = one.trials[candidate.name][0]
    places = [study.trial_folder(one.name, candidate.name, each, 7) for each in one.trials[candidate.name]]
    places += [study.final_folder(one.name, candidate.name, 1, setting, seed) for seed in study.seeds]
    for place, (config, identity) in itertools.zip_longest(places, settings, fillvalue=({}, {})):
        row = {f"{part}_{name}": 0.5 for part in ("train", "valid", "test") for name in ("loss", "accuracy")}
        write_json(place / "config.json", {"identity": {"data": "d", **identity}, "code": {"task": "t"}, **config})
        write_lines(place / "metrics.jsonl", [{"epoch": 1, **row}])
        write_lines(place / "seconds.jsonl", [{"epoch": 1, "seconds": 1.0}])
    return places


def alone(folder, **settings):
    trials = {"adam": [{"learning_rate": 0.1}, {"learning_rate": 0.2}]}
    one = problem(**({"trials": trials, "epochs": (1,), "tuning_epochs": 1} | settings))
    return study(folder, problems=[one], candidates=[Candidate("adam", optimizers.adam)])


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ([({}, {})] * 4, None),
        ([({"code": {"task": "u"}}, {})], "with another program"),  # a trial of other code
        ([({"code": {"task": "u"}}, {})] * 2, "with another program"),  # both trials
        ([({}, {})] * 3 + [({"code": {"task": "u"}}, {})], "with another program"),  # a final run
        ([({}, {"data": "e"})] * 2, "with another data"),
        ([({"code": {"task": "u"}}, {"versions and device": "elsewhere"})] * 2, None),  # it cannot be compared
        ([({"setting": {"learning_rate": 0.1000000001}}, {})], "which differs in: setting;"),
        ([({"about": "gradients clipped"}, {})], "which differs in: about;"),
        ([({"candidate": "sgd"}, {})], "which differs in: candidate;"),
        ([({}, {})] * 2 + [({}, {"patience": 3})] * 2, "which differs in: patience;"),
    ],
)
def test_runs_of_different_origins_are_not_collected_together(tmp_path, settings, answer):
    one = alone(tmp_path)
    finished(one, settings)
    if answer is None:
        found = collect(one, "digits", "adam")
        assert (found.missing, len(found.runs[1])) == (0, 2)
    else:
        with pytest.raises(ValueError, match=answer) as caught:
            collect(one, "digits", "adam")
        assert "\n" not in str(caught.value)


DAMAGED = {
    "metrics.jsonl": ("3\n", '["a"]\n', '{"train_loss": "a"}\n', '{"train_loss": true}\n', "\0\0", "", "[" * 100_000),
    "seconds.jsonl": ("", "null\n", '{"seconds": [1]}\n', '{"epoch": 1}\n', '{"seconds": 1' + "0" * 400 + "}\n"),
    "config.json": ("[]", '{"identity": []}', "\0", "3", '{"identity": ' + "[" * 100_000),
}


def test_a_run_with_a_damaged_file_is_not_done(tmp_path):
    one = alone(tmp_path)
    *_, last = finished(one)
    assert collect(one, "digits", "adam").missing == 0
    for name, contents in DAMAGED.items():
        whole = (last / name).read_text()
        for content in contents:
            (last / name).write_text(content)
            found = collect(one, "digits", "adam")
            assert (found.missing, len(found.runs[1])) == (1, 1), (name, content[:20])
        (last / name).write_text(whole)


BAD_NAMES = (
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/etc",
    "a\0b",
    "a\nb",
    ".a",
    "a.",
    " a",
    "nul",
    "CON.txt",
    "x" * 300,
    3,
)


def test_names_are_those_of_folders(tmp_path):
    one = Candidate("adam", optimizers.adam)
    for name in BAD_NAMES:
        trials = {"adam": [{}], name: [{}]}
        fields = {"problems": [problem(name, trials=trials)], "candidates": [one._replace(name=name)]}
        for kind, entries in fields.items():
            both = {"problems": [problem(trials=trials)], "candidates": [one]} | {kind: entries}
            with pytest.raises((TypeError, ValueError), match=rf"{kind}\[0\]\.name: expected .*, got ") as caught:
                study(tmp_path, **both)
            assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_names_that_share_a_folder_where_case_is_ignored_are_refused(tmp_path):
    twins = [problem("p"), problem("P")]
    with pytest.raises(ValueError, match="problems: expected names that differ in more than case, got p and P"):
        study(tmp_path, problems=twins)
    accents = [Candidate(name, optimizers.adam) for name in ("\u00e9", "e\u0301")]
    trials = {candidate.name: [{}] for candidate in accents}
    with pytest.raises(ValueError, match="candidates: expected names that differ in more than case"):
        study(tmp_path, problems=[problem(trials=trials)], candidates=accents)
    kept = [Candidate(name, optimizers.adam) for name in ("Adam, tuned", "r\u00e9sum\u00e9", "adam.2")]
    study(tmp_path, problems=[problem(trials={each.name: [{}] for each in kept})], candidates=kept)


def test_the_home_directory_is_found_and_a_text_is_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert study("~/runs").folder == study(Path("~/runs")).folder == tmp_path / "runs"


def test_bad_input_raises_an_error_of_one_line(tmp_path):
    lopsided = problem(trials=TRIALS | {"adam": TRIALS["adam"][:1]})
    for call, answer in (
        (lambda: study(tmp_path, seeds=()), "seeds: expected at least one, got none"),
        (lambda: study(tmp_path, seeds=(0, 0)), "seeds: expected distinct seeds, got 0, 0"),
        (lambda: study(3), "folder: expected a path, got 3"),
        (lambda: study(tmp_path, problems=[problem(epochs=(2, 2))]), "epochs: expected distinct lengths"),
        (lambda: study(tmp_path, seeds=(0, 7)), "seeds: expected none of the tuning_seeds, got 7 in both"),
        (lambda: study(tmp_path, problems=[problem(), problem()]), "problems: expected distinct names"),
        (
            lambda: study(tmp_path, problems=[lopsided]),
            r"expected the same number of settings for every candidate, .*'adam': 1, 'demon': 2",
        ),
        (lambda: study(tmp_path, problems=[problem(trials={})]), "expected settings for adam, got none"),
        (lambda: study(tmp_path, problems=[problem(epochs=())]), "epochs: expected at least one length"),
        (lambda: study(tmp_path, problems=[problem(make=3)]), "make: expected a function, got 3"),
        (lambda: study(tmp_path).pairs(["digit"]), "problems: expected names among digits, got digit"),
        (lambda: comparison.run(study(tmp_path), candidates=["sgd"]), "candidates: expected names among adam, demon"),
        (lambda: comparison.run(study(tmp_path), shard=(3, 2)), "shard: expected a number from 1 to 2, got 3"),
        (lambda: comparison.run(study(tmp_path), shard=2), r"shard: expected two numbers, \(i, n\), got 2"),
        (lambda: collect(study(tmp_path), "digit", "adam"), "problems: expected names among digits, got digit"),
        (lambda: collect(study(tmp_path), "digits", "sgd"), "candidates: expected names among adam, demon, got sgd"),
        (
            lambda: comparison.retrieve(study(tmp_path), "digits", "sgd", 2),
            "candidates: expected names among adam, demon",
        ),
        (lambda: comparison.run(study(tmp_path), workers=0), "workers: expected an integer of at least 1, got 0"),
        (
            lambda: comparison.run(study(tmp_path, problems=[problem(make=tasks.digits_mlp)]), progress=False),
            "expected a task with a held-out part to tune on, got none",
        ),
        (lambda: ladder(0, 0.1), "budget: expected an integer of at least 1, got 0"),
        (lambda: ladder(2, 0.1, momenta=(1.0,)), r"momenta: expected a number in \[0, 1\), got 1"),
        (lambda: ladder(2, 0.0), r"learning_rate: expected a number in \(0"),
        (
            lambda: study(
                tmp_path, problems=[problem(trials=TRIALS | {"adam": ({"momentum": 0.9}, {"momentum": 0.8})})]
            ),
            r"trials\[adam\]: expected arguments of the factory, got 'momentum'",
        ),
        (
            lambda: study(tmp_path, problems=[problem(trials=TRIALS | {"adam": ({"b1": 0.9}, {"b1": 1.8})})]),
            r"b1: expected a number in \[0, 1\), got 1.8",
        ),
        (
            lambda: study(tmp_path, problems=[problem(trials=TRIALS | {"adam": ({"b1": 0.9}, {"eps": 1e-8})})]),
            "expected the same arguments in every setting, got b1 and eps",
        ),
        (lambda: comparison.run(study(tmp_path), on_epoch=3), "on_epoch: expected a function, got 3"),
        (
            lambda: study(tmp_path, problems=[problem(measure=ERROR._replace(better="more"))]),
            "measure.better: expected one of lower, higher; got 'more'",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
