"""The LSTM compared with torch.nn and with NumPy; its dropout, its memory and its task."""

import dataclasses
import importlib
import itertools
import math
import os
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import losses, models, optimizers, tasks
from gdlab.data import load_text, unigram_perplexity
from gdlab.training import train
from tests.selection import some_of

lstm = importlib.import_module("gdlab.models.lstm")  # `gdlab.models.lstm` is the function of that name

TFDS = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
WIKITEXT = TFDS.parent / "text" / "wikitext2_small"
needs_wikitext = pytest.mark.skipif(not WIKITEXT.is_dir(), reason="no text/wikitext2_small beside $GDLAB_DATA_DIR")


def sizes(model):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0)))


def test_parameter_counts_and_the_memory():
    # Zaremba's medium and small models with Penn Treebank's 10,000 words: W V + L (8 W^2 + 4 W) + W V + V.
    for settings, expected in (({}, 19_775_200), ({"width": 200}, 4_651_600), ({"layers": 1}, 16_392_600)):
        params, memory = sizes(models.lstm(10_000, batch_size=20, **settings))
        shapes = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, tuple))
        assert sum(math.prod(shape) for shape in shapes) == expected
        assert memory == ((settings.get("layers", 2), 20, settings.get("width", 650)),) * 2


def test_parameters_start_uniform_and_the_memory_empty():
    for limit in (0.05, 0.2):
        model = models.lstm(300, batch_size=3, width=40, limit=limit)
        params, memory = model.init(jax.random.key(0))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = jax.tree_util.keystr(path)
            assert 0.9 * limit < np.abs(leaf).max() <= limit, name
            # u^2 of U(-1, 1) has mean 1/3 and variance 4/45.
            assert abs(np.mean((leaf / limit) ** 2) - 1 / 3) < 5 * math.sqrt(4 / 45 / leaf.size), name
            assert abs(np.mean(leaf / limit)) < 5 * math.sqrt(1 / 3 / leaf.size), name
        assert not np.any(memory.hidden)
        assert not np.any(memory.cell)


def torch_twin(torch, params, dtype):
    """Build torch.nn's embedding, LSTM and linear layer with these parameters; the second bias is zero."""
    layers = sum(name.startswith("layer") for name in params)
    words, width = params["embedding"].shape
    twin = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(words, width),
            "lstm": torch.nn.LSTM(width, width, layers, batch_first=True),
            "output": torch.nn.Linear(width, words),
        }
    ).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(torch.tensor(named_as_torch(params).get(name, np.zeros(parameter.shape))))
    return twin


def named_as_torch(params):
    found = {
        "embedding.weight": params["embedding"],
        "output.weight": params["output"]["kernel"].T,
        "output.bias": params["output"]["bias"],
    }
    for name in params:
        if name.startswith("layer"):
            number = name.removeprefix("layer")
            found[f"lstm.weight_ih_l{number}"] = params[name]["input"].T
            found[f"lstm.weight_hh_l{number}"] = params[name]["hidden"].T
            found[f"lstm.bias_ih_l{number}"] = params[name]["bias"]
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "layers"), [("float32", 2), ("float64", 3)])
def test_two_windows_equal_pytorchs_forward_and_backward(dtype, layers):
    torch = pytest.importorskip("torch")
    tight = 1e-12 if dtype == "float64" else 1e-5
    model = models.lstm(11, batch_size=3, width=7, layers=layers, dropout=0.0, limit=0.8, dtype=dtype)
    params, memory = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, memory))} == {np.dtype(dtype)}
    twin, theirs = torch_twin(torch, params, dtype), None
    draws = np.random.default_rng(0).integers(0, 11, (2, 3, 6))

    def loss(params, memory, tokens):
        logits, after = model.apply(params, memory, tokens[:, :-1], train=True)
        return losses.cross_entropy(logits, tokens[:, 1:]).mean(), (logits, after)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for tokens in draws.astype(np.int32):
        (value, (logits, memory)), gradient = step(params, memory, tokens)
        known = torch.from_numpy(tokens).long()
        out, theirs = twin["lstm"](twin["embedding"](known[:, :-1]), theirs)
        expected = twin["output"](out)
        twin.zero_grad()
        entropy = torch.nn.functional.cross_entropy(expected.flatten(0, 1), known[:, 1:].flatten())
        entropy.backward()
        theirs = tuple(part.detach() for part in theirs)
        np.testing.assert_allclose(logits, expected.detach(), rtol=0, atol=10 * tight)
        np.testing.assert_allclose(value, entropy.detach(), rtol=tight)
        np.testing.assert_allclose(memory.hidden, theirs[0], rtol=0, atol=tight)
        np.testing.assert_allclose(memory.cell, theirs[1], rtol=0, atol=tight)
        for name, ours in named_as_torch(gradient).items():
            grad = twin.get_parameter(name).grad.numpy()
            np.testing.assert_allclose(ours, grad, rtol=0, atol=tight * np.abs(grad).max(), err_msg=name)


def test_derivatives_of_the_recurrence_are_those_of_its_loop():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = ((3, 2, 8), (2, 8), (2, 2), (2, 2))  # steps, streams and gates; kernel; hidden; cell
    at = tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))

    def from_loop(*arguments):
        _, cells, outputs = lstm._all_steps(*arguments)
        return outputs, cells[-1]

    def derivatives(fn):
        def value(*arguments):
            outputs, cell = fn(*arguments)
            return jnp.sum(jnp.sin(outputs)) + jnp.sum(cell**2)

        gradient = jax.grad(value, (0, 1, 2, 3))
        return jax.jit(lambda at: jax.jvp(gradient, at, tuple(map(jnp.cos, at))))(at)  # of first and second order

    for got, expected in zip(*map(jax.tree.leaves, map(derivatives, (lstm._recurrence, from_loop))), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def built(width, layers, dropout, *, input, hidden, biases):
    """Build a model of `width` words whose candidates are tanh(input x + hidden h), with gates fixed by the biases."""
    model = models.lstm(width, batch_size=8, width=width, layers=layers, dropout=dropout, dtype="float64")
    eye, nothing = np.eye(width), np.zeros((width, width))
    params = {"embedding": np.ones((width, width)), "output": {"kernel": eye, "bias": np.zeros(width)}}
    for number in range(layers):
        params[f"layer{number}"] = {
            "input": np.hstack([nothing, nothing, input * eye, nothing]),
            "hidden": np.hstack([nothing, nothing, hidden * eye, nothing]),
            "bias": np.repeat(biases, width).astype(np.float64),
        }
    return model, jax.tree.map(jnp.asarray, params)


OPEN, SHUT = 50.0, -1000.0
"""Arguments at which the sigmoid is 1 and 0 to all digits."""


@pytest.mark.parametrize(("layers", "rate"), some_of([(1, 0.5), (2, 0.5), (2, 0.2)], [(2, 0.5)]))
def test_dropout_is_below_between_and_above_the_layers(layers, rate):
    # Without memory (forget gate shut), a unit's output is 0 exactly where one of its layers + 1 masks is.
    width, steps = 16, 50
    model, params = built(width, layers, rate, input=0.5, hidden=0.0, biases=(OPEN, SHUT, 0, OPEN))
    memory = model.init(jax.random.key(0))[1]
    tokens = jnp.zeros((8, steps), jnp.int32)
    logits = model.apply(params, memory, tokens, train=True, key=jax.random.key(1))[0]
    kept = (1 - rate) ** (layers + 1)
    share = np.mean(np.asarray(logits) != 0)
    assert abs(share - kept) < 5 * math.sqrt(kept * (1 - kept) / logits.size)
    value = 1.0
    for _ in range(layers):
        value = math.tanh(math.tanh(0.5 * value / (1 - rate)))
    np.testing.assert_allclose(logits[logits != 0], value / (1 - rate), rtol=1e-12)
    # Every stream, step and unit has its own mask.
    for axis in range(3):
        assert np.ptp(np.mean(np.asarray(logits) != 0, axis=axis)) > 0
        assert np.any(np.diff(np.asarray(logits) != 0, axis=axis))
    other = model.apply(params, memory, tokens, train=True, key=jax.random.key(2))[0]
    assert np.any((np.asarray(other) != 0) != (np.asarray(logits) != 0))


def test_nothing_is_dropped_between_time_steps():
    # h' = tanh(c'), c' = c / 2 + tanh(h): the input from below has no effect, and a single mask on h would show.
    model, params = built(16, 2, 0.5, input=0.0, hidden=1.0, biases=(OPEN, 0, 0, OPEN))
    begin = np.random.default_rng(0).uniform(0.2, 0.9, (2, 2, 8, 16))
    tokens = jnp.zeros((8, 12), jnp.int32)
    logits, after = model.apply(params, models.Memory(*begin), tokens, train=True, key=jax.random.key(1))
    hidden, cell = begin
    outputs = []
    for _ in range(12):
        cell = cell / 2 + np.tanh(hidden)
        hidden = np.tanh(cell)
        outputs.append(hidden[1])
    np.testing.assert_allclose(after.hidden, hidden, rtol=1e-12)
    np.testing.assert_allclose(after.cell, cell, rtol=1e-12)
    outputs = np.stack(outputs, axis=1)
    seen = np.asarray(logits) != 0
    assert 0.4 < seen.mean() < 0.6
    np.testing.assert_allclose(logits[seen], 2 * outputs[seen], rtol=1e-12)


def test_dropout_is_only_in_training_and_the_mode_may_be_traced():
    dropping, plain = (models.lstm(9, batch_size=2, width=6, dropout=rate, limit=0.5) for rate in (0.5, 0.0))
    params, memory = plain.init(jax.random.key(0))
    tokens, key = jnp.arange(10, dtype=jnp.int32).reshape(2, 5) % 9, jax.random.key(1)
    expected = plain.apply(params, memory, tokens)
    both = jax.jit(lambda train: dropping.apply(params, memory, tokens, train=train, key=key))
    for found in (dropping.apply(params, memory, tokens, key=key), both(False)):
        chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-7)
    dropped = dropping.apply(params, memory, tokens, train=True, key=key)
    assert np.abs(dropped[0] - expected[0]).max() > 0.1
    chex.assert_trees_all_close(both(True), dropped, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="key: expected a random key for dropout in training, got None"):
        dropping.apply(params, memory, tokens, train=True)


def test_wrong_arguments_are_named():
    for settings, message in (
        ({"vocabulary": 1}, "vocabulary: expected an integer of at least 2, got 1"),
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1"),
        ({"width": 0}, "width: expected an integer of at least 1"),
        ({"layers": 0}, "layers: expected an integer of at least 1"),
        ({"dropout": 1.0}, r"dropout: expected a number in \[0, 1\)"),
        ({"limit": 0.0}, r"limit: expected a number in \(0, "),
    ):
        with pytest.raises(ValueError, match=message):
            models.lstm(**({"vocabulary": 9, "batch_size": 2, "width": 4} | settings))
    with pytest.raises(TypeError, match="dtype: expected a floating-point type, got int32"):
        models.lstm(9, batch_size=2, width=4, dtype=jnp.int32)
    with jax.enable_x64(False), pytest.raises(ValueError, match="dtype: expected jax_enable_x64 to be set for float64"):
        models.lstm(9, batch_size=2, width=4, dtype=jnp.float64)
    model = models.lstm(9, batch_size=2, width=4, dropout=0.0)
    params, memory = model.init(jax.random.key(0))
    for tokens in (np.zeros((3, 5), np.int32), np.zeros((2, 5), np.float32), np.zeros(2, np.int32)):
        with pytest.raises(
            ValueError, match=r"inputs: expected integers \(2, steps\), one row per stream of the memory, got an"
        ):
            model.apply(params, memory, tokens)


def numpy_entropies(params, tokens):
    """Return -log p of every word but the first, given those before it, for one stream from an empty memory."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    params = jax.tree.map(np.asarray, params)
    layers = [params[f"layer{number}"] for number in range(sum(name.startswith("layer") for name in params))]
    hidden, cell = (np.zeros((len(layers), params["embedding"].shape[1])) for _ in range(2))
    found = []
    for word, target in itertools.pairwise(tokens):
        x = params["embedding"][word]
        for number, layer in enumerate(layers):
            gates = x @ layer["input"] + hidden[number] @ layer["hidden"] + layer["bias"]
            input_gate, forget_gate, candidate, output_gate = np.split(gates, 4)
            cell[number] = sigmoid(forget_gate) * cell[number] + sigmoid(input_gate) * np.tanh(candidate)
            x = hidden[number] = sigmoid(output_gate) * np.tanh(cell[number])
        logits = x @ params["output"]["kernel"] + params["output"]["bias"]
        found.append(np.log(np.exp(logits).sum()) - logits[target])
    return np.array(found)


@pytest.fixture
def folder(tmp_path):
    """Write lines of 8 words, drawn from 12 at random: 9 tokens each with the end of the line."""
    drawn = np.random.default_rng(0)
    for part, lines in (("train", 20), ("valid", 7), ("test", 9)):
        text = "\n".join(" ".join(f"w{n}" for n in drawn.integers(0, 12, 8)) for _ in range(lines))
        (tmp_path / f"{part}.txt").write_text(text + "\n")
    return tmp_path


@pytest.mark.slow
def test_the_memory_goes_from_window_to_window_and_is_empty_before_each_epoch_and_evaluation(folder):
    task = tasks.ptb_lstm(dataset=folder, width=6, dropout=0.0, steps=5, batch_size=3, dtype="float64")

    def widened(key):
        params, memory = task.init(key)
        return jax.tree.map(lambda leaf: 32 * leaf, params), memory

    wide = dataclasses.replace(task, init=widened)
    run = train(wide, optax.sgd(0.0), epochs=2, progress=False)
    params = run.params  # a rate of 0 leaves them unchanged
    assert 0.9 * 32 * 0.05 < np.abs(params["embedding"]).max() <= 32 * 0.05
    text = load_text(folder)
    for part, length in (("train", 60), ("valid", 21), ("test", 27)):
        # 180, 63 and 81 tokens in 3 streams, of which whole windows of 5 words and a following word are used.
        used = (length - 1) // 5 * 5 + 1
        streams = getattr(text, part).reshape(3, length)[:, :used]
        found = np.concatenate([numpy_entropies(params, stream) for stream in streams])
        np.testing.assert_allclose(run.history[f"{part}_loss"], [found.mean()] * 2, rtol=2e-6)
        short = [numpy_entropies(params, stream[at : at + 6]) for stream in streams for at in range(0, used - 1, 5)]
        assert abs(np.mean(short) / found.mean() - 1) > 1e-3  # what an empty memory in each window would give
    assert not np.any(run.state.hidden)
    assert not np.any(run.state.cell)
    # Within an epoch it is not empty: training steps pass the state on.
    batch = jax.tree.map(lambda array: array[:3], task.train)
    _, (after, metrics) = task.loss(params, run.state, batch, jax.random.key(0))
    assert np.abs(after.hidden).min() > 0
    assert {name: value.shape for name, value in metrics.items()} == {"loss": (3,)}


def test_the_parts_of_the_task(folder):
    settings = dict(dataset=folder, width=4, steps=5, batch_size=3, vocabulary_size=6)
    task = tasks.ptb_lstm(**settings)
    assert task.name == f"{folder.name}_lstm"
    assert not task.shuffled
    assert task.steps == 11  # (180 // 3 - 1) // 5
    assert [len(part.inputs) for part in (task.train, task.valid, task.test)] == [33, 12, 15]
    assert task.description["data"]["unknown"] == "<unk>"
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    assert params["embedding"].shape == (6, 4)
    small = tasks.ptb_lstm(**settings, train_size=100, valid_size=60, test_size=40)
    assert [small.description[part] for part in ("train", "valid", "test")] == [90, 45, 30]
    tokens = load_text(folder, vocabulary_size=6).train
    assert small.train.inputs[0].tolist() == tokens[:5].tolist()
    assert small.train.inputs[1].tolist() == tokens[33:38].tolist()  # 100 // 3
    assert small.train.targets[3].tolist() == tokens[6:11].tolist()
    with pytest.raises(ValueError, match="test_size: expected at most 81, the number of words, got 82"):
        tasks.ptb_lstm(**settings, test_size=82)
    with pytest.raises(ValueError, match="valid_size: expected an integer of at least 1, got 0"):
        tasks.ptb_lstm(**settings, valid_size=0)
    with pytest.raises(ValueError, match="tokens: expected at least 18 words"):
        tasks.ptb_lstm(**settings, test_size=17)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_it_learns_what_requires_memory(tmp_path, x64):
    # The text repeats "a a b": a model that sees only the last word is unsure after every a, and its loss is at least
    # ln(2) 2/3 = 0.46.
    for part, count in (("train", 700), ("valid", 60), ("test", 100)):
        (tmp_path / f"{part}.txt").write_text("a a b " * count)
    with jax.enable_x64(x64):
        task = tasks.ptb_lstm(dataset=tmp_path, width=8, layers=1, dropout=0.1, steps=10, batch_size=4)
        run = train(task, optimizers.adam(0.05), epochs=2, progress=False)
    assert run.history["test_loss"][-1] < 0.2
    assert {leaf.dtype for leaf in jax.tree.leaves((run.params, run.state))} == {np.dtype("float32")}


@pytest.mark.slow
@needs_wikitext
def test_a_small_model_is_far_better_than_word_frequencies_on_real_text():
    # Two seeds ended at 64 and 66, where the words' frequencies alone give 118.
    words = 2000
    task = tasks.ptb_lstm(
        dataset=WIKITEXT,
        vocabulary_size=words,
        width=64,
        dropout=0.1,
        steps=20,
        batch_size=10,
        train_size=75_000,
        valid_size=2_000,
        test_size=20_000,
    )
    optimizer = optax.chain(optax.clip_by_global_norm(0.25), optimizers.momentum(3.0))
    run = train(task, optimizer, epochs=2, progress=False)
    baseline = unigram_perplexity(load_text(WIKITEXT, vocabulary_size=words).train, task.test.targets.ravel(), words)
    assert 100 < baseline < 140
    assert math.exp(run.history["test_loss"][-1]) < 0.7 * baseline
