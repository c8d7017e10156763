"""The drop-in layers: every form of torch's calls, what they add to them, and what PyTorch users do with modules."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves

from recurra.errors import BackendUnavailable, SettingsError
from recurra.layers import GRU, LSTM, RNN

F, H, B, T = 3, 4, 4, 6
TOLERANCE = 2.0**-52 * 2.0**14
"""Sums of up to 2**5 terms in another order, over up to 2**3 steps of 2 layers, grown by up to 2**5 on the way back."""

KINDS = {"lstm": (nn.LSTM, LSTM), "gru": (nn.GRU, GRU), "rnn": (nn.RNN, RNN)}
LAYOUTS = [
    pytest.param(True, True, False, id="batch first, both directions"),
    pytest.param(False, False, False, id="time first"),
    pytest.param(False, True, True, id="time first, both directions, no biases"),
]
LENGTHS = torch.tensor([3, 6, 1, 6])


def one_sequence(x, batch_first):
    return x[0] if batch_first else x[:, 0]


def unequal(x, batch_first):
    rows = x if batch_first else x.transpose(0, 1)
    return pack_sequence([rows[0, :2], rows[1], rows[2, :1]], enforce_sorted=False)


FORMS = {
    "batch": lambda x, _: x,
    "one sequence": one_sequence,
    "packed": lambda x, batch_first: pack_padded_sequence(x, torch.tensor([6, 6, 4, 1]), batch_first=batch_first),
    "packed unsorted": lambda x, batch_first: pack_padded_sequence(x, LENGTHS, batch_first=batch_first, enforce_sorted=False),
    "packed list": unequal,
}
"""What a layer of torch can be called with, made of a batch."""


def build(kind, more=None, **options):
    """A layer of torch and ours with its weights, float64; `more` is for ours alone."""
    torch.manual_seed(0)
    common = {"num_layers": 2, "dtype": torch.float64, **options}
    theirs, ours = KINDS[kind][0](F, H, **common), KINDS[kind][1](F, H, **common, **(more or {}))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def hidden(layer, rows=None):
    """A state for a batch, or for one sequence."""
    generator = torch.Generator().manual_seed(3)
    parts = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (parts, H) if rows is None else (parts, rows, H)
    widths = [layer.proj_size or H, H] if isinstance(layer, nn.LSTM) else [H]
    fields = [torch.randn(*shape[:-1], width, generator=generator, dtype=torch.float64, requires_grad=True) for width in widths]
    return tuple(fields) if len(fields) > 1 else fields[0]


def steps(layer, rows=B, real=T):
    x = torch.randn(rows, real, F, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return x if layer.batch_first else x.transpose(0, 1)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def assert_same(mine, theirs):
    for one, other in zip(tensors(mine), tensors(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)


def gradients(layer, results, *given):
    generator = torch.Generator().manual_seed(5)
    outputs = [leaf for leaf in tensors(results) if leaf.is_floating_point()]
    total = sum((one * torch.randn(one.shape, generator=generator, dtype=one.dtype)).sum() for one in outputs)
    return torch.autograd.grad(total, [*given, *layer.parameters()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch_first", "bidirectional", "no_bias"), LAYOUTS)
@pytest.mark.parametrize("start", [False, True], ids=["from zeros", "from a state"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_call_is_as_in_torch(kind, batch_first, bidirectional, no_bias, start, form):
    theirs, ours = build(kind, batch_first=batch_first, bidirectional=bidirectional, bias=not no_bias)
    count = None if form == "one sequence" else 3 if form == "packed list" else B

    def run(layer):
        x = steps(layer).requires_grad_()
        state = hidden(layer, count) if start else None
        results = layer(FORMS[form](x, layer.batch_first), state)
        return results, gradients(layer, results, x, *tensors(state))

    (expected, slopes), (found, mine) = run(theirs), run(ours)
    assert type(found[0]) is type(expected[0])
    assert type(found[1]) is type(expected[1])
    assert_same(found, expected)
    assert_same(mine, slopes)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_contiguous_where_those_of_torch_are(kind):
    theirs, ours = build(kind, bidirectional=True)
    for mine, other in zip(tensors(ours(steps(ours))), tensors(theirs(steps(theirs))), strict=True):
        assert mine.is_contiguous()
        assert mine.stride() == other.stride()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("lstm", {}), ("gru", {}), ("rnn", {}), ("lstm", {"proj_size": 2}), ("lstm", {"proj_size": 2, "backend": "reference"})],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_lengths_are_a_packed_sequence_with_empty_rows_and_anything_in_the_padding(kind, options):
    backend = options.pop("backend", "auto") if options else "auto"
    theirs, ours = build(kind, bidirectional=True, batch_first=True, **options)
    ours.backend = backend
    x, lengths = steps(ours), torch.tensor([3, 6, 0, 1], dtype=torch.int32)
    poisoned = x.masked_fill(torch.arange(T)[:, None] >= lengths[:, None, None], torch.nan).requires_grad_()
    start = hidden(ours, B)
    output, last = ours(poisoned, start, lengths=lengths)
    full = [0, 1, 3]
    chosen = tuple(field[:, full] for field in start) if kind == "lstm" else start[:, full]
    packed = pack_padded_sequence(x[full], lengths[full], batch_first=True, enforce_sorted=False)
    expected, after = theirs(packed, chosen)
    expected = pad_packed_sequence(expected, batch_first=True, total_length=T)[0]
    assert_same(output[full], expected)
    assert not output[2].any()
    for field, before, other in zip(tensors(last), tensors(start), tensors(after), strict=True):
        assert torch.equal(field[:, 2], before[:, 2])
        assert_same(field[:, full], other)
    slopes = gradients(ours, (output, last), poisoned)
    assert all(slope.isfinite().all() for slope in slopes)
    assert not slopes[0][2].any()
    assert all(slope.any() for slope in slopes)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_begins_a_new_sequence(kind, batch_first):
    _, ours = build(kind, batch_first=batch_first, bidirectional=True, num_layers=1)
    with torch.no_grad():
        x = steps(ours)
        rows = x if batch_first else x.transpose(0, 1)
        reset = torch.zeros(B, T, dtype=torch.bool)
        reset[1, 4] = True
        output, _ = ours(x, reset=reset if batch_first else reset.T)
        output = output if batch_first else output.transpose(0, 1)
        whole = ours(x)[0]
        whole = whole if batch_first else whole.transpose(0, 1)
        parts = torch.cat([ours(rows[1, :4])[0], ours(rows[1, 4:])[0]])
        assert_same(output[1], parts)
        assert_same(output[[0, 2, 3]], whole[[0, 2, 3]])
        assert_same(ours(rows[1], reset=reset[1])[0], parts)
        packed = pack_padded_sequence(x, torch.tensor([3, 6, 1, 6]), batch_first=batch_first, enforce_sorted=False)
        padded, _ = pad_packed_sequence(ours(packed, reset=reset if batch_first else reset.T)[0], batch_first=True)
        assert_same(padded[1], parts)


@pytest.mark.parametrize("make", [LSTM, GRU])
def test_a_reset_in_the_padding_means_nothing_to_the_backward_direction_either(make):
    layer = make(F, H, batch_first=True, bidirectional=True)
    x, lengths = torch.randn(B, T, F), torch.tensor([3, 6, 0, 2])
    hx = torch.randn(2, 2, B, H)
    hx = tuple(hx) if make is LSTM else hx[0]
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[1, 2] = True
    padded = reset | (torch.arange(T) >= lengths[:, None])
    expected, found = (
        tree_leaves([layer(x, hx, lengths=lengths, reset=each), layer.gates(x, hx, lengths=lengths, reset=each)])
        for each in (reset, padded)
    )
    assert all(map(torch.equal, found, expected))


NOISE = {
    "variational_dropout": {"variational_dropout": 0.5},
    "recurrent_dropout": {"recurrent_dropout": 0.5},
    "weight_dropout": {"weight_dropout": 0.5},
    "zoneout": {"zoneout": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*NOISE, "dropout", "dropout of everything"])
def test_noise_changes_training_and_is_silent_in_evaluation(kind, name):
    plain = build(kind, batch_first=True)[1]
    noisy = build(kind, NOISE.get(name), batch_first=True, dropout={"dropout": 0.5, "dropout of everything": 1.0}.get(name, 0.0))[1]
    x = steps(noisy)
    torch.manual_seed(1)
    first, second = noisy(x)[0], noisy(x)[0]
    assert not torch.equal(first, plain(x)[0])
    assert torch.equal(first, second) is (name == "dropout of everything")
    torch.manual_seed(1)
    assert torch.equal(noisy(x)[0], first)
    assert name.partition(" ")[0] in repr(noisy)
    noisy.eval()
    assert torch.equal(noisy(x)[0], noisy(x)[0])
    assert torch.equal(noisy(x)[0], plain(x)[0]) is (name != "zoneout")  # zoneout moves by its expectation in evaluation


def test_dropout_of_everything_leaves_what_torch_leaves():
    theirs, ours = build("gru", dropout=1.0)
    assert_same(ours(steps(ours)), theirs(steps(theirs)))


def test_variational_dropout_reaches_the_input_with_one_mask_for_all_steps():
    layer = RNN(H, H, batch_first=True, bias=False, nonlinearity="relu", variational_dropout=0.5)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.eye(H))
        layer.weight_hh_l0.zero_()
    output, _ = layer(torch.ones(20, 5, H))
    assert set(output.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(output, output[:, :1].expand_as(output))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_layer_norm_makes_another_layer_with_torch_weights_and_more(kind):
    theirs, ours = KINDS[kind]
    layer = ours(F, H, 2, batch_first=True, bidirectional=True, layer_norm=True)
    plain = theirs(F, H, 2, bidirectional=True).state_dict()
    extra = {"gain_ih", "gain_hh"} | ({"gain_c", "bias_c"} if kind == "lstm" else set())
    assert {name.partition("_l")[0] for name in set(layer.state_dict()) - set(plain)} == extra
    output, _ = layer(steps(layer).float())
    output.square().sum().backward()
    assert all(parameter.grad.any() for parameter in layer.parameters())
    with torch.no_grad():
        layer.gain_hh_l0.mul_(2.0)
    assert not torch.equal(layer(steps(layer).float())[0], output)
    layer.reset_parameters()
    assert layer.gain_hh_l0.eq(1.0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_start_as_in_torch_and_load_both_ways(kind):
    made = []
    for make in KINDS[kind]:
        torch.manual_seed(7)
        made.append(make(F, H, 2, bidirectional=True))
    theirs, ours = made
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(one, theirs.state_dict()[name]) for name, one in ours.state_dict().items())
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(T, B, F)
    torch.testing.assert_close(theirs(x)[0], ours(x)[0], rtol=0, atol=2.0**-23 * 2.0**6)
    assert isinstance(ours, KINDS[kind][0])


def test_forget_bias_and_learned_start():
    layer = LSTM(F, H, 2, bidirectional=True, forget_bias=1.5, learn_initial_state=True)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        total = getattr(layer, f"bias_ih_{suffix}") + getattr(layer, f"bias_hh_{suffix}")
        assert total[H : 2 * H].eq(1.5).all()
        assert not total[:H].eq(1.5).any()
    assert layer.initial_h.shape == layer.initial_c.shape == (4, H)
    x = torch.randn(T, B, F)
    torch.testing.assert_close(layer(x), layer(x, (torch.zeros(4, B, H), torch.zeros(4, B, H))))
    layer(x, lengths=torch.tensor([0, 1, 2, 6]))[0].sum().backward()
    assert layer.initial_h.grad.any()
    with torch.no_grad():
        layer.initial_h.fill_(0.5)
    packed = pack_sequence([torch.randn(2, F)])
    (_, state), (_, single) = layer(packed), layer(packed.data)
    torch.testing.assert_close(state[0][:, 0], single[0])
    empty = layer(x, lengths=torch.zeros(B, dtype=torch.long))[1][0]
    assert empty.eq(0.5).all()
    reset = torch.ones(T, B, dtype=torch.bool)
    # Perhaps by different backends: one step of two layers, numbers under one.
    torch.testing.assert_close(layer(x, reset=reset)[0][0, 0, :H], layer(x[:1], reset=reset[:1])[0][0, 0, :H], rtol=0, atol=2.0**-23 * 32)
    layer.reset_parameters()
    assert not layer.initial_h.any()
    assert (layer.bias_ih_l0 + layer.bias_hh_l0)[H : 2 * H].eq(1.5).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LSTM(F, H, zoneout=1.0), SettingsError, "zoneout must be from 0 to under 1"),
        (lambda: GRU(F, H, recurrent_dropout=-0.1), SettingsError, "recurrent_dropout"),
        (lambda: LSTM(F, H, bias=False, forget_bias=1.0), SettingsError, "needs biases"),
        (lambda: LSTM(F, H, proj_size=2, layer_norm=True), SettingsError, "no layer-normalized LSTM with projections"),
        (lambda: LSTM(F, H, backend="cuda"), SettingsError, "no backend 'cuda'"),
        (lambda: LSTM(F, H, backend="aten", zoneout=0.1), BackendUnavailable, "zoneout"),
        (lambda: RNN(F, H, nonlinearity="sigmoid"), ValueError, "Unknown nonlinearity"),
        (lambda: GRU(F, H, proj_size=2), ValueError, "only supported for LSTM"),
        (lambda: RNN(F, H, proj_size=2), ValueError, "only supported for LSTM"),
    ],
)
def test_options_that_cannot_be_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_arguments_by_position_are_those_of_torch():
    layers = (
        LSTM(F, H, 2, False, True, 0.25, True, 2, "cpu", torch.float64),
        nn.LSTM(F, H, 2, False, True, 0.25, True, 2, "cpu", torch.float64),
    )
    assert layers[0].extra_repr() == layers[1].extra_repr()
    layers = RNN(F, H, 2, "relu", False, True, 0.25, True), nn.RNN(F, H, 2, "relu", False, True, 0.25, True)
    assert layers[0].extra_repr() == layers[1].extra_repr()
    assert layers[0].mode == layers[1].mode
