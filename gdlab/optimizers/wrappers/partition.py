"""Different optimizers for different leaves: matrices to one, vectors, embeddings and heads to another."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import require_strings
from gdlab.optimizers.transformation import require_params, transformation
from gdlab.optimizers.wrappers.base import prepare
from gdlab.optimizers.wrappers.leaves import Select, choose, has_two_axes, name_of, require_select


class PartitionedState(NamedTuple):
    """State of `partitioned`.

    Attributes:
      inner: the state of base.
      rest: the state of the other optimizer, or None.
    """

    inner: optax.OptState
    rest: optax.OptState


@transformation
def partitioned(
    base: optax.GradientTransformation,
    rest: optax.GradientTransformation | None = None,
    *,
    excluded: Sequence[str] = (),
    select: Select | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Partitioned: x <- the step of base for the selected leaves, and x <- the step of rest for the others.

    Optimizers of matrices, such as Muon, are made for the hidden layers of a network. Its vectors, embeddings and
    output layers train better with Adam, and no shape tells an output layer from a hidden one: name it.

    Args:
      base: the optimizer of the selected leaves.
      rest: the optimizer of all others, which may be partitioned again. Default None: there must be no others.
      excluded: patterns, with * and ?, of names that are not for base: a leaf belongs to rest if a part of its path
        matches one of them, as "embed*" does in "embed_0/kernel". Default (): none.
      select: `select(name, leaf)` tells whether a leaf that is not excluded belongs to base; the name is its path, as
        "layer/kernel". Default None: leaves with two axes or more.

    State:
      that of base and that of rest, each for its own leaves.

    Example:
      >>> optimizer = partitioned(muon(0.02), adamw(3e-4), excluded=["b"])
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Other than in `optax.partition`, the optimizers may ask for `value_fn` and `grad_fn`, which they receive as
    functions of their own leaves. `init` raises ValueError if a leaf has no optimizer, or a pattern matches no leaf.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
      (https://kellerjordan.github.io/posts/muon/).
    """
    base = prepare("base", base)
    other = None if rest is None else prepare("rest", rest)
    require_strings("excluded", excluded, expected="patterns of names", empty=False)
    require_select(select)

    def belongs(name: str, leaf: Array) -> bool:
        return not _matches(name, excluded) and (select or has_two_axes)(name, leaf)

    def init(params: optax.Params) -> PartitionedState:
        _require_matches(excluded, params)
        chosen = choose(belongs, params)
        if other is None:
            _require_all(chosen)
        own, others = _divide(chosen, params)
        return PartitionedState(base.init(own), other.init(others) if other else None)

    def update(
        updates: optax.Updates, state: PartitionedState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, PartitionedState]:
        params = require_params("partitioned", params)
        chosen = choose(belongs, params)
        (own, others), (own_g, others_g) = _divide(chosen, params), _divide(chosen, updates)
        first = _restricted(extra, lambda part: _join(chosen, part, others), lambda tree: _divide(chosen, tree)[0])
        moves, inner = base.update(own_g, state.inner, own, **first)
        if other is None:
            return moves, PartitionedState(inner, None)
        second = _restricted(extra, lambda part: _join(chosen, own, part), lambda tree: _divide(chosen, tree)[1])
        more, after = other.update(others_g, state.rest, others, **second)
        return _join(chosen, moves, more), PartitionedState(inner, after)

    return optax.GradientTransformationExtraArgs(init, update)


def _divide(chosen: PyTree, tree: PyTree) -> tuple[PyTree, PyTree]:
    """Return the chosen leaves and the others, each with `MaskedNode()`, which has no leaves, in place of the rest."""
    nothing = optax.MaskedNode()
    own = jax.tree.map(lambda on, leaf: leaf if on else nothing, chosen, tree)
    return own, jax.tree.map(lambda on, leaf: nothing if on else leaf, chosen, tree)


def _join(chosen: PyTree, own: PyTree, others: PyTree) -> PyTree:
    return jax.tree.map(lambda on, a, b: a if on else b, chosen, own, others)


def _restricted(
    extra: dict[str, Any], whole: Callable[[PyTree], PyTree], part: Callable[[PyTree], PyTree]
) -> dict[str, Any]:
    """Return the arguments of `update` for some of the leaves; in the functions, the others stay as they are."""
    found = dict(extra)
    if callable(value_fn := extra.get("value_fn")):
        found["value_fn"] = lambda params: value_fn(whole(params))
    if callable(grad_fn := extra.get("grad_fn")):
        found["grad_fn"] = lambda params, *_: part(grad_fn(whole(params)))
    if extra.get("grad") is not None:
        found["grad"] = part(extra["grad"])
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(part, pattern) for part in name.split("/") for pattern in patterns)


def _require_matches(patterns: Sequence[str], params: optax.Params) -> None:
    names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            raise ValueError(f"excluded: expected patterns of names among {shown}, got {pattern!r}, which matches none")


def _require_all(chosen: PyTree) -> None:
    for path, on in jax.tree_util.tree_leaves_with_path(chosen):
        if not on:
            left = f"the leaves that base does not take, such as {name_of(path)!r}"
            raise ValueError(f"rest: expected an optimizer for {left}, got None")
