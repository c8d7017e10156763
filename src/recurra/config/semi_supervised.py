"""Settings of what is learnt from rows without a label, and of smoothness about every row."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, model_validator

from recurra.config.group import Group, was_saved

__all__ = ["SemiSupervisedSettings"]


class SemiSupervisedSettings(Group):
    """What is added to the loss of a class, for rows with and without one (Sachan et al. 2019, there with all weights 1).

    Rows without a class are those whose target is missing, where `data.missing_targets` is unlabelled.
    """

    virtual_adversarial: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of virtual adversarial training (Miyato et al. 2017): the prediction shall stay where the vectors of a text are shifted
    the way that changes it most. A step takes three times as long."""
    perturbation: Annotated[float, Field(gt=0.0)] = 5.0
    """Length of the shift over all steps and features of a text, in multiples of the root mean square of a feature."""
    entropy: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the entropy of the predicted classes: rows are pushed to one side or the other (Grandvalet & Bengio 2005)."""

    @property
    def active(self) -> bool:
        """Whether anything is added to the loss."""
        return bool(self.virtual_adversarial or self.entropy)

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> SemiSupervisedSettings:
        idle = not self.virtual_adversarial and not was_saved(info)
        if idle and self.perturbation != type(self).model_fields["perturbation"].default:
            raise ValueError(
                "semi_supervised.perturbation has no effect without semi_supervised.virtual_adversarial: set that, or leave it out"
            )
        return self
