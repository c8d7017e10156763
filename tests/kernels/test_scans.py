"""Linear and elementwise scans: every backend against loops in NumPy, and the compiled kernels in every way torch calls them."""

import inspect
import math

import numpy as np
import pytest
import torch
from compiled_calls import scattered
from torch.func import grad, jacrev, vmap

from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import UNITS, Resets, ScanWeights, elementwise_scan_recurrence, linear_scan_recurrence
from recurra.kernels.backend import available_backends
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.elementwise_scan import custom_op as elementwise_op
from recurra.kernels.elementwise_scan.compiled import run_forward as run_elementwise
from recurra.kernels.linear_scan import custom_op as linear_op
from recurra.kernels.linear_scan import operator
from recurra.kernels.linear_scan.operator import choose_scan

# Sums of up to 2**5 terms in another order, over 2**4 steps, grown by up to 2**8 on the way back.
EXACT = 2.0**-52 * 2.0**17
LENGTHS = torch.tensor([3, 0, 7, 1, 7])
BACKENDS = [name for name in available_backends() if name != "compile"]  # a compiled loop is one over a user's step
LONG = {"rows": 2, "steps": 4000}
compiled = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
units = pytest.mark.parametrize("unit", UNITS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def positive(x):
    return np.where(x >= 0, x + 0.5, sigmoid(x))


def min_lstm(f, i, k, c):
    f, i = sigmoid(f), sigmoid(i)
    return f / (f + i) * c + i / (f + i) * positive(k)


def rg_lru(r, i, x, c, log_a):
    a = np.exp(log_a) ** sigmoid(r)
    return a * c + np.sqrt(1 - a**2) * sigmoid(i) * x


# (gates, state, parameter) -> state, and (gates, state) -> output.
STEPS = {
    "min_gru": lambda g, c, p: (1 - sigmoid(g[0])) * c + sigmoid(g[0]) * positive(g[1]),
    "min_lstm": lambda g, c, p: min_lstm(*g, c),
    "sru": lambda g, c, p: sigmoid(g[1]) * c + (1 - sigmoid(g[1])) * g[0],
    "qrnn": lambda g, c, p: sigmoid(g[1]) * c + (1 - sigmoid(g[1])) * np.tanh(g[0]),
    "rg_lru": lambda g, c, p: rg_lru(*g, c, p),
    "indrnn_tanh": lambda g, c, p: np.tanh(g[0] + p * c),
    "indrnn_relu": lambda g, c, p: np.maximum(g[0] + p * c, 0),
}
OUTPUTS = {
    "sru": lambda g, c: sigmoid(g[2]) * np.tanh(c) + (1 - sigmoid(g[2])) * g[3],
    "qrnn": lambda g, c: sigmoid(g[2]) * c,
}


def numpy_loop(step, state, steps, *, lengths=None, where=None, begin=None, reverse=False):
    """Outputs and last states of `step(row, t, state) -> (output, state)`, row by row."""
    outputs = np.zeros((len(state), steps, state.shape[1]))
    last = state.copy()
    for row in range(len(state)):
        times = range(steps if lengths is None else int(lengths[row]))
        for t in reversed(times) if reverse else times:
            before = begin[row] if where is not None and where[row, t] else last[row]
            outputs[row, t], last[row] = step(row, t, before)
    return outputs, last


class Linear:
    """Random factors (zeros and negative ones among them), terms and states."""

    def __init__(self, *, rows=5, steps=7, hidden=4, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        self.a, self.b = draw(rows, steps, hidden), draw(rows, steps, hidden)
        self.a[:, 1::3] = 0.0
        self.state, self.begin = draw(rows, hidden), draw(rows, hidden)
        self.where = torch.rand(rows, steps, generator=generator) < 0.3

    def tensors(self):
        return [self.a, self.b, self.state, self.begin]

    def call(self, a, b, state, begin, *, reset=False, **options):
        return linear_scan_recurrence(a, b, state, resets=Resets(self.where, begin) if reset else None, **options)

    def numpy(self, *, lengths=None, reset=False, reverse=False):
        a, b = self.a.numpy(), self.b.numpy()

        def step(row, t, h):
            h = a[row, t] * h + b[row, t]
            return h, h

        where = self.where.numpy() if reset else None
        return numpy_loop(step, self.state.numpy(), a.shape[1], lengths=lengths, where=where, begin=self.begin.numpy(), reverse=reverse)


class Elementwise:
    """Random input, weights and states of one unit; where it may, its last gate is the input itself."""

    def __init__(self, unit, *, rows=5, steps=7, features=3, hidden=4, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        self.unit, self.kind = unit, UNITS[unit]
        self.reads_input = self.kind.reads_input and features == hidden
        wide = (self.kind.gates - self.reads_input) * hidden
        self.x = draw(rows, steps, features)
        self.w_ih, self.b_ih = draw(wide, features) / 2, draw(wide) / 2
        self.parameters = [-draw(1, hidden).abs()] if self.kind.parameters else []
        self.state, self.begin = draw(rows, hidden), draw(rows, hidden)
        self.where = torch.rand(rows, steps, generator=generator) < 0.3

    def tensors(self):
        return [self.x, self.w_ih, self.b_ih, self.state, self.begin, *self.parameters]

    def call(self, x, w_ih, b_ih, state, begin, *parameters, reset=False, **options):
        resets = Resets(self.where, begin) if reset else None
        return elementwise_scan_recurrence(x, state, ScanWeights(w_ih, b_ih, *parameters), unit=self.unit, resets=resets, **options)

    def numpy(self, *, lengths=None, reset=False, reverse=False):
        x, (w, b) = self.x.numpy(), (self.w_ih.numpy(), self.b_ih.numpy())
        hidden = self.state.shape[1]
        parameter = self.parameters[0][0].numpy() if self.parameters else None

        def step(row, t, c):
            gates = list((w @ x[row, t] + b).reshape(-1, hidden)) + [x[row, t]] * self.reads_input
            c = STEPS[self.unit](gates, c, parameter)
            return OUTPUTS.get(self.unit, lambda gates, c: c)(gates, c), c

        where = self.where.numpy() if reset else None
        return numpy_loop(step, self.state.numpy(), x.shape[1], lengths=lengths, where=where, begin=self.begin.numpy(), reverse=reverse)


CASES = {"linear": Linear, **{name: lambda name=name, **sizes: Elementwise(name, **sizes) for name in UNITS}}
SQUARE = {
    name: lambda name=name, hidden=4, **sizes: Elementwise(name, features=hidden, hidden=hidden, **sizes)
    for name, unit in UNITS.items()
    if unit.reads_input
}
EVERY = {**CASES, **{f"{name}, input as a gate": make for name, make in SQUARE.items()}}
cases = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def backends_of(case):
    return [name for name in BACKENDS if not (name == "aten" and isinstance(case, Elementwise) and case.kind.coefficients is None)]


def with_gradients(case, tensors=None, **options):
    """Outputs, last state, and the gradients of a random sum of them by every tensor."""
    tensors = [tensor.clone().requires_grad_() for tensor in (tensors or case.tensors())]
    output, last = case.call(*tensors, **options)
    generator = torch.Generator().manual_seed(1)
    total = sum((t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum() for t in (output, last))
    gradients = torch.autograd.grad(total, tensors, allow_unused=True)
    return [output.detach(), last.detach(), *(torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients, strict=True))]


def assert_same(mine, other, tolerance=EXACT):
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@cases
@directions
@pytest.mark.parametrize("reset", [False, True], ids=["plain", "reset"])
@pytest.mark.parametrize("lengths", [None, LENGTHS, torch.zeros(5, dtype=torch.int32)], ids=["full", "varied", "empty"])
def test_values_are_those_of_a_loop_in_numpy(make, reverse, reset, lengths):
    case = make()
    expected = [torch.from_numpy(array) for array in case.numpy(lengths=lengths, reset=reset, reverse=reverse)]
    for backend in backends_of(case):
        assert_same(case.call(*case.tensors(), reset=reset, lengths=lengths, reverse=reverse, backend=backend), expected)


@cases
@directions
@pytest.mark.parametrize("varied", [False, True], ids=["plain", "lengths and resets"])
@pytest.mark.parametrize("hidden", [1, 7, 63, 100])
def test_gradients_are_those_of_the_reference(make, reverse, varied, hidden):
    case = make(hidden=hidden)
    options = {"reset": varied, "lengths": LENGTHS if varied else None, "reverse": reverse}
    expected = with_gradients(case, **options, backend="reference")
    for backend in backends_of(case):
        assert_same(with_gradients(case, **options, backend=backend), expected)


@cases
@directions
def test_padding_means_nothing(make, reverse):
    case = make()
    padding = (torch.arange(7) >= LENGTHS[:, None])[..., None]
    poisoned = [t.masked_fill(padding, math.nan) if t.ndim == 3 and t.shape[1] == 7 else t for t in case.tensors()]
    for backend in backends_of(case):
        clean = with_gradients(case, lengths=LENGTHS, reverse=reverse, backend=backend)
        output, last, *gradients = with_gradients(case, poisoned, lengths=LENGTHS, reverse=reverse, backend=backend)
        assert torch.equal(output, clean[0])
        assert torch.equal(last, clean[1])
        assert all(torch.equal(a, b) for a, b in zip(gradients, clean[2:], strict=True))
        assert not output.masked_select(padding).any()
        assert torch.equal(last[1], case.state[1])


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "aten"])
def test_no_value_crosses_a_reset_not_even_infinity(backend):
    case = Linear()
    case.b[0, 2] = math.inf
    case.where = torch.zeros(5, 7, dtype=torch.bool)
    case.where[0, 4] = True
    output, last = case.call(*case.tensors(), reset=True, backend=backend)
    assert output[0, 2:4].isinf().any()
    assert output[0, 4:].isfinite().all()
    assert last.isfinite().all()


@cases
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 10, 16, 17, 100])
def test_chunks_of_every_length(make, steps):
    case = make(steps=steps, rows=2)
    assert_same(case.call(*case.tensors(), backend="auto"), case.call(*case.tensors(), backend="reference"))
    if "aten" in backends_of(case):
        assert_same(case.call(*case.tensors(), backend="aten"), case.call(*case.tensors(), backend="reference"))


@compiled
@cases
def test_float32_over_thousands_of_steps_is_as_exact_as_plain_torch(make):
    # Factors under one: what comes out stays small, and rounding errors fade as the states do.
    case = make(dtype=torch.float32, **LONG)
    plain = "aten" if "aten" in backends_of(case) else "reference"
    if make is Linear:
        case.a = torch.tanh(case.a)
    elif case.kind.coefficients is None:
        case.x, case.parameters = case.x[:, :500], [case.parameters[0].clamp(-0.99, 0.99)]
    options = {"lengths": torch.tensor([case.tensors()[0].shape[1], 321])}
    exact = with_gradients(case, [tensor.double() for tensor in case.tensors()], **options, backend=plain)
    usual, fast = with_gradients(case, **options, backend=plain), with_gradients(case, **options, backend="cpu")
    for true, torchs, mine in zip(exact, usual, fast, strict=True):
        assert mine.isfinite().all()
        # Plain torch's own rounding error, times four for another order of the same sums and other exponentials.
        bound = 4 * (torchs.double() - true).abs().max() + 4 * torch.finfo(torch.float32).eps * max(1.0, float(true.abs().max()))
        assert (mine.double() - true).abs().max() <= bound


@compiled
@cases
def test_backward_keeps_states_and_gates(make):
    """And of a unit whose way back reads no gates the states alone."""
    case = make(rows=3, steps=40, hidden=16)
    numbers = 16 if isinstance(case, Linear) or not UNITS[case.unit].keeps_gates else 16 + case.w_ih.shape[0]
    tensors = [tensor.requires_grad_() for tensor in case.tensors()]
    known, kept = {tensor.untyped_storage().data_ptr() for tensor in tensors}, {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = case.call(*tensors, backend="cpu")
    assert result[0].shape == (3, 40, 16)
    assert sum(storage.nbytes() for address, storage in kept.items() if address not in known) == 3 * 40 * numbers * 8


@compiled
@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_bits_do_not_depend_on_the_threads(make, dtype):
    threads = torch.get_num_threads()
    try:
        for sizes in ({"rows": 1, "steps": 300, "hidden": 130}, {"rows": 5, "steps": 400, "hidden": 70}):
            case = make(**sizes, dtype=dtype)
            options = {"lengths": torch.arange(sizes["rows"]) * 57 + 77, "reset": True, "reverse": True, "backend": "cpu"}
            case.where = case.where & (torch.rand(case.where.shape, generator=torch.Generator().manual_seed(3)) < 0.1)
            torch.set_num_threads(1)
            alone = with_gradients(case, **options)
            assert all(torch.equal(a, b) for a, b in zip(alone, with_gradients(case, **options), strict=True))
            for number in (2, 3):
                torch.set_num_threads(number)
                assert all(torch.equal(a, b) for a, b in zip(alone, with_gradients(case, **options), strict=True))
    finally:
        torch.set_num_threads(threads)


@compiled
@cases
def test_every_instruction_set_computes_the_same(make):
    from recurra.kernels import _cpu

    chosen, case = _cpu.instruction_set(), make(hidden=21)
    expected = with_gradients(case, reset=True, backend="reference")
    try:
        for name in _cpu.instruction_sets():
            _cpu.use_instruction_set(name)
            assert_same(with_gradients(case, reset=True, backend="cpu"), expected)
    finally:
        _cpu.use_instruction_set(chosen)


@compiled
@cases
def test_tensors_may_lie_anywhere(make):
    case = make()
    scattered = [t.transpose(0, -1).contiguous().transpose(0, -1) if t.ndim > 1 else t for t in case.tensors()]
    scattered[0] = torch.cat([case.tensors()[0]] * 2, 2)[:, :, : case.tensors()[0].shape[2]]
    assert not scattered[0].is_contiguous()
    for backend in ("cpu", "reference"):
        assert_same(with_gradients(case, scattered, backend=backend), with_gradients(case, backend="reference"))
    case.tensors()[0][:] = case.tensors()[0][:, :1]
    spread = [case.tensors()[0][:, :1].expand(-1, 7, -1), *case.tensors()[1:]]
    assert_same(case.call(*spread, backend="cpu"), case.call(*case.tensors(), backend="reference"))


@compiled
@cases
@directions
def test_derivatives_of_both_orders(make, reverse):
    case = make(rows=3, steps=3, hidden=2)
    lengths = torch.tensor([3, 0, 2])
    inputs = [tensor.requires_grad_() for tensor in case.tensors()]

    def function(*tensors):
        return case.call(*tensors, reset=True, lengths=lengths, reverse=reverse, backend="cpu")

    # In fast mode one number stands for all derivatives together.
    assert torch.autograd.gradcheck(function, inputs, fast_mode=reverse)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@cases
def test_derivatives_without_compiled_kernels(make):
    case = make(rows=2, steps=5, hidden=2)
    inputs = [tensor.requires_grad_() for tensor in case.tensors()]
    for backend in backends_of(case):
        if backend != "cpu":
            function = lambda *tensors, backend=backend: case.call(*tensors, reset=True, backend=backend)  # noqa: E731
            assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
            assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@compiled
@pytest.mark.usefixtures("unchecked")
def test_linear_operators_keep_torchs_rules():
    case = Linear(rows=3)
    a, b, state, begin = (tensor.requires_grad_() for tensor in case.tensors())
    lengths = torch.tensor([7, 0, 3])
    forward, backward = torch.ops.recurra.linear_scan.default, torch.ops.recurra.linear_scan_backward.default
    torch.library.opcheck(forward, (a, state, begin, lengths, case.where, True, b))
    torch.library.opcheck(forward, (a, state, None, None, None, False, b.detach()[:, :1].expand_as(b)))
    torch.library.opcheck(forward, (a.detach().transpose(0, 1).contiguous().transpose(0, 1), state, None, lengths, None, False, b))
    output, last = (t.detach() for t in forward(a, state, begin, lengths, case.where, True, b))
    torch.library.opcheck(backward, (a, state, begin, lengths, case.where, True, output, b, last))
    apart = [scattered(tensor.detach()).requires_grad_() for tensor in (a, state, begin)]
    rest = [scattered(tensor) for tensor in (lengths, case.where)]
    torch.library.opcheck(forward, (*apart, *rest, True, scattered(b.detach())))
    # Gradients as they come from a sum, and from elsewhere.
    upstream = torch.ones((), dtype=output.dtype).expand_as(output), scattered(last)
    torch.library.opcheck(backward, (*apart, *rest, True, scattered(output), *upstream))


@compiled
@units
@pytest.mark.usefixtures("unchecked", "unwritten_memory_is_nan")
def test_elementwise_operators_keep_torchs_rules(unit):
    for case in (Elementwise(unit, rows=3), *([Elementwise(unit, rows=3, features=4)] if UNITS[unit].reads_input else [])):
        x, w_ih, b_ih, state, begin, *parameters = (tensor.requires_grad_() for tensor in case.tensors())
        forward, backward = torch.ops.recurra.elementwise_scan.default, torch.ops.recurra.elementwise_scan_backward.default
        given = (unit, x, w_ih, b_ih, parameters[0] if parameters else None, state, begin, torch.tensor([7, 0, 3]), case.where, True)
        torch.library.opcheck(forward, (*given, True))
        torch.library.opcheck(forward, (*given[:6], None, None, None, False, False))
        output, states, last, gates = (t.detach() for t in forward(*given, True))
        states = states if states.numel() else output
        given = [t.detach() if isinstance(t, torch.Tensor) else t for t in given]
        torch.library.opcheck(backward, (*given, states, gates, torch.ones_like(output), torch.ones_like(last), True))
        torch.library.opcheck(
            backward, (*given[:6], None, None, None, False, states, gates, torch.ones_like(output), torch.ones_like(last), False)
        )
        apart = [scattered(t).requires_grad_(t.is_floating_point()) if isinstance(t, torch.Tensor) else t for t in given]
        torch.library.opcheck(forward, (*apart, True))
        upstream = torch.ones((), dtype=output.dtype).expand_as(output), scattered(last)
        torch.library.opcheck(backward, (*apart, scattered(states), scattered(gates), *upstream, True))


@compiled
@cases
def test_vmap_and_gradients_of_single_samples(make):
    case, many = make(rows=2, steps=5), [make(rows=2, steps=5, seed=seed).tensors()[0] for seed in range(3)]
    first, *rest = case.tensors()
    stacked = torch.stack(many)

    def loss(first, *rest, backend):
        output, last = case.call(first, *rest, reset=True, backend=backend)
        return output.square().sum() + last.sum()

    together = vmap(lambda x: case.call(x, *rest, reset=True, backend="cpu")[0])(stacked)
    assert_same(together, [case.call(x, *rest, reset=True, backend="reference")[0] for x in many])
    which = tuple(range(1 + len(rest)))
    each = vmap(lambda x: grad(lambda *t: loss(*t, backend="cpu"), which)(x, *rest))(stacked)
    for number, x in enumerate(many):
        tensors = [t.clone().requires_grad_() for t in (x, *rest)]
        assert_same([gradient[number] for gradient in each], torch.autograd.grad(loss(*tensors, backend="reference"), tensors))
    second = jacrev(jacrev(lambda t: loss(t, *rest, backend="cpu")))(first)
    assert_same([second], [jacrev(jacrev(lambda t: loss(t, *rest, backend="reference")))(first)])


@compiled
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@cases
def test_half_precision_is_computed_in_float32(make, precision):
    case = make()
    half = [tensor.to(precision) for tensor in case.tensors()]
    for mine, exact in zip(case.call(*half, backend="cpu"), case.call(*(t.float() for t in half), backend="reference"), strict=True):
        assert mine.dtype == precision
        # One rounding of what comes out, and those of float32 on the way.
        torch.testing.assert_close(mine.float(), exact, rtol=torch.finfo(precision).eps, atol=2.0**-20)


@compiled
@units
def test_autocast_runs(unit):
    case = Elementwise(unit, dtype=torch.float32)
    tensors = [t.clone().requires_grad_() for t in case.tensors()]
    with torch.autocast("cpu", torch.bfloat16):
        x = tensors[0].to(torch.bfloat16)
        output, _ = case.call(x, *tensors[1:], backend="cpu")
    output.sum().backward()
    assert all(t.grad.isfinite().all() for t in tensors[:3])
    # The input is rounded to 8 bits, gates grow an error by their weights, and states sum up a few.
    assert (output - case.call(*case.tensors(), backend="reference")[0]).abs().max() <= 2.0**-8 * 2**5


@cases
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_empty_input(make, shape):
    case = make(rows=shape[0], steps=shape[1])
    for backend in backends_of(case):
        output, last, *gradients = with_gradients(case, lengths=torch.zeros(shape[0], dtype=torch.long), backend=backend)
        assert output.shape == (*shape, 4)
        assert torch.equal(last, case.state)
        assert [g.shape for g in gradients] == [t.shape for t in case.tensors()]


@compiled
def test_operators_are_right_about_nothing():
    nothing, state = torch.zeros(2, 0, 3), torch.ones(2, 3, requires_grad=True)
    output, last = linear_op.linear_scan(nothing, state, None, None, None, False, nothing)
    assert output.shape == (2, 0, 3)
    (gradient,) = torch.autograd.grad(last.sum(), state)
    assert torch.equal(gradient, torch.ones(2, 3))
    weight = torch.zeros(6, 3, requires_grad=True)
    _, _, last, _ = elementwise_op.elementwise_scan("min_gru", nothing, weight, torch.zeros(6), None, state, None, None, None, False, True)
    gradients = torch.autograd.grad(last.sum(), [state, weight])
    assert torch.equal(gradients[0], torch.ones(2, 3))
    assert not gradients[1].any()


@pytest.mark.parametrize(("features", "hidden"), [(0, 4), (3, 0)])
@units
def test_no_feature_and_no_unit_are_refused(unit, features, hidden):
    case = Elementwise(unit, features=features, hidden=hidden)
    for backend in backends_of(case):
        with pytest.raises(ValueError, match="at least one feature and one unit"):
            case.call(*case.tensors(), backend=backend)


@compiled
def test_nothing_is_read_on_trust():
    x, state, where = torch.zeros(2, 5, 3), torch.zeros(2, 3), torch.zeros(2, 5, dtype=torch.bool)
    good = elementwise_op.Arguments("rg_lru", x, torch.zeros(9, 3), torch.zeros(9), torch.zeros(1, 3), state, state, None, where, False)
    assert run_elementwise(good, saving=False)[0].shape == (2, 5, 3)
    for name, wrong, message in (
        ("b_ih", torch.zeros(8), r"b_ih must be torch.float32 of shape \(9,\)"),
        ("parameters", torch.zeros(1, 2), r"parameters must be torch.float32 of shape \(1, 3\)"),
        ("state", state.double(), "state must be torch.float32"),
        ("state", state[:1], r"state must be torch.float32 of shape \(2, 3\)"),
        ("begin", state[:, :2], r"begin must be torch.float32 of shape \(2, 3\)"),
        ("resets", where[:, :4], r"resets must be torch.bool of shape \(2, 5\)"),
        ("lengths", torch.ones(3, dtype=torch.long), r"lengths must be torch.int64 of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run_elementwise(good._replace(**{name: wrong}), saving=False)
    with pytest.raises(ValueError, match=r"b must be torch.float64"):
        linear_op.linear_scan(x.double(), state.double(), None, None, None, False, x)


def test_wrong_input_is_named():
    case = Linear()
    with pytest.raises(ValueError, match=r"\(B, T, H\) twice and \(B, H\), not \(5, 7, 4\), \(5, 7, 3\)"):
        inspect.unwrap(linear_scan_recurrence)(case.a, case.b[:, :, :3], case.state)  # without the tests' own check of shapes
    with pytest.raises(ValueError, match="from 0 to 7"):
        linear_scan_recurrence(case.a, case.b, case.state, lengths=torch.full((5,), 8))
    other = Elementwise("min_gru")
    with pytest.raises(ValueError, match=r"min_gru must have 2 gates of 4 rows each, not 12 rows"):
        elementwise_scan_recurrence(other.x, other.state, ScanWeights(torch.zeros(12, 3), torch.zeros(12)), unit="min_gru")
    with pytest.raises(ValueError, match=r"of shape \(B, T, 9\)"):
        elementwise_scan_recurrence(other.x, other.state, ScanWeights(torch.zeros(8, 9), torch.zeros(8)), unit="min_gru")


def test_choice_gives_its_reason():
    with pytest.raises(SettingsError, match="Did you mean 'aten'"):
        choose_scan("min_gru", "atem")
    with pytest.raises(BackendUnavailable, match="indrnn_relu: its state is not linear"):
        choose_scan("indrnn_relu", "aten", linear=False)
    with pytest.raises(BackendUnavailable, match="the input is on cuda"):
        choose_scan("min_gru", "cpu", "cuda")
    assert choose_scan("min_gru", "auto", shape=(8, 1, 128)).backend == "reference"
    elsewhere = "mps"
    assert choose_scan("min_gru", "auto", elsewhere) == (
        "aten",
        "the compiled kernels run on a CPU, and the input is on mps; the fastest left: torch's own operations over chunks of steps",
    )
    assert choose_scan("min_gru", "auto", elsewhere, shape=(64, 100, 512)).backend == "aten"
    assert choose_scan("min_gru", "auto", elsewhere, shape=(64, 3, 512)).backend == "reference"
    assert choose_scan("indrnn_relu", "auto", elsewhere, linear=False).backend == "reference"
    if UNAVAILABLE is None:
        assert choose_scan("min_gru", "auto").reason.startswith("the fastest")


def test_choice_without_compiled_kernels(monkeypatch):
    monkeypatch.setattr(operator, "UNAVAILABLE", "the compiled kernels are not installed")
    assert choose_scan("min_gru", "auto", shape=(8, 100, 128)).backend == "aten"
    assert choose_scan("min_gru", "auto", shape=(64, 100, 512)).backend == "reference"
    with pytest.raises(BackendUnavailable, match="not installed"):
        choose_scan("min_gru", "cpu")
