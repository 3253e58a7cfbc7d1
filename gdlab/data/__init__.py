"""Labelled images as arrays, their preparation, and the augmentation that runs on the device."""

from gdlab.data.augment import crop_and_flip, normalize
from gdlab.data.loading import DATASETS, DataError, Dataset, Split, find, load, places
from gdlab.data.preparing import prepare

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "Split",
    "crop_and_flip",
    "find",
    "load",
    "normalize",
    "places",
    "prepare",
]
