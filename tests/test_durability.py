"""Files survive what happens to processes and disks: kills, moved folders, damage, foreign files, read-only disks."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import optimizers, records, sweep
from gdlab.records import runs, temporaries
from gdlab.records.disk import HeldFolder
from gdlab.records.packed import pack
from gdlab.training import train, train_many
from tests.test_train_many import small_task

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def task():
    return small_task()


def run(task, folder, **more):
    given = {"epochs": 3, "progress": False} | more
    return train(task, optimizers.adam(1e-2), folder=folder, **given)


def descents(folder, **more):
    starts = np.ones((4, 2), np.float32)
    given = dict(max_steps=5, progress=False, save_to=folder) | more
    return sweep(lambda x: jnp.sum(x**2), optimizers.sgd, {"learning_rate": [0.1, 0.2]}, starts, **given)


def trainings(task, folder, **more):
    given = dict(seeds=2, epochs=1, strategy="map", progress=False, save_to=folder) | more
    return train_many(task, optimizers.sgd, {"learning_rate": [0.1, 0.2]}, **given)


# What a file belongs to ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_not_taken(task, tmp_path):
    whole = [run(task, tmp_path / str(seed), seed=seed).history["train_loss"].tolist() for seed in (0, 1)]
    assert whole[0] != whole[1]
    for name in ("checkpoint.npz", "previous.npz"):
        shutil.copy(tmp_path / "1" / name, tmp_path / "0" / name)
    with pytest.warns(UserWarning, match=r"checkpoint\.npz: expected a checkpoint of this run.*previous") as warned:
        again = run(task, tmp_path / "0", seed=0)
    assert "starts over" in str(warned[1].message)
    assert again.history["train_loss"].tolist() == whole[0]
    assert json.loads((tmp_path / "0" / "metrics.jsonl").read_text().splitlines()[-1])["train_loss"] == whole[0][-1]


@pytest.mark.slow
def test_the_best_model_of_another_epoch_is_not_taken(task, tmp_path):
    whole = run(task, tmp_path / "run", patience=3)
    with records.RunFolder(tmp_path / "other", {"a": 1}, {}) as place:
        place.save(place.best(1), {"x": jnp.ones(2)})
        shutil.copy(place.best(1), place.best(2))
        place.load(place.best(1), {"x": jnp.ones(2)})
        with pytest.raises(records.CheckpointError, match=r"best-0002\.npz: expected a checkpoint of this run"):
            place.load(place.best(2), {"x": jnp.ones(2)})
    held = tmp_path / "run" / f"best-{whole.best_epoch:04d}.npz"
    shutil.copy(tmp_path / "other" / "best-0001.npz", held)
    with pytest.warns(UserWarning, match="the run"):
        assert (
            run(task, tmp_path / "run", patience=3).history["train_loss"].tolist()
            == whole.history["train_loss"].tolist()
        )


def swapped(path, one, other):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[one], members[other] = members[other], members[one]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_swapped_leaves_are_found(tmp_path):
    path, tree = tmp_path / "tree.npz", {"x": jnp.zeros(3), "y": jnp.ones(3)}
    records.save_tree(path, tree, identity={"run": 1})
    swapped(path, "leaf_0.npy", "leaf_1.npy")
    with pytest.raises(records.CheckpointError, match=r"\['x'\] is damaged: its contents are not those") as caught:
        records.load_tree(path, tree)
    assert "\n" not in str(caught.value)
    records.save_tree(path, tree, identity={"run": 1})
    assert records.load_tree(path, tree, identity={"run": 1})["y"][0] == 1
    with pytest.raises(records.CheckpointError, match="expected a checkpoint of this run, got that of another"):
        records.load_tree(path, tree, identity={"run": 2})


def test_a_checkpoint_of_an_earlier_format_is_refused_by_its_number(tmp_path):
    path = tmp_path / "tree.npz"
    head = json.dumps({"format": 1, "leaves": [["['x']", [2], "float64", "float64"]], "note": None})
    np.savez(path, head=np.array(head), leaf_0=np.zeros(16, np.uint8))
    with pytest.raises(records.CheckpointError, match="expected format 2, got 1"):
        records.load_tree(path, {"x": np.zeros(2)})


def test_blocks_of_another_sweep_or_under_another_name_are_computed_again(tmp_path):
    def blocks(identity):
        return records.Blocks(tmp_path / identity, {"function": identity})

    one, other = blocks("one"), blocks("other")
    one.save(0, 4, arrays={"x": np.ones(4)})
    other.save(0, 4, arrays={"x": np.zeros(4)})
    assert one.load(0, 4)["x"].tolist() == [1.0] * 4
    assert one.load(0, 8) is None
    shutil.copy(one.folder / "000000000-000000004.npz", one.folder / "000000004-000000008.npz")
    assert one.load(4, 8) is None
    shutil.copy(other.folder / "000000000-000000004.npz", one.folder)
    assert one.load(0, 4) is None
    plan = {"width": 2, "block": 2}
    assert other.load_plan() is None
    assert other.keep_plan(plan) == plan == other.load_plan() == other.keep_plan({"width": 3, "block": 3})
    shutil.copy(other.folder / "plan.json", one.folder)
    assert one.load_plan() is None
    assert one.keep_plan({"width": 3, "block": 3}) == {"width": 3, "block": 3} == one.load_plan()


# Where a run writes --------------------------------------------------------------------------------------------------


def lost(tmp_path, how):
    if how == "moved":
        tmp_path.rename(tmp_path.with_name("moved"))
    while tmp_path.exists():  # other threads may be writing to it
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_run_ends_when_its_folder_is_moved_or_deleted(task, tmp_path, how):
    folder = tmp_path / "run"

    def lose(row):
        if row["epoch"] == 2:
            lost(folder, how)
            if how == "replaced":
                folder.mkdir()

    with pytest.raises(FileNotFoundError, match=rf"^folder: expected {folder} to stay in its place") as caught:
        run(task, folder, epochs=4, on_epoch=lose)
    assert "\n" not in str(caught.value)
    assert not folder.exists() or not any(folder.iterdir())
    assert how == "deleted" or not folder.exists() or how == "replaced"
    if how == "moved":
        left = {path.name for path in folder.with_name("moved").iterdir() if path.name.startswith(".")}
        assert left == {".lock"}


def test_files_that_are_deleted_before_their_folder_are_named_so(tmp_path, monkeypatch):
    """The deletion of a folder begins with its files, and a write may come between."""
    folder = tmp_path / "run"
    with records.RunFolder(folder, identity={"a": 1}, config={}) as place:
        place.save(place.checkpoint, {"x": np.ones(2)})
        keep = runs.keep_copy

        def later(path, copy):
            path.unlink()
            keep(path, copy)

        monkeypatch.setattr(runs, "keep_copy", later)
        with pytest.raises(FileNotFoundError, match=rf"^folder: expected {folder} to stay in its place .* files in it"):
            place.keep_previous()


def test_a_temporary_file_that_is_deleted_with_its_folder_is_named_so(tmp_path):
    """A deletion reaches the file that is being written before the folder itself."""
    held = HeldFolder(tmp_path / "run", "folder")
    message = rf"^folder: expected {held.folder} to stay in its place .* files in it"
    with pytest.raises(FileNotFoundError, match=message), held.writing("rows.txt"):
        pass  # nothing is there, as after a deletion


def write_while(folder, happens):
    """Write a file into a folder to which something happens just before or just after the file arrives."""
    held = HeldFolder(folder, "folder")
    with held.writing("rows.txt") as temporary:
        happens(held)
        temporary.write_text("ours")


def test_a_folder_that_takes_the_place_of_another_keeps_nothing_of_it(tmp_path):
    """A thread may replace the folder between the two looks at it, while another thread writes."""
    folder = tmp_path / "run"

    def replace(held):
        lost(folder, "moved")
        folder.mkdir()

    with pytest.raises(FileNotFoundError, match=r"^folder: expected"):
        write_while(folder, replace)
    assert not any(folder.iterdir())


def test_a_file_of_the_folder_in_its_place_is_not_removed(tmp_path):
    folder = tmp_path / "run"

    def replace_later(held):
        look = held.check

        def replaced():
            lost(folder, "moved")
            folder.mkdir()
            (folder / "rows.txt").write_text("theirs")
            look()

        held.check = replaced

    with pytest.raises(FileNotFoundError, match=r"^folder: expected"):
        write_while(folder, replace_later)
    assert (folder / "rows.txt").read_text() == "theirs"
    assert (folder.with_name("moved") / "rows.txt").read_text() == "ours"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_a_sweep_ends_when_its_folder_is_moved_or_deleted(task, tmp_path, monkeypatch, how, when):
    folder = tmp_path / "parts"
    replace, opened = os.replace, records.Blocks.save

    def replaced(*arguments, **more):
        monkeypatch.setattr(os, "replace", replace)
        lost(folder, how)
        replace(*arguments, **more)

    def save(*arguments, **more):
        monkeypatch.setattr(records.Blocks, "save", opened)
        if when == "before":
            lost(folder, how)
        else:
            monkeypatch.setattr(os, "replace", replaced)
        opened(*arguments, **more)

    for call in (lambda: descents(folder), lambda: trainings(task, folder)):
        monkeypatch.setattr(records.Blocks, "save", save)
        with pytest.raises(FileNotFoundError, match=rf"save_to: expected {folder} to stay in its place"):
            call()
        assert not folder.exists()
        for path in tmp_path.rglob(".*"):
            pytest.fail(f"{path} is left over")
        shutil.rmtree(tmp_path / "moved", ignore_errors=True)


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_nothing_is_written_to_a_folder_that_is_gone(tmp_path, how):
    place = records.RunFolder(tmp_path / "run", {}, {})
    blocks = records.Blocks(tmp_path / "parts", {})
    place.save(place.checkpoint, {"x": np.ones(1)})
    for folder in (place.folder, blocks.folder):
        lost(folder, how)
        shutil.rmtree(tmp_path / "moved", ignore_errors=True)
    for call in (
        lambda: place.save(place.checkpoint, {"x": np.ones(1)}),
        lambda: place.write_rows([], []),
        place.keep_previous,
        lambda: blocks.save(0, arrays={"x": np.ones(1)}),
        lambda: blocks.keep_plan({"width": 1}),
    ):
        with pytest.raises(FileNotFoundError, match="to stay in its place while it is written to"):
            call()
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_what_a_moved_folder_holds_is_still_a_run(task, tmp_path):
    whole = run(task, tmp_path / "run")
    again = run(task, (tmp_path / "run").rename(tmp_path / "moved"))
    assert again.history["test_loss"].tolist() == whole.history["test_loss"].tolist()


@pytest.mark.slow
def test_a_finished_run_is_read_where_nothing_can_be_written(task, tmp_path, monkeypatch):
    whole, parts, many = run(task, tmp_path / "run"), descents(tmp_path / "parts"), trainings(task, tmp_path / "many")

    def state():
        return {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}

    before = state()
    monkeypatch.setattr(os, "access", lambda path, mode: mode & os.W_OK == 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: pytest.fail("nothing may be written"))
        assert run(task, tmp_path / "run").history["test_loss"].tolist() == whole.history["test_loss"].tolist()
        assert descents(tmp_path / "parts").value.equals(parts.value)
        assert trainings(task, tmp_path / "many").test_loss.equals(many.test_loss)
    assert state() == before
    with pytest.raises(PermissionError, match="folder: expected a finished run, or a folder that can be written to"):
        run(task, tmp_path / "run", epochs=4)
    next((tmp_path / "parts").glob("0*.npz")).unlink()
    with pytest.raises(PermissionError, match="save_to: expected a folder with all blocks, or one to write to"):
        descents(tmp_path / "parts")


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK])
def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="does not support locks"):
        records.RunFolder(tmp_path / "run", {}, {}).close()
    assert records.read_run(tmp_path / "run").metrics == {}


def test_a_tilde_is_the_home_directory_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    records.write_json("~/a.json", 1)
    records.write_lines("~/a.jsonl", [1, 2])
    records.save_tree("~/a.npz", {"x": jnp.ones(1)}, 5)
    assert (records.read_json("~/a.json"), records.read_lines("~/a.jsonl")) == (1, [1, 2])
    assert records.load_tree("~/a.npz", {"x": jnp.ones(1)})["x"] == 1
    assert records.load_note("~/a.npz") == 5
    with records.staged_folder("~/staged") as folder:
        (folder / "a").write_text("1")
    with records.atomic_path("~/deep/a") as temporary:
        temporary.write_text("1")
    records.require_folder("~/deep")
    with pytest.raises(NotADirectoryError):
        records.require_folder("~/deep/a")
    records.Blocks("~/blocks", {}).save(0, arrays={"x": np.ones(1)})
    records.RunFolder("~/run", {}, {}).close()
    records.read_run("~/run")
    names = {"a.json", "a.jsonl", "a.npz", "staged", "deep", "blocks", "run"}
    assert set(os.listdir(tmp_path / "home")) == names
    assert os.listdir(tmp_path / "work") == []


# The disk ------------------------------------------------------------------------------------------------------------


def test_each_file_and_its_folder_are_on_the_disk_around_the_rename(tmp_path, monkeypatch):
    done, opened = [], {}
    real_open, real_sync, real_replace = os.open, os.fsync, os.replace

    def open_(path, *arguments, **more):
        number = real_open(path, *arguments, **more)
        opened[number] = Path(path)
        return number

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(("sync", opened[number])), real_sync(number)))
    monkeypatch.setattr(
        os, "replace", lambda source, target: (done.append(("rename", Path(target))), real_replace(source, target))
    )
    records.write_json(tmp_path / "deep" / "a.json", 1)
    kinds = [(kind, path.name.startswith(".") or path.name) for kind, path in done]
    assert kinds == [("sync", tmp_path.name), ("sync", True), ("rename", "a.json"), ("sync", "deep")]
    done.clear()
    with records.staged_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    assert [kind for kind, _ in done] == ["sync", "sync", "rename", "sync"]  # of the new folder, the file, its name
    assert done[-1] == ("sync", tmp_path / "out")


def test_a_disk_error_leaves_the_old_file(tmp_path, monkeypatch):
    records.write_json(tmp_path / "a.json", 1)

    def full(_):
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="the disk is broken"):
            records.write_json(tmp_path / "a.json", 2)
    assert records.read_json(tmp_path / "a.json") == 1
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(task, tmp_path):
    whole = run(task, tmp_path / "whole", epochs=4)
    run(task, tmp_path / "run", epochs=3)
    assert (tmp_path / "run" / "previous.npz").exists()
    data = bytearray((tmp_path / "run" / "checkpoint.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "run" / "checkpoint.npz").write_bytes(data)
    seen = []
    with pytest.warns(UserWarning, match="the run resumes from the previous checkpoint"):
        again = run(task, tmp_path / "run", epochs=4, on_epoch=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2, 3, 4]
    assert again.history["test_loss"].tolist() == whole.history["test_loss"].tolist()
    texts = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "run")]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_other_cores_are_reported_when_a_run_resumes(task, tmp_path, monkeypatch):
    run(task, tmp_path / "run", epochs=1)
    (start,) = records.read_json(tmp_path / "run" / "environment.json")["starts"]
    cores = start["usable_cores"]
    assert cores == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores + 3)))
    run(task, tmp_path / "run", epochs=1)  # a finished run is only read
    with pytest.warns(UserWarning, match=f"resumes with {cores + 3} usable cores after epochs with {cores}"):
        run(task, tmp_path / "run", epochs=2)


# Leftovers -----------------------------------------------------------------------------------------------------------

LEAVE = """
import os, signal, sys
from pathlib import Path
from gdlab import records
contexts = []
for path in map(Path, sys.argv[1:]):
    contexts.append(records.atomic_path(path) if path.suffix else records.staged_folder(path))
    place = contexts[-1].__enter__()
    (place if path.suffix else place / "file").write_text("half")
print("ready", flush=True)
if sys.stdin.readline() == "die\\n":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock")


@pytest.mark.slow
def test_leftovers_are_removed_once_their_process_has_ended(tmp_path, monkeypatch):
    places = {name: tmp_path / name for name in ("run", "parts", "figures", "staging")}
    for place in places.values():
        place.mkdir()
    targets = [
        places["run"] / "checkpoint.npz",
        places["parts"] / "0.npz",
        places["figures"] / "a.png",
        places["staging"] / "out",
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", LEAVE, *map(str, targets)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"

    def write_all():
        temporaries._swept.clear()  # as in a new process
        records.RunFolder(places["run"], {}, {}).close()
        records.Blocks(places["parts"], {})
        with records.atomic_path(places["figures"] / "b.png") as temporary:
            temporary.write_text("whole")
        with records.staged_folder(places["staging"] / "out") as folder:
            (folder / "file").write_text("whole")
        return {name: len(hidden(place)) for name, place in places.items()}

    # A living process keeps its files, except in the folder of a run, which this process holds alone.
    assert write_all() == {"run": 0, "parts": 1, "figures": 1, "staging": 1}
    child.stdin.write("die\n")
    child.stdin.flush()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert write_all() == {"run": 0, "parts": 0, "figures": 0, "staging": 0}  # though its parent has not waited for it
    child.wait()
    # Of a process of another machine nothing is known but the age of its files.
    here = temporaries.temporary_beside(places["figures"] / "c.png").name
    foreign = places["figures"] / here.replace(temporaries._place(), "0123abcd")
    foreign.write_text("half")
    assert write_all()["figures"] == 1
    old = time.time() - 2 * temporaries.DAY
    os.utime(foreign, (old, old))
    assert write_all()["figures"] == 0


# Hostile files -------------------------------------------------------------------------------------------------------


def bomb(path, shape, *, compression=zipfile.ZIP_STORED, data=b""):
    import io

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["leaf_0.npy"] = stream.getvalue() + data
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("kind", ["header", "deflated", "shape"])
def test_files_that_claim_huge_arrays_are_refused_by_size(tmp_path, monkeypatch, kind):
    path, tree = tmp_path / "tree.npz", {"x": jnp.zeros(1000)}
    block = records.Blocks(tmp_path / "blocks", {})
    block.save(0, arrays={"x": np.zeros(1000)})
    records.save_tree(path, tree)
    for file in (path, tmp_path / "blocks" / "000000000.npz"):
        if kind == "header":
            bomb(file, (10**12,))
        elif kind == "deflated":
            bomb(file, (10**7,), compression=zipfile.ZIP_DEFLATED, data=b"0" * 10**7)
            assert file.stat().st_size < 10**5
        else:
            pack(file, {"['x']": (np.broadcast_to(np.uint8(0), (10**4,)), "")}, None, "")
            text = file.read_bytes().replace(b"[10000]", b"[9" + b"9" * 4 + b"]")
            file.write_bytes(text)
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("nothing of this size may be allocated"))
    before = peak()
    with pytest.raises(records.CheckpointError) as caught:
        records.load_tree(path, tree)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert block.load(0) is None
    assert peak() - before < 5e6


def peak():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


TEXTS = {
    "nul": b"\0\0\0",
    "bytes": b'{"a": "\xff"}',
    "deep": b"[" * 100_000,
    "list": b"[1, 2]",
    "text": b'"identity"',
    "torn": b'{"identity": {',
    "empty": b"",
    "digits": b"1" * 5000,
}


@pytest.mark.parametrize("text", TEXTS)
def test_damaged_text_is_reported_in_one_line_with_the_name_of_the_file(tmp_path, text):
    with records.RunFolder(tmp_path / "run", {"a": 1}, {}) as place:
        place.write_rows([{"epoch": 1, "loss": 2.0}], [{"epoch": 1, "seconds": 1.0}])
    for name, read, args in (
        ("config.json", records.read_run, ()),
        ("config.json", records.RunFolder, ({"a": 1}, {})),
        ("metrics.jsonl", records.read_run, ()),
        ("seconds.jsonl", records.read_run, ()),
    ):
        path = tmp_path / "run" / name
        kept = path.read_bytes()
        path.write_bytes(TEXTS[text])
        if text == "empty" and name != "config.json":
            assert read(tmp_path / "run", *args).config["identity"] == {"a": 1}
        else:
            with pytest.raises(ValueError, match=name) as caught:
                read(tmp_path / "run", *args)
            assert "\n" not in str(caught.value)
        path.write_bytes(kept)
    (tmp_path / "run" / "environment.json").write_bytes(TEXTS[text])
    with pytest.warns(UserWarning, match=r"environment\.json: expected the starts of this run"):
        records.RunFolder(tmp_path / "run", {"a": 1}, {}).close()
    blocks = records.Blocks(tmp_path / "parts", {})
    (blocks.folder / "plan.json").write_bytes(TEXTS[text])
    assert blocks.load_plan() is None
    assert blocks.keep_plan({"width": 1}) == {"width": 1} == blocks.load_plan()
    (blocks.folder / "sweep.json").write_bytes(TEXTS[text])
    with pytest.raises(ValueError, match=r"save_to: .*sweep\.json does not describe a run"):
        records.Blocks(tmp_path / "parts", {})


@pytest.mark.parametrize(
    "note", [None, 5, [], {"rows": 3}, {"rows": [3], "seconds": [3], "best_epoch": None},
             {"rows": [{"epoch": 1, "loss": "x"}], "seconds": [{"epoch": 1}], "best_epoch": None},
             {"rows": [{"epoch": 1}], "seconds": [{"epoch": 1}], "best_epoch": "one"},
             {"rows": [{"epoch": 7}], "seconds": [{"epoch": 7}], "best_epoch": None}],
)  # fmt: skip
def test_a_checkpoint_with_a_strange_note_is_a_damaged_one(tmp_path, note):
    from gdlab.training.resuming import Checkpoints

    tree = {"x": jnp.ones(2)}
    with records.RunFolder(tmp_path / "run", {}, {}) as place:
        place.save(place.checkpoint, tree, note)
        with pytest.warns(UserWarning, match="expected the note of a run, got another.*the run starts over") as warned:
            assert Checkpoints(place).restore(tree, None) is None
    assert "\n" not in str(warned[0].message)


# Wrong values --------------------------------------------------------------------------------------------------------

PATHS = [None, 3, 2.5, True, b"bytes", "", "a\0b", [], {}, object(), np.zeros(2), lambda: None]
OPEN = {
    "atomic_path": (lambda path: records.atomic_path(path), "path"),
    "staged_folder": (lambda folder: records.staged_folder(folder), "folder"),
    "require_folder": (records.require_folder, "folder"),
    "write_json": (lambda path: records.write_json(path, 1), "path"),
    "write_lines": (lambda path: records.write_lines(path, []), "path"),
    "read_lines": (records.read_lines, "path"),
    "read_json": (records.read_json, "path"),
    "save_tree": (lambda path: records.save_tree(path, {}), "path"),
    "load_tree": (lambda path: records.load_tree(path, {}), "path"),
    "load_note": (records.load_note, "path"),
    "read_run": (records.read_run, "folder"),
    "read_checkpoint": (lambda folder: records.read_checkpoint(folder, {}), "folder"),
    "RunFolder": (lambda folder: records.RunFolder(folder, {}, {}), "folder"),
    "Blocks": (lambda folder: records.Blocks(folder, {}), "save_to"),
}


@pytest.mark.parametrize("name", OPEN)
def test_a_wrong_path_is_reported_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, argument = OPEN[name]
    for wrong in PATHS:
        with pytest.raises((TypeError, ValueError), match=f"^{argument}: expected a path, got ") as caught:
            call(wrong)
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def loop():
    found = []
    found.append(found)
    return found


UNWRITABLE = [
    {"a": object()}, {"a": {1, 2}}, b"bytes", 1j, {"k": lambda: None}, np.array([object()]),
    np.array(1j), jax.random.key(0), loop(), {1: 2, "1": 3}, [np.datetime64("2020-01-01")], range(3), Exception,
]  # fmt: skip


def test_a_value_that_json_does_not_support_is_reported_in_one_line(tmp_path):
    with records.RunFolder(tmp_path / "run", {}, {}) as place:
        for name, call in {
            "value": lambda value: records.write_json(tmp_path / "a", value),
            "rows": lambda value: records.write_lines(tmp_path / "a", [value]),
            "note": lambda value: records.save_tree(tmp_path / "a", {}, value),
            "identity": lambda value: records.RunFolder(tmp_path / "b", {"x": value}, {}),
            "config": lambda value: records.RunFolder(tmp_path / "b", {}, {"x": value}),
            "metrics": lambda value: place.write_rows([value], []),
            "seconds": lambda value: place.write_rows([], [value]),
        }.items():
            for value in UNWRITABLE:
                with pytest.raises((TypeError, ValueError), match=rf"^{name}[^ ]*: expected ") as caught:
                    call(value)
                assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["run"]


def test_other_wrong_values_are_reported_in_one_line(tmp_path):
    blocks = records.Blocks(tmp_path / "parts", {})
    place = records.RunFolder(tmp_path / "run", {}, {})
    wrong = [None, 3, "text", [1], object()]
    save, load = lambda tree: records.save_tree(tmp_path / "a", tree), lambda like: records.load_tree("a", like)
    for name, call, values in (
        ("tree", save, [{"a": np.array([object()])}, {"a": "text"}, [b"bytes"], lambda: None, {1, 2}]),
        ("tree", save, [{"a": np.array(["text"])}, {"a": np.datetime64("2020")}]),
        ("like", load, [3, {"a": 1.0}, "text", {"a": object()}]),
        ("rows", lambda rows: records.write_lines(tmp_path / "a", rows), [None, 3, "text", {}, b"x"]),
        ("identity", lambda identity: records.RunFolder(tmp_path / "b", identity, {}), wrong),
        ("config", lambda config: records.RunFolder(tmp_path / "b", {}, config), wrong),
        ("identity", lambda identity: records.Blocks(tmp_path / "b", identity), wrong),
        ("block", lambda number: blocks.load(number), [None, 1.5, "1", -1, True]),
        ("block", lambda number: blocks.save(number, arrays={}), [None, 1.5, "1", -1, True]),
        ("arrays", lambda arrays: blocks.save(0, arrays=arrays), [*wrong, {"a": 3}, {"a": np.array(["b"])}, {3: 4}]),
        ("epoch", place.best, [None, 0, 1.5, "1"]),
        ("epoch", place.keep_best, [0, 1.5, "1"]),
    ):
        for value in values:
            with pytest.raises((TypeError, ValueError), match=rf"^{name}[^ ]*: expected ") as caught:
                call(value)
            assert "\n" not in str(caught.value)
    place.close()
    assert sorted(os.listdir(tmp_path)) == ["parts", "run"]


# Other processes -----------------------------------------------------------------------------------------------------


def child(code, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


FORKED = """
import os, sys
import jax.numpy as jnp
from gdlab import optimizers, scan, sweep
from gdlab.comparison import run
from gdlab.training import train, train_many
jnp.zeros(1)
for call in (lambda: sweep(0, 0, 0, 0, max_steps=1), lambda: train(0, 0, epochs=1), lambda: run(0),
             lambda: train_many(0, 0, 0, seeds=1, epochs=1), lambda: scan(0, 0)):
    if not (number := os.fork()):
        try:
            call()
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(number, 0)
"""


@pytest.mark.slow
def test_a_forked_process_is_referred_to_spawn():
    out, _ = child(FORKED).communicate(timeout=120)
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["sweep", "train", "run", "train_many", "scan"]
    assert all("forked after JAX had started" in line and "spawn" in line for line in lines)


TOGETHER = """
import sys, time
import numpy as np
import jax.numpy as jnp
from gdlab import optimizers, sweep
from gdlab.training import train_many
from tests.test_train_many import small_task
task = small_task()
jnp.zeros(1)
print("ready", flush=True)
sys.stdin.readline()
starts = np.random.default_rng(0).uniform(-1, 1, (60_000, 2)).astype(np.float32)
found = sweep(lambda x: jnp.sum(x**4), optimizers.sgd, {"learning_rate": [0.1, 0.2]}, starts, max_steps=50,
              progress=False, save_to=sys.argv[1] + "/parts")
many = train_many(task, optimizers.sgd, {"learning_rate": np.geomspace(1e-3, 0.1, 6)}, seeds=2, epochs=2,
                  progress=False, save_to=sys.argv[1] + "/many")
np.savez(sys.argv[2], value=found.value.values, loss=many.test_loss.values)
"""


@pytest.mark.slow
def test_processes_that_start_the_same_sweep_at_the_same_instant_succeed(tmp_path):
    def values(folder, count):
        children = [
            child(TOGETHER, folder, tmp_path / f"{count}-{number}.npz", stdin=subprocess.PIPE)
            for number in range(count)
        ]
        assert [each.stdout.readline() for each in children] == ["ready\n"] * count
        for each in children:
            each.stdin.write("go\n")
            each.stdin.flush()
        answers = [each.communicate(timeout=300) for each in children]
        assert [each.returncode for each in children] == [0] * count, answers
        return [dict(np.load(tmp_path / f"{count}-{number}.npz")) for number in range(count)]

    both, again = values(tmp_path / "both", 3), values(tmp_path / "both", 1)[0]
    alone = values(tmp_path / "alone", 1)[0]
    for found in both:
        np.testing.assert_array_equal(found["value"], alone["value"])
        np.testing.assert_array_equal(found["loss"], again["loss"])
        np.testing.assert_allclose(found["loss"], alone["loss"], rtol=1e-5)  # which strategy was faster may differ
    assert not [*tmp_path.rglob(".*")]


# Interrupts ----------------------------------------------------------------------------------------------------------


def test_an_interrupt_that_python_ignores_is_not_lost():
    from gdlab.compute import interrupts

    class Ignoring:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    before, reached = signal.getsignal(signal.SIGINT), []

    @interrupts.heeded()
    def call():
        holder = Ignoring()
        del holder
        reached.append("after the interrupt")
        interrupts.check()
        reached.append("after the check")

    with pytest.raises(KeyboardInterrupt):
        call()
    assert reached == ["after the interrupt"]
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.check()  # nothing is left pending


def test_an_interrupt_ends_the_threads_of_a_study():
    from gdlab.compute import interrupts
    from gdlab.compute.threads import Crew

    steps = []

    def work(job, _):
        for _ in range(10_000):
            interrupts.check()
            steps.append(job)
            if len(steps) == 20:
                signal.raise_signal(signal.SIGINT)
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt), interrupts.heeded():
        Crew([None, None]).run(work, range(4))
    assert len(steps) < 10_000


SCRIPT = """
import gdlab.compute.script
import sys, time
from gdlab.compute.interrupts import command
if sys.argv[1] == "early":
    print("ready", flush=True)
    time.sleep(3600)
import jax, jax.numpy as jnp
from gdlab import records
@jax.jit
def long(x):
    return jax.lax.fori_loop(0, 10**9, lambda k, x: jnp.sin(x @ x), x)
with command("script", OSError):
    with records.staged_folder(sys.argv[2]) as folder:
        (folder / "file").write_text("half")
        if sys.argv[1] == "error":
            raise OSError("the disk is full")
        print("ready", flush=True)
        print(long(jnp.ones((300, 300))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["early", "compiled", "error"])
def test_a_script_ends_at_once_in_one_line(when, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), when, str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if when != "error":
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)  # the computation would take hours
    assert err == ("script: the disk is full\n" if when == "error" else "script: interrupted\n")
    assert process.returncode == (1 if when == "error" else 130)
    assert os.listdir(tmp_path) == ["script.py"]


# Sixty kills ---------------------------------------------------------------------------------------------------------

# JAX is imported once. Each call then runs in a forked process of its own, before JAX has started.
KILLED = """
import os, signal, sys, threading
from pathlib import Path
import numpy as np
import jax, jax.numpy as jnp
from gdlab import optimizers, scan, sweep
from gdlab.training import train, train_many
from tests.test_train_many import small_task

def train_patiently(folder):
    found = train(small_task(), optimizers.adam(3e-2), epochs=4, patience=2, seed=3, folder=folder, progress=False)
    return {**found.history, "params": jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(found.params)])}

def train_in_lanes(folder):
    found = train_many(small_task(), optimizers.sgd, {"learning_rate": np.geomspace(1e-3, 0.1, 3)}, seeds=1, epochs=2,
                       strategy="map", progress=False, save_to=folder)
    return {name: array.values for name, array in found.data_vars.items()}

def descend_in_lanes(folder):
    starts = np.random.default_rng(0).uniform(-1, 1, (40_000, 2)).astype(np.float32)
    found = sweep(lambda x: jnp.sum(x**4), optimizers.sgd, {"learning_rate": 0.1}, starts, max_steps=20, progress=False,
                  save_to=folder)
    return {name: array.values for name, array in found.data_vars.items()}

def logistic(key, rate):
    return {"x": jax.lax.fori_loop(0, 50, lambda _, x: rate * x * (1 - x), jax.random.uniform(key))}

def scan_in_lanes(folder):
    found = scan(logistic, {"rate": np.linspace(1.0, 3.0, 5)}, chunk=2, progress=False, save_to=folder)
    return {name: array.values for name, array in found.data_vars.items()}

CALLS = {call.__name__: call for call in (train_patiently, train_in_lanes, descend_in_lanes, scan_in_lanes)}

def aim(place):
    '''Kill this process before (2 n) or after (2 n + 1) the n-th call that changes the disk, or count the calls.

    Calls of two threads may overlap, so that none begins at this place; then the next place is meant.
    '''
    count, lock = 0, threading.Lock()
    def kill_if(reached):
        if 0 <= place <= reached:
            os.kill(os.getpid(), signal.SIGKILL)
    def aimed(function):
        def call(*arguments, **more):
            nonlocal count
            kill_if(count)
            result = function(*arguments, **more)
            with lock:
                kill_if(count + 1)
                count += 2
            return result
        return call
    for name in ("replace", "fsync", "link", "mkdir"):
        setattr(os, name, aimed(getattr(os, name)))
    return lambda: count

def attempt(name, folder, result, place):
    number = os.fork()
    if not number:
        code = 1
        try:
            places = aim(place)
            found = CALLS[name](folder)
            np.savez(result, places=places(), **found)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(number, 0)[1]

work = Path(sys.argv[1])
kills = {"train_patiently": 18, "train_in_lanes": 14, "descend_in_lanes": 14, "scan_in_lanes": 14}
lost = 0
for name, number in kills.items():
    for folder in ("first", "whole"):  # the first one also writes the compiled programs to JAX's cache
        assert attempt(name, work / name / folder, work / f"{name}.npz", -1) == 0
    whole = dict(np.load(work / f"{name}.npz"))
    places = int(whole.pop("places"))
    aims = np.unique(np.linspace(0, places - 1, number).astype(int))
    assert len(aims) == number, (name, places)
    for place in aims:
        folder = work / name / f"killed-{place}"
        status = attempt(name, folder, work / "never.npz", int(place))
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, place, status)
        assert attempt(name, folder, work / "again.npz", -1) == 0, (name, place)
        again = dict(np.load(work / "again.npz"))
        same = all(np.array_equal(whole[key], again[key], equal_nan=True) for key in whole)
        left = [str(path) for path in [*folder.rglob(".*"), *folder.parent.glob(".*")] if path.name != ".lock"]
        print(name, place, "same" if same else "DIFFERENT", *left, flush=True)
"""


@pytest.mark.slow
def test_sixty_aimed_kills_change_no_bit_and_leave_nothing(tmp_path):
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    (tmp_path / "work").mkdir()
    process = child(KILLED, tmp_path / "work", env=os.environ | cache)
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, out[-1000:] + err[-3000:]
    lines = [line.split() for line in out.splitlines()]
    assert len(lines) == 60
    assert {line[2] for line in lines} == {"same"}
    assert [line[3:] for line in lines if line[3:]] == []
