"""torch.nn.LSTM, GRU and RNN inside any PyTorch model, exchanged in place for Recurra's, and back."""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from recurra.layers.drop_in import GRU, LSTM, RNN
from recurra.layers.torch_call import torch_class
from recurra.layers.torch_layer import OPTIONS, TorchLayer

__all__ = ["Acceleration", "Found", "accelerate"]

_OURS: dict[type[nn.Module], type[TorchLayer]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}


class Found(NamedTuple):
    """A recurrent layer of the model.

    Attributes:
        names: its places in the model; "" is the model itself.
        layer: the layer.
        reason: what runs it and why when it was exchanged, why not when it was left.
    """

    names: tuple[str, ...]
    layer: nn.Module
    reason: str

    def __str__(self) -> str:
        places = ", ".join(name or "the module itself" for name in self.names)
        kind = parametrize.type_before_parametrizations(self.layer).__name__
        return f"  {places}: {kind}({self.layer.extra_repr()}): {self.reason}"


class Acceleration:
    """What `accelerate` did. `print` shows it, `undo` takes it back, and so does the end of a `with` block.

    Attributes:
        module: the model that was given.
        swapped: the layers that Recurra runs now.
        left: the recurrent layers that are as they were, each with the reason.
    """

    def __init__(self, module: nn.Module, swapped: tuple[Found, ...], left: tuple[Found, ...], before: tuple[type[nn.Module], ...]) -> None:
        self.module = module
        self.swapped = swapped
        self.left = left
        self._changes = [(found.layer, old, type(found.layer)) for found, old in zip(swapped, before, strict=True)]

    def undo(self) -> None:
        """Make every exchanged layer what it was; its parameters keep the values that they have now. A second time does nothing."""
        for layer, before, after in self._changes:
            for name in OPTIONS:
                layer.__dict__.pop(name, None)
            if type(layer) is after:
                layer.__class__ = before
            else:  # parametrizations came or went in between
                _exchange(layer, torch_class(layer))
        self._changes = []

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.undo()

    def __str__(self) -> str:
        kind = type(self.module).__name__
        if not self.swapped and not self.left:
            return f"There is no recurrent layer in {kind}."
        count = len(self.swapped)
        lines = [
            f"Recurra runs {count} of {count + len(self.left)} recurrent layers of {kind}{':' if count else '.'}",
            *map(str, self.swapped),
        ]
        return "\n".join([*lines, *(["Left as they were:"] if self.left else []), *map(str, self.left)])

    __repr__ = __str__


def accelerate(module: nn.Module) -> Acceleration:
    """Let Recurra run every torch.nn.LSTM, GRU and RNN inside a model, in place.

    Only the class of each layer is exchanged, for the subclass of the same name in `recurra.layers`: the objects, their
    parameters, hooks, flags and names stay, so optimizers, state_dicts and shared layers go on as before, and the model
    itself may be such a layer. Results are torch's up to rounding; the masks of dropout are others than torch draws from the
    same seed. Exact classes only: a subclass may rely on how torch computes.

        with recurra.accelerate(model) as report:
            print(report)
            train(model)

    Args:
        module: any PyTorch model.

    Returns:
        What was exchanged and what was left, and why.

    Raises:
        TypeError: it is no module (a list of layers, or the class of a model).
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"accelerate takes a torch.nn.Module and works inside it, and this is {module!r}.")
    places: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        places.setdefault(id(layer), (layer, []))[1].append(name)
    swapped, left, before = [], [], []
    for layer, names in places.values():
        reason = _reason_to_leave(layer)
        if reason is None:
            before.append(type(layer))
            ours = _exchange(layer, _OURS[parametrize.type_before_parametrizations(layer)])
            assert isinstance(ours, TorchLayer)
            swapped.append(Found(tuple(names), layer, ours.explain_backend().splitlines()[0].partition(" runs on ")[2]))
        elif reason:
            left.append(Found(tuple(names), layer, reason))
    return Acceleration(module, tuple(swapped), tuple(left), tuple(before))


def _exchange(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Give a layer another class. A parametrized layer has a class of its own, with a property for each parametrized weight."""
    current = type(layer)
    if parametrize.is_parametrized(layer):
        own = {name: value for name, value in vars(current).items() if name not in {"__dict__", "__weakref__"}}
        kind = type(current.__name__, (kind,), own)
    layer.__class__ = kind
    return layer


def _reason_to_leave(layer: nn.Module) -> str | None:
    """Why a layer is left as it is; None when it can be exchanged, "" when it is not recurrent at all."""
    kind = parametrize.type_before_parametrizations(layer)
    if isinstance(layer, TorchLayer):
        return "it is Recurra's already"
    if kind in _OURS and "forward" not in vars(layer):
        return None
    if kind in _OURS:
        return "its forward was replaced on the object itself, and that would not be called"
    if isinstance(layer, tuple(_OURS)):
        base = torch_class(layer)
        between = kind.__mro__[: kind.__mro__.index(base)]
        own = "has a forward of its own" if any("forward" in vars(parent) for parent in between) else "may rely on how torch computes"
        return (
            f"{kind.__name__} is a subclass of torch.nn.{base.__name__} that {own}: derive it from recurra.layers.{base.__name__} instead"
        )
    if isinstance(layer, nn.RNNBase):
        return f"{kind.__name__} is built on torch.nn.RNNBase, and only what it does itself is known"
    if isinstance(layer, nn.RNNCellBase):
        return "a cell is called step by step, so there is no sequence to run over: use a layer, or a cell of recurra.cells"
    known = getattr(layer, "original_name", kind.__name__)
    if known in {"LSTM", "GRU", "RNN"} and kind.__module__.startswith("torch."):
        how = "compiled by torch.jit" if kind.__module__.startswith("torch.jit") else "quantized"
        return f"it is {how}, which only torch runs"
    return ""
