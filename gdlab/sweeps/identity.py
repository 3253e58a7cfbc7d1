"""What makes a sweep the one that it is, as text: so that a folder of results knows which sweep it belongs to."""

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
    """Text by which a folder knows its sweep; each entry names what differs where it does.

    reduced: of each optimizer the lane that ends in a function of the caller's; none where there is no such function.
    """
    point = jax.ShapeDtypeStruct((space.dim,), space.starts.dtype)
    numbers = [jax.ShapeDtypeStruct((), space.starts.dtype)] * len(space.names)

    def traced(functions: Sequence[Callable]) -> str:
        texts = []
        for function in functions:
            # Traced anew, not as JAX remembers it: what the function reads may have changed.
            closed = jax.make_jaxpr(lambda x, function=function: function(x))(point)
            if "callback" in str(closed.jaxpr):
                raise ValueError("save_to: wanted functions of JAX alone, got one that calls back into Python")
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
