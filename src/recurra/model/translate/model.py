"""A trained model of text to text: what it writes for a text, and how near that is to what should stand there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from recurra.config import Settings
from recurra.config.numbers import require_whole
from recurra.data.codec import TextCodec
from recurra.data.pairs import blank, encode_texts
from recurra.data.read import Table, given_texts, read, require_columns
from recurra.data.store import Ragged
from recurra.data.surrogates import without_surrogates
from recurra.data.tokenize import UNKNOWN
from recurra.errors import EmptyData, SettingsError
from recurra.model.card import card_page, figures
from recurra.model.model import Prediction, unreadable_rows
from recurra.model.trained import OnError, TrainedModel
from recurra.model.translate.measuring import MeasuredTexts, alignments, force
from recurra.model.translate.network import TranslateNetwork
from recurra.model.translate.outputs import Aligned, Translation, as_frame
from recurra.model.translate.search import Search, search
from recurra.model.translate.wording import names_unknown, worded

__all__ = ["Translator"]

CHUNK = 1_024
"""Rows that are read and written at a time."""


class Translator(TrainedModel):
    """A trained model that writes one text from another: a translation, a summary, a reply.

    Args:
        settings: of the run, with source and target filled in.
        codec: the vocabulary of both.
        network: with trained weights.
        longest: tokens of the longest target in the training part.
        run: what `run.json` holds.
    """

    command: ClassVar[str] = "predict"
    network: TranslateNetwork

    def __init__(
        self, settings: Settings, codec: TextCodec, *, network: TranslateNetwork, longest: int, run: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(settings, network, run)
        self.codec = codec
        self.longest = longest

    def __repr__(self) -> str:
        return f"Translator({self.source} -> {self.target}; {self.codec.describe()}; {self.network.parameter_count:,} parameters)"

    @property
    def source(self) -> str:
        """Name of the column that is read."""
        return self.settings.translate.source or "source"

    @property
    def target(self) -> str:
        """Name of the column that is written."""
        return self.settings.target or "target"

    # --- texts that come out --------------------------------------------------------------------------------------

    def translate(
        self,
        texts: Sequence[str | None],
        *,
        beam: int | None = None,
        n_best: int = 1,
        length_power: float | None = None,
        most: int | None = None,
        forbidden: Sequence[str] = (),
        forced: Sequence[str] = (),
    ) -> list[Translation]:
        """What the model writes for each text, one `Translation` each.

        A text depends on nothing but itself, not on those beside it. Of a text of nothing but blanks nothing is written, with score
        zero. A text longer than `text.max_length` tokens is read up to there, and says so.

        Args:
            texts: to read; a missing one is a text of nothing.
            beam: outputs that are followed; that of the settings when not given, and never fewer than `n_best`. 1 is greedy.
            n_best: outputs wanted; the further ones are in `alternatives`. There are fewer where the beam found no more.
            length_power: 0 prefers short outputs, 1 the mean probability of a token; that of the settings when not given.
            most: tokens of an output at most; that of the settings when not given.
            forbidden: words or phrases that may not come, as they are written.
            forced: words or phrases that must come, in any order; outputs without are given only where none was found with them.

        Raises:
            SettingsError: a number is out of range, a phrase is empty, a forced one is not in the vocabulary or holds a forbidden one, or
                one text was given in place of a list.
        """
        if isinstance(texts, str):
            raise SettingsError("Texts to translate are a list: give a list, also of one.")
        if isinstance(forbidden, str) or isinstance(forced, str):
            raise SettingsError("Forbidden and forced words are lists of words or phrases: give a list, also of one.")
        forbidden, forced = without_surrogates(forbidden), without_surrogates(forced)
        chosen = self._constrained(self._search(beam, n_best, length_power, most), forbidden, forced)
        given = pl.Series(["" if text is None else without_surrogates(str(text)) for text in texts], dtype=pl.String)
        sources = encode_texts(self.codec, given, self.settings.text.max_length)
        there = np.flatnonzero(sources.lengths)
        read = sources.take(there)
        cut = _cut_rows(self.codec, given, sources) if sources.truncated else set()
        written = search(self.network, read, chosen) if len(there) else []
        names = worded(self.network, self.codec, given.gather(there), read, written)
        found = [Translation("", 0.0, 0.0) for _ in given]
        for row, outputs, named in zip(there.tolist(), written, names, strict=True):
            every = [
                Translation(text, each.score, each.log_probability, each.ended, row in cut)
                for text, each in zip(named, outputs, strict=True)
            ]
            allowed = [each for each in every if not any(phrase in each.text for phrase in forbidden)] or every
            found[row] = replace(allowed[0], alternatives=tuple(allowed[1:]))
        return found

    def attention(self, text: str, output: str | None = None) -> Aligned:
        """What each token of an output attends to.

        Args:
            text: that is read.
            output: that is written; what the model would write when not given.
        """
        written = self.translate([text])[0].text if output is None else output
        text, written = without_surrogates(text), without_surrogates(written)
        source, target = (encode_texts(self.codec, pl.Series([each]), self.settings.text.max_length) for each in (text, written))
        weights = alignments(self.network, source, target)[0]
        parts = [self.codec.parts(each.strip())[: int(rows.lengths[0])] for each, rows in ((text, source), (written, target))]
        return Aligned(parts[0], [*parts[1], "⏎"], weights)

    @property
    def most(self) -> int:
        """Tokens of an output at most, where nothing else is said."""
        chosen = self.settings.translate.most
        return 2 * self.longest + 1 if chosen == "auto" else chosen

    def _search(self, beam: int | None, n_best: int, length_power: float | None, most: int | None) -> Search:
        chosen = self.settings.translate
        require_whole("n_best", n_best, least=1)
        return Search(
            max(chosen.beam, n_best) if beam is None else beam,
            n_best,
            chosen.length_power if length_power is None else length_power,
            self.most if most is None else most,
            unknown=names_unknown(self.codec, chosen),
        )

    def _constrained(self, chosen: Search, forbidden: Sequence[str], forced: Sequence[str]) -> Search:
        if not all(phrase.strip() for phrase in (*forbidden, *forced)):
            raise SettingsError("A forbidden or forced phrase is empty: give at least one word each.")
        for phrase in forced:
            within = next((each for each in forbidden if each in phrase), None)
            if within is not None:
                raise SettingsError(f"{phrase!r} cannot be forced where {within!r} is forbidden: leave one of them out.")
        barred = [numbers for phrase in forbidden for numbers in self._phrase(phrase) if UNKNOWN not in numbers]
        wanted = []
        for phrase in forced:
            numbers = self._phrase(phrase)[-1]
            if UNKNOWN in numbers:
                raise SettingsError(f"{phrase!r} cannot be forced: {', '.join(self.codec.unknown(phrase))!r} is not in the vocabulary.")
            wanted.append(numbers)
        return replace(chosen, forbidden=tuple(barred), forced=tuple(wanted))

    def _phrase(self, phrase: str) -> list[list[int]]:
        """The tokens of a phrase at the beginning of a text, and after a blank."""
        forms = [phrase.strip(), f" {phrase.strip()}"] if self.codec.kind == "bpe" else [phrase.strip()]
        return [self.codec.encode_rows(pl.Series([form])).values.tolist() for form in forms]

    # --- rows of a table ------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, on_error: OnError = "fail", beam: int | None = None, n_best: int = 1) -> pl.DataFrame:
        """Write for a text, texts or the rows of a table; see `predict_chunks`."""
        parts = [part.outputs for part in self.predict_chunks(data, on_error=on_error, beam=beam, n_best=n_best)]
        return pl.concat(parts) if parts else as_frame([], n_best)

    def predict_chunks(
        self,
        data: Any,
        *,
        on_error: OnError = "fail",
        beam: int | None = None,
        n_best: int = 1,
        forbidden: Sequence[str] = (),
        forced: Sequence[str] = (),
    ) -> Iterator[Prediction]:
        """Write piece by piece, in constant memory, in the order of the rows.

        Args:
            data: a text, a list or a column of texts, or a table with the column that is read (a frame, rows, the path of a file).
            on_error: what happens to rows that cannot be read.
            beam: see `translate`.
            n_best: see `translate`.
            forbidden: see `translate`.
            forced: see `translate`.

        Yields:
            For each row `text` and `score`, with `n_best` above one also `alternatives` and `alternative_scores`.

        Raises:
            MissingColumn: the column is not there.
            RowError: a row cannot be read.
        """
        table = self._table(data, on_error)
        for number, frame in enumerate(table.chunks(size=CHUNK)):
            texts = frame[self.source].cast(pl.String).fill_null("").to_list()
            outputs = self.translate(texts, beam=beam, n_best=n_best, forbidden=forbidden, forced=forced)
            cut = sum(each.source_cut for each in outputs)
            longest = self.settings.text.max_length
            notes = (f"{cut:,} of these texts are longer than {longest:,} tokens (text.max_length) and read up to there",) if cut else ()
            kept = frame.drop(list(table.join))
            yield Prediction(kept, as_frame(outputs, n_best), *unreadable_rows(table, first=not number), notes)

    def evaluate(self, data: Any, *, on_error: OnError = "fail") -> dict[str, float]:
        """Measure on a table with both columns.

        Args:
            data: a table as for `predict`, with the column that is to be written.
            on_error: what happens to rows that cannot be read.

        Returns:
            `bleu` and `chrf` (0 to 100), `exact_match`, `length_ratio` (words written over words wanted); of the references, each token
            after the true ones before it, `token_accuracy`, `perplexity` and `loss` (nats a token). Each with its interval as
            `NAME_low` and `NAME_high`; `rows` measured, and `rows_left_out` where there were any.

        Raises:
            MissingColumn: a column is not there.
            EmptyData: no row has both texts.
        """
        table = self._table(data, on_error, texts_too=False)
        require_columns(table, [self.source, self.target])
        frames = list(table.chunks([self.source, self.target]))
        both = pl.concat(frames) if frames else pl.DataFrame(schema={self.source: pl.String, self.target: pl.String})
        kept = both.filter(~(blank(both[self.source]) | blank(both[self.target])))
        if kept.is_empty():
            raise EmptyData(
                f"No row of {table.description} has a text in both {self.source!r} and {self.target!r}: nothing can be measured."
            )
        measured = self.measure(kept[self.source], kept[self.target])
        found = measured.metrics(self.settings.evaluation, seed=self.settings.training.seed)
        left_out = len(both) - len(kept) + table.bad_row_count
        return found | ({"rows_left_out": left_out} if left_out else {})

    def measure(self, sources: pl.Series, references: pl.Series) -> MeasuredTexts:
        """What is written for some texts beside the references; see `evaluate`."""
        texts, wanted = sources.cast(pl.String).to_list(), references.cast(pl.String).to_list()
        written = self.translate(texts)
        longest = self.settings.text.max_length
        forced = force(self.network, encode_texts(self.codec, sources, longest), encode_texts(self.codec, references, longest))
        return MeasuredTexts(texts, wanted, [each.text for each in written], [each.score for each in written], forced)

    def _table(self, data: Any, on_error: OnError, *, texts_too: bool = True) -> Table:
        """Whatever the user gave, as a table that has the column that is read; plain texts too, where no translation is asked of them."""
        if isinstance(data, Mapping) and all(isinstance(value, str) for value in data.values()):
            data = [data]
        texts = given_texts(data) if texts_too else None
        if texts is not None:
            return read(pl.DataFrame({self.source: texts}, schema={self.source: pl.String}))
        join = {name: columns for name, columns in self.settings.data.join.items() if name == self.source}
        table = read(data, on_error=on_error, join=join)
        require_columns(table, [self.source])
        return table

    # --- the folder -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The vocabulary as JSON values."""
        return {
            "features": [{"name": self.source, "type": "text", "codec": self.codec.to_json()}],
            "head": {"name": self.target, "task": "translate", "longest": self.longest},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training."""
        codec = TextCodec.from_json(state["features"][0]["codec"])
        return cls(settings, codec, network=TranslateNetwork(len(codec), settings), longest=int(state["head"]["longest"]), run=run)

    def card(self) -> str:
        """The model card, Markdown."""
        encoder = self.settings.encoder
        said = (
            f"A {encoder.title} encoder ({encoder.layers} x {encoder.hidden_size} units) and a decoder with "
            f"{self.settings.translate.attention} attention that write `{self.target}` from `{self.source}`; {self.codec.describe()}."
        )
        return card_page(
            f"{self.target} from {self.source}",
            [said],
            code='model.translate(["a text"], beam=5)[0].text',
            run=self.run,
            settings=self.settings,
            measured=figures(self.run),
            pipeline="text2text-generation",
        )


def _cut_rows(codec: TextCodec, given: pl.Series, sources: Ragged) -> set[int]:
    """Rows of which not all was read."""
    whole = codec.encode_rows(given.str.strip_chars()).lengths
    return set(np.flatnonzero(whole > sources.lengths).tolist())
