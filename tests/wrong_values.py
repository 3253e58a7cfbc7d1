"""The kinds of arguments of public callables, and wrong values of each kind.

The kind of an argument follows from its annotation (`kind_of`), unless `KINDS` or `BY_NAME` names one. `FREE` names the
callables and the arguments that take anything, with the reason.
"""

import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab import optimizers
from gdlab.comparison import Collected, Study
from gdlab.data import Dataset
from gdlab.functions import Function
from gdlab.models import Model
from gdlab.tasks import Task
from gdlab.types import Grid


class Stranger:
    """An object of no use to any function."""


def nothing():
    """A function without arguments."""


def pair(first, second):
    """A function of two arguments."""
    return (first * second).sum()


STRANGER = Stranger()
NOT_NUMBERS = ["fast", None, [0.5], 1j, True, np.ones(2), STRANGER]
NOT_INSTANCES = [3, None, "text", [1], STRANGER]
NOT_SEQUENCES = [3, None, STRANGER]
RAGGED = [[1.0], [1.0, 2.0]]

WRONG = {
    "count": ["two", None, 2.5, math.nan, -1, True, [1], 1j, np.ones(2)],
    "number": [*NOT_NUMBERS, math.nan, math.inf],
    "positive": [*NOT_NUMBERS, math.nan, math.inf, 0.0, -1.0],
    "fraction": [*NOT_NUMBERS, math.nan, math.inf, -0.5, 1.5],
    "hyperparameter": [*NOT_NUMBERS, math.nan, math.inf, -3.0, lambda count: "text", lambda count: math.nan, nothing],
    "momenta": ["fast", None, 0.5, [], [2.0], ["fast"], [None], [math.nan], np.ones((2, 2)), STRANGER],
    "flag": ["yes", None, 1, 0.0, [True], STRANGER],
    "text": [3, None, ["a"], b"a", True, STRANGER],
    "name": [3, None, ["a"], b"a", True, STRANGER, ""],
    "path": [3, None, "", "a\0b", ["a"], b"a", STRANGER],
    "choice": ["nonsense", 3, None, ["a"], "", STRANGER],
    "function": [3, None, "text", [1], STRANGER],
    "traced function": [3, None, "text", [1], nothing, pair, lambda x: x[:, 7], lambda x: "text", lambda x: None],
    "array": ["text", None, ["a"], RAGGED, {"a": 1}, STRANGER, np.full(2, 1j)],
    "analytic array": ["text", None, ["a"], RAGGED, {"a": 1}, STRANGER, [True], [1]],
    "mapping": [3, None, "text", ["a"], STRANGER],
    "sequence": [*NOT_SEQUENCES, {"a": 1}, "text"],
    "names": [*NOT_SEQUENCES, {"a": 1}, "text", [3], [None]],
    "numbers": [*NOT_SEQUENCES, {"a": 1}, "text", ["a"], [None], [math.nan]],
    "texts": [*NOT_SEQUENCES, "ab", ("a",), ("a", "b", "c"), (1, 2)],
    "three texts": [*NOT_SEQUENCES, "abc", ("a", "b"), ("a", "b", 3)],
    "interval": [3, "ab", (1.0,), (1.0, 2.0, 3.0), ("a", "b"), (2.0, 1.0), (math.nan, 1.0), STRANGER],
    "box": [3, None, "abcd", (0.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, math.nan, 0.0, 1.0), STRANGER],
    "key": [0, None, "text", np.ones(2), STRANGER],
    "optimizer": [3, None, "adam", optimizers.adam, STRANGER],
    "factory": [3, None, "adam", [1], STRANGER],
    "dtype": ["nonsense", 3, STRANGER],
    "point": ["text", None, ["a"], RAGGED, [1, 2], np.ones((2, 2)), 1.0, np.full(2, 1j), STRANGER],
    "tree of points": ["text", None, ["a"], RAGGED, [1, 2], np.full(2, 1j), STRANGER],
    "points": ["text", 3, ["a"], RAGGED, np.ones(3), np.ones((2, 3)), np.full((1, 2), math.nan), STRANGER],
    "state": ["text", STRANGER, [object()]],
    "tree": ["text", None, STRANGER, [object()]],
    "instance": NOT_INSTANCES,
    "rows": [3, None, STRANGER, [STRANGER]],
    "records": [3, None, "text", {"a": 3}, {"a": None}, STRANGER],
    "named arrays": [3, None, "text", ["a"], {"a": "text"}, {"a": None}, {"a": np.zeros((2, 2, 2, 2))}, STRANGER],
    "index pairs": [3, None, "text", [3], [[0, 5]], [["a"]], STRANGER],
    "devices": [3, "cpu", ["cpu"], [], STRANGER],
    "choices or sizes": ["nonsense", 0, 2.5, [1], STRANGER],
    "unknown keyword": [3],
    "text or flag": [3, None, ["a"], STRANGER],
    "seeds": ["text", None, 0, 2.5, [0.5], ["a"], [-1], [], STRANGER],
    "shard": [3, None, "ab", (1,), (2, 1), (0, 1), (1.5, 2), STRANGER],
    "archives": [3, [3], [None], {"a": 1}, STRANGER],
    "json": [STRANGER, {1, 2}, {"a": STRANGER}, 1j],
    "json rows": [3, None, STRANGER, [STRANGER]],
    "static values": [3, "text", ["a"], {"a": [1]}, {"rate": [1]}, {"seed": [1]}, {3: [1]}, STRANGER],
    "function of a key": [3, None, "text", [1], nothing, lambda key, rate: rate, lambda key, rate: {}],
    "blocks": ["text", 0, -1, 2.5, True, [None], {"a": "text"}, {"a": 0}, np.ones(2), STRANGER],
    "examples": ["text", None, [], {}, {"a": np.zeros(2), "b": np.zeros(3)}, STRANGER],
}

BY_NAME = {
    "state": "tree",
    "examples": "examples",
    "identity": "json",
    "claim": "instance",
    "study": "instance",
    "task": "instance",
    "measure": "instance",
    "model": "instance",
    "dataset": "instance",
    "devices": "devices",
    "device": "instance",
    "forward": "function",
    "init": "function",
    "apply": "function",
    "guides": "rows",
    "seed": "count",
    "dtype": "dtype",
    "level": "fraction",
    "better": "choice",
    "minimizers": "points",
    "labels": "texts",
    "limits": "interval",
    "chunk": "choices or sizes",
    "factory": "factory",
    "paths": "named arrays",
    "found": "mapping",
    "metric": "text",
    "params": "tree",
    "tree": "tree",
    "save_to": "path",
    "problem": "name",
    "candidate": "name",
    "name": "name",
    "images": "array",
    "gradient": "traced function",
    "learning_rate": "hyperparameter",
}

KINDS: dict[str, str] = {
    **{f"numerics.{name}.x": "analytic array" for name in ("absolute", "cospi", "expm1", "safe_sqrt", "sinpi")},
    "numerics.cos_sqrt.u": "analytic array",
    "numerics.sinpi_squared.x": "analytic array",
    "Function.lower": "array",
    "Function.upper": "array",
    "Function.minimum": "function",
    "analysis.claims.Claim.margins": "function",
    "analysis.intervals.Interval.estimate": "array",
    "analysis.intervals.Interval.low": "array",
    "analysis.intervals.Interval.high": "array",
    "analysis.learning_curves.Band.rows": "rows",
    "analysis.learning_curves.Band.failed": "rows",
    "comparison.Problem.trials": "records",
    "data.Dataset.train": "instance",
    "data.Dataset.test": "instance",
    "models.load_torchvision.state": "tree",
    "records.Blocks.identity": "mapping",
    "records.RunFolder.identity": "mapping",
    "records.load_tree.like": "state",
    "records.save_tree.tree": "state",
    "records.save_tree.note": "json",
    "records.to_json.value": "json",
    "records.write_json.value": "json",
    "records.write_lines.rows": "json rows",
    "tasks.from_images.protocol": "instance",
    "tasks.measured.measure": "function",
    "tasks.Task.train": "examples",
    "tasks.Task.valid": "examples",
    "tasks.Task.test": "examples",
    "tasks.metric_names.functions": "instance",
    "tasks.metric_names.state": "state",
    "sweeps.tune_and_judge.functions": "records",
    "sweeps.tune_and_judge.factories": "records",
    "sweeps.tune_and_judge.hyperparameters": "records",
    "sweeps.tune_and_judge.tuning_starts": "array",
    "sweeps.tune_and_judge.judged_starts": "array",
    "sweeps.evaluations_in.steps": "array",
    "sweeps.count_evaluations.runs": "instance",
    "sweeps.sweep_scipy.fn": "traced function",
    "sweeps.sweep_scipy.starts": "array",
    "sweeps.sweep_scipy.lower": "array",
    "sweeps.sweep_scipy.upper": "array",
    "sweeps.tune_and_judge_matrices.functions": "records",
    "sweeps.tune_and_judge_matrices.factories": "records",
    "sweeps.tune_and_judge_matrices.hyperparameters": "records",
    "sweeps.tune_and_judge_matrices.tuning_starts": "records",
    "sweeps.tune_and_judge_matrices.judged_starts": "records",
    "sweeps.tune_and_judge_within.functions": "records",
    "sweeps.tune_and_judge_within.factories": "records",
    "sweeps.tune_and_judge_within.hyperparameters": "records",
    "sweeps.tune_and_judge_within.tuning_starts": "array",
    "sweeps.tune_and_judge_within.judged_starts": "array",
    "autodiff.mode": "choice",
    "Function.minimizers": "function",
    "check_gradient.fn": "traced function",
    "check_gradient.x": "tree",
    **{f"{name}.data": "tree" for name in ("check_gradient", "descend", "sweep")},
    "check_gradient.rtol": "positive",
    "check_gradient.schemes": "names",
    "check_gradient.step": "positive",
    "finite_difference.step": "positive",
    "descend.fn": "traced function",
    "descend.start": "tree of points",
    "descend.record": "choice",
    "evaluate_grid.fn": "traced function",
    "evaluate_grid.lower": "array",
    "evaluate_grid.upper": "array",
    "finite_difference.scheme": "choice",
    "sample_hyperparameters.method": "choice",
    "sample_hyperparameters.ranges": "records",
    "scan.fn": "function of a key",
    "scan.seeds": "seeds",
    "scan.space": "records",
    "scan.static": "static values",
    "sweep.fn": "traced function",
    "sweep.hyperparameters": "records",
    "sweep.record": "choice",
    "sweep.starts": "array",
    "train.optimizer": "factory",
    "train.hyperparameters": "records",
    "train.progress": "text or flag",
    "train_many.hyperparameters": "records",
    "train_many.seeds": "seeds",
    "train_many.strategy": "choice",
    "analysis.arrivals.arrivals_record.runs": "instance",
    "analysis.arrivals.percent.share": "fraction",
    "analysis.importance.grid_importance.scores": "array",
    "analysis.importance.importances.landscape": "instance",
    "analysis.importance.search_importance.axes": "rows",
    "analysis.landscapes.landscape.ds": "instance",
    "analysis.races.race_records.tuning": "instance",
    "analysis.races.race_records.judged": "instance",
    "plots.importance.importances": "records",
    "plots.marginals.landscape": "instance",
    "plots.parallel.landscape": "instance",
    "plots.setting_maps.landscape": "instance",
    "plots.settings.ds": "instance",
    "analysis.intervals.share_interval.hits": "array",
    "analysis.rankings.indistinct_groups.difference": "number",
    "analysis.tables.Table.head": "names",
    "analysis.tables.Table.rows": "rows",
    "analysis.tables.counted.count": "count",
    "analysis.tables.render.blocks": "rows",
    "comparison.Problem.epochs": "numbers",
    "comparison.run.problems": "names",
    "comparison.run.candidates": "names",
    "comparison.run.shard": "shard",
    "data.prepare.archive": "archives",
    "data.prepare.name": "choice",
    "data.load.name": "choice",
    "data.find.name": "choice",
    "data.load_text.name": "path",
    "diagnostics.map_optimizer.hyperparameters": "records",
    "diagnostics.map_optimizer.problems": "records",
    "diagnostics.run_problem.level": "number",
    "judging.judge.against": "names",
    "judging.judge.ranges": "mapping",
    "judging.judge.tier": "choice",
    "judging.judge.budget": "positive",
    "judging.judge.problems": "records",
    "judging.as_json.judgement": "instance",
    "judging.text.judgement": "instance",
    "judging.sentence.decision": "instance",
    "analysis.sequential.decide_many.differences": "records",
    "analysis.sequential.decide_many.margin": "number",
    "diagnostics.run_problem.problem": "instance",
    "functions.off_origin.low": "array",
    "functions.off_origin.high": "array",
    "gradients.Normal.mean": "array",
    "gradients.Normal.scale": "array",
    "gradients.error_curve.scheme": "choice",
    "gradients.error_curve.fn": "traced function",
    "numerics.one_minus_power.decay": "array",
    **{f"losses.{name}.labels": "array" for name in ("cross_entropy", "is_hit", "margin_loss")},
    "models.capsnet.sizes": "unknown keyword",
    "optimizers.adafactor.beta2_decay": "number",
    "optimizers.adam_mini.blocks": "blocks",
    "optimizers.scale_by_adam_mini.blocks": "blocks",
    "optimizers.aggmo.betas": "momenta",
    "optimizers.check_contract.arguments": "mapping",
    "optimizers.hutchinson.value_fn": "traced function",
    "optimizers.scale_by_aggmo.betas": "momenta",
    "optimizers.evaluation_params.state": "state",
    "optimizers.polyak.f_min": "number",
    "optimizers.transformation.build": "factory",
    "plots.basins.atlas": "records",
    "plots.basins.best": "numbers",
    "plots.basins.box": "box",
    "plots.curve_panels.rows": "records",
    "plots.curves.series": "records",
    "plots.draw_curves.series": "records",
    "plots.image_grid.labels": "names",
    "plots.latent_map.labels": "array",
    "plots.latent_map.span": "positive",
    "plots.learning.bands": "records",
    "plots.learning_panels.panels": "records",
    "plots.loss_maps.losses": "named arrays",
    "plots.maps.panels": "records",
    "plots.maps.colours": "choice",
    "plots.profiles.shares": "named arrays",
    "plots.rank_diagram.groups": "index pairs",
    "plots.save_learning.panels": "records",
    "plots.slopes.scores": "named arrays",
    "plots.interactive.explore.labels": "three texts",
    "plots.interactive.explore.runs": "records",
    "plots.interactive.surface.labels": "three texts",
    "plots.interactive.require_backend.backend": "choice",
    "plots.interactive.save.figure": "instance",
    "plots.interactive.show.figure": "instance",
    "reporting.save.page": "instance",
    "plots.interactive.surface.backend": "choice",
    "plots.interval_panels.panels": "records",
    "plots.race.dpi": "positive",
    "plots.save.dpi": "positive",
    "plots.save_indexed.dpi": "positive",
    "plots.sensitivity.scores": "records",
    "plots.values.series": "named arrays",
    "plots.curve_panels.limits": "mapping",
}

ALIASES: dict[str, str] = {
    "records.Blocks.folder": "save_to",
}
"""Arguments that messages name as users know them: the folder of a sweep's blocks is what they gave as `save_to`."""

FREE: dict[str, str] = {
    "given.values": "names that a factory does not have are left out on purpose",
    "records.read_checkpoint.like": "it is compared with the checkpoint, after the folder of the run was found",
    **dict.fromkeys(("records.to_json.name", "tasks.require_task.name"), "it only appears in messages"),
    **dict.fromkeys(
        (
            "Descent",
            "GradientReport",
            "comparison.Collected",
            "comparison.Job",
            "comparison.Report",
            "comparison.Run",
            "data.Text",
            "data.Windows",
            "diagnostics.Outcome",
            "functions.MatrixFunction",
            "gradients.GradientRow",
            "judging.Judgement",
            "reporting.Page",
            "reporting.board.Difference",
            "models.CapsuleInputs",
            "models.CapsuleOutputs",
            "models.Memory",
            "models.VaeOutputs",
            "optimizers.ContractReport",
            "records.RunRecord",
            "strategies.Strategy",
            "sweeps.Race",
            "tasks.Phase",
            "training.Training",
            "analysis.claims.Verdict",
            "analysis.importance.Importance",
            "analysis.landscapes.Axis",
            "analysis.landscapes.Landscape",
            "analysis.rankings.AcrossTasks",
            "analysis.rankings.Agreement",
            "analysis.rankings.Ranking",
            "analysis.sequential.Decision",
            "analysis.statistics.Quartiles",
            "analysis.statistics.Region",
        ),
        "a record of results; the functions that take one check its fields",
    ),
    **dict.fromkeys(
        ("models.cifar_stem", "models.imagenet_stem", "models.linear_head", "models.two_layer_head"),
        "layers, which run inside a network",
    ),
    **dict.fromkeys(("tasks.Forward", "analysis.claims.Finished"), "a protocol, which is not called"),
    **dict.fromkeys(("records.AnotherRunError", "records.CheckpointError", "data.DataError"), "an exception"),
}


def kind_of(path: str, parameter: inspect.Parameter) -> str:
    """The kind of the argument `path`, which is the callable's path and the argument's name."""
    if path in KINDS:
        return KINDS[path]
    if parameter.kind is parameter.VAR_KEYWORD:
        return "unknown keyword"
    if typing.Any in (parameter.annotation, *typing.get_args(parameter.annotation)) and path.startswith(
        ("optimizers.", "strategies.")
    ):
        return "hyperparameter"
    found = kind_of_annotation(parameter.annotation)
    return (
        BY_NAME.get(parameter.name, found)
        if found in ("", "text", "number", "sequence", "mapping") or (parameter.name in BY_NAME)
        else found
    )


INSTANCES = (Axes, Figure, Study, Dataset, Function, Model, Task, Grid, jax.Device, Collected)
SIMPLE = {bool: "flag", int: "count", float: "number", str: "text", Path: "path"}


def kind_of_annotation(annotation) -> str:
    """The kind that an annotation tells, or "" if it tells none."""
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if isinstance(annotation, type) and issubclass(annotation, INSTANCES):
        return "instance"
    if annotation is optax.GradientTransformation or annotation is optax.GradientTransformationExtraArgs:
        return "optimizer"
    if isinstance(annotation, type) and issubclass(annotation, (jaxtyping.AbstractArray, np.ndarray)):
        return "key" if "Key" in repr(annotation) else "array"
    if annotation in (jax.Array,):
        return "array"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind_of_annotation(one) for one in inner if one is not type(None)]
        return next((kind for kind in ("path", "number", "key", "array") if kind in kinds), kinds[0])
    if origin is typing.Literal:
        return "choice"
    if origin is Callable:
        return "function"
    if origin in (Mapping, dict):
        return "mapping"
    if origin in (Sequence, Iterable, Collection, tuple, list):
        return {str: "names", int: "numbers", float: "numbers"}.get(inner[0], "sequence")
    return ""


def takes_none(parameter: inspect.Parameter) -> bool:
    """Whether None is a valid value of the argument."""
    return parameter.default is None or type(None) in typing.get_args(parameter.annotation)


def wrong_values(path: str, parameter: inspect.Parameter) -> list:
    """The wrong values of the argument."""
    kind = kind_of(path, parameter)
    assert kind in WRONG, (
        f"{path}: expected an entry in KINDS, because the annotation {parameter.annotation} tells none"
    )
    return [value for value in WRONG[kind] if value is not None or not takes_none(parameter)]
