"""Features, encoder and head as one `torch.nn.Module`.

batch -> embedding (each feature) -> stack of cells -> pooling -> | joined with the static features | -> output layer
"""

from __future__ import annotations

from collections.abc import Sequence as Many

import torch
from torch import nn

from recurra.cells import CELLS
from recurra.config import EncoderSettings, Settings
from recurra.data.batch import Batch, Sequence
from recurra.errors import DataError, SettingsError
from recurra.features import Feature
from recurra.heads import Head, OutputLayer
from recurra.layers import Initialization, Regularization, Stack, build_pooling
from recurra.shapes import Float, Tensor

__all__ = ["Network"]

SHARED = "shared"
"""Key of the one stack that serves every sequence feature when `encoder.shared` is set."""


class Network(nn.Module):
    """The trainable part of a model.

    Args:
        features: fitted inputs; at least one.
        head: fitted output.
        settings: of the run.

    Attributes:
        embeddings: by feature name, encoded values to vectors.
        encoders: by feature name (or `"shared"`), the stack of recurrent cells of a sequence feature.
        poolings: by feature name, the steps of a sequence to one vector.
        output: the head's layer.

    Raises:
        DataError: there is no feature.
        SettingsError: `encoder.shared` is set and the features' vectors differ in size.
    """

    def __init__(self, features: Many[Feature], head: Head, settings: Settings) -> None:
        super().__init__()
        if not features:
            raise DataError("No input column is left: every column but the target is ignored. Set a type, for example --type title=text.")
        self.head = head
        self.sequence_names = [feature.name for feature in features if feature.kind == "sequence"]
        self.static_names = [feature.name for feature in features if feature.kind == "static"]
        self.embeddings = nn.ModuleDict({_key(feature.name): feature.build(settings) for feature in features})
        self.encoders = nn.ModuleDict()
        self.poolings = nn.ModuleDict()
        self._shared = settings.encoder.shared
        size = sum(_size(self.embeddings[_key(name)]) for name in self.static_names)
        for name in self.sequence_names:
            stack = self._add_stack(name, settings.encoder)
            self.poolings[_key(name)] = build_pooling(
                settings.encoder.pooling, stack.output_size, bidirectional=settings.encoder.bidirectional
            )
            size += stack.output_size
        self.output = OutputLayer(size, head.output_size, settings=settings.head)

    def _add_stack(self, name: str, settings: EncoderSettings) -> Stack:
        key = SHARED if self._shared else _key(name)
        input_size = _size(self.embeddings[_key(name)])
        if key not in self.encoders:
            self.encoders[key] = build_stack(input_size, settings)
        stack = self.encoders[key]
        assert isinstance(stack, Stack)
        if stack.input_size != input_size:
            raise SettingsError(
                f"encoder.shared needs vectors of one size, but {self.sequence_names[0]!r} has {stack.input_size} and {name!r} {input_size}: "
                "set encoder.shared=false."
            )
        return stack

    def forward(self, batch: Batch) -> Float[Tensor, "B C"]:
        """The head's outputs for each row of a batch."""
        vectors = [self._read(name, batch.inputs[name]) for name in self.sequence_names]
        vectors += [self.embeddings[_key(name)](batch.inputs[name]) for name in self.static_names]
        outputs: Tensor = self.output(torch.cat(vectors, dim=1))
        return outputs

    def _read(self, name: str, sequence: Sequence | Tensor) -> Float[Tensor, "B D"]:
        assert isinstance(sequence, Sequence)
        embedded = self.embeddings[_key(name)](sequence)
        steps, _ = self.encoders[SHARED if self._shared else _key(name)](embedded, lengths=sequence.lengths)
        vector: Tensor = self.poolings[_key(name)](steps, sequence.lengths)
        return vector

    def loss(self, outputs: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, ""]:
        """Mean loss of the batch's rows."""
        return self.head.loss(outputs, batch.targets[self.head.name])

    def embedding_of(self, feature: str) -> nn.Module:
        """The module that a feature built."""
        return self.embeddings[_key(feature)]

    def explain_backend(self) -> str:
        """What computes the recurrences, and why."""
        reasons = dict.fromkeys(stack.explain_backend() for stack in self.encoders.values() if isinstance(stack, Stack))
        return "; ".join(reasons) or "no recurrence: there is no sequence input"

    @property
    def parameter_count(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def build_stack(input_size: int, settings: EncoderSettings) -> Stack:
    """The stack of cells that the settings describe."""
    return Stack(
        CELLS[settings.cell],
        input_size,
        settings.hidden_size,
        layers=settings.layers,
        bidirectional=settings.bidirectional,
        residual=settings.residual,
        layer_norm=settings.layer_norm,
        regularization=Regularization(
            input=settings.input_dropout,
            between=settings.between_dropout,
            variational=settings.variational,
            recurrent=settings.recurrent_dropout,
            weight=settings.weight_dropout,
            zoneout=settings.zoneout,
        ),
        initialization=Initialization(
            scheme=settings.initialization, forget_bias=settings.forget_bias, learn_state=settings.learn_initial_state
        ),
        backend=settings.backend,
    )


def _key(name: str) -> str:
    """A column name as a module name: no dots, never a name that `nn.ModuleDict` has itself."""
    return "column_" + name.replace("%", "%25").replace(".", "%2E")


def _size(module: nn.Module) -> int:
    size = module.output_size
    assert isinstance(size, int)
    return size
