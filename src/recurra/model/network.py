"""Features, encoder and head as one `torch.nn.Module`.

batch -> embedding (each feature) -> stack of cells -> pooling -> | joined with the static features | -> output layer (each head)
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from typing import Any

import torch
from torch import nn

from recurra.cells import CELLS
from recurra.config import EncoderSettings, Settings
from recurra.data.batch import Batch, Sequence
from recurra.data.store import Rows
from recurra.errors import DataError, SettingsError
from recurra.features import Feature
from recurra.heads import Head, Output
from recurra.layers import Initialization, NgramLinear, Regularization, Stack, build_pooling
from recurra.model.recurrent import RecurrentNetwork
from recurra.model.smoothness import Shifts, entropy, noise_state, restore_noise, virtual_adversarial_loss
from recurra.shapes import Float, Tensor

__all__ = ["Network"]

SHARED = "shared"
"""Key of the one stack that serves every sequence feature when `encoder.shared` is set."""


class Network(RecurrentNetwork):
    """The trainable part of a model.

    Args:
        features: fitted inputs; at least one.
        head: fitted output: a head, or several.
        settings: of the run.

    Attributes:
        embeddings: by feature name, encoded values to vectors.
        encoders: by feature name (or `"shared"`), the stack of recurrent cells of a sequence feature.
        poolings: by feature name, the steps of a sequence to one vector; none for one whose steps every head reads.
        output: the head's layer; of several heads, a list of theirs.
        linear: the linear model beside the network, whose scores are added to the outputs; None where there is none.

    Raises:
        DataError: there is no feature.
        SettingsError: `encoder.shared` is set and the features' vectors differ in size.
    """

    def __init__(self, features: Many[Feature], head: Output, settings: Settings) -> None:
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
        self.semi_supervised = settings.semi_supervised
        self._noise: list[Tensor] = []
        self._stepped = [name for name in self.sequence_names if any(each.steps == name for each in head.heads)]
        sizes = {name: _size(self.embeddings[_key(name)]) for name in self.static_names}
        step_sizes = {}
        for name in self.sequence_names:
            stack = self._add_stack(name, settings.encoder)
            step_sizes[name] = stack.output_size
            if all(each.steps == name for each in head.heads):
                continue
            pooling = build_pooling(settings.encoder.pooling, stack.output_size, bidirectional=settings.encoder.bidirectional)
            self.poolings[_key(name)] = pooling
            sizes[name] = pooling.output_size
        layers = [
            each.build(sum(size for name, size in sizes.items() if name != each.steps) + step_sizes.get(each.steps or "", 0), settings)
            for each in head.heads
        ]
        self.output = layers[0] if isinstance(head, Head) else nn.ModuleList(layers)
        self.linear: NgramLinear | None = None

    def put_beside(self, linear: NgramLinear, name: str) -> None:
        """Add the scores of a linear model to the outputs from now on.

        Args:
            linear: as many scores as the head has outputs.
            name: the sequence feature that it reads.
        """
        self.linear = linear
        self._linear_reads = name

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

    def forward(self, batch: Batch, shifts: Shifts | None = None) -> Any:
        """A head's outputs for a batch: for each row, or for each step of its column, beside which all other vectors stand.

        Args:
            batch: the rows.
            shifts: by sequence feature, what is added to the vectors of its steps; see `recurra.model.smoothness`.

        Returns:
            The outputs of the head; of several heads, a list of theirs.
        """
        if self.training and shifts is None and self.semi_supervised.virtual_adversarial:
            self._noise = noise_state(self.device)
        shifts = shifts or {}
        steps: dict[str, Tensor] = {}
        vectors: dict[str, Tensor] = {}
        for name in [name for name in self.sequence_names if name not in self._stepped]:
            vectors[name] = self._pool(name, self._steps(name, batch.inputs[name], shifts.get(name)), batch.inputs[name])
        for name in self.static_names:
            vectors[name] = self.embeddings[_key(name)](batch.inputs[name])
        for name in self._stepped:
            steps[name] = self._steps(name, batch.inputs[name], shifts.get(name))
            if _key(name) in self.poolings:
                vectors[name] = self._pool(name, steps[name], batch.inputs[name])
        if isinstance(self.head, Head):
            outputs = self.output(_beside(self.head, steps, vectors))
            return outputs if self.linear is None else self._with_linear(outputs, batch)
        assert isinstance(self.output, nn.ModuleList)
        return [layer(_beside(head, steps, vectors)) for head, layer in zip(self.head.heads, self.output, strict=True)]

    def _with_linear(self, outputs: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, "B C"]:
        assert self.linear is not None
        sequence = batch.inputs[self._linear_reads]
        assert isinstance(sequence, Sequence)
        both: Tensor = self.linear(outputs, sequence.values, sequence.mask)
        return both

    def _steps(self, name: str, sequence: Sequence | Tensor, shift: Tensor | None = None) -> Float[Tensor, "B T D"]:
        assert isinstance(sequence, Sequence)
        embedded = self.embeddings[_key(name)](sequence)
        if shift is not None:
            real = embedded.detach()[sequence.mask]
            embedded = embedded + shift * (real.square().mean().sqrt() if len(real) else 1.0)
        steps: Tensor = self.encoders[SHARED if self._shared else _key(name)](embedded, lengths=sequence.lengths)[0]
        return steps

    def _pool(self, name: str, steps: Float[Tensor, "B T D"], sequence: Sequence | Tensor) -> Float[Tensor, "B D"]:
        assert isinstance(sequence, Sequence)
        vector: Tensor = self.poolings[_key(name)](steps, sequence.lengths)
        return vector

    def loss(self, outputs: Any, batch: Batch) -> Float[Tensor, ""]:
        """Mean loss of a batch, in training with what is learnt without labels."""
        loss = self.head.batch_loss(self.output, outputs, batch)
        chosen = self.semi_supervised
        if not self.training:
            return loss
        if chosen.entropy:
            loss = loss + chosen.entropy * entropy(outputs)
        if chosen.virtual_adversarial and self.sequence_names:
            loss = loss + chosen.virtual_adversarial * self._virtual_adversarial(outputs, batch)
        return loss

    def _virtual_adversarial(self, outputs: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """See `recurra.model.smoothness`; the noise is that of `outputs`, and goes on afterwards from where it was."""
        noise = self._noise
        after: list[Tensor] = []

        def shifted(shifts: Shifts) -> Tensor:
            after[:] = after or noise_state(self.device)
            restore_noise(noise, self.device)
            found: Tensor = self(batch, shifts)
            return found

        sizes = {name: _size(self.embeddings[_key(name)]) for name in self.sequence_names}
        loss = virtual_adversarial_loss(shifted, outputs, batch, sizes=sizes, length=self.semi_supervised.perturbation)
        restore_noise(after, self.device)
        return loss

    def results(self, outputs: Any, batch: Batch) -> Rows:
        """The outputs of a batch in evaluation mode as arrays, an entry a row."""
        return self.head.results(self.output, outputs, batch)

    def embedding_of(self, feature: str) -> nn.Module:
        """The module that a feature built."""
        return self.embeddings[_key(feature)]

    def encoder_of(self, feature: str) -> Stack:
        """The recurrent layers that read a sequence feature."""
        stack = self.encoders[SHARED if self._shared else _key(feature)]
        assert isinstance(stack, Stack)
        return stack

    def describe_module(self, name: str) -> str:
        """A module's name in a person's words: `"text, layer 1, backward"` for `"encoders.column_text.cells.1"`."""
        room, _, rest = name.partition(".")
        key, _, inner = rest.partition(".")
        column = _column(key)
        if room == "embeddings":
            return f"{column}, {'n-grams' if inner.startswith('ngrams') else 'embedding'}"
        if room == "poolings":
            return f"{column}, pooling"
        stack = self.encoders[key] if room == "encoders" and key in self.encoders else None
        if room == "output" and isinstance(self.output, nn.ModuleList) and key.isdigit():
            layer_name = {"output": "output layer", "hidden": "hidden layer"}.get(inner.split(".")[-1], inner)
            return f"{self.head.heads[int(key)].name}, {layer_name}"
        if isinstance(stack, Stack):
            return f"{column}, {stack.describe_module(inner)}"
        return {"output.output": "output layer", "output.hidden": "hidden layer"}.get(name, name)


def build_stack(input_size: int, settings: EncoderSettings) -> Stack:
    """The stack of cells that the settings describe."""
    bias: float | None
    if settings.forget_bias == "auto":
        bias = 1.0 if CELLS[settings.cell].forget_gate is not None and settings.initialization == "orthogonal" else None
    else:
        bias = settings.forget_bias
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
        initialization=Initialization(scheme=settings.initialization, forget_bias=bias, learn_state=settings.learn_initial_state),
        backend=settings.backend,
    )


def _beside(head: Head, steps: Mapping[str, Tensor], vectors: Mapping[str, Tensor]) -> Tensor:
    """What a head reads, (B, F) or (B, T, F): all vectors side by side, beside each step of its column where it reads steps."""
    others = [vector for name, vector in vectors.items() if name != head.steps]
    if head.steps is None:
        return torch.cat(others, dim=-1)
    own = steps[head.steps]
    return torch.cat([own, *(vector[:, None].expand(-1, own.shape[1], -1) for vector in others)], dim=-1)


def _key(name: str) -> str:
    """A column name as a module name: no dots, never a name that `nn.ModuleDict` has itself."""
    return "column_" + name.replace("%", "%25").replace(".", "%2E")


def _column(key: str) -> str:
    """The column name behind a module name."""
    return key.removeprefix("column_").replace("%2E", ".").replace("%25", "%")


def _size(module: nn.Module) -> int:
    size = module.output_size
    assert isinstance(size, int)
    return size
