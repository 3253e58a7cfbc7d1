"""Faults planted in the code of optimizers, each of which the comparison with a reference must notice."""

import importlib
import inspect
import types

import pytest

from gdlab.optimizers import OPTIMIZERS
from tests.oracles import trajectories

FAULTS = {
    "apollo": [
        ("return size / (before + 1e-8)", "return before / (size + 1e-8)"),
        ("correction = safe_sqrt(one_minus_power(b2, count)) /", "correction = 1.0 /"),
        ("limit = growth_limit * last", "limit = growth_limit * size"),
        ("state.steps // jnp.asarray(update_interval)", "(state.steps + 1) // jnp.asarray(update_interval)"),
        ("factors if tensor_wise or compresses_inputs(matrix) else", "factors.mean() if tensor_wise is False else"),
    ],
    "newton_cg": [
        ("beta = divide(inner(residual, residual), size)", "beta = divide(size, inner(residual, residual))"),
        ("alpha = divide(size, jnp.where(bends, curvature, 0.0))", "alpha = divide(curvature, size)"),
        ("jnp.minimum(forcing, safe_sqrt(size)) * size", "forcing * size"),
    ],
    "gauss_newton": [
        ("state.damping / factor, state.damping * factor", "state.damping * factor, state.damping / factor"),
        ("root = jnp.sqrt(damping)", "root = damping"),
        ("unravel(jnp.where(better, step, 0.0)", "unravel(jnp.where(better, step, step)"),
        ("jnp.clip(new, tiny, 1 / tiny)", "state.damping"),
    ],
    "ssbroyden": [
        ("phi = (1 - theta) / (1 + a * theta)", "phi = jnp.ones_like(theta)"),
        ("-length * rho * slope, 1.0)", "-rho * slope, 1.0)"),
        ("tau = jnp.where(first, h / (1 + a * theta), tau)", "tau = tau"),
    ],
}
"""For each optimizer: a piece of its code, and what a mistake makes of it."""

CASES = {
    "apollo": [("apollo-all", "mlp")],
    "newton_cg": [("newton_cg", None), ("newton_cg-all", None)],
    "gauss_newton": [("gauss_newton-all", None)],
    "ssbroyden": [("ssbroyden", None), ("ssbroyden-all", None)],
}


def planted(name, right, wrong):
    """Return the factory `name` of a copy of its module in which one piece of code is another."""
    module = importlib.import_module(OPTIMIZERS[name].__module__)
    code = inspect.getsource(module)
    assert code.count(right) == 1, f"{name}: expected {right!r} once, got {code.count(right)}"
    copy = types.ModuleType(module.__name__)
    exec(compile(code.replace(right, wrong), module.__file__, "exec"), vars(copy))
    return getattr(copy, name)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "right", "wrong"), [(n, *fault) for n, faults in FAULTS.items() for fault in faults])
def test_a_planted_fault_is_noticed(name, right, wrong, monkeypatch):
    monkeypatch.setattr("gdlab.optimizers.OPTIMIZERS", {name: planted(name, right, wrong)})
    found = []
    for case, problem in CASES[name]:
        problem = problem or trajectories.CASES[case].problems[0]
        ours = trajectories.ours.__wrapped__(case, problem)
        found.append(
            trajectories.deviation(ours, trajectories.theirs(case, problem)) / trajectories.CASES[case].tolerance
        )
    assert not max(found) < 10, found


@pytest.mark.thorough
def test_the_scales_of_ssbroyden_are_the_references_in_a_valley(monkeypatch):
    """Where the search interpolates, rounding grows from step to step, so the first ten points are compared."""
    theirs = trajectories.theirs("ssbroyden", "rosenbrock")[:10]
    ours = trajectories.ours.__wrapped__("ssbroyden", "rosenbrock")[:10]
    assert trajectories.deviation(ours, theirs) < 1e-8
    wrong = planted("ssbroyden", "c = safe_sqrt(a / (1 + a))", "c = a / (1 + a)")
    monkeypatch.setattr("gdlab.optimizers.OPTIMIZERS", {"ssbroyden": wrong})
    assert trajectories.deviation(trajectories.ours.__wrapped__("ssbroyden", "rosenbrock")[:10], theirs) > 0.1
