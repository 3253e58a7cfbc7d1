import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers, tasks
from gdlab.compute.snapshots import snapshot

RATE = 0.1


def reads_a_global(x):
    return RATE * x


def with_closure(value):
    return lambda x: value * x


def with_default(x, table={"rate": 0.1}):  # noqa: B006
    return table["rate"] * x


def nested(x):
    def inner(y):
        return RATE * y

    return inner(x)


class Model:
    def __init__(self):
        self.rate = 0.1

    def loss(self, x):
        return self.rate * x

    def __call__(self, x):
        return self.rate * x


def test_a_snapshot_changes_with_whatever_a_function_reads(monkeypatch):
    table, array = {"rate": [0.1]}, np.ones(3)
    closed, partial = with_closure(table), functools.partial(with_closure, table)
    held = with_closure(array)
    same = [reads_a_global, nested, with_default, closed, partial, held, lambda x: table["rate"]]
    before = [snapshot(function) for function in same]
    assert None not in before
    assert before == [snapshot(function) for function in same]
    monkeypatch.setitem(globals(), "RATE", 0.2)
    monkeypatch.setitem(with_default.__defaults__[0], "rate", 0.2)
    table["rate"].append(0.2)
    array[1] = 2.0
    assert not any(a == b for a, b in zip(before, map(snapshot, same), strict=True))


def test_numbers_that_compare_equal_are_told_apart():
    for one, other in ((0.0, -0.0), (1, True), (1, 1.0), (np.float32(1), np.float64(1)), ((1, 2), [1, 2])):
        assert snapshot(with_closure(one)) != snapshot(with_closure(other))
    assert snapshot(with_closure(float("nan"))) == snapshot(with_closure(float("nan")))
    assert snapshot(optax.adam(0.1)) == snapshot(optax.adam(0.1))
    assert snapshot(optax.adam(0.1)) != snapshot(optax.adam(0.2))
    array = jnp.ones(2)
    assert snapshot(with_closure(array)) == snapshot(with_closure(array))


def test_the_rules_of_a_custom_derivative_are_read(monkeypatch):
    squared = jax.custom_jvp(lambda x: x**2)
    squared.defjvp(lambda primals, tangents: (primals[0] ** 2, RATE * tangents[0]))
    slow = jax.custom_vjp(lambda x: x**2)
    slow.defvjp(lambda x: (x**2, x), lambda x, g: (RATE * x * g,))
    functions = [squared, slow, jax.jit(slow), lambda x: squared(x) + 1]
    before = [snapshot(function) for function in functions]
    assert before == [snapshot(function) for function in functions]
    monkeypatch.setitem(globals(), "RATE", 0.2)
    assert not any(a == b for a, b in zip(before, map(snapshot, functions), strict=True))


def test_what_may_read_anything_has_no_snapshot():
    model = Model()
    stream = (rate for rate in [0.1])

    def opens(x):
        return float(open("rate.txt").read()) * x

    def imports(x):
        import tests.test_training as module

        return module.RATE * x

    for function in (
        model.loss,
        model,
        functools.partial(Model.loss, model),
        lambda x: Model().rate * x,
        lambda x: next(stream) * x,
        lambda x: pytest.approx(x),  # a module that is not known to be constant
        lambda x: x + np.random.normal(),  # noqa: NPY002
        opens,
        imports,
    ):
        assert snapshot(function) is None


def test_the_librarys_own_optimizers_and_tasks_have_snapshots():
    assert snapshot(tasks.digits_mlp(hidden=(4,)).functions) is not None
    for name, factory in optimizers.OPTIMIZERS.items():
        arguments = {"total_steps": 4} if name.startswith("demon") else {}
        built = factory(**arguments)
        assert snapshot(factory) is not None, name
        assert snapshot(built) is not None, name
        assert snapshot(built) == snapshot(built), name
