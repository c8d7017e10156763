"""Settings of a classifier that may answer "none of these"."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recurra.config.group import Group, Text

__all__ = ["OutOfScopeSettings"]


class OutOfScopeSettings(Group):
    """What a classifier says of a row that belongs to none of its classes."""

    label: Text | None = None
    """What is said of such rows, and the label that they have in the tables where they have one: oos, none, other."""
    by: Literal["auto", "class", "threshold"] = "auto"
    """class: learnt from the training rows with that label, as every other class. threshold: said where the most probable class has
    less than a probability that is chosen on the validation rows. auto: class where a training row has the label, else threshold."""
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """Share of the validation rows that the threshold leaves in scope, where none of them has the label; where some have, the
    threshold with most right answers is taken (Larson et al. 2019)."""
