"""The stack: torch's layers as one case of it, every option, dropouts, resets, what it says about itself."""

import pytest
import torch
from torch import nn

import catalogue
from recurra.cells import CELLS, ElmanCell, ElmanReluCell, ElmanState, GRUCell, Initialization, LSTMCell
from recurra.errors import BackendUnavailable, SettingsError
from recurra.layers import Regularization, Stack, load_torch_weights, torch_weights

TORCH_LAYERS = {
    "elman": nn.RNN,
    "elman_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    catalogue.PROJECTED: lambda *sizes, **options: nn.LSTM(*sizes, proj_size=2, **options),
}


@pytest.mark.parametrize("cell", TORCH_LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_torch_layers_load_both_ways(cell, bidirectional, bias):
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": True}
    layer = TORCH_LAYERS[cell](3, 4, bias=bias, **options).double()
    stack = Stack(cell, 3, 4, layers=2, bidirectional=bidirectional).double()
    load_torch_weights(stack, layer.state_dict())
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    expected, last = layer(x)
    output, state = stack(x)
    torch.testing.assert_close(output, expected, rtol=0, atol=2.0**-52 * 2.0**10)
    for number, part in enumerate(state):
        for mine, theirs in zip(part, last if isinstance(last, tuple) else (last,), strict=True):
            torch.testing.assert_close(mine, theirs[number], rtol=0, atol=2.0**-52 * 2.0**10)
    back = TORCH_LAYERS[cell](3, 4, **options).double()
    back.load_state_dict(torch_weights(stack))
    torch.testing.assert_close(back(x)[0], expected, rtol=0, atol=2.0**-52 * 2.0**10)


def test_torch_weights_that_do_not_fit_are_named():
    stack = Stack("lstm", 3, 4)
    with pytest.raises(ValueError, match="weight_ih_l1"):
        load_torch_weights(stack, nn.LSTM(3, 4, 2).state_dict())
    with pytest.raises(ValueError, match="weight_hr_l0"):
        load_torch_weights(stack, nn.LSTM(3, 4, proj_size=2).state_dict())
    with pytest.raises(ValueError, match=r"weight_ih_l0 must be of shape \(16, 3\), not \(12, 3\)"):
        load_torch_weights(stack, nn.GRU(3, 4).state_dict())
    with pytest.raises(ValueError, match="missing"):
        load_torch_weights(Stack("lstm", 3, 4, bidirectional=True), nn.LSTM(3, 4).state_dict())


def test_what_torch_lacks_is_not_given_away_as_torch_weights():
    with pytest.raises(ValueError, match="layer normalization and residuals and a learned initial state"):
        torch_weights(Stack("lstm", 4, 4, residual=True, layer_norm=True, initialization=Initialization(learn_state=True)))
    for cell in {*CELLS.values(), catalogue.LeakyCell} - {ElmanCell, ElmanReluCell, LSTMCell, GRUCell}:
        with pytest.raises(ValueError, match=f"no layer of {cell.__name__}s: only stacks of ElmanCell"):
            torch_weights(Stack(cell, 3, 4))
    with pytest.raises(ValueError, match="no layer of GRUResetBeforeCells"):
        load_torch_weights(Stack("gru_reset_before", 3, 4), nn.GRU(3, 4).state_dict())
    with pytest.raises(ValueError, match=r"missing: .*weight_hr_l0"):
        load_torch_weights(Stack(catalogue.PROJECTED, 3, 4), nn.LSTM(3, 4).state_dict())


OPTIONS = {
    "cell": ({}, {"cell": "gru"}),
    "layers": ({}, {"layers": 3}),
    "bidirectional": ({}, {"bidirectional": True}),
    "residual": ({"layers": 2}, {"layers": 2, "residual": True}),
    "layer_norm": ({}, {"layer_norm": True}),
    "input": ({}, {"regularization": Regularization(input=0.5)}),
    "between": ({"layers": 2}, {"layers": 2, "regularization": Regularization(between=0.5)}),
    "variational": (
        {"layers": 2, "regularization": Regularization(between=0.5)},
        {"layers": 2, "regularization": Regularization(between=0.5, variational=True)},
    ),
    "recurrent": ({}, {"regularization": Regularization(recurrent=0.5)}),
    "weight": ({}, {"regularization": Regularization(weight=0.5)}),
    "zoneout": ({}, {"regularization": Regularization(zoneout=0.5)}),
    "scheme": ({}, {"initialization": Initialization("orthogonal")}),
    "forget_bias": ({}, {"initialization": Initialization(forget_bias=2.0)}),
}


@pytest.mark.parametrize(("base", "changed"), OPTIONS.values(), ids=OPTIONS)
def test_every_option_changes_the_output(base, changed):
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))

    def output(options):
        torch.manual_seed(0)
        stack = Stack(options.get("cell", "lstm"), 4, 4, **{name: value for name, value in options.items() if name != "cell"})
        torch.manual_seed(2)
        return stack(x)[0]

    before, after = output(base), output(changed)
    assert torch.equal(before, output(base))
    assert before.shape != after.shape or not torch.equal(before, after)


def test_learned_state_and_backend_change_the_parameters_and_what_runs():
    assert len(list(Stack("lstm", 3, 4, initialization=Initialization(learn_state=True)).parameters())) == 6
    assert Stack("lstm", 3, 4, backend="reference").explain_backend() == (
        "layer 0: LSTMCell runs on reference: asked for by name: "
        "a Python loop over the steps in plain PyTorch: every option, any device, any order of derivative"
    )
    fastest = catalogue.KERNELS["lstm"].backends[0]
    assert f"layer 0 forward, layer 0 backward: LSTMCell runs on {fastest}" in Stack("lstm", 3, 4, bidirectional=True).explain_backend()


def test_noise_of_a_stack_is_silent_in_evaluation():
    torch.manual_seed(0)
    stack = catalogue.STACKS["all noise"].build()
    x = torch.randn(2, 5, 3)
    assert not torch.equal(stack(x)[0], stack(x)[0])
    stack.eval()
    assert torch.equal(stack(x)[0], stack(x)[0])


def test_variational_dropout_between_layers_keeps_its_mask_and_the_other_does_not():
    class Copying(catalogue.LeakyCell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.output_size = input_size

        def step(self, x, state):
            return x, ElmanState(state.h + 0 * self.rate)

    x = torch.ones(2, 50, 8)
    for variational in (True, False):
        torch.manual_seed(0)
        stack = Stack(Copying, 8, 8, layers=2, regularization=Regularization(between=0.5, variational=variational))
        output, _ = stack(x)
        assert set(output.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(output, output[:, :1].expand_as(output)) is variational
    torch.manual_seed(0)
    output, _ = Stack(Copying, 8, 8, regularization=Regularization(input=0.5))(x)
    assert set(output.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(output, output[:, :1].expand_as(output))


def test_residual_is_the_input_itself_and_the_norm_comes_after_it():
    torch.manual_seed(0)
    plain, added = Stack("gru", 4, 4), Stack("gru", 4, 4, residual=True)
    normed = Stack("gru", 4, 4, residual=True, layer_norm=True)
    added.load_state_dict(plain.state_dict())
    normed.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 4)
    lengths = torch.tensor([3, 1])
    expected = (plain(x, lengths=lengths)[0] + x) * (torch.arange(3) < lengths[:, None])[..., None]
    assert torch.equal(added(x, lengths=lengths)[0], expected)
    torch.testing.assert_close(normed(x, lengths=lengths)[0][0], nn.functional.layer_norm(expected, (4,))[0], rtol=0, atol=2.0**-23 * 32)
    assert not normed(x, lengths=lengths)[0][1, 1:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lstn"}, "Did you mean 'lstm'"),
        ({"regularization": Regularization(between=0.5)}, "stack of one layer"),
        ({"layers": 2, "regularization": Regularization(variational=True)}, "variational"),
        ({"residual": True}, "reads 3 features and puts out 4"),
        ({"cell": catalogue.LeakyCell, "regularization": Regularization(zoneout=0.5, weight=0.1)}, "weight, zoneout cannot reach inside"),
        ({"cell": catalogue.LeakyCell, "initialization": Initialization("orthogonal")}, "initialization cannot reach inside"),
        ({"cell": catalogue.LeakyCell, "backend": "aten"}, "backend cannot reach inside"),
        ({"backend": "cuda"}, "no backend 'cuda'"),
        ({"cell": "gru", "initialization": Initialization(forget_bias=1.0)}, "forget gate"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message):
    options = {"cell": "lstm", **options}
    with pytest.raises(SettingsError, match=message):
        Stack(options.pop("cell"), 3, 4, **options)


def test_regularization_out_of_range_and_a_backend_that_lacks_an_option_are_refused():
    with pytest.raises(SettingsError, match=r"zoneout must be from 0 to under 1, not 1\.5"):
        Regularization(zoneout=1.5)
    with pytest.raises(BackendUnavailable, match="zoneout"):
        Stack("lstm", 3, 4, backend="aten", regularization=Regularization(zoneout=0.5))
    with pytest.raises(ValueError, match="layers must be 1 or more"):
        Stack("lstm", 3, 4, layers=0)


def test_a_class_of_cell_is_the_same_as_its_name():
    torch.manual_seed(0)
    by_name = Stack("lstm", 3, 4, initialization=Initialization("orthogonal", forget_bias=1.0))
    torch.manual_seed(0)
    by_class = Stack(LSTMCell, 3, 4, initialization=Initialization("orthogonal", forget_bias=1.0))
    assert all(torch.equal(a, b) for a, b in zip(by_name.parameters(), by_class.parameters(), strict=True))


def test_lengths_may_be_int32_and_full():
    stack = Stack("lstm", 3, 4, bidirectional=True)
    x = torch.randn(2, 5, 3)
    assert torch.equal(stack(x)[0], stack(x, lengths=torch.tensor([5, 5], dtype=torch.int32))[0])
    assert not stack(x, lengths=torch.tensor([5, 2], dtype=torch.int32))[0][1, 2:].any()
