"""VGG16 and WideResNet compared with torch.nn, and their tasks on real images."""

import math
import os
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gdlab import models, optimizers, tasks
from gdlab.data import Dataset, Split
from gdlab.models.layers import max_pool_pairs
from gdlab.models.wide_resnet import PreActivationBlock
from gdlab.optimizers.contract import compilation
from gdlab.training import train

SHARED = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
needs_cifar10 = pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="no prepared CIFAR-10 in $GDLAB_DATA_DIR")

# These programs run once, so quick compilation matters more than fast code.
QUICK = compilation.QUICK


def size(model):
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def test_parameter_counts():
    assert size(models.vgg16(100)) == 14_774_436
    assert size(models.vgg16(10)) == 14_728_266
    assert size(models.wide_resnet(10)) == 10_961_370
    assert size(models.wide_resnet(100)) == 11_007_540


def test_layers_have_the_names_used_in_checkpoints():
    def names(model):
        return set(jax.eval_shape(model.init, jax.random.key(0))[0])

    numbered = {f"{stage}_{number}" for stage, count in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, count + 1)}
    assert names(models.vgg16(10)) == {f"{kind}{number}" for kind in ("conv", "bn") for number in numbered} | {"fc"}
    groups = {f"group{group}_{block}" for group in (1, 2, 3) for block in (0, 1)}
    assert names(models.wide_resnet(10)) == groups | {"conv1", "bn", "fc"}


def test_initializations():
    generator = jax.random.key(0)
    vgg, _ = models.vgg16(100, width=16).init(generator)
    wide, _ = models.wide_resnet(10, width=4).init(generator)
    for tree in (vgg, wide):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = jax.tree_util.keystr(path)
            if leaf.ndim == 4:  # He over the outputs; the mean square of n normals is known to sqrt(2 / n)
                variance = 2 / (leaf.shape[0] * leaf.shape[1] * leaf.shape[3])
                assert abs(np.mean(leaf**2) / variance - 1) < 5 * math.sqrt(2 / leaf.size), name
            elif "conv" in name or "bn" in name:
                np.testing.assert_array_equal(leaf, 1.0 if "scale" in name else 0.0, name)
    assert abs(np.std(vgg["fc"]["kernel"]) / 0.01 - 1) < 5 / math.sqrt(2 * vgg["fc"]["kernel"].size)
    np.testing.assert_array_equal(vgg["fc"]["bias"], 0.0)
    limit = 1 / math.sqrt(wide["fc"]["kernel"].shape[0])
    assert 0.9 * limit < np.abs(wide["fc"]["kernel"]).max() <= limit
    np.testing.assert_array_equal(wide["fc"]["bias"], 0.0)


NETWORKS = {
    "vgg": (lambda dtype: models.vgg16(10, width=8, dtype=dtype), lambda twins: twins.Vgg(10, 8)),
    "wide": (
        lambda dtype: models.wide_resnet(10, depth=16, widen=2, width=4, dtype=dtype),
        lambda twins: twins.WideResNet(10, 16, 2, 4),
    ),
}


def filled(model):
    """Return parameters and state, with statistics, scales and biases that have an effect."""
    leaves, structure = jax.tree.flatten(model.init(jax.random.key(0)))
    drawn = np.random.default_rng(0)
    leaves = [leaf if leaf.ndim > 1 else np.asarray(drawn.uniform(0.5, 1.5, leaf.shape), leaf.dtype) for leaf in leaves]
    return jax.tree.unflatten(structure, leaves)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_equals_pytorchs(network, dtype):
    torch = pytest.importorskip("torch")
    from tests.oracles import torch_networks as twins

    make, make_twin = NETWORKS[network]
    model = make(dtype)
    params, state = filled(model)
    twin = twins.load(make_twin(twins), params, state)
    x = np.asarray(jax.random.normal(jax.random.key(1), (6, 32, 32, 3), dtype))
    labels = np.arange(6) % 10

    def loss(params, train):
        logits, moved = model.apply(params, state, x, train=train)
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(6), labels]), (logits, moved)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)
    tight = 1e-10 if dtype == "float64" else 1e-5
    (_, (logits, unmoved)), _ = step(params, False)
    chex.assert_trees_all_equal(unmoved, state)
    expected = twin.eval()(twins.turned(x)).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tight * np.abs(expected).max())
    (value, (_, moved)), gradient = step(params, True)
    theirs = torch.nn.functional.cross_entropy(twin.train()(twins.turned(x)), torch.from_numpy(labels))
    theirs.backward()
    np.testing.assert_allclose(value, theirs.detach(), rtol=10 * tight)
    # In float32 rounding moves single pixels across the kinks of the ReLUs, so norms are compared.
    loose = 1e-8 if dtype == "float64" else 3e-2
    whole = np.sqrt(sum(float((p.grad**2).sum()) for p in twin.parameters()))
    for name, ours in twins.state_dict(gradient).items():
        grad = twin.get_parameter(name).grad.numpy()
        # The gradient of a bias before a normalization is only rounding, so the whole gradient is the measure there.
        assert np.linalg.norm(ours.numpy() - grad) < loose * max(np.linalg.norm(grad), 1e-3 * whole), name
    for name, ours in twins.state_dict(moved).items():
        np.testing.assert_allclose(ours, twin.get_buffer(name), rtol=0, atol=100 * tight, err_msg=name)


@pytest.mark.oracle
@pytest.mark.parametrize(("network", "shape"), [("vgg", (64, 96)), ("wide", (20, 13))])
def test_other_sizes_of_images_end_in_the_mean_of_the_last_map(network, shape):
    pytest.importorskip("torch")
    from tests.oracles import torch_networks as twins

    make, make_twin = NETWORKS[network]
    model = make("float64")
    params, state = filled(model)
    twin = twins.load(make_twin(twins), params, state).eval()
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, *shape, 3), jnp.float64))
    logits, _ = jax.jit(model.apply, compiler_options=QUICK)(params, state, x)
    np.testing.assert_allclose(logits, twin(twins.turned(x)).detach(), rtol=1e-9)


def test_pool_of_pairs_and_where_its_gradient_goes():
    x = np.random.default_rng(0).integers(0, 3, (2, 5, 6, 2)).astype(np.float64)
    y, vjp = jax.vjp(max_pool_pairs, x)
    g = np.random.default_rng(1).normal(size=y.shape)
    expected, gradient = np.zeros(y.shape), np.zeros(x.shape)
    for n, i, j, c in np.ndindex(*y.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = np.unravel_index(np.argmax(window), (2, 2))  # the first of equal values
        expected[n, i, j, c] = window[row, column]
        gradient[n, 2 * i + row, 2 * j + column, c] += g[n, i, j, c]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(vjp(g)[0], gradient)
    assert y.shape == (2, 2, 3, 2)


def test_dropout_is_between_a_blocks_convolutions_and_only_in_training():
    # The first convolution is 0 and the second normalization's shift 1, so that the second convolution, the identity,
    # adds to the input what dropout leaves of ones.
    block = PreActivationBlock(outputs=2, stride=1, dropout=0.25, dtype=jnp.float32)
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 2)).astype(np.float32)
    variables = jax.tree.map(np.asarray, nn.unbox(block.init(jax.random.key(0), x, False)))
    params = variables["params"]
    params["bn2"] = {"scale": np.ones(2, np.float32), "bias": np.ones(2, np.float32)}
    params["conv1"]["kernel"] = np.zeros((3, 3, 2, 2), np.float32)
    params["conv2"]["kernel"] = np.zeros((3, 3, 2, 2), np.float32)
    params["conv2"]["kernel"][1, 1] = np.eye(2)

    @partial(jax.jit, static_argnames="static")
    def added(train, key, static=None):
        mode = train if static is None else static
        return block.apply(variables, x, mode, rngs={"dropout": key}, mutable=["batch_stats"])[0] - x

    key, count = jax.random.key(1), x.size
    for dropped in (added(True, key), added(True, key, static=True)):
        ones = np.abs(dropped) > 0.5
        np.testing.assert_allclose(dropped, np.where(ones, 4 / 3, 0), atol=1e-5)
        assert abs(ones.mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / count)
    assert (np.abs(added(True, jax.random.key(2)) - added(True, key)) > 1).any()
    np.testing.assert_allclose(added(False, key), 1, atol=1e-5)
    np.testing.assert_allclose(block.apply(variables, x, False) - x, 1, atol=1e-5)  # no key


@pytest.mark.slow
@needs_cifar10
def test_narrow_twins_learn_cifar10(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    # Chance is 10%.
    sizes = dict(dataset="cifar10", train_size=4000, test_size=1000, batch_size=16)
    for task, optimizer in (
        (tasks.cifar100_vgg16(SHARED, width=16, **sizes), optimizers.momentum(0.01, momentum=0.9)),
        (tasks.stl10_wrn16_8(SHARED, depth=10, widen=2, width=8, **sizes), optimizers.adam(3e-3)),
    ):
        assert task.name in ("cifar10_vgg16", "cifar10_wrn10_2")
        found = train(task, optimizer, epochs=3, progress=False)
        assert found.history["test_accuracy"][-1] > 0.3, task.name


@pytest.mark.parametrize(
    ("name", "dataset", "side", "moved", "batch_size", "full"),
    [  # full: a white pixel, normalized with the constants that are common for the data set
        ("cifar100_vgg16", "cifar100", 32, 4, 128, ((1 - 0.5071) / 0.2673, (1 - 0.4865) / 0.2564, 0.5591 / 0.2762)),
        ("stl10_wrn16_8", "stl10", 96, 12, 64, ((1 - 0.4467) / 0.2603, (1 - 0.4398) / 0.2566, 0.5934 / 0.2713)),
        ("stl10_wrn16_8", "cifar10", 32, 4, 64, ((1 - 0.4914) / 0.2470, (1 - 0.4822) / 0.2435, 0.5535 / 0.2616)),
    ],
)
def test_tasks_take_the_benchmarks_batches_and_move_images_by_an_eighth(
    monkeypatch, name, dataset, side, moved, batch_size, full
):
    white = Split(np.full((128, side, side, 3), 255, np.uint8), np.zeros(128, np.int32))

    def seen(*_, **__):
        """Make a model whose state is its inputs."""
        return models.Model(
            lambda key: ({}, jnp.zeros(())), lambda params, state, x, train=False, key=None: (x[:, 0, 0], x)
        )

    for place, model in (("cifar100", "vgg16"), ("stl10", "wide_resnet")):
        monkeypatch.setattr(
            f"gdlab.tasks.{place}.load", lambda name, data_dir: Dataset(name, white, white, ("a", "b"), {})
        )
        monkeypatch.setattr(models, model, seen)
    task = tasks.TASKS[name](dataset=dataset)
    assert task.batch_size == batch_size
    assert task.name == f"{dataset}_{name.split('_', 1)[1]}"
    batch = Split(*map(jnp.asarray, white))
    _, (state, _) = task.loss(*task.init(jax.random.key(0)), batch, jax.random.key(1))
    images = np.asarray(state.model)
    kept = images[..., 0] > 0
    np.testing.assert_allclose(images[kept], np.broadcast_to(full, images[kept].shape), rtol=1e-5)
    for axis in (1, 2):  # one of 128 images moves as far as it may with probability 1 - (1 - 2 / (2 moved + 1))^128
        assert side - kept.any(axis=3 - axis).sum(axis=1).min() == moved
    state, _ = task.evaluate(*task.init(jax.random.key(0)), batch, jax.random.key(1))
    np.testing.assert_allclose(state.model, np.broadcast_to(full, images.shape), rtol=1e-5)


def test_bad_input_raises_an_error_of_one_line():
    vgg, wide = models.vgg16(10, width=2), models.wide_resnet(10, depth=10, widen=1, width=2)
    dropping = models.wide_resnet(10, depth=10, widen=1, width=2, dropout=0.5)
    shapes = [jax.eval_shape(model.init, jax.random.key(0)) for model in (vgg, wide)]
    for call, answer in (
        (lambda: models.vgg16(0), "num_classes: expected an integer of at least 1, got 0"),
        (lambda: models.vgg16(10, dtype=jnp.int32), "dtype: expected a floating-point type, got int32"),
        (
            lambda: models.wide_resnet(10, depth=15),
            r"depth: expected 6 n \+ 4 with n >= 1, such as 16, got 15",
        ),
        (lambda: models.wide_resnet(10, dropout=1.0), r"dropout: expected a number in \[0, 1\)"),
        (
            lambda: jax.eval_shape(partial(dropping.apply, train=True), *shapes[1], jnp.zeros((2, 32, 32, 3))),
            "key: expected a random key for dropout in training, got None",
        ),
        (
            lambda: jax.eval_shape(vgg.apply, *shapes[0], jnp.zeros((2, 28, 28, 3))),
            "inputs: expected images of at least 32 x 32 pixels",
        ),
        (
            lambda: jax.eval_shape(wide.apply, *shapes[1], jnp.zeros((2, 32, 32, 1))),
            r"inputs: expected floating-point images \(batch, height, width, 3\)",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
