"""The LSTM language model of Zaremba, Sutskever & Vinyals (2014): dropout between layers, not between time steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gdlab.arguments import describe, require_count, require_number
from gdlab.models.initialization import fill, uniform
from gdlab.models.layers import dropout as drop
from gdlab.models.layers import param_dtype, require_dtype
from gdlab.models.model import AKey, Model


class Memory(NamedTuple):
    """The state of every layer after a window of text, from which the next window of each stream begins."""

    hidden: Float[Array, "layers batch width"]
    cell: Float[Array, "layers batch width"]


def lstm(
    vocabulary: int,
    *,
    batch_size: int,
    width: int = 650,
    layers: int = 2,
    dropout: float = 0.5,
    limit: float = 0.05,
    dtype: Any = jnp.float32,
) -> Model:
    """Embedding, `layers` LSTM layers of `width`, a linear layer to the words: Zaremba et al. 2014, "medium".

    `apply(params, memory, tokens, train=..., key=...)` takes words (batch, steps) and returns logits
    (batch, steps, vocabulary) and the `Memory` after the last step, in training and in evaluation. A stream's next
    window begins with that memory; no gradient flows back through it, since it is an argument. `init` returns a memory
    of zeros for `batch_size` streams.

    Gates are in the order input, forget, cell, output, as in `torch.nn.LSTM`, which has two biases, as Zaremba's code
    has, where this has one. All parameters, biases included, are initialized as U(-limit, limit), as in Zaremba's code.
    19,775,200 parameters with 10,000 words.

    dropout: the fraction of values set to zero in the embedded words, between layers and before the linear layer, never
    between time steps; above 0, training needs a key. width: a smaller one makes a twin. dtype: what the network
    computes in; parameters, memory and logits are float32, or float64 with float64.
    """
    require_count("vocabulary", vocabulary, low=2)
    for name, value in (("batch_size", batch_size), ("width", width), ("layers", layers)):
        require_count(name, value)
    require_number("dropout", dropout, 0.0, 1.0, open_high=True)
    require_number("limit", limit, 0.0, open_low=True)
    require_dtype(dtype)
    wide, draw = param_dtype(dtype), uniform(limit)

    def template() -> PyTree:
        def undrawn(*shape: int) -> Any:
            return draw(None, shape, wide)

        def layer() -> dict[str, Any]:
            return {"input": undrawn(width, 4 * width), "hidden": undrawn(width, 4 * width), "bias": undrawn(4 * width)}

        return {
            "embedding": undrawn(vocabulary, width),
            **{f"layer{number}": layer() for number in range(layers)},
            "output": {"kernel": undrawn(width, vocabulary), "bias": undrawn(vocabulary)},
        }

    @jax.jit
    def init(key: AKey) -> tuple[PyTree, Memory]:
        nothing = jnp.zeros((layers, batch_size, width), wide)
        return fill(template, key), Memory(nothing, nothing)

    def apply(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: Any = False, key: AKey | None = None
    ) -> tuple[Float[Array, "batch steps vocabulary"], Memory]:
        _require_tokens(inputs, state)
        keys: Any = [None] * (layers + 1) if key is None else jax.random.split(key, layers + 1)

        def dropped(x: Array, key: Any) -> Array:
            return drop(x, dropout, train, key)

        x = jnp.take(params["embedding"].astype(dtype), inputs.T, axis=0)  # steps first
        hidden, cell = [], []
        for number in range(layers):
            own = jax.tree.map(lambda leaf: leaf.astype(dtype), params[f"layer{number}"])
            x, last = _layer(own, dropped(x, keys[number]), state.hidden[number], state.cell[number])
            hidden.append(last[0])
            cell.append(last[1])
        output = jax.tree.map(lambda leaf: leaf.astype(dtype), params["output"])
        logits = jnp.swapaxes(dropped(x, keys[layers]), 0, 1) @ output["kernel"] + output["bias"]
        return logits.astype(wide), Memory(jnp.stack(hidden).astype(wide), jnp.stack(cell).astype(wide))

    return Model(init, apply)


def _layer(
    params: PyTree, x: Float[Array, "steps batch width"], hidden: Array, cell: Array
) -> tuple[Float[Array, "steps batch width"], tuple[Array, Array]]:
    """One layer over all steps; the inputs' share of the gates is one product for all steps together."""
    from_below = x @ params["input"] + params["bias"]

    def step(carried: tuple[Array, Array], below: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, cell = carried
        gates = below + hidden @ params["hidden"]
        input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(forget_gate) * cell + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(output_gate) * jnp.tanh(cell)
        return (hidden, cell), hidden

    last, outputs = jax.lax.scan(step, (hidden.astype(x.dtype), cell.astype(x.dtype)), from_below)
    return outputs, last


def _require_tokens(tokens: Any, memory: Memory) -> None:
    shape: tuple[int, ...] = getattr(tokens, "shape", ())
    batch = memory.hidden.shape[1]
    if len(shape) != 2 or shape[0] != batch or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"inputs: wanted integers ({batch}, steps), as the memory has streams, got {describe(tokens)}")
