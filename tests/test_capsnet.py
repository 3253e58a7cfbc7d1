"""Capsules compared with torch.nn, and with NumPy code that follows the paper's procedure one capsule at a time."""

import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import losses, models, optimizers, tasks
from gdlab.data import Dataset, Split
from gdlab.models.capsnet import route, squash
from gdlab.training import train

SHARED = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
needs_fashion = pytest.mark.skipif(
    not (SHARED / "fashion_mnist").is_dir(), reason="no prepared Fashion-MNIST in $GDLAB_DATA_DIR"
)
SMALL = dict(width=6, capsules=2, capsule_size=4, class_size=5, kernel=9, decoder=(12, 9))


def numpy_squash(s):
    square = float(s @ s)
    return square / (1 + square) * s / math.sqrt(square)


def numpy_route(predictions, iterations):
    """Procedure 1 for one image: predictions[i, j] is capsule i's vote for capsule j."""
    inputs, outputs, _ = predictions.shape
    b = np.zeros((inputs, outputs))
    for _ in range(iterations):
        c = np.array([np.exp(row) / np.exp(row).sum() for row in b])
        v = np.array([numpy_squash(sum(c[i, j] * predictions[i, j] for i in range(inputs))) for j in range(outputs)])
        for i in range(inputs):
            for j in range(outputs):
                b[i, j] += predictions[i, j] @ v[j]
    return v


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_routing_is_the_papers_procedure(iterations):
    predictions = np.random.default_rng(0).normal(size=(7, 3, 4, 5))
    found = route(jnp.asarray(predictions), iterations)
    for image in range(3):
        np.testing.assert_allclose(found[image], numpy_route(predictions[:, image], iterations), rtol=1e-10)


@pytest.mark.oracle
@pytest.mark.parametrize("learn_weights", [True, False])
def test_gradients_of_routing_go_through_the_weights_or_take_them_as_constants(learn_weights):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    predictions, cotangent = rng.normal(size=(7, 3, 4, 5)), rng.normal(size=(3, 4, 5))
    ours = jax.grad(lambda p: jnp.sum(cotangent * route(p, 3, learn_weights=learn_weights)))(jnp.asarray(predictions))

    def torch_squash(s):
        return s * s.norm(dim=-1, keepdim=True) / (1 + s.square().sum(-1, keepdim=True))

    whole = torch.tensor(predictions, requires_grad=True)
    votes = whole if learn_weights else whole.detach()
    b = torch.zeros(7, 3, 4, dtype=torch.float64)
    for _ in range(2):
        b = b + (votes * torch_squash((torch.softmax(b, 2)[..., None] * votes).sum(0))).sum(-1)
    outputs = torch_squash((torch.softmax(b, 2)[..., None] * whole).sum(0))
    (outputs * torch.tensor(cotangent)).sum().backward()
    np.testing.assert_allclose(ours, whole.grad, rtol=1e-10, atol=1e-13)


def test_squash_keeps_the_direction_and_has_a_gradient_at_zero():
    s = np.array([[3.0, 4.0], [0.3, -0.4]])
    np.testing.assert_allclose(squash(jnp.asarray(s)), [s[0] * 5 / 26, s[1] * 0.5 / 1.25], rtol=1e-12)
    np.testing.assert_array_equal(jax.jacobian(squash)(jnp.zeros(3)), np.zeros((3, 3)))


def test_margin_loss_is_equation_4():
    lengths, labels = np.random.default_rng(1).uniform(size=(6, 4)), np.array([0, 1, 2, 3, 0, 1])
    found = losses.margin_loss(jnp.asarray(lengths), jnp.asarray(labels))
    for row, label, one in zip(lengths, labels, found, strict=True):
        expected = sum(
            max(0, 0.9 - length) ** 2 if k == label else 0.5 * max(0, length - 0.1) ** 2 for k, length in enumerate(row)
        )
        np.testing.assert_allclose(one, expected, rtol=1e-12)


def test_parameter_counts():
    def count(**settings):
        params, state = jax.eval_shape(models.capsnet(**settings).init, jax.random.key(0))
        assert state == {}
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)), params

    total, params = count()
    assert total == 8_215_568
    decoder = [leaf for name, part in params.items() if "decoder" in name for leaf in jax.tree.leaves(part)]
    assert sum(math.prod(leaf.shape) for leaf in decoder) == 1_411_344
    assert params["routing"].shape == (1152, 8, 160)


def test_initialization_is_pytorchs_and_normal():
    params, _ = models.capsnet(**SMALL).init(jax.random.key(0))
    for name, fan_in in (("conv", 81), ("primary", 81 * 6), ("decoder_0", 50), ("decoder_1", 12), ("decoder_2", 9)):
        for part in ("kernel", "bias"):
            largest = np.abs(params[name][part]).max()
            assert 0.5 / math.sqrt(fan_in) < largest <= 1 / math.sqrt(fan_in), (name, part)
    assert abs(np.std(params["routing"]) / 0.1 - 1) < 5 / math.sqrt(2 * params["routing"].size)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_loss_and_gradient_equal_pytorchs(dtype):
    torch = pytest.importorskip("torch")
    from tests.oracles import torch_networks as twins

    model = models.capsnet(**SMALL, dtype=dtype)
    params, _ = model.init(jax.random.key(0))
    params["routing"] = 5 * params["routing"]  # so that routing has something to agree on
    twin = twins.load(twins.CapsNet(**SMALL), params)
    images = np.random.default_rng(0).uniform(size=(4, 28, 28, 1)).astype(dtype)
    labels = np.array([3, 0, 9, 3])

    def loss(params):
        outputs, _ = model.apply(params, {}, models.CapsuleInputs(images, labels), train=True)
        error = jnp.sum((outputs.reconstruction - images.reshape(4, -1)) ** 2, axis=1)
        return jnp.mean(losses.margin_loss(outputs.lengths, labels) + 0.0005 * error), outputs

    (value, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    lengths, capsules, reconstruction = twin(twins.turned(images), torch.from_numpy(labels))
    present = torch.nn.functional.one_hot(torch.from_numpy(labels), 10).to(lengths.dtype)
    margin = present * torch.relu(0.9 - lengths) ** 2 + 0.5 * (1 - present) * torch.relu(lengths - 0.1) ** 2
    error = ((reconstruction - torch.from_numpy(images.reshape(4, -1))) ** 2).sum(1)
    theirs = (margin.sum(1) + 0.0005 * error).mean()
    theirs.backward()
    tight = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(value, theirs.detach(), rtol=tight)
    for ours, expected in zip(outputs, (lengths, capsules, reconstruction), strict=True):
        expected = expected.detach().numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tight * np.abs(expected).max())
    for name, ours in twins.state_dict(gradient).items():
        grad = twin.get_parameter(name).grad
        np.testing.assert_allclose(ours, grad, rtol=0, atol=10 * tight * float(grad.abs().max()), err_msg=name)


@pytest.mark.slow
def test_lanes_equal_single_runs_and_the_decoder_sees_only_the_labelled_capsule():
    model = models.capsnet(**SMALL)
    keys = jax.random.split(jax.random.key(0), 2)
    images = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1), jnp.float32)
    run = jax.jit(lambda params, labels: model.apply(params, {}, models.CapsuleInputs(images, labels))[0])
    labels = jnp.array([1, 2, 3])
    lanes = jax.vmap(run, in_axes=(0, None))(jax.vmap(lambda key: model.init(key)[0])(keys), labels)
    alone = run(model.init(keys[1])[0], labels)
    for ours, expected in zip(lanes, alone, strict=True):
        np.testing.assert_allclose(ours[1], expected, rtol=1e-4, atol=1e-6)
    other = run(model.init(keys[1])[0], labels + 1)
    np.testing.assert_array_equal(other.lengths, alone.lengths)
    assert (np.abs(other.reconstruction - alone.reconstruction).max(axis=1) > 0).all()


def test_the_task_has_the_requested_sizes_and_otherwise_those_of_the_paper(monkeypatch):
    blank = Split(np.zeros((8, 28, 28, 1), np.uint8), np.zeros(8, np.int32))
    found = Dataset("fashion_mnist", blank, blank, tuple("abcdefghij"), {})
    monkeypatch.setattr("gdlab.tasks.fashion_mnist.load", lambda name, data_dir: found)
    task = tasks.fashion_mnist_capsnet(**SMALL, routing=2, learn_weights=False, test_size=4, batch_size=2)
    model = models.capsnet(**SMALL, routing=2, learn_weights=False)
    params, expected = (jax.eval_shape(one.init, jax.random.key(0))[0] for one in (task, model))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda leaf: leaf.shape, expected)
    described = SMALL | {"decoder": [12, 9], "routing": 2, "learn_weights": False}
    assert task.description["model"] == {"name": "capsnet", **described}
    assert len(task.test.labels) == 4
    papers = {"width": 256, "capsules": 32, "capsule_size": 8, "class_size": 16, "kernel": 9, "decoder": [512, 1024]}
    whole = tasks.fashion_mnist_capsnet(batch_size=2).description["model"]
    assert whole == {"name": "capsnet", **papers, "routing": 3, "learn_weights": True}
    with pytest.raises(TypeError, match="widht"):
        tasks.fashion_mnist_capsnet(batch_size=2, widht=8)


@pytest.mark.slow
@needs_fashion
def test_a_small_capsnet_learns_fashion_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    task = tasks.fashion_mnist_capsnet(
        SHARED,
        **{"width": 8, "kernel": 5, "capsules": 4, "capsule_size": 4, "class_size": 4, "decoder": (32,)},
        **{"train_size": 5000, "test_size": 1000, "batch_size": 50},
    )
    found = train(task, optimizers.adam(1e-2), epochs=2, progress=False)
    assert found.history["test_accuracy"][-1] > 0.75  # measured: 79% to 81% with three seeds
    for part in ("train", "test"):
        whole = found.history[f"{part}_margin"] + 0.0005 * found.history[f"{part}_reconstruction"]
        np.testing.assert_allclose(found.history[f"{part}_loss"], whole, rtol=1e-5)


def test_bad_input_raises_an_error_of_one_line():
    model = models.capsnet(**SMALL)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    inputs = models.CapsuleInputs(jnp.zeros((2, 28, 28, 3)), jnp.zeros(2, jnp.int32))
    for call, answer in (
        (lambda: models.capsnet(routing=0), "routing: expected an integer of at least 1, got 0"),
        (lambda: models.capsnet(decoder=(8, 0)), "decoder: expected an integer of at least 1, got 0"),
        (lambda: models.capsnet(widht=8), "sizes: expected names among width, capsules, .*, routing; got widht"),
        (lambda: models.capsnet(image_shape=(17, 28, 1)), "image_shape: expected .* of at least 18 pixels"),
        (lambda: models.capsnet(dtype=jnp.int32), "dtype: expected a floating-point type, got int32"),
        (lambda: jax.eval_shape(model.apply, params, {}, inputs), "inputs: expected floating-point images"),
        (lambda: route(jnp.zeros((2, 2, 2, 2)), 0), "iterations: expected at least 1, got 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
