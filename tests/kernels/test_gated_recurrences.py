"""Gated recurrences that torch has not fused: against their papers' equations written once more in NumPy, and what these promise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_recurrences import Case, assert_same
from torch import nn

import catalogue
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import RecurrentNoise, RecurrentWeights, Resets, SLSTMState, slstm_recurrence
from recurra.kernels.backend import choose
from recurra.kernels.normalization import EPSILON
from recurra.kernels.state import map_state

LENGTHS = [3, 0, 7, 1, 7, 5]
PLAIN = {name: kernel for name, kernel in catalogue.KERNELS.items() if not kernel.fused}
plain = pytest.mark.parametrize("name", PLAIN)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def norm(a, gain, bias):
    return gain * (a - a.mean()) / np.sqrt(((a - a.mean()) ** 2).mean() + EPSILON) + bias


# One step of one row: `x` and the fields of `s` are vectors, `w` holds the weights; the paper's symbols, torch's gate order.


def layernorm_lstm(x, s, w):
    i, f, g, o = np.split(norm(w.w_hh @ s.read, w.gain_hh, w.b_hh) + norm(w.w_ih @ x, w.gain_ih, w.b_ih), 4)
    c = sigmoid(f) * s.c + sigmoid(i) * np.tanh(g)
    return {"h": sigmoid(o) * np.tanh(norm(c, w.gain_c, w.bias_c)), "c": c}


def layernorm_gru(x, s, w):
    H = len(s.h)
    gates = norm(w.w_hh[: 2 * H] @ s.read, w.gain_hh[: 2 * H], w.b_hh[: 2 * H])
    r, z = np.split(gates + norm(w.w_ih[: 2 * H] @ x, w.gain_ih[: 2 * H], w.b_ih[: 2 * H]), 2)
    from_h = norm(w.w_hh[2 * H :] @ s.read, w.gain_hh[2 * H :], w.b_hh[2 * H :])
    n = np.tanh(norm(w.w_ih[2 * H :] @ x, w.gain_ih[2 * H :], w.b_ih[2 * H :]) + sigmoid(r) * from_h)
    return {"h": (1 - sigmoid(z)) * n + sigmoid(z) * s.h}


def gru_reset_before(x, s, w):
    W_r, W_z, W_n = np.split(w.w_ih, 3)
    U_r, U_z, U_n = np.split(w.w_hh, 3)
    b_r, b_z, b_n = np.split(w.b_ih + w.b_hh, 3)
    r = sigmoid(W_r @ x + U_r @ s.read + b_r)
    z = sigmoid(W_z @ x + U_z @ s.read + b_z)
    n = np.tanh(W_n @ x + U_n @ (r * s.read) + b_n)
    return {"h": z * s.h + (1 - z) * n}


def projected_lstm(x, s, w):
    i, f, g, o = np.split(w.w_ih @ x + w.w_hh @ s.read + w.b_ih + w.b_hh, 4)
    c = sigmoid(f) * s.c + sigmoid(i) * np.tanh(g)
    return {"h": w.w_hr @ (sigmoid(o) * np.tanh(c)), "c": c}


def peephole_lstm(x, s, w):
    i, f, g, o = np.split(w.w_ih @ x + w.w_hh @ s.read + w.b_ih + w.b_hh, 4)
    c = sigmoid(f + np.diag(w.w_cf) @ s.c) * s.c + sigmoid(i + np.diag(w.w_ci) @ s.c) * np.tanh(g)
    return {"h": sigmoid(o + np.diag(w.w_co) @ c) * np.tanh(c), "c": c}


def slstm(x, s, w):
    """Not stabilized: `c` and `n` are the paper's equations 8 and 9, and m stays zero."""
    H, D = len(s.h), w.w_hh.shape[1]
    recurrent = np.zeros((4 * H, H))
    for row in range(4 * H):
        first = row % H // D * D
        recurrent[row, first : first + D] = w.w_hh[row]
    i, f, z, o = np.split(w.w_ih @ x + recurrent @ s.read + w.b_ih + w.b_hh, 4)
    c = sigmoid(f) * s.c + np.exp(i) * np.tanh(z)
    n = sigmoid(f) * s.n + np.exp(i)
    return {"h": sigmoid(o) * c / n, "c": c, "n": n, "m": 0 * s.m}


STEPS = {step.__name__: step for step in (layernorm_lstm, layernorm_gru, gru_reset_before, projected_lstm, peephole_lstm, slstm)}


def run_numpy(name, case, *, lengths, where, initial, reverse, noise):
    """Row by row, with resets, recurrent dropout and zoneout; outputs and states as arrays."""
    step, fields = STEPS[name.split(",")[0]], case.kernel.state_type._fields
    w = SimpleNamespace(**{name: weight.numpy() for name, weight in case.weights._asdict().items()})
    zoneout = noise.zoneout if len(noise.zoneout) == len(fields) else [noise.zoneout[min(k, 1)] for k in range(len(fields))]
    output, states = np.zeros((*case.x.shape[:2], case.state[0].shape[1])), []
    for row, length in enumerate(lengths):
        state = {field: getattr(case.state, field)[row].numpy() for field in fields}
        for t in reversed(range(length)) if reverse else range(length):
            if where[row, t]:
                state = {field: getattr(initial, field)[row].numpy() for field in fields}
            new = step(case.x[row, t].numpy(), SimpleNamespace(**state, read=state["h"] * noise.dropout[row].numpy()), w)
            for field, rate in zip(fields, zoneout, strict=True):
                kept = rate if isinstance(rate, float) else rate[row, t].numpy()
                new[field] = kept * state[field] + (1 - kept) * new[field]
            state, output[row, t] = new, new["h"]
        states.append(list(state.values()))
    return [output, *(np.stack(field) for field in zip(*states, strict=True))]


def unstabilized(state):
    """C and N themselves."""
    scale = state.m.exp()
    return SLSTMState(state.h, state.c * scale, state.n * scale, torch.zeros_like(state.m))


@plain
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("training", [False, True], ids=["rates", "masks"])
def test_equals_the_paper_in_numpy(name, reverse, training):
    case = Case(PLAIN[name])
    generator = torch.Generator().manual_seed(2)
    sizes = list(case.kernel.state_sizes(4).values())
    zoned = sizes[:2] if case.kernel.state_type is SLSTMState else sizes
    masks = tuple((torch.rand(6, 7, size, generator=generator) < 0.3).double() for size in zoned)
    noise = RecurrentNoise(torch.rand(6, sizes[0], generator=generator).double(), masks if training else (0.2, 0.3)[: len(zoned)])
    where = torch.rand(6, 7, generator=generator) < 0.2
    initial = case.kernel.state_type(*(torch.rand(6, size, generator=generator).double() for size in sizes))
    given, begun = case.state, initial
    if case.kernel.state_type is SLSTMState:
        case.state, begun = unstabilized(given), unstabilized(initial)
    expected = run_numpy(name, case, lengths=LENGTHS, where=where, initial=begun, reverse=reverse, noise=noise)
    options = {"lengths": torch.tensor(LENGTHS), "resets": Resets(where, initial), "reverse": reverse, "noise": noise}
    output, state = case.kernel.function(case.x, given, case.weights, **options)
    state = unstabilized(state) if case.kernel.state_type is SLSTMState else state
    assert_same([output, *state], [torch.from_numpy(array) for array in expected])


@plain
def test_they_say_which_backends_they_have(name):
    kernel = PLAIN[name]
    if kernel.backends == ["reference"]:
        assert choose(kernel.operation, "auto").reason.startswith(f"the only backend of {kernel.operation}: a Python loop")
    assert choose(kernel.operation, "reference").reason.startswith("asked for by name: a Python loop")
    with pytest.raises(BackendUnavailable, match=f"'aten' cannot run this {kernel.operation}: there is none for {kernel.operation}"):
        choose(kernel.operation, "aten")
    with pytest.raises(SettingsError, match="Did you mean 'reference'"):
        choose(kernel.operation, "referense")


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_the_projected_lstm_has_torchs_gradients(reverse):
    case = Case(PLAIN["projected_lstm"])
    layer = nn.LSTM(3, 4, proj_size=2, batch_first=True).double()
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), case.weights, strict=True):
            parameter.copy_(weight)
    mine = case.run(reverse=reverse)
    x = case.x.clone().requires_grad_()
    h, c = (field[None].clone().requires_grad_() for field in case.state)
    output, last = layer(x.flip(1) if reverse else x, (h, c))
    results = [output.flip(1) if reverse else output, last[0][0], last[1][0]]
    generator = torch.Generator().manual_seed(1)
    total = sum((t * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum() for t in results)
    gradients = list(torch.autograd.grad(total, (x, h, c, *layer.parameters())))
    gradients[1:3] = [gradient[0] for gradient in gradients[1:3]]
    assert_same(mine, [*results, *gradients])


def test_peepholes_of_zero_and_one_wide_head_are_the_plain_cells():
    case = Case(catalogue.KERNELS["lstm"])
    zeros = torch.zeros(4, dtype=torch.float64)
    peephole = PLAIN["peephole_lstm"]
    mine = peephole.function(case.x, case.state, peephole.weights_type(*case.weights, zeros, zeros, zeros))
    theirs = case.kernel.function(case.x, case.state, case.weights)
    assert_same([mine[0], *mine[1]], [theirs[0], *theirs[1]])
    # With an identity for a projection, so is the projected LSTM.
    projected = PLAIN["projected_lstm"]
    mine = projected.function(case.x, case.state, projected.weights_type(*case.weights, torch.eye(4, dtype=torch.float64)))
    assert_same([mine[0], *mine[1]], [theirs[0], *theirs[1]])
    # Two heads are one of twice the width, whose weights between the halves are zero.
    halves, whole = Case(PLAIN["slstm, two heads"]), PLAIN["slstm"]
    w_hh = torch.zeros(4, 4, 4, dtype=torch.float64)
    w_hh[:, :2, :2], w_hh[:, 2:, 2:] = halves.weights.w_hh.view(4, 4, 2)[:, :2], halves.weights.w_hh.view(4, 4, 2)[:, 2:]
    mine = halves.kernel.function(halves.x, halves.state, halves.weights)
    theirs = whole.function(halves.x, halves.state, halves.weights._replace(w_hh=w_hh.view(16, 4)))
    assert_same([mine[0], *mine[1]], [theirs[0], *theirs[1]])


@pytest.mark.parametrize(("name", "rows"), [("layernorm_lstm", [(0, 16)]), ("layernorm_gru", [(0, 8), (8, 12)])])
def test_layer_normalization_takes_scale_and_shift_of_every_part_out(name, rows):
    """What each LN sees may be scaled and shifted; the parts are all four gates, or both gates and the new values."""
    case = Case(PLAIN[name], rows=3, steps=4)
    # Products of hundreds: EPSILON beside their variance (over 1) is under 2**-16 in 1, and squared in the difference below.
    weights = case.weights._replace(w_ih=case.weights.w_ih * 2.0**10, w_hh=case.weights.w_hh * 2.0**10)
    before = case.kernel.function(case.x, case.state, weights)[0]
    # A relative error of EPSILON/(2 variance) with a variance of over 2**10, through four steps that grow it by up to 2**2 each.
    tolerance = EPSILON / 2**11 * 2**8
    for which in ("w_ih", "w_hh"):
        for first, last in rows:
            changed = getattr(weights, which).clone()
            # The same vector added to all rows adds the same number to all products.
            changed[first:last] = changed[first:last] * 8 + 100 * torch.randn(changed.shape[1], dtype=torch.float64)
            after = case.kernel.function(case.x, case.state, weights._replace(**{which: changed}))[0]
            torch.testing.assert_close(after, before, rtol=0, atol=tolerance)
    # The rows of one gate alone are not a part.
    changed = weights.w_hh.clone()
    changed[:4] *= 8
    assert (case.kernel.function(case.x, case.state, weights._replace(w_hh=changed))[0] - before).abs().max() > 1e3 * tolerance


def test_a_state_of_zeros_has_finite_gradients_under_layer_normalization():
    for name in ("layernorm_lstm", "layernorm_gru"):
        case = Case(PLAIN[name], dtype=torch.float32)
        case.state = map_state(torch.zeros_like, case.state)
        assert all(tensor.isfinite().all() for tensor in case.run())


def extreme(size, dtype):
    """Input, empty state and weights whose four gates are -size, 0 and size in every combination, one a row; no recurrence."""
    levels = torch.tensor([-size, 0.0, size], dtype=dtype)
    x = torch.cartesian_prod(levels, levels, levels, levels)[:, None].repeat(1, 6, 1)
    x[:, 1::2] = -x[:, 1::2]
    state = SLSTMState(*(torch.zeros(81, 1, dtype=dtype) for _ in range(4)))
    return x, state, RecurrentWeights(torch.eye(4, dtype=dtype), *(torch.zeros(shape, dtype=dtype) for shape in ((4, 1), (4,), (4,))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_stabilizer_keeps_what_does_not_overflow(dtype):
    """Gates of 80: the unstabilized memory holds exp(80), which float64 can; the stabilized one is the same to the last bits."""
    x, state, weights = extreme(80.0, dtype)
    output, last = slstm_recurrence(x, state, weights)
    i, f, g, o = x.double().unbind(2)
    C = N = torch.zeros(81, dtype=torch.float64)
    expected = []
    for t in range(6):
        C = f[:, t].sigmoid() * C + i[:, t].exp() * g[:, t].tanh()
        N = f[:, t].sigmoid() * N + i[:, t].exp()
        expected.append(o[:, t].sigmoid() * C / N)
    # Exponents are differences of numbers up to 6 * 80, rounded to half a last place of 2**9, in two gates of six steps.
    tolerance = 2**9 * torch.finfo(dtype).eps * 6
    torch.testing.assert_close(output[:, :, 0].double(), torch.stack(expected, 1), rtol=0, atol=tolerance)
    assert (last.n >= 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_stabilizer_keeps_what_overflows(dtype):
    """Gates of 80 to 5,000, whose exponentials no type holds: finite values between -1 and 1, finite gradients."""
    for size in (80.0, 1000.0, 5000.0):
        x, state, weights = extreme(size, dtype)
        x.requires_grad_()
        output, last = slstm_recurrence(x, state, weights)
        assert output.isfinite().all()
        assert output.abs().max() <= 1
        assert all(field.isfinite().all() for field in last)
        (gradient,) = torch.autograd.grad(output.sum(), x)
        assert gradient.isfinite().all()


def test_the_scale_of_the_memory_means_nothing():
    """(c, n, m) and (c e^a, n e^a, m - a) are one memory, also under zoneout's expectation."""
    case = Case(PLAIN["slstm"])
    shift = torch.randn(6, 4, dtype=torch.float64)
    moved = case.state._replace(c=case.state.c * shift.exp(), n=case.state.n * shift.exp(), m=case.state.m - shift)
    for noise in (None, RecurrentNoise(None, (0.1, 0.4))):
        one, other = (slstm_recurrence(case.x, state, case.weights, noise=noise) for state in (case.state, moved))
        assert_same([one[0], *unstabilized(one[1])], [other[0], *unstabilized(other[1])])


def test_an_empty_memory_has_no_scale():
    """However small the first step's input gate is, and whatever stands in m: c / n is what it let in."""
    x, state, weights = extreme(300.0, torch.float32)
    for m in (-1e4, 0.0, 1e4):
        output, _ = slstm_recurrence(x[:, :1], state._replace(m=state.m + m), weights)
        # The kernels' sigmoid ends at that of -87, 1.6e-38.
        torch.testing.assert_close(output[:, 0, 0], x[:, 0, 3].sigmoid() * x[:, 0, 2].tanh(), rtol=0, atol=2e-38)
