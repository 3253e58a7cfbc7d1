"""The promotion rules under which the library's own code runs, whatever the user has chosen for theirs."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def standard_promotion() -> Iterator[None]:
    """Enter a context in which arrays of different ranks and dtypes may be combined, as by JAX's default.

    `jax_numpy_rank_promotion` and `jax_numpy_dtype_promotion` are there to find slips in the code of the user. In
    optimizers and networks of a library they would only stop what is meant.
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
