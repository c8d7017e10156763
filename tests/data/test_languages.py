"""The built-in data set."""

from __future__ import annotations

import sys

import pytest

from recurra.data.languages import MINIMUM_UTTERANCES, read_languages
from recurra.data.read import read, resolve
from recurra.errors import MissingDependency


def test_languages_follow_their_rules() -> None:
    tables = resolve("languages")
    assert list(tables) == ["train"]
    frame = tables["train"].head(100_000)
    assert frame.columns == ["text", "language"]
    assert 12_000 < frame.height < 14_000
    assert frame["text"].is_unique().all()
    assert frame["language"].value_counts()["count"].min() >= MINIMUM_UTTERANCES  # type: ignore[operator]
    assert "chinese" in frame["language"]
    assert "traditionalchinese" not in frame["language"]
    assert 15 <= frame["language"].n_unique() <= 25
    assert not frame["text"].str.contains(r"^\s|\s$|\n").any()
    assert frame.equals(read_languages())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chatterbot_corpus", None)
    with pytest.raises(MissingDependency, match=r"pip install 'recurra\[demo\]'"):
        read("languages")
