"""From the published archive of a data set to a folder as tensorflow-datasets makes it, without TensorFlow."""

import contextlib
import hashlib
import http.client
import io
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gdlab.data.archives import READERS, Contents
from gdlab.data.datasets import DATASETS, DataError, command, lacks, places
from gdlab.records.files import atomic_path, require_folder, write_json


class SourceFile(NamedTuple):
    """A file of a data set as its authors publish it."""

    url: str
    size: int
    sha256: str


def source_files(name: str) -> dict[str, SourceFile]:
    """File name -> address, size and checksum of every file of the data set, from the registry of tensorflow-datasets.

    Raises KeyError for a name that is not in `READERS`.
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
    """Prepare the data set `name` in the first of `places(data_dir)`; returns the folder that `load` then reads.

    archive: the published file, or files, or the folder they are in; nothing is downloaded then. Without it the files
    are downloaded to `<place>/downloads/<name>` and kept there.
    any_checksum: take a given archive whose checksum is not the published one, such as one of your own in the same
    format; its number of images is free then, and the folder's provenance says so.

    The folder appears under its name when it is whole, by a rename; a killed run leaves a hidden folder beside it that
    nothing reads and that a run a day later removes. A whole folder is left as it is. Raises KeyError for an unknown
    name, ValueError for "digits", which needs no preparation, DataError where an archive is not as published or cannot
    be fetched, and another OSError where the place cannot be written to.
    """
    if name == "digits":
        raise ValueError("name: wanted a data set with an archive, got 'digits', which comes with scikit-learn")
    DATASETS[name]
    import tensorflow_datasets as tfds

    place = places(data_dir)[0].absolute()
    target = place / name / str(tfds.builder_cls(name).VERSION)
    if target.exists():
        if not (lack := lacks(name, target)):
            return target
        # It may hold another format of the same data: not ours to remove.
        raise DataError(f"{target}: wanted no folder or a whole one, got one {lack}; move it away and run this again")
    require_folder(target.parent)
    if archive:
        paths = [archive] if isinstance(archive, (str, Path)) else archive
        files = _given(name, [Path(path).expanduser() for path in paths])
        for file, path in files.items():
            if not any_checksum:
                _verify(path, source_files(name)[file])
    else:
        files = _download(name, place / "downloads" / name, command(name, data_dir))
    contents = READERS[name](files)
    place.mkdir(parents=True, exist_ok=True)
    with _staging(place, f".gdlab-{name}-") as staging:
        folder = _build(name, contents, staging)
        write_json(folder / "sources.json", _sources(name, files))
        target.parent.mkdir(exist_ok=True)
        try:
            os.rename(folder, target)
        except OSError:
            if lacks(name, target):  # otherwise another process was first
                raise
    return target


def _sources(name: str, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    sums = {file: _sha256(path) for file, path in files.items()}
    return {
        file: {"sha256": digest, "published": digest == source_files(name)[file].sha256}
        for file, digest in sums.items()
    }


def _given(name: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Published name -> file, of the given files or folders; a lone file may have any name where one is wanted."""
    wanted = source_files(name)
    if len(wanted) == 1 and len(paths) == 1 and not paths[0].is_dir():
        found = dict.fromkeys(wanted, paths[0])
    else:
        found = {path.name: path for path in paths if not path.is_dir()}
        found |= {file: path / file for path in paths if path.is_dir() for file in wanted if (path / file).exists()}
    if missing := [file for file in wanted if file not in found]:
        raise DataError(f"{name}: wanted {', '.join(missing)} in --archive, got {', '.join(map(str, paths))}")
    for file in wanted:
        if not found[file].is_file():
            raise DataError(f"{name}: wanted an archive, got {found[file]}, which is not a file")
    return {file: found[file] for file in wanted}


def _verify(path: Path, wanted: SourceFile) -> None:
    """Raise DataError unless the file has the published size and checksum."""
    want, got = f"{wanted.size} bytes", f"{path.stat().st_size} bytes"
    if got == want:
        want, got = f"SHA-256 {wanted.sha256}", f"SHA-256 {_sha256(path)}"
    if got != want:
        raise DataError(
            f"{path}: wanted the {want} of {wanted.url}, got {got}; "
            "for an archive of your own in the same format pass --any-checksum"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, folder: Path, otherwise: str) -> dict[str, Path]:
    """The published files in `folder`, fetched where they are missing or not whole.

    otherwise: the command that, with an archive, prepares without a network.
    """
    files = {}
    for file, wanted in source_files(name).items():
        files[file] = folder / file
        if files[file].exists():
            with contextlib.suppress(DataError):
                _verify(files[file], wanted)
                continue
        with atomic_path(files[file]) as temporary:
            try:
                _fetch(wanted, temporary, file)
            except (OSError, http.client.HTTPException) as error:
                urls = [each.url for each in source_files(name).values()]
                raise DataError(
                    f"{name}: could not download {wanted.url}: {getattr(error, 'reason', error)}; fetch "
                    f"{', '.join(urls)} by other means, then: {otherwise} --archive "
                    f"{'FILE' if len(urls) == 1 else 'FOLDER'}"
                ) from error
    return files


def _fetch(wanted: SourceFile, path: Path, file_name: str) -> None:
    from tqdm import tqdm

    with (
        urllib.request.urlopen(wanted.url, timeout=60) as answer,
        path.open("wb") as file,
        tqdm(total=wanted.size, unit="B", unit_scale=True, desc=file_name, disable=None) as bar,
    ):
        while block := answer.read(1 << 20):
            file.write(block)
            bar.update(len(block))
    size = path.stat().st_size
    if size != wanted.size:
        raise OSError(f"the connection ended after {size} of {wanted.size} bytes")
    if (digest := _sha256(path)) != wanted.sha256:
        raise OSError(f"wanted SHA-256 {wanted.sha256}, got {digest}")


@contextlib.contextmanager
def _staging(place: Path, prefix: str) -> Iterator[Path]:
    """A hidden folder in `place`, gone at the end; those that killed runs left there a day ago or longer go as well."""
    for left in place.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):  # another process may be removing it
            if time.time() - left.stat().st_mtime > 24 * 3600:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as staging:
        yield Path(staging)


def _build(name: str, contents: Contents, data_dir: Path) -> Path:
    """The folder of the data set in `data_dir`, written by tensorflow-datasets: its features, its order of examples."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_cls(name)(data_dir=data_dir, file_format="array_record")
    for kind, names in contents.classes.items():
        builder.info.features[kind].names = list(names)

    def split_generators(_: object) -> dict[str, Iterator]:
        return {split: _examples(contents, split, with_id="id" in builder.info.features) for split in contents.images}

    builder._split_generators = split_generators  # the builder's own reads the archive with TensorFlow
    tfds.display_progress_bar(False)  # it would show names of temporary files, as would the lines it prints
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    finally:
        tfds.display_progress_bar(True)
    return Path(builder.data_dir)


def _examples(contents: Contents, split: str, *, with_id: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Key and example, in the archive's order: the same keys as the published builder's, so the same shuffle."""
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
