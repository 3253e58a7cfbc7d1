"""One valid call of every public callable of gdlab, for the tests that change one argument of it.

`CALLS` holds only the arguments that a call needs: a callable whose arguments all have defaults needs no entry.
"""

import importlib
import pkgutil
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import gdlab
from gdlab import (
    comparison,
    diagnostics,
    functions,
    gradients,
    hyperparameters,
    models,
    optimizers,
    plots,
    reporting,
    tasks,
)
from gdlab.analysis import arrivals, claims, importance, intervals, learning_curves, sequential, tables
from gdlab.cli.user_code import load_factory
from gdlab.data import Dataset, Split
from gdlab.plots import interactive
from gdlab.types import Grid
from tests.samples import (
    LOGITS,
    PATHS,
    SAMPLES,
    SERIES,
    VECTOR,
    autoencoder,
    band,
    basin_map,
    claim,
    found,
    grid,
    image_set,
    key,
    measure,
    network,
    paths_of_two,
    problem_fields,
    race_judged,
    raced,
    raw_square,
    relief,
    settings_found,
    square,
    study,
    study_fields,
    swept,
    table_of_maps,
    task,
    task_fields,
    written,
)

INTERACTIVE = "plots.interactive"


def public_modules():
    """The modules with public names: those of the package, and modules that are imported by name."""
    analysis = importlib.import_module("gdlab.analysis")
    parts = (f"analysis.{one.name}" for one in pkgutil.iter_modules(analysis.__path__))
    return (*gdlab._MODULES, *parts, INTERACTIVE, "reporting.board")


def public_callables():
    """All public callables by their shortest path, such as "plots.contour"; each one appears once."""
    found = {f"{name}": getattr(gdlab, name) for name in gdlab.__all__}
    for place in public_modules():
        module = importlib.import_module(f"gdlab.{place}")
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
        found.update({f"{place}.{name}": getattr(module, name) for name in names})
    seen: dict[int, str] = {}
    for path, value in found.items():
        if callable(value) and typing.get_origin(value) is None:
            seen.setdefault(id(value), path)
    return {path: found[path] for path in seen.values()}


def growth(key, rate):
    """A function of a random key and one hyperparameter, for `scan`."""
    return {"size": (1 + rate) ** 3 + jax.random.uniform(key)}


THROUGH = {
    "Function": lambda **fields: functions.off_origin(gdlab.Function(**fields), [-1.0, -1.0], [1.0, 1.0]),
    "Grid": lambda **fields: plots.contour(Grid(**fields)),
    "analysis.claims.Claim": lambda **fields: claims.judge_claim(claims.Claim(**fields), found()),
    "analysis.intervals.Interval": lambda **fields: plots.sensitivity([0.1, 1.0], {"a": intervals.Interval(**fields)}),
    "analysis.learning_curves.Band": lambda **fields: plots.learning({"a": learning_curves.Band(**fields)}),
    "comparison.Candidate": lambda **fields: comparison.Study(
        **study_fields() | {"candidates": [comparison.Candidate(**fields)]}
    ),
    "comparison.Measure": lambda **fields: comparison.Study(
        **study_fields()
        | {"problems": [comparison.Problem(**problem_fields() | {"measure": comparison.Measure(**fields)})]}
    ),
    "comparison.Problem": lambda **fields: comparison.Study(
        **study_fields() | {"problems": [comparison.Problem(**fields)]}
    ),
    "data.Dataset": lambda **fields: tasks.classify(
        "black", Dataset(**fields), network(), mean=[0.5], std=[0.5], batch_size=4
    ),
    "data.Split": lambda **fields: tasks.classify(
        "black", image_set()._replace(test=Split(**fields)), network(), mean=[0.5], std=[0.5], batch_size=4
    ),
    "diagnostics.Problem": lambda **fields: diagnostics.map_optimizer(
        optimizers.sgd,
        {"learning_rate": [0.1]},
        problems={"a": diagnostics.Problem(**fields)},
        tuning_seeds=1,
        judged_seeds=1,
        progress=False,
    ),
    "gradients.Scheme": lambda **fields: gdlab.finite_difference(square, gradients.Scheme(**fields)),
    "hyperparameters.Range": lambda **fields: gdlab.sample_hyperparameters({"b1": hyperparameters.Range(**fields)}, 4),
    "models.Model": lambda **fields: tasks.measured(models.Model(**fields), measure),
    "plots.Basins": lambda **fields: plots.basins(
        {"a": plots.Basins(**fields)}, np.zeros((1, 2)), [0], (0.0, 1.0, 0.0, 1.0)
    ),
    "plots.Map": lambda **fields: plots.maps({"a": plots.Map(**fields)}, labels=("x", "y"), colour_label="z"),
}
"""Records whose fields are checked by the functions that take them, and a call of one of these."""

CALLS = {
    "Function": lambda: {"name": "f", "fn": square, "dim": 2, "lower": -1.0, "upper": 1.0},
    "autodiff": lambda: {"fn": square},
    "check_gradient": lambda: {"fn": square, "x": np.ones(2)},
    "descend": lambda: {"fn": square, "optimizer": optimizers.sgd(), "start": np.ones(2), "max_steps": 2},
    "evaluate_grid": lambda: {"fn": square, "lower": -1.0, "upper": 1.0},
    "finite_difference": lambda: {"fn": square},
    "given": lambda: {"factory": optimizers.adam},
    "linear_range": lambda: {"low": 0.1, "high": 1.0},
    "log_range": lambda: {"low": 0.1, "high": 1.0},
    "sample_hyperparameters": lambda: {"ranges": {"b1": gdlab.linear_range(0.1, 0.9)}, "count": 4},
    "scan": lambda: {"fn": growth, "space": {"rate": [0.1, 0.2]}, "progress": False},
    "sweep": lambda: {
        "fn": square,
        "factory": optimizers.adam,
        "hyperparameters": {"learning_rate": [0.1]},
        "starts": np.ones((2, 2)),
        "max_steps": 2,
        "progress": False,
    },
    "train": lambda: {
        "task": task(),
        "optimizer": optimizers.adam,
        "hyperparameters": {"learning_rate": 0.1},
        "epochs": 1,
        "progress": False,
    },
    "train_many": lambda: {
        "task": task(),
        "factory": optimizers.adam,
        "hyperparameters": {"learning_rate": [0.1]},
        "seeds": 1,
        "epochs": 1,
        "progress": False,
    },
    "Grid": lambda: grid()._asdict(),
    "analysis.arrivals.arrivals_record": lambda: {"runs": swept()},
    "analysis.arrivals.best_settings": lambda: {"first": np.ones((2, 3), int), "values": np.ones((2, 3))},
    "analysis.arrivals.first_arrival": lambda: {
        "path": np.ones((3, 2)),
        "minimizers": np.ones((1, 2)),
        "distance": 0.1,
    },
    "analysis.arrivals.mean_steps": lambda: {"first": np.ones(3, int), "max_steps": 5},
    "analysis.arrivals.median_steps": lambda: {"first": np.ones(3, int)},
    "analysis.arrivals.percent": lambda: {"share": 0.5},
    "analysis.arrivals.share_cells": lambda: {"record": arrivals.share_record(np.array([True, False]))},
    "analysis.arrivals.share_record": lambda: {"arrived": np.array([True, False])},
    "analysis.basins.find_minima": lambda: {"function": functions.FUNCTIONS["himmelblau"], "ends": np.ones((2, 2))},
    "analysis.basins.label_ends": lambda: {
        "ends": np.ones((3, 2)),
        "diverged": np.zeros(3, bool),
        "minima": np.ones((1, 2)),
    },
    "analysis.claims.Claim": lambda: claim()._asdict(),
    "analysis.claims.at_end": lambda: {"found": found(), "metric": "loss"},
    "analysis.claims.by_epoch": lambda: {"found": found(), "metric": "loss"},
    "analysis.claims.differences": lambda: {
        "values": {"a": np.ones(2), "b": np.ones(2)},
        "first": ["a"],
        "second": ["b"],
    },
    "analysis.claims.early_means": lambda: {"found": found(), "metric": "loss"},
    "analysis.claims.in_order": lambda: {"found": found(), "metric": "loss", "names": ["adam", "sgd"]},
    "analysis.claims.judge_claim": lambda: {"claim": claim(), "found": found()},
    "analysis.claims.late_rises": lambda: {"found": found(), "metric": "loss", "names": ["adam"]},
    "analysis.claims.linearity": lambda: {"found": found(), "metric": "loss", "names": ["adam"]},
    "analysis.claims.share_ahead": lambda: {"found": found(), "metric": "loss", "name": "adam"},
    "analysis.importance.grid_importance": lambda: {"scores": np.ones((2, 3, 4)), "names": ["a", "b"]},
    "analysis.importance.importances": lambda: {"landscape": relief()},
    "analysis.importance.search_importance": lambda: {
        "points": np.ones((4, 1)),
        "scores": np.ones((4, 2)),
        "axes": relief().axes[:1],
    },
    "analysis.landscapes.landscape": lambda: {"ds": settings_found(), "variable": "loss"},
    "analysis.races.race_records": lambda: {"tuning": raced(), "judged": race_judged()},
    "analysis.intervals.Interval": lambda: {"estimate": np.ones(2), "low": np.zeros(2), "high": np.ones(2)},
    "analysis.intervals.bootstrap_interval": lambda: {"samples": SAMPLES},
    "analysis.intervals.mean_interval": lambda: {"samples": SAMPLES},
    "analysis.intervals.paired_bootstrap_interval": lambda: {"first": SAMPLES, "second": SAMPLES},
    "analysis.intervals.paired_seeds_interval": lambda: {"first": SAMPLES, "second": SAMPLES},
    "analysis.intervals.seeds_interval": lambda: {"samples": SAMPLES},
    "analysis.intervals.share_interval": lambda: {"hits": 1, "total": 4},
    "analysis.learning_curves.Band": lambda: band()._asdict(),
    "analysis.learning_curves.band": lambda: {"rows": [[2.0, 1.0], [3.0, 1.0]]},
    "analysis.learning_curves.bands": lambda: {"histories": {"a": [[2.0, 1.0], [3.0, 1.0]]}},
    "analysis.rankings.average_ranks": lambda: {"scores": SAMPLES},
    "analysis.rankings.compare_rankings": lambda: {"first": SAMPLES, "second": SAMPLES},
    "analysis.rankings.indistinct_groups": lambda: {"ranks": [1.0, 2.0], "difference": 1.0},
    "analysis.rankings.nemenyi_difference": lambda: {"solvers": 3, "tasks": 4},
    "analysis.rankings.rank_across_tasks": lambda: {"costs": np.arange(24.0).reshape(3, 4, 2)},
    "analysis.rankings.ranking": lambda: {"scores": SAMPLES},
    "analysis.statistics.good_region": lambda: {"rates": [0.1, 1.0, 10.0], "scores": [0.5, 0.9, 0.5]},
    "analysis.statistics.performance_profile": lambda: {"costs": SAMPLES + 1, "ratios": [1.0, 2.0]},
    "analysis.statistics.quartiles": lambda: {"samples": SAMPLES},
    "analysis.statistics.steps_or_never": lambda: {"first": np.ones(3, int)},
    "analysis.statistics.tuning_curve": lambda: {"scores": SAMPLES, "budgets": [1, 2]},
    "analysis.tables.Table": lambda: {"head": ("a", "b"), "rows": [("1", "2")]},
    "analysis.tables.counted": lambda: {"count": 2, "noun": "seed"},
    "analysis.tables.render": lambda: {"blocks": ["text", tables.Table(("a",), [("1",)])], "markdown": True},
    "comparison.Candidate": lambda: {"name": "adam", "factory": optimizers.adam},
    "comparison.Measure": lambda: {"label": "loss", "metric": "loss"},
    "comparison.Problem": problem_fields,
    "comparison.Study": study_fields,
    "comparison.collect": lambda: {"study": study(), "problem": "small", "candidate": "adam"},
    "comparison.collect_all": lambda: {"study": study()},
    "comparison.console": lambda: {"study": study()},
    "comparison.ladder": lambda: {"budget": 3, "learning_rate": 0.1},
    "comparison.read_results": lambda: {"study": study(), "results": "results"},
    "comparison.write_results": lambda: {"study": study(), "results": "results"},
    "comparison.report": lambda: {"study": study()},
    "comparison.retrieve": lambda: {"study": study(), "problem": "small", "candidate": "adam", "epochs": 1},
    "comparison.run": lambda: {"study": study(), "progress": False},
    "comparison.submit": lambda: {"work": square, "shards": 1, "folder": study().folder},
    "comparison.tensorboard": lambda: {"folder": study().folder},
    "data.Dataset": lambda: image_set()._asdict(),
    "data.Split": lambda: image_set().test._asdict(),
    "data.crop_and_flip": lambda: {"key": key(), "images": image_set().train.images},
    "data.find": lambda: {"name": "mnist", "data_dir": "nowhere"},
    "data.load": lambda: {"name": "mnist", "data_dir": "nowhere"},
    "data.load_text": lambda: {"name": "ptb", "data_dir": "nowhere"},
    "data.normalize": lambda: {"images": image_set().train.images, "mean": [0.5], "std": [0.5]},
    "data.prepare": lambda: {"name": "mnist", "archive": "nowhere", "data_dir": "nowhere"},
    "data.unigram_perplexity": lambda: {"train": np.arange(3), "test": np.arange(3), "vocabulary": 3},
    "data.windows": lambda: {"tokens": np.arange(20), "batch_size": 2, "steps": 3},
    "diagnostics.Problem": lambda: diagnostics.PROBLEMS["quadratic_aligned"]._asdict(),
    "diagnostics.map_optimizer": lambda: {
        "factory": optimizers.sgd,
        "hyperparameters": {"learning_rate": [0.1]},
        "problems": {"a": diagnostics.PROBLEMS["quadratic_aligned"]},
        "tuning_seeds": 1,
        "judged_seeds": 1,
        "progress": False,
    },
    "judging.judge": lambda: {
        "factory": optimizers.sgd,
        "against": ["sgd"],
        "problems": {"a": diagnostics.PROBLEMS["quadratic_aligned"]},
        "networks": [],
        "progress": False,
    },
    **{f"judging.{name}": lambda: {"judgement": None} for name in ("as_json", "text")},
    "reporting.page_of": lambda: {"places": [], "title": ""},
    "reporting.board.add": lambda: {"judgement": "judgement.json"},
    "reporting.board.verify": lambda: {"entry": "judgement.json", "load": load_factory},
    "reporting.save": lambda: {"page": reporting.Page("", (), ()), "path": "page.html"},
    "judging.sentence": lambda: {"decision": sequential.decide_pairs(np.ones(8), 0.1)},
    "analysis.sequential.always_valid_interval": lambda: {"differences": np.ones(8)},
    "analysis.sequential.decide_pairs": lambda: {"differences": np.ones(8), "margin": 0.1},
    "analysis.sequential.decide_many": lambda: {"differences": {"a": np.ones(8)}, "margin": 0.1},
    "diagnostics.run_problem": lambda: {
        "problem": diagnostics.PROBLEMS["quadratic_aligned"],
        "optimizer": optimizers.sgd(0.1),
        "level": 10.0,
    },
    "functions.off_origin": lambda: {
        "function": functions.FUNCTIONS["sphere"],
        "low": [-1.0, -1.0],
        "high": [1.0, 1.0],
    },
    "gradients.Categorical": lambda: {"logits": np.zeros(3)},
    "gradients.Normal": lambda: {"mean": np.zeros(2)},
    "gradients.Scheme": lambda: gradients.SCHEMES["central"]._asdict(),
    "gradients.error_curve": lambda: {"fn": square, "x": np.ones(2), "scheme": "central", "steps": [0.1, 0.01]},
    "gradients.reparameterized": lambda: {"fn": square, "distribution": gradients.Normal, "samples": 2},
    "gradients.score_function": lambda: {"fn": square, "distribution": gradients.Normal, "samples": 2},
    "gradients.stencil": lambda: {"name": "forward", "offsets": [0.0, 1.0], "weights": [-1.0, 1.0], "order": 1},
    "hyperparameters.Range": lambda: {"low": 0.1, "high": 1.0, "logarithmic": False},
    "losses.bernoulli_error": lambda: {"logits": LOGITS, "targets": LOGITS},
    "losses.cross_entropy": lambda: {"logits": LOGITS, "labels": np.array([0, 1])},
    "losses.gaussian_divergence": lambda: {"mean": LOGITS, "log_variance": LOGITS},
    "losses.is_hit": lambda: {"logits": LOGITS, "labels": np.array([0, 1])},
    "losses.margin_loss": lambda: {"lengths": LOGITS, "labels": np.array([0, 1])},
    "models.Model": lambda: network()._asdict(),
    "models.load_torchvision": lambda: {"path": "weights.safetensors", "params": {}, "state": {}},
    "models.lstm": lambda: {"vocabulary": 3, "batch_size": 2},
    "models.mlp": lambda: {"input_shape": (8, 8, 1), "num_classes": 2},
    "models.resnet18": lambda: {"num_classes": 2},
    "models.vae_decode": lambda: {"params": autoencoder(), "latents": np.zeros((1, 2), np.float32)},
    "models.vae_encode": lambda: {"params": autoencoder(), "images": np.zeros((1, 8, 8, 1), np.float32)},
    "models.vgg16": lambda: {"num_classes": 2},
    "models.wide_resnet": lambda: {"num_classes": 2},
    "numerics.absolute": lambda: {"x": VECTOR},
    "numerics.cos_sqrt": lambda: {"u": VECTOR},
    "numerics.cospi": lambda: {"x": VECTOR},
    "numerics.expm1": lambda: {"x": VECTOR},
    "numerics.one_minus_power": lambda: {"decay": 0.9, "count": 1},
    "numerics.safe_sqrt": lambda: {"x": VECTOR},
    "numerics.sinpi": lambda: {"x": VECTOR},
    "numerics.sinpi_squared": lambda: {"x": VECTOR},
    "numerics.symmetric_power": lambda: {"matrix": np.eye(2), "exponent": 0.5},
    "optimizers.check_contract": lambda: {"factory": optimizers.adam},
    "optimizers.demon_adam": lambda: {"total_steps": 10},
    "optimizers.demon_sgdm": lambda: {"total_steps": 10},
    "optimizers.evaluation_params": lambda: {"state": optax.EmptyState(), "params": jnp.ones(2)},
    "optimizers.hutchinson": lambda: {"value_fn": raw_square, "params": np.ones(2), "key": key()},
    "optimizers.hyperball": lambda: {"base": optimizers.adam()},
    "optimizers.one_of": lambda: {"builds": [optimizers.adam, optimizers.sgd]},
    "optimizers.orthogonalize": lambda: {"matrix": np.eye(2)},
    "optimizers.scale_by_galore": lambda: {"base": optimizers.scale_by_adam()},
    "optimizers.scale_by_momentum": lambda: {"momentum": 0.9},
    "optimizers.stable_dtypes": lambda: {"inner": optax.adam(0.1)},
    "optimizers.transformation": lambda: {"build": optax.adam},
    **{f"optimizers.{name}": lambda: {"base": optimizers.sgd()} for name in optimizers.WRAPPERS},
    "plots.Basins": lambda: basin_map()["a"]._asdict(),
    "plots.Map": lambda: table_of_maps()["a"]._asdict(),
    "plots.basins": lambda: {
        "atlas": basin_map(),
        "minima": np.zeros((1, 2)),
        "best": [0],
        "box": (0.0, 1.0, 0.0, 1.0),
    },
    "plots.contour": lambda: {"grid": grid()},
    "plots.contour3d": lambda: {"grid": grid()},
    "plots.curve_panels": lambda: {"rows": {"row": {"column": SERIES}}},
    "plots.curves": lambda: {"series": SERIES},
    "plots.draw_curves": lambda: {"axes": Figure().add_subplot(), "series": SERIES},
    "plots.heatmap": lambda: {"values": np.zeros((2, 2)), "rows": ["a", "b"], "columns": ["c", "d"]},
    "plots.levels_map": lambda: {"levels": np.ones((2, 2)), "problems": ["saddle", "mine"], "optimizers": ["a", "b"]},
    "plots.image_grid": lambda: {"images": np.zeros((2, 2, 3, 3))},
    "plots.interactive.explore": lambda: {"function": grid(), "runs": paths_of_two()},
    "plots.interactive.require_backend": lambda: {"backend": "plotly"},
    "plots.interactive.save": lambda: {"figure": interactive.surface(grid()), "path": "surface.html"},
    "plots.interactive.show": lambda: {"figure": interactive.surface(grid())},
    "plots.interactive.surface": lambda: {"function": grid()},
    "plots.importance": lambda: {"importances": {"adam": importance.grid_importance(np.ones((2, 3)), ["a"])}},
    "plots.interval_panels": lambda: {
        "values": [0.1, 1.0],
        "panels": {"left": {"a": intervals.Interval(np.ones(2), np.zeros(2), np.ones(2))}},
    },
    "plots.latent_map": lambda: {
        "latents": np.zeros((3, 2)),
        "labels": np.arange(3),
        "decoded": np.zeros((2, 2, 3, 3)),
        "span": 1.0,
    },
    "plots.learning": lambda: {"bands": {"a": band()}},
    "plots.learning_panels": lambda: {"panels": {"loss": {"a": band()}}},
    "plots.levels": lambda: {"z": grid().z},
    "plots.line_style": lambda: {"index": 0},
    "plots.loss_maps": lambda: {"values": [0.1, 1.0], "losses": {"a": np.ones((2, 3))}},
    "plots.marginals": lambda: {"landscape": relief()},
    "plots.parallel": lambda: {"landscape": relief()},
    "plots.setting_maps": lambda: {"landscape": relief()},
    "plots.slopes": lambda: {"scores": {"a": np.ones((2, 3))}, "sides": ["left", "right"]},
    "plots.settings": lambda: {"ds": settings_found(), "variable": "loss"},
    "plots.maps": lambda: {"panels": table_of_maps(), "labels": ("x", "y"), "colour_label": "z"},
    "plots.panels": lambda: {"grid": grid(), "paths": PATHS},
    "plots.paths": lambda: {"grid": grid(), "paths": PATHS},
    "plots.profiles": lambda: {"ratios": [1.0, 2.0], "shares": {"a": [0.5, 1.0]}},
    "plots.race": lambda: {"grid": grid(), "paths": PATHS},
    "plots.rank_diagram": lambda: {"names": ["a", "b"], "ranks": [1.0, 2.0], "difference": 0.5, "groups": [[0, 1]]},
    "plots.save": lambda: {"figure": Figure(), "path": "figure.png"},
    "plots.save_indexed": lambda: {"figure": Figure(), "path": "figure.png"},
    "plots.save_learning": lambda: {"panels": {"loss": {"a": band()}}, "folder": "figures"},
    "plots.scatter": lambda: {"grid": grid()},
    "plots.score_map": lambda: {"values": [0.1, 1.0], "scores": np.zeros((1, 2)), "names": ["a"]},
    "plots.sensitivity": lambda: {
        "values": [0.1, 1.0],
        "scores": {"a": intervals.Interval(np.ones(2), np.zeros(2), np.ones(2))},
    },
    "plots.surface": lambda: {"grid": grid()},
    "plots.values": lambda: {"series": {"a": [2.0, 1.0]}},
    "plots.write_gif": lambda: {"path": "race.gif", "images": np.zeros((2, 8, 8, 3), np.uint8)},
    "records.Blocks": lambda: {"folder": "blocks", "identity": {"name": "x"}},
    "records.RunFolder": lambda: {"folder": "run", "identity": {"name": "x"}, "config": {}},
    "records.atomic_path": lambda: {"path": "file.txt"},
    "records.load_note": lambda: {"path": written("tree.npz")},
    "records.load_tree": lambda: {"path": written("tree.npz"), "like": {"a": VECTOR}},
    "records.read_checkpoint": lambda: {"folder": "run", "like": {"a": VECTOR}},
    "records.read_json": lambda: {"path": written("value.json")},
    "records.read_lines": lambda: {"path": written("lines.jsonl")},
    "records.read_run": lambda: {"folder": "run"},
    "records.require_folder": lambda: {"folder": study().folder},
    "records.save_tree": lambda: {"path": "tree.npz", "tree": {"a": VECTOR}},
    "records.staged_folder": lambda: {"folder": "staged"},
    "records.to_json": lambda: {"value": 1},
    "records.write_json": lambda: {"path": "value.json", "value": 1},
    "records.write_lines": lambda: {"path": "lines.jsonl", "rows": [1]},
    "schedules.constant": lambda: {"value": 0.1},
    "schedules.cosine": lambda: {"value": 0.1, "total_steps": 10},
    "schedules.demon": lambda: {"value": 0.9, "total_steps": 10},
    "schedules.exponential": lambda: {"value": 0.1, "steps": 10},
    "schedules.linear": lambda: {"value": 0.1, "total_steps": 10},
    "schedules.cosine_restarts": lambda: {"value": 0.1, "period": 10},
    "schedules.inverse_square_root": lambda: {"value": 0.1, "warmup_steps": 10},
    "schedules.one_cycle": lambda: {"value": 0.1, "total_steps": 10},
    "schedules.warmup_linear": lambda: {"value": 0.1, "total_steps": 10, "warmup_steps": 2},
    "schedules.warmup_stable_decay": lambda: {"value": 0.1, "total_steps": 10, "warmup_steps": 2},
    "schedules.step": lambda: {"value": 0.1, "total_steps": 10},
    "schedules.warmup_cosine": lambda: {"value": 0.1, "total_steps": 10, "warmup_steps": 2},
    "sweeps.RaceOptions": lambda: {"functions": ("rosenbrock",)},
    "sweeps.changed_arguments": lambda: {"names": ["adam"]},
    "sweeps.comparable": lambda: {"factory": optimizers.adam, "total_steps": 10},
    "sweeps.comparable_function": lambda: {"function": functions.FUNCTIONS["sphere"]},
    "sweeps.count_evaluations": lambda: {"runs": swept(), "factory": optimizers.adam},
    "sweeps.evaluations_in": lambda: {"steps": 3, "optimizer": optimizers.adam(), "dim": 2},
    "sweeps.steps_within": lambda: {"budget": 9, "optimizer": optimizers.adam(), "dim": 2},
    "sweeps.sweep_scipy": lambda: {
        "fn": square,
        "methods": ["nelder_mead"],
        "starts": np.ones((2, 2)),
        "budget": 9,
        "lower": -2.0,
        "upper": 2.0,
    },
    "sweeps.tune_and_judge": lambda: {
        "functions": {"bowl": functions.FUNCTIONS["himmelblau"]},
        "factories": {"adam": optimizers.adam},
        "hyperparameters": {"learning_rate": [0.1]},
        "tuning_starts": np.ones((2, 2)),
        "judged_starts": np.ones((2, 2)),
        "max_steps": 2,
        "progress": False,
    },
    "sweeps.tune_and_judge_matrices": lambda: {
        "functions": {"root": functions.MATRIX_FUNCTIONS["matrix_square_root"](2)},
        "factories": {"adam": optimizers.adam},
        "hyperparameters": {"learning_rate": [0.1]},
        "tuning_starts": {"root": np.ones((1, 2, 2), np.float32)},
        "judged_starts": {"root": np.ones((1, 2, 2), np.float32)},
        "max_steps": 2,
    },
    "sweeps.tune_and_judge_within": lambda: {
        "budget": 9,
        "functions": {"bowl": functions.FUNCTIONS["himmelblau"]},
        "factories": {"adam": optimizers.adam},
        "hyperparameters": {"adam": [{"learning_rate": 0.1}]},
        "tuning_starts": np.ones((2, 2)),
        "judged_starts": np.ones((2, 2)),
        "progress": False,
    },
    "tasks.Task": task_fields,
    "tasks.classify": lambda: {
        "name": "black",
        "dataset": image_set(),
        "model": network(),
        "mean": [0.5],
        "std": [0.5],
        "batch_size": 4,
    },
    "tasks.count_examples": lambda: {"examples": task().train},
    "tasks.from_images": lambda: {
        "name": "black",
        "dataset": image_set(),
        "init": network().init,
        "forward": tasks.measured(network(), measure),
        "batch_size": 4,
    },
    "tasks.measured": lambda: {"model": network(), "measure": measure},
    "tasks.metric_names": lambda: {
        "functions": task().functions,
        "params": {"w": VECTOR},
        "state": (),
        "examples": task().test,
    },
    "tasks.perceptron": lambda: {"dataset": "digits"},
    "tasks.require_task": lambda: {"name": "task", "task": task()},
}

NOT_CALLED: dict[str, str] = {
    "optimizers.check_contract": "it compiles for a quarter of a minute",
    **dict.fromkeys(
        ("data.load", "data.load_text", "data.prepare", "models.load_torchvision", "comparison.retrieve"),
        "it needs data, weights or a finished run",
    ),
    **dict.fromkeys(("plots.interactive.save", "plots.interactive.show"), "they write megabytes"),
    "comparison.submit": "it starts processes",
    **dict.fromkeys(("comparison.read_results", "comparison.write_results"), "they need finished runs"),
    **dict.fromkeys(("reporting.page_of", "reporting.save"), "they read results and write a page"),
    **dict.fromkeys(("reporting.board.add", "reporting.board.build", "reporting.board.verify"), "they read judgements"),
    **dict.fromkeys(("judging.judge", "judging.as_json", "judging.text"), "a judgement compiles for a minute"),
    "records.atomic_path": "the block must write a file",
    **dict.fromkeys(("records.read_run", "records.read_checkpoint"), "they need a run"),
}
"""Callables whose valid call is not made, and why."""
