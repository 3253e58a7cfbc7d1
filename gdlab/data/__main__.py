"""Prepare data sets, and see which are there: `python -m gdlab.data prepare cifar10`, `python -m gdlab.data list`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from gdlab.data.datasets import DATASETS, find, load
from gdlab.data.preparation import prepare

app = tyro.extras.SubcommandApp()


@app.command(name="prepare")
def prepare_one(
    name: tyro.conf.Positional[str],
    archive: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")] = (),
    data_dir: Path | None = None,
    any_checksum: bool = False,
) -> None:
    """Make the folder that gdlab.data.load reads from a data set's published archive, and read it once.

    Args:
        name: cifar10, cifar100, stl10, mnist or fashion_mnist.
        archive: The published files, or the folder they are in; downloaded where none is given.
        data_dir: Where the folder goes: default $GDLAB_DATA_DIR, or ~/tensorflow_datasets.
        any_checksum: Take given archives whose checksum is not the published one.
    """
    began = time.perf_counter()
    folder = prepare(name, archive, data_dir, any_checksum=any_checksum)
    dataset = load(name, data_dir)
    print(
        f"{folder}: {len(dataset.train.labels)} + {len(dataset.test.labels)} images of {len(dataset.classes)} classes, "
        f"{time.perf_counter() - began:.0f} s"
    )


@app.command(name="list")
def list_all(data_dir: Path | None = None) -> None:
    """Say where each data set is found, or where it was looked for.

    Args:
        data_dir: Looked in first.
    """
    for name in DATASETS:
        if name == "digits":
            print(f"{name:14s}with scikit-learn")
            continue
        folder, looked = find(name, data_dir)
        print(f"{name:14s}{folder if folder else 'not in ' + ', '.join(looked)}")


def main() -> None:
    """Run the command line; every expected failure is one line and exit status 1."""
    try:
        app.cli(prog="python -m gdlab.data", description=__doc__)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"gdlab.data: {error}")


if __name__ == "__main__":
    main()
