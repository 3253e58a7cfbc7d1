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

ROOT = Path(__file__).parents[1]
ANALYSIS = ("basins", "claims", "learning_curves", "rankings", "statistics", "tables")


def run_python(code, timeout=300):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_importing_gdlab_loads_nothing_that_only_later_rooms_need():
    later = ("matplotlib", "PIL", "plotly", "flax", "tensorflow_datasets", "tyro", "xarray", "tqdm")
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


def test_the_version_is_one():
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert gdlab.__version__ == found[1] == cited[1]


@pytest.mark.slow
def test_shapes_in_the_signatures_hold_at_run_time():
    # The library once more under beartype, with every jaxtyping annotation checked at every call.
    pytest.importorskip("beartype", reason="the test extra is not installed")
    code = """
import jax
jax.config.update("jax_enable_x64", True)
import tests.typecheck
from jaxtyping import install_import_hook
with install_import_hook("gdlab", "tests.typecheck.typechecked"):
    import gdlab
    from gdlab import comparison, data, losses, models, plots, tasks, training
    from gdlab.analysis import learning_curves, rankings, statistics
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
for name, factory in gdlab.OPTIMIZERS.items():
    more = {"total_steps": 9.0} if "demon" in name else {}
    run = lambda rate: gdlab.descend(rosenbrock.fn, factory(rate, **more), jnp.zeros(2), max_steps=5, tolerance=1e-9)
    assert jax.eval_shape(jax.vmap(run), jnp.array([0.01, 0.1])).path.shape == (2, 6, 2)
    optimizer = factory(0.1, **more)
    tree = {"w": jnp.ones((3, 2)), "k": jnp.ones((2, 1, 2, 2)), "s": jnp.ones(())}
    jax.eval_shape(lambda x: optimizer.update(x, optimizer.init(x), x), tree)
grid = gdlab.evaluate_grid(rosenbrock, points=21)
track = {"a": np.zeros((3, 2))}
plots.contour(grid), plots.surface(grid), plots.contour3d(grid), plots.scatter(grid), plots.paths(grid, track)
plots.race(grid, track, dpi=30), plots.values({"a": np.ones(3)})
points = gdlab.sample_hyperparameters({"learning_rate": gdlab.log_range(1e-4, 1e-2)}, 2)
swept = gdlab.sweep(rosenbrock, gdlab.OPTIMIZERS["adam"], points, np.zeros((3, 2)), max_steps=4, progress=False)
statistics.bootstrap_interval(swept.value.values), statistics.quartiles(swept.value.values)
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
plots.rank_diagram("abc", ranked.rank.estimate, difference=1.0, groups=ranked.groups)
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
    plots.levels(np.ones(3))  # a vector, where a matrix is wanted: the check is on
except TypeCheckError:
    print("checked")
"""
    assert run_python(code).strip() == "checked"


def readme_blocks():
    text = (ROOT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def example(number):
    long = re.search("train_many|check_contract", readme_blocks()[number])
    return pytest.param(number, marks=pytest.mark.slow if long else ())


@pytest.mark.parametrize("number", [example(number) for number in range(len(readme_blocks()))])
def test_the_readmes_code_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(readme_blocks()[number])


def test_the_readmes_figures_are_in_the_results():
    text = (ROOT / "README.md").read_text()
    results = ROOT / "benchmarks" / "results"
    ackley = json.loads((results / "ackley_descent.json").read_text())
    for record in ackley["starts"]:
        low, high = 100 * record["share_low"], 100 * record["share_high"]
        row = f"| {record['learning_rate']:.3g} | {100 * record['share']:.1f}% | {low:.1f} to {high:.1f}% |"
        if record["gradient"] == "autodiff":
            assert row in text, row
        else:
            assert f"brings {100 * record['share']:.1f}% to the minimum" in text
    rates = ackley["shares"]["learning_rates"]
    at_small_rate = ackley["shares"]["shares"]["sgd"][min(range(len(rates)), key=lambda k: abs(rates[k] - 0.01))]
    assert f"from {100 * at_small_rate:.1f}% of the starts" in text
    zoo = json.loads((results / "optimizer_zoo.json").read_text())["results"]
    for function in ("rosenbrock", "beale", "rastrigin", "ackley"):
        records = [r for r in zoo if r["function"] == function]
        assert {r["optimizer"] for r in records} == set(gdlab.OPTIMIZERS)
        best = sorted(records, key=lambda r: (-r["share"], r["median_steps"] or 1e9))[:5]
        row = [f"{r['optimizer']} {100 * r['share']:.0f}% in {r['median_steps']:.0f}" for r in best]
        assert f"| {function} | {' | '.join(row)} |" in text, row
    speed = json.loads((results / "sweep_speed.json").read_text())
    counts = (1, 100, 10_000, 100_000, 1_000_000)
    rates = {(r["contender"], r["starts"]): r["million_point_steps_per_second"] for r in speed["rows"]}
    for name in dict.fromkeys(name for name, _ in rates):
        found = [rates.get((name, n)) for n in counts]
        cells = ["" if v is None else f"{v:.3g}" if v < 999.5 else f"{v:,.0f}" for v in found]
        assert f"| {name} | {' | '.join(cells)} |" in text, cells
    ratios = speed["ratios"]
    for phrase in (
        f"{ratios['gdlab / C, all cores, 1000000 starts']:.2f} of the C program at 10^6 starts",
        f"{ratios['gdlab / C, all cores, 100000 starts']:.2f} at 10^5",
        f"{speed['memory']['mib_peak']:.0f} MiB",
        f"{speed['grid']['ratio_rebuilding']:.0f} times",
    ):
        assert phrase in text, phrase
    race = json.loads((results / "toy_race.json").read_text())["results"]
    assert {r["optimizer"] for r in race} == set(gdlab.OPTIMIZERS)
    for r in race[:8]:
        half = f"{r['steps_median']:.0f}" if r["steps_median"] is not None else "never"
        cells = [f"{100 * r['share']:.1f}%", f"{r['rank']:.1f}", half, f"{r['good_decades']:.2f}"]
        assert f"| {r['optimizer']} | {' | '.join(cells)} |" in text, cells
    training = json.loads((results / "training_speed.json").read_text())["stems"]
    for stem, found in training.items():
        speeds = [row["images_per_second"] for row in found["contenders"].values()]
        cells = [f"{speed:.3g}" for speed in speeds]
        assert f"| {stem} | {' | '.join(cells)} | {found['ratio']:.2f} |" in text, cells
    for name, row in json.loads((results / "task_speed.json").read_text())["tasks"].items():
        seconds = " | ".join(f"{row['seconds_a_step'][who]:.3g}" for who in ("gdlab", "torch"))
        assert f"| {name} | {row['batch']} | {seconds} | {row['ratio']:.2f} |" in text, name
    smoke = json.loads((results / "overview_smoke.json").read_text())
    for name, row in smoke["optimizers"].items():
        cells = [f"{mean:.1f}" for mean in row["test"].values()]
        assert f"| {name} | {row['rank']:.2f} | {' | '.join(cells)} |" in text, name
    scan = json.loads((results / "scan_speed.json").read_text())
    for name, row in scan["results"].items():
        assert f"| {name} | {row['trainings_an_hour']:,.0f} |" in text, name
    for r in json.loads((results / "learning_rate_scan.json").read_text())["results"]:
        interval = f"{100 * r['test_low']:.1f} to {100 * r['test_high']:.1f}%"
        cells = [f"{r['learning_rate']:.3g}", f"{100 * r['test_accuracy']:.1f}%", interval, f"{r['good_decades']:.2f}"]
        assert f"| {r['optimizer']} | {' | '.join(cells)} |" in text, cells
    imports = json.loads((results / "import_time.json").read_text())
    assert f"takes {imports['gdlab_takes_longer_by']:.2f} s more" in text


def test_the_readme_has_code_and_names_every_experiment_and_optimizer():
    text = (ROOT / "README.md").read_text()
    assert len(readme_blocks()) >= 2
    for script in (ROOT / "experiments").glob("*.py"):
        assert script.name in text
    for name in gdlab.OPTIMIZERS:
        assert f"`{name}`" in text


def test_the_readmes_table_of_oracles_is_the_measured_one():
    text = (ROOT / "README.md").read_text()
    rows = json.loads((ROOT / "benchmarks" / "results" / "oracle_deviation.json").read_text())["rows"]
    assert {row["optimizer"] for row in rows} == set(gdlab.OPTIMIZERS)
    for row in rows:
        note = f" ({row['why']})" if row["why"] else ""
        line = f"| `{row['optimizer']}` | {row['oracle']} | {row['version']} | {row['largest']:.1e}{note} |"
        assert line in text
        assert row["why"] or row["largest"] < 1e-10, line
