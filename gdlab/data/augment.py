"""Augmentation as pure functions of a key and a batch, to run inside a compiled epoch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8, UInt32

from gdlab.arguments import require_count


def crop_and_flip(
    key: Key[Array, ""] | UInt32[Array, "2"], images: UInt8[Array, "batch height width channels"], *, padding: int = 4
) -> UInt8[Array, "batch height width channels"]:
    """Every image mirrored left to right with probability 1/2, and moved by up to `padding` pixels each way.

    Black comes in at the edges: a crop of the padded image at a uniform offset (He et al. 2016, section 4.2). Each
    image has an offset of its own; the same key gives the same batch.
    """
    require_count("padding", padding, low=0)
    batch, height, width, channels = images.shape
    for_flip, for_offset = jax.random.split(key)
    flipped = jax.random.bernoulli(for_flip, shape=(batch, 1, 1, 1))
    images = jnp.where(flipped, images[:, :, ::-1], images)
    if padding == 0:
        return images
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = jax.random.randint(for_offset, (batch, 2), 0, 2 * padding + 1)

    def crop(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, offsets)


def normalize(
    images: UInt8[Array, "batch height width channels"],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: jnp.dtype | type = jnp.float32,
) -> Float[Array, "batch height width channels"]:
    """(images / 255 - mean) / std by channel; mean and std in units of the full range, as in torchvision."""
    channels = images.shape[-1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean, std: wanted {channels} numbers each, one a channel, got {len(mean)} and {len(std)}")
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return (images.astype(jnp.float32) * scale - shift).astype(dtype)
