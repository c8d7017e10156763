"""The drop-in layers as modules: saved, copied, parametrized, compiled, asked for their gates and their backend, called wrongly."""

import copy
import io
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jobs import ENVIRONMENT
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import backend
from recurra.layers import GRU, LSTM, RNN

F, H, B, T = 3, 4, 4, 6
CLOSE = 2.0**-23 * 2.0**7
"""float32 sums of up to 2**3 terms in another order, over up to 2**3 steps of two layers."""

KINDS = {"lstm": (nn.LSTM, LSTM), "gru": (nn.GRU, GRU), "rnn": (nn.RNN, RNN)}


def build(kind, **options):
    torch.manual_seed(0)
    theirs, ours = (make(F, H, num_layers=2, batch_first=True, **options) for make in KINDS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def batch():
    return torch.randn(B, T, F, generator=torch.Generator().manual_seed(1))


def assert_same(mine, theirs):
    torch.testing.assert_close(mine, theirs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_saved_modules_are_equal_and_apart(kind):
    _, layer = build(kind, bidirectional=True)
    layer.zoneout, layer.backend = 0.25, "reference"
    layer.eval()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert torch.equal(other(batch())[0], layer(batch())[0])
        assert repr(other) == repr(layer)
        with torch.no_grad():
            other.weight_hh_l0.zero_()
        assert not torch.equal(other(batch())[0], layer(batch())[0])


@pytest.mark.parametrize("kind", KINDS)
def test_double_half_and_back(kind):
    theirs, ours = build(kind)
    assert_same(ours.double()(batch().double())[0].float(), theirs(batch())[0])
    assert ours(batch().double())[0].dtype == torch.float64
    assert_same(ours.float()(batch())[0], theirs(batch())[0])
    ours.flatten_parameters()
    assert_same(ours(batch())[0], theirs(batch())[0])


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_tied_and_borrowed_weights_are_used(kind):
    theirs, ours = build(kind)
    for layer in (theirs, ours):
        layer.weight_hh_l1 = layer.weight_hh_l0
        layer.bias_ih_l0 = nn.Parameter(torch.ones_like(layer.bias_ih_l0))
    assert len(list(ours.parameters())) == 7
    assert_same(ours(batch())[0], theirs(batch())[0])
    given = {name: weight * 0.5 for name, weight in theirs.named_parameters()}
    expected = torch.func.functional_call(theirs, given, (batch(),))
    assert_same(torch.func.functional_call(ours, given, (batch(),)), expected)
    given = {name: weight.double() for name, weight in given.items()}
    assert torch.func.functional_call(ours, given, (batch().double(),))[0].dtype == torch.float64


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(layer, "weight_hh_l0")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "wrap",
    [
        old_weight_norm,
        lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
        lambda layer: prune.l1_unstructured(layer, "weight_hh_l0", 0.5),
    ],
    ids=["old weight_norm", "weight_norm", "pruning"],
)
def test_computed_weights_are_used_and_trained(kind, wrap):
    theirs, ours = build(kind)
    for layer in (theirs, ours):
        wrap(layer)
    ours.load_state_dict(theirs.state_dict())
    for _ in range(2):  # the second time with weights that a step has changed
        for layer in (theirs, ours):
            layer.zero_grad()
            layer(batch())[0].square().sum().backward()
        for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert mine.grad.any(), name
            assert_same(mine.grad, other.grad)
            with torch.no_grad():
                mine.add_(mine.grad, alpha=-0.1)
                other.copy_(mine)
    assert_same(ours(batch())[0], theirs(batch())[0])


def test_hooks_are_called():
    _, layer = build("gru")
    seen = []
    layer.register_forward_pre_hook(lambda module, given: seen.append(len(given)))
    layer.register_forward_hook(lambda module, given, results: (results[0] + 1, results[1]))
    plain = layer.forward(batch())[0]
    assert torch.equal(layer(batch(), None)[0], plain + 1)
    assert seen == [2]


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"zoneout": 0.3}], ids=["plain", "layer norm", "zoneout"])
@pytest.mark.parametrize("form", ["lengths and resets", "packed", "one sequence", "time first"])
def test_gates_are_what_the_output_is_made_of(options, form):
    torch.manual_seed(0)
    layers = [make(F, H, 2, bidirectional=True, batch_first=form != "time first", **options).eval() for make in (LSTM, GRU)]
    x, lengths = batch(), torch.tensor([6, 0, 2, 5])
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[0, 3] = True
    given, more = x, {}
    if form == "lengths and resets":
        given, more = x.masked_fill(torch.arange(T)[:, None] >= lengths[:, None, None], torch.nan), {"lengths": lengths, "reset": reset}
    elif form == "packed":
        given = pack_padded_sequence(x, torch.tensor([2, 6, 6, 1]), batch_first=True, enforce_sorted=False)
    elif form == "one sequence":
        given = x[0]
    elif form == "time first":
        given = x.transpose(0, 1)
    for layer in layers:
        output, _ = layer(given, **more)
        gates = layer.gates(given, **more)
        assert len(gates) == 4
        values = [field for part in gates for field in part]
        if form == "packed":
            output, values = pad_packed_sequence(output)[0], [pad_packed_sequence(field)[0] for field in values]
        assert all(field.shape == (*output.shape[:-1], H) for field in values)
        if form == "lengths and resets":
            assert not any(field[1].any() or field[2, 2:].any() for field in values)
        if isinstance(layer, LSTM) and not options:
            *_, gate, memory = values[-5:]
            assert_same(gate * memory.tanh(), output[..., H:])
    if options or form != "time first":
        return
    # The GRU's last layer: h' = (1 - z) n + z h, forward and backward.
    output, before = layers[1](given)[0], output.new_zeros(1, B, H)
    for part, direction, old in zip(
        gates[2:], output.split(H, 2), (torch.cat([before, output[:-1, :, :H]]), torch.cat([output[1:, :, H:], before])), strict=True
    ):
        assert_same((1 - part.update) * part.candidate + part.update * old, direction)


def test_gates_of_a_projected_lstm_have_the_width_of_its_memory():
    layer = LSTM(F, H, proj_size=2, batch_first=True)
    (gates,) = layer.gates(batch())
    projected = (gates.output * gates.memory.tanh()) @ layer.weight_hr_l0.T
    assert_same(projected, LSTM.forward(layer, batch(), lengths=torch.full((B,), T))[0])


def test_it_says_what_runs_and_why(monkeypatch):
    layer = LSTM(F, H, 2, bidirectional=True, recurrent_dropout=0.5)
    lines = layer.explain_backend(batch()).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["layer 0 forward", "layer 0 backward", "layer 1 forward", "layer 1 backward"]
    assert "LSTM runs on" in lines[0]
    trained, evaluated = layer.explain_backend(batch()), layer.eval().explain_backend(batch())
    assert trained != evaluated or "recurrent dropout" not in trained
    named = GRU(F, H, backend="reference")
    assert named.explain_backend().startswith("layer 0: GRU runs on reference: asked for by name")
    with monkeypatch.context() as change:
        change.setattr(backend, "UNAVAILABLE", "not there")
        assert "runs on torch: no option beyond torch's is in force, and the comp" in LSTM(F, H, proj_size=2).explain_backend(batch())
    assert "runs on reference: a single step" in LSTM(F, H).explain_backend(batch()[:1])
    assert "a single step" not in LSTM(F, H, batch_first=True).explain_backend(batch()[:1])
    aten = LSTM(F, H, backend="aten")
    reset = torch.zeros(T, B, dtype=torch.bool)
    for call in (lambda: aten(batch().transpose(0, 1), reset=reset), lambda: aten.explain_backend(batch(), reset=reset)):
        with pytest.raises(BackendUnavailable, match="reset"):
            call()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torch_jit_compiles_it_as_the_layer_of_torch():
    _, layer = build("lstm", bidirectional=True)
    script = torch.jit.script(nn.Sequential(layer))
    assert_same(script(batch())[0], layer(batch())[0])
    assert type(layer) is LSTM
    with pytest.raises(SettingsError, match="this one has zoneout: use"):
        torch.jit.script(GRU(F, H, zoneout=0.5))


GRAPHS = """
import torch
from recurra.layers import LSTM

torch.manual_seed(0)
layer = LSTM(3, 4, 2, bidirectional=True, batch_first=True).eval()
x = torch.randn(4, 6, 3)

script = torch.jit.trace(layer, (x,))
print("aten::lstm" in str(script.inlined_graph))
program = torch.export.export(torch.nn.Sequential(layer), (x,))
print("aten.lstm" in str(program.graph))
pairs = [(script(x), layer(x)), (program.module()(x), layer(x))]
for found, expected in pairs:
    print((found[0] - expected[0]).abs().max().item() <= 2.0**-23 * 2.0**7)
"""


def test_it_is_traced_and_exported_as_the_layer_of_torch():
    """In a process of its own: the check of annotations that tests switch on cannot be traced."""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", GRAPHS], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert run.stdout.split() == ["True"] * 4, run.stderr


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("form", ["batch", "one sequence", "packed"])
def test_a_learned_start_is_given_to_torch_where_torch_computes(form, monkeypatch):
    monkeypatch.setattr(backend, "UNAVAILABLE", "not there")
    layer = LSTM(F, H, 2, proj_size=2, learn_initial_state=True)
    with torch.no_grad():
        layer.initial_h.fill_(0.25)
        layer.initial_c.fill_(-0.5)
    x = batch().transpose(0, 1)
    given = {"batch": x, "one sequence": x[:, 0], "packed": pack_padded_sequence(x, torch.tensor([6, 5, 5, 1]))}[form]
    assert "runs on torch" in layer.explain_backend(given)
    found = layer(given)
    layer.backend = "reference"
    expected = layer(given)
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE)
    assert not torch.equal(found[1][0], LSTM.forward(layer, given, tuple(torch.zeros_like(field) for field in found[1]))[1][0])


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_gives_the_types_that_torch_gives(kind):
    theirs, ours = build(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = theirs(batch()), ours(batch())
        half = ours(batch().bfloat16())[0]
    assert found[0].dtype == expected[0].dtype == (torch.float32 if kind == "gru" else torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(
        found[0], expected[0], rtol=0, atol=2.0**-8 * 4
    )  # values under 1, rounded to 8 bits at each of some products


def wrong_calls(layer):
    """Calls that torch refuses."""
    x, pair = batch(), isinstance(layer, nn.LSTM)

    def state(*shape, **options):
        field = torch.zeros(*shape, **options)
        return (field, field) if pair else field

    return {
        "features": lambda: layer(x[..., :2]),
        "dimensions": lambda: layer(x[None]),
        "a number": lambda: layer(x[0, 0]),
        "no steps": lambda: layer(x[:, :0]),
        "type": lambda: layer(x.double()),
        "rows of the state": lambda: layer(x, state(2, 1, H)),
        "width of the state": lambda: layer(x, state(2, B, H + 1)),
        "layers of the state": lambda: layer(x, state(1, B, H)),
        "state without a batch": lambda: layer(x, state(2, H)),
        "state with a batch": lambda: layer(x[0], state(2, 1, H)),
        "type of the state": lambda: layer(x, state(2, B, H, dtype=torch.float64)),
        "device of the state": lambda: layer(x, state(2, B, H, device="meta")),
        "device": lambda: layer(x.to("meta")),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", wrong_calls(nn.GRU(F, H, 2)))
def test_wrong_calls_raise_the_type_of_error_that_torch_raises(kind, name):
    theirs, ours = build(kind)
    with pytest.raises((RuntimeError, ValueError)) as expected:
        wrong_calls(theirs)[name]()
    with pytest.raises(expected.type):
        wrong_calls(ours)[name]()


def test_what_is_new_is_checked_too():
    layer = LSTM(F, H, batch_first=True)
    packed = pack_padded_sequence(batch(), torch.full((B,), T), batch_first=True)
    with pytest.raises(ValueError, match="knows its lengths"):
        layer(packed, lengths=torch.full((B,), T))
    with pytest.raises(ValueError, match="from 0 to 6"):
        layer(batch(), lengths=torch.tensor([7, 1, 1, 1]))
    with pytest.raises(ValueError, match="reset must be of shape"):
        layer(batch(), reset=torch.zeros(T, B, dtype=torch.bool))
    with pytest.raises(TypeError, match="reset"):
        layer(batch(), reset=torch.zeros(B, T))
    # What torch.nn.LSTM does not see, and reads beyond the end of: a packed sequence or a state of another size.
    with pytest.raises(RuntimeError, match="must be equal to input_size"):
        layer(pack_padded_sequence(batch()[..., :2], torch.full((B,), T), batch_first=True))
    with pytest.raises(RuntimeError, match="Expected hidden"):
        layer(packed, (torch.zeros(1, 1, H), torch.zeros(1, 1, H)))
    assert layer(torch.zeros(0, T, F))[0].shape == (0, T, H)
    assert layer(batch()[0], lengths=torch.tensor(2))[0][2:].eq(0).all()
