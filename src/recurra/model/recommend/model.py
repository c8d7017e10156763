"""A trained recommender: items and network as one thing that recommends, evaluates, serves sessions, saves and loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from recurra.config import Settings
from recurra.data.cases import Cases
from recurra.data.columns import as_names
from recurra.data.read import Table, read
from recurra.data.sessions import Sessions, every_click, last_click, read_sessions
from recurra.data.store import Ragged, offsets_of
from recurra.data.surrogates import without_surrogates
from recurra.errors import DataError, EmptyData
from recurra.features.items import UNKNOWN_ITEM, ItemVocabulary, gap_numbers
from recurra.metrics.ranking import Ranking, ranking_intervals, ranking_metrics
from recurra.model.recommend.best import approximate_top, best_items, exact_top, require_top
from recurra.model.recommend.card import recommender_card
from recurra.model.recommend.network import SCORES, RecommendNetwork
from recurra.model.recommend.questions import QuestionBatches, rank_cases
from recurra.model.recommend.session import RecommenderSession
from recurra.model.recommend.top import ApproximateTop
from recurra.model.trained import OnError, TrainedModel

__all__ = ["Recommender"]


class Recommender(TrainedModel):
    """A trained recommender of the next item.

    Args:
        settings: of the run.
        items: vocabulary.
        network: with trained weights.
        run: what `run.json` holds.

    Attributes:
        settings: of the run.
        items: vocabulary, with the clicks of each item in training.
        network: a `torch.nn.Module`, in evaluation mode.
        run: versions, seed, data fingerprint, metrics, timings.
    """

    command: ClassVar[str] = "recommend"
    network: RecommendNetwork

    def __init__(
        self, settings: Settings, items: ItemVocabulary, *, network: RecommendNetwork, run: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(settings, network, run)
        self.items = items
        self._graph: ApproximateTop | None = None

    def recommend(self, data: Any, *, top: int = 20, exclude_seen: bool | None = None, on_error: OnError = "fail") -> pl.DataFrame:
        """The items that come next most probably.

        Clicks on items that the training part did not have are stepped over; after none but such clicks, the bias of the items
        decides, which follows their popularity.

        Args:
            data: items of one session in order of time (a list, an array or a Series), or a table of clicks as for the training (its time
                column may be left out where the rows are in order).
            top: items that are named.
            exclude_seen: leave out what the session already holds; by default only where the model was trained on sequences
                without repeats of that kind (`recommend.split=leave_one_out`).
            on_error: what happens to rows of a table that cannot be read.

        Returns:
            One row for each session and rank: `session`, `rank` from 1, `item`, `score`.

        Raises:
            EmptyData: there is no click.
            MissingColumn: session or item is not there.
            SettingsError: `top` is negative.
        """
        require_top(top)
        sessions = self._sessions(data, on_error)
        encoded = self.items.encode(sessions)
        items = encoded.items
        cases = Cases(
            Ragged(np.insert(items.values, items.offsets[1:], UNKNOWN_ITEM), items.offsets + np.arange(len(items) + 1)),
            np.arange(len(items)),
            items.lengths,
        )
        gaps = self._gaps(encoded)
        best, scores = self._best(cases, None if gaps is None else np.insert(gaps, items.offsets[1:], 0), top, exclude_seen=exclude_seen)
        kept = best >= 0
        rows, ranks = np.nonzero(kept)
        return pl.DataFrame(
            {"session": sessions.sessions[rows], "rank": ranks + 1, "item": self.items.names[best[kept]], "score": scores[kept]}
        )

    def _best(self, cases: Cases, gaps: Any, top: int, *, exclude_seen: bool | None) -> tuple[np.ndarray, np.ndarray]:
        """(N, K) best items of each question, -1 where there are no more, and their scores."""
        exclude = self.excludes_seen if exclude_seen is None else exclude_seen
        top = min(top, len(self.items))
        best, scores = np.full((len(cases), top), -1), np.zeros((len(cases), top), np.float32)
        batches = QuestionBatches(cases, gaps)
        search = exact_top(self.network)
        size = max(1, SCORES // min(len(self.items), search.block))
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            for number in range(len(batches)):
                batch, chosen = batches.batch(number)
                batch = batch.to(device)
                vectors, seen = self.network.vectors(batch), batch.seen
                assert seen is not None
                for begin in range(0, len(chosen), size):
                    some = chosen[begin : begin + size]
                    before, excluded = seen.part(begin, begin + size), cases.prefixes(some) if exclude else None
                    found = best_items(self.network, search, vectors[begin : begin + size], top, seen=before, excluded=excluded)
                    best[some], scores[some] = found.items.cpu().numpy(), found.scores.float().cpu().numpy()
        return best, scores

    @property
    def excludes_seen(self) -> bool:
        """Whether items of a session are left out of its recommendations where nothing is said: for users, not for sessions."""
        return self.settings.recommend.split == "leave_one_out"

    def evaluate(self, data: Any, *, on_error: OnError = "fail") -> dict[str, float]:
        """Foresee every click but the first of each session, each from those before it, among all items.

        A model trained with `recommend.split=leave_one_out` is asked for the last click of each sequence of three or more alone, as its
        test part was: on the table of the training that gives the training's own test figures.

        Args:
            data: a table of clicks.
            on_error: what happens to rows that cannot be read.

        Returns:
            Flat metrics (see `recurra.metrics.ranking_metrics`), confidence intervals as `NAME_low` and `NAME_high`, `rows` the
            clicks that were asked for, `rows_left_out` where there were any.

        Raises:
            MissingColumn: a column is not there.
            EmptyData: no session has two clicks (three, with `recommend.split=leave_one_out`).
        """
        table = read(data, on_error=on_error)
        sessions = self._read(table, skip=on_error == "skip")
        asked = (last_click if self.excludes_seen else every_click)(sessions).sessions
        encoded = self.items.encode(asked)
        cases = (Cases.last_step if self.excludes_seen else Cases.every_step)(encoded.items)
        metrics = self.measure(self.rank(cases, gaps=self._gaps(encoded)))
        left_out = sessions.facts.get("left out", 0) + table.bad_row_count
        return {**metrics, **({"rows_left_out": left_out} if left_out else {})}

    def rank(self, cases: Cases, *, gaps: npt.NDArray[np.int64] | None = None) -> Ranking:
        """Rank all items for every question; see `rank_cases`."""
        return rank_cases(self.network, cases, gaps=gaps)

    def measure(self, ranking: Ranking) -> dict[str, float]:
        """Flat metrics with intervals of a ranking; see `evaluate`."""
        chosen = self.settings.evaluation
        metrics = dict(ranking_metrics(ranking, popularity=self.items.counts))
        if chosen.bootstrap_samples:
            intervals = ranking_intervals(
                ranking, samples=chosen.bootstrap_samples, confidence=chosen.confidence, seed=self.settings.training.seed
            )
            for name, (low, high) in intervals.items():
                metrics[f"{name}_low"], metrics[f"{name}_high"] = low, high
        return {**metrics, "rows": len(ranking)}

    def session(self, *, approximate: bool = False) -> RecommenderSession:
        """A session in service: one step a click, and a state that survives a restart.

        Args:
            approximate: look for the best items by a graph of neighbours, which pays from some hundred thousand items on. It is built
                once, for the first such session (a million items of 100 numbers take some minutes), and later changes of the network do not reach it.

        Raises:
            MissingDependency: the package usearch is not installed.
        """
        if approximate and self._graph is None:
            self._graph = approximate_top(self.network)
        search = self._graph if approximate and self._graph is not None else exact_top(self.network)
        return RecommenderSession(self.network, self.items, search=search, exclude_seen=self.excludes_seen)

    def _gaps(self, sessions: Sessions) -> npt.NDArray[np.int64] | None:
        return gap_numbers(sessions.times, sessions.items.offsets) if self.settings.recommend.time_gaps else None

    def _sessions(self, data: Any, on_error: OnError) -> Sessions:
        if isinstance(data, (str, int)) and not isinstance(data, bool) and not _is_path(data):
            data = [data]
        elif hasattr(data, "dtype") and np.ndim(data) == 1:  # an array or a Series of items
            data = data.tolist() if hasattr(data, "tolist") else data.to_list()
        if (
            isinstance(data, Sequence)
            and not isinstance(data, str)
            and all(isinstance(item, (str, int, float, np.generic)) for item in data)
            and data
        ):
            if not (isinstance(data[0], str) and all(_is_path(item) for item in data)):
                if self.settings.recommend.time_gaps:
                    raise DataError("This model reads the time between clicks: give a table with a column of times, not items alone.")
                names = as_names(pl.Series("item", [without_surrogates(str(item)) for item in data], dtype=pl.String)).fill_null("")
                return Sessions(
                    Ragged(np.arange(len(names), dtype=np.int32), offsets_of([len(names)])),
                    np.arange(len(names), dtype=np.float64),
                    names,
                    pl.Series("session", ["1"]),
                )
        elif isinstance(data, Sequence) and not data:
            raise EmptyData("There is no click: name an item at least.")
        return self._read(read(data, on_error=on_error), skip=on_error == "skip")

    def _read(self, table: Table, *, skip: bool) -> Sessions:
        chosen = self.settings.recommend
        assert chosen.session is not None
        assert chosen.item is not None
        time = self.settings.data.time
        if time is not None and time not in table.columns and not chosen.time_gaps:
            time = None
        return read_sessions(table, session=chosen.session, item=chosen.item, time=time, skip=skip)

    def state(self) -> dict[str, Any]:
        """Items and task as JSON values."""
        return {"items": self.items.state(), "head": {"task": "recommend"}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training."""
        items = ItemVocabulary.from_state(state["items"])
        return cls(settings, items, network=RecommendNetwork(items, settings), run=run)

    def card(self) -> str:
        """The model card, Markdown."""
        return recommender_card(self.settings, self.items, self.run)


def _is_path(data: Any) -> bool:
    from recurra.data.read import is_table

    return isinstance(data, str) and is_table(data)
