"""Augmentation and normalization of images as pure functions, which run inside a compiled epoch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8, UInt32

from gdlab.arguments import as_numbers, describe, require_count, require_floating, require_key, require_number


def crop_and_flip(
    key: Key[Array, ""] | UInt32[Array, "2"], images: UInt8[Array, "batch height width channels"], *, padding: int = 4
) -> UInt8[Array, "batch height width channels"]:
    """Crop and flip each image at random.

    Each image is mirrored left to right with probability 1/2, padded with black, and cropped to its original size at a
    uniform offset of its own (He et al. 2016, section 4.2). The same key gives the same result.

    Args:
      key: a random key.
      images: uint8 images of shape (batch, height, width, channels).
      padding: the largest offset in pixels, in each direction. Default 4.

    Returns:
      The augmented images, of the same shape and dtype.

    Raises:
      TypeError: if `key` is not a random key, `images` is not a batch of uint8 images, or `padding` is not an integer.
      ValueError: if `padding` is negative.

    References:
      He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016 (https://arxiv.org/abs/1512.03385).
    """
    require_key("key", key)
    _require_images(images)
    require_count("padding", padding, low=0)
    batch, height, width, _ = images.shape
    for_flip, for_offset = jax.random.split(key)
    # 32-bit types are given explicitly, so that a key gives the same batch with and without jax_enable_x64.
    flipped = jax.random.bernoulli(for_flip, jnp.float32(0.5), (batch, 1))
    offsets = jax.random.randint(for_offset, (batch, 2), -padding, padding + 1, jnp.int32)
    rows, columns = (jnp.arange(size, dtype=jnp.int32).reshape(1, size) for size in (height, width))
    rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:]
    columns = jnp.where(flipped, width - 1 - columns, columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]

    def pick(image: Array, rows: Array, columns: Array) -> Array:
        return image.at[rows[:, None], columns].get(mode="promise_in_bounds")

    # A single gather crops and flips: on a CPU it is 1.4 to 2 times as fast as slicing a mirrored, padded copy.
    # The indices are clipped here, because a gather that checks its bounds itself takes longer.
    picked = jax.vmap(pick)(images, jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1))
    return jnp.where(inside[..., None], picked, jnp.uint8(0))


def normalize(
    images: UInt8[Array, "batch height width channels"],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: jnp.dtype | type = jnp.float32,
) -> Float[Array, "batch height width channels"]:
    """Normalize images: (images / 255 - mean) / std, per channel.

    Args:
      images: uint8 images of shape (batch, height, width, channels).
      mean: the mean of each channel in units of the full range, as in torchvision.
      std: the standard deviation of each channel in units of the full range, as in torchvision.
      dtype: the dtype of the result.

    Returns:
      The normalized images, of the same shape.

    Raises:
      TypeError: if `images` is not a batch of uint8 images, `mean` or `std` are not numbers, or `dtype` is not a
        floating-point type.
      ValueError: if `mean` or `std` does not have one number per channel, or a number in `std` is not positive.
    """
    _require_images(images)
    require_floating("dtype", dtype)
    as_numbers("mean", mean)
    as_numbers("std", std)
    *_, width, channels = images.shape
    if np.shape(mean) != (channels,) or np.shape(std) != (channels,):
        raise ValueError(
            f"mean, std: expected {channels} numbers each, one per channel, "
            f"got shapes {np.shape(mean)} and {np.shape(std)}"
        )
    for centre, spread in zip(mean, std, strict=True):
        require_number("mean", centre)
        require_number("std", spread, 0.0, open_low=True)
    scale = np.tile(1 / (255 * np.asarray(std, np.float32)), (1, 1, width))
    shift = np.tile(np.asarray(mean, np.float32) / np.asarray(std, np.float32), (1, 1, width))
    # Whole rows of pixels are combined with constants of the same length, because XLA's loops on a CPU are not
    # vectorized over an innermost axis of length three, nor over a constant that has to be repeated.
    rows = images.reshape(*images.shape[:2], width * channels).astype(jnp.float32)
    return (rows * scale - shift).reshape(images.shape).astype(dtype)


def _require_images(images: object) -> None:
    """Raise TypeError unless `images` is a batch of uint8 images."""
    if getattr(images, "dtype", None) != jnp.uint8 or getattr(images, "ndim", None) != 4:
        raise TypeError(f"images: expected uint8 of shape (batch, height, width, channels), got {describe(images)}")
