"""The model card of a recommender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.config import Settings
from recurra.features.items import ItemVocabulary
from recurra.model.card import card_page, figures

__all__ = ["recommender_card"]


def recommender_card(settings: Settings, items: ItemVocabulary, run: Mapping[str, Any]) -> str:
    """Markdown with what was learnt, the figures and how to use the model."""
    encoder, chosen = settings.encoder, settings.recommend
    said = [
        (
            f"A {encoder.cell.upper()} network ({encoder.layers} x {encoder.hidden_size} units) that reads the clicks of a "
            f"`{chosen.session}` and scores {len(items):,} items as the next `{chosen.item}`. Figures are of the ranking among all items."
        ),
        "",
        "Items that the training clicks did not have are stepped over where they are clicked, and never recommended.",
    ]
    title = f"The next {chosen.item} of a {chosen.session}"
    code = f"model.recommend([{', '.join(repr(name) for name in items.names.head(2))}], top=10)"
    return card_page(title, said, code=code, run=run, settings=settings, measured=figures(run))
