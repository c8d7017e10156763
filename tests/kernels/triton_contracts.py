"""Contracts of the Triton kernels, run by test_triton.py: `python triton_contracts.py OPERATION PLACE`.

PLACE is "interpreter", "cuda", or "compiler", where all operations are compiled for two GPUs, whatever OPERATION says. Printed is
one JSON object: for each contract what went wrong, or nothing.

A process of its own, because Triton decides at its import whether kernels are interpreted (TRITON_INTERPRET=1), and because the
check of shapes that the other tests install would stand between Triton and the source of its kernels. In the interpreter the
operators get it for their kernel on a CPU; on a GPU they are what users run.
"""

import json
import sys
import traceback
from functools import partial
from pathlib import Path

import torch
from torch.func import functional_call, grad, vmap

sys.path.insert(0, str(Path(__file__).parents[1]))

import catalogue
from recurra.kernels import RecurrentNoise, Resets, linear_scan_recurrence
from recurra.kernels.layernorm_lstm import triton as layernorm_lstm
from recurra.kernels.linear_scan import custom_op as scan_op
from recurra.kernels.linear_scan import operator as scan_operator
from recurra.kernels.linear_scan import triton as scan
from recurra.kernels.lstm import triton as lstm
from recurra.kernels.slstm import triton as slstm
from recurra.kernels.transforms import transformable
from recurra.kernels.triton import call, custom_op
from recurra.kernels.triton import operator as triton_operator

TRITON = {"lstm": lstm.lstm_triton, "layernorm_lstm": layernorm_lstm.layernorm_lstm_triton, "slstm": slstm.slstm_triton}

# Sums of up to 2**5 terms in another order, over 2**4 steps, grown by up to 2**8 on the way back.
EXACT = 2.0**-52 * 2.0**17
LENGTHS = [3, 0, 4, 1, 2]
# One option, and options together: name -> (lengths, resets, reverse, noise).
CASES = {
    "plain": (False, False, False, None),
    "lengths, reverse": (True, False, True, "rates"),
    "resets": (False, True, False, "dropout"),
    "all": (True, True, False, "rates"),
    "all, reverse": (True, True, True, "masks"),
}


class Gated:
    """Random inputs of one gated recurrence, with a block more than full in every dimension."""

    def __init__(self, name, device, *, rows=5, steps=4, features=3, hidden=6, dtype=torch.float64):
        self.kernel = catalogue.KERNELS[name]
        self.triton = TRITON[name.split(",")[0]]
        self.generator = torch.Generator().manual_seed(0)
        self.device, self.dtype, self.rows, self.steps, self.hidden = device, dtype, rows, steps, hidden
        self.x = self.draw(rows, steps, features)
        self.state, self.begin = self.draw_state(), self.draw_state()
        shapes = self.kernel.weight_shapes(features, hidden).values()
        self.weights = self.kernel.weights_type(*(self.draw(*shape) / 2 for shape in shapes))

    def draw(self, *shape):
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.device, self.dtype)

    def mask(self, *shape):
        return (torch.rand(shape, generator=self.generator) < 0.5).to(self.device)

    def draw_state(self):
        state = self.kernel.state_type(*(self.draw(self.rows, self.hidden) for _ in self.kernel.state_type._fields))
        if "n" in state._fields:  # a sum of exponentials; the first row's memory is empty
            full = torch.ones(self.rows, 1, dtype=self.dtype, device=self.device)
            full[0] = 0.0
            state = state._replace(c=full * state.c, n=full * (state.n.abs() + 0.5))
        return state

    def options(self, lengths, resets, reverse, noise):
        """`resets` without their state, which is an input with a gradient."""
        B, T, H = self.rows, self.steps, self.hidden
        masks = (self.mask(B, T, H).to(self.dtype), self.mask(B, T, H).to(self.dtype))
        dropout = 2 * self.mask(B, H).to(self.dtype)
        noises = {None: None, "dropout": (dropout, ()), "rates": (dropout, (0.2, 0.3)), "masks": (dropout, masks)}
        lengths = torch.tensor(LENGTHS) if lengths else None
        if lengths is not None:
            self.x = self.x.masked_fill((torch.arange(T) >= lengths[:, None])[..., None].to(self.device), torch.nan)
        where = self.mask(B, T) if resets else None
        return {"lengths": lengths, "where": where, "reverse": reverse, "noise": noises[noise] and RecurrentNoise(*noises[noise])}

    def tensors(self):
        return [self.x, *self.state, *self.begin, *self.weights]

    def call(self, function, tensors, *, where=None, **options):
        x, *rest = tensors
        kind, count = self.kernel.state_type, len(self.state)
        state, begin, weights = kind(*rest[:count]), kind(*rest[count : 2 * count]), self.kernel.weights_type(*rest[2 * count :])
        output, last = function(x, state, weights, resets=None if where is None else Resets(where, begin), **options)
        return output, *last

    def fast(self, tensors, **options):
        return self.call(self.triton, tensors, **options)

    def slow(self, tensors, **options):
        return self.call(partial(self.kernel.function, backend="reference"), tensors, **options)


class Linear(Gated):
    """Random factors (zeros and negative ones among them), terms and states."""

    def __init__(self, device, *, rows=5, steps=6, hidden=6, dtype=torch.float64):
        self.generator = torch.Generator().manual_seed(0)
        self.device, self.dtype, self.rows, self.steps, self.hidden = device, dtype, rows, steps, hidden
        self.a, self.x = self.draw(rows, steps, hidden), self.draw(rows, steps, hidden)
        self.a[:, 1::3] = 0.0
        self.state, self.begin = self.draw(rows, hidden), self.draw(rows, hidden)

    def tensors(self):
        return [self.a, self.x, self.state, self.begin]

    def fast(self, tensors, *, lengths=None, where=None, reverse=False, noise=None):
        a, b, state, begin = tensors
        return scan_op.linear_scan(a, state, None if where is None else begin, lengths, where, reverse, b)

    def slow(self, tensors, *, lengths=None, where=None, reverse=False, noise=None):
        a, b, state, begin = tensors
        resets = None if where is None else Resets(where, begin)
        return linear_scan_recurrence(a, b, state, lengths=lengths, resets=resets, reverse=reverse, backend="reference")


def make(operation, device, **sizes):
    return Linear(device, **sizes) if operation == "linear_scan" else Gated(operation, device, **sizes)


def results(function, tensors, **options):
    """Outputs, and the gradients of a random sum of them."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    outputs = function(leaves, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(each.shape, generator=generator, dtype=torch.float64).to(each.device, each.dtype) for each in outputs]
    gradients = torch.autograd.grad(outputs, leaves, weights, allow_unused=True, materialize_grads=True)
    return [*outputs, *gradients]


def values(operation, device):
    """Outputs, states and all gradients are the reference's, with every option; NaN in the padding changes nothing."""
    for name, chosen in CASES.items():
        # A linear scan is done in one piece, or in chunks side by side.
        for scan.PROGRAMS in (1, 256) if operation == "linear_scan" and "all" in name else (256,):
            case = make(operation, device)
            options = case.options(*chosen)
            pairs = zip(results(case.fast, case.tensors(), **options), results(case.slow, case.tensors(), **options), strict=True)
            for number, (mine, other) in enumerate(pairs):
                torch.testing.assert_close(mine, other, rtol=EXACT, atol=EXACT, msg=lambda text, at=(name, number): f"{at}: {text}")


def rounding(operation, device):
    """In float32 as exact as the reference in float32."""
    case = make(operation, device, rows=4, steps=6, hidden=12, dtype=torch.float32)
    twin = [tensor.double() for tensor in case.tensors()]
    sets = results(case.slow, twin), results(case.slow, case.tensors()), results(case.fast, case.tensors())
    for exact, loop, fast in zip(*sets, strict=True):
        # The reference's own error, times eight: sums in another order, tanh by the sigmoid, the GPU's own exponential.
        bound = 8 * (loop - exact).abs().max() + 8 * torch.finfo(torch.float32).eps * exact.abs().max()
        assert (fast - exact).abs().max() <= bound, ((fast - exact).abs().max(), bound)


def derivatives(operation, device):
    """Second derivatives are the reference's, which other tests compare with differences; so are the first, in `values`."""
    case = make(operation, device, rows=2, steps=2, hidden=2)
    options = {"lengths": torch.tensor([2, 1]), "where": torch.tensor([[False, True], [False, False]], device=device), "reverse": True}

    def second(function):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in case.tensors()]
        outputs = function(leaves, **options)
        first = torch.autograd.grad([(each**2).sum() for each in outputs], leaves, create_graph=True, materialize_grads=True)
        return torch.autograd.grad([(each**2).sum() for each in first], leaves, materialize_grads=True)

    for mine, other in zip(second(case.fast), second(case.slow), strict=True):
        torch.testing.assert_close(mine, other, rtol=EXACT, atol=EXACT * max(1.0, float(other.abs().max())))
        assert other.isfinite().all()


def transforms(operation, device):
    """vmap, gradients of single samples, torch.compile and torch.export."""
    case = make(operation, device, rows=2, steps=2, hidden=4)
    tensors = case.tensors()
    shared = len(case.weights) if operation != "linear_scan" else 0
    several = [torch.stack([tensor, 2 * tensor]) for tensor in tensors[: len(tensors) - shared]] + tensors[len(tensors) - shared :]
    dims = (0,) * (len(tensors) - shared) + (None,) * shared
    pick = lambda number: [tensor if dim is None else tensor[number] for tensor, dim in zip(several, dims, strict=True)]  # noqa: E731

    def total(*tensors):
        return sum((each**2).sum() for each in case.fast(tensors))

    mapped = vmap(lambda *tensors: case.fast(tensors), dims)(*several)
    every = tuple(range(len(tensors)))
    gradients = vmap(grad(total, every), dims)(*several)
    for number in range(2):
        for mine, alone in zip(mapped, case.fast(pick(number)), strict=True):
            torch.testing.assert_close(mine[number], alone, rtol=EXACT, atol=EXACT)
        leaves = [tensor.detach().clone().requires_grad_() for tensor in pick(number)]
        expected = torch.autograd.grad(total(*leaves), leaves, allow_unused=True, materialize_grads=True)
        for mine, alone in zip(gradients, expected, strict=True):
            torch.testing.assert_close(mine[number], alone, rtol=EXACT, atol=EXACT)

    compiled = torch.compile(lambda *tensors: case.fast(tensors), fullgraph=True, backend="aot_eager", dynamic=True)
    for mine, other in zip(results(lambda leaves: compiled(*leaves), tensors), results(case.fast, tensors), strict=True):
        torch.testing.assert_close(mine, other, rtol=EXACT, atol=EXACT)

    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return case.fast(tensors)

    time = torch.export.Dim("time", min=2, max=64)
    shapes = [{1: time} if tensor.ndim == 3 else None for tensor in tensors]
    exported = torch.export.export(Module(), tuple(tensors), dynamic_shapes=(tuple(shapes),))
    longer = [torch.cat([tensor, tensor], 1) if tensor.ndim == 3 else tensor for tensor in tensors]
    for mine, other in zip(functional_call(exported.module(), {}, tuple(longer)), case.fast(longer), strict=True):
        torch.testing.assert_close(mine, other, rtol=EXACT, atol=EXACT)


def registration(operation, device):
    """torch's own checks of an operator: its shapes for tracing, its gradient, that it changes none of its inputs."""
    case = make(operation, device, rows=2, steps=2, hidden=4)
    tensors = [tensor.requires_grad_() for tensor in case.tensors()]
    if operation == "linear_scan":
        a, b, state, begin = tensors
        where = case.mask(2, 2)
        for given in ((a, state, None, None, None, False, b), (a, state, begin, torch.tensor([2, 1]), where, True, b.mT.clone().mT)):
            torch.library.opcheck(scan_op._linear_scan, given)
        return
    calls = []
    triton_operator.recurrence = lambda *arguments: calls.append(arguments) or custom_op.recurrence(*arguments)
    case.fast(tensors)
    case.fast(tensors, **case.options(resets=True, reverse=True, noise="masks", lengths=False))
    for arguments in calls:
        torch.library.opcheck(custom_op._recurrence, arguments)


def halves(operation, device):
    """Weights and inputs of half precision: computed in float32, and returned as they came."""
    exact = make(operation, device, dtype=torch.float64)
    case = make(operation, device, dtype=torch.bfloat16)
    for low, high in zip(case.fast(case.tensors()), exact.slow(exact.tensors()), strict=True):
        assert low.dtype == torch.bfloat16
        # Inputs, weights and gates are rounded to 2**-9, and five steps add up what comes of it.
        assert (low.double() - high).abs().max() <= 2.0**-9 * 2.0**5 * max(1.0, float(high.abs().max()))


def compilation(operation, found):
    """Every kernel compiles to machine code of each capability: what the launches with all options would run, and of the last
    capability with none."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = {torch.float32: "*fp32", torch.int64: "*i64", torch.bool: "*i1"}
    compiled = []

    def compile_only(capabilities, kernel, grid, **arguments):
        warps = arguments.pop("num_warps", 4)
        assert set(arguments) == set(kernel.arg_names)
        constant = {each.name for each in kernel.params if each.is_constexpr or arguments[each.name] is None}
        types = {
            name: "constexpr" if name in constant else names.get(getattr(arguments[name], "dtype", None), "i32")
            for name in kernel.arg_names
        }
        constants = {name: arguments[name] for name in constant}
        for capability in capabilities:
            source, target = ASTSource(kernel, types, constants), GPUTarget("cuda", capability, 32)
            try:
                made = triton.compile(source, target=target, options={"num_warps": warps, "enable_fp_fusion": True})
                assert f".target sm_{capability}" in made.asm["ptx"]
                assert len(made.asm["cubin"]) > 1000
            except Exception:  # noqa: BLE001 - the test shows it
                found[f"{operation} {capability}"] += traceback.format_exc()
        compiled.append(kernel.__name__)

    # The kernels do not run, so what they would fill is whatever was there.
    for chosen, capabilities in ((CASES["plain"], CAPABILITIES[-1:]), (CASES["all, reverse"], CAPABILITIES)):
        for module in (scan, lstm, layernorm_lstm, slstm, call):
            module.launch = partial(compile_only, capabilities)
        case = make(operation, "cpu", steps=5 if operation != "linear_scan" else 200, hidden=64, dtype=torch.float32)
        options = case.options(*chosen)
        results(case.fast, case.tensors(), **options)
    assert set(compiled) >= {"_forward_kernel", "_backward_kernel"}


def register_on_cpu():
    custom_op._recurrence.register_kernel("cpu")(custom_op.run)
    custom_op._recurrence_backward.register_kernel("cpu")(custom_op.run_backward)
    scan_op._linear_scan.register_kernel("cpu")(scan_op.run_on_gpu)
    scan_op._linear_scan_backward.register_kernel("cpu")(scan_op.run_backward_on_gpu)
    # Through the operators always, never straight to the compiled kernels.
    scan_op.linear_scan = scan_operator.linear_scan = transformable(
        scan_op._linear_scan, scan_op._save, scan_op._backward, mapped=scan_op._mapped
    )
    scan_op.linear_scan_backward = transformable(
        scan_op._linear_scan_backward, scan_op._save_backward, scan_op._second_backward, mapped=scan_op._mapped
    )


CAPABILITIES = (80, 90)
CONTRACTS = (values, rounding, derivatives, transforms, registration, halves)


def main(operation, place):
    torch.set_num_threads(1)
    found = {}
    if place != "cuda":
        register_on_cpu()
    if place == "interpreter":
        call.ROWS, call.COLUMNS, scan.TILE_STEPS, scan.TILE_UNITS = 4, 4, 4, 4  # several blocks of everything, small ones
    for contract in CONTRACTS if place != "compiler" else ():
        try:
            contract(operation, "cpu" if place == "interpreter" else place)
            found[contract.__name__] = ""
        except Exception:  # noqa: BLE001 - the test shows it
            found[contract.__name__] = traceback.format_exc()
    for each in ("linear_scan", *TRITON) if place == "compiler" else ():
        found |= {f"{each} {capability}": "" for capability in CAPABILITIES}
        compilation(each, found)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
