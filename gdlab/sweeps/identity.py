"""The identity of a sweep, as text that tells which sweep a folder of results belongs to."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab.compute.devices import platform_of
from gdlab.compute.programs import digest_array, digest_jaxpr
from gdlab.hyperparameters.factories import explained
from gdlab.sweeps.space import Space
from gdlab.types import Factory


def identify(space: Space, reduced: Sequence[Callable[..., Any]], settings: Any, device: jax.Device) -> dict[str, str]:
    """Return the identity of a sweep, as named entries of text.

    If two sweeps differ, the names of the differing entries show in what respect.

    Args:
      space: the functions, optimizers, hyperparameters and starts.
      reduced: for each optimizer, its lane if it ends in a function of the caller; empty if there is no such
        function.
      settings: other arguments on which the result depends.
      device: the device that the sweep runs on.
    """
    point = jax.ShapeDtypeStruct((space.dim,), space.starts.dtype)
    numbers = [jax.ShapeDtypeStruct((), space.starts.dtype)] * len(space.names)

    def traced(functions: Sequence[Callable]) -> str:
        texts = []
        for function in functions:
            # A new lambda forces a new trace: what the function reads may have changed since JAX last traced it.
            closed = jax.make_jaxpr(lambda x, function=function: function(x))(point)
            if "callback" in str(closed.jaxpr):
                raise ValueError("save_to: expected functions that use only JAX, got one that calls back into Python")
            texts.append(digest_jaxpr(closed))
        return " ".join(texts)

    def factory(build: Factory) -> str:
        def step(x: Any, g: Any, *values: Any) -> Any:
            optimizer = build(**dict(zip(space.names, values, strict=True)))
            full = optax.with_extra_args_support(optimizer)
            fn = next(iter(space.functions.values()))
            return full.update(g, full.init(x), x, value=jnp.sum(x), grad=g, value_fn=fn)

        return digest_jaxpr(jax.make_jaxpr(step)(point, point, *numbers))

    factories = []
    for label, build in space.factories.items():
        with explained(label, space.names):
            factories.append(factory(build))
    layout = space.layout
    grid = {name: digest_array(array.values) + str(array.dims) for name, array in sorted(layout.numbers.items())}
    return {
        "function": f"{list(space.functions)} {traced(list(space.functions.values()))}",
        "gradient": "autodiff" if space.gradients is None else traced(space.gradients),
        "factory": f"{list(space.factories)} {' '.join(factories)}",
        "hyperparameters": f"{grid} {layout.axes}",
        "starts": digest_array(space.starts),
        "minimizers": "none" if space.minimizers is None else digest_array(space.minimizers),
        "reduce": " ".join(digest_jaxpr(jax.make_jaxpr(lane)(point, 0, numbers)) for lane in reduced) or "none",
        "settings": str(settings),
        "versions and platform": platform_of(device),
    }
