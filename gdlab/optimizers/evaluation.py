"""Where to evaluate a model: at the average, for optimizers that keep one."""

from typing import Any

import jax
import optax


def keeps_average(node: Any) -> bool:
    """Return whether a node of an optimizer's state provides parameters to evaluate at."""
    return callable(getattr(node, "evaluation_params", None))


def evaluation_params(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Return the parameters to evaluate at: the average of an averaging optimizer, or `params` for any other.

    ASGD and Schedule-Free provide their average, and `sutskever_nesterov` provides the iterate behind its look-ahead
    point. The averaging state may be nested at any depth in `optax.chain`, `masked`, `partition`, schedules or other
    wrappers. Leaves that the averaging state does not cover are returned unchanged. Under `jax.vmap`, map this
    function too.

    A state class of your own takes part if it has a method `evaluation_params(params)` that maps over leaves with
    `jax.tree.map`. The method receives `optax.MaskedNode()` in place of each leaf that its optimizer did not receive.

    Args:
      state: the state as the optimizer's `update` returned it.
      params: the parameters as `optax.apply_updates` returned them.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: if two states average the same leaf, because it is then ambiguous which average is meant.
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
                raise ValueError(f"state: expected at most one average per leaf, got two: {both}")
            taken[number] = type(node).__name__
            leaves[number] = leaf
    return jax.tree.unflatten(tree, leaves) if found else params


def _own(node: Any, tree: Any) -> Any:
    """Return the tree with `MaskedNode()`, which has no leaves, wherever the averaging state has one."""

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
