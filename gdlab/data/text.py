"""Text as streams of words: Penn Treebank in Mikolov's files, and any folder of files like them."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gdlab.arguments import describe, require_count, require_number
from gdlab.data.loading import DataError, places

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

    The folder has ptb.train.txt, ptb.valid.txt and ptb.test.txt, or train.txt, valid.txt and test.txt: UTF-8, words
    apart by blanks; "<eos>" is put at every line's end. "ptb" is looked for in `places(data_dir)`, in ptb,
    ptb/data and simple-examples/data. Words are numbered by falling frequency in the training part, equal ones in
    alphabetical order; Penn Treebank has 10,000.

    vocabulary_size: keep so many words, the most frequent ones, "<unk>" and "<eos>" among them; others are read as
    "<unk>". unknown: what words of the other parts that training does not have are read as, such as "<unk>"; None: they
    are an error, which a closed vocabulary such as Penn Treebank's never meets. Raises DataError where a file is
    missing, empty or not UTF-8 and for such words, with the file and the place in it.
    """
    if vocabulary_size is not None:
        require_count("vocabulary_size", vocabulary_size, low=2)
    if unknown is not None and (not isinstance(unknown, str) or unknown.split() != [unknown]):
        raise ValueError(f"unknown: wanted one word, such as {UNKNOWN!r}, or None, got {unknown!r}")
    folder = _find(name, data_dir)
    prefix = "ptb." if (folder / "ptb.train.txt").exists() else ""
    files = {part: folder / f"{prefix}{part}.txt" for part in ("train", "valid", "test")}
    contents = {part: _read(path) for part, path in files.items()}
    counts = Counter(word for word, _ in _words(contents["train"]))
    if unknown is not None:
        counts.setdefault(unknown, 0)
    if vocabulary_size is not None and vocabulary_size < len(counts):
        always = {UNKNOWN, END, *([unknown] if unknown is not None else [])}
        ordered = sorted(counts, key=lambda word: (word not in always, -counts[word], word))
        kept = set(ordered[:vocabulary_size]) | always
        lost = sum(count for word, count in counts.items() if word not in kept)
        cut = {word for word in counts if word not in kept}
        counts = Counter({word: counts[word] for word in kept})
        counts[UNKNOWN] += lost
    else:
        cut = set()
    vocabulary = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    number = {word: place for place, word in enumerate(vocabulary)}
    for word in cut:
        number[word] = number[UNKNOWN]

    def tokens(part: str) -> Int[np.ndarray, " tokens"]:
        found = []
        for word, place in _words(contents[part]):
            known = number.get(word)
            if known is None:
                if unknown is None:
                    raise DataError(
                        f"{files[part]}: wanted words of the training part, got {word!r} at "
                        f'{_where(contents[part], place)}; unknown="{UNKNOWN}" reads such words as that'
                    )
                known = number[unknown]
            found.append(known)
        return np.array(found, np.int32)

    label = name if isinstance(name, str) and name in FOLDERS else folder.name
    origin = {"source": "text files", "folder": str(folder.resolve()), "words": str(len(vocabulary))}
    if unknown is not None:
        origin["unknown"] = unknown
    return Text(str(label), tokens("train"), tokens("valid"), tokens("test"), vocabulary, origin)


def windows(tokens: Int[np.ndarray, " tokens"], batch_size: int, steps: int) -> Windows:
    """The text cut into `batch_size` streams of equal length, and those into windows of `steps` words.

    Row w batch_size + s is window w of stream s, so that batches of `batch_size` consecutive rows go on where the batch
    before stopped; a target is the word after its input. What does not fill a window of all streams is left out, at the
    ends of the text and of every stream: less than batch_size (steps + 1) words, as in the readers of Mikolov's and
    Zaremba's code. Raises ValueError where there are too few words for one window.
    """
    require_count("batch_size", batch_size)
    require_count("steps", steps)
    length = len(tokens) // batch_size
    count = (length - 1) // steps
    if count < 1:
        raise ValueError(
            f"tokens: wanted at least {batch_size * (steps + 1)} words for {batch_size} streams and windows of {steps},"
            f" got {len(tokens)}"
        )
    streams = np.asarray(tokens[: batch_size * length]).reshape(batch_size, length)

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
    counts = np.bincount(train, minlength=vocabulary) + smoothing
    if (missing := np.flatnonzero(counts[np.asarray(test)] == 0)).size:
        raise ValueError(f"smoothing: wanted more than 0, since train lacks word {test[missing[0]]} of test, got 0")
    return math.exp(-float(np.mean(np.log(counts[np.asarray(test)] / counts.sum()))))


def _find(name: str | Path, data_dir: str | Path | None) -> Path:
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name: wanted {', '.join(FOLDERS)} or a folder's path, got {describe(name)}")
    if str(name) not in FOLDERS:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise DataError(f"name: wanted {', '.join(FOLDERS)} or a folder with train.txt, got {name}, which is none")
        return folder
    looked = [place / below for place in places(data_dir) for below in FOLDERS[str(name)]]
    for folder in looked:
        if (folder / f"{name}.train.txt").exists() or (folder / "train.txt").exists():
            return folder
    raise DataError(
        f"{name}: wanted a folder with {name}.train.txt, {name}.valid.txt and {name}.test.txt, looked in "
        f"{', '.join(map(str, looked))}"
    )


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: wanted a file of text, got none") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: wanted UTF-8, got byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from None
    if not text.strip():
        raise DataError(f"{path}: wanted words, got an empty file of {len(content)} bytes, offset 0")
    return text


def _words(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each word and its place: the line's number from 0 and the word's in it."""
    for row, line in enumerate(text.splitlines()):
        for column, word in enumerate(line.split()):
            yield word, (row, column)
        yield END, (row, -1)


def _where(text: str, place: tuple[int, int]) -> str:
    """Line and offset in bytes of the word at the place."""
    row, column = place
    lines = text.splitlines(keepends=True)
    before, line = "".join(lines[:row]), lines[row]
    begin = 0
    for number, word in enumerate(line.split()):
        begin = line.index(word, begin)
        if number == column:
            break
        begin += len(word)
    return f"line {row + 1}, offset {len((before + line[:begin]).encode())}"
