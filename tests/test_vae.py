"""The ELBO compared with closed forms and an integral, the network with torch.nn; the task on real images."""

import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import losses, models, optimizers, tasks
from gdlab.training import train

SHARED = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
needs_mnist = pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no prepared MNIST in $GDLAB_DATA_DIR")


def test_bernoulli_error_is_the_logarithm_of_the_probability():
    logits, targets = np.random.default_rng(0).normal(0, 3, (2, 5, 7))
    targets = 1 / (1 + np.exp(-targets))
    p = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum(1)
    np.testing.assert_allclose(losses.bernoulli_error(jnp.asarray(logits), jnp.asarray(targets)), expected, rtol=1e-12)
    extreme = losses.bernoulli_error(jnp.array([[1e4, -1e4]]), jnp.array([[0.0, 1.0]]))
    np.testing.assert_allclose(extreme, [2e4])


def test_divergence_is_the_closed_form_and_equals_the_integral():
    mean, log_variance = np.array([[0.7, -1.2], [0.0, 0.0]]), np.array([[-0.5, 0.8], [0.0, 0.0]])
    found = losses.gaussian_divergence(jnp.asarray(mean), jnp.asarray(log_variance))
    z = np.linspace(-15, 15, 20001)
    for row in range(2):
        total = 0.0
        for m, lv in zip(mean[row], log_variance[row], strict=True):
            log_q = -0.5 * ((z - m) ** 2 / np.exp(lv) + lv + np.log(2 * np.pi))
            log_p = -0.5 * (z**2 + np.log(2 * np.pi))
            total += np.trapezoid(np.exp(log_q) * (log_q - log_p), z)
        assert found[row] == pytest.approx(total, abs=1e-9)


@pytest.mark.oracle
def test_both_terms_equal_pytorchs_for_every_example():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 5, (2, 3, 11)), rng.uniform(size=(2, 3, 11))
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(targets), reduction="none"
    )
    ours = losses.bernoulli_error(jnp.asarray(logits), jnp.asarray(targets))
    np.testing.assert_allclose(ours, theirs.sum(-1), rtol=1e-12)
    mean, log_variance = rng.normal(0, 2, (2, 2, 3, 4))
    q = torch.distributions.Normal(torch.from_numpy(mean), torch.from_numpy(np.exp(log_variance / 2)))
    prior = torch.distributions.Normal(torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    ours = losses.gaussian_divergence(jnp.asarray(mean), jnp.asarray(log_variance))
    np.testing.assert_allclose(ours, torch.distributions.kl_divergence(q, prior).sum(-1), rtol=1e-12)


def test_training_and_evaluation_sample_alike():
    model = models.vae((4, 4, 1), hidden=(6,), dtype="float64")
    params, _ = model.init(jax.random.key(0))
    image = np.random.default_rng(0).uniform(size=(1, 4, 4, 1))
    images = jnp.asarray(np.tile(image, (20_000, 1, 1, 1)))
    sample = jax.jit(lambda train, key: model.apply(params, {}, images, train=train, key=key)[0])
    training, evaluation = (sample(jnp.asarray(train), jax.random.key(1)) for train in (True, False))
    np.testing.assert_array_equal(training.latents, evaluation.latents)
    assert (sample(jnp.asarray(True), jax.random.key(2)).latents != training.latents).all()
    # Many copies of one image: the mean and standard deviation are those of q, and coordinates are uncorrelated.
    mean, deviation = training.mean[0], jnp.exp(training.log_variance[0] / 2)
    noise = np.asarray((training.latents - mean) / deviation)
    np.testing.assert_allclose(noise.mean(0), 0, atol=4 / math.sqrt(20_000))
    np.testing.assert_allclose(noise.T @ noise / 20_000, np.eye(2), atol=4 * math.sqrt(2 / 20_000))


def test_parameter_count():
    params, state = jax.eval_shape(models.vae().init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 1_068_820
    assert state == {}


def test_initialization_is_torch_nn_linears():
    params, _ = models.vae((6, 6, 1), hidden=(20, 10)).init(jax.random.key(0))
    for name, fan_in in (("encoder_0", 36), ("encoder_1", 20), ("mean", 10), ("decoder_0", 2), ("decoder_2", 20)):
        for part in ("kernel", "bias"):
            largest = np.abs(params[name][part]).max()
            assert 0.4 / math.sqrt(fan_in) < largest <= 1 / math.sqrt(fan_in), (name, part)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_loss_and_gradient_equal_pytorchs(dtype):
    torch = pytest.importorskip("torch")
    from tests.oracles import torch_networks as twins

    model = models.vae((6, 6, 1), hidden=(20, 10), latent=3, dtype=dtype)
    params, _ = model.init(jax.random.key(0))
    twin = twins.load(twins.Autoencoder(36, (20, 10), 3), params)
    images = np.random.default_rng(0).uniform(size=(4, 6, 6, 1)).astype(dtype)

    def loss(params):
        outputs, _ = model.apply(params, {}, images, key=jax.random.key(3))
        error = losses.bernoulli_error(outputs.logits, images.reshape(4, -1))
        return jnp.mean(error + losses.gaussian_divergence(outputs.mean, outputs.log_variance)), outputs

    (value, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    noise = (outputs.latents - outputs.mean) / jnp.exp(outputs.log_variance / 2)  # the same for both
    flat = torch.from_numpy(images.reshape(4, -1))
    mean, log_variance, logits = twin(flat, torch.from_numpy(np.array(noise)))
    normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    error = torch.nn.functional.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum(1)
    theirs = (error + torch.distributions.kl_divergence(normal, standard).sum(1)).mean()
    theirs.backward()
    tight = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(value, theirs.detach(), rtol=tight)
    for ours, expected in ((outputs.mean, mean), (outputs.log_variance, log_variance), (outputs.logits, logits)):
        np.testing.assert_allclose(ours, expected.detach(), rtol=0, atol=10 * tight)
    for name, ours in twins.state_dict(gradient).items():
        grad = twin.get_parameter(name).grad
        np.testing.assert_allclose(ours, grad, rtol=0, atol=10 * tight * float(grad.abs().max()), err_msg=name)
    without, _ = model.apply(params, {}, images)
    np.testing.assert_array_equal(without.latents, without.mean)


def test_the_elbo_bounds_the_likelihood():
    model = models.vae((3, 3, 1), hidden=(8,), latent=2, dtype="float64")
    params, _ = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: 2 * leaf, params)  # so that the pixels depend on the latents
    image = np.random.default_rng(1).integers(0, 2, (1, 3, 3, 1)).astype(float)
    # log p(x) = log of the integral of p(x | z) N(z; 0, I) over the plane, on a grid.
    ticks = np.linspace(-8, 8, 401)
    plane = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    p = np.asarray(models.vae_decode(params, jnp.asarray(plane)))
    likelihood = np.prod(np.where(image.reshape(-1) == 1, p, 1 - p), axis=1)
    prior = np.exp(-0.5 * (plane**2).sum(1)) / (2 * np.pi)
    evidence = np.log(np.sum(likelihood * prior) * (ticks[1] - ticks[0]) ** 2)

    @jax.jit
    @jax.vmap
    def elbo(key):
        outputs, _ = model.apply(params, {}, image, key=key)
        divergence = losses.gaussian_divergence(outputs.mean, outputs.log_variance)
        return -(losses.bernoulli_error(outputs.logits, image.reshape(1, -1)) + divergence)[0]

    draws = np.asarray(elbo(jax.random.split(jax.random.key(2), 4000)))
    mean, log_variance = models.vae_encode(params, image)
    # The gap is the divergence of q from the true posterior, which the grid gives too.
    q = np.exp(-0.5 * ((plane - mean) ** 2 / np.exp(log_variance) + log_variance).sum(1)) / (2 * np.pi)
    posterior = likelihood * prior / np.exp(evidence)
    gap = np.sum(q * np.log(np.where(q > 0, q / posterior, 1.0))) * (ticks[1] - ticks[0]) ** 2
    assert gap > 0.01
    error = 4 * draws.std() / np.sqrt(len(draws))
    assert draws.mean() == pytest.approx(evidence - gap, abs=error + 1e-3)


@pytest.mark.slow
@needs_mnist
def test_the_negative_elbo_falls_below_175_in_five_epochs(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    task = tasks.mnist_vae(SHARED, hidden=(128, 64), train_size=10_000, test_size=2000, batch_size=50)
    found = train(task, optimizers.adam(3e-3), epochs=5, progress=False)
    assert found.history["test_loss"][-1] < 175  # measured: 162
    whole = found.history["test_reconstruction"] + found.history["test_divergence"]
    np.testing.assert_allclose(found.history["test_loss"], whole, rtol=1e-5)
    # Latents of one class are closer to each other than to the others, although no label was used.
    latents, _ = models.vae_encode(found.params, jnp.asarray(task.test.images / np.float32(255)))
    labels = np.asarray(task.test.labels)
    own = [np.asarray(latents)[labels == k].var(axis=0).sum() for k in range(10)]
    assert np.mean(own) < 0.6 * np.asarray(latents).var(axis=0).sum()


def test_bad_input_raises_an_error_of_one_line():
    model = models.vae((4, 4, 1), hidden=(5,))
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    for call, answer in (
        (lambda: models.vae(dtype=jnp.int32), "dtype: expected a floating-point type, got int32"),
        (lambda: models.vae(hidden=()), "hidden: expected at least one layer size, got none"),
        (lambda: models.vae(latent=0), "latent: expected an integer of at least 1, got 0"),
        (
            lambda: jax.eval_shape(model.apply, params, {}, jnp.zeros((2, 4, 5, 1))),
            r"inputs: expected images \(batch, 4, 4, 1\), got an array of shape \(2, 4, 5, 1\)",
        ),
        (
            lambda: models.vae_encode(zeros, jnp.zeros((2, 4, 4, 1), jnp.uint8)),
            r"images: expected floating-point numbers in \[0, 1\], got dtype uint8",
        ),
        (
            lambda: models.vae_encode(zeros, jnp.zeros((2, 15))),
            r"images: expected images of 16 pixels, got an array of shape \(2, 15\)",
        ),
        (
            lambda: models.vae_decode(zeros, jnp.zeros((2, 3))),
            r"latents: expected shape \(batch, 2\), got an array of shape \(2, 3\)",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
