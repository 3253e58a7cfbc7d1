"""Judgements: what is tuned and judged, what is stored and kept, and what a user reads."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.judgement import false_answers
from gdlab import OPTIMIZERS, log_range
from gdlab.analysis.sequential import decide_many
from gdlab.cli import main
from gdlab.cli.judging import seconds_of
from gdlab.diagnostics import PROBLEMS
from gdlab.diagnostics.run import begin_instance, take_steps
from gdlab.hyperparameters import linear_range
from gdlab.judging import as_json, baselines, diagnosing, judge, judgement, nearness, networks, text
from gdlab.judging.contenders import completed, contender, digest_contender, known, try_settings
from gdlab.judging.keeping import Kept
from gdlab.judging.soundness import Soundness
from gdlab.judging.tiers import TIERS, Tier
from gdlab.judging.verdicts import compare
from gdlab.optimizers import adam, sgd
from gdlab.optimizers.contract.report import Check

SMALL = Tier(4, 1, 6, (), 3, (6,))
SOME = {name: PROBLEMS[name] for name in ("quadratic_aligned", "gaussian_noise")}
ONE = {"quadratic_aligned": PROBLEMS["quadratic_aligned"]._replace(steps=10)}
SOUND = Soundness((Check("a check", True, "measured"),), 6.0, 8.0, 1.0)


class TorchLike:
    __module__ = "torch.optim.adam"


def picky(learning_rate=1e-3):
    if isinstance(learning_rate, float) and learning_rate > 0.5:  # not where it is traced
        raise ValueError("too fast")
    return sgd(learning_rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: contender("it", TorchLike), "which is a torch.optim class"),
        (lambda: contender("it", Kept), "got the class Kept"),
        (lambda: contender("it", adam(1e-3)), "factory: expected a function"),
        (lambda: contender("it", lambda size: sgd(size)), "expected defaults, or ranges in SPACE, .* none for size"),
        (lambda: contender("it", sgd, {"momentum": (0.1, 0.9)}), "ranges: expected arguments of it"),
        (lambda: contender("it", adam, {"b1": (0.9, 0.1)}), r"ranges\['b1'\]: expected a range, or a pair"),
        (lambda: contender("it", adam, {"b1": "wide"}), r"ranges\['b1'\]: expected a range"),
        (lambda: try_settings(contender("it", lambda learning_rate=1.0: 3), 2, 10), "to return an optax"),
        (lambda: try_settings(contender("it", lambda: 1 / 0), 2, 10), "expected it to accept some of its settings"),
        (lambda: judge(sgd, against=["nobody"]), "no optimizer named 'nobody'"),
        (lambda: judge(sgd, budget=5.0), "budget: expected at least"),
        (lambda: judge(sgd, networks=["nothing"]), "networks: expected"),
    ],
)
def test_bad_input_is_one_line_before_any_work(make, message):
    with pytest.raises((TypeError, ValueError, KeyError), match=message):
        make()


def test_the_settings_that_are_tried():
    rates = [each["learning_rate"] for each in known("adam").settings(9)]
    np.testing.assert_allclose(rates, np.geomspace(1e-6, 1e2, 9))
    two = contender("it", adam, {"learning_rate": log_range(1e-3, 1e-1), "b1": (0.5, 0.9)}).settings(8)
    assert all(1e-3 <= each["learning_rate"] <= 1e-1 and 0.5 <= each["b1"] <= 0.9 for each in two)
    assert len({each["b1"] for each in two}) == 8
    assert contender("it", adam, {"b1": (0.0, 0.9)}).ranges["b1"] == linear_range(0.0, 0.9)
    assert contender("it", lambda: sgd(0.1)).settings(8) == [{}]
    assert known("demon_adam").settings(2)[0] == {"learning_rate": 1e-6}  # the length of the runs is known


def test_arguments_without_defaults_are_completed():
    assert completed(adam, {}, 10) is adam
    assert completed(OPTIMIZERS["demon_adam"], {}, 10)()
    made = completed(lambda rate, size=1.0: (rate, size), {"rate": log_range(1e-4, 1.0)}, 10)()
    assert made == (pytest.approx(1e-2), 1.0)


def test_settings_that_a_factory_refuses_are_counted():
    tried = try_settings(contender("picky", picky), 9, 10)  # 1, 10 and 100 are too fast
    assert (len(tried.settings), tried.refused, tried.reason) == (6, 3, "ValueError: too fast")


def test_a_digest_belongs_to_what_is_computed():
    def renamed(learning_rate=1e-3):
        return adam(learning_rate)

    def other(learning_rate=1e-3):
        return adam(learning_rate, b1=0.5)

    digests = [digest_contender(contender("it", each)) for each in (adam, renamed, other)]
    assert digests[0] == digests[1] != digests[2]
    narrow = digest_contender(contender("it", adam, {"learning_rate": (1e-3, 1e-1)}))
    assert narrow != digests[0]


def test_digits_count_to_one_beyond_the_goal():
    errors = np.array([np.inf, np.nan, 2.0, 1.0, 0.1, 0.01, 1e-9, 0.0, -1e-9])
    np.testing.assert_allclose(diagnosing.digits(errors, 0.01), [0, 0, 0, 0, 1, 2, 3, 3, 3], atol=1e-12)


def test_a_problem_is_judged_at_the_chosen_setting_on_other_seeds():
    problem = PROBLEMS["quadratic_aligned"]
    found = diagnosing.diagnose_one(known("adam"), problem, SMALL)
    assert np.shape(found["digits"]) == (4, SMALL.judged_seeds)
    rates = [each["learning_rate"] for each in known("adam").settings(SMALL.settings)]

    @jax.jit
    @jax.vmap
    def run(rate, seed):
        return take_steps(problem, adam(rate), *begin_instance(problem, problem.levels[0], jax.random.key(seed))).error

    with jax.enable_x64(False):
        tuning = run(jnp.asarray(rates, jnp.float32), jnp.zeros(4, jnp.uint32))
    assert found["chosen"][0] == {"learning_rate": rates[int(np.nanargmin(tuning))]}
    chosen = jnp.full(4, found["chosen"][0]["learning_rate"], jnp.float32)
    with jax.enable_x64(False):
        errors = np.asarray(run(chosen, jnp.arange(1, 5, dtype=jnp.uint32)))
    np.testing.assert_allclose(found["digits"][0][:4], diagnosing.digits(errors, problem.goal), atol=2e-3)
    assert found["solved"][0] == np.mean(np.asarray(found["digits"][0]) >= -np.log10(problem.goal) - 1e-4)


def test_families_weigh_their_problems_equally():
    problems = {name: PROBLEMS[name] for name in ("quadratic_aligned", "cigar", "xor")}
    found = {name: {"digits": np.full((4, 3), value)} for name, value in zip(problems, (1.0, 2.0, 0.5), strict=True)}
    families = diagnosing.by_family(problems, found)
    assert {key: row.tolist() for key, row in families.items()} == {"conditioning": [1.5] * 3, "network": [0.5] * 3}
    assert diagnosing.by_seed(problems, found).tolist() == [pytest.approx(1 / 3)] * 3  # 10^-2 is the cigar's goal


def test_signatures_know_directions_and_no_learning_rates():
    own = nearness.signature(lambda: adam(3.0))
    assert nearness.similarity(own, nearness.signature(adam)) == pytest.approx(1.0, abs=1e-6)
    assert nearness.similarity(own, nearness.signature(lambda: adam(1e-3, b1=0.5))) < 0.995
    flipped = optax.chain(sgd(1.0), optax.scale(-1.0))
    assert nearness.similarity(nearness.signature(lambda: flipped), nearness.signature(sgd)) == pytest.approx(-1.0)
    near = nearness.nearest_known(lambda: adam(3.0), 3)
    assert next(iter(near)) in ("adam", "adamw", "amsgrad")
    assert list(near.values()) == sorted(near.values(), reverse=True)
    idle = nearness.signature(lambda: sgd(0.0))
    assert nearness.similarity(idle, idle) == 0.0
    assert set(nearness.known_signatures()) == set(OPTIMIZERS) - {"gauss_newton"}


def test_comparisons_pair_seeds_and_share_the_level():
    noise = np.random.default_rng(0).normal(size=32)
    ours = {"saddle": 2.0 + noise, "noise": 1.0 + noise}
    theirs = {"a": {"saddle": 1.0 + noise, "noise": 1.0 + noise}, "b": {"saddle": 2.0 - noise, "noise": 1.0 - noise}}
    found = compare((ours, theirs), ({"perceptron": noise[:8]}, {"a": {"perceptron": noise + 1.0}, "b": {}}))
    assert {key: each.answer for key, each in found.parts["a"].items()} == {
        "saddle": "better",
        "noise": "equal",
        "perceptron": "worse",
    }
    assert found.parts["a"]["perceptron"].pairs == 8
    assert found.overall["a"]["all diagnostics"].mean == pytest.approx(0.5)
    assert {each.answer for each in found.parts["b"].values()} == {"cannot tell"}
    alone = decide_many({"x": ours["saddle"] - theirs["b"]["saddle"]}, 0.1)["x"]
    assert found.parts["b"]["saddle"].high - found.parts["b"]["saddle"].low > alone.high - alone.low


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(judgement, "TIERS", {"quick": SMALL})
    monkeypatch.setattr(judgement, "examine", lambda factory: SOUND)


def test_a_judgement_continues_from_what_was_kept(small, tmp_path):
    said = []
    settings = {"against": ["sgd"], "problems": SOME, "folder": tmp_path, "say": said.append, "progress": False}
    first = judge(picky, **settings)
    again = judge(picky, **settings)
    assert again.record.families == first.record.families
    assert again.verdicts == first.verdicts
    assert [line for line in said if "2 of them kept from before" in line]
    assert any("refuses 1 of 4 settings (ValueError: too fast)" in note for note in first.notes)
    assert {each.answer for each in first.verdicts.parts["sgd"].values()} <= {"equal", "worse", "cannot tell"}
    lines = text(first).splitlines()
    assert lines[0].startswith("picky against sgd (tier quick, ")
    assert any(line.startswith("conditioning ") for line in lines)
    assert max(map(len, lines)) <= 120
    plain = as_json(first)
    assert json.loads(json.dumps(plain, allow_nan=False))["record"]["families"] == first.record.families
    assert plain["soundness"]["ok"] is True


@pytest.mark.slow
def test_an_optimizer_is_equal_to_itself(small):
    def renamed(learning_rate=1e-3):
        return adam(learning_rate)

    found = judge(renamed, against=["adam"], problems=SOME, say=lambda line: None, progress=False)
    for decision in (*found.verdicts.parts["adam"].values(), *found.verdicts.overall["adam"].values()):
        assert (decision.answer, decision.mean, decision.low, decision.high) == ("equal", 0.0, 0.0, 0.0)


def test_an_optimizer_with_a_known_name_is_not_taken_for_the_known_one(small):
    def momentum(learning_rate=1e-3):
        return sgd(0.5 * learning_rate)

    found = judge(momentum, against=["momentum"], problems=ONE, say=lambda _: None, progress=False)
    assert found.name == "my_momentum"
    assert list(found.opponents) == ["momentum"]
    assert found.record.families != found.opponents["momentum"].families


def test_an_unsound_optimizer_that_cannot_be_judged_is_status_1(tmp_path, monkeypatch, capsys):
    unsound = SOUND._replace(checks=(Check("a check", False, "what is wrong"),))
    monkeypatch.setattr(judgement, "examine", lambda factory: unsound)
    (tmp_path / "reads.py").write_text(
        "from gdlab.optimizers import sgd\ndef it(learning_rate=1.0): return sgd(1.0 if learning_rate > 0 else 0.5)\n"
    )
    monkeypatch.setattr(sys, "argv", ["gdlab", "judge", f"{tmp_path}/reads.py:it", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert "FAIL  a check: what is wrong" in printed.out
    assert "it fails 1 of 1 checks, and cannot be judged: TypeError: hyperparameters: it reads the value" in printed.err


def test_results_on_own_problems_are_kept_by_what_these_compute(tmp_path):
    kept = Kept(tmp_path)
    problem = ONE["quadratic_aligned"]
    others = {
        "goal": problem._replace(goal=0.5),
        "loss": problem._replace(loss=lambda params, data, step: 2 * problem.loss(params, data, step)),
        "levels": problem._replace(levels=[1.0, 2.0, 3.0, 4.0]),
    }
    for one in (problem, *others.values()):
        diagnosing.diagnose(known("sgd"), {"mine": one}, SMALL, kept, lambda _: None)
    assert kept.read == 0
    assert len(list(tmp_path.glob("problem_mine_*.json"))) == 4
    diagnosing.diagnose(known("sgd"), {"mine": problem}, SMALL, kept, lambda _: None)
    assert kept.read == 1


def test_results_on_problems_that_nobody_can_know_are_not_kept(tmp_path):
    problem = ONE["quadratic_aligned"]

    def calls_back(params, data, step):
        one = jax.pure_callback(lambda: np.float32(1.0), jax.ShapeDtypeStruct((), np.float32), vmap_method="sequential")
        return problem.error(params, data, step) * one

    def reads(key, level):
        assert float(jnp.max(jnp.ones(2))) == 1.0
        return problem.begin(key, level)

    kept = Kept(tmp_path)
    for one in (problem._replace(error=calls_back), problem._replace(begin=reads)):
        found = diagnosing.diagnose(known("sgd"), {"mine": one}, SMALL, kept, lambda _: None)
        assert len(found["mine"]["solved"]) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_digest_covers_matrices_too():
    def other(learning_rate=1e-3):
        return optax.chain(
            optax.masked(optax.scale(2.0), lambda tree: jax.tree.map(lambda x: x.ndim == 2, tree)), sgd(learning_rate)
        )

    assert digest_contender(contender("it", other)) != digest_contender(contender("it", sgd))


def test_a_budget_leaves_networks_out(small, monkeypatch):
    monkeypatch.setattr(judgement, "SOUNDNESS_SECONDS", 0.0)
    found = judge(
        sgd, against=["sgd"], problems=ONE, networks=["perceptron"], budget=1e-3, say=lambda _: None, progress=False
    )
    assert found.record.networks == {}
    assert "Left out for the budget: perceptron." in found.notes


def test_a_network_without_data_is_left_out(small, monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = judge(sgd, against=["sgd"], problems=ONE, networks=["clothes"], say=lambda _: None, progress=False)
    assert found.record.networks == {}
    assert any(note.startswith("Left out: clothes, DataError: ") for note in found.notes)


def test_stored_records_are_whole():
    names = sorted(path.stem for path in baselines.FOLDER.glob("*.json") if path != nearness.SIGNATURES)
    assert {"adam", "momentum", "sgd"} <= set(names)
    tier = TIERS["quick"]
    for name in names:
        record = baselines.stored(name)
        assert (record.name, set(record.problems)) == (name, set(PROBLEMS))
        assert {len(row) for row in record.families.values()} == {tier.judged_seeds}
        assert len(record.solved) == tier.judged_seeds
        whole = np.mean([each["solved"] for each in record.problems.values()])
        assert np.mean(record.solved) == pytest.approx(whole, abs=1e-3)
        assert {len(each["digits"]) for each in record.networks.values()} <= {tier.network_seeds[-1]}
        assert "/" not in record.made["command"]


def test_durations():
    assert [seconds_of(each) for each in ("600", "90s", "10m", "1.5h")] == [600.0, 90.0, 600.0, 5400.0]
    for wrong in ("soon", "-3m", "0", "10 days"):
        with pytest.raises(ValueError, match="budget: expected a duration"):
            seconds_of(wrong)


@pytest.mark.parametrize(
    ("content", "name", "more", "message"),
    [
        ("", "nothing", (), "target: expected a function"),
        ("import nowhere", "it", (), "ModuleNotFoundError"),
        ("class Adam: __module__ = 'torch.optim.adam'", "Adam", (), "a torch.optim class"),
        ("def it(size): return size", "it", (), "none for size"),
        ("from gdlab.optimizers import sgd as it", "it", ("--budget", "3s"), "budget: expected at least"),
        ("from gdlab.optimizers import sgd as it", "it", ("--against", "nobody"), "no optimizer named 'nobody'"),
        ("from gdlab.optimizers import adam as it\nSPACE = {'b3': (0, 1)}", "it", (), "ranges: expected arguments"),
    ],
)
def test_bad_input_of_the_command_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, content, name, more, message):
    (tmp_path / "bad_input.py").write_text(content)
    monkeypatch.setattr(sys, "argv", ["gdlab", "judge", f"{tmp_path}/bad_input.py:{name}", *more])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_file_is_status_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gdlab", "judge", "nowhere.py:it"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "nowhere.py, which does not exist" in capsys.readouterr().err


def test_the_texts_of_the_language_model_are_at_hand():
    task = networks.NETWORKS["language"].task()
    assert task.train.inputs.shape[1] == 32
    assert networks.data_digest("language") == networks.data_digest("language")


@pytest.mark.slow
def test_networks_are_tuned_and_judged_on_other_seeds():
    tier = Tier(4, 1, 6, ("perceptron",), 7, (3,))
    chosen = networks.tune(known("adam"), "perceptron", tier)["chosen"]
    assert np.isclose(chosen["learning_rate"], [1e-3, 1e-2]).any()
    runs = networks.train(known("adam"), "perceptron", chosen, range(3))
    assert len(set(runs["digits"])) == 3
    assert [row[-1] for row in runs["curves"]] == runs["digits"]
    assert [len(row) for row in runs["curves"]] == [networks.NETWORKS["perceptron"].epochs] * 3
    assert all(row[0] < row[-1] for row in runs["curves"])
    assert min(runs["digits"]) > 0.8
    assert max(runs["arrived"]) <= 180  # steps in all; -1 if it never arrives
    none = networks.train(contender("idle", lambda: sgd(0.0)), "perceptron", {}, range(2))
    assert max(none["digits"]) < 0.1
    assert none["arrived"] == [-1, -1]


@pytest.mark.slow
def test_an_optimizer_against_itself_is_rarely_judged_better_or_worse():
    found = false_answers(200)
    assert all(spread > 0.01 for spread in found["spread"].values())
    assert found["wrong"]["overall"] <= 10
    assert found["wrong"]["parts"] <= 10


@pytest.mark.slow
def test_a_lower_b1_is_told_apart():
    def hasty(learning_rate=1e-3):
        return adam(learning_rate, b1=0.5)

    some = {name: PROBLEMS[name] for name in ("quadratic_rotated", "valley", "gaussian_noise", "saddle")}
    found = judge(hasty, against=["adam"], problems=some, networks=[], say=lambda line: None, progress=False)
    answers = {family: decision.answer for family, decision in found.verdicts.parts["adam"].items()}
    assert {"better", "worse"} & set(answers.values()), answers
    assert found.soundness.ok


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "momentum", "sgd"])
def test_stored_records_belong_to_the_present_optimizers_and_repeat_here(name):
    record = baselines.stored(name)
    assert record.digest == digest_contender(known(name))
    assert baselines.drift(record) <= 0.05


@pytest.mark.slow
def test_an_interrupted_command_continues(tmp_path):
    (tmp_path / "mine.py").write_text("from gdlab.optimizers import sgd as mine\n")
    command = [sys.executable, "-m", "gdlab", "judge", "mine.py:mine", "--against", "sgd"]
    kept = tmp_path / "runs" / "judge_mine" / "kept"

    def run_until(count):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        deadline = time.monotonic() + 300
        while len(list(kept.rglob("*.json"))) < count and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        return {path.name: path.stat().st_mtime_ns for path in kept.rglob("*.json")}

    first = run_until(3)
    second = run_until(len(first) + 2)
    assert len(first) >= 3
    assert {name: second[name] for name in first} == first  # read, not made again
    assert len(second) > len(first)
