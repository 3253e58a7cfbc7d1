"""Labelled images and text as arrays, their preparation, and augmentation that runs on the device."""

from gdlab.data.augmentation import crop_and_flip, normalize
from gdlab.data.datasets import DATASETS, DataError, Dataset, Split, find, load, places
from gdlab.data.preparation import prepare
from gdlab.data.text import Text, Windows, load_text, unigram_perplexity, windows

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "Split",
    "Text",
    "Windows",
    "crop_and_flip",
    "find",
    "load",
    "load_text",
    "normalize",
    "places",
    "prepare",
    "unigram_perplexity",
    "windows",
]
