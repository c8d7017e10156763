"""Stacks, cells and layers called with what does not fit: an error that says so, and never numbers that mean nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from catalogue import LeakyCell
from recurra.cells import GRUState, LSTMCell, LSTMState, MinGRUCell
from recurra.errors import SettingsError
from recurra.kernels.compiled import UNAVAILABLE
from recurra.layers import GRU, LSTM, Stack

pytestmark = pytest.mark.usefixtures("unchecked")
needs_kernels = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
F, H, B, T = 3, 4, 2, 5


def elsewhere(*shape, **options):
    return torch.zeros(*shape, device="meta", **options)


@needs_kernels
@pytest.mark.parametrize("cell", ["lstm", "slstm", "min_gru"])
@pytest.mark.parametrize("gradients", [False, True])
def test_tensors_on_two_devices_are_refused(cell, gradients):
    stack, x = Stack(cell, F, H), torch.randn(B, T, F)
    state = tuple(type(part)(*(field.to("meta") for field in part)) for part in stack.initial_state(B))
    with torch.set_grad_enabled(gradients):
        for call in (
            lambda: Stack(cell, F, H).to("meta")(x),
            lambda: stack(x, state),
            lambda: stack(x, reset=elsewhere(B, T, dtype=torch.bool)),
            lambda: LSTM(F, H, batch_first=True)(x, reset=elsewhere(B, T, dtype=torch.bool)),
        ):
            with pytest.raises(RuntimeError, match="must be on one device, and these are on cpu and meta"):
                call()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.complex64], ids=str)
@pytest.mark.parametrize("cell", ["gru", "min_gru"])
def test_an_input_of_another_type_is_refused_and_not_converted(cell, dtype):
    with pytest.raises(ValueError, match=f"The input is of {dtype} and the weights are of torch.float32"):
        Stack(cell, F, H)(torch.ones(B, T, F).to(dtype))


@pytest.mark.parametrize("cell", ["lstm", "slstm", "min_gru", "rg_lru", "qrnn"])
@pytest.mark.parametrize("shape", [(0, T), (B, 0)])
def test_no_rows_and_no_steps_have_gradients_of_zero(cell, shape):
    stack, x = Stack(cell, F, H), torch.zeros(*shape, F, requires_grad=True)
    inputs = [x, *stack.parameters()]
    output, (state,) = stack(x)
    for gradient, given in zip(torch.autograd.grad(output.sum() + state[0].sum(), inputs), inputs, strict=True):
        assert torch.equal(gradient, torch.zeros_like(given))


@pytest.mark.parametrize("make", [LSTM, GRU])
@pytest.mark.parametrize("options", [{}, {"zoneout": 0.2, "recurrent_dropout": 0.2, "bidirectional": True}], ids=["plain", "noise"])
def test_it_runs_on_the_cpu_whatever_device_new_tensors_are_on(make, options):
    layer, x, lengths = make(F, H, batch_first=True, **options), torch.randn(B, T, F), torch.tensor([2, 5])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)

    def run():
        torch.manual_seed(0)
        outputs = [layer(x)[0], layer(x, lengths=lengths)[0], layer(packed)[0].data, layer.gates(x, lengths=lengths)[0][0]]
        return [*outputs, *torch.autograd.grad(outputs[1].sum(), list(layer.parameters()))]

    expected = run()
    with torch.device("meta"):
        found = run()
    assert all(map(torch.equal, found, expected))


def test_shapes_are_known_on_the_device_meta_with_every_option():
    layer = LSTM(F, H, 2, batch_first=True, device="meta", layer_norm=True, zoneout=0.1, learn_initial_state=True)
    output, (h, c) = layer(elsewhere(B, T, F), lengths=elsewhere(B, dtype=torch.int64))
    assert (output.shape, h.shape, c.shape) == ((B, T, H), (2, B, H), (2, B, H))
    assert output.device.type == "meta"


@pytest.mark.parametrize("name", ["lengths", "reset"])
@pytest.mark.parametrize(
    "make", [lambda: Stack("lstm", F, H), lambda: MinGRUCell(F, H), lambda: LeakyCell(F, H), lambda: GRU(F, H, batch_first=True)]
)
def test_lists_and_arrays_in_place_of_tensors_are_named(make, name):
    given = {"lengths": [2, 5], "reset": np.zeros((B, T), dtype=bool)}[name]
    with pytest.raises(TypeError, match=rf"{name} must be a tensor of \w+, not a (list|ndarray): pass torch.as_tensor\({name}\)"):
        make()(torch.randn(B, T, F), **{name: given})


def test_states_of_another_form_are_named():
    """torch's pair of tensors, a tensor alone, a plain tuple, another cell's state."""
    x, h = torch.randn(B, T, F), torch.zeros(2, B, H)
    for make, state, found in (
        (lambda: Stack("lstm", F, H, layers=2), (h, h), "Tensor"),
        (lambda: Stack("lstm", F, H, layers=2), LSTMState(h[0], h[0]), "Tensor"),
        (lambda: LSTMCell(F, H), (h[0], h[0]), "tuple"),
        (lambda: MinGRUCell(F, H), h[0], "Tensor"),
        (lambda: LSTMCell(F, H), GRUState(h[0]), "GRUState"),
    ):
        with pytest.raises(TypeError, match=f"as `initial_state` and every call return it, not a {found}"):
            make()(x, state)
    with pytest.raises(TypeError, match="must be a NamedTuple of tensors"):
        LeakyCell(F, H)(x, h[0])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda h: h, "not a Tensor"),
        (lambda h: (h, h), r"not \(Tensor, Tensor\)"),
        (lambda h: (h, (h,)), r"not \(Tensor, tuple\)"),
        (lambda h: LSTMState(h, h), r"not \(Tensor, Tensor\)"),
    ],
)
def test_a_step_that_returns_something_else_is_named(found, message):
    class Wrong(LeakyCell):
        def step(self, x, state):
            return found(super().step(x, state)[0])

    with pytest.raises(TypeError, match=rf"Wrong.step must return \(output, state\) with the state a ElmanState, as it got it, {message}"):
        Wrong(F, H)(torch.randn(B, T, F))


@pytest.mark.parametrize(
    ("cell", "message"),
    [(nn.LSTM, "made a torch.nn.modules.rnn.LSTM"), (LeakyCell(F, H), "not a LeakyCell"), (3, "not a int")],
)
def test_a_stack_of_what_is_no_cell_is_refused(cell, message):
    with pytest.raises(SettingsError, match=message):
        Stack(cell, F, H)


@pytest.mark.parametrize(
    ("make", "rows", "steps"),
    [
        (lambda: LSTM(F, H, 2, batch_first=True), 0, T),
        (lambda: GRU(F, H, batch_first=True), 0, T),
        (lambda: Stack("slstm", F, H), 0, T),
        (lambda: Stack("slstm", F, H, bidirectional=True), B, 0),
    ],
)
def test_a_call_without_rows_or_steps_has_gradients_as_any_other(make, rows, steps):
    """As of torch: zeros, and not missing."""
    layer, x = make(), torch.zeros(rows, steps, F, requires_grad=True)
    output, _ = layer(x)
    assert output.shape[:2] == (rows, steps)
    gradients = torch.autograd.grad(output.sum(), [x, *layer.parameters()])
    assert not any(gradient.any() for gradient in gradients)
