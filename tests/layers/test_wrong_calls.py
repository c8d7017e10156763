"""Stacks, cells and layers called with what does not fit: an error that says so, and never numbers that mean nothing."""

import pytest
import torch

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
def test_an_input_of_another_type_is_refused_and_not_converted(dtype):
    with pytest.raises(ValueError, match=f"The input is of {dtype} and the weights are of torch.float32"):
        Stack("gru", F, H)(torch.ones(B, T, F).to(dtype))


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
