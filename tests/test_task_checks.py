"""What is wrong with a task, a label or an optimizer is said in one line before anything is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import losses, models, optimizers, tasks
from gdlab.data import Dataset, Split
from gdlab.tasks import Task, classify, require_task
from gdlab.training import compilation, train, train_many

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)


def errors(params, batch):
    return (batch[0] @ params - batch[1]) ** 2


def least_squares(metric=lambda found: found, **fields):
    """Make a least-squares task with batches of 8, whose metric "loss" is `metric(errors)`."""

    def loss(params, state, batch, key):
        found = errors(params, batch)
        return found.mean(), (state, {"loss": metric(found)})

    settings = dict(
        init=lambda key: (jnp.zeros(3, jnp.float32), {}),
        loss=loss,
        evaluate=lambda params, state, batch, key: (state, {"loss": metric(errors(params, batch))}),
        train=(X[:16], Y[:16]),
        test=(X[16:], Y[16:]),
        batch_size=8,
    )
    return Task(**(settings | fields))


def returning(value):
    return lambda *arguments: value


def fails(*arguments):
    raise KeyError("a\nb")


STATE = {"count": jnp.zeros((), jnp.int32)}


def counting(after):
    """Make a task whose state `loss` replaces by `after`."""

    def loss(params, state, batch, key):
        found = errors(params, batch)
        return found.mean(), (after, {"loss": found})

    return least_squares(init=lambda key: (jnp.zeros(3, jnp.float32), STATE), loss=loss)


def loss_returns(change):
    """Make a task whose loss is `change(loss)`."""

    def loss(params, state, batch, key):
        found = errors(params, batch)
        return change(found.mean()), (state, {"loss": found})

    return least_squares(loss=loss)


BAD_TASKS = {
    "a mean metric": (
        lambda: least_squares(jnp.mean),
        r'loss: expected metrics with one .* \(8,\), got "loss" of shape \(\)',
    ),
    "a column": (
        lambda: least_squares(lambda e: e[:, None]),
        r"one number per example, of shape \(8,\), got .* \(8, 1\)",
    ),
    "a row": (lambda: least_squares(lambda e: e[None]), r"one number per example, of shape \(8,\)"),
    "a complex metric": (lambda: least_squares(lambda e: e + 1j), 'real numbers, got "loss" of dtype complex64'),
    "a text": (lambda: least_squares(lambda e: "x"), "task.loss: expected a function that JAX can trace"),
    "no mapping": (
        lambda: least_squares(loss=lambda p, s, b, k: (errors(p, b).mean(), (s, errors(p, b)))),
        "task.loss: expected metrics as a mapping",
    ),
    "a reserved name": (
        lambda: least_squares(loss=lambda p, s, b, k: (errors(p, b).mean(), (s, {"gradient_norm": errors(p, b)}))),
        "names other than gradient_norm",
    ),
    "a vector as loss": (
        lambda: loss_returns(lambda v: jnp.stack([v, v])),
        r"a loss of shape \(\), .* got shape \(2,\)",
    ),
    "a complex loss": (lambda: loss_returns(lambda v: v + 0j), "a loss of real floating-point dtype, got complex64"),
    "an integer loss": (lambda: loss_returns(lambda v: v.astype(int)), "a loss of real floating-point dtype, got int"),
    "a loss alone": (lambda: least_squares(loss=lambda p, s, b, k: errors(p, b).mean()), r"returns \(loss, \(state"),
    "three values": (lambda: least_squares(evaluate=returning(({}, {}, 1))), r"task.evaluate: .* got 3 values"),
    "another tree": (lambda: counting({"n": STATE["count"]}), "task.loss: expected the state to keep its tree, .*'n'"),
    "another shape": (
        lambda: counting({"count": jnp.zeros(2, int)}),
        r"got shape \(2,\) in place of \(\) at \['count'\]",
    ),
    "another dtype": (lambda: counting({"count": jnp.zeros(())}), "got dtype float.* in place of int32"),
    "after_epoch": (lambda: least_squares(after_epoch=returning(3.0)), "task.after_epoch: expected the state to keep"),
    "integer params": (lambda: least_squares(init=returning(({"n": 1}, {}))), r"got int.* at \['n'\]; what is not"),
    "no params": (lambda: least_squares(init=returning(({}, {}))), "params with an array to train, got none"),
    "params alone": (
        lambda: least_squares(init=lambda key: {"w": jnp.zeros(3)}),
        r"returns \(params, state\), got a dict",
    ),
    "an error": (lambda: least_squares(init=fails), "task.init: expected a function that JAX can trace .* KeyError"),
    "too few arguments": (lambda: least_squares(evaluate=lambda p: p), "task.evaluate: expected a function that JAX"),
    "text as data": (lambda: least_squares(train=np.array(["a"] * 16)), "train: expected arrays of numbers, got"),
    "a list as data": (lambda: least_squares(test=[1.0, 2.0]), "test: expected arrays of numbers, got 1.0"),
    "shuffled": (lambda: least_squares(shuffled=1), "shuffled: expected True or False, got 1"),
    "name": (lambda: least_squares(name=3), "name: expected text, got 3"),
    "description": (lambda: least_squares(description=3), "description: expected a mapping"),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_a_task_that_does_not_fit_together_is_refused(case):
    make, answer = BAD_TASKS[case]
    for use in (
        lambda task: require_task("task", task),
        lambda task: train(task, optimizers.sgd(0.1), epochs=1, progress=False),
        lambda task: train_many(task, optimizers.sgd, {"learning_rate": [0.1]}, seeds=1, epochs=1, progress=False),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            use(make())
        assert "\n" not in str(caught.value)


def test_a_sound_task_is_checked_again_only_if_it_has_changed():
    scale = [lambda found: found]
    task = least_squares(lambda found: scale[0](found))
    assert require_task("task", task) == ("loss",)
    scale[0] = jnp.mean
    with pytest.raises(ValueError, match="one number per example"):
        require_task("task", task)


class Raising:
    """An optimizer whose `init` or `update` does not do what is expected."""

    @staticmethod
    def update(change):
        return optax.GradientTransformation(lambda params: jnp.zeros(2), change)


BAD_OPTIMIZERS = {
    "lookahead": (optax.lookahead(optax.sgd(0.1), 2, 0.5), "optimizer: expected an optimizer whose update takes"),
    "init": (optax.GradientTransformation(fails, optax.sgd(0.1).update), "can be initialized .* KeyError"),
    "update": (Raising.update(fails), "optimizer: expected an optimizer whose update takes .* KeyError"),
    "one value": (Raising.update(lambda g, s, p=None: g), "optimizer: expected an optimizer whose update takes"),
    "state": (Raising.update(lambda g, s, p=None: (g, (s, s))), "whose state keeps its tree, shapes and dtypes, got"),
    "state shape": (Raising.update(lambda g, s, p=None: (g, s[:1])), r"got shape \(1,\) in place of \(2,\)"),
    "updates": (Raising.update(lambda g, s, p=None: (g[:2], s)), r"updates are shaped like params, got shape \(2,\)"),
}


@pytest.mark.parametrize("case", BAD_OPTIMIZERS)
def test_an_optimizer_that_cannot_be_used_is_named(case, monkeypatch):
    optimizer, answer = BAD_OPTIMIZERS[case]
    monkeypatch.setattr(compilation, "compile_run", lambda *_: pytest.fail("nothing is compiled"))
    with pytest.raises((TypeError, ValueError), match=answer) as caught:
        train(least_squares(), optimizer, epochs=1, progress=False)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("optimizer: ")


def test_functions_that_are_no_factories_and_numbers_that_are_none():
    task, numbers = least_squares(), {"learning_rate": 0.1}
    grid = {"learning_rate": [0.1]}
    for call, answer in (
        (
            lambda: train(task, lambda learning_rate: 5, hyperparameters=numbers, epochs=1),
            "optimizer: expected .* got 5",
        ),
        (lambda: train(task, fails, hyperparameters={}, epochs=1), "optimizer: expected a function .* KeyError"),
        (lambda: train(task, optimizers.adam, hyperparameters={"b1": float("inf")}, epochs=1), "'b1'.*finite"),
        (lambda: train(task, optimizers.adam, hyperparameters={"b1": 1e39}, epochs=1), "float32 can hold, got 1e"),
        (lambda: train(task, optimizers.adam, hyperparameters={3: 0.1}, epochs=1), "hyperparameters: expected text"),
        (
            lambda: train(task, optimizers.adam(), epochs=1, learning_rate=lambda s: "x"),
            "learning_rate: expected a num",
        ),
        (lambda: train(task, optimizers.adam(), epochs=1, learning_rate=fails), "learning_rate: expected a schedule"),
        (
            lambda: train_many(task, lambda learning_rate: None, grid, seeds=1, epochs=1),
            "factory: expected .* got None",
        ),
        (
            lambda: train_many(task, optimizers.adam, grid, seeds=None, epochs=1),
            "seeds: expected a number of .* got None",
        ),
        (
            lambda: train_many(task, optimizers.adam, grid, seeds=2.0, epochs=1),
            "seeds: expected a number of .* got 2.0",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)


def images(labels, classes=3, count=12):
    rng = np.random.default_rng(0)
    parts = [Split(rng.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8), np.asarray(labels)) for _ in range(2)]
    return Dataset("mine", *parts, tuple("abcdefgh"[:classes]), {})


@pytest.mark.parametrize(
    ("labels", "classes", "answer"),
    [
        (np.arange(12) % 3 + 1, 3, "train labels from 0 to 2, for the 3 classes, got 1 to 3"),
        (np.arange(12) % 3 - 1, 3, "train labels from 0 to 2, for the 3 classes, got -1 to 1"),
        (np.arange(12) % 5, 8, "train labels from 0 to 2, for the 3 outputs of the model, got 0 to 4"),
        (np.eye(12), 3, "train labels as a vector of integers, got an array of shape"),
        ((np.arange(12) % 3).astype(float), 3, "train labels as a vector of integers, got .*float64"),
        (np.arange(5) % 3, 3, "one label for each of the 12 train images, got labels of shape"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, classes, answer):
    with pytest.raises((TypeError, ValueError), match=f"dataset: expected {answer}") as caught:
        classify("mine", images(labels, classes), models.mlp((4, 4, 1), 3, hidden=()), mean=(0.5,), std=(0.5,))
    assert "\n" not in str(caught.value)


def test_a_label_that_is_no_class_never_counts_as_another():
    logits = jnp.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    expected = -np.log(np.exp([2.0, 3.0]) / np.exp(np.asarray(logits)).sum(axis=1))
    np.testing.assert_allclose(losses.cross_entropy(logits, jnp.array([1, 2])), expected, rtol=1e-6)
    for loss in (losses.cross_entropy, losses.margin_loss):
        for labels in ([1, -1], [1, 3]):
            with pytest.raises(ValueError, match="labels: expected classes from 0 to 2, got"):
                loss(logits, jnp.array(labels))
            found = jax.jit(loss)(logits, jnp.array(labels))
            assert np.isfinite(found[0])
            assert np.isnan(found[1])
    for call, answer in (
        (lambda: losses.cross_entropy(logits, jax.nn.one_hot(jnp.array([1, 2]), 3)), "labels: expected integers"),
        (
            lambda: losses.cross_entropy(logits, jnp.array([1])),
            r"labels: expected shape \(2,\), one .* logits, got \(1,\)",
        ),
        (lambda: losses.cross_entropy("x", jnp.array([1])), "logits: expected an array of numbers, got 'x'"),
        (
            lambda: losses.cross_entropy(jnp.ones((2, 3), int), jnp.array([1, 2])),
            "logits: expected real floating-point",
        ),
        (lambda: losses.is_hit(logits, None), "labels: expected an array of numbers, got None"),
        (lambda: losses.bernoulli_error(logits, logits), r"targets: expected pixels in \[0, 1\], got 0"),
        (
            lambda: losses.bernoulli_error(logits, jnp.ones(3)),
            r"targets: expected shape \(2, 3\), that of logits, got \(3,\)",
        ),
        (lambda: losses.gaussian_divergence(logits, 1.0), "log_variance: expected an array with at least one axis"),
        (lambda: losses.margin_loss(logits, jnp.array([1, 2]), positive="x"), "positive: expected a number, got 'x'"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer):
            call()


def test_settings_that_a_task_does_not_have_are_listed():
    for name, call in (
        ("nonsense", lambda: tasks.digits_mlp(nonsense=3)),
        ("dataset", lambda: tasks.digits_mlp(dataset="mnist")),
        ("mean", lambda: tasks.cifar10_resnet18(mean=(0.5,) * 3)),
        ("width", lambda: tasks.mnist_vae(width=3)),
        ("hiden", lambda: tasks.fashion_mnist_capsnet(hiden=3)),
        ("widht", lambda: tasks.cifar100_vgg16(widht=3)),
        ("widht", lambda: tasks.stl10_wrn16_8(widht=3)),
    ):
        with pytest.raises(TypeError, match=rf"^{name}: expected an argument of \w+ \(.*batch_size.*\), got '{name}'"):
            call()
    for answer, call in (
        ("hidden: expected the sizes", lambda: tasks.digits_mlp(hidden=5)),
        ("dtype: expected a floating-point type, got 'nonsense'", lambda: tasks.digits_mlp(dtype="nonsense")),
        ("protocol: expected a Protocol", lambda: tasks.digits_mlp(protocol="sound")),
        (
            "mean: expected numbers of shape",
            lambda: tasks.from_images("a", images([0] * 12), fails, fails, batch_size=4, mean=(1, 2)),
        ),
        (
            "std: expected a number in",
            lambda: tasks.from_images("a", images([0] * 12), fails, fails, batch_size=4, std=(0.0,)),
        ),
        ("dataset: expected a Dataset", lambda: tasks.from_images("a", 3, fails, fails)),
        ("model: expected a Model", lambda: classify("a", images([0] * 12), 3, mean=(0.5,), std=(0.5,))),
    ):
        with pytest.raises((TypeError, ValueError), match=answer):
            call()


def test_a_complex_parameter_moves_against_the_gradient():
    """|p - c|^2 with rate e multiplies p - c by 1 - 2e at each step, as torch.optim.SGD does."""
    target, rate = 1 + 2j, 0.05

    def distance(params, batch):
        return jnp.abs(params - target) ** 2 + 0 * batch[1]

    task = least_squares(
        init=lambda key: (jnp.zeros((), jnp.complex64), {}),
        loss=lambda p, s, b, k: (distance(p, b).mean(), (s, {"loss": distance(p, b)})),
        evaluate=lambda p, s, b, k: (s, {"loss": distance(p, b)}),
    )
    found = train(task, optax.sgd(rate), epochs=3, progress=False)
    np.testing.assert_allclose(found.params, target * (1 - (1 - 2 * rate) ** 6), rtol=1e-5)
    with pytest.raises(TypeError, match=r"optimizer: .* expected real leaves, got dtype complex64"):
        train(task, optimizers.sgd(rate), epochs=1, progress=False)


def test_programs_of_one_text_keep_their_own_containers():
    device, task = jax.devices()[0], least_squares()
    trees = []
    for optimizer in (
        optax.adam(0.1),
        optax.adamw(0.1, weight_decay=0.0),
    ):
        traced = compilation.trace_run(task.functions, lambda optimizer=optimizer: optimizer, (), task.data, device)
        learner = compilation.compile_run(traced).begin([], np.uint32(0))
        assert jax.tree.structure(learner) == jax.tree.structure(traced.like)
        trees.append(jax.tree.structure(learner))
    assert len(set(trees)) == 2


class Ridge:
    l2 = 0.0

    def loss(self, params, state, batch, key):
        found = errors(params, batch)
        return found.mean() + self.l2 * jnp.sum(params**2), (state, {"loss": found})


def test_an_object_that_has_changed_is_traced_again():
    ridge, table = Ridge(), {"l2": 0.0}

    def loss(params, state, batch, key):
        found = errors(params, batch)
        return found.mean() + table["l2"] * jnp.sum(params**2), (state, {"loss": found})

    def run(loss, rate=0.05):
        task = dataclasses.replace(least_squares(), loss=loss)
        one = train(task, optimizers.sgd, hyperparameters={"learning_rate": rate}, epochs=2, progress=False)
        return one.params

    plain = run(ridge.loss)
    np.testing.assert_array_equal(run(loss), plain)
    ridge.l2 = table["l2"] = 10.0
    shrunk = run(ridge.loss)
    np.testing.assert_array_equal(run(loss), shrunk)
    # With rate 0.05 the penalty multiplies w by 1 - 2 * 0.05 * 10 = 0 before each step, so it stays close to 0.
    assert np.abs(shrunk).sum() < 0.5 * np.abs(plain).sum()


def test_jaxs_strict_settings_leave_the_librarys_own_code_alone():
    optimizer = optimizers.adam(1e-2)
    plain = train(least_squares(), optimizer, epochs=1, progress=False)
    compilation.TRACED.clear()
    with jax.disable_jit(True), jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        strict = train(least_squares(), optimizer, epochs=1, progress=False)
        tasks.digits_mlp(hidden=(4,), train_size=32, test_size=16, batch_size=16)
    np.testing.assert_array_equal(strict.history["test_loss"], plain.history["test_loss"])
