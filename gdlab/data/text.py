"""Text as streams of words: Penn Treebank in Mikolov's files, and any folder of files like them."""

import itertools
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gdlab.arguments import describe, require_count, require_number
from gdlab.data.datasets import DataError, places

END = "<eos>"
UNKNOWN = "<unk>"
FOLDERS = {"ptb": ("ptb", "ptb/data", "simple-examples/data")}
"""Of each text that has a name, the folders below a place for data where its files are looked for; the last one is how
Mikolov's archive unpacks."""


class Text(NamedTuple):
    """Three parts as numbers of words; vocabulary[number] is the word. provenance: the folder and how it was read."""

    name: str
    train: Int[np.ndarray, " tokens"]
    valid: Int[np.ndarray, " tokens"]
    test: Int[np.ndarray, " tokens"]
    vocabulary: tuple[str, ...]
    provenance: dict[str, str]


class Windows(NamedTuple):
    """Words and the words that follow them; see `windows`."""

    inputs: Int[np.ndarray, "count steps"]
    targets: Int[np.ndarray, "count steps"]


def load_text(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    vocabulary_size: int | None = None,
    unknown: str | None = None,
) -> Text:
    """The text "ptb", or that of a folder.

    The folder has ptb.train.txt, ptb.valid.txt and ptb.test.txt, or train.txt, valid.txt and test.txt: UTF-8, lines
    ended by LF or CR LF, words apart by spaces and tabs and by nothing else that Unicode calls a blank; "<eos>" is put
    at every line's end. "ptb" is looked for in `places(data_dir)`, in ptb, ptb/data and simple-examples/data. The Text
    has that name, or the folder's own. Words are numbered by falling frequency in the training part, equal ones in
    alphabetical order; Penn Treebank has 10,000.

    vocabulary_size: keep exactly so many words: "<unk>", "<eos>", `unknown`, and the most frequent others; what is cut
    is read as "<unk>". unknown: what words of the other parts that training does not have are read as; it joins the
    vocabulary. None: "<unk>" where vocabulary_size cuts words, since then rare words are read so in any case; else such
    words are an error, which a closed vocabulary such as Penn Treebank's never meets.

    Raises DataError where a file cannot be read, has no words or is not UTF-8, and for words that training does not
    have, with the file and the place in it; ValueError where training has fewer words than vocabulary_size.
    """
    if vocabulary_size is not None:
        require_count("vocabulary_size", vocabulary_size)
    if unknown is not None and (not isinstance(unknown, str) or not _WORD.fullmatch(unknown)):
        raise ValueError(f"unknown: wanted one word, such as {UNKNOWN!r}, or None, got {unknown!r}")
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
                f"{files[part]}: wanted words of the training part, got {words[part][place]!r} at "
                f'{_where(contents[part], place)}; unknown="{UNKNOWN}" reads such words as that'
            )
        return np.array(found, np.int32)

    origin = {"source": "text files", "folder": str(folder.resolve()), "words": str(len(vocabulary))}
    if unknown is not None:
        origin["unknown"] = unknown
    return Text(label, tokens("train"), tokens("valid"), tokens("test"), vocabulary, origin)


def windows(tokens: Int[np.ndarray, " tokens"], batch_size: int, steps: int) -> Windows:
    """The text cut into `batch_size` streams of equal length, and those into windows of `steps` words.

    Row w batch_size + s is window w of stream s, so that batches of `batch_size` consecutive rows go on where the batch
    before stopped; a target is the word after its input. What does not fill a window of all streams is left out, at the
    ends of the text and of every stream: less than batch_size (steps + 1) words, as in the reader of TensorFlow's
    tutorial; Zaremba's streams begin at rounded multiples of words / batch_size, less than batch_size words later.
    Raises ValueError where there are too few words for one window.
    """
    require_count("batch_size", batch_size)
    require_count("steps", steps)
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise TypeError(f"tokens: wanted a vector of integers, got {describe(tokens)}")
    length = len(tokens) // batch_size
    count = (length - 1) // steps
    if count < 1:
        raise ValueError(
            f"tokens: wanted at least {batch_size * (steps + 1)} words for {batch_size} streams and windows of {steps},"
            f" got {len(tokens)}"
        )
    streams = tokens[: batch_size * length].reshape(batch_size, length)

    def cut(begin: int) -> Int[np.ndarray, "count steps"]:
        own = streams[:, begin : begin + count * steps].reshape(batch_size, count, steps)
        return np.ascontiguousarray(own.transpose(1, 0, 2)).reshape(count * batch_size, steps)

    return Windows(cut(0), cut(1))


def unigram_perplexity(
    train: Int[np.ndarray, " tokens"], test: Int[np.ndarray, " others"], vocabulary: int, *, smoothing: float = 0.0
) -> float:
    """exp of the mean -log p of test's words, p being their frequency in train: what knowing no context reaches.

    smoothing: added to every word's count; with 0, the frequencies of greatest likelihood, words of test that train
    lacks raise ValueError. vocabulary: how many words there are.
    """
    require_count("vocabulary", vocabulary)
    require_number("smoothing", smoothing, 0.0)
    for name, words in (("train", train), ("test", test)):
        if not len(words) or np.min(words) < 0 or np.max(words) >= vocabulary:
            raise ValueError(f"{name}: wanted numbers of words from 0 to {vocabulary - 1}, got {_range(words)}")
    counts = np.bincount(train, minlength=vocabulary) + smoothing
    if (missing := np.flatnonzero(counts[np.asarray(test)] == 0)).size:
        raise ValueError(f"smoothing: wanted more than 0, since train lacks word {test[missing[0]]} of test, got 0")
    return math.exp(-float(np.mean(np.log(counts[np.asarray(test)] / counts.sum()))))


def _range(words: Int[np.ndarray, " tokens"]) -> str:
    return f"{np.min(words)} to {np.max(words)}" if len(words) else "none"


def _vocabulary(
    counts: Counter[str], size: int | None, unknown: str | None, source: Path
) -> tuple[tuple[str, ...], list[str]]:
    """The words by falling frequency, and those that are read as UNKNOWN since only `size` are wanted."""
    if unknown is not None:
        counts[unknown] += 0
    cut: list[str] = []
    if size is not None:
        always = dict.fromkeys([UNKNOWN, END, unknown or UNKNOWN])
        counts.update(dict.fromkeys(always, 0))
        if not len(always) <= size <= len(counts):
            raise ValueError(
                f"vocabulary_size: wanted at least {len(always)}, for {', '.join(always)}, and at most {len(counts)}, "
                f"with all words of {source}, got {size}"
            )
        cut = sorted(counts, key=lambda word: (word not in always, -counts[word], word))[size:]
        counts[UNKNOWN] += sum(counts.pop(word) for word in cut)
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))), cut


def _find(name: str | Path, data_dir: str | Path | None) -> tuple[str, Path]:
    """The text's name and its folder."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name: wanted {', '.join(FOLDERS)} or a folder's path, got {describe(name)}")
    if str(name) not in FOLDERS:
        folder = Path(name).expanduser()
        if not os.path.isdir(folder):  # Path's own raises for a name that is too long
            raise DataError(f"name: wanted {', '.join(FOLDERS)} or a folder with train.txt, got {name}, which is none")
        return folder.resolve().name, folder
    looked = [place / below for place in places(data_dir) for below in FOLDERS[str(name)]]
    for folder in looked:
        if any(os.path.exists(folder / file) for file in (f"{name}.train.txt", "train.txt")):
            return str(name), folder
    raise DataError(
        f"{name}: wanted a folder with {name}.train.txt, {name}.valid.txt and {name}.test.txt, looked in "
        f"{', '.join(map(str, looked))}"
    )


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: wanted a file of text, got none") from None
    except OSError as error:
        raise DataError(f"{path}: wanted a file of text, got an error: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: wanted UTF-8, got byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from None
    if not _WORD.search(text):
        raise DataError(f"{path}: wanted words, got none up to the end at offset {len(content)}")
    return text


_WORD = re.compile(r"(?:[^ \t\r\n]+|\r(?!\n))+")
"""Not `str.split`, which also splits at form feeds, no-break spaces and the like."""
_WORD_OR_END = re.compile(_WORD.pattern + r"|\r?\n")


def _words(text: str) -> list[str]:
    """All lines' words, END after each line's; a last line needs no line break."""
    found = [END if word.endswith("\n") else word for word in _WORD_OR_END.findall(text)]
    return found if text.endswith("\n") else [*found, END]


def _where(text: str, place: int) -> str:
    """Line and offset in bytes of the word at the place in `_words(text)`."""
    before = text[: next(itertools.islice(_WORD_OR_END.finditer(text), place, None)).start()]
    line = before.count("\n") + 1
    return f"line {line}, offset {len(before.encode())}"
