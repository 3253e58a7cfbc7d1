"""The LSTM language model of Zaremba, Sutskever & Vinyals (2014): dropout between layers, not between time steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gdlab.arguments import describe, require_count, require_instance, require_number
from gdlab.models.initialization import fill, uniform
from gdlab.models.layers import affine, multiply, param_dtype, require_dtype, shape_of
from gdlab.models.layers import dropout as drop
from gdlab.models.model import AKey, Model, checked


class Memory(NamedTuple):
    """The state of all layers after a window of text, from which the next window of each stream continues.

    Attributes:
      hidden: the outputs of the last step.
      cell: the cells of the last step.
    """

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
    """LSTM language model; the defaults are the "medium" model of Zaremba et al.

    It consists of an embedding, LSTM layers, and a linear layer to the vocabulary.
    `apply(params, memory, tokens, train=..., key=...)` takes word indices (batch, steps) and returns logits
    (batch, steps, vocabulary) and the `Memory` after the last step, in training and in evaluation. The next window of
    each stream starts with that memory; no gradient flows through it, because it is an argument. `init` returns a
    memory of zeros for `batch_size` streams. With 10,000 words there are 19,775,200 parameters.

    The gates are in the order input, forget, cell, output, as in `torch.nn.LSTM`. There is one bias, where
    `torch.nn.LSTM` and the code of Zaremba et al. have two. All parameters, including the biases, are initialized as
    U(-limit, limit), as in the code of Zaremba et al.

    Args:
      vocabulary: the number of words.
      batch_size: the number of streams.
      width: the number of units per layer. Default 650, the paper's.
      layers: the number of LSTM layers. Default 2, the paper's.
      dropout: the fraction of values set to zero in the embedded words, between layers and before the linear layer,
        but not between time steps. Above 0, training needs a key. Default 0.5, the paper's.
      limit: the bound of the uniform distribution of the initial parameters. Default 0.05, the paper's.
      dtype: the dtype in which the network computes. Parameters, memory and logits are float32, or float64 if `dtype`
        is float64.

    Returns:
      A `Model` whose state is a `Memory`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a number is out of range, or `dtype` is float64 without jax_enable_x64.

    References:
      Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization", 2014
      (https://arxiv.org/abs/1409.2329).
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
        _require_memory(state, layers, width)
        _require_tokens(inputs, state)
        keys: Any = [None] * (layers + 1) if key is None else jax.random.split(key, layers + 1)

        def dropped(x: Array, key: Any) -> Array:
            return drop(x, dropout, train, key)

        x = jnp.take(params["embedding"].astype(dtype), inputs.T, axis=0)  # with the axis of steps first
        hidden, cell = [], []
        for number in range(layers):
            own = jax.tree.map(lambda leaf: leaf.astype(dtype), params[f"layer{number}"])
            x, last = _layer(own, dropped(x, keys[number]), state.hidden[number], state.cell[number])
            hidden.append(last[0])
            cell.append(last[1])
        output = jax.tree.map(lambda leaf: leaf.astype(dtype), params["output"])
        x = jnp.swapaxes(dropped(x, keys[layers]), 0, 1)
        logits = affine(x, output["kernel"], output["bias"])
        return logits.astype(wide), Memory(jnp.stack(hidden).astype(wide), jnp.stack(cell).astype(wide))

    return checked(Model(init, apply))


def _layer(
    params: PyTree, x: Float[Array, "steps batch width"], hidden: Array, cell: Array
) -> tuple[Float[Array, "steps batch width"], tuple[Array, Array]]:
    """Apply one layer to all steps; the contribution of the inputs to the gates is a single product for all steps."""
    from_below = affine(x, params["input"], params["bias"])
    outputs, last = _recurrence(from_below, params["hidden"], hidden.astype(x.dtype), cell.astype(x.dtype))
    return outputs, (outputs[-1], last)


def _all_steps(
    below: Float[Array, "steps batch gates"], kernel: Float[Array, "width gates"], hidden: Array, cell: Array
) -> tuple[Array, Array, Array]:
    """Return the gates before their activation, the cells and the outputs of all steps."""

    def step(carried: tuple[Array, Array], below: Array) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        hidden, cell = carried
        gates = below + hidden @ kernel
        input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(forget_gate) * cell + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(output_gate) * jnp.tanh(cell)
        return (hidden, cell), (gates, cell, hidden)

    return jax.lax.scan(step, (hidden, cell), below)[1]


@jax.custom_jvp
def _recurrence(below: Array, kernel: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """Return the outputs of all steps and the last cell.

    The derivative is our own, because that of `jax.lax.scan` adds a term to the kernel's gradient in every step, and
    each reads and writes an array as large as the kernel. Here the tangent of the kernel enters by a single product
    with the outputs of all steps, so that its gradient is a single product too.
    """
    _, cells, outputs = _all_steps(below, kernel, hidden, cell)
    return outputs, cells[-1]


@_recurrence.defjvp
def _recurrence_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
    """Return the outputs and their tangents, which are linear in each other: only factors depend on the step."""
    (below, kernel, hidden, cell), (below_dot, kernel_dot, hidden_dot, cell_dot) = primals, tangents
    gates, cells, outputs = _all_steps(below, kernel, hidden, cell)
    hidden_before, cell_before = (
        jnp.concatenate([first[None], rest[:-1]]) for first, rest in ((hidden, outputs), (cell, cells))
    )
    input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis=-1)
    opened, kept, shown = (jax.nn.sigmoid(gate) for gate in (input_gate, forget_gate, output_gate))
    new, squashed = jnp.tanh(candidate), jnp.tanh(cells)
    to_gates = jnp.concatenate(
        [
            new * opened * (1 - opened),
            cell_before * kept * (1 - kept),
            opened * (1 - jnp.square(new)),
            squashed * shown * (1 - shown),
        ],
        axis=-1,
    )
    to_cell = shown * (1 - jnp.square(squashed))

    def step(carried: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        (hidden, cell), (direct, kept, to_gates, to_cell) = carried, at
        by_input, by_forgetting, by_candidate, by_output = jnp.split(to_gates * (direct + hidden @ kernel), 4, axis=-1)
        cell = kept * cell + by_input + by_forgetting + by_candidate
        hidden = by_output + to_cell * cell
        return (hidden, cell), hidden

    direct = below_dot + multiply(hidden_before, kernel_dot)
    (_, last), outputs_dot = jax.lax.scan(step, (hidden_dot, cell_dot), (direct, kept, to_gates, to_cell))
    return (outputs, cells[-1]), (outputs_dot, last)


def _require_memory(memory: Any, layers: int, width: int) -> None:
    """Raise an error unless this is the memory of a network of these sizes, for any number of streams."""
    require_instance("state", memory, Memory, "a Memory, as init(key) returns it")
    for name, part in memory._asdict().items():
        shape = shape_of(part)
        if len(shape) != 3 or (shape[0], shape[2]) != (layers, width) or shape != memory.hidden.shape:
            raise ValueError(f"state: expected {name} of shape ({layers}, batch, {width}), got {describe(part)}")


def _require_tokens(tokens: Any, memory: Memory) -> None:
    shape = shape_of(tokens)
    batch = memory.hidden.shape[1]
    if len(shape) != 2 or shape[0] != batch or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"inputs: expected integers ({batch}, steps), one row per stream of the memory, got {describe(tokens)}"
        )
