"""The package as a whole: what importing it loads, its public names, its shapes at run time, and the README's code."""

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gdlab
from benchmarks import author_claims

ROOT = Path(__file__).parents[1]
ANALYSIS = ("basins", "claims", "intervals", "learning_curves", "rankings", "statistics", "tables")


def run_python(code, timeout=300):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_importing_gdlab_loads_no_package_that_is_needed_only_later():
    later = ("jax", "optax", "matplotlib", "PIL", "plotly", "flax", "tensorflow_datasets", "tyro", "xarray", "tqdm")
    code = f"import gdlab, sys; print(*(name for name in {later} if name in sys.modules))"
    assert run_python(code).strip() == ""


def test_plots_are_loaded_when_they_are_used():
    assert run_python("import gdlab; print(gdlab.plots.contour.__name__)").strip() == "contour"
    with pytest.raises(AttributeError, match="no attribute 'plotz'"):
        _ = gdlab.plotz


def test_every_public_name_exists_and_is_documented():
    for module in (
        gdlab,
        gdlab.comparison,
        gdlab.data,
        gdlab.gradients,
        gdlab.hyperparameters,
        gdlab.losses,
        gdlab.models,
        gdlab.optimizers,
        gdlab.plots,
        gdlab.records,
        gdlab.schedules,
        gdlab.strategies,
        gdlab.sweeps,
        gdlab.tasks,
        gdlab.training,
        *(importlib.import_module(f"gdlab.analysis.{name}") for name in ANALYSIS),
    ):
        for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
            thing = getattr(module, name)
            if (inspect.isfunction(thing) or inspect.isclass(thing)) and thing.__module__.startswith("gdlab."):
                assert len(inspect.getdoc(thing) or "") > 40, f"{module.__name__}.{name}"
    assert (Path(gdlab.__file__).parent / "py.typed").exists()


def test_all_files_state_the_same_version():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert gdlab.__version__ == cited[1] == newest[1], "gdlab/version.py, CITATION.cff and CHANGELOG.md should agree"


@pytest.mark.slow
def test_shapes_in_the_signatures_hold_at_run_time():
    # Import the library under beartype, which checks every jaxtyping annotation at every call.
    pytest.importorskip("beartype", reason="the test extra is not installed")
    code = """
import jax
jax.config.update("jax_enable_x64", True)
import tests.typecheck
from jaxtyping import install_import_hook
with install_import_hook("gdlab", "tests.typecheck.typechecked"):
    import gdlab
    from gdlab import comparison, data, losses, models, plots, strategies, sweeps, tasks, training
    for name in gdlab.__all__:  # all are loaded when they are first used
        getattr(gdlab, name)
    from gdlab.analysis import intervals, learning_curves, rankings, statistics
    from gdlab.comparison import demon, published
    from gdlab.training import epoch
import jax.numpy as jnp, numpy as np
for name, function in gdlab.FUNCTIONS.items():
    x = jnp.asarray(function.minimizers(function.dim or 4)[0]) + 0.1
    for dtype in (jnp.float32, jnp.float64):
        jax.eval_shape(jax.hessian(function.fn), x.astype(dtype))
    function.bounds(len(x)), function.minimum(len(x))
rosenbrock = gdlab.FUNCTIONS["rosenbrock"]
for scheme in gdlab.gradients.SCHEMES:
    gdlab.finite_difference(rosenbrock.fn, scheme)(jnp.ones(2))
assert gdlab.check_gradient(rosenbrock.fn, jnp.array([0.3, 0.7])).ok
normal, categorical = gdlab.gradients.Normal, gdlab.gradients.Categorical
for key in (jax.random.key(0), jax.random.PRNGKey(0)):
    for baseline in ("leave_one_out", 0.5, None):
        gdlab.gradients.score_function(jnp.sin, normal, samples=3, baseline=baseline)(jnp.ones(()), key)
    gdlab.gradients.reparameterized(jnp.sum, lambda x: normal(x, 2.0), samples=3)(jnp.ones(2), key)
    gdlab.gradients.score_function(lambda i: i * 1.0, categorical, samples=3)(jnp.ones(2), key)
noisy = gdlab.gradients.reparameterized(lambda x: x**2, normal, samples=3)
gdlab.check_gradient(lambda x: x**2 + 1, jnp.ones(()), gradient=noisy, key=key, estimates=9, schemes="central")
for name, factory in gdlab.OPTIMIZERS.items():
    more = {"total_steps": 9.0} if "demon" in name else {}
    more |= {"residual_fn": jax.tree.leaves} if name == "gauss_newton" else {}
    run = lambda rate: gdlab.descend(rosenbrock.fn, factory(rate, **more), jnp.zeros(2), max_steps=5, tolerance=1e-9)
    assert jax.eval_shape(jax.vmap(run), jnp.array([0.01, 0.1])).path.shape == (2, 6, 2)
    optimizer = factory(0.1, **more)
    tree = {"w": jnp.ones((3, 2)), "k": jnp.ones((2, 1, 2, 2)), "s": jnp.ones(())}
    jax.eval_shape(lambda x: optimizer.update(x, optimizer.init(x), x), tree)
passed = {"value": jnp.ones(()), "value_fn": lambda x: jnp.sum(x["w"]), "grad_fn": lambda x: x}
for name, wrapper in gdlab.optimizers.WRAPPERS.items():
    more = {"rest": gdlab.OPTIMIZERS["adam"]()} if name == "partitioned" else {}
    optimizer = wrapper(gdlab.OPTIMIZERS["sgd"](), **more)
    state = optimizer.init(tree)
    jax.eval_shape(lambda x: gdlab.optimizers.evaluation_params(optimizer.update(x, state, x, **passed)[1], x), tree)
for factory in strategies.STRATEGIES.values():
    jax.eval_shape(lambda x: gdlab.descend(rosenbrock.fn, factory(), x, max_steps=2), jnp.zeros(2))
grid = gdlab.evaluate_grid(rosenbrock, points=21)
track = {"a": np.zeros((3, 2))}
plots.contour(grid), plots.surface(grid), plots.contour3d(grid), plots.scatter(grid), plots.paths(grid, track)
plots.race(grid, track, dpi=30), plots.values({"a": np.ones(3)})
points = gdlab.sample_hyperparameters({"learning_rate": gdlab.log_range(1e-4, 1e-2)}, 2)
swept = gdlab.sweep(rosenbrock, gdlab.OPTIMIZERS["adam"], points, np.zeros((3, 2)), max_steps=4, progress=False)
intervals.bootstrap_interval(swept.value.values), statistics.quartiles(swept.value.values)
statistics.performance_profile(1 + swept.value.values, np.ones(2))
statistics.good_region(np.ones(1), np.ones(1)), rankings.average_ranks(swept.value.values)
digits = data.load("digits")
for key in (jax.random.key(0), jax.random.PRNGKey(0)):
    data.normalize(data.crop_and_flip(key, jnp.asarray(digits.train.images[:2])), (0.5,), (0.5,), jnp.bfloat16)
task = tasks.digits_mlp(hidden=(4,), train_size=64, test_size=8)
optimizer = gdlab.OPTIMIZERS["adam"](1e-3)
learner = jax.eval_shape(lambda seed: epoch.begin(task.functions, optimizer, seed), np.uint32(0))
jax.eval_shape(lambda *a: epoch.run_epoch(task.functions, optimizer, *a), learner, task.data, np.uint32(0))
net = models.resnet18(10, stem=models.imagenet_stem, width=2, dtype=jnp.bfloat16)
apply = lambda key, x: net.apply(*net.init(key), x, train=True)
assert jax.eval_shape(apply, jax.random.key(0), jnp.zeros((2, 32, 32, 3), jnp.bfloat16))[0].shape == (2, 10)
shapes = lambda run, *inputs: jax.eval_shape(run, jax.random.key(0), *inputs)
for net, inputs in (
    (models.vgg16(10, width=2, dtype=jnp.bfloat16), jnp.zeros((2, 32, 32, 3), jnp.bfloat16)),
    (models.wide_resnet(10, widen=1, width=2, dropout=0.1), jnp.zeros((2, 8, 8, 3), jnp.float32)),
    (models.vae((4, 4, 1), hidden=(3,)), jnp.zeros((2, 4, 4, 1), jnp.float32)),
    (models.lstm(7, batch_size=2, width=3), jnp.zeros((2, 5), jnp.int32)),
    (models.capsnet(width=2, capsules=1, decoder=(2,)),
     models.CapsuleInputs(jnp.zeros((2, 28, 28, 1), jnp.float32), jnp.zeros(2, jnp.int32))),
):
    shapes(lambda key, x: net.apply(*net.init(key), x, train=jnp.asarray(True), key=key), inputs)
half = jnp.full((2, 3), 0.5)
losses.margin_loss(half, jnp.zeros(2, jnp.int32)), losses.bernoulli_error(half, half)
losses.gaussian_divergence(half, half)
costs = np.arange(12.0).reshape(3, 2, 2)
ranked = rankings.rank_across_tasks(costs)
rankings.nemenyi_difference(3, 2)
plots.rank_diagram(list("abc"), ranked.rank.estimate, difference=1.0, groups=ranked.groups)
plots.image_grid(np.zeros((1, 2, 3, 3)))
plots.latent_map(np.zeros((2, 2)), np.arange(2), np.zeros((2, 2, 3, 3)), 1.0)
cut = data.windows(np.arange(20, dtype=np.int32), 2, 3)
data.unigram_perplexity(cut.inputs.ravel(), cut.inputs.ravel(), 20)
build = gdlab.optimizers.one_of([lambda rate: gdlab.OPTIMIZERS["adam"](rate)])
jax.eval_shape(lambda rate: build(0, rate=rate).init(half), 0.1)
comparison.ladder(3, 0.1), published.published("mnist_vae", "adam", 50)
plots.learning(learning_curves.bands({"a": [np.ones(3), np.zeros(2)]}))
from jaxtyping import TypeCheckError
try:
    plots.levels(np.ones(3))  # a vector, where a matrix is expected: the check is on
except TypeCheckError:
    print("checked")
"""
    assert run_python(code).strip() == "checked"


PAGES = ("README.md", "experiments/README.md", ".github/CONTRIBUTING.md")


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def examples():
    for page in PAGES:
        for number, code in enumerate(python_blocks(page)):
            marks = (
                pytest.mark.slow
                if re.search("train_many|check_contract|import log_range, scan|ds.reached", code)
                else ()
            )
            yield pytest.param(code, id=f"{page}-{number}", marks=marks)


@pytest.mark.parametrize("code", [*examples()])
def test_the_pages_code_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run_python(code)
    if "ds.reached" in code:  # the README's first program, and the share that is said to be printed
        assert re.match(r"83\.\d% of the starts", printed), printed


def read_results(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_the_readme_fits_and_quotes_measured_numbers():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert len(python_blocks("README.md")) == 3
    sound = {
        one["method"]: one for one in read_results("ackley_descent")["starts"] if one["gradient"] != "printed_quotient"
    }

    def quoted(method, *, starts="", interval=""):
        share, low, high = (100 * sound[method][key] for key in ("share", "share_low", "share_high"))
        return f"{share:.1f}%{starts} ({interval}{low:.1f} to {high:.1f}%)"

    zoo = {(one["function"], one["optimizer"]): one["share"] for one in read_results("optimizer_zoo")["results"]}
    for phrase in (
        f"from {quoted('sgd', starts=' of 1,000 random starts', interval='95% interval: ')}",
        f"Adam from {quoted('adam')}",
        f"Adam comes within 0.01 of the minimum from {100 * zoo['rosenbrock', 'adam']:.0f}%",
        f"gradient descent from {100 * zoo['rosenbrock', 'sgd']:.0f}%",
    ):
        assert phrase in " ".join(text.split()), f"README.md: expected {phrase!r}"
    scan = sorted((one["test_accuracy"] for one in read_results("learning_rate_scan")["results"]), reverse=True)
    assert sum(scan[0] - accuracy <= 0.01 for accuracy in scan) == 7  # "seven of ten ... within one percentage point"


def test_the_readme_shows_a_judgement_as_it_was_printed():
    text, found = (ROOT / "README.md").read_text(), read_results("judgement")
    assert "```text\n" + "\n".join(found["printed"]) + "\n```" in text
    false = found["false"]
    wrong = false["wrong"]["overall"]
    phrase = f"better or worse than itself, on other seeds, in {wrong} of {false['judgements']} judgements"
    assert phrase in " ".join(text.split())
    assert f"It takes {['four', 'five', 'six', 'seven'][round(found['seconds'] / 60) - 4]} minutes" in text


FIVE = {"stable_adamw": "StableAdamW", "lars": "LARS", "novograd": "NovoGrad", "soap": "SOAP", "psgd_kron": "PSGD-Kron"}
FIVE_ON_MATRICES = {
    "kl_soap": "KL-SOAP",
    "adam_mini": "Adam-mini",
    "moonlight": "Moonlight",
    "muon": "Muon",
    "normuon": "NorMuon",
}


def test_the_readme_quotes_the_races():
    text, race = " ".join((ROOT / "README.md").read_text().split()), read_results("toy_race")
    for part, leaders in (("results", FIVE), ("matrices", FIVE_ON_MATRICES)):
        assert [one["optimizer"] for one in race[part]][:5] == [*leaders]
        records = {one["optimizer"]: one for one in race[part]}
        for name, title in (leaders | ({"adam": "Adam"} if part == "matrices" else {})).items():
            share, low, high = (100 * records[name][key] for key in ("share", "share_low", "share_high"))
            assert f"{title} ({share:.1f}%, {low:.1f} to {high:.1f}%)" in text
    against_adam = tuple(author_claims.Claim(name, "adam", better=True) for name in FIVE_ON_MATRICES)
    for one in author_claims.findings(against_adam, race["matrices"]):  # "none of which can be told apart from Adam"
        assert one.low < 0 < one.high
    judged = author_claims.findings(author_claims.ON_VECTORS, race["results"])
    judged += author_claims.findings(author_claims.ON_MATRICES, race["matrices"])
    held = sum(one.verdict == "holds" for one in judged)
    assert f"Of {len(judged)} claims that authors make about other optimizers, {held} hold there" in text


def test_the_page_of_results_is_written_from_the_files():
    from benchmarks import results

    assert results.PAGE.read_text() == results.page(), "benchmarks/RESULTS.md: run python -m benchmarks.results"


def test_every_optimizer_is_measured():
    names = set(gdlab.OPTIMIZERS)
    measured = {row["optimizer"] for row in read_results("oracle_deviation")["rows"]}
    assert measured == names, f"oracle_deviation.json: {measured ^ names}; run python -m benchmarks.oracle_deviation"
    for row in read_results("oracle_deviation")["rows"]:
        assert row["why"] or row["largest"] < 1e-10, row
    wrappers = {row["optimizer"] for row in read_results("wrapper_deviation")["rows"]}
    missing = wrappers ^ set(gdlab.optimizers.WRAPPERS)
    assert not missing, f"wrapper_deviation.json: {missing}; run python -m benchmarks.wrapper_deviation"
    for experiment in ("optimizer_zoo", "toy_race"):
        found = {row["optimizer"] for row in read_results(experiment)["results"]}
        missing = set(gdlab.sweeps.FOR_VECTORS) - found
        assert not missing, f"{experiment}.json lacks {missing}; run python benchmarks/experiments.py {experiment}"
    if on_matrices := read_results("toy_race").get("matrices"):
        missing = set(gdlab.sweeps.FOR_MATRICES) - {row["optimizer"] for row in on_matrices}
        assert not missing, f"toy_race.json lacks {missing} on matrices; run python benchmarks/experiments.py toy_race"


def test_every_experiment_has_an_entry_and_every_picture_exists():
    text = (ROOT / "experiments" / "README.md").read_text()
    for script in (ROOT / "experiments").glob("*.py"):
        assert f"## {script.name}" in text, f"experiments/README.md: expected an entry of {script.name}, got none"
    for page in ("README.md", "experiments/README.md", "benchmarks/RESULTS.md", ".github/CONTRIBUTING.md"):
        path = ROOT / page
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert target.startswith("http") or (path.parent / target).exists(), f"{page}: {target} does not exist"
