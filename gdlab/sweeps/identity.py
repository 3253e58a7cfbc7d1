"""What makes a sweep the one that it is, as text: so that a folder of results knows which sweep it belongs to."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core

from gdlab.sweeps.space import Space, explained


def identify(space: Space, reduced: Sequence[Callable[..., Any]], settings: Any, device: jax.Device) -> dict[str, str]:
    """Text by which a folder knows its sweep; each entry names what differs where it does.

    reduced: of each optimizer the lane that ends in a function of the caller's; none where there is no such function.
    """
    point = jax.ShapeDtypeStruct((space.dim,), space.starts.dtype)
    numbers = [jax.ShapeDtypeStruct((), space.starts.dtype)] * len(space.numbers)

    def traced(functions: Sequence[Callable]) -> str:
        texts = []
        for function in functions:
            # Traced anew, not as JAX remembers it: what the function reads may have changed.
            closed = jax.make_jaxpr(lambda x, function=function: function(x))(point)
            if "callback" in str(closed.jaxpr):
                raise ValueError("save_to: wanted functions of JAX alone, got one that calls back into Python")
            texts.append(fingerprint(closed))
        return " ".join(texts)

    def factory(build: Callable[..., Any]) -> str:
        def step(x: Any, g: Any, *values: Any) -> Any:
            optimizer = build(**dict(zip(space.numbers, values, strict=True)))
            full = optax.with_extra_args_support(optimizer)
            fn = next(iter(space.functions.values()))
            return full.update(g, full.init(x), x, value=jnp.sum(x), grad=g, value_fn=fn)

        return fingerprint(jax.make_jaxpr(step)(point, point, *numbers))

    factories = []
    for index, build in enumerate(space.factories.values()):
        with explained(space, index):
            factories.append(factory(build))
    grid = {name: fingerprint_array(array.values) + str(array.dims) for name, array in sorted(space.numbers.items())}
    return {
        "function": f"{list(space.functions)} {traced(list(space.functions.values()))}",
        "gradient": "autodiff" if space.gradients is None else traced(space.gradients),
        "factory": f"{list(space.factories)} {' '.join(factories)}",
        "hyperparameters": f"{grid} {space.axes}",
        "starts": fingerprint_array(space.starts),
        "minimizers": "none" if space.minimizers is None else fingerprint_array(space.minimizers),
        "reduce": " ".join(fingerprint(jax.make_jaxpr(lane)(point, 0, numbers)) for lane in reduced) or "none",
        "settings": str(settings),
        "versions and platform": f"jax {jax.__version__} {device.platform} {device.device_kind}",
    }


def fingerprint(closed: core.ClosedJaxpr) -> str:
    """Text that two traced programs share only if they are the same: the jaxpr without addresses, and its constants."""
    text = re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))
    digest = hashlib.sha256(text.encode())
    for constant in closed.consts:
        array = np.asarray(constant)
        digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def fingerprint_array(array: np.ndarray) -> str:
    """Shape, dtype and a digest of the values."""
    return f"{array.shape} {array.dtype} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"
