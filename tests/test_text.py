"""Texts: how words become numbers, every kind of damaged folder, windows, and the unigram baseline."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gdlab.data import DataError, load_text, unigram_perplexity, windows

TFDS = Path(os.environ.get("GDLAB_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")
WIKITEXT = TFDS.parent / "text" / "wikitext2_small"
needs_wikitext = pytest.mark.skipif(not WIKITEXT.is_dir(), reason="no text/wikitext2_small beside $GDLAB_DATA_DIR")

SMALL = {"train": b" the cat saw the dog \n a dog \n", "valid": b" a cat \n", "test": b" the dog saw a cat \n"}
"""Texts in the style of Mikolov's files, with a blank before and after the words of a line."""


def write(folder, prefix="", **parts):
    """Write a folder of text files; those that are not given are SMALL's, and None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in (SMALL | parts).items():
        if content is not None:
            (folder / f"{prefix}{part}.txt").write_bytes(content)
    return folder


def words(text, part):
    return [text.vocabulary[number] for number in getattr(text, part)]


def test_words_are_numbered_by_frequency_and_then_the_alphabet(tmp_path):
    text = load_text(write(tmp_path / "pets"))
    # <eos>, dog and the occur twice, a, cat and saw once.
    assert text.vocabulary == ("<eos>", "dog", "the", "a", "cat", "saw")
    assert text.train.tolist() == [2, 4, 5, 2, 1, 0, 3, 1, 0]
    assert text.valid.tolist() == [3, 4, 0]
    assert text.test.tolist() == [2, 1, 5, 3, 4, 0]
    assert {part.dtype for part in (text.train, text.valid, text.test)} == {np.dtype("int32")}
    assert text.name == "pets"
    assert text.provenance["folder"] == str(tmp_path / "pets")


def test_only_line_feeds_end_lines_and_only_spaces_and_tabs_separate_words(tmp_path):
    odd = ["a\u2028b", "c\x0cd", "e\u00a0f", "g\x85h", "i\x1cj", "k\x0bl", "m\rn", "\u3000", "o\u2029"]
    lines = "\r\n".join([*odd, "", "one\ttwo  three \t", "\t", "last"])  # no line break at the end
    text = load_text(write(tmp_path, train=lines.encode(), valid=b"last\r\n\r\n\none", test=b"two\n"))
    expected = [part for word in odd for part in (word, "<eos>")]
    expected += ["<eos>", "one", "two", "three", "<eos>", "<eos>", "last", "<eos>"]
    assert words(text, "train") == expected
    assert words(text, "valid") == ["last", "<eos>", "<eos>", "<eos>", "one", "<eos>"]
    assert words(text, "test") == ["two", "<eos>"]


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    parts = {part: b"\xef\xbb\xbf" + content for part, content in SMALL.items()}
    marked, plain = load_text(write(tmp_path / "marked", **parts)), load_text(write(tmp_path / "plain"))
    assert marked.vocabulary == plain.vocabulary
    assert marked.train.tolist() == plain.train.tolist()
    inside = load_text(write(tmp_path / "inside", train=SMALL["train"] + "\ufeffcat\n".encode()))
    assert "\ufeffcat" in inside.vocabulary  # only the first character of a file is a mark


def test_where_texts_are_found_and_what_they_are_called(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GDLAB_DATA_DIR", str(tmp_path / "second"))
    with pytest.raises(DataError, match=r"ptb: expected a folder with ptb\.train\.txt") as error:
        load_text("ptb", tmp_path / "first")
    for place in ("first", "second", "home/tensorflow_datasets"):
        for below in ("ptb", "ptb/data", "simple-examples/data"):
            assert str(tmp_path / place / below) in str(error.value)
    for folder, prefix in (
        ("home/tensorflow_datasets/simple-examples/data", "ptb."),
        ("second/ptb/data", "ptb."),
        ("second/ptb", ""),
        ("first/simple-examples/data", "ptb."),
    ):  # each takes precedence over those above it
        write(tmp_path / folder, prefix, valid=f"a {folder}\n".encode(), train=f"a {folder}\n".encode())
        text = load_text("ptb", tmp_path / "first", unknown="<unk>")
        assert (text.name, words(text, "valid")[1]) == ("ptb", folder)
    assert load_text(Path("ptb"), unknown="<unk>").name == "ptb"
    (tmp_path / "link").mkdir()
    monkeypatch.chdir(tmp_path / "second" / "ptb")
    for path in (".", "../ptb", str(tmp_path / "second" / "ptb"), tmp_path / "link" / ".." / "second" / "ptb"):
        assert load_text(path, unknown="<unk>").name == "ptb"
    write(tmp_path / "home" / "pets")
    assert load_text("~/pets").name == "pets"


def test_a_vocabulary_of_a_given_size(tmp_path):
    # the 4, a 3, <eos> 2, cat 2, dog 1, <unk> 1; of the other parts, bird is new.
    train = b"the cat the a the cat the\na a dog <unk>\n"
    folder = write(tmp_path, train=train, valid=b"dog cat bird\n", test=b"<unk> a\n")
    with pytest.raises(DataError, match="'bird'"):
        load_text(folder)
    text = load_text(folder, vocabulary_size=4)
    # With cat and dog there are 4 unknown words: as many as "the", and "<unk>" comes first in the alphabet.
    assert text.vocabulary == ("<unk>", "the", "a", "<eos>")
    assert text.train.tolist() == [1, 0, 1, 2, 1, 0, 1, 3, 2, 2, 0, 0, 3]
    assert words(text, "valid") == ["<unk>"] * 3 + ["<eos>"]
    assert text.test.tolist() == [0, 2, 3]
    assert text.provenance["unknown"] == "<unk>"
    assert load_text(folder, vocabulary_size=2).vocabulary == ("<unk>", "<eos>")
    for size in range(2, 6):
        assert len(load_text(folder, vocabulary_size=size).vocabulary) == size
    # Where nothing is cut, new words are an error, as they are without a size.
    with pytest.raises(DataError, match="'bird'"):
        load_text(folder, vocabulary_size=6)
    for size, most in ((1, 6), (7, 6)):
        with pytest.raises(ValueError, match=f"vocabulary_size: expected at least 2 .*at most {most} .*got {size}"):
            load_text(folder, vocabulary_size=size)
    with pytest.raises(ValueError, match="vocabulary_size: expected an integer of at least 1, got 0"):
        load_text(folder, vocabulary_size=0)


def test_unknown_is_one_of_the_words_that_are_kept(tmp_path):
    folder = write(tmp_path, train=b"the the the cat cat dog\n", valid=b"dog bird\n", test=b"cat\n")
    text = load_text(folder, unknown="<unk>")
    assert text.vocabulary == ("the", "cat", "<eos>", "dog", "<unk>")
    assert words(text, "valid") == ["dog", "<unk>", "<eos>"]
    text = load_text(folder, vocabulary_size=4)
    assert text.vocabulary == ("the", "cat", "<eos>", "<unk>")
    assert words(text, "valid") == ["<unk>", "<unk>", "<eos>"]
    text = load_text(folder, vocabulary_size=4, unknown="<new>")  # rare words and new words differ
    assert text.vocabulary == ("<unk>", "the", "<eos>", "<new>")
    assert words(text, "train") == ["the"] * 3 + ["<unk>"] * 3 + ["<eos>"]
    assert words(text, "valid") == ["<unk>", "<new>", "<eos>"]
    with pytest.raises(ValueError, match=r"at least 3 \(<unk>, <eos>, <new>\) and at most 6"):
        load_text(folder, vocabulary_size=2, unknown="<new>")
    for bad in ("", "two words", "line\n", "\t"):
        with pytest.raises(ValueError, match="unknown: expected one word"):
            load_text(folder, unknown=bad)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a text file, got none"),
        (b"", "expected words, got none before the end of the file at offset 0"),
        (b" \t\r\n \n", "expected words, got none before the end of the file at offset 6"),
        ("the é\n".encode() + b"the \xff\n", "expected UTF-8, got byte 0xff at offset 11"),
        ("the é".encode()[:-1], "expected UTF-8, got byte 0xc3 at offset 4"),
        (b"the\0cat\n", "expected text, got a NUL byte at offset 3"),
        ("the cat\n".encode("utf-16"), "expected UTF-8, got the byte order mark of UTF-16 at offset 0"),
        ("the cat\n".encode("utf-32"), "expected UTF-8, got the byte order mark of UTF-32 at offset 0"),
        ("the cat\n".encode("utf-16-be"), "expected text, got a NUL byte at offset 0"),
        ("\ufeff \n".encode(), "expected words, got none before the end of the file at offset 5"),
    ],
)
def test_a_damaged_file_is_named_with_the_place_in_it(tmp_path, part, content, message):
    for prefix in ("", "ptb."):
        folder = write(tmp_path / f"of{prefix}", prefix, **{part: content})
        if content is None and part == "train" and prefix:
            prefix = ""  # nothing shows that the other files have one
        with pytest.raises(DataError) as error:
            load_text(folder)
        assert str(error.value) == f"{folder / f'{prefix}{part}.txt'}: {message}"


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("bird\n", "line 1, offset 0"),
        ("the <eos>\r\n\r\n\t dog   bird\r\n", "line 3, offset 21"),
        ("a\ndög a bird", "line 2, offset 9"),  # ö is two bytes
        ("the cat\n<eos> birds bird\n", "line 2, offset 20"),  # birds is known
        ("\ufeffthe cat\nbird\n", "line 2, offset 11"),  # the mark is three bytes
    ],
)
def test_a_word_missing_from_training_is_named_with_its_place(tmp_path, part, content, place):
    folder = write(tmp_path, train="the cat saw the dog a dög birds\n".encode(), **{part: content.encode()})
    offset = int(place.split()[-1])
    assert content.encode()[offset:].split()[0] == b"bird"
    with pytest.raises(DataError) as error:
        load_text(folder)
    assert str(error.value) == (
        f"{folder / part}.txt: expected words of the training part, got 'bird' at {place}; "
        'pass unknown="<unk>" to replace such words'
    )


def test_any_failure_to_read_a_file_is_a_data_error(tmp_path, monkeypatch):
    folder = write(tmp_path / "a", valid=None)
    (folder / "valid.txt").mkdir()
    with pytest.raises(DataError, match=r"valid\.txt: expected a text file, got an error: Is a directory"):
        load_text(folder)
    (folder / "valid.txt").rmdir()
    (folder / "valid.txt").symlink_to("valid.txt")
    with pytest.raises(DataError, match=r"valid\.txt: expected a text file, got an error: Too many levels"):
        load_text(folder)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # because root can read any file
    with pytest.raises(DataError, match=r"train\.txt: expected a text file, got an error: Permission denied"):
        load_text(folder)
    for missing in (tmp_path / "none", "none", "n" * 300, folder / "train.txt"):
        with pytest.raises(DataError, match=r"name: expected ptb or a folder .*train\.txt, got .*, which is neither"):
            load_text(missing)
    with pytest.raises(TypeError, match="name: expected ptb or a folder's path, got 3"):
        load_text(3)
    with pytest.raises(TypeError, match="data_dir: expected a path, got 3"):
        load_text(folder, 3)
    (folder / "train.txt").unlink()
    os.mkfifo(folder / "train.txt")  # reading it would wait for a writer
    with pytest.raises(DataError, match=r"train\.txt: expected a text file, got something that is no file"):
        load_text(folder)


def test_windows_continue_where_the_previous_ones_end():
    # 0 to 16 in 2 streams of 8 words, 0-7 and 8-15, which make 2 windows of 3 words each; 16 is left out.
    found = windows(np.arange(17, dtype=np.int32), 2, 3)
    assert found.inputs.tolist() == [[0, 1, 2], [8, 9, 10], [3, 4, 5], [11, 12, 13]]
    assert found.targets.tolist() == [[1, 2, 3], [9, 10, 11], [4, 5, 6], [12, 13, 14]]
    assert found.inputs.dtype == found.targets.dtype == np.int32
    for count, rows in ((8, 2), (13, 2), (14, 4)):  # 13 words: one per stream too few for 2 windows
        assert len(windows(np.arange(count), 2, 3).inputs) == rows
    with pytest.raises(ValueError, match="tokens: expected at least 8 words for 2 streams and windows of 3, got 7"):
        windows(np.arange(7), 2, 3)
    for tokens in (np.arange(17.0), np.zeros((50, 2), int), np.array(3)):
        with pytest.raises(TypeError, match="tokens: expected a vector of integers, got an array"):
            windows(tokens, 2, 3)
    for tokens in ("hello world and so on", None):
        with pytest.raises(TypeError, match=r"tokens: expected (numbers|a vector of integers), got [^a]"):
            windows(tokens, 1, 2)
    for settings, name in (((0, 3), "batch_size"), ((2, 0), "steps")):
        with pytest.raises(ValueError, match=f"{name}: expected an integer of at least 1, got 0"):
            windows(np.arange(17), *settings)


def test_perplexity_of_word_frequencies():
    train, test = np.array([0, 0, 0, 1]), np.array([0, 1])
    assert unigram_perplexity(train, test, 2) == pytest.approx((3 / 4 * 1 / 4) ** (-1 / 2))
    assert unigram_perplexity(train, np.array([0, 1, 2]), 3, smoothing=1) == pytest.approx((8 / 7**3) ** (-1 / 3))
    assert unigram_perplexity(np.arange(7), np.arange(7), 7) == pytest.approx(7)
    with pytest.raises(ValueError, match="smoothing: expected a number above 0, as train lacks word 2 of test"):
        unigram_perplexity(train, np.array([0, 2]), 3)
    for bad in ("words", None, np.arange(2.0), np.zeros((2, 2), int)):
        with pytest.raises(TypeError, match=r"test: expected (numbers|a vector of integers), got "):
            unigram_perplexity(train, bad, 2)
    for bad, got in (([], "none"), ([1, 2], "1 to 2"), ([-1], "-1 to -1")):
        with pytest.raises(ValueError, match=f"expected word indices from 0 to 1, got {got}"):
            unigram_perplexity(train, np.array(bad, np.int32), 2, smoothing=1)


@needs_wikitext
def test_real_text_is_read_word_for_word():
    text = load_text(WIKITEXT, unknown="<unk>")
    # 214, 118 and 123 thousand words, as published with the files, and 3760, 2179 and 2179 lines.
    assert [len(part) // 1000 for part in (text.train, text.valid, text.test)] == [217, 120, 125]
    plain = {}
    for part in ("train", "valid", "test"):
        content = (WIKITEXT / f"{part}.txt").read_text()
        plain[part] = content.replace("\n", " <eos> ").split()
        known = set(plain["train"])
        assert words(text, part) == [word if word in known else "<unk>" for word in plain[part]]
    counts = np.bincount(text.train)
    assert Counter(plain["train"]) == dict(zip(text.vocabulary, counts.tolist(), strict=True))
    assert (np.diff(counts) <= 0).all()
    with pytest.raises(DataError, match=r"valid\.txt: expected words of the training part, got 'Herons' at line 4"):
        load_text(WIKITEXT)
    cut = load_text(WIKITEXT, vocabulary_size=2000)
    assert len(cut.vocabulary) == 2000
    frequent = {word for word, _ in Counter(plain["train"]).most_common(1900)}
    assert frequent <= set(cut.vocabulary)
