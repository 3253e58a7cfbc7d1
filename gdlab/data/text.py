"""Text as streams of words: the Penn Treebank in Mikolov's files, and any folder with files in the same format."""

import codecs
import itertools
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from gdlab.arguments import as_numbers, as_path, describe, require_count, require_instance, require_number
from gdlab.data.datasets import DataError, places

END = "<eos>"
UNKNOWN = "<unk>"
FOLDERS = {"ptb": ("ptb", "ptb/data", "simple-examples/data")}
"""For each named text, the subfolders of `places(data_dir)` that may hold its files; the last one is the folder
that Mikolov's archive unpacks to."""


class Text(NamedTuple):
    """A text in three parts, with words replaced by their indices in the vocabulary.

    Attributes:
      name: the name of the text.
      train: the word indices of the training part.
      valid: the word indices of the validation part.
      test: the word indices of the test part.
      vocabulary: the words; `vocabulary[index]` is the word with that index.
      provenance: the folder of the text and how it was read.
    """

    name: str
    train: Int[np.ndarray, " tokens"]
    valid: Int[np.ndarray, " tokens"]
    test: Int[np.ndarray, " tokens"]
    vocabulary: tuple[str, ...]
    provenance: dict[str, str]


class Windows(NamedTuple):
    """Windows of a text; see `windows`.

    Attributes:
      inputs: the word indices of each window.
      targets: for each of the inputs, the index of the word that follows it.
    """

    inputs: Int[np.ndarray, "count steps"]
    targets: Int[np.ndarray, "count steps"]


def load_text(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    vocabulary_size: int | None = None,
    unknown: str | None = None,
) -> Text:
    """Load the Penn Treebank, or the text in a folder.

    The folder contains ptb.train.txt, ptb.valid.txt and ptb.test.txt, or train.txt, valid.txt and test.txt. The files
    are UTF-8, with or without a byte order mark, and lines end with LF or CR LF. Words are separated by spaces and
    tabs, but not by other characters that Unicode classifies as white space. "<eos>" is added at the end of every line.
    Words are indexed in order of decreasing frequency in the training part, and alphabetically for equal frequencies.
    The Penn Treebank has 10,000 words.

    Args:
      name: "ptb" for the Penn Treebank, which may be in the subfolders ptb, ptb/data and simple-examples/data of
        `places(data_dir)`; or a folder, whose name becomes the name of the text.
      data_dir: a folder to search first; see `places`.
      vocabulary_size: the exact size of the vocabulary: "<unk>", "<eos>", `unknown`, and the most frequent other words.
        All other words are replaced by "<unk>". None: keep all words.
      unknown: the word that replaces words that do not occur in the training part; it becomes part of the vocabulary.
        None: "<unk>" if `vocabulary_size` removes words, because rare words are then replaced in the same way. If it
        removes none, such words are an error, which a closed vocabulary such as that of the Penn Treebank never causes.

    Returns:
      A `Text`.

    Raises:
      DataError: if a file is missing, cannot be read, is not UTF-8, has a NUL byte or no words, or if a word does not
        occur in the training part; the message names the file and the position in it.
      TypeError: if an argument has the wrong type.
      ValueError: if the training part has fewer words than `vocabulary_size`, or `unknown` is not one word.
    """
    if data_dir is not None:
        as_path("data_dir", data_dir)
    if vocabulary_size is not None:
        require_count("vocabulary_size", vocabulary_size)
    if unknown is not None and (not isinstance(unknown, str) or not _WORD.fullmatch(unknown)):
        raise ValueError(f"unknown: expected one word, such as {UNKNOWN!r}, or None, got {describe(unknown)}")
    label, folder = _find(name, data_dir)
    prefix = "ptb." if os.path.exists(folder / "ptb.train.txt") else ""
    files = {part: folder / f"{prefix}{part}.txt" for part in ("train", "valid", "test")}
    contents = {part: _read(path) for part, path in files.items()}
    words = {part: _words(content) for part, content in contents.items()}
    vocabulary, cut = _vocabulary(Counter(words["train"]), vocabulary_size, unknown, files["train"])
    if cut and unknown is None:
        unknown = UNKNOWN
    number = {word: place for place, word in enumerate(vocabulary)}
    if cut:
        number |= dict.fromkeys(cut, number[UNKNOWN])
    other = None if unknown is None else number[unknown]

    def tokens(part: str) -> Int[np.ndarray, " tokens"]:
        found = [number.get(word, other) for word in words[part]]
        if None in found:
            place = found.index(None)
            raise DataError(
                f"{files[part]}: expected words of the training part, got {words[part][place]!r} at "
                f'{_where(contents[part], place)}; pass unknown="{UNKNOWN}" to replace such words'
            )
        return np.array(found, np.int32)

    origin = {"source": "text files", "folder": str(folder.resolve()), "words": str(len(vocabulary))}
    if unknown is not None:
        origin["unknown"] = unknown
    return Text(label, tokens("train"), tokens("valid"), tokens("test"), vocabulary, origin)


def windows(tokens: Int[np.ndarray, " tokens"], batch_size: int, steps: int) -> Windows:
    """Cut a text into `batch_size` streams of equal length, and each stream into windows of `steps` words.

    Row w * batch_size + s is window w of stream s, so each batch of `batch_size` consecutive rows continues where the
    batch before it stopped. Words that do not fill a window in every stream are left out, at the end of the text and of
    each stream: fewer than batch_size * (steps + 1) words, as in the reader of TensorFlow's tutorial. In the code of
    Zaremba et al., streams begin at rounded multiples of words / batch_size, fewer than batch_size words later.

    Args:
      tokens: the word indices of the text, a vector of integers.
      batch_size: the number of streams.
      steps: the number of words per window.

    Returns:
      `Windows`, in which each target is the word after its input.

    Raises:
      TypeError: if `tokens` is not a vector of integers.
      ValueError: if there are too few words for one window.
    """
    require_count("batch_size", batch_size)
    require_count("steps", steps)
    tokens = _as_words("tokens", tokens)
    length = len(tokens) // batch_size
    count = (length - 1) // steps
    if count < 1:
        raise ValueError(
            f"tokens: expected at least {batch_size * (steps + 1)} words for {batch_size} streams and windows of "
            f"{steps}, got {len(tokens)}"
        )
    streams = tokens[: batch_size * length].reshape(batch_size, length)

    def cut(begin: int) -> Int[np.ndarray, "count steps"]:
        own = streams[:, begin : begin + count * steps].reshape(batch_size, count, steps)
        return np.ascontiguousarray(own.transpose(1, 0, 2)).reshape(count * batch_size, steps)

    return Windows(cut(0), cut(1))


def unigram_perplexity(
    train: Int[np.ndarray, " tokens"], test: Int[np.ndarray, " others"], vocabulary: int, *, smoothing: float = 0.0
) -> float:
    """Perplexity of a text under word frequencies: the exponential of the mean of -log p over the words of `test`.

    Here p is the frequency of a word in `train`. This is the perplexity of a model that does not use the context.

    Args:
      train: the word indices from which frequencies are estimated.
      test: the word indices to evaluate.
      vocabulary: the number of words in the vocabulary.
      smoothing: the number added to the count of every word. With the default 0, the frequencies are the maximum
        likelihood estimate.

    Returns:
      The perplexity.

    Raises:
      ValueError: if an index is out of range, a part is empty, or, without smoothing, `train` lacks a word of `test`.
    """
    require_count("vocabulary", vocabulary)
    require_number("smoothing", smoothing, 0.0)
    train, test = _as_words("train", train), _as_words("test", test)
    for name, words in (("train", train), ("test", test)):
        if not len(words) or np.min(words) < 0 or np.max(words) >= vocabulary:
            raise ValueError(f"{name}: expected word indices from 0 to {vocabulary - 1}, got {_range(words)}")
    counts = np.bincount(train, minlength=vocabulary) + smoothing
    if (missing := np.flatnonzero(counts[test] == 0)).size:
        raise ValueError(f"smoothing: expected a number above 0, as train lacks word {test[missing[0]]} of test, got 0")
    return math.exp(-float(np.mean(np.log(counts[test] / counts.sum()))))


def _as_words(name: str, words: Any) -> Int[np.ndarray, " tokens"]:
    """Convert word indices to a vector of integers."""
    found = as_numbers(name, words, finite=False)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise TypeError(f"{name}: expected a vector of integers, got {describe(words)}")
    return found if found.size else found.astype(np.int32)


def _range(words: Int[np.ndarray, " tokens"]) -> str:
    return f"{np.min(words)} to {np.max(words)}" if len(words) else "none"


def _vocabulary(
    counts: Counter[str], size: int | None, unknown: str | None, source: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Return the vocabulary by decreasing frequency, and the words to replace by UNKNOWN because of its size."""
    if unknown is not None:
        counts[unknown] += 0
    cut: list[str] = []
    if size is not None:
        always = dict.fromkeys([UNKNOWN, END, unknown or UNKNOWN])
        counts.update(dict.fromkeys(always, 0))
        if not len(always) <= size <= len(counts):
            raise ValueError(
                f"vocabulary_size: expected at least {len(always)} ({', '.join(always)}) and at most {len(counts)} "
                f"(all words of {source}), got {size}"
            )
        cut = sorted(counts, key=lambda word: (word not in always, -counts[word], word))[size:]
        counts[UNKNOWN] += sum(counts.pop(word) for word in cut)
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))), cut


def require_text_name(argument: str, name: Any) -> None:
    """Raise an error that names the `argument` unless `name` is that of a known text, or a folder's path."""
    require_instance(argument, name, (str, os.PathLike), f"{', '.join(FOLDERS)} or a folder's path")
    if str(name) not in FOLDERS and not os.path.isdir(as_path(argument, name)):  # Path.is_dir raises for a long name
        raise DataError(
            f"{argument}: expected {', '.join(FOLDERS)} or a folder with train.txt, got {name}, which is neither"
        )


def _find(name: str | Path, data_dir: str | Path | None) -> tuple[str, Path]:
    """Return the name of the text and its folder."""
    require_text_name("name", name)
    if str(name) not in FOLDERS:
        folder = as_path("name", name)
        return folder.resolve().name, folder
    looked = [place / below for place in places(data_dir) for below in FOLDERS[str(name)]]
    for folder in looked:
        if any(os.path.exists(folder / file) for file in (f"{name}.train.txt", "train.txt")):
            return str(name), folder
    raise DataError(
        f"{name}: expected a folder with {name}.train.txt, {name}.valid.txt and {name}.test.txt, looked in "
        f"{', '.join(map(str, looked))}"
    )


def _read(path: Path) -> str:
    """Return the text of a file, which still begins with the byte order mark if there is one, for the offsets."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(f"{path}: expected a text file, got something that is no file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: expected a text file, got none") from None
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: expected a text file, got an error: {error.strerror or error}") from error
    for mark, encoding in _OTHER_MARKS.items():
        if content.startswith(mark):
            raise DataError(f"{path}: expected UTF-8, got the byte order mark of {encoding} at offset 0")
    if (nul := content.find(b"\0")) >= 0:
        raise DataError(f"{path}: expected text, got a NUL byte at offset {nul}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8, got byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from None
    if not _WORD.search(text, text.startswith(_MARK)):
        raise DataError(f"{path}: expected words, got none before the end of the file at offset {len(content)}")
    return text


_MARK = "\ufeff"
"""The byte order mark, which some programs write in front of UTF-8; it is no part of the first word."""
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_WORD = re.compile(r"(?:[^ \t\r\n]+|\r(?!\n))+")
"""Matches one word; `str.split` would also split at form feeds, no-break spaces and the like."""
_WORD_OR_END = re.compile(_WORD.pattern + r"|\r?\n")


def _words(text: str) -> list[str]:
    """Return the words of all lines, with END after each line; the last line may lack its line break."""
    found = [END if word.endswith("\n") else word for word in _WORD_OR_END.findall(text, text.startswith(_MARK))]
    return found if text.endswith("\n") else [*found, END]


def _where(text: str, place: int) -> str:
    """Return the line and the byte offset of the word at index `place` of `_words(text)`."""
    found = _WORD_OR_END.finditer(text, text.startswith(_MARK))
    before = text[: next(itertools.islice(found, place, None)).start()]
    line = before.count("\n") + 1
    return f"line {line}, offset {len(before.encode())}"
