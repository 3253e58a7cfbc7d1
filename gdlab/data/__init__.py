"""Labelled images as arrays, and the augmentation that runs on the device."""

from gdlab.data.augment import crop_and_flip, normalize
from gdlab.data.loading import DATASETS, DataError, Dataset, Split, load, places

__all__ = ["DATASETS", "DataError", "Dataset", "Split", "crop_and_flip", "load", "normalize", "places"]
