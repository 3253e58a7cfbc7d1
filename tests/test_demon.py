"""The published numbers agree with what the benchmark's article says in words."""

import pytest

from gdlab.comparison.published import DEMON_BENCHMARK, Published, published

ADAPTIVE = ("adam", "amsgrad", "adamw", "qhadam", "yellowfin", "demon_adam")
OTHERS = ("momentum", "aggmo", "qhm", "demon_sgdm")


def columns():
    for task, benchmark in DEMON_BENCHMARK.items():
        for place, epochs in enumerate(benchmark.epochs):
            yield task, epochs, {name: row[place] for name, row in benchmark.rows.items()}


def test_demon_adam_is_the_best_adaptive_method_everywhere():
    seen = 0
    for task, epochs, column in columns():
        adaptive = {name: one.mean for name, one in column.items() if name in ADAPTIVE}
        assert min(adaptive, key=adaptive.get) == "demon_adam", (task, epochs)
        seen += 1
    assert seen == 4 + 3 + 3 + 2 + 2 + 3


def test_what_is_missing_is_what_the_article_left_out():
    for task, benchmark in DEMON_BENCHMARK.items():
        lacking = {"mnist_vae": {"adamw"}, "fashion_mnist_capsnet": set(OTHERS)}.get(task, set())
        assert set(benchmark.rows) == {*ADAPTIVE, *OTHERS} - lacking, task
        assert all(len(row) == len(benchmark.epochs) for row in benchmark.rows.values())


def test_numbers_fit_their_unit_and_more_epochs_help_momentum():
    for task, epochs, column in columns():
        for name, one in column.items():
            assert 0 < one.sd < 7, (task, epochs, name)
            if DEMON_BENCHMARK[task].unit == "error %":
                assert 5 < one.mean < 90
    for task in DEMON_BENCHMARK:
        for name in set(OTHERS) & set(DEMON_BENCHMARK[task].rows):
            means = [one.mean for one in DEMON_BENCHMARK[task].rows[name]]
            assert means == sorted(means, reverse=True), (task, name)


def test_lookup():
    assert published("cifar10_resnet18", "demon_sgdm", 30) == Published(10.39, 0.39)
    assert published("mnist_vae", "yellowfin", 200) == Published(286.69, 6.68)
    assert published("ptb_lstm", "momentum", 39) == Published(87.57, 0.11)
    for nothing in (("cifar10_resnet18", "adam", 31), ("mnist_vae", "adamw", 50), ("digits_mlp", "adam", 50)):
        assert published(*nothing) is None
    with pytest.raises(KeyError, match="nearest: mnist_vae"):
        DEMON_BENCHMARK["mnist_vea"]
