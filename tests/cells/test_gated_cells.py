"""Cells that torch has no layer for: their size and work as their docstrings say, how they start, what they refuse."""

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import catalogue
from recurra.cells import GRUCell, Initialization, LSTMCell, PeepholeLSTMCell, ProjectedLSTMCell, SLSTMCell
from recurra.config import EncoderSettings
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels.backend import OPERATIONS
from recurra.layers import Stack
from recurra.model.network import build_stack

F, H, P, K = 5, 12, 3, 4
COSTS = {
    "lstm": (LSTMCell, 4 * H * (F + H + 2), 8 * H * (F + H)),
    "gru": (GRUCell, 3 * H * (F + H + 2), 6 * H * (F + H)),
    "layernorm_lstm": (catalogue.BUILT_IN["layernorm_lstm"], 4 * H * (F + H + 4) + 2 * H, 8 * H * (F + H)),
    "layernorm_gru": (catalogue.BUILT_IN["layernorm_gru"], 3 * H * (F + H + 4), 6 * H * (F + H)),
    "gru_reset_before": (catalogue.BUILT_IN["gru_reset_before"], 3 * H * (F + H + 2), 6 * H * (F + H)),
    "peephole_lstm": (PeepholeLSTMCell, 4 * H * (F + H + 2) + 3 * H, 8 * H * (F + H)),
    "projected_lstm": (partial(ProjectedLSTMCell, proj_size=P), 4 * H * (F + P + 2) + P * H, 8 * H * (F + P) + 2 * P * H),
    "slstm": (partial(SLSTMCell, heads=K), 4 * H * (F + H // K + 2), 8 * H * (F + H // K)),
}
ALONE = {name: make for name, make in catalogue.BUILT_IN.items() if name not in {"elman", "elman_relu", "lstm", "gru"}}
alone = pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)


@pytest.mark.parametrize(("make", "parameters", "work"), COSTS.values(), ids=COSTS)
def test_parameters_and_work_are_those_of_the_docstring(make, parameters, work):
    cell = make(F, H, backend="reference")
    assert sum(parameter.numel() for parameter in cell.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        cell(torch.randn(2, 3, F))
    assert counter.get_total_flops() == 2 * 3 * work


@alone
def test_they_say_what_runs_them_and_refuse_a_backend_they_lack(make):
    cell = make(3, 4, zoneout=0.5)
    if "cpu" not in OPERATIONS[cell.operation]:
        assert cell.explain_backend().startswith(f"reference: the only backend of {cell.operation}: a Python loop")
    assert make(3, 4, backend="reference").explain_backend().startswith("reference: asked for by name")
    with pytest.raises(BackendUnavailable, match=f"'aten' cannot run this {cell.operation}: there is none for {cell.operation}, only"):
        make(3, 4, backend="aten")


@pytest.mark.parametrize("scheme", ["torch", "orthogonal"])
@pytest.mark.parametrize("name", ["layernorm_lstm", "layernorm_gru"])
def test_gains_start_at_one(name, scheme):
    cell = catalogue.BUILT_IN[name](3, 4, initialization=Initialization(scheme))
    gains = {parameter: value for parameter, value in cell.named_parameters() if parameter.startswith("gain")}
    assert gains
    assert all((gain == 1).all() for gain in gains.values())
    assert name == "layernorm_gru" or not cell.bias_c.any()
    torch.nn.init.zeros_(cell.gain_hh)
    cell.reset_parameters()
    assert (cell.gain_hh == 1).all()


def test_orthogonal_starts_without_peepholes_and_with_an_orthonormal_projection():
    start = Initialization("orthogonal")
    cell = PeepholeLSTMCell(3, 4, initialization=start)
    assert not any(peephole.any() for peephole in (cell.weight_ci, cell.weight_cf, cell.weight_co))
    projection = ProjectedLSTMCell(3, 8, proj_size=3, initialization=start).weight_hr
    torch.testing.assert_close(projection @ projection.T, torch.eye(3), rtol=0, atol=2.0**-23 * 32)


@pytest.mark.parametrize("size", [-1, 0, 4, 5])
def test_projections_that_torch_refuses_are_refused(size):
    with pytest.raises(SettingsError, match=f"proj_size must be from 1 to under hidden_size, which is 4, not {size}"):
        ProjectedLSTMCell(3, 4, proj_size=size)


@pytest.mark.parametrize("heads", [-1, 0, 3, 8])
def test_heads_must_divide_the_hidden_units(heads):
    with pytest.raises(SettingsError, match=f"heads must divide hidden_size, which is 4: {heads} does not"):
        SLSTMCell(3, 4, heads=heads)


def test_sizes_of_their_own_are_shown():
    assert repr(ProjectedLSTMCell(3, 4, proj_size=2, zoneout=0.1)) == "ProjectedLSTMCell(3, 4, zoneout=0.1, proj_size=2)"
    assert repr(SLSTMCell(3, 4, heads=2)) == "SLSTMCell(3, 4, heads=2)"


def test_widths_of_a_projected_lstm_are_those_of_its_state():
    torch.manual_seed(0)
    cell = ProjectedLSTMCell(3, 8, proj_size=2, zoneout=0.5, recurrent_dropout=0.5, initialization=Initialization(learn_state=True))
    state = cell.initial_state(5)
    assert (state.h.shape, state.c.shape, cell.output_size) == ((5, 2), (5, 8), 2)
    output, after = cell(torch.randn(5, 4, 3))
    assert (output.shape, after.h.shape, after.c.shape) == ((5, 4, 2), (5, 2), (5, 8))
    assert torch.equal(output[:, -1], after.h)


def test_zoneout_keeps_the_memory_of_an_slstm_whole():
    torch.manual_seed(0)
    cell = SLSTMCell(3, 64, zoneout=0.5)
    _, before = cell(torch.randn(1, 5, 3))
    _, after = cell(torch.randn(1, 1, 3), before)
    # The blend of zoneout rounds where it keeps, too: a few last places of numbers under 8.
    kept = [(a - b).abs() < 2.0**-20 for a, b in zip(after[1:], before[1:], strict=True)]
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])
    # Five standard deviations of a half of 64.
    assert abs(int(kept[0].sum()) - 32) <= 20


def test_a_learned_state_of_an_slstm_is_a_memory():
    cell = SLSTMCell(3, 4, initialization=Initialization(learn_state=True))
    assert {name for name, _ in cell.named_parameters() if name.startswith("initial")} == {"initial_h", "initial_c"}
    assert (cell.initial_state(2).n == 1).all()
    assert not any(field.any() for field in SLSTMCell(3, 4).initial_state(2))


@pytest.mark.parametrize("cell", ["lstm", "layernorm_lstm", "peephole_lstm", "slstm"])
def test_forget_gates_start_open_with_orthogonal_weights(cell):
    def bias(**settings):
        made = build_stack(3, EncoderSettings(cell=cell, hidden_size=4, bidirectional=False, **settings)).cells[0]
        return (made.bias_ih + made.bias_hh).view(4, 4)[1].tolist()

    assert bias() == [1.0] * 4
    assert bias(forget_bias=3.0) == [3.0] * 4
    assert bias(initialization="torch") != [1.0] * 4


def test_a_stack_is_as_wide_as_its_projections():
    stack = Stack(catalogue.PROJECTED, 3, 4, layers=2, bidirectional=True)
    assert stack.output_size == 4
    assert stack(torch.randn(2, 3, 3))[0].shape == (2, 3, 4)
    assert stack.cells[2].weight_ih.shape == (16, 4)
