"""Sequences: a small attention and a small recurrent network, with new random sequences in every batch.

The loss on fixed sequences of the same distribution is judged.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import define

SYMBOLS, LONGEST, HEAD = 4, 16, 4
BATCH, JUDGED = 8, 16
UNITS, DURATION = 6, 12
STEPS = 500


def _marked(key: Any, length: Any, count: int) -> dict[str, Array]:
    """Return sequences of symbols, one position of which is marked, and the symbol there."""
    keys = jax.random.split(key)
    symbols = jax.random.randint(keys[0], (count, LONGEST), 0, SYMBOLS)
    place = jnp.floor(jax.random.uniform(keys[1], (count,)) * length).astype(jnp.int32)
    mark = jax.nn.one_hot(place, LONGEST)
    tokens = jnp.concatenate([jax.nn.one_hot(symbols, SYMBOLS), mark[..., None]], axis=-1)
    return {"tokens": tokens, "labels": jnp.take_along_axis(symbols, place[:, None], axis=1)[:, 0]}


def _attention_begin(key: Any, level: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key, 4)
    params = {
        "query": jax.random.normal(keys[0], (HEAD,)),
        "key": 0.3 * jax.random.normal(keys[1], (SYMBOLS + 1, HEAD)),
        "value": 0.3 * jax.random.normal(keys[2], (SYMBOLS + 1, SYMBOLS)),
    }
    return params, _marked(keys[3], level, JUDGED) | {"length": level}


def _attention_loss(params: Any, batch: Any, length: Any) -> Array:
    scores = (batch["tokens"] @ params["key"]) @ params["query"] / jnp.sqrt(HEAD)
    weights = jax.nn.softmax(jnp.where(jnp.arange(LONGEST) < length, scores, -1e9), axis=-1)
    logits = jnp.einsum("bl,blf->bf", weights, batch["tokens"]) @ params["value"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), batch["labels"][:, None], axis=1))


def _attention(params: Any, data: Any, step: Any) -> Array:
    return _attention_loss(params, data, data["length"])


def _attention_batch(params: Any, data: Any, memory: Any, key: Any, step: Any) -> Array:
    return _attention_loss(params, _marked(key, data["length"], BATCH), data["length"])


def _heard(key: Any, count: int) -> dict[str, Array]:
    """Return sequences of signs, the first of which is flagged and has to be kept in mind."""
    signs = jax.random.rademacher(key, (DURATION, count), jnp.float32)
    flags = jnp.zeros_like(signs).at[0].set(1.0)
    return {"inputs": jnp.stack([signs * flags, 0.3 * signs * (1 - flags)], axis=-1), "labels": signs[0]}


def _copy_begin(key: Any, level: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key, 4)
    params = {
        "input": jax.random.normal(keys[0], (2, UNITS)),
        "recurrent": jax.random.normal(keys[1], (UNITS, UNITS)) / jnp.sqrt(UNITS),
        "output": 0.3 * jax.random.normal(keys[2], (UNITS,)),
    }
    return params, _heard(keys[3], JUDGED) | {"delay": level}


def _copy_loss(params: Any, batch: Any, delay: Any) -> Array:
    def hear(state: Array, moment: tuple[Array, Array]) -> tuple[Array, None]:
        now, x = moment
        heard = jnp.tanh(x @ params["input"] + state @ params["recurrent"])
        return jnp.where(now <= delay, heard, state), None

    begun = jnp.zeros((batch["labels"].size, UNITS))
    state, _ = jax.lax.scan(hear, begun, (jnp.arange(DURATION), batch["inputs"]))
    return jnp.mean(jax.nn.softplus(-batch["labels"] * (state @ params["output"])))


def _copy(params: Any, data: Any, step: Any) -> Array:
    return _copy_loss(params, data, data["delay"])


def _copy_batch(params: Any, data: Any, memory: Any, key: Any, step: Any) -> Array:
    return _copy_loss(params, _heard(key, BATCH), data["delay"])


COMMON: dict[str, Any] = {"family": "sequence", "steps": STEPS, "references": ("adam", "rmsprop", "muon")}

define(
    "attention",
    measures="does it learn to attend to the marked token and to copy it, which help only together?",
    difficulty="number of tokens",
    levels=(2.0, 4.0, 8.0, 16.0),
    begin=_attention_begin,
    loss=_attention,
    error=_attention,
    goal=0.2,
    sampled=_attention_batch,
    **COMMON,
)
define(
    "copy_memory",
    measures="does it learn to keep a sign in a recurrent network, through which gradients vanish?",
    difficulty="number of steps in between",
    levels=(1.0, 3.0, 6.0, 11.0),
    begin=_copy_begin,
    loss=_copy,
    error=_copy,
    goal=0.2,
    sampled=_copy_batch,
    **COMMON,
)
