"""Stacks stepped through streams: compiled or as they are, equal to the whole sequence; what is refused and what is told."""

import numpy as np
import pytest
import torch

import catalogue
from recurra.cells import GRUState, Initialization, LSTMCell, LSTMState
from recurra.cells.state import select
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import compiled
from recurra.kernels.stepper import STEPPED
from recurra.layers import LSTM, Embedding, Regularization, Stack
from recurra.layers.stepper import Stepper

needs_kernels = pytest.mark.skipif(compiled.UNAVAILABLE is not None, reason=f"compiled kernels: {compiled.UNAVAILABLE}")
# Sums of up to 2**5 terms in another order, over 2**4 steps and three layers.
EXACT = 2.0**-52 * 2.0**12
STACKS = {
    **{name: (lambda name=name: Stack(name, 6, 6, layers=2, residual=True)) for name in STEPPED},
    "everything": lambda: Stack(
        "lstm",
        5,
        9,
        layers=3,
        residual=True,
        layer_norm=True,
        regularization=Regularization(input=0.1, between=0.2, recurrent=0.1, weight=0.3, zoneout=0.15),
        initialization=Initialization("orthogonal", forget_bias=1.0, learn_state=True),
    ),
    "reference": lambda: Stack("gru", 5, 7, backend="reference"),
    "projected": lambda: Stack(catalogue.PROJECTED, 4, 6, layers=2),
    "slstm": lambda: Stack("slstm", 4, 8),
    "scan": lambda: Stack("min_lstm", 4, 8, layer_norm=True),
    "own cell": lambda: Stack(catalogue.LeakyCell, 4, 6, layers=2),
}


def make(name):
    torch.manual_seed(0)
    stack = STACKS[name]().double()
    with torch.no_grad():
        for parameter in stack.parameters():  # a learned start and a norm are other than they begin
            parameter.add_(torch.randn_like(parameter) / 10)
    return stack


@pytest.fixture(params=["compiled", "the stack itself"])
def way(request, monkeypatch):
    if request.param == "the stack itself":
        monkeypatch.setattr(compiled, "UNAVAILABLE", "no compiler")
    elif compiled.UNAVAILABLE:
        pytest.skip(f"compiled kernels: {compiled.UNAVAILABLE}")
    return request.param


@pytest.mark.parametrize("name", STACKS)
def test_steps_equal_the_whole_sequence(name, way):
    stack = make(name)
    x = torch.randn(3, 11, stack.input_size, dtype=torch.float64)
    with torch.no_grad():
        expected, last = stack.eval()(x)
    stack.train()  # a stepper steps what evaluation computes
    single, many = Stepper(stack, streams=3), Stepper(stack, streams=3)
    assert single.streams == 3
    output = torch.stack([single.step(x[:, t].contiguous()) for t in range(11)], 1)
    torch.testing.assert_close(output, expected, rtol=0, atol=EXACT)
    apart = many.step(x[:, 0])  # a view of the sequences: rows that lie apart
    together = torch.cat([apart[:, None], many.run(x[:, 1:4]), many.run(x[:, 4:])], 1)
    torch.testing.assert_close(together, output, rtol=0, atol=0)
    torch.testing.assert_close(single.snapshot(), last, rtol=0, atol=EXACT)
    assert [type(part) for part in single.snapshot()] == [type(part) for part in last]
    many.restore(last)  # what the stack returned
    again = many.run(x)
    assert not torch.equal(again, output)
    torch.testing.assert_close(again, stack.eval()(x, last)[0].detach(), rtol=0, atol=EXACT)


def test_float32_is_as_exact_as_the_stack():
    stack = make("everything")
    x = torch.randn(2, 30, 5, dtype=torch.float64)
    with torch.no_grad():
        exact = stack.eval()(x)[0]
        rounded = Stack.forward(stack.float(), x.float())[0]
    off = (Stepper(stack, streams=2).run(x.float()) - exact).abs().max()
    # The norms' sums are in another order than torch's; the rest is the same.
    assert off <= 4 * (rounded - exact).abs().max()


ROUNDING = 2.0**-52 * 2**6
"""torch may sum another number of rows in another order: sums of 16 numbers under 1, over 8 steps of units under 1, two layers."""


def test_states_are_copied_forked_and_reset(way):
    stack = make("everything").eval()
    x = torch.randn(3, 8, 5, dtype=torch.float64)
    stepper = Stepper(stack, streams=3)
    begin = stepper.snapshot()
    assert all(isinstance(part, LSTMState) for part in begin)
    torch.testing.assert_close(begin, tuple(stack.initial_state(3)), rtol=0, atol=0)
    stepper.run(x)
    snapshot = stepper.snapshot()
    expected = stepper.run(x)
    forked = Stepper(stack, streams=3)
    forked.restore(snapshot)
    forked = forked.fork([2, 2, 0, 1])
    assert forked.streams == 4
    assert forked.explain_backend() == stepper.explain_backend()
    torch.testing.assert_close(forked.run(x[[2, 2, 0, 1]]), expected[[2, 2, 0, 1]], rtol=0, atol=ROUNDING)
    stepper.restore(select(snapshot, torch.tensor([1, 0, 0])))
    torch.testing.assert_close(stepper.run(x[[1, 0, 0]]), expected[[1, 0, 0]], rtol=0, atol=ROUNDING)
    one = torch.tensor([1])
    stepper.restore(select(snapshot, one), rows=[2])
    torch.testing.assert_close(select(stepper.snapshot(), torch.tensor([2])), select(snapshot, one), rtol=0, atol=0)
    stepper.reset([1])
    torch.testing.assert_close(select(stepper.snapshot(), one), select(begin, one), rtol=0, atol=0)
    assert not torch.equal(stepper.snapshot()[0].h[0], begin[0].h[0])
    stepper.reset()
    torch.testing.assert_close(stepper.snapshot(), begin, rtol=0, atol=0)
    with pytest.raises(IndexError, match="no stream 3: they are 0 to 2"):
        stepper.reset([3])
    with pytest.raises(IndexError, match="no stream 3"):
        stepper.fork([3])
    with pytest.raises(ValueError, match="at least one stream"):
        stepper.fork([])
    with pytest.raises(ValueError, match="The state has tensors of the shapes"):
        stepper.restore(forked.snapshot())


def test_later_changes_of_the_stack_do_not_reach_it(way):
    stack, table = make("gru"), torch.randn(10, 6, dtype=torch.float64)
    tokens = torch.tensor([[1, 5, 9]])
    stepper, twin = Stepper(stack, embedding=table), Stepper(stack, embedding=table)
    expected = twin.run(tokens)
    with torch.no_grad():
        for parameter in (*stack.parameters(), table):
            parameter.zero_()
    assert torch.equal(stepper.run(tokens), expected)


@pytest.mark.parametrize("form", ["module", "tensor"])
def test_tokens_are_embedded(form, way):
    stack = make("lstm").eval()
    embedding = Embedding(10, 6).double()
    tokens = torch.tensor([[1, 5, 0, 9], [2, 2, 3, 4]])
    with torch.no_grad():
        expected = stack(embedding(tokens))[0]
    stepper = Stepper(stack, streams=2, embedding=embedding if form == "module" else embedding.weight)
    torch.testing.assert_close(stepper.step(tokens[:, 0]), expected[:, 0], rtol=0, atol=EXACT)
    output = stepper.run(tokens[:, 1:].numpy())
    assert isinstance(output, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(output), expected[:, 1:], rtol=0, atol=EXACT)
    with pytest.raises(IndexError, match="its rows are 0 to 9"):
        stepper.step(torch.tensor([0, 10]))
    with pytest.raises(ValueError, match="whole numbers"):
        stepper.step(torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"of shape \(streams, steps\) = \(2, T\), not \(2,\)"):
        stepper.run(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"embedding must be of shape \(V, 6\), not \(10, 5\)"):
        Stepper(stack, embedding=torch.zeros(10, 5))
    with pytest.raises(ValueError, match="at least one stream, not 0"):
        Stepper(stack, streams=0)
    assert ("looked up" in stepper.explain_backend()) == (way == "compiled")


def test_arrays_in_arrays_out(way):
    stack = make("gru")
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    expected = Stepper(stack, streams=2).run(x)
    stepper = Stepper(stack, streams=2)
    outputs = [stepper.step(x[:, t].numpy()) for t in range(4)]
    assert all(isinstance(output, np.ndarray) for output in outputs)
    assert np.array_equal(np.stack(outputs, 1), expected[:, :4].numpy())
    assert torch.equal(stepper.run(x[:, 4:]), expected[:, 4:])
    assert stepper.run(x[:, :0]).shape == (2, 0, 6)
    assert np.array_equal(Stepper(stack, streams=2).step(x[:, 0].tolist()), outputs[0])
    with pytest.raises(ValueError, match=r"must be of shape \(streams, steps, features\) = \(2, T, 6\), not \(1, 5, 6\)"):
        stepper.run(x[:1])
    with pytest.raises(ValueError, match=r"must be of shape \(streams, features\) = \(2, 6\), not \(2, 3\)"):
        stepper.step(x[:, 0, :3])


@needs_kernels
def test_it_says_what_steps():
    assert "compiled steps over packed weights" in Stepper(make("gru")).explain_backend()
    for name, reason in {
        "own cell": "the stack itself, called for every step: LeakyCell has no compiled steps, only the cells elman, elman_relu, lstm, gru",
        "reference": "it names the backend 'reference'",
    }.items():
        assert reason in Stepper(make(name)).explain_backend()
    small = Stepper(Stack("gru", 3, 4).bfloat16())
    assert "the weights are torch.bfloat16 on cpu" in small.explain_backend()
    assert small.step(torch.ones(1, 3)).dtype == torch.bfloat16
    assert small.step(np.ones((1, 3))).dtype == np.float32
    with pytest.raises(ValueError, match="for compiled steps only"):
        small.step(torch.ones(1, 3), out=torch.empty(1, 4))
    assert "packed weights in 16 bits" in Stepper(Stack("gru", 3, 4), half_weights=True).explain_backend()


@needs_kernels
def test_half_weights_step_a_rounded_stack():
    stack = make("everything").float()
    x = torch.randn(2, 30, 5)
    steps = Stepper(stack, streams=2, half_weights=True)
    with torch.no_grad():
        for cell in stack.cells:
            for weight in (cell.weight_ih, cell.weight_hh):
                weight.copy_(weight.half())
    assert torch.equal(steps.run(x), Stepper(stack, streams=2).run(x))


def test_half_weights_need_compiled_steps(monkeypatch):
    with pytest.raises(BackendUnavailable, match=r"16 bits are read by compiled steps alone: LeakyCell has no compiled steps"):
        Stepper(Stack(catalogue.LeakyCell, 4, 6), half_weights=True)
    monkeypatch.setattr(compiled, "UNAVAILABLE", "no compiler")
    with pytest.raises(BackendUnavailable, match="16 bits are read by compiled steps alone: no compiler"):
        Stepper(Stack("gru", 4, 6), half_weights=True)


@needs_kernels
def test_a_named_backend_steps_or_says_why():
    stack = Stack("gru", 3, 4, backend="cpu")
    assert isinstance(Stepper(stack).snapshot()[0], GRUState)
    with pytest.raises(BackendUnavailable, match=r"no compiled steps of this stack: .*bfloat16"):
        Stepper(stack.bfloat16())


def test_a_stack_that_reads_both_ways_is_refused():
    with pytest.raises(SettingsError, match="cannot be stepped: its backward half begins at the end"):
        Stepper(Stack("gru", 3, 4, bidirectional=True))


@pytest.mark.usefixtures("unchecked")
def test_streams_are_named_by_numbers_and_a_state_by_its_layers(way):
    """A mask of streams taken for numbers would name the streams 0 and 1, and torch's pair of states layers for fields."""
    stack = Stack("lstm", 3, 4, layers=2)
    stepper = Stepper(stack, streams=3)
    stepper.step(torch.randn(3, 3))
    before = stepper.snapshot()
    mask = torch.tensor([False, False, True])
    for wrong in (mask, mask.tolist(), mask.numpy(), [0.5], 0):
        for call in (stepper.reset, stepper.fork, lambda rows: stepper.restore(before, rows)):
            with pytest.raises(TypeError, match=r"by a list of their numbers, such as \[0\]"):
                call(wrong)
    with pytest.raises(TypeError, match="one NamedTuple a layer"):
        stepper.restore((torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)))
    assert all(
        torch.equal(one, other)
        for part, more in zip(stepper.snapshot(), before, strict=True)
        for one, other in zip(part, more, strict=True)
    )
    for rows in (mask.nonzero()[:, 0], np.array([2]), [np.int32(2)]):
        assert torch.equal(stepper.fork(rows).snapshot()[1].c, before[1].c[2:])
        stepper.reset(row for row in rows)
        assert not stepper.snapshot()[1].c[2].any()
        stepper.restore(select(before, torch.tensor([2])), rows)


def test_numbers_that_are_negative_by_a_mark_alone_are_read_as_they_are(way):
    stack = Stack("gru", 3, 4)
    x = torch.randn(2, 5, 3, dtype=torch.complex64).conj().imag
    marked = torch._neg_view(torch.randn(2, 3))
    assert x.is_neg()
    assert torch.equal(Stepper(stack, streams=2).run(x), Stepper(stack, streams=2).run(x.resolve_neg()))
    assert torch.equal(Stepper(stack, streams=2).step(marked), Stepper(stack, streams=2).step(marked.resolve_neg()))


@pytest.mark.usefixtures("unchecked")
def test_an_embedding_of_torch_is_taken_and_what_is_no_stack_is_not(way):
    stack, embedding = Stack("gru", 3, 4), torch.nn.Embedding(10, 3)
    stepper = Stepper(stack, embedding=embedding)
    torch.testing.assert_close(
        stepper.step(torch.tensor([7])), stack(embedding(torch.tensor([[7]])))[0][:, 0], rtol=0, atol=2.0**-23 * 2**4
    )
    with pytest.raises(SettingsError, match="max_norm changes vectors"):
        Stepper(stack, embedding=torch.nn.Embedding(10, 3, max_norm=1.0))
    with pytest.raises(TypeError, match="not a LSTM: `load_torch_weights`"):
        Stepper(LSTM(3, 4))


class Doubled(LSTMCell):
    """Somebody's change of a built-in cell."""

    def forward(self, x, state=None, **options):
        output, state = super().forward(x, state, **options)
        return 2 * output, state


def hooked(features, units):
    cell = LSTMCell(features, units)
    cell.register_forward_hook(lambda cell, given, found: (2 * found[0], found[1]))
    return cell


@pytest.mark.parametrize("cell", [Doubled, hooked])
def test_what_stands_in_a_built_in_cells_place_is_called(cell):
    torch.manual_seed(0)
    stack, x = Stack(cell, 3, 4), torch.randn(2, 5, 3)
    stepper = Stepper(stack, streams=2)
    assert "of its own, which compiled steps would not call" in stepper.explain_backend() or compiled.UNAVAILABLE
    torch.testing.assert_close(stepper.run(x), stack(x)[0], rtol=0, atol=2.0**-23 * 2**4)  # sums of 2**3 terms in another order
    both, plain = Stack(cell, 3, 4, bidirectional=True), Stack(LSTMCell, 3, 4, bidirectional=True)
    plain.load_state_dict(both.state_dict())
    assert torch.equal(both(x)[0], 2 * plain(x)[0])
