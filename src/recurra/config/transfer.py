"""Settings of a training that begins with a trained model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, model_validator

from recurra.config.group import Group, Text, was_saved

__all__ = ["TRANSFER_DEFAULTS", "TRANSFER_TAKEN", "TransferSettings"]


class TransferSettings(Group):
    """The trained model that a training begins with, and how its layers are brought to what is new (Howard & Ruder 2018)."""

    model: Text | None = None
    """Folder of a trained model whose vocabulary, vectors and recurrent layers are taken over: a language model, or one of a table
    with text. On the command line --from. Sizes of the network and the cutting of texts are that model's."""
    columns: list[Text] | None = None
    """Text columns that begin with the model; all of them when not given. Other columns learn from scratch."""
    unfreezing: Annotated[float, Field(ge=0.0)] = 0.0
    """Epochs after which the next lower layer learns too; at first only what is new does, above all layers that were taken over
    (gradual unfreezing; 1 in the paper). 0: all layers learn from the start."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Learning rate of a layer in multiples of that of the layer above it (discriminative fine-tuning; 1 / 2.6 in the paper); 1 for one
    rate."""

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> TransferSettings:
        if self.model is None and not was_saved(info):
            for name, field in type(self).model_fields.items():
                if getattr(self, name) != field.default:
                    raise ValueError(f"transfer.{name} has no effect without transfer.model (--from): name the model, or leave it out")
        return self


TRANSFER_TAKEN = (
    "text.tokenizer",
    "text.lowercase",
    "text.normalization",
    "text.strip_accents",
    "embedding.size",
    "embedding.character_ngrams",
    "embedding.token_ngrams",
    "embedding.buckets",
    "encoder.cell",
    "encoder.hidden_size",
    "encoder.layers",
    "encoder.bidirectional",
    "encoder.residual",
    "encoder.layer_norm",
    "encoder.learn_initial_state",
)
"""Settings that the trained model decides where the user sets nothing; another value than the model's is refused."""
TRANSFER_DEFAULTS: dict[str, Any] = {
    "optimizer.embedding_factor": 1.0,
    "schedule.name": "slanted_triangular",
    "schedule.floor": 1 / 32,
}
"""What a training that begins with a trained model sets where the user sets nothing."""
