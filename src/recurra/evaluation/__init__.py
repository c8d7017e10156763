"""How good a model is, and whether it pays: baselines on the same split, comparison, charts and the report page.

Inside: `baselines` (majority, mean, TF-IDF with a linear model), `comparison` (paired intervals against them), `errors` (the most
confident mistakes), `charts` (SVG) and `report` (one offline HTML page). Not inside: the metrics themselves (`recurra.metrics`).
Import from the modules: they load scikit-learn and altair only where they use them.
"""

from __future__ import annotations

__all__: list[str] = []
