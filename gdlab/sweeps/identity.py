"""The identity of a sweep, as text that tells which sweep a folder of results belongs to."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gdlab.compute.devices import platform_of
from gdlab.compute.extras import bind
from gdlab.compute.programs import digest_array, digest_jaxprs
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.sweeps.space import Space
from gdlab.types import Factory


def identify(space: Space, digests: Sequence[str], settings: Any, device: jax.Device) -> dict[str, str]:
    """Return the identity of a sweep, as named entries of text.

    The digests of the traced lanes decide which programs are the same. If two sweeps differ, the names of the other
    entries show in what respect.

    Args:
      space: the functions, optimizers, hyperparameters and starts.
      digests: for each optimizer, the digest of its lane.
      settings: other arguments on which the result depends.
      device: the device that the sweep runs on.
    """
    point = jax.ShapeDtypeStruct((space.dim,), space.starts.dtype)
    numbers, given = [jax.ShapeDtypeStruct((), space.starts.dtype)] * len(space.names), space.given

    def digest(function: Callable[..., Any], *arguments: Any) -> str:
        # A new lambda forces a new trace: what the function reads may have changed since JAX last traced it.
        return str(digest_jaxprs([jax.make_jaxpr(lambda *values: function(*values))(*arguments)]))

    def step_of(build: Factory) -> Callable[..., Any]:
        def step(x: Any, g: Any, given: Any, *values: Any) -> Any:
            optimizer = build(**dict(zip(space.names, values, strict=True)))
            full = with_any_arguments(optimizer)
            fn = bind(next(iter(space.functions.values())), given)
            return take_update(full, g, full.init(x), x, value=jnp.sum(x), value_fn=fn, grad_fn=jax.grad(fn))

        return step

    sloping = space.gradients is None and space.needs_gradient
    functions = [jax.value_and_grad(fn) if sloping else fn for fn in space.functions.values()]
    factories = [digest(step_of(build), point, point, given, *numbers) for build in space.factories.values()]
    layout = space.layout
    grid = {name: digest_array(array.values) + str(array.dims) for name, array in sorted(layout.numbers.items())}
    return {
        "function": " ".join([str(list(space.functions)), *(digest(fn, point, *given) for fn in functions)]),
        "gradient": " ".join(digest(fn, point, *given) for fn in space.gradients or ()) or "autodiff",
        "factory": " ".join([str(list(space.factories)), *factories]),
        "hyperparameters": f"{grid} {layout.axes}",
        "starts": digest_array(space.starts),
        "minimizers": "none" if space.minimizers is None else digest_array(space.minimizers),
        "program": " ".join(digests),
        "settings": str(settings),
        "versions and platform": platform_of(device),
        **({} if space.inputs is None else space.inputs.identity()),
    }
