"""Where to evaluate a model: at the average, for optimizers that keep one."""

from typing import Any

import jax
import optax


def keeps_average(node: Any) -> bool:
    """Whether a part of an optimizer's state hands out parameters to evaluate at."""
    return callable(getattr(node, "evaluation_params", None))


def evaluation_params(state: optax.OptState, params: optax.Params) -> optax.Params:
    """The parameters to evaluate at: the average of an averaging optimizer, `params` themselves for any other.

    state, params: as an optimizer's `update` and `optax.apply_updates` returned them, however deep in `optax.chain`,
    `masked`, `partition`, schedules or other wrappers the averaging state lies; leaves that an averaging state does not
    have stay as they are. ASGD and Schedule-Free hand out their average, `sutskever_nesterov` the iterate behind its
    look-ahead point. Under vmap map this function too.

    A state of your own takes part if its class has a method `evaluation_params(params)`, which maps over leaves with
    `jax.tree.map`; it is called with `optax.MaskedNode()` wherever its optimizer was not given the leaf. Two states
    that average the same leaf raise ValueError: which one is meant cannot be told.
    """
    found = [node for node in jax.tree.leaves(state, is_leaf=keeps_average) if keeps_average(node)]
    leaves, tree = jax.tree.flatten(params)
    numbers = jax.tree.unflatten(tree, range(len(leaves)))
    taken: dict[int, str] = {}
    for node in found:
        shown = node.evaluation_params(_own(node, params))
        for number, leaf in zip(jax.tree.leaves(_own(node, numbers)), jax.tree.leaves(shown), strict=True):
            if number in taken:
                both = f"{taken[number]}, {type(node).__name__}"
                raise ValueError(f"state: wanted one average of a leaf at most, got two: {both}")
            taken[number] = type(node).__name__
            leaves[number] = leaf
    return jax.tree.unflatten(tree, leaves) if found else params


def _own(node: Any, tree: Any) -> Any:
    """The tree, with MaskedNode(), which has no leaves, wherever the averaging state has it in its place."""

    def pick(slot: Any, part: Any) -> Any:
        if _is_masked(slot):
            return slot
        if not jax.tree_util.all_leaves([part]):
            raise ValueError("not shaped like the parameters")
        return part

    for field in node:
        try:
            return jax.tree.map(pick, field, tree, is_leaf=_is_masked)
        except (ValueError, TypeError):
            continue
    return tree


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
