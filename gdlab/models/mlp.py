"""A multilayer perceptron: the small network of quick demos and wide scans."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Shaped

from gdlab.arguments import require_count
from gdlab.models.layers import Linear, param_dtype, require_dtype
from gdlab.models.model import Model, from_linen


class Perceptron(nn.Module):
    """Dense layers with ReLU between them, on inputs that are flattened to one row per example."""

    sizes: Sequence[int]
    dtype: Any

    @nn.compact
    def __call__(
        self, inputs: Shaped[Array, "batch ..."], train: bool | Bool[Array, ""] = False
    ) -> Float[Array, "batch outputs"]:
        """Logits in the parameters' dtype; train has no effect."""
        del train
        x = inputs.reshape(len(inputs), -1).astype(self.dtype)
        for size in self.sizes[:-1]:
            x = nn.relu(Linear(size, self.dtype)(x))
        return Linear(self.sizes[-1], self.dtype)(x).astype(param_dtype(self.dtype))


def mlp(
    input_shape: Sequence[int], num_classes: int, *, hidden: Sequence[int] = (64, 64), dtype: Any = jnp.float32
) -> Model:
    """Dense layers of the `hidden` sizes with ReLU, and a linear one of `num_classes`.

    input_shape: the shape of one example, such as (8, 8, 1). hidden: may be empty. dtype: what the layers compute in;
    parameters and logits are float32, or float64 with float64. Layers are initialized as PyTorch's (`layers.Linear`).
    For scikit-learn's digits, a network of the default sizes has 8,970 parameters.
    """
    for size in (*input_shape, *hidden):
        require_count("input_shape, hidden", size)
    require_count("num_classes", num_classes)
    require_dtype(dtype)
    return from_linen(Perceptron((*hidden, num_classes), dtype), jax.ShapeDtypeStruct((1, *input_shape), dtype))
