"""Wrong arguments of the networks: one line that names the argument, before anything is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import data, models

KEY = jax.random.key(0)
PIXELS = np.zeros((2, 8, 8, 3), np.float32)
WRONG_SIZES = (0, -1, 1.5, "10", None, True, [3], 2**31)
WRONG_DTYPES = ("x", None, 3, jnp.int32, jnp.complex64, jnp.float8_e4m3fn, {}, np.ones(3))
WRONG_SHAPES = (8, "abc", None, (8, 0), (8, "a"), {8: 8}, (1.5,))


def refusal(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_named(name, call):
    said = refusal(call)
    assert said.startswith(f"{name}: expected "), said
    assert ", got " in said


@pytest.mark.parametrize(
    ("build", "sizes", "shapes"),
    [
        (models.mlp, ("num_classes",), ("input_shape", "hidden")),
        (models.resnet18, ("num_classes", "width", "channels"), ()),
        (models.vgg16, ("num_classes", "width", "channels"), ()),
        (models.wide_resnet, ("num_classes", "width", "channels", "depth", "widen"), ()),
        (models.vae, ("latent",), ("input_shape", "hidden")),
        (models.lstm, ("vocabulary", "batch_size", "width", "layers"), ()),
        (models.capsnet, ("num_classes", "width", "kernel", "routing"), ("image_shape", "decoder")),
    ],
)
def test_a_wrong_size_of_a_network_is_named(build, sizes, shapes):
    right = {
        models.mlp: {"input_shape": (8,), "num_classes": 3},
        models.lstm: {"vocabulary": 5, "batch_size": 2},
    }.get(build, {"num_classes": 3} if "num_classes" in sizes else {})
    build(**right)
    for names, values in ((sizes, WRONG_SIZES), (shapes, WRONG_SHAPES), (("dtype",), WRONG_DTYPES)):
        for name in names:
            for value in values:
                assert_named(name, lambda name=name, value=value: build(**(right | {name: value})))


def network(name):
    """Return a small network with the shapes of its parameters and state, and inputs."""
    made, inputs = {
        "mlp": lambda: (models.mlp((8, 8, 3), 2, hidden=(2,)), PIXELS),
        "resnet18": lambda: (models.resnet18(2, width=1, stem=models.cifar_stem), PIXELS),
        "vae": lambda: (models.vae((8, 8, 3), hidden=(2,)), PIXELS),
        "lstm": lambda: (models.lstm(5, batch_size=2, width=3), np.zeros((2, 4), np.int32)),
        "capsnet": lambda: (
            models.capsnet(2, image_shape=(8, 8, 3), width=2, capsules=1, kernel=2, decoder=(2,)),
            models.CapsuleInputs(PIXELS, np.zeros(2, np.int32)),
        ),
    }[name]()
    return made, *jax.eval_shape(made.init, KEY), inputs


@pytest.mark.parametrize("name", ["mlp", "resnet18", "vae", "lstm", "capsnet"])
def test_a_wrong_argument_of_init_and_apply_is_named(name):
    model, params, state, inputs = network(name)
    strange = (None, 3, [1.0], np.zeros((3, 3)))

    def apply(params=params, state=state, inputs=inputs, **settings):
        return jax.eval_shape(lambda: model.apply(*jax.tree.map(arrays, (params, state)), inputs, **settings))

    def arrays(leaf):
        return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf

    apply()
    for value in strange:
        assert_named("key", lambda value=value: model.init(value))
        assert_named("params", lambda value=value: apply(params=value))
        assert_named("inputs", lambda value=value: apply(inputs=value))
        if value is not None:
            assert_named("train", lambda value=value: apply(train=value))
            assert_named("key", lambda value=value: apply(key=value))
    first = next(iter(params))
    for wrong, answer in (
        ({}, f"params: expected the arrays that init(key) returns, got those without ['{min(params)}']"),
        ({name: leaf for name, leaf in params.items() if name != first}, f"got those without ['{first}']"),
        (jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((7, *leaf.shape), leaf.dtype), params), "of shape "),
        (jax.tree.map(lambda leaf: "x", params), ", as init(key) returns it, got 'x'"),
    ):
        said = refusal(lambda wrong=wrong: apply(params=wrong))
        assert said.startswith("params: expected ")
        assert answer in said


@pytest.mark.parametrize("name", ["mlp", "resnet18", "vae", "lstm", "capsnet"])
def test_networks_need_no_promotion_of_ranks_and_dtypes(name):
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        model, params, state, inputs = network(name)

        def total(params, state, key):
            outputs, _ = model.apply(params, state, inputs, train=True, key=key)
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(outputs))

        jax.eval_shape(jax.grad(total), params, state, KEY)
        if name == "mlp":
            images = jnp.zeros((2, 8, 8, 3), jnp.uint8)
            jax.eval_shape(lambda key: data.normalize(data.crop_and_flip(key, images), (0.5,) * 3, (0.5,) * 3), KEY)


def test_a_state_without_statistics_or_memory_is_named():
    model, params, _, inputs = network("resnet18")
    assert_named("state", lambda: jax.eval_shape(model.apply, params, {}, inputs))
    model, params, memory, inputs = network("lstm")
    for wrong in ({}, None, (memory.hidden, memory.cell), models.Memory(memory.hidden, None)):
        assert_named("state", lambda wrong=wrong: jax.eval_shape(model.apply, params, wrong, inputs))
    narrow = jax.ShapeDtypeStruct((2, 2, 5), jnp.float32)
    said = refusal(lambda: jax.eval_shape(model.apply, params, models.Memory(narrow, narrow), inputs))
    assert said.startswith("state: expected hidden of shape (2, batch, 3), got an array of shape (2, 2, 5)")


def test_capsules_need_images_and_labels():
    model, params, state, inputs = network("capsnet")
    for labels in (None, 3, np.zeros(2), np.zeros(3, int), np.zeros((2, 2), int)):
        wrong = models.CapsuleInputs(inputs.images, labels)
        assert "integer labels of shape (2,)" in refusal(lambda wrong=wrong: model.apply(params, state, wrong))
    for name, value in (("learn_weights", 1), ("image_shape", (8, 8)), ("image_shape", (3, 28, 1))):
        assert_named(name, lambda name=name, value=value: models.capsnet(**{name: value}))


@pytest.mark.parametrize("part", ["stem", "head"])
def test_a_stem_or_head_of_ones_own_is_checked_when_it_is_traced(part):
    for function in (lambda *_: 3, lambda: 3, lambda x, *_: x[0]):
        model = models.resnet18(2, width=1, **{part: function})
        assert_named(part, lambda model=model: jax.eval_shape(model.init, KEY))
    model = models.resnet18(2, width=1, head=lambda x, *_: x[:, :1])
    assert "returns logits (batch, 2), got an array of shape (1, 1)" in refusal(lambda: jax.eval_shape(model.init, KEY))
    for value in (None, "cifar", 3, ["a"]):
        assert_named(part, lambda value=value: models.resnet18(2, **{part: value}))


def test_the_parts_of_an_autoencoder_name_what_is_wrong():
    _, params, _, _ = network("vae")
    for call, name in ((models.vae_encode, "images"), (models.vae_decode, "latents")):
        for value in (None, 3, "x", [1.0], np.zeros(3), np.zeros((2, 5))):
            assert_named(name, lambda call=call, value=value: call(params, value))
    for value in (None, 3, "x", {}, [params], {"encoder_0": {"kernel": 3}}):
        assert_named("params", lambda value=value: models.vae_encode(value, PIXELS))
        assert_named("params", lambda value=value: models.vae_decode(value, np.zeros((2, 2))))
