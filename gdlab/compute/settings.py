"""The settings of JAX under which the library's own code runs, whatever the user's are."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Run the block compiled, and with JAX's default rules for promoting dtypes and ranks.

    A user may set `jax_disable_jit`, `jax_numpy_dtype_promotion="strict"` or `jax_numpy_rank_promotion="raise"` to find
    faults in their own code. The library's code is not written for these settings. It checks the functions of the user
    before it enters such a block, that is, under the settings of the user.
    """
    with jax.disable_jit(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
