"""Convolution."""

import jax
from jaxtyping import Array, Float


def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "batch new_height new_width outputs"]:
    """Convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
