"""Every recurrence against torch's own layers, and every backend and way of running against the reference."""

import re

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import catalogue
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import RecurrentNoise, Resets, choose, fused
from recurra.kernels.backend import Needs, available_backends
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.dispatch import check_resets
from recurra.kernels.lengths import check_lengths
from recurra.kernels.state import map_state
from recurra.testing.rounding import assert_rounds_like

# Sums of up to 2**5 terms in another order, over 2**4 steps, grown by up to 2**8 on the way back.
EXACT = 2.0**-52 * 2.0**17
LENGTHS = torch.tensor([3, 0, 7, 1, 7, 5])
FUSED = {name: kernel for name, kernel in catalogue.KERNELS.items() if kernel.fused}
EVERY_BACKEND = [
    pytest.param(kernel, backend, id=f"{name}-{backend}") for name, kernel in catalogue.KERNELS.items() for backend in kernel.backends
]
every_backend = pytest.mark.parametrize(("kernel", "backend"), EVERY_BACKEND)
every_free_backend = pytest.mark.parametrize(
    ("kernel", "backend"), [pair for pair in EVERY_BACKEND if pair.values[1] in pair.values[0].free_backends]
)
kernels = pytest.mark.parametrize("kernel", catalogue.KERNELS.values(), ids=catalogue.KERNELS)
fused_kernels = pytest.mark.parametrize("kernel", FUSED.values(), ids=FUSED)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


class Case:
    """Random input, state and weights of one recurrence."""

    def __init__(self, kernel, *, rows=6, steps=7, features=3, hidden=4, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        self.kernel = kernel
        self.x = draw(rows, steps, features)
        self.state = kernel.state_type(**{name: draw(rows, size) for name, size in kernel.state_sizes(hidden).items()})
        if "n" in kernel.state_type._fields:  # a sum of exponentials
            self.state = self.state._replace(n=self.state.n.abs() + 0.5)
        self.weights = kernel.weights_type(*(draw(*shape) / 2 for shape in kernel.weight_shapes(features, hidden).values()))

    def run(self, **options):
        """Outputs, final state, and the gradients of a random sum of them."""
        x = self.x.clone().requires_grad_()
        state = map_state(lambda field: field.clone().requires_grad_(), self.state)
        weights = map_state(lambda weight: weight.clone().requires_grad_(), self.weights)
        output, last = self.kernel.function(x, state, weights, **self.kernel.options, **options)
        generator = torch.Generator().manual_seed(1)
        total = sum((t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum() for t in (output, *last))
        gradients = torch.autograd.grad(total, (x, *state, *weights))
        return [output, *last, *gradients]

    def double(self):
        twin = Case(self.kernel)
        twin.x, twin.state, twin.weights = (
            self.x.double(),
            map_state(torch.Tensor.double, self.state),
            map_state(torch.Tensor.double, self.weights),
        )
        return twin


def assert_same(mine, other, tolerance=EXACT):
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def force(monkeypatch, way):
    """Run the padding, or pack, whatever the share of real steps."""
    monkeypatch.setattr(fused, "PADDED_SHARE", {"padded": 0.0, "packed": 2.0}[way])


@pytest.mark.parametrize(("kernel", "backend"), [pair for pair in EVERY_BACKEND if pair.values[0].torch_layer])
def test_equals_torch(kernel, backend):
    case = Case(kernel)
    layer = kernel.torch_layer(3, 4, batch_first=True).double()
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), case.weights, strict=True):
            parameter.copy_(weight)
    before = tuple(field[None] for field in case.state)
    packed = pack_padded_sequence(case.x[[0, 2, 3]], LENGTHS[[0, 2, 3]], batch_first=True, enforce_sorted=False)
    chosen = tuple(field[:, [0, 2, 3]] for field in before)
    expected, last = layer(packed, chosen if len(chosen) > 1 else chosen[0])
    output, state = kernel.function(case.x, case.state, case.weights, lengths=LENGTHS, backend=backend, **kernel.options)
    assert_same([output[[0, 2, 3]]], [pad_packed_sequence(expected, batch_first=True)[0]])
    for mine, theirs in zip(state, last if isinstance(last, tuple) else (last,), strict=True):
        assert_same([mine[[0, 2, 3]]], [theirs[0]])


@fused_kernels
@directions
@pytest.mark.parametrize("way", ["padded", "packed"])
@pytest.mark.parametrize(
    "lengths", [None, [7] * 6, LENGTHS.tolist(), [0, 0, 1, 0, 0, 0], [0] * 6], ids=["none", "full", "varied", "one", "empty"]
)
def test_fused_ways_equal_the_reference(kernel, reverse, way, lengths, monkeypatch):
    force(monkeypatch, way)
    case = Case(kernel)
    if lengths is not None:
        lengths = torch.tensor(lengths)
        case.x = case.x.masked_fill((torch.arange(7) >= lengths[:, None])[..., None], torch.nan)
    assert_same(case.run(lengths=lengths, reverse=reverse, backend="aten"), case.run(lengths=lengths, reverse=reverse, backend="reference"))


@kernels
def test_float32_is_as_exact_as_the_reference(kernel, monkeypatch):
    case = Case(kernel, rows=8, steps=30, features=20, hidden=34, dtype=torch.float32)
    options = {"lengths": torch.tensor([30, 1, 0, 17, 29, 30, 30, 8])}
    exact, loop = case.double().run(**options, backend="reference"), case.run(**options, backend="reference")
    for backend in kernel.free_backends:
        assert_rounds_like(case.run(**options, backend=backend), loop, exact)
    for way in ("padded", "packed") if kernel.fused else ():
        force(monkeypatch, way)
        assert_rounds_like(case.run(**options, backend="aten"), loop, exact)


@fused_kernels
@pytest.mark.parametrize("way", ["padded", "packed"])
def test_padding_is_exactly_zero_and_empty_rows_keep_their_state(kernel, way, monkeypatch):
    force(monkeypatch, way)
    case = Case(kernel, dtype=torch.float32)
    for backend in kernel.backends:
        output, state = kernel.function(case.x, case.state, case.weights, lengths=LENGTHS, backend=backend, **kernel.options)
        assert not output[torch.arange(7) >= LENGTHS[:, None]].any()
        for before, after in zip(case.state, state, strict=True):
            assert torch.equal(before[1], after[1])


def test_memory_cells_stand_still_in_padding_whatever_the_weights():
    """Weights and states a hundred times larger than training makes them do not open a closed gate."""
    kernel = catalogue.KERNELS["lstm"]
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        case = Case(kernel, dtype=dtype)
        weights = map_state(lambda weight: weight * 30, case.weights)
        lengths = torch.full((6,), 2)
        # Two steps of three and two of seven are both over PADDED_SHARE: the padding is run, once for one step, once for five.
        few, many = (
            kernel.function(case.x[:, :steps], case.state, weights, lengths=lengths, backend="aten", **kernel.options) for steps in (3, 7)
        )
        # The same products, perhaps in blocks of another size.
        tolerance = 8 * torch.finfo(dtype).eps
        assert_same([few[0], *few[1]], [many[0][:, :3], *many[1]], tolerance)
        assert not many[0][:, 2:].any()


@every_backend
def test_values_are_the_same_in_any_grad_mode_of_the_caller(kernel, backend):
    case = Case(kernel, dtype=torch.float32)
    options = {"lengths": LENGTHS, "backend": backend, **kernel.options}
    with torch.no_grad():
        silent, _ = kernel.function(case.x, case.state, case.weights, **options)
    with torch.inference_mode():
        served, _ = kernel.function(case.x, case.state, case.weights, **options)
    loud, _ = kernel.function(case.x.requires_grad_(), case.state, case.weights, **options)
    # oneDNN's inference and training primitives may round differently: a few units in the last place of numbers under one.
    tolerance = 2.0**-23 * 16
    assert_same([silent, served.clone()], [loud, loud], tolerance)


@kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains(kernel, dtype):
    case = Case(kernel, dtype=torch.float32)
    exact = case.double().run(lengths=LENGTHS, backend="reference")
    for backend in kernel.backends:
        with torch.autocast("cpu", dtype):
            low = case.run(lengths=LENGTHS, backend=backend)
        for a, b in zip(low, exact, strict=True):
            a, b = a.detach(), b.detach()  # noqa: PLW2901
            # Seven steps, each rounding to 2**-8 or better, then products with gradients of up to the tensor's largest.
            assert (a.double() - b).abs().max() <= 7 * 2.0**-8 * 4 * max(1.0, float(b.abs().max()))


@kernels
@directions
def test_gradcheck_of_every_order(kernel, reverse):
    case = Case(kernel, rows=3, steps=3, features=2, hidden=2)
    lengths = torch.tensor([3, 0, 2])
    inputs = [t.requires_grad_() for t in (case.x, *case.state, *case.weights)]
    count = len(case.state)

    def run(backend):
        def function(x, *rest):
            output, last = kernel.function(
                x,
                kernel.state_type(*rest[:count]),
                kernel.weights_type(*rest[count:]),
                lengths=lengths,
                reverse=reverse,
                backend=backend,
                **kernel.options,
            )
            return output, *last

        return function

    for backend in kernel.backends:
        assert torch.autograd.gradcheck(run(backend), inputs, fast_mode=True)
    for backend in kernel.free_backends:
        assert torch.autograd.gradgradcheck(run(backend), inputs, fast_mode=True)


def drop_columns(w_hh, kernel, mask):
    """The recurrent weights of the units that are read, times the units' factors; head by head."""
    read = w_hh.shape[1]
    by_head = w_hh.view(kernel.gates, len(mask) // read, -1, read) * mask.view(-1, 1, read)
    return by_head.view_as(w_hh)


@every_free_backend
def test_zoneout_and_recurrent_dropout_by_hand(kernel, backend):
    case = Case(kernel, rows=2, steps=3)
    sizes = list(kernel.state_sizes(4).values())
    mask = torch.tensor([[2.0, 0.0, 2.0, 2.0], [0.0, 2.0, 2.0, 0.0]], dtype=torch.float64)[:, : sizes[0]]
    kept = [(torch.rand(2, 3, size, generator=torch.Generator().manual_seed(field)) < 0.5).double() for field, size in enumerate(sizes)]
    zoneout = tuple(kept)
    if kernel.state_type is catalogue.SLSTMState:  # its memory is one value in three parts
        kept[2:], zoneout = [kept[1], kept[1]], (kept[0], kept[1])
    output, state = kernel.function(
        case.x, case.state, case.weights, noise=RecurrentNoise(mask, zoneout), backend=backend, **kernel.options
    )
    by_hand, outputs = case.state, []
    for t in range(3):
        # Dropping a unit of the state that is read is dropping a column of each row's weights: one row at a time.
        new = [
            kernel.function(
                case.x[row : row + 1, t : t + 1],
                map_state(lambda field, row=row: field[row : row + 1], by_hand),
                case.weights._replace(w_hh=drop_columns(case.weights.w_hh, kernel, mask[row])),
                **kernel.options,
            )[1]
            for row in range(2)
        ]
        merged = kernel.state_type(*(torch.cat(parts) for parts in zip(*new, strict=True)))
        by_hand = kernel.state_type(*(torch.where(keep[:, t] == 1, old, now) for keep, old, now in zip(kept, by_hand, merged, strict=True)))
        outputs.append(by_hand.h)
    assert_same([output, *state], [torch.stack(outputs, 1), *by_hand])


@every_free_backend
def test_zoneout_in_evaluation_is_the_expectation(kernel, backend):
    if kernel.operation == "slstm":
        return  # its memory is one value in three parts, whose expectation is not that of each
    case = Case(kernel, rows=2, steps=1)
    noise = RecurrentNoise(None, (0.25,) * len(case.state))
    _, plain = kernel.function(case.x, case.state, case.weights, backend=backend, **kernel.options)
    _, zoned = kernel.function(case.x, case.state, case.weights, noise=noise, backend=backend, **kernel.options)
    for old, now, between in zip(case.state, plain, zoned, strict=True):
        assert_same([between], [0.25 * old + 0.75 * now])


@every_free_backend
@directions
def test_resets_inside_the_sequence(kernel, backend, reverse):
    case = Case(kernel, rows=2, steps=5)
    options = {"reverse": reverse, "backend": backend, **kernel.options}
    where = torch.zeros(2, 5, dtype=torch.bool)
    where[0, 2] = True
    initial = map_state(torch.ones_like, case.state)
    output, _ = kernel.function(case.x, case.state, case.weights, resets=Resets(where, initial), **options)
    plain, _ = kernel.function(case.x, case.state, case.weights, **options)
    begun, _ = kernel.function(case.x[:, :3] if reverse else case.x[:, 2:], initial, case.weights, **options)
    assert_same([output[1]], [plain[1]])
    changed, kept = (slice(0, 3), slice(3, 5)) if reverse else (slice(2, 5), slice(0, 2))
    assert_same([output[0, changed], output[0, kept]], [begun[0], plain[0, kept]])


@every_backend
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_empty_input(kernel, backend, shape):
    case = Case(kernel, rows=shape[0], steps=shape[1])
    options = {"lengths": torch.zeros(shape[0], dtype=torch.long), "backend": backend, **kernel.options}
    output, state = kernel.function(case.x, case.state, case.weights, **options)
    assert output.shape == (*shape, kernel.state_sizes(4)["h"])
    assert_same(state, case.state)


@kernels
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(2, 3, 9)}, ValueError, r"must be of shape \(B, T, 3\), not \(2, 3, 9\)"),
        ({"x": torch.zeros(5, 3, 3)}, ValueError, "state is for 2 rows"),
        ({"lengths": torch.tensor([4, 1])}, ValueError, "from 0 to 3"),
        ({"lengths": torch.tensor([-1, 1])}, ValueError, "given are -1 to 1"),
        ({"backend": "atem"}, SettingsError, "Did you mean 'aten'"),
        ({"backend": "aten", "noise": RecurrentNoise(torch.ones(2, 4), ())}, BackendUnavailable, "recurrent dropout|there is none for"),
    ],
)
def test_wrong_input_is_named(kernel, changes, error, message):
    case = Case(kernel, rows=2, steps=3, dtype=torch.float32)
    with pytest.raises(error, match=message):
        kernel.function(**{"x": case.x, "state": case.state, "weights": case.weights, **changes}, **kernel.options)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (torch.tensor([1]), ValueError, r"shape \(2,\), one a row of the batch, not \(1,\)"),
        (torch.tensor([1.0, 1.0]), TypeError, "must be integers, not torch.float32"),
        (torch.tensor([True, True]), TypeError, "pass lengths.long"),
    ],
)
def test_wrong_lengths_are_named(lengths, error, message):
    with pytest.raises(error, match=message):
        check_lengths(lengths, 2, 3)


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [(torch.zeros(2, 3), TypeError, "must be booleans"), (torch.zeros(2, 2, dtype=torch.bool), ValueError, r"shape \(2, 3\)")],
)
def test_wrong_resets_are_named(where, error, message):
    with pytest.raises(error, match=message):
        check_resets(where, 2, 3)


def test_choice_gives_its_reason():
    assert choose("lstm", "aten", Needs()) == ("aten", "asked for by name: torch's own fused operation: one call for all steps")
    noisy = Needs(recurrent_dropout=True, zoneout=True)
    if UNAVAILABLE is None:
        name, reason = choose("lstm", "auto", noisy)
        assert name == "cpu"
        assert re.fullmatch(r"the fastest that can run this: compiled kernels: .* \(\w+ instructions\)", reason)
        with pytest.raises(BackendUnavailable, match="the compiled kernels run on a CPU, and the input is on cuda"):
            choose("lstm", "cpu", device="cuda")
    name, reason = choose("lstm", "auto", device="cuda")
    assert name == "aten"
    assert reason.endswith("torch's own fused operation: one call for all steps")
    name, reason = choose("lstm", "auto", noisy, device="mps")
    assert name == "reference"
    assert "torch's fused lstm has no recurrent dropout and zoneout; a Python loop" in reason
    with pytest.raises(BackendUnavailable, match="reset"):
        choose("gru", "aten", Needs(reset=True))


def test_without_compiled_kernels_the_choice_says_why(monkeypatch):
    why = "the compiled kernels are not installed (no module); a C++ compiler at installation makes them"
    monkeypatch.setattr("recurra.kernels.backend.UNAVAILABLE", why)
    assert "cpu" not in available_backends()
    assert choose("gru", "auto") == ("aten", f"{why}; torch's own fused operation: one call for all steps")
    assert choose("gru", "auto", Needs(reset=True)).backend == "reference"
    with pytest.raises(BackendUnavailable, match="no module"):
        choose("gru", "cpu")
