import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import models, optimizers, tasks
from gdlab.data import Dataset, Split
from gdlab.tasks import Protocol, classify
from gdlab.training import train

SHARED = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
needs_cifar10 = pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="no prepared CIFAR-10 in $GDLAB_DATA_DIR")


def striped(count=60, test=23):
    """Make images whose pixels are all equal to the image's number, so that each image can be identified."""
    pixels = np.broadcast_to(np.arange(count + test, dtype=np.uint8)[:, None, None, None], (count + test, 4, 4, 1))
    labels = (np.arange(count + test) % 3).astype(np.int32)
    parts = Split(pixels[:count], labels[:count]), Split(pixels[count:], labels[count:])
    return Dataset("striped", *parts, ("a", "b", "c"), {"source": "made up"})


def make(**settings):
    model = models.mlp((4, 4, 1), 3, hidden=(5,))
    return classify("striped", striped(), model, mean=(0.5,), std=(0.25,), **({"batch_size": 8} | settings))


def numbers(part):
    return part.images[:, 0, 0, 0].tolist()


def test_what_is_held_out_is_not_trained_on():
    task = make(hold_out=20)
    assert len(set(numbers(task.valid))) == 20
    assert set(numbers(task.valid)) | set(numbers(task.train)) == set(range(60))
    assert numbers(task.valid) == numbers(make(hold_out=20, train_size=9).valid)
    assert task.steps == 5
    small = make(hold_out=10, train_size=30, test_size=7)
    assert len(set(numbers(small.train))) == 30
    assert not set(numbers(small.train)) & set(numbers(small.valid))
    assert len(set(numbers(small.test))) == 7
    assert set(numbers(small.test)) <= set(range(60, 83))
    for part in (task.train, task.valid, small.train, small.test):
        assert part.labels.tolist() == [number % 3 for number in numbers(part)]
    assert task.description["valid"] == 20


def test_loss_and_evaluation_follow_from_the_model():
    model = models.mlp((4, 4, 1), 3, hidden=(5,))
    task = make()
    params, state = task.init(jax.random.key(1))
    batch = Split(jnp.asarray(task.test.images[:6]), jnp.asarray(task.test.labels[:6]))
    logits, _ = model.apply(params, {}, (batch.images / 255 - 0.5) / 0.25)
    log_p = np.asarray(logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True))
    expected = -log_p[np.arange(6), batch.labels]
    loss, (_, metrics) = task.loss(params, state, batch, jax.random.key(2))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    _, metrics = task.evaluate(params, state, batch, jax.random.key(3))
    np.testing.assert_allclose(metrics["accuracy"], log_p.argmax(axis=1) == batch.labels)


def normed():
    """Make a model of one batch normalization (scale and running mean), so that modes can be distinguished."""

    def apply(params, state, inputs, *, train=False, key=None):
        mean = inputs.mean()
        used = jnp.where(train, mean, state)
        after = jnp.where(train, 0.5 * state + 0.5 * mean, state)
        return params * (inputs.mean(axis=(1, 2)) - used) * jnp.array([1.0, -1.0, 0.5]), after

    return models.Model(lambda key: (jnp.ones(()), jnp.zeros(())), apply)


def test_the_source_freezes_after_its_first_epoch_and_augments_test_images():
    seen = []

    def darken(key, images):
        seen.append("augmented")
        return images // 2

    def build(**protocol):
        return classify(
            "n", striped(), normed(), mean=(0.5,), std=(0.25,), batch_size=60, protocol=Protocol(darken, **protocol)
        )

    def statistics(task):
        params, state = task.init(jax.random.key(0))
        found = []
        for _ in range(3):
            _, (state, _) = task.loss(params, state, Split(*map(jnp.asarray, task.train)), jax.random.key(0))
            state = task.after_epoch(state)
            found.append(float(state.model))
        return found

    mean = (np.arange(60) // 2 / 255 - 0.5).mean() / 0.25
    np.testing.assert_allclose(statistics(build()), [mean * share for share in (0.5, 0.75, 0.875)], rtol=1e-5)
    np.testing.assert_allclose(statistics(build(freeze_after_first_epoch=True)), [0.5 * mean] * 3, rtol=1e-5)
    for augment_test in (False, True):
        task = build(augment_test=augment_test)
        seen.clear()
        task.evaluate(*task.init(jax.random.key(0)), Split(*map(jnp.asarray, task.test)), jax.random.key(0))
        assert bool(seen) == augment_test
    assert tasks.PROTOCOLS["source"].augment_test
    assert tasks.PROTOCOLS["source"].freeze_after_first_epoch
    assert not tasks.PROTOCOLS["sound"].augment_test
    assert not tasks.PROTOCOLS["sound"].freeze_after_first_epoch
    # With frozen statistics, training still changes the parameters.
    frozen = train(build(freeze_after_first_epoch=True), optimizers.sgd(0.1), epochs=3, progress=False)
    assert frozen.history["train_loss"][2] < frozen.history["train_loss"][1]


def test_a_perceptron_learns_digits():
    params = jax.eval_shape(tasks.digits_mlp().init, jax.random.key(0))[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 65 * 64 + 65 * 64 + 65 * 10 == 8970
    found = train(tasks.digits_mlp(), optimizers.adam(1e-2), epochs=5, progress=False)
    assert found.history["test_accuracy"][-1] > 0.93  # 5 epochs of logistic regression reach 0.9


@pytest.mark.slow
@needs_cifar10
def test_a_narrow_resnet_learns_cifar10(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    # Batches of 16 give 936 steps in three epochs; two seeds ended at 39 and 41%, and chance is 10%.
    task = tasks.cifar10_resnet18(SHARED, width=24, head="linear", train_size=5000, test_size=2000, batch_size=16)
    found = train(task, optimizers.adam(1e-3), epochs=3, progress=False)
    assert found.history["test_accuracy"][-1] > 0.35


@pytest.mark.oracle
def test_training_starts_from_given_weights(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from tests.test_models import torch_twin

    black = Split(np.zeros((8, 8, 8, 3), np.uint8), np.zeros(8, np.int32))
    monkeypatch.setattr("gdlab.tasks.cifar10.load", lambda name, place: striped()._replace(train=black, test=black))
    twin = torch_twin("imagenet", "linear", width=4, num_classes=1000)
    torch.save(twin.state_dict(), tmp_path / "weights.pth")
    task = tasks.cifar10_resnet18(width=4, weights=tmp_path / "weights.pth", batch_size=4)
    one, other = (jax.jit(task.init)(jax.random.key(seed))[0] for seed in (0, 1))
    kernel = np.asarray(twin.state_dict()["conv1.weight"]).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(one["conv1"]["kernel"], kernel)
    for name in one:
        same = jax.tree.map(lambda a, b: bool((a == b).all()), one[name], other[name])
        assert all(jax.tree.leaves(same)) == (name != "head"), name  # only the second layer is random
    with pytest.raises(FileNotFoundError, match="expected a file of weights"):
        tasks.cifar10_resnet18(width=4, weights=tmp_path / "none.pth")


def test_bad_input_raises_an_error_of_one_line():
    for call, answer in (
        (lambda: make(hold_out=60), "hold_out: expected fewer than the 60 training images, got 60"),
        (lambda: make(train_size=61), "train_size: expected at most 60, the number of images, got 61"),
        (lambda: make(train_size=0, hold_out=5), "train_size: expected an integer of at least 1, got 0"),
        (lambda: make(train_size="5", hold_out=5), "train_size: expected an integer, got '5'"),
        (lambda: make(train_size=45, hold_out=20), "train_size: expected at most 40, the number of images, got 45"),
        (lambda: make(test_size=24), "test_size: expected at most 23, the number of images, got 24"),
        (lambda: make(batch_size=61), "batch_size: expected at most the 60 training images, got 61"),
        (lambda: make(batch_size=0), "batch_size: expected an integer of at least 1, got 0"),
        (lambda: tasks.TASKS["cifar_resnet"], "no task named 'cifar_resnet'; nearest: cifar10_resnet18"),
        (lambda: tasks.cifar10_resnet18(stem="vgg"), "no stem named 'vgg'; known: imagenet, cifar"),
        (lambda: tasks.cifar10_resnet18(head="none"), "no head named 'none'; known: linear, source"),
        (lambda: tasks.digits_mlp(dtype=jnp.int32), "dtype: expected a floating-point type, got int32"),
        (lambda: tasks.digits_mlp(hidden=(0,)), "hidden: expected an integer of at least 1, got 0"),
        (lambda: tasks.require_task("task", None), "task: expected a Task, .* got None"),
    ):
        with pytest.raises((TypeError, ValueError, KeyError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
