"""Cells: torch's weights under torch's names, how they start, their noise, what they say about themselves."""

import math

import pytest
import torch
from torch import nn

import catalogue
from recurra.cells import ElmanCell, ElmanReluCell, GRUCell, Initialization, LSTMCell
from recurra.cells.noise import drop
from recurra.errors import BackendUnavailable, SettingsError

cells = pytest.mark.parametrize("make", catalogue.BUILT_IN.values(), ids=catalogue.BUILT_IN)
fused_cells = pytest.mark.parametrize("make", [ElmanCell, ElmanReluCell, LSTMCell, GRUCell])
FASTEST = catalogue.KERNELS["lstm"].backends[0]
FREE = catalogue.KERNELS["lstm"].free_backends[0]
"""The fastest backends of the fused cells: of all, and of those that have noise and resets."""


@pytest.mark.parametrize(
    ("make", "twin"),
    [
        (LSTMCell, nn.LSTMCell(3, 4)),
        (GRUCell, nn.GRUCell(3, 4)),
        (ElmanCell, nn.RNNCell(3, 4)),
        (ElmanReluCell, nn.RNNCell(3, 4, nonlinearity="relu")),
    ],
)
def test_state_dicts_of_torch_cells_load_both_ways(make, twin):
    cell = make(3, 4)
    cell.load_state_dict(twin.state_dict())
    x = torch.randn(2, 3)
    state = cell.initial_state(2)
    for _ in range(3):
        given = tuple(state) if len(state) > 1 else state[0]
        expected = twin(x, given)
        output, state = cell.step(x, state)
        # One step of numbers under one in float32: sums of 9 terms.
        torch.testing.assert_close(output, expected[0] if isinstance(expected, tuple) else expected, rtol=0, atol=2.0**-23 * 9)
    other = make(3, 4)
    twin.load_state_dict(other.state_dict())
    assert torch.equal(twin.weight_hh, other.weight_hh)


@cells
def test_torch_initialization(make):
    torch.manual_seed(0)
    cell = make(30, 50)
    torch.manual_seed(0)
    bound = 1 / math.sqrt(50)
    drawn = {name: parameter for name, parameter in cell.named_parameters() if name.startswith("weight") or name in {"bias_ih", "bias_hh"}}
    for parameter in drawn.values():
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.9 * bound
    assert torch.equal(make(30, 50).weight_ih, cell.weight_ih)


@cells
def test_orthogonal_initialization(make):
    cell = make(3, 8, initialization=Initialization("orthogonal"))
    for part in cell.weight_hh.split(8 // cell.heads):
        torch.testing.assert_close(part.T @ part, torch.eye(part.shape[1]), rtol=0, atol=2.0**-23 * 32)
    assert cell.weight_ih.abs().max() <= math.sqrt(6 / (3 + 8))
    assert cell.weight_ih.abs().max() > 0.8 * math.sqrt(6 / (3 + 8))
    assert not cell.bias_ih.any()
    assert not cell.bias_hh.any()


@pytest.mark.parametrize("make", [make for name, make in catalogue.BUILT_IN.items() if "lstm" in name])
def test_forget_bias_is_the_sum_of_both_biases(make):
    cell = make(3, 4, initialization=Initialization(forget_bias=1.5))
    total = (cell.bias_ih + cell.bias_hh).view(4, 4)
    assert total[1].tolist() == [1.5] * 4
    assert (total[[0, 2, 3]].abs() <= 2 / math.sqrt(4)).all()


@pytest.mark.parametrize("make", [make for name, make in catalogue.BUILT_IN.items() if "lstm" not in name])
def test_forget_bias_of_a_cell_without_forget_gate_is_refused(make):
    with pytest.raises(SettingsError, match=f"{make.__name__}, which has no forget gate"):
        make(3, 4, initialization=Initialization(forget_bias=1.0))


def test_unknown_initialization_names_the_nearest():
    with pytest.raises(SettingsError, match="Did you mean 'orthogonal'"):
        Initialization("ortogonal")


@cells
def test_learned_initial_state_is_where_sequences_and_resets_begin(make):
    cell = make(3, 4, initialization=Initialization(learn_state=True))
    with torch.no_grad():
        cell.initial_h.fill_(0.5)
    x = torch.randn(2, 4, 3)
    where = torch.tensor([[False, False, True, False]] * 2)
    output, _ = cell(x, reset=where)
    begun, _ = cell(x[:, 2:], cell.initial_state(2))
    # Perhaps by different backends: two steps of numbers under one.
    torch.testing.assert_close(output[:, 2:], begun, rtol=0, atol=2.0**-23 * 32)
    assert (cell.initial_state(2)[0] == 0.5).all()


@cells
@pytest.mark.parametrize("option", ["recurrent_dropout", "weight_dropout", "zoneout"])
def test_noise_is_drawn_in_training_only(make, option):
    torch.manual_seed(0)
    cell = make(3, 16, **{option: 0.5})
    x = torch.randn(2, 6, 3)
    first, second = cell(x)[0], cell(x)[0]
    assert not torch.equal(first, second)
    cell.eval()
    first, second = cell(x)[0], cell(x)[0]
    assert torch.equal(first, second)
    torch.manual_seed(0)
    same = make(3, 16)
    if option == "zoneout":
        assert not torch.equal(first, same.eval()(x)[0])
    else:
        assert torch.equal(first, same.eval()(x)[0])


def test_recurrent_dropout_keeps_its_mask_over_the_steps():
    torch.manual_seed(0)
    # Where every unit that is read is dropped, a step of Elman's network depends on its own input alone.
    output, _ = ElmanCell(3, 4, recurrent_dropout=0.9)(torch.ones(64, 3, 3))
    dropped = (output[:, 1] == output[:, 0]).all(1)
    assert dropped.any()
    assert not dropped.all()
    assert torch.equal(output[dropped, 2], output[dropped, 0])


@fused_cells
def test_weight_dropout_keeps_the_fastest_backend(make):
    assert make(3, 4, weight_dropout=0.5).explain_backend().startswith(f"{FASTEST}: ")
    assert make(3, 4, weight_dropout=0.5, backend="aten").explain_backend().startswith("aten: asked for by name")


@fused_cells
def test_cells_say_what_runs_them(make):
    cell = make(3, 4, recurrent_dropout=0.5)
    assert cell.explain_backend().startswith(f"{FREE}: ")
    assert cell.eval().explain_backend().startswith(f"{FASTEST}: ")
    assert make(3, 4, zoneout=0.5).eval().explain_backend().startswith(f"{FREE}: ")
    assert make(3, 4, backend="reference").explain_backend().startswith("reference: asked for by name")
    assert "(3, 4, zoneout=0.5)" in repr(make(3, 4, zoneout=0.5))


@fused_cells
@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout"])
def test_a_named_backend_that_lacks_an_option_is_refused_when_the_cell_is_made(make, option):
    with pytest.raises(BackendUnavailable, match=option.replace("_", " ")):
        make(3, 4, backend="aten", **{option: 0.5})


@cells
@pytest.mark.parametrize("option", ["recurrent_dropout", "weight_dropout", "zoneout"])
@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_rates_out_of_range_are_refused(make, option, rate):
    with pytest.raises(SettingsError, match=f"{option} must be from 0 to under 1"):
        make(3, 4, **{option: rate})


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (3, -1)])
def test_sizes_under_one_are_refused(sizes):
    with pytest.raises(ValueError, match="must be 1 or more"):
        LSTMCell(*sizes)


@pytest.mark.parametrize("rate", [0.5, 0.3, 0.001, 0.998, 1e-9])
def test_the_share_that_is_dropped_is_the_rate(rate):
    """Also between two bytes, where a second number decides."""
    torch.manual_seed(0)
    count = 1_000_000
    dropped = int((drop(torch.ones(count), rate) == 0).sum())
    # Five standard deviations of a share in so many draws, and one draw.
    assert abs(dropped - rate * count) < 5 * math.sqrt(rate * (1 - rate) * count) + 1


def test_what_is_dropped_hangs_on_the_seed_alone():
    masks = []
    for seed, dtype in ((0, torch.float32), (0, torch.float64), (1, torch.float32)):
        torch.manual_seed(seed)
        masks.append(torch.stack([drop(torch.ones(999, dtype=dtype), 0.3) == 0 for _ in range(2)]))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(*masks[0])


def test_dropout_keeps_the_mean_and_the_share():
    torch.manual_seed(0)
    count = 100_000
    dropped = drop(torch.ones(count), 0.3)
    # Five standard deviations of a share of 0.3 in 100,000 draws.
    assert abs(float((dropped == 0).double().mean()) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / count)
    assert dropped.max() == torch.tensor(1 / 0.7)
