"""The parameters of a convolution, and what its algorithms share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.compute.calls import stored_call

Pads = tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
    """The parameters of a convolution, except for the batch size and the channels.

    Attributes:
      image: height and width of the image without padding.
      kernel: rows and columns of the kernel.
      stride: the stride in pixels, the same for both axes.
      padding: the number of zeros on each side of the image.
    """

    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: int
    padding: int

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (n + 2 * self.padding - k) // self.stride + 1 for n, k in zip(self.image, self.kernel, strict=True)
        )
        return height, width


def pad(x: Array, pads: Pads) -> Array:
    """Return x with zeros around the image; negative numbers of zeros crop it."""
    if pads == ((0, 0), (0, 0)):
        return x
    config = [(0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)]
    return stored_call(lambda x: jax.lax.pad(x, jnp.zeros((), x.dtype), config), x)


def ceil(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-number // divisor)
