"""A language model on the Penn Treebank: contiguous streams of words, whose memory is kept from window to window."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from gdlab import losses, models
from gdlab.arguments import require_count
from gdlab.data import Windows, load_text, windows
from gdlab.tasks.task import Metrics, Task


def ptb_lstm(
    data_dir: str | Path | None = None,
    *,
    dataset: str | Path = "ptb",
    width: int = 650,
    layers: int = 2,
    dropout: float = 0.5,
    steps: int = 35,
    batch_size: int = 20,
    vocabulary_size: int | None = None,
    unknown: str | None = None,
    train_size: int | None = None,
    valid_size: int | None = None,
    test_size: int | None = None,
    dtype: Any = jnp.float32,
) -> Task:
    """The Demon benchmark's PTB-LSTM (Chen et al. 2022): Zaremba's medium model, 20 streams, windows of 35 words.

    dataset: "ptb", or a folder with train.txt, valid.txt and test.txt. vocabulary_size, unknown: see `load_text`.
    train_size, valid_size, test_size: the number of words to take from the front of each part; the held-out part is
    the text's own valid. width, layers, dropout, dtype: see `models.lstm`. steps: words per window.

    The metric "loss" is a window's mean cross-entropy in nats per word, so that the perplexity is exp of its mean.
    Zaremba's code sums over the window's words: its learning rate 1 and gradients clipped at norm 5 are 35 and 5 / 35
    here. Clipping is the optimizer's business: `optax.clip_by_global_norm`. Every epoch and every evaluation begins
    with a memory of zeros. Zaremba's test is one stream; here the first words of every stream lack those before them.
    """
    text = load_text(dataset, data_dir, vocabulary_size=vocabulary_size, unknown=unknown)
    model = models.lstm(
        len(text.vocabulary), batch_size=batch_size, width=width, layers=layers, dropout=dropout, dtype=dtype
    )
    parts = {}
    for part, size in (("train", train_size), ("valid", valid_size), ("test", test_size)):
        tokens = getattr(text, part)
        if size is not None:
            require_count(f"{part}_size", size)
            if size > len(tokens):
                raise ValueError(f"{part}_size: wanted at most the {len(tokens)} words there are, got {size}")
            tokens = tokens[:size]
        parts[part] = windows(tokens, batch_size, steps)

    def forward(params: PyTree, state: PyTree, batch: Windows, key: Array, train: bool) -> tuple[PyTree, Metrics]:
        logits, state = model.apply(params, state, batch.inputs, train=train, key=key)
        return state, {"loss": jnp.mean(losses.cross_entropy(logits, jnp.asarray(batch.targets)), axis=-1)}

    def loss(params: PyTree, state: PyTree, batch: Windows, key: Array) -> tuple[Array, tuple[PyTree, Metrics]]:
        state, metrics = forward(params, state, batch, key, True)
        return metrics["loss"].mean(), (state, metrics)

    def evaluate(params: PyTree, state: PyTree, batch: Windows, key: Array) -> tuple[PyTree, Metrics]:
        return forward(params, state, batch, key, False)

    def forget(state: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, state)

    return Task(
        name=f"{text.name}_lstm",
        init=model.init,
        loss=loss,
        evaluate=evaluate,
        after_epoch=forget,
        train=parts["train"],
        valid=parts["valid"],
        test=parts["test"],
        batch_size=batch_size,
        evaluation_batch=batch_size,
        shuffled=False,
        description={
            "data": text.provenance | {"name": text.name},
            **{part: found.inputs.size for part, found in parts.items()},
            "batch_size": batch_size,
            "steps": steps,
            "model": {"name": "lstm", "width": width, "layers": layers, "dropout": dropout},
            "dtype": jnp.dtype(dtype).name,
        },
    )
