"""Files made to do harm: they are refused in one line, before their content fills the memory or is run."""

import gzip
import io
import json
import os
import re
import shutil
import struct
import sys
import tarfile
import tracemalloc
import zlib

import numpy as np
import pytest

from gdlab import data
from tests.test_data import CIFAR10, cifar10_members, make_cifar10, make_mnist, pictures, tar

MOST_MEMORY = 32 << 20
"""What reading a hostile file may take: much more than any file of these tests, much less than they claim."""


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("GDLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GDLAB_DATA_DIR", raising=False)


def refusal(call):
    """Return the one line with which a call is refused; it must not take much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(data.DataError) as caught:
            call()
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


FOLDER = "cifar-10-batches-bin"


def entry(name, size, kind=tarfile.REGTYPE, content=b"", **fields):
    """Return a header that claims a size, and some content."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def extended(size, records):
    """Return an extended header with these records, which claims a size."""
    lines = b""
    for key, value in records.items():
        line = f" {key}={value}\n".encode()
        length = len(line) + 2 if len(line) < 98 else len(line) + 3
        lines += str(length).encode() + line
    return entry("pax", len(lines) if size is None else size, tarfile.XHDTYPE, lines)


MANY = b"".join(entry(f"{number}", 0) for number in range(1001))
SPARSE = {"GNU.sparse.major": 1, "GNU.sparse.minor": 0, "GNU.sparse.name": "x", "GNU.sparse.realsize": 1 << 40}
TARS = {
    "a batch of 4 GB": (entry(f"{FOLDER}/data_batch_1.bin", 1 << 32), "data_batch_1.bin' of 4294967296 bytes"),
    "a batch of 2 GB": (
        entry(f"{FOLDER}/data_batch_1.bin", 1 << 31),
        "expected at most 921900000 bytes.* got 2147483648",
    ),
    "names of 1 GB": (entry(f"{FOLDER}/batches.meta.txt", 1 << 30), "expected at most 65536 bytes"),
    "another member of 1 TB": (entry("other", 1 << 40), "expected at most 4294967296 bytes after decompression"),
    "a name of 4 GB": (entry("././@LongLink", 1 << 32, tarfile.GNUTYPE_LONGNAME), "expected a header of at most 65536"),
    "a long extended header": (extended(1 << 32, {}), "expected a header of at most 65536 bytes, got 4294967296"),
    "a global header": (entry("pax", 1 << 31, tarfile.XGLTYPE), "expected a header of at most 65536 bytes"),
    "a negative size": (extended(None, {"size": -5}) + entry("other", 0), "of -5 bytes"),
    "holes": (entry("sparse", 0, tarfile.GNUTYPE_SPARSE), "expected only ordinary members, got the sparse member"),
    "holes in a map": (extended(None, SPARSE) + entry("x", 512, content=b"1"), "got the sparse member"),
    "holes in a header": (
        extended(None, {"GNU.sparse.map": "0,1", "GNU.sparse.size": 1 << 40}) + entry("x", 1, content=b"1"),
        "got the sparse member",
    ),
    "many members": (MANY, "expected at most 1000 members"),
    "a path": (
        extended(None, {"path": "/evil"}) + entry("x", 0),
        "only paths inside the archive, got the member '/evil'",
    ),
    "a link for a member": (
        entry(f"{FOLDER}/batches.meta.txt", 0, tarfile.SYMTYPE, linkname="/etc/passwd"),
        "batches.meta.txt, got an archive without it",
    ),
    "headers in headers": (extended(None, {"a": "b"}) * 2000, "truncated or damaged"),
    "much padding": (bytes(1 << 22), "expected the end of the archive, got more than 1048576 bytes"),
}


@pytest.mark.parametrize("kind", TARS)
def test_an_archive_cannot_fill_the_memory(kind, tmp_path):
    content, answer = TARS[kind]
    path = tmp_path / "own.tar.gz"
    path.write_bytes(gzip.compress(content + bytes(1024)))
    said = refusal(lambda: data.archives.read_cifar10({"cifar-10-binary.tar.gz": path}))
    assert str(path) in said
    assert re.search(answer, said), said


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (struct.pack(">IIII", 2051, 2**31, 28, 28), "expected at most 300000 items at byte 4, got 2147483648"),
        (struct.pack(">IIII", 2051, 1, 28, 28), "expected 800 bytes for 1 items, got more than 800"),
        (struct.pack(">IIII", 2051, 50_000, 28, 28), "expected 39200016 bytes for 50000 items, got 33554448"),
        (b"", "expected the magic number 2051"),
    ],
)
def test_a_file_of_images_cannot_fill_the_memory(head, answer, tmp_path):
    files = {f"{part}-ubyte.gz": tmp_path / part for part in ("train-images-idx3", "train-labels-idx1")}
    files["train-images-idx3-ubyte.gz"].write_bytes(gzip.compress(head + bytes(1 << 25)))
    said = refusal(lambda: data.archives.read_mnist(files)) if "50000" not in answer else None
    if said is None:  # a size that a data set may have is read, and nothing more
        with pytest.raises(data.DataError) as caught:
            data.archives.read_mnist(files)
        said = str(caught.value)
    assert answer in said
    assert str(files["train-images-idx3-ubyte.gz"]) in said


def test_names_of_classes_are_utf_8_with_or_without_a_mark(tmp_path):
    train, test = pictures(0, 20, (32, 32, 3), 10), pictures(1, 12, (32, 32, 3), 10)
    names = "\n".join(CIFAR10).encode()
    for content, answer in ((b"\xef\xbb\xbf" + names, None), (names + b"\xff", f"got byte 0xff at byte {len(names)}")):
        members = cifar10_members(train, test) | {f"{FOLDER}/batches.meta.txt": content}
        files = {"cifar-10-binary.tar.gz": tar(tmp_path / "own.tar.gz", members)}
        if answer is None:
            assert data.archives.read_cifar10(files).classes["label"] == CIFAR10
        else:
            assert answer in refusal(lambda files=files: data.archives.read_cifar10(files))


# Prepared folders, whose notes and records are made by hand.


def image_example(picture, label):
    """Return a record of tensorflow-datasets with this picture, as bytes, and label."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(picture)
    example.features.feature["label"].int64_list.value.append(label)
    return example.SerializeToString()


def png(pixels, claimed=None):
    """Return a picture as PNG, whose header may claim another size."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    if claimed:
        head = b"IHDR" + struct.pack(">II", *claimed) + content[24:29]
        content = content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    return content


def write_records(path, records):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


TFDS = "tensorflow_datasets.core.features."
FEATURES = {
    "pythonClassName": f"{TFDS}features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "image": {"pythonClassName": f"{TFDS}image_feature.Image", "image": {"dtype": "uint8"}},
            "label": {
                "pythonClassName": f"{TFDS}class_label_feature.ClassLabel",
                "classLabel": {"numClasses": "10"},
            },
        }
    },
}
GRAY = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A prepared MNIST of three training images and two test images."""
    place = tmp_path / "place" / "mnist" / "3.0.1"
    place.mkdir(parents=True)
    splits = []
    for split, count in (("train", 3), ("test", 2)):
        write_records(shard(place, split), [image_example(png(GRAY), number) for number in range(count)])
        splits.append({"name": split, "shardLengths": [str(count)]})
    (place / "dataset_info.json").write_text(json.dumps({"name": "mnist", "splits": splits}))
    (place / "features.json").write_text(json.dumps(FEATURES))
    return place


def shard(place, split):
    return place / f"mnist-{split}.array_record-00000-of-00001"


def load(folder):
    return data.load("mnist", folder.parents[1])


def test_a_folder_made_by_hand_is_read(folder):
    found = load(folder)
    np.testing.assert_array_equal(found.train.images, np.broadcast_to(GRAY[..., None], (3, 28, 28, 1)))
    assert found.train.labels.tolist() == [0, 1, 2]
    assert found.classes == tuple("0123456789")
    # The format in which earlier versions of tensorflow-datasets wrote the features.
    kinds = {name: one["pythonClassName"] for name, one in FEATURES["featuresDict"]["features"].items()}
    content = {"image": {"shape": [28, 28, 1]}, "label": {"num_classes": 10}}
    older = {name: {"type": kind, "content": content[name]} for name, kind in kinds.items()}
    older = {"type": FEATURES["pythonClassName"], "content": older}
    (folder / "features.json").write_text(json.dumps(older))
    assert load(folder).classes == tuple("0123456789")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("change", [-1, 1, 10**15])
def test_another_number_of_records_than_the_note_says_is_an_error(split, change, folder):
    note = json.loads((folder / "dataset_info.json").read_text())
    (entry,) = [entry for entry in note["splits"] if entry["name"] == split]
    count = int(entry["shardLengths"][0])
    entry["shardLengths"] = [str(count + change)]
    (folder / "dataset_info.json").write_text(json.dumps(note))
    said = refusal(lambda: load(folder))
    name = shard(folder, split).name
    assert f"{name}: expected {count + change} records, as in dataset_info.json, got {count}; remove" in said


@pytest.mark.parametrize("where", ["root", "image", "label", "another"])
@pytest.mark.parametrize("key", ["pythonClassName", "type"])
def test_features_import_nothing(where, key, folder, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    features = json.loads(json.dumps(FEATURES))
    inner = features["featuresDict"]["features"]
    inner["another"] = {}
    entry = features if where == "root" else inner[where]
    entry.pop("pythonClassName", None)
    entry[key] = "evil_module.Feature"
    (folder / "features.json").write_text(json.dumps(features))
    said = refusal(lambda: load(folder))
    place = "features.json" if where == "root" else f"features.json: {where}"
    assert f"with a damaged {place}: expected the type " in said
    assert "got 'evil_module.Feature'" in said
    assert "evil_module" not in sys.modules


DEEP = b"[" * 100_000


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "sources.json"])
@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (DEEP, "expected JSON, got values nested too deep"),
        (b"", "expected JSON, got JSONDecodeError: Expecting value"),
        (b"{\xff}", "expected JSON, got UnicodeDecodeError"),
        (b"[1]", "expected a mapping, got a list"),
        (b"null", "expected a mapping, got None"),
        (b" " * (1 << 24) + b"{}", "expected at most 16777216 bytes, got more"),
        (None, "expected a file, got something else"),
    ],
)
def test_a_note_that_is_none_is_named(file, content, answer, folder):
    (folder / file).unlink(missing_ok=True)
    if content is None:
        (folder / file).mkdir()
    else:
        (folder / file).write_bytes(content)
    assert f"{file}: {answer}" in refusal(lambda: load(folder))


@pytest.mark.parametrize(
    ("file", "note", "answer"),
    [
        ("dataset_info.json", {}, "splits: expected a list, got None"),
        ("dataset_info.json", {"splits": {"train": 1}}, "splits: expected a list, got a dict"),
        ("dataset_info.json", {"splits": ["train"]}, "splits: expected mappings, got 'train'"),
        ("dataset_info.json", {"splits": [{"name": ["a"]}]}, "name of a split: expected text, got a list"),
        ("dataset_info.json", {"splits": [{"name": "train"}]}, "shardLengths of train: expected a list, got None"),
        *(
            (
                "dataset_info.json",
                {"splits": [{"name": "train", "shardLengths": [value]}]},
                "shardLengths of train: expected a count of at least 1, got ",
            )
            for value in (None, True, 0, -1, 1.5, "x", "-3", "9" * 5000, [3], {})
        ),
        ("dataset_info.json", {"splits": [{"name": "a\nb"}]}, "shardLengths of a b: expected a list, got None"),
        ("features.json", {"pythonClassName": 3}, "featuresDict: expected a mapping, got None"),
        ("features.json", FEATURES | {"featuresDict": {"features": []}}, "features: expected a mapping, got a list"),
        ("features.json", FEATURES | {"featuresDict": {"features": {}}}, "image: expected a mapping, got None"),
        ("features.json", FEATURES | {"pythonClassName": ["x"]}, "expected the type .* got a list"),
        ("sources.json", {"a.gz": 3}, "a.gz: expected a mapping, got 3"),
        ("sources.json", {"a.gz": {"sha256": 3}}, "sha256 of a.gz: expected text, got 3"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_file(file, note, answer, folder):
    (folder / file).write_text(json.dumps(note))
    assert re.search(f"{file}: {answer}", refusal(lambda: load(folder)))


@pytest.mark.parametrize("count", [None, "x", 0, 10**12])
def test_a_number_of_classes_is_a_number(count, folder):
    features = json.loads(json.dumps(FEATURES))
    features["featuresDict"]["features"]["label"]["classLabel"] = {"numClasses": count}
    (folder / "features.json").write_text(json.dumps(features))
    assert re.search("features.json: .*(number of classes|at most 10000 classes)", refusal(lambda: load(folder)))
    (folder / "features.json").write_text(json.dumps(FEATURES))
    (folder / "label.labels.txt").write_bytes(b"a\nb\n")
    assert "label.labels.txt: expected 10 names, as in features.json, got 2" in refusal(lambda: load(folder))
    (folder / "label.labels.txt").write_bytes(b"a\nb\xff\n")
    assert "label.labels.txt: expected UTF-8, got another byte at offset 3" in refusal(lambda: load(folder))


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        (lambda: image_example(png(GRAY, (30000, 30000)), 1), "DecompressionBombError: Image size"),
        (lambda: image_example(png(GRAY, (9000, 9000)), 1), "expected 28 x 28 pixels of kind L, got 9000 x 9000 of L"),
        (lambda: image_example(png(np.zeros((28, 28, 3), np.uint8)), 1), "got 28 x 28 of RGB"),
        (lambda: image_example(png(GRAY.astype(np.uint16)), 1), "got 28 x 28 of I;16"),
        (lambda: image_example(png(GRAY > 9), 1), "got 28 x 28 of 1"),
        (lambda: image_example(png(GRAY[:14]), 1), "expected 28 x 28 pixels of kind L, got 28 x 14 of L"),
        (lambda: image_example(png(GRAY)[:60], 1), "record 1: "),
        (lambda: image_example(b"GIF89a" + bytes(20), 1), "UnidentifiedImageError: cannot identify image file"),
        (lambda: image_example(png(GRAY), 10), "expected a label from 0 to 9, got 10"),
        (lambda: image_example(png(GRAY), -1), "expected a label from 0 to 9, got -1"),
        (lambda: image_example(png(GRAY), 2**40), "expected a label from 0 to 9, got 1099511627776"),
        (lambda: b"", "expected one image and one label, got 0 and 0"),
        (lambda: b"\xff\xff", "DecodeError: Error parsing message"),
    ],
)
def test_a_record_that_is_no_image_of_the_data_set_is_named(record, answer, folder):
    good = image_example(png(GRAY), 0)
    write_records(shard(folder, "train"), [good, record(), good])
    said = refusal(lambda: load(folder))
    assert f"{shard(folder, 'train').name}: record 1: " in said
    assert answer in said


def test_a_record_cannot_fill_the_memory(folder):
    path = shard(folder, "train")
    good = image_example(png(GRAY), 0)
    write_records(path, [good, image_example(bytes(1 << 26), 1), good])
    assert path.stat().st_size < 1 << 18
    said = refusal(lambda: load(folder))
    assert re.search(
        rf"{path.name}: expected records of at most 65536 bytes, got 671\d{{5}} bytes for 1 records at", said
    )


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_the_chunks_of_a_file_hold_its_records(group, tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    generator = np.random.default_rng(group)
    records = [generator.bytes(int(length)) for length in generator.integers(1, 3000, 500)]
    writer = ArrayRecordWriter(str(tmp_path / "records"), f"group_size:{group},uncompressed")
    for record in records:
        writer.write(record)
    writer.close()
    chunks = list(data.folders.read_chunks(tmp_path / "records"))
    found = [chunk for chunk in chunks if chunk.records and chunk.size][: -(-500 // group)]
    assert [chunk.records for chunk in found] == [len(records[low : low + group]) for low in range(0, 500, group)]
    sizes = [sum(map(len, records[low : low + group])) for low in range(0, 500, group)]
    assert [chunk.size for chunk in found] == sizes
    content = (tmp_path / "records").read_bytes()
    for wrong in (content[:-1], content + bytes(1), content[:70_000]):
        (tmp_path / "records").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"expected (a chunk of records|chunks that end) at byte"):
            list(data.folders.read_chunks(tmp_path / "records"))


def test_a_cache_is_believed_only_if_it_is_as_the_library_writes_it(folder, tmp_path):
    whole = load(folder)
    (cached,) = (tmp_path / "cache").iterdir()
    with np.load(cached) as archive:
        arrays = dict(archive)
    black = np.zeros_like(whole.train.images)
    for save, change in (
        (np.savez_compressed, {"train_images": black}),
        (np.savez, {"train_images": black[..., 0]}),
        (np.savez, {"train_images": black.astype(np.float32)}),
        (np.savez, {"test_labels": np.zeros(3, np.int32)}),
        (np.savez, {"test_labels": np.array([0, 10], np.int32)}),
        (np.savez, {"test_labels": np.array([0, 2], np.int64)}),
        (np.savez, {"train_images": black, "classes": np.arange(10)}),
        (np.savez, {"train_images": black, "provenance": np.array("[1]")}),
        (np.savez, {"train_images": black, "provenance": np.array(DEEP.decode())}),
    ):
        save(cached, **(arrays | change))
        found = load(folder)
        np.testing.assert_array_equal(found.train.images, whole.train.images)
        np.testing.assert_array_equal(found.test.labels, whole.test.labels)
        assert found.provenance == whole.provenance


def test_a_header_in_the_cache_that_claims_too_much_is_not_believed(folder, tmp_path):
    load(folder)
    (cached,) = (tmp_path / "cache").iterdir()
    content = cached.read_bytes()
    assert content.count(b"'shape': (3, 28, 28, 1), }") == 1
    cached.write_bytes(content.replace(b"'shape': (3, 28, 28, 1), }", b"'shape': (3000000000000,)}"))
    assert load(folder).train.images.shape == (3, 28, 28, 1)


def test_a_folder_that_cannot_be_written_is_read_without_a_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GDLAB_CACHE_DIR", "~nobody-of-this-name/cache")
    assert load(folder).train.images.shape == (3, 28, 28, 1)
    monkeypatch.setenv("GDLAB_CACHE_DIR", "~/cache")
    load(folder)
    assert (tmp_path / "home" / "cache").is_dir()
    shutil.copytree(tmp_path / "place", tmp_path / "home" / "data")
    assert data.find("mnist", "~/data")[0] == tmp_path / "home" / "data" / "mnist" / "3.0.1"
    monkeypatch.setenv("GDLAB_DATA_DIR", "~/data")
    assert data.find("mnist")[0] == tmp_path / "home" / "data" / "mnist" / "3.0.1"


def test_archives_lie_below_the_home_directory_too(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    make_cifar10(home)
    folder = data.prepare("cifar10", "~/own.tar.gz", "~/place", any_checksum=True)
    assert folder == home / "place" / "cifar10" / "3.0.2"
    assert data.load("cifar10", "~/place").classes == CIFAR10
    make_mnist(home)
    with pytest.raises(data.DataError, match=r"home/four/.*: expected the \d+ bytes of https"):
        data.prepare("mnist", ["~/four"], "~/place")
    assert sorted(os.listdir(home / "place")) == ["cifar10"]
