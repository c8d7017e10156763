"""The package `chatterbot-corpus`: its conversations, and of them the built-in data set `languages`: short utterances and the language they are in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.errors import MissingDependency

if TYPE_CHECKING:
    import polars as pl

__all__ = ["conversations", "read_languages"]

MINIMUM_UTTERANCES = 100
_SAME_LANGUAGE = {"traditionalchinese": "chinese"}


def read_languages() -> pl.DataFrame:
    """Columns text and language, about 13,000 rows, in an order shuffled once for all.

    The two Chinese scripts are one language. Left out are repeated utterances, those that stand under two languages
    (bare numbers, names, loan words), and then languages with fewer than 100 utterances.

    Raises:
        MissingDependency: the package is not installed.

    Source: https://github.com/gunthercox/chatterbot-corpus (BSD licence).
    """
    import polars as pl

    rows = [(text, language) for language, said in conversations() for text in said]
    frame = pl.DataFrame(rows, schema={"text": pl.String, "language": pl.String}, orient="row").unique()
    frame = frame.filter(pl.len().over("text") == 1)
    frame = frame.filter(pl.len().over("language") >= MINIMUM_UTTERANCES).sort("language", "text")
    return frame[np.random.default_rng(0).permutation(frame.height)]


def _folder() -> Path:
    try:
        import chatterbot_corpus
    except ImportError as error:
        raise MissingDependency(
            "The data sets 'languages' and 'chatterbot' are read from an optional package: pip install 'recurra[demo]'."
        ) from error
    return Path(str(chatterbot_corpus.__file__)).parent / "data"


def conversations() -> list[tuple[str, list[str]]]:
    """Every conversation of `chatterbot-corpus`: its language, and what is said in order. The two Chinese scripts are one language.

    Raises:
        MissingDependency: the package is not installed.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: list[tuple[str, list[str]]] = []
    for path in sorted(_folder().glob("*/*.yml")):
        language = _SAME_LANGUAGE.get(path.parent.name, path.parent.name)
        content: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader
        for conversation in content.get("conversations") or []:
            said = [" ".join(str(utterance).split()) for utterance in (conversation if isinstance(conversation, list) else [conversation])]
            found.append((language, [text for text in said if text]))
    return found
