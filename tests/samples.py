"""Small valid objects of every kind that public functions take, made when they are first used."""

import functools
import types
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from gdlab import comparison, models, optimizers, plots, records, tasks
from gdlab.analysis import claims, learning_curves
from gdlab.analysis.landscapes import landscape
from gdlab.data import DATASETS, Dataset, Split, places
from gdlab.types import Grid

SHAPES = {
    "digits": (8, 8, 1, 10),
    "mnist": (28, 28, 1, 10),
    "fashion_mnist": (28, 28, 1, 10),
    "cifar10": (32, 32, 3, 10),
    "cifar100": (32, 32, 3, 100),
    "stl10": (96, 96, 3, 10),
}
"""The height, the width, the channels and the classes of each data set."""


def blank(name, data_dir=None):
    """What `gdlab.data.load` returns, with 128 black images in each part."""
    places(data_dir)
    DATASETS[name]  # raises for an unknown name
    *shape, classes = SHAPES[name]
    part = Split(np.zeros((128, *shape), np.uint8), np.arange(128) % classes)
    return Dataset(name, part, part, tuple(map(str, range(classes))), {})


def write_text(folder):
    """Write a text of three parts in a folder where `gdlab.data.load_text` finds it as "ptb"."""
    (folder / "ptb").mkdir(parents=True)
    for part in ("train", "valid", "test"):
        (folder / "ptb" / f"ptb.{part}.txt").write_text(" one two three <unk> \n" * 400)


def square(x):
    """A function of one point."""
    return (x**2).sum()


def raw_square(params):
    """A function of a pytree."""
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(params))


@functools.cache
def task():
    """A task with two parameters."""
    examples = {"x": np.zeros((8, 2), np.float32)}

    def init(key):
        return {"w": jax.random.normal(key, (2,))}, ()

    def loss(params, state, batch, key):
        each = ((batch["x"] - params["w"]) ** 2).sum(axis=1)
        return each.mean(), (state, {"loss": each})

    def evaluate(params, state, batch, key):
        return state, {"loss": ((batch["x"] - params["w"]) ** 2).sum(axis=1)}

    return tasks.Task(init=init, loss=loss, evaluate=evaluate, train=examples, test=examples, batch_size=4)


def task_fields():
    """The fields that a `Task` needs."""
    one = task()
    return {name: getattr(one, name) for name in ("init", "loss", "evaluate", "train", "test", "batch_size")}


@functools.cache
def image_set():
    """Eight black images of 8 x 8 pixels in two classes."""
    part = Split(np.zeros((8, 8, 8, 1), np.uint8), np.arange(8) % 2)
    return Dataset("black", part, part, ("a", "b"), {})


@functools.cache
def network():
    """A perceptron for these images."""
    return models.mlp((8, 8, 1), 2, hidden=(2,))


def measure(outputs, images, labels):
    """The metrics of a batch."""
    return {"loss": labels * 0.0}


@functools.cache
def autoencoder():
    """Parameters of a variational autoencoder, all zero."""
    shapes, _ = jax.eval_shape(models.vae((8, 8, 1), hidden=(2,)).init, key())
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def written(name):
    """A file of the working directory with a tree, or with lines of JSON."""
    if not Path(name).exists():
        if name.endswith(".npz"):
            records.save_tree(name, {"a": VECTOR}, note={"epoch": 1})
        elif name.endswith(".json"):
            records.write_json(name, 1)
        else:
            records.write_lines(name, [1])
    return name


def settings_found():
    """Losses over two hyperparameters and two seeds."""
    coords = {"learning_rate": [0.1, 1.0], "momentum": [0.0, 0.5, 0.9]}
    return xr.Dataset({"loss": (("learning_rate", "momentum", "seed"), np.ones((2, 3, 2)))}, coords=coords)


def relief():
    """The same, as a landscape."""
    return landscape(settings_found(), "loss")


def raced():
    """A sweep of a race: one optimizer on one function, with two learning rates."""
    dims = ("optimizer", "function", "trial", "start")
    found = {"reached": (dims, np.ones((1, 1, 2, 3), bool)), "first_reached": (dims, np.ones((1, 1, 2, 3), int))}
    coords = {"optimizer": ["adam"], "function": ["bowl"], "learning_rate": ("trial", [0.1, 1.0])}
    return xr.Dataset(found, coords=coords)


def race_judged():
    """The sweep of the setting that was chosen in that race."""
    chosen = raced().isel(trial=[0]).drop_vars("learning_rate")
    return chosen.assign_coords(learning_rate=(("optimizer", "function", "trial"), np.full((1, 1, 1), 0.1)))


def problem_fields():
    """The fields that a `Problem` needs."""
    return {
        "name": "small",
        "make": task,
        "epochs": (1,),
        "measure": comparison.Measure("loss", "loss"),
        "trials": {"adam": ({"learning_rate": 0.1},)},
    }


def study_fields():
    """The fields that a `Study` needs."""
    return {
        "folder": Path("study"),
        "problems": [comparison.Problem(**problem_fields())],
        "candidates": [comparison.Candidate("adam", optimizers.adam)],
        "seeds": (0,),
    }


@functools.cache
def study():
    """A study of one candidate on one problem."""
    return comparison.Study(**study_fields())


@functools.cache
def grid():
    """The values of a bowl."""
    x = np.linspace(-1.0, 1.0, 5)
    return Grid(x, x, x[:, None] ** 2 + x[None, :] ** 2)


@functools.cache
def band():
    """The learning curves of two runs."""
    return learning_curves.band([[2.0, 1.0], [3.0, 1.0]])


def found():
    """What claims are about: two finished runs of each of two candidates."""

    run = types.SimpleNamespace(history={"loss": np.linspace(2.0, 1.0, 12)}, diverged=False)
    return {"adam": [run, run], "sgd": [run, run]}


def claim():
    """A claim about these runs."""
    return claims.Claim(
        "adam ends lower", "the differences", ("adam", "sgd"), lambda runs: np.ones((1, 2), dtype=float)
    )


def table_of_maps():
    """A map of two columns and three rows."""
    return {"a": plots.Map(np.arange(2.0), np.arange(3.0), np.zeros((3, 2)))}


def basin_map():
    """Basins of two minima."""
    return {"a": plots.Basins(np.zeros((2, 2), int), np.ones((2, 2)))}


PATHS = {"a": np.zeros((3, 2))}
PATH_SETS = {"a": PATHS["a"], "b": np.ones((3, 2))}
SERIES = {"a": ([1.0, 2.0], [1.0, 2.0])}
SAMPLES = np.arange(12.0).reshape(3, 4)
LOGITS = np.zeros((2, 3), np.float32)
VECTOR = np.zeros(2)


@functools.cache
def key():
    """A random key."""
    return jax.random.key(0)


@functools.cache
def paths_of_two(starts=2, steps=4):
    """What a sweep of two optimizers over three rates recorded on a bowl: each step scales the point by 1 - rate."""
    rates, shrink = np.array([0.1, 0.5, 1.5]), np.array([1.0, 0.5])
    begin = np.stack([np.linspace(-0.8, 0.6, starts), np.linspace(0.5, -0.7, starts)], axis=1)
    factor = (1 - np.multiply.outer(shrink, rates))[..., None, None] ** np.arange(steps + 1)
    point = factor[..., None] * begin[:, None]
    dims = ("optimizer", "learning_rate", "start", "step")
    flags = {name: (dims[:3], np.zeros(point.shape[:3], bool)) for name in ("converged", "diverged", "reached")}
    return xr.Dataset(
        {
            "value": (dims, (point**2).sum(axis=-1)),
            "point": ((*dims, "coordinate"), point),
            "steps": (dims[:3], np.full(point.shape[:3], steps, np.int32)),
            **flags,
        },
        {"optimizer": ["whole", "half"], "learning_rate": rates, "step": np.arange(steps + 1)},
        {"factory": "whole, half", "dtype": "float32"},
    )


def swept():
    """The results of a sweep of two starts, as `arrivals_record` and `count_evaluations` read them."""
    flags = {name: ("start", np.array([True, False])) for name in ("reached", "diverged")}
    counts = {"first_reached": ("start", np.array([3, -1])), "steps": ("start", np.array([5, 5]))}
    starts = {"start_point": (("start", "coordinate"), np.ones((2, 2)))}
    return xr.Dataset({"value": ("start", np.ones(2)), **counts, **flags}, starts)


def write_training(folder, *, losses, epochs=None, seed=0, problem="digits", candidate="adam", setting=None):
    """Write the folder of a training with these test losses, of which all but `epochs` are done."""
    config = {"epochs": epochs or len(losses), "problem": problem, "candidate": candidate, "setting": setting or {}}
    records.write_json(folder / "config.json", {**config, "identity": {"seed": seed}})
    rows = [{"epoch": i, "train_loss": loss, "valid_loss": loss, "test_loss": loss} for i, loss in enumerate(losses, 1)]
    records.write_lines(folder / "metrics.jsonl", rows)
    records.write_lines(folder / "seconds.jsonl", [{"epoch": row["epoch"], "seconds": 1.0} for row in rows])


def judged():
    """A judgement as `gdlab judge` writes it, on two problems and a network, against one opponent."""

    def record(name, solved):
        network = {"chosen": {"learning_rate": 0.1}, "digits": [1.0, 2.0], "arrived": [5, -1]}
        network["curves"] = [[0.5, 1.0], [1.0, 2.0]]
        rows = {key: {"solved": row, "chosen": [{}] * 4, "breadth": [0.5] * 4} for key, row in solved.items()}
        made = {"solved": [0.5, 0.75], "networks": {"net": network}, "made": {"cores": 2}}
        return {"name": name, "digest": "0" * 8, "problems": rows, **made}

    def decision(answer, mean, low, high):
        return {"answer": answer, "mean": mean, "low": low, "high": high, "pairs": 8, "more": None}

    def verdicts(first, second):
        return {first: decision("better", 0.3, 0.1, 0.5), second: decision("cannot tell", 0.0, None, None)}

    checks = [{"name": name, "passed": name == "a", "detail": "as it is"} for name in "ab"]
    sound = {"checks": checks, "ok": False, "agreement": 6.0, "bytes_per_parameter": 8.0, "relative_time": 1.0}
    return {
        "name": "newcomer",
        "tier": "quick",
        "soundness": sound,
        "nearest": {"adam": 0.9, "nadam": 0.8},
        "record": record("newcomer", {"layer_scales": [1, 1, 1, 0], "mine": [1, 0.5, 0, 0]}),
        "opponents": {"sgd": record("sgd", {"layer_scales": [1, 1, 0, 0], "mine": [1, 1, 1, 1]})},
        "verdicts": {
            "overall": {"sgd": verdicts("all diagnostics", "all networks")},
            "parts": {"sgd": verdicts("scales", "net")},
        },
        "notes": ["A note."],
        "seconds": 61.0,
    }


def many_runs(settings):
    """Losses that a scan of many settings on ten seeds might have found."""
    rng = np.random.default_rng(0)
    rate, seed = 10 ** rng.uniform(-4, 0, settings), np.arange(10)
    loss = (np.log10(rate)[:, None] + 2) ** 2 + rng.uniform(0.1, 1, (rate.size, seed.size))
    hyperparameters = {"learning_rate": ("trial", rate), "momentum": ("trial", rate**0.5), "seed": seed}
    return xr.Dataset({"loss": (("trial", "seed"), loss)}, hyperparameters)
