"""ResNet18 compared with PyTorch's layers under torchvision's names, and with NumPy where PyTorch is missing."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.models import HEADS, STEMS, cifar_stem, load_torchvision, normalization, resnet18, two_layer_head
from gdlab.models.initialization import constant, fill, normal, uniform
from gdlab.models.layers import Convolution, max_pool
from gdlab.models.normalization import BatchNorm
from tests.selection import some_of

WIDTH = 16


def torch_twin(stem, head, width=WIDTH, num_classes=10):
    """Build torchvision's ResNet18, but narrower; its parts have the names used in torchvision's state dicts."""
    torch = pytest.importorskip("torch")
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            if stem == "cifar":
                self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            inputs = width
            for stage in range(4):
                outputs = width << stage
                blocks = Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
                inputs = outputs
            self.fc = nn.Linear(inputs, 1000 if head == "source" else num_classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            if stem == "imagenet":
                x = nn.functional.max_pool2d(x, 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():  # statistics and scales that have an effect
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
    return net


def images(dtype, batch=6):
    return np.asarray(jax.random.normal(jax.random.key(1), (batch, 32, 32, 3), dtype))


def assert_near(got, expected, relative, name=""):
    """Require agreement to within `relative` times the largest expected value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=relative * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (dict(num_classes=1000), 11_689_512),
        (dict(num_classes=10), 11_181_642),
        (dict(num_classes=10, head=two_layer_head), 11_699_522),
        (dict(num_classes=10, stem=cifar_stem), 11_173_962),
        (dict(num_classes=100, stem=cifar_stem), 11_220_132),
    ],
)
def test_parameter_counts(arguments, count):
    params, _ = jax.eval_shape(resnet18(**arguments).init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


def test_a_custom_stem_replaces_torchvisions():
    def patches(images, train, width, dtype):
        return Convolution(width, 4, 4, dtype=dtype, name="patches")(images)

    ours, standard = (
        jax.eval_shape(resnet18(10, width=4, **given).init, jax.random.key(0))[0] for given in (dict(stem=patches), {})
    )
    assert ours["patches"]["kernel"].shape == (4, 4, 3, 4)
    assert set(ours) - {"patches"} == set(standard) - {"conv1", "bn1"}


@pytest.mark.thorough
def test_initialization_is_torchvisions():
    params, state = resnet18(10, head=two_layer_head).init(jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, state)):
        name, size = jax.tree_util.keystr(path), leaf.size
        assert leaf.dtype == jnp.float32
        if leaf.ndim == 4:
            # Kaiming normal over the outputs; the mean square of n normal numbers is known to within sqrt(2 / n).
            variance = 2 / (leaf.shape[0] * leaf.shape[1] * leaf.shape[3])
            assert abs(np.mean(leaf**2) / variance - 1) < 5 * math.sqrt(2 / size), name
            assert abs(np.mean(leaf)) < 5 * math.sqrt(variance / size), name
        elif "fc" in name or "head" in name:
            limit = 1 / math.sqrt(512 if "fc" in name else 1000)
            assert np.abs(leaf).max() <= limit, name
            assert abs(np.mean(leaf**2) / (limit**2 / 3) - 1) < 5 / math.sqrt(size), name
        else:
            value = 1.0 if name.endswith(("'scale']", "'var']")) else 0.0
            np.testing.assert_array_equal(leaf, value, name)
    other, _ = resnet18(10, head=two_layer_head).init(jax.random.key(1))
    assert np.mean(other["conv1"]["kernel"] == params["conv1"]["kernel"]) < 0.01


def test_draws_do_not_overlap_and_lanes_of_keys_equal_single_keys():
    shapes = dict(a=((3, 4), normal(2.0)), b=((5,), uniform(3.0)), c=((2,), constant(7.0)), d=((12,), normal(2.0)))

    def init():
        return {name: one(None, shape, jnp.float32) for name, (shape, one) in shapes.items()}

    keys = jax.random.split(jax.random.key(0), 3)
    lanes = jax.vmap(lambda key: fill(init, key))(keys)
    one = fill(init, keys[1])
    for name in shapes:
        np.testing.assert_array_equal(lanes[name][1], one[name])
    assert not np.isin(one["a"], one["d"]).any()
    np.testing.assert_array_equal(one["c"], 7.0)


def test_batch_norm_is_the_formula_with_the_unbiased_variance_kept():
    x = np.asarray(jax.random.normal(jax.random.key(0), (4, 3, 2, 5), jnp.float64)) * 3 + 1
    scale, bias, mean, var = np.random.default_rng(0).uniform(0.5, 2, (4, 5))
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
    apply = jax.jit(lambda train: BatchNorm(dtype=jnp.float64).apply(variables, x, train, mutable=["batch_stats"]))
    rows = x.reshape(-1, 5)
    expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * scale + bias
    running = {"mean": 0.9 * mean + 0.1 * rows.mean(0), "var": 0.9 * var + 0.1 * rows.var(0, ddof=1)}
    static = [
        BatchNorm(dtype=jnp.float64).apply(variables, x, train, mutable=["batch_stats"]) for train in (True, False)
    ]
    for y, changed in (apply(True), static[0]):
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        for name, value in running.items():
            np.testing.assert_allclose(changed["batch_stats"][name], value, rtol=1e-12)
    for y, changed in (apply(False), static[1]):
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5) * scale + bias, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(changed["batch_stats"]["mean"], mean)
        np.testing.assert_array_equal(changed["batch_stats"]["var"], var)


def plain_batch_norm(x, scale, bias, mean, var, train):
    rows = x.reshape(-1, x.shape[-1])
    mean, var = jnp.where(train, rows.mean(0), mean), jnp.where(train, rows.var(0), var)
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def lane_of_batch_norm(train):
    """Return the layer as a function of all that it can be differentiated by, and its arguments in float64."""

    def apply(x, scale, bias, mean, var):
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
        return BatchNorm(dtype=jnp.float64).apply(variables, x, train, mutable=["batch_stats"])[0]

    rng = np.random.default_rng(0)
    return apply, (rng.normal(size=(4, 3, 2, 5)) * 3 + 1, *rng.uniform(0.5, 2, (4, 5)))


def close(found, expected, tolerance=1e-11):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("train", [True, np.True_, np.False_])
def test_batch_norm_has_the_derivatives_of_its_formula(train):
    apply, arguments = lane_of_batch_norm(train)
    expected = partial(plain_batch_norm, train=train)
    weights = np.random.default_rng(1).normal(size=(4, 3, 2, 5))
    every = tuple(range(5))

    def losses(fn):
        return lambda *arguments: jnp.sum(weights * jnp.sin(fn(*arguments)))

    ours, theirs = (jax.grad(losses(fn), every) for fn in (apply, expected))
    close(jax.jit(ours)(*arguments), theirs(*arguments))
    directions = tuple(np.cos(each) for each in arguments)
    close(*(jax.jvp(fn, arguments, directions) for fn in (apply, expected)))
    close(*(jax.jvp(fn, arguments, directions)[1] for fn in (ours, theirs)), tolerance=1e-9)
    lanes = tuple(np.stack([each, 2 * each]) for each in arguments)
    close(jax.vmap(ours)(*lanes), jax.vmap(theirs)(*lanes))


def test_sums_of_batch_norm_on_a_gpu_are_the_same(monkeypatch):
    """There moments take one pass, and short maps of few channels are summed as matrices with more columns."""
    apply, arguments = lane_of_batch_norm(True)
    gradient = jax.grad(lambda *arguments: jnp.sum(jnp.sin(apply(*arguments))), tuple(range(5)))
    expected = apply(*arguments), gradient(*arguments)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, cpu, default: default(*given))
    close((apply(*arguments), gradient(*arguments)), expected)
    monkeypatch.setattr(normalization, "LEAST", 1)
    monkeypatch.setattr(normalization, "WIDE", 20)
    assert normalization._folded((4, 3, 2, 5)) == (6, 4, 5)
    close((apply(*arguments), gradient(*arguments)), expected)


def test_one_pass_over_values_far_from_zero_keeps_their_variance(monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, cpu, default: default(*given))
    x = np.random.default_rng(0).normal(1e4, 1, (4096, 3)).astype(np.float32)
    mean, var = normalization._moments(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-3)  # E[x^2] - E[x]^2 loses all digits


@pytest.mark.parametrize("size", some_of([1, 4, 7], [4]))
def test_max_pool_and_where_its_gradient_goes(size):
    # Few values, so that windows hold equal ones: the first in reading order takes the gradient, as in PyTorch.
    x = np.random.default_rng(size).integers(0, 3, (2, size, size + 1, 2)).astype(np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    y, vjp = jax.vjp(max_pool, x)
    g = np.random.default_rng(0).normal(size=y.shape)
    expected, gradient = np.zeros(y.shape), np.zeros(padded.shape)
    for n, i, j, c in np.ndindex(*y.shape):
        window = padded[n, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, c]
        row, column = np.unravel_index(np.argmax(window), window.shape)  # the first of equal values
        expected[n, i, j, c] = window[row, column]
        gradient[n, 2 * i + row, 2 * j + column, c] += g[n, i, j, c]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(vjp(g)[0], gradient[:, 1:-1, 1:-1], rtol=1e-14)
    assert y.shape[1:3] == ((size + 1) // 2, (size + 2) // 2)
    assert np.isnan(max_pool(jnp.asarray(x).at[0, 0, 0, 0].set(jnp.nan))[0, 0, 0, 0])


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "stem"), [("float64", "imagenet"), ("float32", "cifar")])
def test_a_step_equals_pytorchs(dtype, stem, tmp_path):
    torch = pytest.importorskip("torch")
    twin = torch_twin(stem, "linear").to(getattr(torch, dtype))
    torch.save(twin.state_dict(), tmp_path / "twin.pth")
    model = resnet18(10, stem=STEMS[stem], width=WIDTH, dtype=dtype)
    params, state = load_torchvision(tmp_path / "twin.pth", *model.init(jax.random.key(0)))
    x, labels = images(dtype), np.arange(6) % 10

    def loss(params, train):
        logits, moved = model.apply(params, state, x, train=train)
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(6), labels]), (logits, moved)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    tight = 1e-10 if dtype == "float64" else 1e-5
    turned = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    (_, (logits, unmoved)), _ = step(params, False)
    twin.eval()
    assert_near(logits, twin(turned).detach(), tight)
    chex.assert_trees_all_equal(unmoved, state)
    (value, (logits, moved)), gradient = step(params, True)
    twin.train()
    outputs = twin(turned)
    theirs = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels))
    theirs.backward()
    assert_near(logits, outputs.detach(), 10 * tight)
    assert_near(value, theirs.detach(), 10 * tight)
    # Their gradients and new statistics, brought into our order by the loader.
    torch.save(
        {name: value.grad for name, value in twin.named_parameters()} | dict(twin.named_buffers()), tmp_path / "g.pth"
    )
    their_gradient, their_state = load_torchvision(tmp_path / "g.pth", params, state)
    # In float32 rounding moves single pixels across the kinks of the ReLUs, so norms of whole arrays are compared:
    # PyTorch's own float32 is as far from its float64.
    loose = 1e-9 if dtype == "float64" else 3e-2
    for ours, expected, relative in ((gradient, their_gradient, loose), (moved, their_state, 10 * tight)):
        for (path, one), other in zip(
            jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True
        ):
            name = jax.tree_util.keystr(path)
            if relative == loose:
                assert np.linalg.norm(one - other) < loose * np.linalg.norm(other), name
            else:
                assert_near(one, other, relative, name)


@pytest.mark.oracle
def test_both_files_of_weights_give_the_source_head_the_same_network(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    twin = torch_twin("imagenet", "source").eval()
    torch.save(twin.state_dict(), tmp_path / "twin.pth")
    save_file(twin.state_dict(), tmp_path / "twin.safetensors")
    model = resnet18(10, head=two_layer_head, width=WIDTH)
    fresh = model.init(jax.random.key(0))
    loaded = [load_torchvision(tmp_path / name, *fresh) for name in ("twin.pth", "twin.safetensors")]
    chex.assert_trees_all_equal(*loaded)
    params, state = loaded[0]
    np.testing.assert_array_equal(params["head"]["kernel"], fresh[0]["head"]["kernel"])
    x = images(jnp.float32)
    with torch.no_grad():
        middle = twin(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits, _ = jax.jit(model.apply)(params, state, x)
    assert_near(logits, middle @ params["head"]["kernel"] + params["head"]["bias"], 1e-5)


def test_a_file_of_weights_that_does_not_fit_raises_an_error_of_one_line(tmp_path):
    from safetensors.numpy import save_file

    shapes = jax.eval_shape(resnet18(3, width=4).init, jax.random.key(0))
    params, state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, state)):
        parts = [key.key for key in path[1:]]
        name = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
        module = (
            ".".join(parts[:-1]).replace("_conv", ".0").replace("_bn", ".1").replace("_0", ".0").replace("_1", ".1")
        )
        arrays[f"{module}.{name.get(parts[-1], parts[-1])}"] = np.ascontiguousarray(
            leaf.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, (0,)))
        )
    assert "layer2.0.downsample.0.weight" in arrays
    good = tmp_path / "good.safetensors"
    save_file(arrays, good)
    load_torchvision(good, params, state)
    bent = arrays | {"fc.weight": np.zeros((4, 32), np.float32)}
    for name, content, answer in (
        (
            "short",
            {k: v for k, v in arrays.items() if k != "fc.bias"},
            "short.safetensors: expected .*got fc.bias missing",
        ),
        ("long", arrays | {"fc2.bias": arrays["fc.bias"]}, "long.safetensors: expected .*got fc2.bias unknown"),
        ("bent", bent, r"expected fc.weight of shape \(32, 3\) in JAX's axis order, got \(32, 4\)"),
    ):
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match=answer) as caught:
            load_torchvision(tmp_path / f"{name}.safetensors", params, state)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"expected a file of weights, got .*none\.pth"):
        load_torchvision(tmp_path / "none.pth", params, state)
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a \.pth or \.safetensors file, got w\.npz"):
        load_torchvision(tmp_path / "w.npz", params, state)


@pytest.mark.thorough
def test_bfloat16_is_for_computation_and_float32_for_storage():
    model = resnet18(10, width=4, dtype=jnp.bfloat16)
    params, state = model.init(jax.random.key(0))
    x = images(jnp.float32, 4)
    apply = jax.jit(lambda train: model.apply(params, state, x, train=train))
    logits, moved = apply(True)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state, moved, logits))} == {jnp.dtype(jnp.float32)}
    wide, _ = jax.jit(lambda: resnet18(10, width=4).apply(params, state, x, train=False))()
    assert 0 < np.abs(apply(False)[0] - wide).max() < 0.1 * np.abs(wide).max()


def test_bad_input_raises_an_error_of_one_line():
    model = resnet18(10, width=4)
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    for call, answer in (
        (lambda: resnet18(0), "num_classes: expected an integer of at least 1, got 0"),
        (lambda: resnet18(10, stem="cifar"), "stem: expected a function, got 'cifar'"),
        (lambda: resnet18(10, head="linear"), "head: expected a function, got 'linear'"),
        (lambda: STEMS["vgg"], "no stem named 'vgg'; known: imagenet, cifar"),
        (lambda: HEADS["none"], "no head named 'none'; known: linear, source"),
        (lambda: resnet18(10, dtype=jnp.int32), "dtype: expected a floating-point type, got int32"),
        (
            lambda: model.apply(params, state, np.zeros((2, 32, 32, 1), np.float32)),
            r"inputs: expected floating-point images \(batch, height, width, 3\), got .* of shape \(2, 32, 32, 1\)",
        ),
        (
            lambda: BatchNorm().init(jax.random.key(0), np.zeros((1, 3), np.float32), True),
            r"batch normalization: expected at least 2 values per channel, got shape \(1, 3\)",
        ),
    ):
        with pytest.raises((TypeError, ValueError, KeyError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
