"""PyTorch's own samples and wrong inputs for LSTM, GRU and RNN (those that its wheel carries), on the drop-in classes."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
from torch.utils._pytree import tree_leaves, tree_map

from recurra.layers import GRU, LSTM, RNN
from recurra.testing.rounding import assert_rounds_like

OURS = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
INFOS = {info.module_cls: info for info in module_db if info.module_cls in OURS}


def samples(function, dtype, requires_grad):
    """PyTorch's samples of all three layers: (info, sample)."""
    torch.manual_seed(0)
    return [
        (info, sample)
        for info in INFOS.values()
        for sample in getattr(info, function)(info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=True)
    ]


def names(function):
    return [f"{info.name}-{number}" for number, (info, _) in enumerate(samples(function, torch.float64, requires_grad=False))]


SAMPLES, WRONG = names("module_inputs_func"), names("module_error_inputs_func")


def both(info, sample, dtype):
    """The layer of torch and ours, of the same weights."""
    torch.manual_seed(1)
    theirs = info.module_cls(*sample.constructor_input.args, **sample.constructor_input.kwargs).to(dtype)
    ours = OURS[info.module_cls](*sample.constructor_input.args, **sample.constructor_input.kwargs).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def leaves(tree):
    """The floating-point tensors of arguments or results."""
    found = [leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in tree_leaves(tree)]
    return [leaf for leaf in found if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def run(layer, arguments):
    """Results, and the gradients of a fixed sum of them by every input and weight."""
    results = leaves(layer(*arguments.args, **arguments.kwargs))
    generator = torch.Generator().manual_seed(2)
    total = sum((one * torch.randn(one.shape, generator=generator, dtype=torch.float64).to(one.dtype)).sum() for one in results)
    inputs = [leaf for leaf in leaves((arguments.args, arguments.kwargs)) if leaf.requires_grad]
    return [*results, *torch.autograd.grad(total, [*inputs, *layer.parameters()])]


def test_there_are_samples_of_every_layer():
    assert set(INFOS) == set(OURS)
    assert len(SAMPLES) >= 80
    assert len(WRONG) >= 42


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch about itself
@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=SAMPLES)
def test_values_and_gradients_are_those_of_torch(number):
    info, sample = samples("module_inputs_func", torch.float64, requires_grad=True)[number]
    theirs, ours = both(info, sample, torch.float64)
    exact = run(theirs, sample.forward_input)
    # Sums of up to 2**4 terms in another order, over 2**3 steps of 2 layers, grown by up to 2**5 on the way back.
    for mine, other in zip(run(ours, sample.forward_input), exact, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2.0**-52 * 2.0**13)
    # In float32 about as far from float64 as torch itself.
    info, sample = samples("module_inputs_func", torch.float32, requires_grad=True)[number]
    short = [layer.to(torch.float32) for layer in (theirs, ours)]
    exact = run(copy.deepcopy(theirs).double(), as_double(sample.forward_input))
    assert_rounds_like(run(short[1], sample.forward_input), run(short[0], sample.forward_input), exact)


def as_double(arguments):
    """The same arguments in float64."""

    def change(leaf):
        return leaf.detach().double().requires_grad_() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    return type(arguments)(*tree_map(change, arguments.args), **tree_map(change, arguments.kwargs))


@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=SAMPLES)
def test_one_sequence_is_a_batch_of_one(number):
    info, sample = samples("module_inputs_func", torch.float64, requires_grad=False)[number]
    _, ours = both(info, sample, torch.float64)
    expected = leaves(sample.reference_fn(ours, *sample.forward_input.args, **sample.forward_input.kwargs))
    for mine, other in zip(leaves(ours(*sample.forward_input.args)), expected, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("number", range(0, len(SAMPLES), 5), ids=SAMPLES[::5])
def test_first_and_second_derivatives_are_right(number):
    info, sample = samples("module_inputs_func", torch.float64, requires_grad=True)[number]
    _, ours = both(info, sample, torch.float64)
    arguments = sample.forward_input.args
    given = leaves(arguments)
    weights = dict(ours.named_parameters())

    def function(*values):
        fresh = iter(values)
        inputs = tree_map(lambda leaf: next(fresh), arguments)
        return tuple(leaves(torch.func.functional_call(ours, dict(zip(weights, fresh, strict=True)), inputs)))

    assert torch.autograd.gradcheck(function, (*given, *weights.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (*given, *weights.values()), fast_mode=True)


@pytest.mark.parametrize("number", range(0, len(SAMPLES), 5), ids=SAMPLES[::5])
def test_a_layer_survives_pickle_and_takes_tensors_that_are_not_contiguous(number):
    info, sample = samples("module_inputs_func", torch.float64, requires_grad=False)[number]
    _, ours = both(info, sample, torch.float64)
    expected = leaves(ours(*sample.forward_input.args))
    again = pickle.loads(pickle.dumps(ours))
    wide = tree_map(lambda leaf: torch.stack([leaf, leaf + 1], -1)[..., 0], sample.forward_input.args)
    assert not leaves(wide)[0].is_contiguous()
    for mine, copied, other in zip(leaves(ours(*wide)), leaves(again(*sample.forward_input.args)), expected, strict=True):
        assert torch.equal(copied, other)
        torch.testing.assert_close(mine, other, rtol=0, atol=2.0**-52 * 2.0**10)


@pytest.mark.parametrize("number", range(len(WRONG)), ids=WRONG)
def test_wrong_inputs_raise_what_torch_raises(number):
    info, wrong = samples("module_error_inputs_func", torch.float32, requires_grad=False)[number]
    given = wrong.module_error_input
    kind = OURS[info.module_cls]
    if wrong.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
        # As a user has it: without the check of annotations that tests switch on, which would speak first.
        constructor = inspect.unwrap(kind.__init__)
        with pytest.raises(wrong.error_type, match=wrong.error_regex):
            constructor(kind.__new__(kind), *given.constructor_input.args, **given.constructor_input.kwargs)
        return
    layer = kind(*given.constructor_input.args, **given.constructor_input.kwargs)
    with pytest.raises(wrong.error_type, match=wrong.error_regex):
        layer(*given.forward_input.args, **given.forward_input.kwargs)
