"""`one_of` compared with the chosen optimizers themselves."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers
from gdlab.optimizers import one_of
from gdlab.schedules import step

STEPS = 12
BUILDS = [
    lambda learning_rate, momentum: optimizers.adam(learning_rate, b1=momentum),
    lambda learning_rate, momentum: optimizers.amsgrad(learning_rate, b1=momentum),
    lambda learning_rate, momentum: optimizers.yellowfin(learning_rate),
    lambda learning_rate, momentum: optimizers.aggmo(step(learning_rate, STEPS), betas=(0.0, momentum)),
    lambda learning_rate, momentum: optimizers.demon_sgdm(learning_rate, momentum=momentum, total_steps=STEPS),
    lambda learning_rate, momentum: optax.chain(
        optax.clip_by_global_norm(0.5), optimizers.momentum(learning_rate, momentum=momentum)
    ),
]


def start():
    return {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.array([0.5, -0.25])}


def value(params):
    return jnp.sum(jnp.cosh(params["w"]) * jnp.arange(1.0, 7.0).reshape(2, 3)) + jnp.sum((params["b"] - 1) ** 4)


def descend(optimizer):
    def one(carried, _):
        params, state = carried
        updates, state = optimizer.update(jax.grad(value)(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params = start()
    return jax.lax.scan(one, (params, optimizer.init(params)), length=STEPS)[1]


def test_each_choice_is_that_optimizer_and_one_program_serves_all():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(choice, learning_rate, momentum):
        return descend(one_of(BUILDS)(choice, learning_rate=learning_rate, momentum=momentum))

    found = {(place, rate): run(float(place), rate, 0.8) for place in range(len(BUILDS)) for rate in (0.01, 0.03)}
    for place, build in enumerate(BUILDS):
        alone = jax.jit(lambda rate, build=build: descend(build(rate, 0.8)))
        for rate in (0.01, 0.03):  # norms are summed in another order
            chex.assert_trees_all_close(found[place, rate], alone(rate), rtol=1e-12)
    several = [0, 2, 3, 4, 5]  # while the squares of gradients do not fall, AMSGrad is Adam
    assert len({np.asarray(found[place, 0.01]["w"][-1]).tobytes() for place in several}) == len(several)


@pytest.mark.thorough
def test_lanes_choose_for_themselves():
    places = jnp.arange(len(BUILDS))
    run = jax.jit(jax.vmap(lambda choice: descend(one_of(BUILDS)(choice, learning_rate=0.01, momentum=0.8))))
    for place, ends in zip(places, run(places)["w"], strict=True):
        alone = descend(BUILDS[place](0.01, 0.8))
        np.testing.assert_allclose(ends, alone["w"], rtol=1e-12)


def test_bad_input_raises_an_error_of_one_line():
    averaging = one_of([lambda learning_rate: optimizers.asgd(learning_rate)])
    mixed = {"a": jnp.zeros(2), "b": jnp.zeros(2, jnp.bfloat16)}
    adam = one_of([optimizers.adam])
    for call, answer in (
        (lambda: one_of([]), "builds: expected a sequence of functions"),
        (lambda: one_of([optimizers.adam(0.1)]), r"builds\[0\]: expected a function"),
        (lambda: adam(1), r"choice: expected a number in \[0, 0\], got 1"),
        (lambda: averaging(0, learning_rate=0.1).init(start()), "got one that keeps an average"),
        (lambda: adam(0).init(mixed), "params: expected one dtype, got bfloat16, float"),
        (lambda: adam(0).update(start(), adam(0).init(start())), "expected the parameters as update's third"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
