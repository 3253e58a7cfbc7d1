"""Purity of a step: one program serves all steps, and nothing is remembered outside the state."""

import io
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from gdlab.compute.trees import is_key
from gdlab.optimizers.contract.bowl import make_params, slope
from gdlab.optimizers.contract.case import Case
from gdlab.optimizers.contract.compilation import Counted, quick_jit
from gdlab.optimizers.contract.equality import TIGHT, require_close, to_array, to_bytes
from gdlab.optimizers.contract.report import BrokenContractError

Step = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
"""`step(params, state) -> (params, state)`."""


def is_pure(case: Case) -> str:
    """Check that steps with Python numbers are pure, compiled once, restorable from a file and equal to traced ones."""
    optimizer, another = case.build(), case.build()
    step = _step_of(optimizer)
    params = make_params("float64")
    state = optimizer.init(params)
    _require_no_memory(step, params, state)
    compiled = Counted(step)
    _require_no_side_effect(compiled, params, state)

    x = params
    for number in range(case.steps):
        if number == case.steps // 2:
            restored = _through_a_file((x, state))
        x, state = compiled(x, state)
    compiled.require_one("steps with the returned state")
    anew = quick_jit(_step_of(another))  # built anew, so it has never seen these parameters
    for _ in range(case.steps // 2, case.steps):
        restored = anew(*restored)
    if to_bytes(restored) != to_bytes((x, state)):
        raise BrokenContractError("a run from the restored state gives different results")
    require_close("runs with Python numbers and with traced ones", x, case.alone(case.defaults)[0], TIGHT)
    return f"{case.steps} steps, one compilation, identical bits after a restore"


def _step_of(optimizer: optax.GradientTransformationExtraArgs) -> Step:
    def step(params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        updates, state = optimizer.update(slope(params), state, params)
        return optax.apply_updates(params, updates), state

    return step


def _require_no_memory(step: Step, params: PyTree, state: PyTree) -> None:
    """Raise if two traces differ: memory outside the state shows in the program, in its text or in its constants."""
    programs = [jax.make_jaxpr(step)(params, state) for _ in range(2)]
    texts = [re.sub("0x[0-9a-f]+", "", str(program)) for program in programs]
    if texts[0] != texts[1] or to_bytes(programs[0].consts) != to_bytes(programs[1].consts):
        raise BrokenContractError(
            "two traces of update give different programs: it remembers something outside its state"
        )


def _require_no_side_effect(step: Callable[..., Any], params: PyTree, state: PyTree) -> None:
    before = [np.array(to_array(leaf)) for leaf in jax.tree.leaves((params, state))]
    if to_bytes(step(params, state)) != to_bytes(step(params, state)):
        raise BrokenContractError("the same inputs give different outputs")
    if to_bytes(before) != to_bytes((params, state)):
        raise BrokenContractError("update modifies its inputs")


def _through_a_file(tree: PyTree) -> PyTree:
    """Return the tree after it was written to a file as arrays and read back."""
    leaves, structure = jax.tree.flatten(tree)
    file = io.BytesIO()
    np.savez(file, *[to_array(leaf) for leaf in leaves])
    file.seek(0)
    restored = []
    with np.load(file, allow_pickle=False) as stored:
        for k, leaf in enumerate(leaves):
            array = jnp.asarray(stored[f"arr_{k}"])
            restored.append(jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key(leaf) else array)
    return jax.tree.unflatten(structure, restored)
