"""The docstrings of the optimizers and their wrappers: their sections, and their examples, which run."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers, schedules
from gdlab.optimizers import OPTIMIZERS, WRAPPERS
from tests.oracles import trajectories
from tests.selection import some_of

PARAMS = {
    "w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32),
    "b": jnp.asarray([0.5, -1.0, 2.0], jnp.float32),
}


def loss(params):
    return jnp.sum(jnp.tanh(params["w"]) ** 2) + jnp.sum(params["b"] ** 2)


def example(factory):
    return re.findall(r"^ *>>> (.*)$", inspect.getdoc(factory), flags=re.MULTILINE)


EVERY = some_of(OPTIMIZERS, trajectories.QUICK)


@pytest.mark.parametrize("name", EVERY)
def test_the_example_of_a_factory_is_two_lines_that_run(name):
    lines = example(OPTIMIZERS[name])
    assert len(lines) == 2
    grads = jax.grad(loss)(PARAMS)
    names = {**vars(schedules), **vars(optimizers), "schedules": schedules, "jax": jax, "jnp": jnp, "optax": optax}
    names |= {"params": PARAMS, "grads": grads, "loss": loss}
    exec("\n".join(lines), names)
    updates = names["updates"]
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)
    for update, leaf in zip(jax.tree.leaves(updates), jax.tree.leaves(PARAMS), strict=True):
        assert (update.shape, update.dtype) == (leaf.shape, leaf.dtype)
        assert np.isfinite(update).all()


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_example_of_a_wrapper_can_be_traced(name):
    lines = example(WRAPPERS[name])
    assert len(lines) == 2
    names = {**vars(optimizers), "jax": jax, "loss": loss}

    def run(params):
        scope = names | {"params": params, "grads": jax.grad(loss)(params)}
        exec("\n".join(lines), scope)
        return scope["updates"]

    updates = jax.eval_shape(run, PARAMS)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), updates) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), PARAMS
    )


@pytest.mark.parametrize("name", [*OPTIMIZERS, *WRAPPERS])
def test_a_factory_says_its_equation_arguments_state_and_source(name):
    factory = OPTIMIZERS[name] if name in OPTIMIZERS else WRAPPERS[name]
    text = inspect.getdoc(factory)
    assert re.match(r"\S.*: .*<-", text.splitlines()[0]), text.splitlines()[0]
    places = [text.index(f"\n{section}:\n") for section in ("Args", "State", "Example", "References")]
    assert places == sorted(places)
    assert "https://" in text[places[-1] :]
    arguments = text[places[0] : places[1]]
    for argument, parameter in inspect.signature(factory).parameters.items():
        entry = re.search(rf"^  {argument}: (.*?)(?=^  \w+: |\Z)", arguments, flags=re.MULTILINE | re.DOTALL)
        assert entry, f"{name}: {argument} is not among the arguments"
        assert parameter.default is parameter.empty or "Default" in entry[1], f"{name}: no default of {argument}"
