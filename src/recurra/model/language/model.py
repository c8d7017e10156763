"""A trained language model: text that goes on, and how well a text is predicted."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from recurra.config import LanguageSettings, Settings
from recurra.config.numbers import require_whole
from recurra.data.codec import LINE_END, TextCodec
from recurra.data.texts import GivenText, RunningText, read_texts
from recurra.data.tokenize import UNKNOWN
from recurra.errors import EmptyData, SettingsError
from recurra.model.card import card_page, figures
from recurra.model.language.generation import Choice, continued, searched
from recurra.model.language.measuring import Measured, measure_dynamic, measure_plain, measure_with_cache
from recurra.model.language.network import LanguageNetwork
from recurra.model.trained import OnError, TrainedModel
from recurra.shapes import Int

__all__ = ["LanguageModel"]

MOST_FREQUENT = 2
"""The token that a prompt of nothing begins with where lines have no end."""


class LanguageModel(TrainedModel):
    """A trained model of the next token of a text.

    Args:
        settings: of the run.
        codec: its vocabulary.
        network: with trained weights.
        run: what `run.json` holds.
    """

    command: ClassVar[str] = "generate"
    network: LanguageNetwork

    def __init__(self, settings: Settings, codec: TextCodec, *, network: LanguageNetwork, run: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, network, run)
        self.codec = codec

    def __repr__(self) -> str:
        return f"LanguageModel({self.codec.describe()}; {self.network.parameter_count:,} parameters)"

    # --- text that comes out --------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str = "",
        *,
        most: int = 500,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        beam: int = 0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """What a text goes on with, piece by piece as it is chosen; the prompt is not repeated.

        Parts of the prompt that the vocabulary lacks are read as the unknown token where the training text had some, and are
        passed over else; `unknown` tells them. A prompt of nothing begins as a new line does.

        Args:
            prompt: the text that comes before.
            most: tokens at most; a model of a stream has no end of its own.
            temperature: below 1 safer, above 1 wilder; 0 takes the most probable token.
            top_k: only the most probable so many tokens can come; 0 for all.
            top_p: only the most probable that together reach this probability.
            min_p: only those at least this share as probable as the most probable one.
            repetition_penalty: above 1, tokens that were generated before become less probable.
            beam: sequences that a beam search follows, for the most probable one; 0 draws. It comes as one piece.
            seed: of the draws: the same one gives the same text. Drawn when not given; refused where nothing is drawn.

        Raises:
            SettingsError: the prompt is no text, a number is none or out of range, or would do nothing.
        """
        choice = Choice(most, temperature, top_k, top_p, min_p, repetition_penalty, beam)
        if seed is not None:
            _require_seed(seed)
            choice.refuse_where_nothing_is_drawn(["seed"])
        row = self._read(prompt)
        if beam:
            return iter([searched(self.network, self.codec, row, choice)])
        seeds = [secrets.randbits(32) if seed is None else seed]
        return (pieces[0] for pieces in continued(self.network, self.codec, [row], choice, seeds) if pieces[0])

    def generate_many(
        self, prompts: Sequence[str], *, most: int = 500, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0
    ) -> list[str]:
        """What several texts go on with, side by side; see `generate`. Text n is drawn by the seed plus n.

        Raises:
            SettingsError: a prompt is no text, a number is none or out of range, or one text was given in place of a list.
        """
        if isinstance(prompts, str):
            raise SettingsError("Prompts are a list: give a list, also of one, or use generate.")
        choice = Choice(most, temperature, top_k, top_p)
        _require_seed(seed)
        if not prompts:
            return []
        seeds = [seed + number for number in range(len(prompts))]
        parts = list(continued(self.network, self.codec, [self._read(prompt) for prompt in prompts], choice, seeds))
        return ["".join(pieces) for pieces in zip(*parts, strict=True)]

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that the vocabulary lacks, each once."""
        return self.codec.unknown(text)

    @property
    def knows_unknown(self) -> bool:
        """Whether the training text had tokens outside of the vocabulary, so that the model has learnt what they stand for."""
        return bool(self.run.get("data", {}).get("unknown", {}).get("train", 0))

    def _read(self, prompt: str) -> list[int]:
        if not isinstance(prompt, str):
            raise SettingsError(f"A prompt is a text, not {prompt!r}.")
        tokens = [int(number) for number in self.codec.encode(prompt)]
        if not self.knows_unknown:
            tokens = [number for number in tokens if number != UNKNOWN]
        if tokens:
            return tokens
        start = self.codec.number_of(LINE_END)
        return [MOST_FREQUENT if start is None else start]

    # --- text that is measured ------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, on_error: OnError = "fail", options: LanguageSettings | None = None) -> dict[str, float]:
        """How well a text is predicted.

        Args:
            data: what `recurra.train` takes (files, a table with a text column), or a text itself: a string is a path when it
                has one line and no file of its own name is missing.
            on_error: what happens to lines that are no UTF-8 and rows that cannot be read.
            options: whether a cache and learning on the way are measured too (`cache`, `dynamic_rate`), in place of those that the
                model was trained with.

        Returns:
            `perplexity`, `loss` (nats a token), `accuracy` of the most probable next token and, where tokens give the text back,
            `bits_per_character`, each with its interval as `NAME_low` and `NAME_high`; `tokens`, `unknown` of them. With a cache
            `cache_perplexity` and so on, with dynamic evaluation `dynamic_perplexity` and so on.

        Raises:
            EmptyData: there are fewer than two tokens.
            RowError: a line is no UTF-8.
        """
        text = self._text(data, on_error)
        pieces = [(self.codec.encode(piece), len(piece)) for piece in text.pieces()]
        tokens = np.concatenate([np.zeros(0, np.int32), *(piece for piece, _ in pieces)])
        found = self.measure(tokens, sum(count for _, count in pieces), options=options, description=text.description)
        return found | ({"rows_left_out": text.left_out} if text.left_out else {})

    def measure(
        self, tokens: Int[np.ndarray, " N"], characters: int, *, options: LanguageSettings | None = None, description: str = "the text"
    ) -> dict[str, float]:
        """Flat metrics of encoded text; see `evaluate`.

        Args:
            tokens: of the text.
            characters: of the text.
            options: in place of the model's own.
            description: of the text, for the error.

        Raises:
            EmptyData: there are fewer than two tokens.
        """
        ways = self.measured(tokens, options=options, description=description)
        return self.figures(ways, tokens, characters)

    def measured(
        self, tokens: Int[np.ndarray, " N"], *, options: LanguageSettings | None = None, description: str = "the text"
    ) -> dict[str, Measured]:
        """Token by token, by the prefix that the figures get: the network, and where it is set with a cache and learning; see `measure`.

        Raises:
            EmptyData: there are fewer than two tokens.
        """
        if len(tokens) < 2:
            raise EmptyData(f"There are fewer than two tokens in {description}: nothing can be predicted. Give more text.")
        chosen = self.settings.language if options is None else options
        ways = {"": measure_plain(self.network, tokens)}
        if chosen.cache:
            ways["cache_"] = measure_with_cache(self.network, tokens, chosen)
        if chosen.dynamic_rate:
            ways["dynamic_"] = measure_dynamic(self.network, tokens, chosen)
        return ways

    def figures(self, ways: Mapping[str, Measured], tokens: Int[np.ndarray, " N"], characters: int) -> dict[str, float]:
        """Flat metrics with intervals of what `measured` gave."""
        evaluation = self.settings.evaluation
        shared = {"samples": evaluation.bootstrap_samples, "seed": self.settings.training.seed}
        predicted = self.predicted_characters(tokens, characters)
        found: dict[str, float] = {}
        for prefix, measured in ways.items():
            figures_ = measured.metrics(predicted, confidence=evaluation.confidence, **shared)
            found |= {f"{prefix}{name}": value for name, value in figures_.items() if not (prefix and name == "tokens")}
        return {**found, "unknown": int((tokens == UNKNOWN).sum())}

    def predicted_characters(self, tokens: Int[np.ndarray, " N"], characters: int) -> int | None:
        """Characters of all tokens but the first, which nothing comes before; None where tokens do not give the text back."""
        return characters - self.codec.whole_characters(int(tokens[0])) if self.codec.exact else None

    def _text(self, data: Any, on_error: OnError) -> RunningText:
        if isinstance(data, str) and not _is_path(data):
            return GivenText(data)
        return read_texts(data, column=self.settings.language.text, on_error=on_error)

    # --- the folder -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The vocabulary as JSON values."""
        return {
            "features": [{"name": "text", "type": "stream", "codec": self.codec.to_json()}],
            "head": {"name": "text", "task": "language"},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training."""
        codec = TextCodec.from_json(state["features"][0]["codec"])
        return cls(settings, codec, network=LanguageNetwork(len(codec), settings), run=run)

    def card(self) -> str:
        """The model card, Markdown."""
        encoder = self.settings.encoder
        said = [
            f"A {encoder.cell.upper()} network ({encoder.layers} x {encoder.hidden_size} units) that predicts the next of {self.codec.describe()}."
        ]
        code = 'print("".join(model.generate("Once upon a time", temperature=0.8, seed=1)))'
        measured = figures(self.run)
        return card_page(
            "A language model", said, code=code, run=self.run, settings=self.settings, measured=measured, pipeline="text-generation"
        )


def _require_seed(seed: int) -> None:
    """Raises a `SettingsError` for what starts no generator; those of several texts are counted on from it."""
    require_whole("seed", seed, least=-(2**63))
    if seed >= 2**63:
        raise SettingsError(f"seed is {seed}: give a whole number of 64 bits, such as one from 0 to 9,223,372,036,854,775,807.")


def _is_path(data: str) -> bool:
    """Whether a string names a file, or what looks like one, and is not a text itself."""
    if not data or len(data) > 1_000 or "\n" in data:
        return False
    try:
        return Path(data).exists() or "://" in data or (not any(map(str.isspace, data)) and bool(os.path.splitext(data)[1] or "*" in data))  # noqa: PTH122
    except (OSError, ValueError):
        return False
