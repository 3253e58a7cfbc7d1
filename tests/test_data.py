import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import data

SHARED = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
needs_data = pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no prepared MNIST in $GDLAB_DATA_DIR")


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GDLAB_DATA_DIR", raising=False)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    assert digits.train.images.shape == (1500, 8, 8, 1)
    assert digits.test.images.shape == (297, 8, 8, 1)
    both = np.concatenate([digits.train.images, digits.test.images])[..., 0]
    source = load_digits()
    as_rows = np.round(both / 255 * 16).reshape(-1, 64)
    np.testing.assert_array_equal(np.sort(as_rows, axis=0), np.sort(source.data, axis=0))
    assert np.unique(np.concatenate([digits.train.labels, digits.test.labels])).tolist() == list(range(10))


@needs_data
def test_a_prepared_folder_is_read_cached_and_distrusted(tmp_path, monkeypatch):
    place = tmp_path / "place"
    shutil.copytree(SHARED / "mnist", place / "mnist")
    mnist = data.load("mnist", place)
    assert mnist.train.images.shape == (60000, 28, 28, 1)
    # Digits 0 to 9 among the 10,000 of the original test part, as the literature counts them.
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.provenance["encoding"] == "PNG"
    (cached,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr("gdlab.data.loading._decode", lambda *_: pytest.fail("the cache must do"))
    again = data.load("mnist", place)
    np.testing.assert_array_equal(again.train.images, mnist.train.images)
    assert again.classes == mnist.classes
    monkeypatch.undo()
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    os.truncate(cached, cached.stat().st_size // 2)
    (record,) = (place / "mnist").rglob("*test.array_record*")
    record.chmod(0o644)
    os.truncate(record, record.stat().st_size // 2)
    with pytest.raises(data.DataError, match=r"mnist: .* is damaged"):
        data.load("mnist", place)
    record.unlink()
    with pytest.raises(data.DataError, match=r"looked in .*not 1 array_record file.*tensorflow_datasets \(no mnist"):
        data.load("mnist", place)
    (info,) = (place / "mnist").rglob("dataset_info.json")
    info.write_text(json.dumps({"splits": []}))
    with pytest.raises(data.DataError, match="without the split train"):
        data.load("mnist", place)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(KeyError, match="cifar10"):
        data.load("cifar_10")


def test_crops_are_shifted_images_and_half_are_mirrored():
    image = np.arange(1, 1 + 6 * 6 * 2, dtype=np.uint8).reshape(6, 6, 2)
    batch = jnp.broadcast_to(image, (2000, 6, 6, 2))
    found = np.asarray(jax.jit(data.crop_and_flip)(jax.random.key(0), batch))
    crops = {}
    for mirrored in (False, True):
        padded = np.pad(image[:, ::-1] if mirrored else image, ((4, 4), (4, 4), (0, 0)))
        for y in range(9):
            for x in range(9):
                crops[padded[y : y + 6, x : x + 6].tobytes()] = (mirrored, y, x)
    seen = [crops[one.tobytes()] for one in found]
    assert len(set(seen)) == 2 * 81
    assert abs(np.mean([mirrored for mirrored, _, _ in seen]) - 0.5) < 4 * 0.5 / np.sqrt(2000)
    again = data.crop_and_flip(jax.random.key(0), batch)
    np.testing.assert_array_equal(again, found)


def test_normalize():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    mean, std = (0.5, 0.25, 0.125), (0.2, 0.3, 0.4)
    np.testing.assert_allclose(data.normalize(images, mean, std), (images / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="wanted 3 numbers each"):
        data.normalize(images, (0.5,), (0.5,))


def test_bad_input_is_answered_in_one_line():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    thirds = (0.5, 0.5, 0.5)
    for call, answer in (
        (lambda: data.load("mnist", 5), "data_dir: wanted a path, got 5"),
        (
            lambda: data.crop_and_flip(jax.random.key(0), images[0]),
            r"wanted uint8 .* got an array of shape \(8, 8, 3\)",
        ),
        (lambda: data.crop_and_flip(jax.random.key(0), images, padding=-1), "padding: wanted an integer of at least 0"),
        (lambda: data.normalize(images / 255, thirds, thirds), "images: wanted uint8 .* dtype float64"),
        (lambda: data.normalize(images, 0.5, thirds), r"wanted 3 numbers each, .* got shapes \(\) and \(3,\)"),
        (lambda: data.normalize(images, thirds, (0.5, 0.0, 0.5)), r"std: wanted a number in \(0, inf\), got 0"),
        (lambda: data.normalize(images, thirds, thirds, jnp.int32), "dtype: wanted a floating-point type, got int32"),
    ):
        with pytest.raises((TypeError, ValueError), match=answer) as caught:
            call()
        assert "\n" not in str(caught.value)
