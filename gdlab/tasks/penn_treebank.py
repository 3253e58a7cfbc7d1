"""A language model on the Penn Treebank, a task of the Demon benchmark.

The text is cut into contiguous streams, and the model keeps its memory from one window of a stream to the next.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from gdlab import losses, models
from gdlab.arguments import require_count
from gdlab.compute.promotion import standard_promotion
from gdlab.data import Windows, load_text, windows
from gdlab.data.text import require_text_name
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
    """LSTM language model on the Penn Treebank, a task of the Demon benchmark.

    The defaults are the medium model of Zaremba et al., with 20 streams and windows of 35 words. The metric "loss" is
    the mean cross-entropy of a window in nats per word, so the perplexity is the exponential of its mean over windows.
    Every epoch and every evaluation starts with a memory of zeros. The held-out part is the text's own validation part.

    The code of Zaremba et al. sums the loss over the words of a window instead of averaging it. Its learning rate of 1
    and its clipping of gradients at norm 5 therefore correspond to 35 and 5 / 35 here. Clipping is left to the
    optimizer: `optax.clip_by_global_norm`. Zaremba et al. test on a single stream; here the first words of each of the
    streams lack the words before them.

    Args:
      data_dir: where to look for the text first; see `gdlab.data.places`.
      dataset: "ptb" (the default), or a folder with train.txt, valid.txt and test.txt.
      width: the number of units per layer; see `models.lstm`. Default 650.
      layers: the number of LSTM layers. Default 2.
      dropout: the fraction of values set to zero; see `models.lstm`. Default 0.5.
      steps: the number of words per window. Default 35.
      batch_size: the number of streams. Default 20.
      vocabulary_size: the number of words to keep; see `gdlab.data.load_text`. None: all.
      unknown: the word that replaces unknown words; see `gdlab.data.load_text`.
      train_size: the number of words to use from the front of the training part. None: all.
      valid_size: the number of words to use from the front of the validation part. None: all.
      test_size: the number of words to use from the front of the test part. None: all.
      dtype: the dtype in which the network computes; see `models.lstm`.

    Returns:
      A `Task`.

    Raises:
      DataError: if the text is missing or damaged.
      ValueError: if a size is larger than the number of words, or a part is too short for one window.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
      (https://arxiv.org/abs/1910.04952).
      Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization", 2014
      (https://arxiv.org/abs/1409.2329).
    """
    require_text_name("dataset", dataset)
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
                raise ValueError(f"{part}_size: expected at most {len(tokens)}, the number of words, got {size}")
            tokens = tokens[:size]
        _require_words(part, tokens, len(text.vocabulary))
        parts[part] = windows(tokens, batch_size, steps)

    def forward(params: PyTree, state: PyTree, batch: Windows, key: Array, train: bool) -> tuple[PyTree, Metrics]:
        with standard_promotion():
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


def _require_words(part: str, tokens: np.ndarray, words: int) -> None:
    """Raise ValueError unless all tokens are indices of the vocabulary; an index beyond it has no row of its own."""
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < words):
        raise ValueError(
            f"dataset: expected words of the {part} part as indices from 0 to {words - 1}, got {tokens.min()} to "
            f"{tokens.max()}"
        )
