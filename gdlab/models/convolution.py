"""Convolution as three bilinear primitives, which run on a CPU with the fastest algorithm for their shape.

On small images XLA's CPU convolutions are many times slower than its matrix product, and slower still inside a loop.
The forward pass, the gradient of the input and the gradient of the kernel are three views of one trilinear form: each
is bilinear, and the derivatives of each are the other two. They are therefore closed under forward and reverse mode to
any order and under `jax.vmap`. Each is lowered by platform: on a GPU or TPU to XLA's convolution and its gradients, on
a CPU to matrix products (`gdlab.models.products`).

Under `jax.vmap`, a lane is one entry of the mapped axis. If only one operand is mapped, the other is shared, and the
lanes become additional images or channels. If both are mapped, there is one product per lane in a batch of products.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from gdlab.arguments import describe, require_count
from gdlab.models import products
from gdlab.models.geometry import Geometry


def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "batch new_height new_width outputs"]:
    """Return the cross-correlation of images with a kernel, as `torch.nn.functional.conv2d` computes it.

    The images are padded with `padding` zeros on all sides. Sums are computed in float32 or a wider dtype. Grouped and
    dilated convolutions are not supported.
    """
    require_count("stride", stride)
    require_count("padding", padding, low=0)
    for name, value, axes in (
        ("x", x, "batch, height, width, channels"),
        ("kernel", kernel, "rows, columns, inputs, outputs"),
    ):
        if getattr(value, "ndim", None) != 4 or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"{name}: expected a floating-point array ({axes}), got {describe(value)}")
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"kernel: expected {x.shape[3]} inputs, the channels of x, got shape {kernel.shape}")
    (_, height, width, _), (rows, columns, _, _) = x.shape, kernel.shape
    geometry = Geometry((height, width), (rows, columns), stride, padding)
    if min(geometry.outputs) < 1:
        raise ValueError(
            f"kernel: expected a size that fits into the padded image, got {kernel.shape[:2]} for images {x.shape}"
        )
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return forward_p.bind(x.astype(dtype), kernel.astype(dtype), geometry=geometry, lanes=False)


def _xla_forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    padding = [(geometry.padding, geometry.padding)] * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (geometry.stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _xla_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *geometry.image, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _xla_forward(x, kernel, geometry), x)(g)[0]


def _xla_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    kernel = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[3], g.shape[3]), g.dtype)
    return jax.linear_transpose(lambda kernel: _xla_forward(x, kernel, geometry), kernel)(g)[0]


def _shape(name: str, a: Any, b: Any, geometry: Geometry) -> tuple[int, ...]:
    """Return the shape of the result for one lane."""
    if name == "forward":
        return (a[0], *geometry.outputs, b[3])
    if name == "input_gradient":
        return (a[0], *geometry.image, b[2])
    return (*geometry.kernel, a[3], b[3])


# For each operand, the axis that only this operand has, and the position of that axis in the result.
PRIVATE_AXES = {
    "forward": ((0, 0), (3, 3)),
    "input_gradient": ((0, 0), (2, 3)),
    "kernel_gradient": ((3, 2), (3, 3)),
}


def _primitive(name: str, on_cpu: Callable[..., Array], elsewhere: Callable[..., Array]) -> Primitive:
    """Make a bilinear primitive of (a, b); its parameter `lanes` says whether both have a leading axis of lanes."""
    primitive = Primitive(f"convolution_{name}")

    def abstract(a: Any, b: Any, *, geometry: Geometry, lanes: bool) -> Any:
        lead = a.shape[:1] if lanes else ()
        shape = (*lead, *_shape(name, a.shape[lanes:], b.shape[lanes:], geometry))
        return jax.core.ShapedArray(shape, a.dtype)

    @partial(jax.jit, static_argnames=("geometry", "lanes"))
    def impl(a: Array, b: Array, *, geometry: Geometry, lanes: bool) -> Array:
        return primitive.bind(a, b, geometry=geometry, lanes=lanes)

    def lowered(fn: Callable[..., Array]) -> Callable[..., Any]:
        def lower(a: Array, b: Array, *, geometry: Geometry, lanes: bool) -> Array:
            one_lane = partial(fn, geometry=geometry)
            return (jax.vmap(one_lane) if lanes else one_lane)(a, b)

        return mlir.lower_fun(lower, multiple_results=False)

    def batch(operands: Any, axes: Any, *, geometry: Geometry, lanes: bool) -> tuple[Array, int]:
        mapped = [axis is not None for axis in axes]
        if all(mapped):
            a, b = (jnp.moveaxis(value, axis, 0) for value, axis in zip(operands, axes, strict=True))
            count = a.shape[0]
            if lanes:
                a, b = (value.reshape(-1, *value.shape[2:]) for value in (a, b))
            out = primitive.bind(a, b, geometry=geometry, lanes=True)
            return (out.reshape(count, -1, *out.shape[1:]) if lanes else out), 0
        which = mapped.index(True)
        source, target = (axis + lanes for axis in PRIVATE_AXES[name][which])
        count = operands[which].shape[axes[which]]
        moved = jnp.moveaxis(operands[which], axes[which], source)
        shape = moved.shape
        folded = moved.reshape(*shape[:source], count * shape[source + 1], *shape[source + 2 :])
        a, b = (folded, operands[1]) if which == 0 else (operands[0], folded)
        out = primitive.bind(a, b, geometry=geometry, lanes=lanes)
        return out.reshape(*out.shape[:target], count, -1, *out.shape[target + 1 :]), target

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(impl)
    mlir.register_lowering(primitive, lowered(elsewhere))
    mlir.register_lowering(primitive, lowered(on_cpu), platform="cpu")
    batching.primitive_batchers[primitive] = batch
    return primitive


forward_p = _primitive("forward", products.forward, _xla_forward)
input_gradient_p = _primitive("input_gradient", products.input_gradient, _xla_input_gradient)
kernel_gradient_p = _primitive("kernel_gradient", products.kernel_gradient, _xla_kernel_gradient)

# The transpose of each primitive with respect to its first and to its second operand, given the other operand.
ad.defbilinear(
    forward_p,
    lambda ct, x, kernel, **static: input_gradient_p.bind(ct, kernel, **static),
    lambda ct, x, kernel, **static: kernel_gradient_p.bind(x, ct, **static),
)
ad.defbilinear(
    input_gradient_p,
    lambda ct, g, kernel, **static: forward_p.bind(ct, kernel, **static),
    lambda ct, g, kernel, **static: kernel_gradient_p.bind(ct, g, **static),
)
ad.defbilinear(
    kernel_gradient_p,
    lambda ct, x, g, **static: input_gradient_p.bind(g, ct, **static),
    lambda ct, x, g, **static: forward_p.bind(x, ct, **static),
)
