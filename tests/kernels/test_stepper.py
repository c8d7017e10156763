"""Compiled steps against the recurrences: any sizes, streams, threads and instruction sets; states; what is refused."""

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import layer_norm

import catalogue
from recurra.cells.state import select
from recurra.errors import BackendUnavailable
from recurra.kernels import RecurrentNoise, RecurrentWeights, compiled, stepper
from recurra.kernels.state import map_state
from recurra.kernels.stepper import STEPPED, CompiledStepper, StepLayer

GATES = {"elman": 1, "elman_relu": 1, "lstm": 4, "gru": 3}
operations = pytest.mark.parametrize("operation", STEPPED)
needs_kernels = pytest.mark.skipif(compiled.UNAVAILABLE is not None, reason=f"compiled kernels: {compiled.UNAVAILABLE}")


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def make_weights(operation, features, hidden, *, seed=0, dtype=torch.float32):
    rows = GATES[operation] * hidden
    shapes = ((rows, features), (rows, hidden), (rows,), (rows,))
    return RecurrentWeights(*(draw(*shape, seed=seed + i, dtype=dtype) / hidden**0.5 for i, shape in enumerate(shapes)))


def make_layer(operation, features, hidden, **options):
    names = ("seed", "dtype")
    weights = make_weights(operation, features, hidden, **{name: options.pop(name) for name in names if name in options})
    return StepLayer(operation, weights, **options)


def recurrence(layer, x, state, *, backend):
    kernel = catalogue.KERNELS[layer.operation]
    noise = RecurrentNoise(zoneout=(layer.zoneout,) * len(state)) if layer.zoneout else None
    return kernel.function(x, state, layer.weights, noise=noise, backend=backend, **kernel.options)


def forward(layers, x, *, backend="reference"):
    """The layers over whole sequences: outputs, and the state of each."""
    states = []
    for layer in layers:
        fields = STEPPED[layer.operation]._fields
        hidden = layer.weights.w_hh.shape[1]
        start = layer.initial or [torch.zeros(hidden, dtype=x.dtype)] * len(fields)
        output, state = recurrence(layer, x, STEPPED[layer.operation](*(field.expand(len(x), -1) for field in start)), backend=backend)
        states.append(state)
        output = output + x if layer.residual else output
        x = layer_norm(output, (hidden,), *layer.norm, layer.norm_epsilon) if layer.norm else output
    return x, tuple(states)


def doubled(layers):
    def double(tensors):
        return tuple(tensor.double() for tensor in tensors)

    return [
        layer._replace(
            weights=map_state(torch.Tensor.double, layer.weights), initial=double(layer.initial), norm=layer.norm and double(layer.norm)
        )
        for layer in layers
    ]


def one_by_one(stepper, x):
    return torch.stack([stepper.step(x[:, t].contiguous()) for t in range(x.shape[1])], 1)


def assert_equal(mine, other):
    """To the last bit."""
    torch.testing.assert_close(mine, other, rtol=0, atol=0)


def make_deep(dtype=torch.float32):
    """Every option that a layer has."""
    options = {"dtype": dtype}
    return [
        make_layer("lstm", 5, 33, initial=(draw(33, seed=7, dtype=dtype), draw(33, seed=8, dtype=dtype)), zoneout=0.2, **options),
        make_layer("gru", 33, 33, residual=True, norm=(draw(33, seed=9, dtype=dtype), draw(33, seed=10, dtype=dtype)), seed=3, **options),
        make_layer("elman", 33, 70, norm=(draw(70, seed=11, dtype=dtype), draw(70, seed=12, dtype=dtype)), norm_epsilon=0.1, **options),
        make_layer("elman_relu", 70, 18, seed=5, **options),
    ]


@needs_kernels
@operations
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("features", "hidden"), [(1, 1), (7, 63), (100, 7), (16, 100)])
@pytest.mark.parametrize("streams", [1, 2, 7])
def test_steps_are_those_of_the_recurrence_to_the_last_bit(operation, dtype, features, hidden, streams):
    layer = make_layer(operation, features, hidden, dtype=dtype)
    x = draw(streams, 6, features, dtype=dtype, seed=4)
    expected, states = forward([layer], x, backend="cpu")
    many, single = CompiledStepper([layer], streams=streams), CompiledStepper([layer], streams=streams)
    assert_equal(many.run(x), expected)
    assert_equal(one_by_one(single, x), expected)
    for each in (many, single):
        assert_equal(each.snapshot(), states)


@needs_kernels
@pytest.mark.parametrize("name", compiled._cpu.instruction_sets() if compiled._cpu else ["none"])
def test_every_instruction_set_equals_the_reference(name, monkeypatch):
    before = compiled._cpu.instruction_set()
    compiled._cpu.use_instruction_set(name)
    try:
        layers = make_deep()
        steps = CompiledStepper(layers, streams=3)
    finally:
        compiled._cpu.use_instruction_set(before)
    x = draw(3, 40, 5, seed=20)
    mine, exact, rounded = steps.run(x), forward(doubled(layers), x.double())[0], forward(layers, x)[0]
    # As far off as the reference in the same precision, up to the luck of the order of sums and of other elementary functions.
    assert (mine - exact).abs().max() <= 4 * (rounded - exact).abs().max()


@needs_kernels
def test_float64_equals_the_reference():
    layers = make_deep(torch.float64)
    x = draw(3, 12, 5, dtype=torch.float64)
    mine = CompiledStepper(layers, streams=3).run(x)
    # Sums of up to 2**7 terms in another order, over 2**4 steps and four layers, one of them scaled up by its norm.
    torch.testing.assert_close(mine, forward(layers, x)[0], rtol=0, atol=2.0**-52 * 2.0**14)


@needs_kernels
def test_steps_chunks_streams_and_threads_change_no_bit():
    layers = make_deep()
    x = draw(5, 300, 5)  # longer than what is computed at a time
    whole = CompiledStepper(layers, streams=5).run(x)
    assert_equal(one_by_one(CompiledStepper(layers, streams=5), x), whole)
    chunked = CompiledStepper(layers, streams=5)
    assert_equal(torch.cat([chunked.run(part) for part in x.split([1, 0, 120, 2, 177], 1)], 1), whole)
    for row in range(5):
        assert_equal(CompiledStepper(layers).run(x[row : row + 1]), whole[row : row + 1])


@needs_kernels
def test_threads_change_no_bit():
    layers = [make_layer("gru", 40, 200), make_layer("lstm", 200, 200, residual=True)]
    x = draw(16, 6, 40)
    alone = CompiledStepper(layers, streams=16, threads=1)
    expected = alone.run(x)
    assert alone.threads == 1
    for threads in (2, 3, 5):
        helped = CompiledStepper(layers, streams=16, threads=threads)
        assert helped.threads == threads
        assert_equal(helped.run(x), expected)
        helped.reset()
        assert_equal(one_by_one(helped, x), expected)


def rounded(layers):
    """The layers with matrices as 16 bits hold them."""

    def half(matrix):
        return matrix.half().float()

    return [
        layer._replace(weights=layer.weights._replace(w_ih=half(layer.weights.w_ih), w_hh=half(layer.weights.w_hh))) for layer in layers
    ]


@needs_kernels
@operations
@pytest.mark.parametrize("scale", [1.0, 2.0**-14, 2.0**-22], ids=["usual", "about the least normal", "below the least normal"])
@pytest.mark.parametrize("streams", [1, 7])
@pytest.mark.parametrize("name", compiled._cpu.instruction_sets() if compiled._cpu else ["none"])
def test_half_weights_are_those_of_rounded_layers_to_the_last_bit(operation, scale, streams, name):
    made = make_layer(operation, 21, 37)
    layer = made._replace(weights=made.weights._replace(w_ih=made.weights.w_ih * scale, w_hh=made.weights.w_hh * scale))
    x = draw(streams, 6, 21, seed=4) / scale  # so that what is rounded away would be seen
    before = compiled._cpu.instruction_set()
    compiled._cpu.use_instruction_set(name)
    try:
        expected = CompiledStepper(rounded([layer]), streams=streams).run(x)
        many, single = (CompiledStepper([layer], streams=streams, half_weights=True) for _ in range(2))
    finally:
        compiled._cpu.use_instruction_set(before)
    assert_equal(many.run(x), expected)
    assert_equal(one_by_one(single, x), expected)
    assert not torch.equal(CompiledStepper([layer], streams=streams).run(x), expected)


@needs_kernels
def test_half_weights_with_every_option_tokens_and_threads():
    layers = make_deep()
    table = draw(11, 5, seed=2)
    tokens = torch.randint(11, (16, 8), generator=torch.Generator().manual_seed(0))
    expected = CompiledStepper(rounded(layers), streams=16).run(table[tokens])
    steps = CompiledStepper(layers, streams=16, embedding=table, half_weights=True)
    assert steps.folded
    assert steps.half_weights
    assert_equal(steps.run(tokens), expected)
    forked = steps.fork([3, 0])
    forked.reset()
    assert forked.half_weights
    assert_equal(forked.run(tokens[[3, 0]]), expected[[3, 0]])
    large = [make_layer("gru", 40, 200), make_layer("lstm", 200, 200, residual=True)]
    x = draw(16, 6, 40)
    helped = CompiledStepper(large, streams=16, threads=2, half_weights=True)
    assert helped.threads == 2
    helped.read_weights()
    assert_equal(one_by_one(helped, x), CompiledStepper(rounded(large), streams=16, threads=1).run(x))


@needs_kernels
def test_half_weights_round_to_the_even_one_of_two_that_are_equally_near():
    weights = make_weights("elman", 3, 2)
    ties = torch.tensor([[1 + 2.0**-11, 1 + 3 * 2.0**-11, 65504.0], [2.0**-25, 3 * 2.0**-25, -(2.0**-14) + 2.0**-25]])
    layer = StepLayer("elman", weights._replace(w_ih=ties))
    x = torch.eye(3)[None].repeat(2, 1, 1) * torch.tensor([2.0**-3, 2.0**20])[:, None, None]
    assert_equal(CompiledStepper([layer], streams=2, half_weights=True).run(x), CompiledStepper(rounded([layer]), streams=2).run(x))


@needs_kernels
def test_weights_that_16_bits_cannot_hold_are_refused():
    with pytest.raises(TypeError, match=r"of float32, not of torch.float64: leave half_weights out"):
        CompiledStepper([make_layer("gru", 3, 4, dtype=torch.float64)], half_weights=True)
    for wrong in (70_000.0, float("inf"), float("nan")):
        layer = make_layer("gru", 3, 4)
        layer.weights.w_hh[5, 2] = wrong
        with pytest.raises(ValueError, match=r"Layer 1's w_hh has a weight beyond 65,504"):
            CompiledStepper([make_layer("lstm", 2, 3), layer], half_weights=True)


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="os.sched_getaffinity: this system has none")
def test_a_helper_that_is_woken_keeps_away_from_the_callers_core():
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("a second core")
    steps = CompiledStepper([make_layer("lstm", 64, 256)], streams=16, threads=2)
    x = draw(16, 64)
    steps.step(x)
    time.sleep(0.1)  # it waits for a fifth of a millisecond, then it sleeps
    steps.step(x)
    others = [os.sched_getaffinity(int(thread.name)) for thread in Path("/proc/self/task").iterdir()]
    assert any(len(theirs) == len(cores) - 1 and theirs < cores for theirs in others)
    assert os.sched_getaffinity(0) == cores


@needs_kernels
def test_python_threads_step_at_once():
    layers = [make_layer("lstm", 40, 200)]
    inputs = [draw(16, 12, 40, seed=seed) for seed in range(3)]
    expected = [CompiledStepper(layers, streams=16, threads=1).run(x) for x in inputs]
    with ThreadPoolExecutor(3) as pool:  # one of them has the helpers, the others go on alone
        for _ in range(3):
            for mine, alone in zip(
                pool.map(lambda x: CompiledStepper(layers, streams=16, threads=2).run(x), inputs), expected, strict=True
            ):
                assert_equal(mine, alone)


@needs_kernels
def test_one_stepper_in_two_threads_is_refused():
    layers = [make_layer("lstm", 64, 256)]
    x = draw(8, 2_000, 64)  # a second of work, which gives the interpreter away
    expected = CompiledStepper(layers, streams=8, threads=1).run(x)
    shared = CompiledStepper(layers, streams=8, threads=1)
    copy = shared.fork(range(8))

    def until_refused():
        while not running.done():
            copy.read_weights()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(copy.run, x)
        with pytest.raises(RuntimeError, match="Another Python thread is in the middle of a step"):
            until_refused()
        shared.step(x[:, 0].contiguous())  # what is forked has a state of its own
        assert_equal(running.result(), expected)


@needs_kernels
@operations
@pytest.mark.parametrize("threads", [1, 2])
def test_reading_the_weights_changes_nothing(operation, threads):
    layers = [make_layer(operation, 100, 200), make_layer(operation, 200, 200)]
    x = draw(16, 4, 100)
    expected = CompiledStepper(layers, streams=16).run(x)
    steps = CompiledStepper(layers, streams=16, threads=threads)
    steps.read_weights()
    first = steps.run(x[:, :1])
    steps.read_weights()
    assert_equal(torch.cat([first, steps.run(x[:, 1:])], 1), expected)


@needs_kernels
@operations
def test_nan_stays_in_its_stream_and_leaves_with_a_reset(operation):
    layers = [make_layer(operation, 5, 9, zoneout=0.1, norm=(draw(9), draw(9))), make_layer(operation, 9, 9, residual=True)]
    x = draw(3, 6, 5)
    expected = CompiledStepper(layers, streams=3).run(x)
    spoiled = x.clone()
    spoiled[1, 2] = float("nan")
    steps = CompiledStepper(layers, streams=3)
    mine = steps.run(spoiled)
    assert_equal(mine[[0, 2]], expected[[0, 2]])
    assert mine[1, 2:].isnan().all()
    steps.reset()
    assert_equal(steps.run(x), expected)


@needs_kernels
def test_a_stepper_is_not_pickled():
    steps = CompiledStepper([make_layer("gru", 5, 9)])
    for copy in (pickle.dumps, deepcopy):
        with pytest.raises(TypeError, match="pickle"):
            copy(steps)


FORKED = """
import os, torch
from recurra.kernels import RecurrentWeights
from recurra.kernels.stepper import CompiledStepper, StepLayer
weights = RecurrentWeights(torch.ones(800, 40), torch.ones(800, 200), torch.ones(800), torch.ones(800))
steps = CompiledStepper([StepLayer("lstm", weights)], streams=16, threads=2)
x = torch.ones(16, 40)
steps.step(x)
child = os.fork()
if child == 0:
    os._exit(0 if steps.step(x).isfinite().all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork: this system has none")
def test_a_forked_process_steps_without_the_helpers_of_its_parent():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=60)


@needs_kernels
@operations
@pytest.mark.parametrize("residual", [False, True])
def test_tokens_equal_their_vectors_folded_or_not(operation, residual, monkeypatch):
    layers = [make_layer(operation, 20, 20, residual=residual), make_layer("gru", 20, 9)]
    table = draw(11, 20, seed=2)
    tokens = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
    expected = CompiledStepper(layers, streams=3).run(table[tokens])
    folded = CompiledStepper(layers, streams=3, embedding=table)
    assert folded.folded
    monkeypatch.setattr(stepper, "FOLDED_BYTES", 0)
    looked_up = CompiledStepper(layers, streams=3, embedding=table)
    assert not looked_up.folded
    for each in (folded, looked_up):
        assert_equal(each.run(tokens), expected)
        each.reset()
        assert_equal(each.run(tokens.numpy().astype(np.int32)), expected.numpy())
        each.reset()
        assert_equal(one_by_one(each, tokens), expected)
    for wrong in (torch.tensor([0, 11, 0]), torch.tensor([0, -1, 0])):
        with pytest.raises(IndexError, match="not in the embedding: its rows are 0 to 10"):
            folded.step(wrong)
    with pytest.raises(ValueError, match="whole numbers"):
        folded.step(torch.zeros(3))


@needs_kernels
def test_snapshots_forks_and_resets():
    layers = make_deep()
    x = draw(4, 30, 5, seed=1)
    steps = CompiledStepper(layers, streams=4)
    begin = steps.snapshot()
    for part, layer in zip(begin, layers, strict=True):
        assert_equal(tuple(part), tuple(field.expand(4, -1) for field in layer.initial or [torch.zeros(layer.sizes[1])] * len(part)))
    steps.run(x[:, :9])
    middle = steps.snapshot()
    expected = steps.run(x[:, 9:])
    steps.restore(middle)
    assert_equal(steps.run(x[:, 9:]), expected)
    steps.restore(middle)
    forked = steps.fork([3, 0, 3])
    assert_equal(forked.run(x[[3, 0, 3], 9:]), expected[[3, 0, 3]])
    assert_equal(steps.snapshot(), middle)  # a fork has a state of its own
    forked.reset([2])
    assert_equal(tuple(field[2] for part in forked.snapshot() for field in part), tuple(field[0] for part in begin for field in part))
    assert_equal(
        tuple(field[0] for part in forked.fork([0]).snapshot() for field in part),
        tuple(field[0] for part in forked.snapshot() for field in part),
    )
    steps.restore(select(middle, torch.tensor([3, 1])), rows=[0, 2])
    assert_equal(steps.snapshot(), select(middle, torch.tensor([3, 1, 1, 3])))
    steps.reset()
    assert_equal(steps.snapshot(), begin)
    with pytest.raises(IndexError, match="no stream 4"):
        steps.restore(select(middle, torch.tensor([3])), rows=[4])
    with pytest.raises(IndexError, match="no stream 4: they are 0 to 3"):
        steps.fork([0, 4])
    with pytest.raises(IndexError, match="no stream -1"):
        steps.reset([-1])
    with pytest.raises(ValueError, match="take a snapshot of the same layers"):
        steps.restore(forked.snapshot())
    with pytest.raises(ValueError, match="at least one stream"):
        steps.fork([])


@needs_kernels
def test_arrays_and_tensors_of_any_layout():
    layers = [make_layer("gru", 5, 9)]
    x = draw(2, 5, 7)
    expected = CompiledStepper(layers, streams=2).run(x.transpose(1, 2).contiguous())
    steps = CompiledStepper(layers, streams=2)
    forms = [x[:, :, 0], x[:, :, 1].double(), x[:, :, 2].numpy(), x[:, :, 3].contiguous().numpy(), x[:, :, 4].double().numpy()]
    forms += [x[:, :, 5].clone().requires_grad_(), x[:, :, 6].numpy().astype(">f4").astype(np.float64)]
    for t, form in enumerate(forms):
        output = steps.step(form)
        assert isinstance(output, torch.Tensor if isinstance(form, torch.Tensor) else np.ndarray)
        assert_equal(torch.as_tensor(output), expected[:, t])
    read_only = np.ones((2, 5), np.float32)
    read_only.flags.writeable = False
    steps.step(read_only)
    steps.reset()
    assert_equal(torch.from_numpy(steps.run(x.transpose(1, 2).double().numpy())), expected)


@needs_kernels
def test_outputs_go_where_they_are_wanted():
    steps = CompiledStepper([make_layer("gru", 5, 9)], streams=2)
    x = draw(2, 5)
    start = steps.snapshot()
    expected = steps.step(x)
    for given, out in ((x, torch.empty(2, 9)), (x.numpy(), np.empty((2, 9), np.float32))):
        steps.restore(start)
        assert steps.step(given, out=out) is out
        assert_equal(torch.as_tensor(out), expected)
    for given, out in ((x, torch.empty(9, 2).T), (x, torch.empty(2, 9).double()), (x.numpy(), np.empty((2, 8), np.float32))):
        with pytest.raises(ValueError, match=r"out must be contiguous .*float32 of shape \(2, 9\)"):
            steps.step(given, out=out)
    for given, out in ((x, np.empty((2, 9), np.float32)), (x.numpy(), torch.empty(2, 9))):
        with pytest.raises(ValueError, match="out must be what x is"):
            steps.step(given, out=out)
    memory = torch.zeros(40)
    given = memory[10:20].view(2, 5)
    for first in (0, 19):
        with pytest.raises(ValueError, match="out shares memory with x"):
            steps.step(given, out=memory[first : first + 18].view(2, 9))
    steps.step(given, out=memory[20:38].view(2, 9))
    locked = np.empty((2, 9), np.float32)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="out must be"):
        steps.step(x.numpy(), out=locked)


@needs_kernels
def test_what_does_not_fit_is_refused():
    steps = CompiledStepper([make_layer("gru", 5, 9)], streams=2)
    with pytest.raises(ValueError, match=r"of shape \(streams, features\) = \(2, 5\), not \(2, 6\)"):
        steps.step(torch.ones(2, 6))
    with pytest.raises(ValueError, match=r"of shape \(streams, steps, features\) = \(2, T, 5\), not \(3, 4, 5\)"):
        steps.run(np.ones((3, 4, 5)))
    with pytest.raises(ValueError, match=r"= \(2, T, 5\), not \(2,\)"):
        steps.run(torch.ones(2))
    good = make_layer("gru", 5, 9)
    for layers, message in (
        ([], "at least one layer"),
        ([good._replace(operation="slstm")], "no compiled steps of 'slstm'"),
        ([good, good], r"Layer 1's tensors must be of shapes \[\(27, 9\)"),
        ([good._replace(residual=True)], "reads 5 features and puts out 9"),
        ([make_layer("lstm", 5, 9, initial=(torch.zeros(9),))], r"starts with 2 tensors \(h, c\), not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            CompiledStepper(layers)
    with pytest.raises(ValueError, match="one stream"):
        CompiledStepper([good], streams=0)
    with pytest.raises(ValueError, match=r"embedding must be of shape \(V, 5\)"):
        CompiledStepper([good], embedding=torch.ones(3, 4))
    for wrong in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match="float32 or float64"):
            CompiledStepper([make_layer("gru", 5, 9, dtype=wrong)])
    with FakeTensorMode(), pytest.raises(TypeError, match="a FakeTensor has none"):
        CompiledStepper([make_layer("gru", 3, 4)])
    with pytest.raises(TypeError, match="Layer 1 must be of"):
        CompiledStepper([good, make_layer("gru", 9, 9, dtype=torch.float64)])


def test_without_compiled_kernels_it_says_why(monkeypatch):
    monkeypatch.setattr(compiled, "_cpu", None)
    monkeypatch.setattr(compiled, "UNAVAILABLE", "no compiler")
    with pytest.raises(BackendUnavailable, match="Compiled steps cannot run: no compiler"):
        CompiledStepper([make_layer("gru", 5, 9)])
