"""The suite runs with x64 enabled; what belongs to float32 asks for it by dtype."""

import jax

jax.config.update("jax_enable_x64", True)
