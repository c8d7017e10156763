"""Typed inputs, one a file: fit on the training rows, encode a value, embed a batch."""

from __future__ import annotations

from recurra.features.category import CategoryFeature
from recurra.features.feature import Encoded, Feature
from recurra.features.number import NumberFeature
from recurra.features.text import TextFeature, TokensFeature

__all__ = ["FEATURES", "CategoryFeature", "Encoded", "Feature", "NumberFeature", "TextFeature", "TokensFeature"]

FEATURES: dict[str, type[Feature]] = {feature.type: feature for feature in (TextFeature, TokensFeature, CategoryFeature, NumberFeature)}
"""The feature of each column type."""
