"""How torch.nn.LSTM, GRU and RNN are called, read into what a recurrence takes, and its results written back.

Time or batch first, one sequence or a batch, packed or padded, a hidden state or none: nothing else knows of these forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from recurra.kernels.lengths import check_is_tensor, check_lengths
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["Call", "autocasts", "read_call", "run_packed", "torch_class"]


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for a device; the device "meta" knows none, and torch raises when asked."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def torch_class(layer: nn.Module) -> type[nn.RNNBase]:
    """The class of torch that a layer is one of."""
    kinds: tuple[type[nn.RNNBase], ...] = (nn.LSTM, nn.GRU, nn.RNN)
    return next(kind for kind in kinds if isinstance(layer, kind))


class _Packing(NamedTuple):
    """The packed sequence that came in, and where its steps stand among B*T padded ones."""

    sequence: PackedSequence
    place: Int[Tensor, " N"]


class Call(NamedTuple):
    """One call of a layer, batch first.

    Attributes:
        x: inputs; of a packed sequence in its own order, longest first.
        hidden: the state given, (L*D, B, H) each; None when none was given.
        lengths: real steps of each row; None when all are real.
        reset: true where the state starts anew before the step is read.
        batch_first: the form that outputs go back in.
        single: one sequence came in, without a batch.
        packing: the packed sequence that came in, if one did.
        dtype: type that outputs go back in: under autocast the one that torch's layers give.
    """

    x: Float[Tensor, "B T F"]
    hidden: tuple[Float[Tensor, "LD B _"], ...] | None
    lengths: Int[Tensor, " B"] | None
    reset: Bool[Tensor, "B T"] | None
    batch_first: bool
    dtype: torch.dtype
    single: bool = False
    packing: _Packing | None = None

    def steps(self, values: Float[Tensor, "B T D"]) -> Tensor | PackedSequence:
        """Values of every step in the form of the input: packed, padded, or of one sequence; contiguous."""
        values = values.to(self.dtype)
        if self.packing is not None:
            data = values.flatten(0, 1).index_select(0, self.packing.place)
            return self.packing.sequence._replace(data=data)
        if self.single:
            return values[0]
        return values if self.batch_first else values.transpose(0, 1).contiguous()

    def state(self, fields: tuple[Float[Tensor, "LD B _"], ...]) -> Tensor | tuple[Tensor, ...]:
        """The last states as torch gives them: (L*D, B, H), or (L*D, H) of one sequence; a pair for the LSTM."""
        fields = tuple(field.to(self.dtype) for field in fields)
        if self.packing is not None and self.packing.sequence.unsorted_indices is not None:
            fields = tuple(field.index_select(1, self.packing.sequence.unsorted_indices) for field in fields)
        if self.single:
            fields = tuple(field[:, 0] for field in fields)
        return fields if len(fields) > 1 else fields[0]


def read_call(
    layer: nn.RNNBase,
    given: Tensor | PackedSequence,
    hx: Any,
    lengths: Int[Tensor, "..."] | None,
    reset: Bool[Tensor, "..."] | None,
) -> Call:
    """Check what was given as torch does, and put the batch first.

    Args:
        layer: whose call it is; its `check_forward_args` checks sizes.
        given: (T, B, F), (B, T, F) with batch_first, (T, F), or packed.
        hx: the state before the first step: (L*D, B, H), or (L*D, H) of one sequence; a pair for the LSTM; None.
        lengths: (B,), or a single number for one sequence.
        reset: laid out as `given`; of a packed sequence as if it were padded, rows in the order before packing.

    Raises:
        ValueError: the number of dimensions or the type of the input is wrong, lengths are given twice or out of range,
            resets do not fit.
        TypeError: lengths are not integers, or resets not booleans.
        RuntimeError: sizes, devices or types do not fit, or there are no steps.
    """
    for name, what, kind in (("lengths", lengths, "integers"), ("reset", reset, "booleans")):
        if what is not None:
            check_is_tensor(name, what, kind)
    hidden = None if hx is None else (hx[0], hx[1]) if isinstance(layer, nn.LSTM) else (hx,)
    if isinstance(given, PackedSequence):
        return _read_packed(layer, given, hidden, lengths, reset)
    if given.dim() not in {2, 3}:
        raise ValueError(f"{type(layer).__name__}: Expected input to be 2D or 3D, got {given.dim()}D instead")
    single = given.dim() == 2
    if hidden is not None and any(field.dim() != given.dim() for field in hidden):
        found = " and ".join(f"{field.dim()}-D" for field in hidden)
        raise RuntimeError(f"For {'unbatched 2-D' if single else 'batched 3-D'} input, hx should also be {given.dim()}-D but got {found}")
    x = given if layer.batch_first and not single else given[None] if single else given.transpose(0, 1)
    if single:
        hidden = None if hidden is None else tuple(field[:, None] for field in hidden)
        lengths = None if lengths is None else lengths[None]
    _check_reset(reset, tuple(given.shape[:-1]))
    if reset is not None:
        reset = reset[None] if single else reset if layer.batch_first else reset.T
    _check(layer, x if layer.batch_first else x.transpose(0, 1), hidden, None)
    if x.shape[1] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if lengths is not None:
        check_lengths(lengths, *x.shape[:2])
    return Call(x, hidden, lengths, reset, layer.batch_first, _result_dtype(layer, x), single)


def _read_packed(
    layer: nn.RNNBase, given: PackedSequence, hidden: tuple[Tensor, ...] | None, lengths: Tensor | None, reset: Tensor | None
) -> Call:
    if lengths is not None:
        raise ValueError("A packed sequence knows its lengths: leave `lengths` out, or pass the padded tensor.")
    data, batch_sizes, sorted_indices, _ = given
    if hidden is not None and sorted_indices is not None:
        hidden = tuple(field.index_select(1, sorted_indices) for field in hidden)
    _check(layer, data, hidden, batch_sizes)
    rows, steps = int(batch_sizes[0]), len(batch_sizes)
    real = torch.arange(rows, device=batch_sizes.device) < batch_sizes[:, None]
    time, row = real.nonzero(as_tuple=True)
    place = (row * steps + time).to(data.device)
    # A plain index both ways: pad_packed_sequence takes thirteen times as long on its way back (B=64, T=50, F=300).
    x = data.new_zeros(rows * steps, data.shape[1]).index_copy(0, place, data).view(rows, steps, -1)
    _check_reset(reset, (rows, steps) if layer.batch_first else (steps, rows))
    if reset is not None:
        reset = reset if layer.batch_first else reset.T
        reset = reset if sorted_indices is None else reset.index_select(0, sorted_indices)
    return Call(x, hidden, real.sum(0), reset, layer.batch_first, _result_dtype(layer, x), packing=_Packing(given, place))


def run_packed(
    forward: Callable[..., tuple[Any, Any]], call: Call, hidden: tuple[Float[Tensor, "LD B _"], ...]
) -> tuple[Float[Tensor, "B T D"], tuple[Float[Tensor, "LD B _"], ...]]:
    """The forward of torch over a call: packed when there are lengths, empty rows left standing.

    Args:
        forward: of torch.nn.LSTM, GRU or RNN.
        call: what was asked.
        hidden: the state before the first step.

    Returns:
        Outputs, zero in the padding, and the last states.
    """
    rows, steps = call.x.shape[:2]
    lengths = torch.full((rows,), steps, device="cpu") if call.lengths is None else call.lengths.cpu()
    check_lengths(lengths, rows, steps)
    ordered, order = lengths.sort(descending=True, stable=True)
    # A packed sequence has no empty rows: they are read for one step of zeros, which is thrown away.
    real = torch.arange(steps, device="cpu")[:, None] < ordered.clamp_min(1)
    time, row = real.nonzero(as_tuple=True)
    empty, order, place = ((lengths == 0).to(call.x.device), order.to(call.x.device), (order[row] * steps + time).to(call.x.device))
    data = call.x.masked_fill(empty[:, None, None], 0.0).flatten(0, 1).index_select(0, place)
    given = tuple(field.index_select(1, order) for field in hidden)
    output, last = forward(PackedSequence(data, real.sum(1)), given if len(given) > 1 else given[0])
    padded = output.data.new_zeros(rows * steps, output.data.shape[1]).index_copy(0, place, output.data).view(rows, steps, -1)
    back = order.argsort()
    after = (field.index_select(1, back) for field in (last if isinstance(last, tuple) else (last,)))
    kept = tuple(torch.where(empty[:, None], old.to(new.dtype), new) for old, new in zip(hidden, after, strict=True))
    return padded.masked_fill(empty[:, None, None], 0.0), kept


def _check(layer: nn.RNNBase, given: Tensor, hidden: tuple[Tensor, ...] | None, batch_sizes: Tensor | None) -> None:
    """Types and sizes as torch's layers check them, devices and the state's type as its operations do."""
    if hidden is None:
        layer.check_input(given, batch_sizes)
    else:
        layer.check_forward_args(given, hidden if len(hidden) > 1 else hidden[0], batch_sizes)  # type: ignore[arg-type]
    weight = layer.weight_ih_l0
    if weight.device != given.device:
        raise RuntimeError(
            f"Input and parameter tensors are not at the same device, found input tensor at {given.device} and parameter tensor at {weight.device}"
        )
    for field in hidden or ():
        if field.device != given.device:
            raise RuntimeError(
                f"Input and hidden tensors are not at the same device, found input tensor at {given.device} and hidden tensor at {field.device}"
            )
        if field.dtype != given.dtype and not autocasts(given.device):
            raise RuntimeError(
                f"Input and hidden tensors are not the same dtype, found input tensor with {given.dtype} and hidden tensor with {field.dtype}"
            )


def _result_dtype(layer: nn.RNNBase, x: Tensor) -> torch.dtype:
    """The type of torch's results: autocast lowers float32, but not that of torch's GRU on a CPU."""
    device = x.device.type
    if x.dtype != torch.float32 or not autocasts(x.device) or (device == "cpu" and isinstance(layer, nn.GRU)):
        return x.dtype
    return torch.get_autocast_dtype(device)


def _check_reset(reset: Tensor | None, shape: tuple[int, ...]) -> None:
    """Resets are booleans in the form of the input.

    Raises:
        ValueError: another shape.
        TypeError: another type.
    """
    if reset is None:
        return
    if reset.dtype != torch.bool:
        raise TypeError(f"reset must be booleans, not {reset.dtype}: pass reset.bool().")
    if reset.shape != shape:
        raise ValueError(f"reset must be of shape {shape}, laid out as the input, not {tuple(reset.shape)}.")
