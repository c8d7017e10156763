"""torch.nn.LSTM, GRU and RNN on Recurra's recurrences: the same arguments, weights and results, and what they lack."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from recurra.errors import SettingsError
from recurra.kernels import (
    ElmanState,
    GRUState,
    LayerNormGRUWeights,
    LayerNormLSTMWeights,
    LSTMState,
    ProjectedLSTMWeights,
    RecurrentWeights,
    elman_recurrence,
    gru_recurrence,
    layernorm_gru_recurrence,
    layernorm_lstm_recurrence,
    lstm_recurrence,
    projected_lstm_recurrence,
)
from recurra.layers.gates import GRUGates, LSTMGates, gru_gates, lstm_gates
from recurra.layers.torch_call import read_call
from recurra.layers.torch_layer import Operation, TorchLayer
from recurra.shapes import Bool, Int, Tensor

__all__ = ["GRU", "LSTM", "RNN"]

_LSTM = Operation("lstm", lstm_recurrence, RecurrentWeights, LSTMState)
_PROJECTED_LSTM = Operation("projected_lstm", projected_lstm_recurrence, ProjectedLSTMWeights, LSTMState)
_LAYERNORM_LSTM = Operation("layernorm_lstm", layernorm_lstm_recurrence, LayerNormLSTMWeights, LSTMState)
_GRU = Operation("gru", gru_recurrence, RecurrentWeights, GRUState)
_LAYERNORM_GRU = Operation("layernorm_gru", layernorm_gru_recurrence, LayerNormGRUWeights, GRUState)
_ELMAN = {
    "RNN_TANH": Operation("elman", elman_recurrence, RecurrentWeights, ElmanState),
    "RNN_RELU": Operation("elman_relu", partial(elman_recurrence, nonlinearity="relu"), RecurrentWeights, ElmanState),
}


class LSTM(TorchLayer, nn.LSTM):
    """Long short-term memory: torch.nn.LSTM on Recurra's recurrences, with options that it lacks.

    The first ten arguments, the state_dict, the initialization, the results and the errors are those of torch.nn.LSTM, of
    which this is a subclass. `forward` takes two more arguments, `lengths` and `reset`. All noise obeys `.train()` and
    `.eval()`; the masks of `dropout` are not those that torch draws from the same seed. `torch.jit.script` takes the
    layer as torch's own, unless an option makes it another.

    Args:
        input_size: F.
        hidden_size: H.
        num_layers: L.
        bias: add two biases to each gate.
        batch_first: inputs and outputs are (B, T, F) and not (T, B, F).
        dropout: between the layers, drawn anew at each step.
        bidirectional: read from both ends.
        proj_size: P, width of a projected hidden state (Sak et al. 2014); 0 for none.
        device: of the weights.
        dtype: of the weights.
        layer_norm: normalize inside the recurrence, as `layernorm_lstm_recurrence` says (Ba et al. 2016). More parameters:
            gain_ih_l0, gain_hh_l0, gain_c_l0, bias_c_l0 and so on.
        variational_dropout: of what each layer reads, the input too, by one mask for all steps (Gal & Ghahramani 2016).
        recurrent_dropout: of the hidden state that the recurrence reads, by one mask for all steps.
        weight_dropout: of the recurrent weights, by one mask a call (Merity et al. 2017).
        zoneout: share of the units that keep their previous state at a step (Krueger et al. 2016).
        forget_bias: start of the forget gates' biases, the sum of both (Jozefowicz et al. 2015: 1); None as torch.
        learn_initial_state: the state before the first step is trained, from zeros; parameters initial_h (L*D, H or P) and
            initial_c (L*D, H).
        backend: what computes the recurrence: "auto", or a name of `recurra.kernels.BACKENDS` that runs or raises.

    Raises:
        SettingsError: an option is out of range or would do nothing.
        BackendUnavailable: the backend named cannot run these options.
        ValueError, TypeError: as torch.nn.LSTM.
    """

    forget_bias: float | None = None

    def __init__(  # noqa: PLR0917 - torch's order of arguments
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: bool = False,
        variational_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        forget_bias: float | None = None,
        learn_initial_state: bool = False,
        backend: str = "auto",
    ) -> None:
        nn.LSTM.__init__(
            self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device=device, dtype=dtype
        )
        if forget_bias is not None and not bias:
            raise SettingsError("`forget_bias` needs biases, and the layer is made with bias=False: leave one of them out.")
        self.forget_bias = forget_bias
        self._set_options(
            layer_norm=layer_norm,
            variational_dropout=variational_dropout,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            backend=backend,
        )

    def _operation(self) -> Operation:
        return _LAYERNORM_LSTM if self.layer_norm else _PROJECTED_LSTM if self.proj_size else _LSTM

    @torch.no_grad()
    def _start(self) -> None:
        super()._start()
        if self.forget_bias is None:
            return
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        for suffix in self._suffixes():
            getattr(self, f"bias_ih_{suffix}")[forget] = self.forget_bias
            getattr(self, f"bias_hh_{suffix}")[forget] = 0.0

    def gates(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - as in forward
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Int[Tensor, "..."] | None = None,
        reset: Bool[Tensor, "..."] | None = None,
    ) -> tuple[LSTMGates, ...]:
        """What the gates and the memory cells are at every step of a call: for each layer and direction, in torch's order.

        Computed step by step, with the same arguments as `forward`, and slower; in training mode with noise drawn anew.
        """
        return self._gates(lstm_gates, read_call(self, input, hx, lengths, reset))


class GRU(TorchLayer, nn.GRU):
    """Gated recurrent unit: torch.nn.GRU on Recurra's recurrences, with options that it lacks.

    As `LSTM` is to torch.nn.LSTM; it has no `forget_bias`, and its state is one tensor. With `layer_norm` it is
    `layernorm_gru_recurrence`, with the parameters gain_ih_l0, gain_hh_l0 and so on.

    Args:
        input_size: F.
        hidden_size: H.
        num_layers: L.
        bias: add two biases to each gate.
        batch_first: inputs and outputs are (B, T, F) and not (T, B, F).
        dropout: between the layers, drawn anew at each step.
        bidirectional: read from both ends.
        proj_size: only here because it stands in torch's order of arguments; 0.
        device: of the weights.
        dtype: of the weights.
        layer_norm: see `LSTM`, as all that follow.
        variational_dropout: of what each layer reads.
        recurrent_dropout: of the hidden state that the recurrence reads.
        weight_dropout: of the recurrent weights.
        zoneout: share of the units that keep their previous state at a step.
        learn_initial_state: the state before the first step is trained.
        backend: what computes the recurrence.
    """

    def __init__(  # noqa: PLR0917 - torch's order of arguments
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: bool = False,
        variational_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        learn_initial_state: bool = False,
        backend: str = "auto",
    ) -> None:
        _refuse_projection(proj_size)
        nn.GRU.__init__(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype)
        self._set_options(
            layer_norm=layer_norm,
            variational_dropout=variational_dropout,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            backend=backend,
        )

    def _operation(self) -> Operation:
        return _LAYERNORM_GRU if self.layer_norm else _GRU

    def gates(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - as in forward
        hx: Tensor | None = None,
        *,
        lengths: Int[Tensor, "..."] | None = None,
        reset: Bool[Tensor, "..."] | None = None,
    ) -> tuple[GRUGates, ...]:
        """What the gates are at every step of a call; see `LSTM.gates`."""
        return self._gates(gru_gates, read_call(self, input, hx, lengths, reset))


class RNN(TorchLayer, nn.RNN):
    """Elman's network: torch.nn.RNN on Recurra's recurrences, with options that it lacks.

    As `LSTM` is to torch.nn.LSTM; it has neither `forget_bias` nor `layer_norm`, and its state is one tensor.

    Args:
        input_size: F.
        hidden_size: H.
        num_layers: L.
        nonlinearity: "tanh" or "relu".
        bias: add two biases.
        batch_first: inputs and outputs are (B, T, F) and not (T, B, F).
        dropout: between the layers, drawn anew at each step.
        bidirectional: read from both ends.
        proj_size: only here because it stands in torch's order of arguments; 0.
        device: of the weights.
        dtype: of the weights.
        variational_dropout: see `LSTM`, as all that follow: of what each layer reads.
        recurrent_dropout: of the hidden state that the recurrence reads.
        weight_dropout: of the recurrent weights.
        zoneout: share of the units that keep their previous state at a step.
        learn_initial_state: the state before the first step is trained.
        backend: what computes the recurrence.
    """

    def __init__(  # noqa: PLR0917 - torch's order of arguments
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        variational_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        learn_initial_state: bool = False,
        backend: str = "auto",
    ) -> None:
        _refuse_projection(proj_size)
        nn.RNN.__init__(
            self, input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        self._set_options(
            variational_dropout=variational_dropout,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            backend=backend,
        )

    def _operation(self) -> Operation:
        return _ELMAN[self.mode]


def _refuse_projection(proj_size: int) -> None:
    """As torch refuses it.

    Raises:
        ValueError: there is one.
    """
    if proj_size:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
