from __future__ import annotations

import gzip

import numpy as np
import pytest

from recurra.data.vectors import read_vectors, vector_size
from recurra.errors import DataError, RowError

TOKENS = ["<pad>", "<unk>", "the", "Cat", "york new", "absent"]
GLOVE = "the 1 2 3\ncat 4 5 6\nCat 7 8 9\nnever 0 0 0\nthe 9 9 9\n"


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "vectors.txt"):
        path = tmp_path / name
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_glove(write, name):
    vectors = read_vectors(write(GLOVE, name), TOKENS)
    assert vectors.matrix.dtype == np.float32
    assert vectors.matrix[2:].tolist() == [[1, 2, 3], [7, 8, 9], [0, 0, 0], [0, 0, 0]]
    assert vectors.found.tolist() == [False, False, True, True, False, False]
    assert vectors.coverage == 0.5


def test_fasttext_header_blank_at_the_end_and_word_with_blanks(write):
    vectors = read_vectors(write("3 2\nthe 1 2 \nyork new 3 4 \n\nother 5 6 \n"), TOKENS)
    assert vectors.matrix.shape == (6, 2)
    assert vectors.matrix[4].tolist() == [3, 4]
    assert vectors.coverage == 0.5


def test_size_alone(write):
    assert vector_size(write(GLOVE)) == 3
    assert vector_size(write("3 2\nthe 1 2 \n", "fasttext.txt.gz")) == 2
    with pytest.raises(DataError, match="is empty"):
        vector_size(write(""))


@pytest.mark.parametrize("content", ["cat 1 2\nCat 3 4\n", "Cat 3 4\ncat 1 2\n"])
def test_the_same_word_wins_over_its_lower_case(write, content):
    assert read_vectors(write(content), TOKENS).matrix[3].tolist() == [3, 4]


def test_lower_case_when_nothing_else(write):
    vectors = read_vectors(write("cat 1 2\n"), TOKENS)
    assert vectors.matrix[3].tolist() == [1, 2]
    assert vectors.found[3]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("the 1 2\ncat 1\n", 2, "a word and 2 numbers"),
        ("the 1 2\nx\n", 2, "a word and 2 numbers"),
        ("alone\n", 1, "a word and its numbers"),
        ("2 2\nother 1 2\nthe 1 x\n", 3, "not a number"),
        ("the 1 nan\n", 1, "not finite"),
    ],
)
def test_malformed_line_is_named(write, content, line, said):
    path = write(content)
    with pytest.raises(RowError, match=said) as caught:
        read_vectors(path, TOKENS)
    assert caught.value.line == line
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_used(write, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(tmp_path / "none.txt", TOKENS)
    with pytest.raises(DataError, match="is empty"):
        read_vectors(write(""), TOKENS)
    with pytest.raises(DataError, match="none of the 4 tokens"):
        read_vectors(write("zzz 1 2\n"), TOKENS)
    whole = write(GLOVE, "cut.gz")
    whole.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(whole, TOKENS)
    path = tmp_path / "not.gz"
    path.write_text(GLOVE)
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(path, TOKENS)
