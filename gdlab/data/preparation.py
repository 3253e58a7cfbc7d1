"""Preparation of data sets: from a published archive to a folder of tensorflow-datasets, without TensorFlow."""

import contextlib
import hashlib
import http.client
import io
import os
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gdlab.arguments import as_path, require_flag, require_sequence
from gdlab.data.archives import READERS, Contents
from gdlab.data.datasets import DataError, command, image_shape, places
from gdlab.data.folders import lacks
from gdlab.records.disk import make_folder, sync
from gdlab.records.files import atomic_path, require_folder, write_json
from gdlab.records.temporaries import forget, remove_abandoned, temporary_beside


class SourceFile(NamedTuple):
    """A published file of a data set: its address, size in bytes and SHA-256 checksum."""

    url: str
    size: int
    sha256: str


def source_files(name: str) -> dict[str, SourceFile]:
    """Return every published file of a data set by its name, as registered in tensorflow-datasets.

    Raises KeyError if the data set is not in `READERS`.
    """
    READERS[name]
    import tensorflow_datasets as tfds

    infos = tfds.builder_cls(name).url_infos
    return {url.rsplit("/", 1)[1]: SourceFile(url, int(info.size), info.checksum) for url, info in infos.items()}


def prepare(
    name: str,
    archive: str | Path | Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    *,
    any_checksum: bool = False,
) -> Path:
    """Prepare a data set from its published archive, in the first folder of `places(data_dir)`.

    The prepared folder is renamed to its final name once it is complete. If the process is killed, it leaves a hidden
    folder next to it, which is never read and which the next preparation removes. A complete folder is left unchanged.

    Args:
      name: the name of a data set in `DATASETS`.
      archive: the published file or files, or the folder that contains them; nothing is downloaded in this case.
        Default: the files are downloaded to `<place>/downloads/<name>` and kept there.
      data_dir: the folder in which to prepare the data set; see `places`.
      any_checksum: accept a given archive whose checksum differs from the published one, such as an archive of your
        own in the same format. It may have another number of images, within the bounds of `gdlab.data.archives`, and
        the data set's provenance records the fact.

    Returns:
      The folder that `load` then reads.

    Raises:
      KeyError: if the name is unknown.
      TypeError: if an argument has the wrong type.
      ValueError: if the name is "digits", which needs no preparation.
      DataError: if an archive is not as published or cannot be downloaded.
      OSError: if the folder cannot be written to.
    """
    image_shape(name)
    given = _as_paths(archive)
    place = places(data_dir)[0].absolute()
    require_flag("any_checksum", any_checksum)
    if name == "digits":
        raise ValueError("name: expected a data set with an archive, got 'digits', which is part of scikit-learn")
    import tensorflow_datasets as tfds

    target = place / name / str(tfds.builder_cls(name).VERSION)
    try:
        exists = target.exists()
    except OSError as error:
        raise DataError(f"data_dir: expected a folder to write to, got {place}: {error.strerror or error}") from error
    remove_abandoned(place)
    if exists:
        if not (lack := lacks(name, target)):
            return target
        # The folder is not removed, because it may hold the same data in another format.
        raise DataError(f"{target}: expected no folder or a complete one, got one {lack}; move it away and try again")
    require_folder(target.parent)
    if given:
        files = _given(name, given)
        for file, path in files.items():
            if not any_checksum:
                _verify(path, source_files(name)[file])
    else:
        files = _download(name, place / "downloads" / name, command(name, data_dir))
    contents = READERS[name](files)
    with _staging(place, name) as own:
        folder = _build(name, contents, own)
        write_json(folder / "sources.json", _sources(name, files))
        for path in (*folder.iterdir(), folder):
            sync(path)
        make_folder(target.parent)
        try:
            os.rename(folder, target)
        except OSError:
            if lacks(name, target):  # otherwise another process has finished first
                raise
        sync(target.parent)
    return target


@contextlib.contextmanager
def _staging(place: Path, name: str) -> Iterator[Path]:
    """Create a temporary hidden folder in `place`, which the next preparation removes if this process is killed."""
    make_folder(place)
    folder = temporary_beside(place / f"gdlab-{name}")
    try:
        folder.mkdir()
        yield folder
    finally:
        forget(folder)


def _as_paths(archive: Any) -> list[Path]:
    """Return the given archives as a list."""
    if isinstance(archive, (str, os.PathLike)):
        return [as_path("archive", archive)]
    require_sequence("archive", archive, "a path or several paths")
    return [as_path("archive", path) for path in archive]


def _sources(name: str, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    sums = {file: _sha256(path) for file, path in files.items()}
    return {
        file: {"sha256": digest, "published": digest == source_files(name)[file].sha256}
        for file, digest in sums.items()
    }


def _given(name: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Find the published files among the given files and folders, and return them by their published names.

    If the data set has a single file and a single file is given, that file may have any name.
    """
    expected = source_files(name)
    folders = [path for path in paths if os.path.isdir(path)]  # Path.is_dir raises for a name that is too long
    if len(expected) == 1 and len(paths) == 1 and not folders:
        found = dict.fromkeys(expected, paths[0])
    else:
        found = {path.name: path for path in paths if path not in folders}
        found |= {file: path / file for path in folders for file in expected if (path / file).exists()}
    if missing := [file for file in expected if file not in found]:
        raise DataError(f"{name}: expected {', '.join(missing)} in --archive, got {', '.join(map(str, paths))}")
    for file in expected:
        if not os.path.isfile(found[file]):
            raise DataError(f"{name}: expected an archive, got {found[file]}, which is not a file")
    return {file: found[file] for file in expected}


def _verify(path: Path, expected: SourceFile) -> None:
    """Raise DataError unless the file has the published size and checksum."""
    want, got = f"{expected.size} bytes", f"{path.stat().st_size} bytes"
    if got == want:
        want, got = f"SHA-256 {expected.sha256}", f"SHA-256 {_sha256(path)}"
    if got != want:
        raise DataError(
            f"{path}: expected the {want} of {expected.url}, got {got}; "
            "for an archive of your own in the same format pass --any-checksum"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, folder: Path, otherwise: str) -> dict[str, Path]:
    """Download the published files that are missing or damaged in `folder`, and return all of them by name.

    `otherwise` is the command that prepares the data set from an archive, for those without a network.
    """
    files = {}
    for file, expected in source_files(name).items():
        files[file] = folder / file
        if files[file].exists():
            with contextlib.suppress(DataError):
                _verify(files[file], expected)
                continue
        with atomic_path(files[file]) as temporary:
            try:
                _fetch(expected, temporary, file)
            except (OSError, http.client.HTTPException) as error:
                urls = [each.url for each in source_files(name).values()]
                raise DataError(
                    f"{name}: could not download {expected.url}: {getattr(error, 'reason', error)}; fetch "
                    f"{', '.join(urls)} by other means, then: {otherwise} --archive "
                    f"{'FILE' if len(urls) == 1 else 'FOLDER'}"
                ) from error
    return files


def _fetch(expected: SourceFile, path: Path, file_name: str) -> None:
    from tqdm import tqdm

    with (
        urllib.request.urlopen(expected.url, timeout=60) as answer,
        path.open("wb") as file,
        tqdm(total=expected.size, unit="B", unit_scale=True, desc=file_name, disable=None) as bar,
    ):
        while block := answer.read(1 << 20):
            file.write(block)
            bar.update(len(block))
    size = path.stat().st_size
    if size != expected.size:
        raise OSError(f"the connection ended after {size} of {expected.size} bytes")
    if (digest := _sha256(path)) != expected.sha256:
        raise OSError(f"expected SHA-256 {expected.sha256}, got {digest}")


def _build(name: str, contents: Contents, data_dir: Path) -> Path:
    """Let tensorflow-datasets write the data set to `data_dir`, with its own features and order; return the folder."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_cls(name)(data_dir=data_dir, file_format="array_record")
    for kind, names in contents.classes.items():
        builder.info.features[kind].names = list(names)

    def split_generators(_: object) -> dict[str, Iterator]:
        return {split: _examples(contents, split, with_id="id" in builder.info.features) for split in contents.images}

    builder._split_generators = split_generators  # the original method reads the archive with TensorFlow
    tfds.display_progress_bar(False)  # the bar and the printed lines show names of temporary files
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    finally:
        tfds.display_progress_bar(True)
    return Path(builder.data_dir)


def _examples(contents: Contents, split: str, *, with_id: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield keys and examples in the order of the archive.

    The keys are those of the original builder, so the examples are shuffled in the same way.
    """
    from PIL import Image
    from tqdm import tqdm

    images = contents.images[split]
    for index, image in enumerate(tqdm(images, desc=f"writing {split}", unit=" images", disable=None)):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        example: dict[str, Any] = {"image": picture}
        for kind, labels in contents.labels.items():
            example[kind] = int(labels[split][index])
        if with_id:
            example["id"] = f"{split}_{index:05d}"
        yield index, example
