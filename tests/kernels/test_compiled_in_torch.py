"""The compiled kernels as torch operators: torch's own checks, derivatives of every order, torch.func, half precision, autocast."""

from dataclasses import replace

import pytest
import torch
from compiled_calls import EVERYTHING, OPERATIONS, assert_equal, compiled, draw_call, every_operation, random_weights, scattered
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacrev, vmap

import catalogue
from recurra.kernels.custom_op import recurrence
from recurra.layers import Stack

pytestmark = [compiled, pytest.mark.usefixtures("unchecked")]
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def operator_arguments(call, monkeypatch):
    """What the operator is given for a call."""
    found = []

    def record(*arguments):
        found.append(arguments)
        return recurrence(*arguments)

    monkeypatch.setattr("recurra.kernels.directions.recurrence", record)
    call.compute()
    return found[0]


@pytest.mark.parametrize(
    ("operation", "options", "apart"),
    [
        *((operation, (), False) for operation in OPERATIONS),
        *((operation, EVERYTHING, True) for operation in OPERATIONS),
        ("lstm", ("resets", "rates"), True),
    ],
)
@pytest.mark.usefixtures("unwritten_memory_is_nan")
def test_operators_keep_torchs_rules(operation, options, apart, monkeypatch):
    call = draw_call(operation, (2, 3, 2, 3), options=options)
    if apart:
        call = call.map(scattered, scattered)
    assert torch.empty(3).isnan().all()
    assert all(each.isfinite().all() for each in call.run())
    leaves = [tensor.requires_grad_() for tensor in call.numbers()]
    given = operator_arguments(call, monkeypatch)
    torch.library.opcheck(torch.ops.recurra.recurrence.default, given, test_utils=CHECKS)
    output, last, saved = (tensor.detach() for tensor in recurrence(*given))
    # Gradients as they come from a sum, and from elsewhere; without the input's, as for a first layer.
    upstream = torch.ones((), dtype=output.dtype).expand_as(output), scattered(last)
    backward = torch.ops.recurra.recurrence_backward.default
    again = (*given[:-1], output, saved, *upstream, not apart)
    torch.library.opcheck(backward, again, test_utils="test_autograd_registration")
    for leaf in leaves:
        leaf.requires_grad_(False)  # the second derivative is a long graph
    torch.library.opcheck(backward, again, test_utils=CHECKS)


@every_operation
@pytest.mark.parametrize("options", [EVERYTHING, ("lengths", "rates")], ids="+".join)
def test_derivatives_of_both_orders(operation, options):
    call = draw_call(operation, (2, 3, 2, 2), options=options)
    leaves = [tensor.requires_grad_() for tensor in call.numbers()]

    def function(*tensors):
        return tuple(call.put(tensors).compute())

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@every_operation
def test_third_derivatives_are_those_of_the_reference(operation):
    call = draw_call(operation, (2, 3, 2, 2), options=("lengths", "resets"))
    found = []
    for backend in ("cpu", "reference"):
        leaves = [tensor.clone().requires_grad_() for tensor in call.numbers()]
        results = call.put(leaves).compute(backend)
        value = sum((result * random_weights(number, result)).sum() for number, result in enumerate(results))
        derivatives = []
        for order in range(3):
            gradients = torch.autograd.grad(value, leaves, create_graph=order < 2, materialize_grads=True, allow_unused=True)
            derivatives += gradients
            value = sum((gradient.square() * random_weights(number, gradient)).sum() for number, gradient in enumerate(gradients))
        found.append(derivatives)
    assert any(gradient.any() for gradient in found[0][-len(leaves) :])
    for mine, right in zip(*found, strict=True):
        # Each order sums up to 2**6 products of numbers that grow by less than 2**4.
        torch.testing.assert_close(mine, right, rtol=2.0**-52 * 2**18, atol=2.0**-52 * 2**18)


@every_operation
def test_a_graph_can_be_gone_through_twice(operation):
    call = draw_call(operation, options=EVERYTHING, dtype=torch.float32)
    leaves = [tensor.requires_grad_() for tensor in call.numbers()]
    total = sum(result.sum() for result in call.compute())
    first = torch.autograd.grad(total, leaves, retain_graph=True)
    assert_equal(torch.autograd.grad(total, leaves, retain_graph=True), first)
    assert_equal(torch.autograd.grad(total, leaves, create_graph=True), first)


@every_operation
def test_a_change_of_what_the_gradient_reads_is_noticed(operation):
    call = draw_call(operation)
    leaves = [tensor.requires_grad_() for tensor in call.numbers()]
    output, *_ = call.compute()
    total = output.sum()
    with torch.no_grad():
        output.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(total, leaves)


@every_operation
def test_gradients_in_evaluation_mode(operation):
    torch.manual_seed(0)
    cell = catalogue.BUILT_IN[operation](3, 5, backend="cpu")
    x = torch.randn(4, 6, 3)
    found = []
    for mode in (True, False):
        cell.train(mode)
        found.append(torch.autograd.grad(cell(x)[0].sum(), list(cell.parameters())))
    assert_equal(*found)


@every_operation
def test_vmap_is_a_loop(operation):
    calls = [draw_call(operation, (3, 4, 2, 5), options=EVERYTHING, seed=seed) for seed in range(3)]
    first = calls[0]
    lengths = torch.stack([call.lengths for call in calls])

    def compute(lengths, *tensors):
        return tuple(replace(first.put(tensors), lengths=lengths).compute())

    stacked = [torch.stack(each) for each in zip(*(call.numbers() for call in calls), strict=True)]
    alone = zip(*(compute(call.lengths, *call.numbers()) for call in calls), strict=True)
    assert_equal(vmap(compute)(lengths, *stacked), [torch.stack(each) for each in alone])
    # Only the input mapped, over its last dimension, and one vmap inside another.
    rest = first.numbers()[1:]
    inputs = torch.stack([call.x for call in calls], -1)
    expected = torch.stack([compute(first.lengths, call.x, *rest)[0] for call in calls])
    assert torch.equal(vmap(lambda x: compute(first.lengths, x, *rest)[0], in_dims=-1)(inputs), expected)
    twice = vmap(vmap(lambda x: compute(first.lengths, x, *rest)[0]))(torch.stack([inputs.movedim(-1, 0)] * 2))
    assert torch.equal(twice, torch.stack([expected] * 2))


@every_operation
def test_gradients_by_torch_func(operation):
    call = draw_call(operation, (3, 4, 2, 3), options=EVERYTHING)
    rest = call.numbers()[1:]

    def loss(backend, *tensors):
        results = call.put(tensors).compute(backend)
        return sum((result * random_weights(number, result)).sum() for number, result in enumerate(results))

    places = tuple(range(1, 2 + len(rest)))
    assert_equal(grad(loss, places)("cpu", call.x, *rest), call.run()[-len(places) :])
    mine, right = (jacrev(jacrev(lambda x, backend=backend: loss(backend, x, *rest) ** 2))(call.x) for backend in ("cpu", "reference"))
    assert right.any()
    # Sums of up to 2**6 products of numbers that grow by less than 2**6.
    torch.testing.assert_close(mine, right, rtol=2.0**-52 * 2**12, atol=2.0**-52 * 2**12)


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_gradients_of_single_samples(cell):
    """As for differential privacy: one sample's gradients by all weights, without a loop in the user's code."""
    torch.manual_seed(0)
    stack = Stack(cell, 3, 4, layers=2, bidirectional=True)
    weights = {name: parameter.detach() for name, parameter in stack.named_parameters()}
    x, lengths = torch.randn(5, 6, 3), torch.tensor([6, 0, 3, 1, 6])

    def loss(weights, x, lengths):
        output, _ = functional_call(stack, weights, (x[None],), {"lengths": lengths[None]})
        return output.square().sum()

    together = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, lengths)
    for row in range(5):
        alone = torch.autograd.grad(loss(dict(stack.named_parameters()), x[row], lengths[row]), list(stack.parameters()))
        assert_equal([together[name][row] for name in weights], alone)


@halves
@every_operation
def test_half_precision_is_only_a_way_to_store_numbers(operation, dtype):
    call = draw_call(operation, (4, 9, 5, 20), options=EVERYTHING, dtype=torch.float32)
    half = call.to(dtype)
    wide = half.to(torch.float32)
    exact = [result.to(dtype) for result in wide.compute()]
    assert_equal(half.compute(), exact)
    found, right = half.run(), wide.run()
    for mine, other in zip(found, right, strict=True):
        assert mine.dtype == dtype
        # Weights of the results' sum, hidden states that the gradient reads again and what comes out are rounded: three times
        # half a last place, grown by up to 2**3 on the way back.
        assert (mine.float() - other).abs().max() <= 1.5 * 2**3 * torch.finfo(dtype).eps * other.abs().max()


@halves
@pytest.mark.parametrize("cell", ["elman", "elman_relu", "lstm", "gru"])
def test_a_model_in_half_precision_trains(cell, dtype):
    torch.manual_seed(0)
    stack = Stack(cell, 3, 16, layers=2, bidirectional=True, layer_norm=True).to(dtype)
    readout = nn.Linear(stack.output_size, 1).to(dtype)
    x = torch.randn(32, 9, 3, dtype=dtype)
    target = x.float().cumsum(1)[..., :1].tanh()
    optimizer = torch.optim.SGD([*stack.parameters(), *readout.parameters()], lr=0.03)
    losses = []
    for _ in range(30):
        output, state = stack(x, lengths=torch.arange(32) % 10)
        loss = (readout(output).float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert output.dtype == state[0][0].dtype == dtype
    assert losses[-1] < 0.8 * losses[0]


@halves
@pytest.mark.parametrize("cell", ["elman", "elman_relu", "lstm", "gru"])
def test_autocast_computes_the_recurrence_in_the_precision_of_its_weights(cell, dtype):
    torch.manual_seed(0)
    stack = Stack(cell, 3, 5, layers=2, bidirectional=True, backend="cpu")
    x, lengths = torch.randn(4, 6, 3), torch.tensor([6, 0, 3, 1])
    expected = torch.autograd.grad(stack(x, lengths=lengths)[0].square().sum(), list(stack.parameters()))
    with torch.autocast("cpu", dtype):
        output, _ = stack(x, lengths=lengths)
        assert output.dtype == torch.float32
        narrow, _ = stack(x.to(dtype), lengths=lengths)
        mixed = torch.nn.functional.linear(output, torch.eye(10))
    assert mixed.dtype == dtype
    assert torch.equal(narrow, stack(x.to(dtype).float(), lengths=lengths)[0])
    assert_equal(torch.autograd.grad(output.square().sum(), list(stack.parameters())), expected)


def test_zero_steps_and_rows_reach_the_operator_too(monkeypatch):
    """The recurrences return before it, but a graph with dynamic sizes does not."""
    call = draw_call("lstm", (2, 3, 3, 4), options=("resets",))
    operation, x, _, weights, states, resets, starts, *rest = operator_arguments(call, monkeypatch)
    for rows, steps in ((2, 0), (0, 3), (0, 0)):
        leaves = [each.clone().requires_grad_() for each in (x[:rows, :steps], *weights, *(each[:rows] for each in states))]
        x_cut, weights_cut, states_cut = leaves[0], leaves[1:9], leaves[9:]
        cut = [each[:rows, :steps] for each in resets], [each[:rows] for each in starts]
        output, last, _ = recurrence(operation, x_cut, None, weights_cut, states_cut, *cut, *rest[:-1], True)
        assert output.shape == (rows, steps, 8)
        assert_equal(list(last), states_cut)
        gradients = torch.autograd.grad(output.sum() + last.sum(), leaves)
        assert not any(gradient.any() for gradient in gradients[:9])
        assert all((gradient == 1).all() for gradient in gradients[9:])


# torch itself uses torch.jit.script, which it has deprecated, where it first differentiates forward.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
def test_a_backend_that_lacks_forward_mode_says_so():
    call = draw_call("lstm")

    def compute(x):
        return call.map(lambda tensor: x if tensor is call.x else tensor).compute()[0]

    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(compute, (call.x,), (call.x,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        compute(forward_ad.make_dual(call.x, call.x))


class Watched(torch.Tensor):
    """A tensor of a user's own class."""


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_past_the_dispatcher_and_through_it_come_the_same_bits(needs_gradient):
    call = draw_call("lstm", options=EVERYTHING, dtype=torch.float32)
    call = call.map(lambda tensor: tensor.clone().requires_grad_(needs_gradient))

    def results(call):
        found = call.compute()
        return found + list(torch.autograd.grad(sum(each.sum() for each in found), call.numbers())) if needs_gradient else found

    with torch.profiler.profile() as profile:
        expected = results(call)
    assert "recurra::recurrence" in {event.name for event in profile.events()}
    assert_equal(results(call), expected)
    with torch.device("cpu"):
        assert_equal(results(call), expected)
    assert_equal(results(call.map(lambda tensor: tensor.as_subclass(Watched))), expected)
    # What lies in memory has a mark that says it is negative, as the imaginary part of a conjugate has.
    marked = call.map(lambda tensor: torch._neg_view(-tensor.detach()).requires_grad_(needs_gradient))
    assert marked.x.is_neg()
    assert_equal(results(marked), expected)


def test_inference_mode_computes_the_same():
    call = draw_call("gru", dtype=torch.float32)
    with torch.inference_mode():
        found = call.compute()
        assert_equal(call.to(torch.float64).to(torch.float32).compute(), found)
    assert_equal(call.compute(), found)
