"""torch.compile, torch.export and torch.func on cells, stacks and the layers in torch's place: one graph for every size, right values."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim
from torch.func import functional_call, grad, vmap

from recurra.cells import GRUCell, LSTMCell, MinGRUCell
from recurra.kernels.compiled import UNAVAILABLE
from recurra.layers import GRU, LSTM, Regularization, Stack

pytestmark = [pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE)), pytest.mark.usefixtures("unchecked", "fresh_compiler")]
MODELS = {
    "LSTM cell": lambda: LSTMCell(3, 4),
    "GRU cell": lambda: GRUCell(3, 4),
    "minimal GRU cell": lambda: MinGRUCell(3, 4),
    "LSTM stack": lambda: Stack("lstm", 3, 4, layers=2, bidirectional=True),
    "GRU stack": lambda: Stack("gru", 3, 4, layers=2, bidirectional=True, residual=True, layer_norm=True),
}
IN_PLACE = {
    "LSTM in torch's place": lambda: LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "GRU in torch's place": lambda: GRU(3, 4, bidirectional=True, batch_first=True),
}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
all_models = pytest.mark.parametrize("make", [*MODELS.values(), *IN_PLACE.values()], ids=[*MODELS, *IN_PLACE])
SIZES = [(2, 3), (4, 5), (3, 7), (6, 2), (5, 11), (2, 4), (8, 9), (7, 3), (9, 8), (2, 20), (11, 2), (3, 3)]


@pytest.fixture
def fresh_compiler():
    """Nothing compiled before counts."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def draw(rows, steps):
    """Inputs, with NaN in the padding, and lengths, the first one zero."""
    generator = torch.Generator().manual_seed(100 * rows + steps)
    x, lengths = torch.randn(rows, steps, 3, generator=generator), torch.randint(0, steps + 1, (rows,), generator=generator)
    lengths[0] = 0
    return x.masked_fill((torch.arange(steps) >= lengths[:, None])[..., None], torch.nan), lengths


def same(mine, others):
    found, expected = (torch.utils._pytree.tree_leaves(each) for each in (mine, others))
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@models
@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_two_graphs_without_a_break_serve_all_sizes(make, training):
    torch.manual_seed(0)
    model, counter = make(), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for rows, steps in SIZES:
        x, lengths = draw(rows, steps)
        with torch.set_grad_enabled(training):
            mine, expected = compiled(x, lengths=lengths), model(x, lengths=lengths)
        assert same(mine, expected)
        if training:
            gradients = [torch.autograd.grad(output.square().sum(), list(model.parameters())) for output, _ in (mine, expected)]
            assert same(*gradients)
    # One for the first size, one for all others.
    assert counter.frame_count == 2


def test_noise_is_compiled_into_the_graph_and_drawn_anew_at_each_call():
    torch.manual_seed(0)
    noise = Regularization(input=0.2, between=0.2, recurrent=0.2, weight=0.2, zoneout=0.2)
    model, counter = Stack("lstm", 3, 4, layers=2, regularization=noise), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for rows, steps in SIZES:
        x = torch.randn(rows, steps, 3)
        first, second = compiled(x)[0], compiled(x)[0]
        assert not torch.equal(first, second)
        gradients = torch.autograd.grad(first.square().sum(), list(model.parameters()))
        assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    assert counter.frame_count == 2


UNCHECKED = """
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from recurra.layers import GRU, LSTM, Stack

def count(model, sizes):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for rows, steps in sizes:
        x, lengths = torch.randn(rows, steps, 3), torch.randint(0, steps + 1, (rows,))
        outputs = [each(x, lengths=lengths)[0] for each in (compiled, model)]
        gradients = [torch.autograd.grad(output.square().sum(), list(model.parameters())) for output in outputs]
        assert all(map(torch.equal, [outputs[0], *gradients[0]], [outputs[1], *gradients[1]])), (rows, steps)
    return counter.frame_count

torch.manual_seed(0)
print(count(Stack("lstm", 3, 4, bidirectional=True), [*SIZES[:3], (1, 6), (3, 1), (1, 9), (7, 1), *SIZES[3:]]))
torch._dynamo.config.allow_rnn = True
print(count(LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True), SIZES))
print(count(GRU(3, 4, bidirectional=True, batch_first=True, learn_initial_state=True), SIZES))
"""


def test_compilation_that_the_check_of_annotations_would_break():
    """In a process of its own, without the check that the tests switch on: single rows and steps, and layers in torch's place.

    torch compiles apart for a size of one, which it could read as broadcasting; no other size adds a graph. It leaves out every
    layer of its own three recurrent classes, and so those in their place, unless `allow_rnn` is set.
    """
    command = [sys.executable, "-W", "ignore", "-c", f"SIZES = {SIZES}\n{UNCHECKED}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.stdout.split() == ["4", "2", "2"], run.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler, which inductor needs")
# torch's own modules that inductor imports use what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
def test_inductor_runs_the_same_kernels():
    torch.manual_seed(0)
    model = Stack("gru", 3, 4, bidirectional=True)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for rows, steps in SIZES[:3]:
        x, lengths = draw(rows, steps)
        (mine, _), (expected, _) = compiled(x, lengths=lengths), model(x, lengths=lengths)
        gradients = [torch.autograd.grad(output.sum(), list(model.parameters())) for output in (mine, expected)]
        assert same((mine, gradients[0]), (expected, gradients[1]))


def export(model, rows, steps):
    x, lengths = draw(rows, steps)
    row, step = Dim("row", min=2, max=4096), Dim("step", min=2, max=4096)
    shapes = {"x": {0: row, 1: step}, "lengths": {0: row}}
    return torch.export.export(Named(model), (x, lengths), dynamic_shapes=shapes)


class Named(nn.Module):
    """A model with one name for its input, whatever its class calls it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, lengths):
        return self.model(x, lengths=lengths)


@all_models
def test_an_exported_program_takes_every_size(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    short, long = export(model, 3, 5), export(model, 4, 50)
    assert len(short.graph.nodes) == len(long.graph.nodes)
    assert any("recurra" in str(node.target) for node in short.graph.nodes)
    torch.export.save(short, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    for rows, steps in SIZES:
        given = draw(rows, steps)
        expected = model(given[0], lengths=given[1])
        assert same(loaded(*given), expected)
        assert same(long.module()(*given), expected)


def test_resets_of_both_directions_are_exported_for_any_number_of_steps():
    model = Stack("lstm", 3, 4, bidirectional=True).eval()
    sizes = {0: Dim("row", min=2, max=4096), 1: Dim("step", min=2, max=4096)}
    given = [(torch.randn(rows, steps, 3), torch.rand(rows, steps) < 0.5) for rows, steps in ((3, 5), (4, 2), (2, 9))]
    shapes = {"x": sizes, "reset": sizes}
    program = torch.export.export(model, given[0][:1], {"reset": given[0][1]}, dynamic_shapes=shapes).module()
    for x, reset in given:
        assert same(program(x, reset=reset), model(x, reset=reset))


def test_a_single_step_is_exported_for_any_number_of_rows():
    """Few rows run in plain PyTorch and many in the kernels: a graph does not ask how many there are."""
    model = Stack("lstm", 3, 4).eval()
    program = torch.export.export(model, (torch.randn(64, 1, 3),), dynamic_shapes=({0: Dim("row", min=2, max=4096)},)).module()
    for rows in (5, 64):
        x = torch.randn(rows, 1, 3)
        torch.testing.assert_close(program(x)[0], model(x)[0])


@pytest.mark.parametrize("make", IN_PLACE.values(), ids=IN_PLACE)
def test_a_layer_in_torchs_place_is_exported_for_any_number_of_steps_without_lengths(make):
    model, shapes = make().eval(), ({0: Dim("row", min=2, max=4096), 1: Dim("step", min=2, max=4096)},)
    short, long = (torch.export.export(model, (torch.randn(3, steps, 3),), dynamic_shapes=shapes) for steps in (5, 50))
    assert len(short.graph.nodes) == len(long.graph.nodes)
    x = torch.randn(7, 9, 3)
    assert same(short.module()(x), model(x))


@all_models
def test_gradients_of_single_samples(make):
    """As for differential privacy: one sample's gradients by all weights, without a loop in the user's code."""
    torch.manual_seed(0)
    model = make()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    x, lengths = draw(5, 6)

    def loss(weights, x, lengths):
        output, _ = functional_call(model, weights, (x[None],), {"lengths": lengths[None]})
        return output.square().sum()

    together = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, lengths)
    for row in range(5):
        alone = torch.autograd.grad(loss(dict(model.named_parameters()), x[row], lengths[row]), list(model.parameters()))
        for name, right in zip(weights, alone, strict=True):
            # Only torch's layer norm rounds otherwise for several rows; its errors are sums of up to 2**5 terms.
            torch.testing.assert_close(together[name][row], right, rtol=2.0**-23 * 2**5, atol=2.0**-23 * 2**5 * float(right.abs().max()))


@all_models
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_trains(make, dtype):
    torch.manual_seed(0)
    model, readout = make(), nn.LazyLinear(1)
    x, lengths = draw(5, 6)
    model(x, lengths=lengths)
    with torch.autocast("cpu", dtype):
        output, _ = model(x, lengths=lengths)
        loss = readout(output).float().square().mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert readout.weight.dtype == torch.float32
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    # Inputs and gates are rounded to at most 8 bits, and six steps of both layers add up what comes of it.
    assert (output.float() - model(x, lengths=lengths)[0]).abs().max() <= torch.finfo(dtype).eps * 2**5
