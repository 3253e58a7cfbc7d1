"""Where to evaluate a model: at the average, for optimizers that keep one."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from gdlab.arguments import describe
from gdlab.compute.promotion import standard_promotion


def keeps_average(node: Any) -> bool:
    """Return whether a node of an optimizer's state provides parameters to evaluate at."""
    return isinstance(node, optax.contrib.ScheduleFreeState) or callable(getattr(node, "evaluation_params", None))


def evaluation_params(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Return the parameters to evaluate at: the average of an averaging optimizer, or `params` for any other.

    ASGD and Schedule-Free provide their average, and `sutskever_nesterov` provides the iterate behind its look-ahead
    point. optax's own Schedule-Free takes part, too: its average is that of `optax.contrib.schedule_free_eval_params`.
    The averaging state may be nested at any depth in `optax.chain`, `masked`, `partition`, `flatten`, `MultiSteps`,
    `inject_hyperparams`, schedules or other wrappers. Leaves that the averaging state does not cover are returned
    unchanged. Under `jax.vmap`, map this function too.

    A state class of your own takes part if it has a method `evaluation_params(params)` that maps over leaves with
    `jax.tree.map`. The method receives `optax.MaskedNode()` in place of each leaf that its optimizer did not receive.

    Args:
      state: the state as the optimizer's `update` returned it.
      params: the parameters as `optax.apply_updates` returned them.

    Returns:
      A tree like `params`.

    Raises:
      TypeError: if `state` or `params` contains anything but arrays and numbers, or `params` is None.
      ValueError: if two states average the same leaf, because it is then ambiguous which average is meant.
    """
    nodes = jax.tree.leaves(state, is_leaf=keeps_average)
    found = [node for node in nodes if keeps_average(node)]
    _require_arrays("state", [node for node in nodes if not keeps_average(node)])
    leaves, tree = jax.tree.flatten(params)
    _require_arrays("params", [params] if params is None else leaves)
    numbers = jax.tree.unflatten(tree, range(len(leaves)))
    taken: dict[int, str] = {}
    for node in found:
        if _is_flat(node, leaves):
            own, shown = numbers, _unflatten(_average(node, jnp.concatenate([*map(jnp.ravel, leaves)])), leaves)
        else:
            own, shown = _own(node, numbers), jax.tree.leaves(_average(node, _own(node, params)))
        for number, leaf in zip(jax.tree.leaves(own), shown, strict=True):
            if number in taken:
                both = f"{taken[number]}, {type(node).__name__}"
                raise ValueError(f"state: expected at most one average per leaf, got two: {both}")
            taken[number] = type(node).__name__
            leaves[number] = leaf
    return jax.tree.unflatten(tree, leaves) if found else params


def _require_arrays(name: str, leaves: list[Any]) -> None:
    for leaf in leaves:
        if not (hasattr(leaf, "dtype") or isinstance(leaf, (int, float, complex))):
            raise TypeError(f"{name}: expected arrays, got {describe(leaf)}")


def _average(node: Any, params: optax.Params) -> optax.Params:
    """Return the parameters that a node of the state provides, given those that it covers."""
    if isinstance(node, optax.contrib.ScheduleFreeState):
        with standard_promotion():
            shown = optax.contrib.schedule_free_eval_params(node, params)
        return jax.tree.map(lambda x, y: x.astype(y.dtype), shown, params)
    with standard_promotion():
        return node.evaluation_params(params)


def _own(node: Any, tree: Any) -> Any:
    """Return the tree with `MaskedNode()`, which has no leaves, wherever the averaging state has one."""

    def pick(slot: Any, part: Any) -> Any:
        if _is_masked(slot):
            return slot
        if not jax.tree_util.all_leaves([part]):
            raise ValueError("not shaped like the parameters")
        return part

    for field in [node.z] if isinstance(node, optax.contrib.ScheduleFreeState) else _fields(node):
        try:
            return jax.tree.map(pick, field, tree, is_leaf=_is_masked)
        except (ValueError, TypeError):
            continue
    return tree


def _fields(node: Any) -> list[Any]:
    children, _ = jax.tree_util.default_registry.flatten_one_level(node) or ((), None)
    return list(children)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _is_flat(node: Any, leaves: list[Any]) -> bool:
    """Whether the averaging state holds all parameters as one vector, as within `optax.flatten`."""
    size = sum(jnp.size(leaf) for leaf in leaves)
    several = len(leaves) != 1 or jnp.ndim(leaves[0]) != 1
    return several and any(getattr(field, "shape", None) == (size,) for field in _fields(node))


def _unflatten(flat: Any, leaves: list[Any]) -> list[Any]:
    parts, start = [], 0
    for leaf in leaves:
        part = flat[start : start + jnp.size(leaf)]
        parts.append(part.reshape(jnp.shape(leaf)).astype(leaf.dtype))
        start += jnp.size(leaf)
    return parts
