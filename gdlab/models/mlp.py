"""A multilayer perceptron, a small network for quick demonstrations and large scans."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Shaped

from gdlab.arguments import describe, require_count
from gdlab.models.layers import Linear, param_dtype, require_dtype, require_sizes, shape_of
from gdlab.models.model import Model, from_linen


class Perceptron(nn.Module):
    """Dense layers with ReLU between them; inputs are flattened to one row per example."""

    inputs: int
    sizes: Sequence[int]
    dtype: Any

    @nn.compact
    def __call__(
        self, inputs: Shaped[Array, "batch ..."], train: bool | Bool[Array, ""] = False
    ) -> Float[Array, "batch outputs"]:
        """Return logits in the parameters' dtype; `train` has no effect."""
        del train
        shape = shape_of(inputs)
        if not shape or math.prod(shape[1:]) != self.inputs:
            raise ValueError(f"inputs: expected an array of {self.inputs} numbers per example, got {describe(inputs)}")
        x = inputs.reshape(len(inputs), -1).astype(self.dtype)
        for size in self.sizes[:-1]:
            x = nn.relu(Linear(size, self.dtype)(x))
        return Linear(self.sizes[-1], self.dtype)(x).astype(param_dtype(self.dtype))


def mlp(
    input_shape: Sequence[int], num_classes: int, *, hidden: Sequence[int] = (64, 64), dtype: Any = jnp.float32
) -> Model:
    """Multilayer perceptron: dense layers with ReLU, and a linear layer to the classes.

    The layers are initialized as `torch.nn.Linear`. With the default sizes, a network for scikit-learn's digits has
    8,970 parameters.

    Args:
      input_shape: the shape of one example, such as (8, 8, 1).
      num_classes: the number of classes.
      hidden: the sizes of the hidden layers; may be empty. Default (64, 64).
      dtype: the dtype in which the layers compute. Parameters and logits are float32, or float64 if `dtype` is float64.

    Returns:
      A `Model`.

    Raises:
      TypeError: if a size is not an integer, or `dtype` is not a floating-point type.
      ValueError: if a size is less than 1, or `dtype` is float64 without jax_enable_x64.
    """
    require_sizes("input_shape", input_shape, "the shape of one example, such as (8, 8, 1)")
    require_count("num_classes", num_classes)
    require_sizes("hidden", hidden, "the sizes of the hidden layers")
    require_dtype(dtype)
    module = Perceptron(math.prod(input_shape), (*hidden, num_classes), dtype)
    return from_linen(module, jax.ShapeDtypeStruct((1, *input_shape), dtype))
