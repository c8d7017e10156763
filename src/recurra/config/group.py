"""What every group of settings has in common, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

__all__ = ["AS_SAVED", "ColumnType", "Group", "Positive", "Probability", "Share", "Text", "was_saved"]

AS_SAVED = "as saved"
"""In the context of a validation: whether the values are a model folder's record of all settings."""

ColumnType = Literal["text", "tokens", "category", "number", "ignore"]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


def as_text(value: Any) -> Any:
    """A name or label that Python holds as a number or a truth value, as the text it has in a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


Text = Annotated[str, BeforeValidator(as_text)]
"""A column, a label or another name: 1 and true are names too."""


def was_saved(info: ValidationInfo) -> bool:
    """Whether a record is read back. It holds the defaults of its day for what did nothing, which nobody is to be told of."""
    return bool(info.context and info.context.get(AS_SAVED))


class Group(BaseModel):
    """Settings that belong together: frozen, no others are allowed, and all numbers are finite, as JSON has no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's True is a 1, and pydantic's too: `epochs: yes`, meant for something else, would train one epoch."""
        kinds = _kinds(cls.model_fields[info.field_name].annotation) if info.field_name else set()
        if isinstance(value, bool) and kinds & {int, float} and not kinds & {bool, str}:
            raise ValueError(f"Input should be a number (given: {str(value).lower()})")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation allows."""
    parts = get_args(annotation)
    return {annotation}.union(*map(_kinds, parts))
