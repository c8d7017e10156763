"""`recurra.accelerate`: what it exchanges, what it leaves and says, what goes on as before, and the way back."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import recurra
from recurra.layers import GRU, LSTM, RNN, Acceleration

CLOSE = 2.0**-23 * 2.0**8
"""float32 sums of up to 2**4 terms in another order, over up to 2**3 steps of two layers."""


class OwnForward(nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


class OnlyNamed(nn.GRU):
    pass


class Tagger(nn.Module):
    """Somebody's model: an encoder in a Sequential, a layer at two places, packing, a cell."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.blocks = nn.ModuleList([nn.LSTM(4, 4, batch_first=True, bidirectional=True), nn.GRU(8, 4, 2, batch_first=True, dropout=0.5)])
        self.shared = nn.RNN(4, 4, batch_first=True)
        self.again = self.shared
        self.cell = nn.GRUCell(4, 2)
        self.own = OwnForward(2, 2)
        self.named = OnlyNamed(2, 2)

    def forward(self, x, lengths):
        x = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        for block in self.blocks:
            x, state = block(x)
        x, _ = pad_packed_sequence(x, batch_first=True)
        x, _ = self.again(self.shared(x)[0])
        return self.named(self.own(self.cell(x[:, -1] + state[-1])[None])[0])[0]


def build():
    torch.manual_seed(0)
    return Tagger().eval(), torch.randn(3, 5, 3), torch.tensor([2, 5, 4])


def test_it_swaps_every_layer_and_says_what_it_left():
    model, x, lengths = build()
    expected = model(x, lengths)
    report = recurra.accelerate(model)
    torch.testing.assert_close(model(x, lengths), expected, rtol=0, atol=CLOSE)
    assert [type(layer) for layer in (*model.blocks, model.shared)] == [LSTM, GRU, RNN]
    assert model.again is model.shared
    assert isinstance(report, Acceleration)
    assert report.module is model
    assert [found.names for found in report.swapped] == [("blocks.0",), ("blocks.1",), ("shared", "again")]
    assert [found.names for found in report.left] == [("cell",), ("own",), ("named",)]
    first, *lines = str(report).splitlines()
    assert first == "Recurra runs 3 of 6 recurrent layers of Tagger:"
    assert lines[1].startswith("  blocks.1: GRU(8, 4, num_layers=2, batch_first=True, dropout=0.5): ")
    assert lines[2].startswith("  shared, again: RNN(4, 4, batch_first=True): ")
    assert lines[3] == "Left as they were:"
    assert "called step by step" in lines[4]
    assert "subclass of torch.nn.LSTM that has a forward of its own: derive it from recurra.layers.LSTM" in lines[5]
    assert "subclass of torch.nn.GRU that may rely on how torch computes" in lines[6]
    again = recurra.accelerate(model)
    assert not again.swapped
    assert "it is Recurra's already" in str(again)


def test_undo_restores_the_objects_and_the_results():
    model, x, lengths = build()
    expected, before = model(x, lengths), dict(model.named_modules())
    names, kinds = list(model.state_dict()), [type(layer) for layer in model.modules()]
    report = recurra.accelerate(model)
    model.blocks[0].zoneout = 0.9
    assert not torch.equal(model(x, lengths), expected)
    report.undo()
    assert [type(layer) for layer in model.modules()] == kinds
    assert all(before[name] is layer for name, layer in model.named_modules())
    assert list(model.state_dict()) == names
    assert torch.equal(model(x, lengths), expected)
    assert "zoneout" not in vars(model.blocks[0])
    model.shared.__class__ = OnlyNamed  # whatever happens afterwards is not the report's any more
    report.undo()
    assert type(model.shared) is OnlyNamed


def test_a_with_block_undoes_it_also_after_an_error():
    model, _, _ = build()

    def fail():
        with recurra.accelerate(model) as report:
            assert len(report.swapped) == 3
            raise RuntimeError(type(model.shared).__module__)

    with pytest.raises(RuntimeError, match="recurra"):
        fail()
    assert type(model.shared) is nn.RNN


def test_the_model_may_be_the_layer_itself_or_have_none():
    layer = nn.LSTM(3, 4, proj_size=2)
    report = recurra.accelerate(layer)
    assert report.module is layer
    assert type(layer) is LSTM
    assert "  the module itself: LSTM(3, 4, proj_size=2): " in str(report)
    report.undo()
    assert type(layer) is nn.LSTM
    assert str(recurra.accelerate(nn.Linear(1, 1))) == "There is no recurrent layer in Linear."


@pytest.mark.parametrize("optimizer", [lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9), torch.optim.Adam])
def test_training_goes_on_as_if_nothing_had_happened(optimizer):
    torch.manual_seed(0)
    models = [nn.ModuleDict({"rnn": nn.GRU(3, 4, 2, batch_first=True), "head": nn.Linear(4, 1)})]
    models[0]["rnn"].bias_ih_l0.requires_grad_(False)
    models.append(copy.deepcopy(models[0]))
    steps = [optimizer(model.parameters()) for model in models]
    weights = list(models[1].parameters())
    batches = [(torch.randn(4, 6, 3), torch.randn(4, 1)) for _ in range(6)]
    report = None
    for number, (x, y) in enumerate(batches):
        if number == 2:
            report = recurra.accelerate(models[1])
        if number == 4:
            report.undo()
        for model, step in zip(models, steps, strict=True):
            step.zero_grad()
            (model["head"](model["rnn"](x)[0][:, -1]) - y).square().mean().backward()
            step.step()
    assert all(one is other for one, other in zip(weights, models[1].parameters(), strict=True))
    assert not models[1]["rnn"].bias_ih_l0.requires_grad
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        # A step of Adam divides by the gradient's own size, so that its rounding errors come out as large as themselves.
        torch.testing.assert_close(one, other, rtol=0, atol=CLOSE)


def test_hooks_flags_and_old_state_dicts_stay():
    model, x, lengths = build()
    seen = []
    model.shared.register_forward_hook(lambda *_: seen.append("forward"))
    model.shared.register_full_backward_hook(lambda *_: seen.append("backward"))
    saved = copy.deepcopy(model.state_dict())
    model.train()
    model.shared.eval()
    recurra.accelerate(model)
    assert model.blocks[0].training
    assert not model.shared.training
    model.zero_grad()
    model(x, lengths).sum().backward()
    assert seen.count("forward") == 2
    assert seen.count("backward") == 2
    with torch.no_grad():
        model.shared.weight_hh_l0.zero_()
    model.load_state_dict(saved)
    assert model.shared.weight_hh_l0.any()
    assert type(copy.deepcopy(model).blocks[1]) is GRU


def test_parametrized_layers_are_swapped_and_stay_parametrized():
    layer = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    expected, kind = layer(x)[0], type(layer)
    report = recurra.accelerate(layer)
    assert isinstance(layer, LSTM)
    assert parametrize.is_parametrized(layer, "weight_hh_l0")
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=CLOSE)
    assert "LSTM(3, 4)" in str(report)
    report.undo()
    assert type(layer) is kind
    assert torch.equal(layer(x)[0], expected)
    # Parametrizations that come or go while it is ours.
    report = recurra.accelerate(layer)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert type(layer) is LSTM
    report.undo()
    assert type(layer) is nn.LSTM
    report = recurra.accelerate(layer)
    parametrizations.weight_norm(layer, "weight_ih_l0")
    report.undo()
    assert not isinstance(layer, LSTM)
    assert isinstance(layer, nn.LSTM)
    assert parametrize.is_parametrized(layer, "weight_ih_l0")
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=CLOSE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_only_torch_runs_is_left_with_the_reason():
    replaced = nn.LSTM(3, 4)
    replaced.forward = lambda x: x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)), {nn.LSTM})
        script = torch.jit.script(nn.GRU(3, 4))
    model = nn.ModuleDict({"replaced": replaced, "quantized": quantized, "script": script, "base": nn.RNNBase("GRU", 3, 4)})
    report = recurra.accelerate(model)
    assert not report.swapped
    assert str(report).startswith("Recurra runs 0 of 4 recurrent layers of ModuleDict.\nLeft as they were:")
    reasons = {found.names[0]: found.reason for found in report.left}
    assert "forward was replaced on the object" in reasons["replaced"]
    assert "quantized" in reasons["quantized.0"]
    assert "compiled by torch.jit" in reasons["script"]
    assert "built on torch.nn.RNNBase" in reasons["base"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [[nn.LSTM(3, 4)], nn.LSTM], ids=["a list", "a class"])
def test_what_is_no_module_is_named(given):
    with pytest.raises(TypeError, match="accelerate takes a"):
        recurra.accelerate(given)
