import json
import math
import shutil
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import records


def test_atomic_path_writes_everything_or_nothing(tmp_path):
    target = tmp_path / "deep" / "data.txt"
    with records.atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "new"

    def fail():
        with records.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["data.txt"]


def test_atomic_path_needs_something_to_move_and_a_folder_to_move_it_to(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(FileNotFoundError, match="nothing was written"), records.atomic_path(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(NotADirectoryError, match="expected a folder"), records.atomic_path(tmp_path / "file" / "below"):
        pytest.fail("the block must not run")


def test_staged_folder_follows_a_link_and_refuses_a_folder_in_a_files_place(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with records.staged_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "real" / "a").read_text() == "1"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "real" / "b").mkdir()

    def write_both():
        with records.staged_folder(tmp_path / "real") as folder:
            (folder / "a").write_text("2")
            (folder / "b").write_text("2")

    with pytest.raises(IsADirectoryError, match=r"expected to write the file .*b, but a folder has that name"):
        write_both()
    assert (tmp_path / "real" / "a").read_text() == "1"  # nothing was moved


def test_staged_folder_on_another_disk(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    target = Path(tempfile.mkdtemp(dir=other))
    try:
        (tmp_path / "mount").symlink_to(target)
        with records.staged_folder(tmp_path / "mount") as folder:
            (folder / "a").write_text("1")
        assert [path.name for path in target.iterdir()] == ["a"]
    finally:
        shutil.rmtree(target)


def test_staged_folder_moves_all_or_nothing(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept").write_text("kept")
    (out / "old").write_text("old")

    def fail():
        with records.staged_folder(out) as folder:
            (folder / "old").write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        fail()
    assert (out / "old").read_text() == "old"
    with records.staged_folder(out) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("1")
        (folder / "old").write_text("new")
        assert (out / "old").read_text() == "old"
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == {"kept", "old", "sub/file"}
    assert (out / "old").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_is_reported_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    message = r"expected a folder to write to, got .*file.*is a file"
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match=message), records.staged_folder(target):
            pytest.fail("the block must not run")


def test_json_takes_arrays_and_writes_null_for_what_is_not_finite(tmp_path):
    value = {
        "a": jnp.arange(3),
        "b": np.float32(0.5),
        "c": [math.nan, math.inf, 1],
        "d": (np.bool_(True), None),
        5: "x",
    }
    records.write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "a": [0, 1, 2], "b": 0.5, "c": [None, None, 1], "d": [True, None], "5": "x",
    }  # fmt: skip


def test_environment_names_what_a_measurement_depends_on():
    found = records.environment()
    expected = {
        "date",
        "command",
        "python",
        "versions",
        "processor",
        "cores",
        "usable_cores",
        "devices",
        "multi_output_fusion",
    }
    assert set(found) - {"git_commit"} == expected
    assert ("git_commit" in found) == (Path(records.__file__).parents[2] / ".git").exists()
    assert set(found["versions"]) == {"jax", "jaxlib", "numpy", "optax", "flax"}
    json.dumps(found)
