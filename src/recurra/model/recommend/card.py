"""The model card of a recommender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.config import Settings
from recurra.features.items import ItemVocabulary
from recurra.model.card import figures

__all__ = ["recommender_card"]


def recommender_card(settings: Settings, items: ItemVocabulary, run: Mapping[str, Any]) -> str:
    """Markdown with what was learnt, the figures and how to use the model; the header is the hub's."""
    encoder, chosen = settings.encoder, settings.recommend
    lines = [
        "---",
        "library_name: recurra",
        "tags: [recurrent-neural-network, recommendation, recurra]",
        "---",
        "",
        f"# The next {chosen.item} of a {chosen.session}",
        "",
        (
            f"A {encoder.cell.upper()} network ({encoder.layers} x {encoder.hidden_size} units) that reads the clicks of a "
            f"`{chosen.session}` and scores {len(items):,} items as the next `{chosen.item}`. Figures are of the ranking among all items."
        ),
        "",
        *figures(run),
        "## Use",
        "",
        "```python",
        "import recurra",
        "",
        'model = recurra.load("path/of/this/folder")',
        f"model.recommend([{', '.join(repr(name) for name in items.names.head(2))}], top=10)",
        "```",
        "",
        "Items that the training clicks did not have are stepped over where they are clicked, and never recommended.",
        "",
        (
            f"Trained with Recurra {run.get('versions', {}).get('recurra', '')}, seed {settings.training.seed}. "
            "`run.json` holds versions, data fingerprint, metrics and timings; `report.html` the report."
        ),
        "",
    ]
    return "\n".join(lines)
