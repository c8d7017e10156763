"""How the gradient flows: its norm in each layer, and at each distance in time.

Measured on the backward pass of a few training batches itself: no extra pass, no random numbers, and the same training
to the last bit whether it is on or off. The figures are drawn in `evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from recurra.data.batch import padding_mask
from recurra.shapes import Float, Int, Tensor
from recurra.training.optimizers import gradient_norms
from recurra.training.recurrent import recurrent_layers

__all__ = ["GradientFlow"]


class GradientFlow:
    """Collects gradient norms over an epoch.

    For the weights of a layer: the norm of its gradient (as the optimizer sees it before clipping), mean over the
    watched steps. For time: the gradient of a row's loss with respect to the input that a recurrent layer reads d steps
    before the last one it reads (the row's last real step, or its first where the layer reads backwards); its norm, root
    mean square over rows and batches. Distances are gathered in buckets
    0, 1, 2-3, 4-7, 8-15 and so on. A norm that falls steeply with the distance is a vanishing gradient, one that grows
    an exploding one (Bengio et al. 1994; Pascanu et al. 2013, section 2).

    Args:
        network: its recurrent layers are watched.
        batches: steps watched in an epoch, spread evenly; 0 for none.
    """

    def __init__(self, network: nn.Module, *, batches: int) -> None:
        self.network = network
        self.batches = batches
        self._handles: list[RemovableHandle] = []
        self._watched: list[tuple[str, Tensor, dict[str, Any]]] = []
        self._norms: dict[str, list[float]] = {}
        self._squares: dict[str, dict[int, tuple[float, float]]] = {}

    def wants(self, step: int, steps: int) -> bool:
        """True when step `step` (from 0) of an epoch of `steps` is to be watched."""
        count = min(self.batches, steps)
        return any(step == index * steps // count for index in range(count))

    def start(self) -> None:
        """Watch the forward and backward pass that come next."""
        self.stop()
        for name, layer in recurrent_layers(self.network).items():
            self._handles.append(layer.register_forward_pre_hook(self._hook(name), with_kwargs=True))

    def seen(self) -> None:
        """The forward pass is over: calls that a loss makes besides are not watched."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def stop(self) -> None:
        """Watch no longer; what was seen but not collected is forgotten."""
        self.seen()
        self._watched.clear()

    def _hook(self, name: str) -> Any:
        def before(_: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            inputs = arguments[0]
            if not isinstance(inputs, Tensor) or inputs.ndim != 3 or not torch.is_grad_enabled():
                return None
            # a view of its own, so that the gradient is what comes through this layer and no other reader of the input
            inputs = inputs.view_as(inputs) if inputs.requires_grad else inputs.detach().requires_grad_()
            inputs.retain_grad()
            self._watched.append((name, inputs, options))
            return (inputs, *arguments[1:]), options

        return before

    def collect(self, *, scale: float = 1.0) -> None:
        """Read the gradients of the watched pass, after its backward and before the parameters' gradients are clipped.

        Args:
            scale: what the batch's mean loss was multiplied by before its backward.
        """
        for name, norm in gradient_norms(self.network).items():
            self._norms.setdefault(name, []).append(norm)
        for name, inputs, options in self._watched:
            if inputs.grad is not None:
                rows, steps = inputs.shape[:2]
                lengths = options.get("lengths")
                known = torch.full((rows,), steps, device=inputs.device) if lengths is None else lengths.to(inputs.device)
                self._add(name, inputs.grad.float() * (rows / scale), known, reverse=bool(options.get("reverse")))
        self.stop()

    def _add(self, name: str, gradient: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], *, reverse: bool) -> None:
        steps = gradient.shape[1]
        time = torch.arange(steps, device=gradient.device)
        distance = time.expand(gradient.shape[:2]) if reverse else lengths[:, None] - 1 - time
        real = padding_mask(lengths, steps)
        squares = gradient.square().sum(dim=2)[real].double()
        buckets = torch.ceil(torch.log2(distance[real].double() + 1)).long()
        sums = torch.bincount(buckets, weights=squares).tolist()
        counts = torch.bincount(buckets).tolist()
        known = self._squares.setdefault(name, {})
        for bucket, (total, count) in enumerate(zip(sums, counts, strict=True)):
            if count:
                old_total, old_count = known.get(bucket, (0.0, 0.0))
                known[bucket] = (old_total + total, old_count + count)

    def end_epoch(self, epoch: int) -> list[dict[str, Any]]:
        """The records of the epoch, and a fresh start.

        Returns:
            `{"epoch", "layer", "norm"}` for the weights of each layer, and `{"epoch", "layer", "distance", "norm"}` for
            each recurrent layer and distance in time, where `distance` is the smallest of its bucket.
        """
        records: list[dict[str, Any]] = [
            {"epoch": epoch, "layer": layer, "norm": sum(norms) / len(norms)} for layer, norms in self._norms.items()
        ]
        for layer, buckets in self._squares.items():
            for bucket, (total, count) in sorted(buckets.items()):
                distance = 0 if bucket == 0 else 2 ** (bucket - 1)
                records.append({"epoch": epoch, "layer": layer, "distance": distance, "norm": (total / count) ** 0.5})
        self._norms, self._squares = {}, {}
        return records

    def state_dict(self) -> dict[str, Any]:
        """What was collected in the present epoch."""
        return {"norms": self._norms, "squares": self._squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._norms = {name: list(norms) for name, norms in state["norms"].items()}
        self._squares = {name: dict(buckets) for name, buckets in state["squares"].items()}
