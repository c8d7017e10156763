"""Which clicks a recommender is asked to foresee: after so many clicks of a session, what comes next?

Not inside: where the sessions come from and how they are split (`sessions`), and how an answer is measured (`recurra.metrics.ranking`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurra.data.store import Ragged, offsets_of
from recurra.shapes import Int

__all__ = ["Cases"]


@dataclass(frozen=True)
class Cases:
    """N questions put to a recommender.

    Attributes:
        sessions: item numbers of each session in time order, from 0; -1 is an item that the model does not know.
        session: (N,) which session each question is about.
        position: (N,) clicks that are known, 1 or more; the answer is the click after them.
    """

    sessions: Ragged
    session: Int[np.ndarray, " N"]
    position: Int[np.ndarray, " N"]

    @classmethod
    def every_step(cls, sessions: Ragged, *, first: int = 1) -> Cases:
        """Each click but the first is foreseen from those before it: L - 1 questions about a session of L clicks.

        Args:
            sessions: item numbers in time order.
            first: clicks that are known at least before a question is put.
        """
        questions = np.maximum(sessions.lengths - first, 0)
        starts = offsets_of(questions)
        session = np.repeat(np.arange(len(sessions)), questions)
        return cls(sessions, session, np.arange(starts[-1]) - starts[session] + first)

    @classmethod
    def last_step(cls, sessions: Ragged) -> Cases:
        """The last click of each session from all before it (leave one out); sessions of one click have no question."""
        lengths = sessions.lengths
        session = np.flatnonzero(lengths > 1)
        return cls(sessions, session, lengths[session] - 1)

    def __len__(self) -> int:
        return len(self.session)

    @property
    def answers(self) -> Int[np.ndarray, " N"]:
        """(N,) the items that came next."""
        items: Int[np.ndarray, " N"] = self.sessions.values[self.sessions.offsets[self.session] + self.position].astype(np.int64)
        return items

    def take(self, rows: Int[np.ndarray, " K"]) -> Cases:
        """The chosen questions, about the same sessions."""
        return Cases(self.sessions, self.session[rows], self.position[rows])

    def prefixes(self, rows: Int[np.ndarray, " K"] | slice = slice(None), *, most: int | None = None) -> Ragged:
        """What is known when the chosen questions are put.

        Args:
            rows: numbers of the questions.
            most: clicks of each that are returned, the last ones.
        """
        known = self.position[rows]
        lengths = known if most is None else np.minimum(known, most)
        ends = self.sessions.offsets[self.session[rows]] + known
        offsets = offsets_of(lengths)
        steps = np.arange(offsets[-1]) + np.repeat(ends - offsets[1:], lengths)
        return Ragged(self.sessions.values[steps], offsets)
