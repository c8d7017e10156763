"""Recommendation beside what needs no network.

Inside: `scorers` (popularity, last-item Markov chain, item-kNN, session-kNN), `baselines` (their figures on the same clicks).
Not inside: the metrics (`recurra.metrics.ranking`), the charts (`recurra.evaluation.charts.ranking`).
"""

from __future__ import annotations

__all__: list[str] = []
