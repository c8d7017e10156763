"""The compiled kernels against the reference: values and gradients of every option, size and precision, and the same bits always."""

import mmap
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compiled_calls import EVERYTHING, OPTIONS, assert_equal, assert_exact, compiled, draw_call, every_operation, random_weights, scattered

from recurra.kernels import RecurrentNoise, Resets
from recurra.kernels.compiled import Arguments, run_forward, saved_width
from recurra.testing.rounding import assert_rounds_like

pytestmark = compiled
NO_RESERVE = 0x4000
"""Linux's MAP_NORESERVE, which `mmap` has from Python 3.13 on."""
every_size = pytest.mark.parametrize("hidden", [1, 7, 63, 100])


@every_operation
@every_size
@pytest.mark.parametrize("options", [(), *((option,) for option in OPTIONS), EVERYTHING, (*EVERYTHING[:3], "rates")], ids="+".join)
def test_values_and_gradients_are_those_of_the_reference(operation, hidden, options):
    call = draw_call(operation, (6, 7, hidden // 2 + 1, hidden), options=options)
    exact = call.run("reference")
    assert_exact(call.run(), exact, call)
    single = call.to(torch.float32)
    assert_rounds_like(single.run(), single.run("reference"), exact)


@every_operation
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 40, 5, 9), (40, 1, 5, 9), (2, 3, 70, 2), (70, 5, 1, 33), (3, 200, 2, 5)], ids=str)
def test_shapes_of_every_kind(operation, sizes):
    call = draw_call(operation, sizes, options=("lengths",))
    exact = call.run("reference")
    assert_exact(call.run(), exact, call)
    single = call.to(torch.float32)
    assert_rounds_like(single.run(), single.run("reference"), exact)


@every_operation
@pytest.mark.parametrize("lengths", [[0] * 6, [7] * 6, [0, 0, 3, 0, 0, 0], [1, 2, 3, 4, 5, 6], [7, 0, 7, 0, 7, 0]], ids=str)
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16], ids=str)
def test_lengths_of_every_kind(operation, lengths, kind):
    call = replace(draw_call(operation, options=EVERYTHING), lengths=torch.tensor(lengths, dtype=kind))
    found = call.run()
    assert_exact(found, call.run("reference"), call)
    output, *last = found[: -len(call.numbers())]
    assert not output[torch.arange(7) >= call.lengths[:, None]].any()
    before = [field for each in call.directions for field in each.state]
    for row in (call.lengths == 0).nonzero().flatten():
        assert_equal([field[row] for field in last], [field[row] for field in before])


@every_operation
@pytest.mark.parametrize("options", [(), EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_both_directions_at_once_are_two_calls(operation, options, dtype):
    call = draw_call(operation, (5, 9, 6, 21), options=options, dtype=dtype)
    fields = len(call.directions[0].state)
    output, *rest = call.run()
    width = output.shape[2] // 2
    upstream = [random_weights(number, result) for number, result in enumerate([output, *rest[: 2 * fields]])]
    gradient = torch.zeros_like(call.x)
    for number in range(2):
        units, mine = slice(number * width, (number + 1) * width), slice(number * fields, (number + 1) * fields)
        weights = [upstream[0][:, :, units], *upstream[1:][mine]]
        alone, results = call.alone(number), call.alone(number).run(weigh=lambda result, _, weights=weights: weights[result])
        gradient += results[1 + fields]
        assert torch.equal(results[0], output[:, :, units])
        assert_equal(results[1 : 1 + fields], rest[mine])
        count = len(alone.numbers()) - 1
        assert_equal(results[2 + fields :], rest[2 * fields + 1 :][number * count : (number + 1) * count])
    # The gradients of the input are added inside the sums over the gates of the second direction: 4 * 21 more roundings.
    assert (gradient - rest[2 * fields]).abs().max() <= 84 * torch.finfo(dtype).eps * gradient.abs().max()


@every_operation
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_padding_means_nothing_to_a_single_bit(operation, poison):
    call = draw_call(operation, options=EVERYTHING)
    padding = (torch.arange(7) >= call.lengths[:, None])[..., None]

    def spoil(tensor):
        return tensor.masked_fill(padding, poison) if tensor.ndim == 3 else tensor

    clean = call.run(weigh=lambda *_: 1.0)
    assert all(result.isfinite().all() for result in clean)
    spoilt = call.map(spoil, spoil)
    for each in spoilt.directions:
        each.resets.where.logical_or_(padding[..., 0])
    # What a loss makes of the padding means nothing either: its gradient there is the poison.
    assert_equal(spoilt.run(weigh=lambda _, result: spoil(torch.ones_like(result))), clean)


@every_operation
def test_no_row_and_no_reset_lets_a_nan_through(operation):
    call = draw_call(operation, options=("resets",))
    for each in call.directions:
        each.resets.where[:] = False
        each.resets.where[0, 4] = True
    clean = call.compute()
    call.x[0, 3] = float("nan")
    output, *_ = call.compute()
    width = output.shape[2] // 2
    assert torch.equal(output[1:], clean[0][1:])
    # Forward: the state is new at step 4. Backward: the reset at step 4 is before the NaN, which reaches all that is read after it.
    assert output[0, 3, :width].isnan().all()
    assert torch.equal(output[0, 4:, :width], clean[0][0, 4:, :width])
    assert output[0, :4, width:].isnan().all()


@every_operation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tensors_may_lie_anywhere(operation, dtype):
    call = draw_call(operation, (5, 6, 4, 21), options=EVERYTHING, dtype=dtype)
    expected = call.run()
    moved = call.map(scattered, scattered)
    assert not any(tensor.is_contiguous() for tensor in moved.numbers() if tensor.numel() > 1)
    leaves = [tensor.requires_grad_() for tensor in moved.numbers()]
    results = moved.compute()
    upstream = [scattered(random_weights(number, result)) for number, result in enumerate(results)]
    assert_equal([*results, *torch.autograd.grad(results, leaves, upstream)], expected)
    # Rows and steps far apart, and batch second, as torch's layers have it.
    for x in (
        torch.cat([call.x, call.x], 2)[:, :, :4],
        call.x.transpose(0, 1).contiguous().transpose(0, 1),
        call.x.flip(1).flip(1)[:, :, :],
    ):
        assert_equal(
            call.map(lambda tensor, x=x: x if tensor is call.x else tensor).compute(),
            expected[: 1 + 2 * len(call.directions[0].state)],
        )


@pytest.mark.skipif(sys.platform != "linux", reason="MAP_NORESERVE: memory that is only an address until it is written is Linux's")
@every_operation
def test_rows_may_lie_further_apart_than_32_bits_count(operation):
    def far(tensor):
        if tensor.ndim < 3:
            return tensor.clone()
        rows, steps, width = tensor.shape
        between = 2**31 // (rows - 1) + 1
        memory = mmap.mmap(
            -1, (between * (rows - 1) + steps * width) * tensor.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        )
        there = torch.frombuffer(memory, dtype=tensor.dtype).as_strided(tensor.shape, (between, width, 1))
        return there.copy_(tensor.detach())

    call = draw_call(operation, (3, 5, 4, 21), options=EVERYTHING, dtype=torch.float32)
    assert_equal(call.run(lay=far), call.run())


@every_operation
def test_expanded_states_and_gradients(operation):
    """A learned start is one row for all, and the gradient of a sum is one number for all."""
    call = draw_call(operation, (5, 6, 3, 7))
    found = []
    for spread in (lambda row: row.expand(5, -1), lambda row: row.repeat(5, 1)):
        leaves = [field[:1].clone().requires_grad_() for each in call.directions for field in each.state]
        rows = iter(leaves)
        directions = tuple(each._replace(state=type(each.state)(*(spread(next(rows)) for _ in each.state))) for each in call.directions)
        results = replace(call, directions=directions).compute()
        found.append(torch.autograd.grad(sum(result.sum() for result in results), leaves))
    assert_equal(*found)


@every_operation
def test_masks_for_several_rows_or_steps_are_spread_as_the_reference_does(operation):
    call = draw_call(operation, options=("dropout", "zones"))

    def thin(tensor):
        return tensor[:1] if tensor.ndim == 2 else tensor[:, :1]

    thinned = call.map(lambda tensor: tensor, thin)
    assert_exact(thinned.run(), call.map(lambda tensor: tensor, lambda tensor: thin(tensor).expand_as(tensor)).run("reference"), call)
    if operation == "lstm":  # a rate beside a mask
        first = tuple(each._replace(noise=each.noise._replace(zoneout=(each.noise.zoneout[0], 0.5))) for each in call.directions)
        mixed = replace(call, directions=first)
        assert_exact(mixed.run(), mixed.run("reference"), mixed)


@every_operation
def test_directions_with_other_options_are_not_mixed_up(operation):
    everything, plain = draw_call(operation, options=EVERYTHING), draw_call(operation, options=("lengths",), seed=1)
    for first, second in ((everything, plain), (plain, everything)):
        mixed = replace(plain, directions=(first.directions[0], second.directions[1]))
        assert_exact(mixed.run(), mixed.run("reference"), mixed)


@every_operation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits_depend_neither_on_the_run_nor_on_the_threads(operation, dtype):
    threads = torch.get_num_threads()
    try:
        # Large enough for several threads, with rows and gates that no number of them divides.
        for sizes, options in (((7, 31, 40, 45), EVERYTHING), ((1, 90, 40, 45), ("rates",)), ((23, 12, 40, 45), ())):
            call = draw_call(operation, sizes, options=options, dtype=dtype)
            torch.set_num_threads(1)
            expected = call.run()
            assert_equal(call.run(), expected)
            for number in (2, 3, 5):
                torch.set_num_threads(number)
                assert_equal(call.run(), expected)
                with torch.no_grad():
                    assert_equal(call.compute(), expected[: len(expected) - len(call.numbers())])
    finally:
        torch.set_num_threads(threads)


@every_operation
@pytest.mark.parametrize("options", [(), EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("others", [0, 1, 23], ids=lambda number: f"{number} others")
def test_rows_that_begin_at_zero(operation, options, others):
    # A thread whose rows all do leaves the first recurrent product out.
    call = draw_call(operation, (23, 12, 40, 45), options=options)
    for each in call.directions:
        each.state.h[others:] = 0
    single, threads = call.to(torch.float32), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        found = single.run()
        torch.set_num_threads(3)
        assert_equal(single.run(), found)
    finally:
        torch.set_num_threads(threads)
    assert_rounds_like(found, single.run("reference"), call.run("reference"))


@every_operation
def test_bits_do_not_depend_on_what_is_saved_or_asked_for(operation):
    call = draw_call(operation, options=EVERYTHING, dtype=torch.float32)
    expected = call.run()
    with torch.no_grad():
        assert_equal(call.compute(), expected[: len(expected) - len(call.numbers())])
    everything = expected[-len(call.numbers()) :]
    for wanted in range(len(everything)):
        twin = call.map(lambda tensor: tensor.clone())
        leaf = twin.numbers()[wanted].requires_grad_()
        results = twin.compute()
        upstream = [random_weights(number, result) for number, result in enumerate(results)]
        assert torch.equal(torch.autograd.grad(results, leaf, upstream)[0], everything[wanted])


@every_operation
def test_one_result_alone_has_gradients(operation):
    call = draw_call(operation, options=("lengths",))
    for wanted in range(len(call.compute())):
        found = [call.run(backend, lambda number, _, wanted=wanted: float(number == wanted)) for backend in ("cpu", "reference")]
        assert_exact(*found, call)


@every_operation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_masks_of_truth_values_are_masks_of_numbers(operation, dtype):
    from recurra.kernels import _cpu

    chosen = _cpu.instruction_set()
    try:
        for name in _cpu.instruction_sets():
            _cpu.use_instruction_set(name)
            for size in (1, 7, 21, 40):
                call = draw_call(operation, (5, 9, size, size), options=("lengths", "zones"), dtype=dtype)
                assert_equal(call.map(lambda tensor: tensor, lambda tensor: tensor.bool()).run(), call.run())
    finally:
        _cpu.use_instruction_set(chosen)


@every_operation
def test_every_instruction_set_is_right(operation):
    from recurra.kernels import _cpu

    chosen = _cpu.instruction_set()
    calls = [draw_call(operation, (5, 9, size, size), options=EVERYTHING) for size in (1, 7, 21, 40)]
    exact = [call.run("reference") for call in calls]
    assert "baseline" in _cpu.instruction_sets()
    try:
        for name in _cpu.instruction_sets():
            _cpu.use_instruction_set(name)
            for call, right in zip(calls, exact, strict=True):
                assert_exact(call.run(), right, call)
                single = call.to(torch.float32)
                assert_rounds_like(single.run(), single.run("reference"), right)
    finally:
        _cpu.use_instruction_set(chosen)
    with pytest.raises(ValueError, match="no instruction set sse9"):
        _cpu.use_instruction_set("sse9")


def test_what_one_instruction_set_saved_is_of_no_use_to_another():
    """Its vectors are of another width: the gradient computes it again."""
    from recurra.kernels import _cpu

    chosen = _cpu.instruction_set()
    call = draw_call("gru", (5, 9, 3, 21))
    twin = call.map(lambda tensor: tensor.clone().requires_grad_())
    results = twin.compute()
    try:
        _cpu.use_instruction_set("baseline")
        gradients = torch.autograd.grad(sum(result.sum() for result in results), twin.numbers())
        assert_exact([*results, *gradients], call.run("reference", lambda *_: 1.0), call)
    finally:
        _cpu.use_instruction_set(chosen)


def test_python_threads_do_not_disturb_each_other():
    calls = [
        draw_call(operation, (9, 40, 20, 30), options=EVERYTHING, seed=seed)
        for seed, operation in enumerate(("lstm", "gru", "elman", "lstm"))
    ]
    expected = [call.run() for call in calls]
    found = [[] for _ in calls]

    def work(number):
        found[number].extend(calls[number].run() for _ in range(5))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, right in zip(found, expected, strict=True):
        assert len(mine) == 5
        for each in mine:
            assert_equal(each, right)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(6, 7, 5)}, r"weights must be torch.float32 of shape \(12, 5\), not torch.float32 of shape \(12, 3\)"),
        ({"x": torch.zeros(6, 7, 3).double()}, "weights must be torch.float64"),
        ({"weights": [torch.zeros(12, 3), torch.zeros(12, 4), torch.zeros(12)]}, "gru takes 4 weights, not 3"),
        ({"weights": [torch.zeros(12, 3), torch.zeros(16, 4), torch.zeros(12), torch.zeros(12)]}, r"shape \(12, 4\), not torch.float32 of shape \(16, 4\)"),
        ({"weights": [torch.zeros(0, 3), torch.zeros(0, 0), torch.zeros(0), torch.zeros(0)]}, "gru needs at least one feature and one unit"),
        ({"x": torch.zeros(6, 7, 0), "weights": [torch.zeros(12, 0), torch.zeros(12, 4), torch.zeros(12), torch.zeros(12)]}, r"not weights of shapes \[\(12, 0\), \(12, 4\)\]"),
        ({"states": [torch.zeros(6, 5)]}, r"states must be torch.float32 of shape \(6, 4\)"),
        ({"states": []}, "gru takes 1 states, not 0"),
        ({"resets": [torch.zeros(6, 7, dtype=torch.bool)]}, "gru takes 1 reset_states, not 0"),
        ({"resets": [torch.zeros(6, 7)], "reset_states": [torch.zeros(6, 4)]}, "resets must be torch.bool"),
        ({"dropouts": [torch.zeros(1, 4)]}, r"dropouts must be torch.float32 of shape \(6, 4\)"),
        ({"zones": [torch.zeros(6, 6, 4)]}, r"zones must be torch.float32 of shape \(6, 7, 4\)"),
        ({"zone_rates": [0.1, 0.2]}, "gru takes 1 rates"),
        ({"lengths": torch.ones(5, dtype=torch.int64)}, r"shape \(6,\)"),
        ({"lengths": torch.full((6,), 8)}, "lengths must be from 0 to 7, the steps of the input; one is 8"),
        ({"lengths": torch.full((6,), -1)}, "one is -1"),
    ],
)  # fmt: skip
def test_nothing_is_read_on_trust(change, message):
    weights = [torch.zeros(12, 3), torch.zeros(12, 4), torch.zeros(12), torch.zeros(12)]
    given = Arguments("gru", torch.zeros(6, 7, 3), None, weights, [torch.zeros(6, 4)], [], [], [], [], [], [False])
    assert run_forward(given, saving=True)[0].shape == (6, 7, 4)
    with pytest.raises(ValueError, match=message):
        run_forward(given._replace(**change), saving=True)


def test_other_types_of_numbers_are_refused():
    weights = [torch.zeros(shape, dtype=torch.complex64) for shape in ((4, 3), (4, 4), (4,), (4,))]
    state = [torch.zeros(6, 4, dtype=torch.complex64)]
    given = Arguments("elman", torch.zeros(6, 7, 3, dtype=torch.complex64), None, weights, state, [], [], [], [], [], [False])
    with pytest.raises(TypeError, match=r"not in torch\.complex64"):
        run_forward(given, saving=True)


def test_wrong_masks_are_refused():
    call = draw_call("gru", options=("resets",))
    for noise in (RecurrentNoise(torch.ones(6, 3).double()), RecurrentNoise(None, (torch.ones(6, 5, 4).double(),))):
        with pytest.raises(RuntimeError, match="expanded size"):
            replace(call, directions=tuple(each._replace(noise=noise) for each in call.directions)).compute()
    wrong = Resets(call.directions[0].resets.where, type(call.directions[0].state)(torch.zeros(6, 3).double()))
    with pytest.raises(ValueError, match=r"reset_states must be torch.float64 of shape \(6, 4\)"):
        replace(call, directions=tuple(each._replace(resets=wrong) for each in call.directions)).compute()


def saved_bytes(compute, given):
    """Bytes that a function's result keeps for its backward pass beside what it was given."""
    kept, known = {}, {tensor.untyped_storage().data_ptr() for tensor in given}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = compute()
    assert result is not None
    return sum(storage.nbytes() for address, storage in kept.items() if address not in known)


@pytest.mark.parametrize("operation", ["lstm", "gru"])
def test_where_lengths_vary_backward_keeps_the_real_steps_and_no_more_than_torch_of_a_packed_sequence(operation):
    sizes = rows, steps, features, hidden = 8, 40, 24, 64
    lengths = torch.randint(steps // 3, steps + 1, (rows,), generator=torch.Generator().manual_seed(0))
    call = draw_call(operation, sizes, reverse=(False,), dtype=torch.float32).map(lambda tensor: tensor.requires_grad_())
    call = replace(call, lengths=lengths)
    kept = saved_bytes(call.compute, call.numbers())
    numbers = int(lengths.sum()) * saved_width(operation, hidden, torch.float32) + rows * steps * hidden
    assert kept == 4 * numbers + lengths.nbytes
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[operation](features, hidden, batch_first=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(call.x, lengths, batch_first=True, enforce_sorted=False)
    theirs = saved_bytes(lambda: layer(packed)[0].data, [call.x, packed.data, *layer.parameters()])
    assert kept <= theirs


@every_operation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_backward_keeps_what_the_operation_says_and_no_more_than_torch(operation, dtype):
    """A step keeps its planes, and its output, which is what the next step read; torch keeps every gate of every step, and more."""
    rows, steps, features, hidden = 3, 40, 24, 64
    call = draw_call(operation, (rows, steps, features, hidden), reverse=(False,), dtype=dtype)
    call = call.map(lambda tensor: tensor.requires_grad_())
    kept = saved_bytes(call.compute, call.numbers())
    outputs = call.directions[0].state.h.shape[1]
    assert kept == rows * steps * (saved_width(operation, hidden, dtype) + outputs) * dtype.itemsize
    if operation in {"lstm", "gru"}:
        layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[operation](features, hidden, batch_first=True, dtype=dtype)
        assert kept <= saved_bytes(lambda: layer(call.x), [call.x, *layer.parameters()])


def test_memory_does_not_grow_with_the_shapes_seen():
    """What is kept between calls is bounded, and nothing else stays."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here, which tells the memory of this process")
    from resource import getpagesize

    def memory():
        return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()

    sizes = torch.randint(1, 60, (200, 4), generator=torch.Generator().manual_seed(0)).tolist()
    calls = [draw_call(("lstm", "gru")[number % 2], size, options=("lengths",), dtype=torch.float32) for number, size in enumerate(sizes)]
    for call in calls:
        call.run()
    before = memory()
    for call in calls:
        call.run()
    assert memory() < 1.02 * before
