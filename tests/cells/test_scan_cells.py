"""Cells whose units read only themselves: their equations by hand, sizes, starts, and what they refuse."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, vmap

import catalogue
from recurra.cells import (
    IndRNNCell,
    Initialization,
    MemoryState,
    MinGRUCell,
    MinLSTMCell,
    QRNNCell,
    QRNNState,
    RGLRUCell,
    ScanState,
    SRUCell,
)
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels.compiled import UNAVAILABLE
from recurra.layers import Stack

cells = pytest.mark.parametrize("make", catalogue.SCAN_CELLS.values(), ids=catalogue.SCAN_CELLS)
F, H = 5, 7
# Sums of up to 2**4 terms in another order, over 2**3 steps.
EXACT = 2.0**-52 * 2.0**10


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def positive(x):
    return np.where(x >= 0, x + 0.5, sigmoid(x))


def min_gru(gate, x, h, cell):
    z, k = sigmoid(gate(0, x)), positive(gate(1, x))
    h = (1 - z) * h + z * k
    return h, h


def min_lstm(gate, x, h, cell):
    f, i, k = sigmoid(gate(0, x)), sigmoid(gate(1, x)), positive(gate(2, x))
    h = f / (f + i) * h + i / (f + i) * k
    return h, h


def sru(gate, x, c, cell):
    k, f, r = gate(0, x, bias=None), sigmoid(gate(1, x, bias=0)), sigmoid(gate(2, x, bias=1))
    c = f * c + (1 - f) * k
    return r * np.tanh(c) + (1 - r) * (x if cell.input_size == cell.hidden_size else gate(3, x, bias=None)), c


def qrnn(gate, x, c, cell):
    z, f, o = np.tanh(gate(0, x)), sigmoid(gate(1, x)), sigmoid(gate(2, x))
    c = f * c + (1 - f) * z
    return o * c, c


def rg_lru(gate, x, h, cell):
    r, i = sigmoid(gate(0, x)), sigmoid(gate(1, x))
    a = sigmoid(cell.decay.detach().numpy()) ** (8 * r)
    h = a * h + np.sqrt(1 - a**2) * i * (x if cell.input_size == cell.hidden_size else gate(2, x, bias=None))
    return h, h


def indrnn(gate, x, h, cell):
    h = np.maximum(gate(0, x) + cell.weight_hh.detach().numpy() * h, 0)
    return h, h


EQUATIONS = [
    (MinGRUCell, F, min_gru),
    (MinLSTMCell, F, min_lstm),
    (SRUCell, F, sru),
    (SRUCell, H, sru),
    (QRNNCell, F, qrnn),
    (RGLRUCell, F, rg_lru),
    (RGLRUCell, H, rg_lru),
    (IndRNNCell, F, indrnn),
]


@pytest.mark.parametrize(("make", "features", "equation"), EQUATIONS)
def test_equations_by_hand(make, features, equation):
    torch.manual_seed(0)
    cell = make(features, H).double()
    weight, biases = cell.weight_ih.detach().numpy().reshape(-1, H, cell.weight_ih.shape[1]), cell.bias_ih.detach().numpy().reshape(-1, H)

    def gate(number, x, *, bias="same"):
        place = number if bias == "same" else bias
        return weight[number] @ x + (0 if place is None else biases[place])

    x = torch.randn(6, features, dtype=torch.float64)
    state, outputs, before = np.zeros(H), [], np.zeros(features)
    for step in x.numpy():
        output, state = equation(gate, np.concatenate([before, step]) if make is QRNNCell else step, state, cell)
        outputs.append(output)
        before = step
    mine, last = cell(x[None])
    torch.testing.assert_close(mine[0], torch.from_numpy(np.stack(outputs)), rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(last[0][0], torch.from_numpy(state), rtol=EXACT, atol=EXACT)


SIZES = {
    "min_gru": 2 * H * (F + 1),
    "min_lstm": 3 * H * (F + 1),
    "sru": 3 * H * F + 2 * H + H * F,
    "qrnn": 3 * H * (2 * F + 1),
    "qrnn, one step": 3 * H * (F + 1),
    "rg_lru": 2 * H * (F + 1) + H + H * F,
    "indrnn": H * (F + 2),
    "indrnn, tanh": H * (F + 2),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_as_many_as_documented(name):
    assert sum(parameter.numel() for parameter in catalogue.SCAN_CELLS[name](F, H).parameters()) == SIZES[name]
    square = sum(parameter.numel() for parameter in catalogue.SCAN_CELLS[name](H, H).parameters())
    if name in {"sru", "rg_lru"}:
        assert square == {"sru": 3 * H * H + 2 * H, "rg_lru": 2 * H * (H + 1) + H}[name]


def test_states_by_name():
    assert isinstance(MinGRUCell(F, H).initial_state(2), ScanState)
    assert isinstance(SRUCell(F, H).initial_state(2), MemoryState)
    assert isinstance(QRNNCell(F, H, window=1).initial_state(2), MemoryState)
    state = QRNNCell(F, H).initial_state(2)
    assert isinstance(state, QRNNState)
    assert state.c.shape == (2, H)
    assert state.x.shape == (2, F)


@cells
def test_thousands_of_steps_in_chunks_are_the_whole(make):
    torch.manual_seed(0)
    cell = make(3, 4)
    x = torch.randn(2, 4000, 3)
    whole, last = cell(x)
    state, outputs = None, []
    for chunk in x.split(950, 1):
        output, state = cell(chunk, state)
        outputs.append(output)
    # The same operations in the same order, but for the place of a step in a chunk of products.
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)
    assert whole.isfinite().all()


@cells
def test_gradients_reach_back_over_thousands_of_steps_and_stay_finite(make):
    torch.manual_seed(0)
    cell = make(3, 4)
    x = torch.randn(2, 4000, 3, requires_grad=True)
    output, _ = cell(x)
    output.square().mean().backward()
    for tensor in (x, *cell.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def test_extreme_gates_leave_gradients_finite():
    # Where nothing decays, the root of RG-LRU's input scale has no slope; where both of minLSTM's gates close, neither has a share.
    for make in (RGLRUCell, MinLSTMCell):
        for backend in ("auto", "reference"):
            cell = make(3, 4, backend=backend)
            with torch.no_grad():
                cell.weight_ih.zero_()
                cell.bias_ih.fill_(-200.0)
            x = torch.randn(2, 5, 3, requires_grad=True)
            output, _ = cell(x)
            output.sum().backward()
            assert output.isfinite().all()
            assert all(tensor.grad.isfinite().all() for tensor in (x, *cell.parameters()))


def test_published_starts():
    torch.manual_seed(0)
    decay = torch.sigmoid(RGLRUCell(3, 2000).decay.detach().double()) ** 8
    assert 0.9 <= decay.min() < 0.901
    assert 0.998 < decay.max() <= 0.9991
    # Uniform: the mean of 2,000 draws, within five standard deviations.
    assert abs(float(decay.mean()) - 0.9495) < 5 * 0.099 / math.sqrt(12 * 2000)
    cell = IndRNNCell(3, 2000, horizon=50)
    assert cell.recurrent_bound == 2 ** (1 / 50)
    assert 0 <= cell.weight_hh.min() < 0.01
    assert 1.0 < cell.weight_hh.max() <= cell.recurrent_bound
    sru = SRUCell(12, 500)
    assert 0.49 < sru.weight_ih.abs().max() <= 0.5
    assert not sru.bias_ih.any()
    for make in (MinGRUCell, MinLSTMCell, QRNNCell, RGLRUCell, IndRNNCell):
        weight = make(16, 500).weight_ih
        bound = 1 / math.sqrt(weight.shape[1])
        assert 0.95 * bound < weight.abs().max() <= bound


@cells
def test_orthogonal_start_is_glorots_for_inputs(make):
    cell = make(3, 8, initialization=Initialization("orthogonal"))
    bound = math.sqrt(6 / (cell.weight_ih.shape[1] + 8))
    assert 0.7 * bound < cell.weight_ih.abs().max() <= bound
    assert not cell.bias_ih.any()


@pytest.mark.parametrize(("make", "place"), [(MinLSTMCell, 0), (SRUCell, 0), (QRNNCell, 1)])
def test_forget_bias_is_that_of_the_forget_gate(make, place):
    cell = make(F, H, initialization=Initialization("orthogonal", forget_bias=1.5))
    biases = cell.bias_ih.view(-1, H)
    assert (biases[place] == 1.5).all()
    assert biases.sum() == 1.5 * H
    assert cell(torch.zeros(1, 1, F))[0].shape == (1, 1, H)


@pytest.mark.parametrize("make", [MinGRUCell, RGLRUCell, IndRNNCell])
def test_forget_bias_without_forget_gate_is_refused(make):
    with pytest.raises(SettingsError, match=f"{make.__name__}, which has no forget gate"):
        make(3, 4, initialization=Initialization(forget_bias=1.0))


@cells
def test_learned_state_is_where_sequences_and_resets_begin(make):
    cell = make(3, 4, initialization=Initialization(learn_state=True))
    name, *_ = cell.initial_state(1)._fields
    with torch.no_grad():
        getattr(cell, f"initial_{name}").fill_(0.5)
    x = torch.randn(2, 4, 3)
    output, _ = cell(x, reset=torch.tensor([[False, False, True, False]] * 2))
    begun, _ = cell(x[:, 2:], cell.initial_state(2))
    # Two steps of numbers of about one.
    torch.testing.assert_close(output[:, 2:], begun, rtol=0, atol=2.0**-23 * 32)
    assert (cell.initial_state(2)[0] == 0.5).all()


@pytest.mark.parametrize("steps", [0, 1, 6])
def test_the_qrnns_two_ways_to_the_step_before_are_one(steps, monkeypatch):
    """Values and gradients of both orders, second ones too."""
    torch.manual_seed(0)
    cell = QRNNCell(F, H, backend="reference").double()
    given = [torch.randn(2, *shape, dtype=torch.float64) for shape in ((steps, F), (H,), (F,))]

    def everything():
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        output, after = cell(leaves[0], QRNNState(*leaves[1:]))
        first = torch.autograd.grad((output.square().sum() + after.c.sum() + after.x.sum()), leaves, create_graph=True)
        return [output, *after, *first, *torch.autograd.grad(sum(each.square().sum() for each in first), leaves)]

    mine = everything()
    monkeypatch.setattr("recurra.cells.qrnn.is_traced", lambda: True)
    for a, b in zip(mine, everything(), strict=True):
        torch.testing.assert_close(a, b, rtol=EXACT, atol=EXACT)


def test_the_qrnn_reads_the_step_before_in_its_own_order():
    torch.manual_seed(0)
    cell = QRNNCell(3, 4).double()
    x, lengths = torch.randn(2, 6, 3, dtype=torch.float64), torch.tensor([6, 4])
    first = cell.initial_state(2)._replace(x=torch.randn(2, 3, dtype=torch.float64))
    output, last = cell(x, first, lengths=lengths, reverse=True)
    turned = torch.stack([x[0].flip(0), torch.cat([x[1, :4].flip(0), x[1, 4:]])])
    mirrored, state = cell(turned, first, lengths=lengths)
    torch.testing.assert_close(output[0], mirrored[0].flip(0), rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(output[1, :4], mirrored[1, :4].flip(0), rtol=EXACT, atol=EXACT)
    assert torch.equal(last.x, x[:, 0])
    assert torch.equal(state.x, last.x)


@cells
def test_cells_say_what_runs_them(make):
    assert make(3, 4, backend="reference").explain_backend().startswith("reference: asked for by name")
    expected = "cpu: the fastest" if UNAVAILABLE is None else "reference" if make is IndRNNCell else "aten"
    if not hasattr(make, "func"):
        assert make(3, 4).explain_backend().startswith(expected)
    with pytest.raises(SettingsError, match="Did you mean 'reference'"):
        make(3, 4, backend="refrence")


def test_a_backend_that_cannot_run_a_cell_is_refused_when_it_is_made():
    with pytest.raises(BackendUnavailable, match="indrnn_relu: its state is not linear"):
        IndRNNCell(3, 4, backend="aten")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QRNNCell(3, 4, window=3), "window must be 1 or 2, not 3"),
        (lambda: IndRNNCell(3, 4, nonlinearity="rulu"), "Did you mean 'relu'"),
        (lambda: IndRNNCell(3, 4, horizon=0), "horizon must be 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


@pytest.mark.parametrize("name", ["min_gru", "sru", "qrnn", "indrnn"])
def test_gradients_of_single_samples(name):
    torch.manual_seed(0)
    cell = catalogue.SCAN_CELLS[name](3, 4).double()
    weights, x = dict(cell.named_parameters()), torch.randn(5, 6, 3, dtype=torch.float64)

    def loss(weights, x):
        return functional_call(cell, weights, (x[None],))[0].square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))({key: value.detach() for key, value in weights.items()}, x)
    for number in range(5):
        alone = torch.autograd.grad(loss(weights, x[number]), list(weights.values()))
        for mine, gradient in zip(each.values(), alone, strict=True):
            torch.testing.assert_close(mine[number], gradient, rtol=EXACT * 64, atol=EXACT * 64)


@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
@cells
def test_one_graph_without_breaks_serves_every_batch_size_and_number_of_steps(make, monkeypatch):
    # The tests' own check of shapes is Python that cannot be traced.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    cell, graphs = make(3, 4), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(cell, fullgraph=True, dynamic=True, backend=graphs)
    for rows, steps in ((5, 6), (2, 9), (7, 30)):
        x, lengths = torch.randn(rows, steps, 3), torch.randint(0, steps + 1, (rows,))
        reset = torch.rand(rows, steps) < 0.2
        output, state = compiled(x, lengths=lengths, reset=reset)
        expected, last = cell(x, lengths=lengths, reset=reset)
        assert torch.equal(output, expected)
        assert torch.equal(state[0], last[0])
        mine, theirs = (torch.autograd.grad(each.sum(), list(cell.parameters())) for each in (output, expected))
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert graphs.frame_count == 1


@pytest.mark.parametrize("name", ["min_gru", "min_lstm", "sru", "qrnn", "rg_lru", "indrnn"])
def test_stacks_of_them_by_name(name):
    stack = Stack(name, 3, 4, layers=2, bidirectional=True)
    output, state = stack(torch.randn(2, 5, 3), lengths=torch.tensor([5, 2]))
    assert output.shape == (2, 5, 8)
    assert not output[1, 2:].any()
    assert len(state) == 4
