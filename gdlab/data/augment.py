"""Augmentation as pure functions of a key and a batch, to run inside a compiled epoch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8, UInt32

from gdlab.arguments import describe, require_count, require_number


def crop_and_flip(
    key: Key[Array, ""] | UInt32[Array, "2"], images: UInt8[Array, "batch height width channels"], *, padding: int = 4
) -> UInt8[Array, "batch height width channels"]:
    """Every image mirrored left to right with probability 1/2, and moved by up to `padding` pixels each way.

    Black comes in at the edges: a crop of the padded image at a uniform offset (He et al. 2016, section 4.2). Each
    image has an offset of its own; the same key gives the same batch.
    """
    require_count("padding", padding, low=0)
    _require_images(images)
    batch, height, width, _ = images.shape
    for_flip, for_offset = jax.random.split(key)
    flipped = jax.random.bernoulli(for_flip, shape=(batch, 1))
    offsets = jax.random.randint(for_offset, (batch, 2), -padding, padding + 1)
    rows = jnp.arange(height) + offsets[:, :1]
    columns = jnp.arange(width) + offsets[:, 1:]
    columns = jnp.where(flipped, width - 1 - columns, columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]

    def pick(image: Array, rows: Array, columns: Array) -> Array:
        return image.at[rows[:, None], columns].get(mode="clip")

    # One gather for crop and flip: on a CPU 1.4 to 1.5 times as fast as a mirrored, padded copy and a slice of it.
    return jnp.where(inside[..., None], jax.vmap(pick)(images, rows, columns), jnp.uint8(0))


def normalize(
    images: UInt8[Array, "batch height width channels"],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: jnp.dtype | type = jnp.float32,
) -> Float[Array, "batch height width channels"]:
    """(images / 255 - mean) / std by channel; mean and std in units of the full range, as in torchvision."""
    _require_images(images)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype: wanted a floating-point type, got {jnp.dtype(dtype)}")
    channels = images.shape[-1]
    if np.shape(mean) != (channels,) or np.shape(std) != (channels,):
        raise ValueError(
            f"mean, std: wanted {channels} numbers each, one a channel, got shapes {np.shape(mean)} and {np.shape(std)}"
        )
    for centre, width in zip(mean, std, strict=True):
        require_number("mean", centre)
        require_number("std", width, 0.0, open_low=True)
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return (images.astype(jnp.float32) * scale - shift).astype(dtype)


def _require_images(images: object) -> None:
    """Raise TypeError unless `images` is a batch of uint8 images."""
    if getattr(images, "dtype", None) != jnp.uint8 or getattr(images, "ndim", None) != 4:
        raise TypeError(f"images: wanted uint8 of shape (batch, height, width, channels), got {describe(images)}")
