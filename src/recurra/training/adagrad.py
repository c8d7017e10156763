"""Adagrad with momentum, as the official GRU4Rec trains: dense parameters, and rows of tables at the cost of these rows alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from recurra.shapes import Tensor

__all__ = ["AdagradMomentum"]


class AdagradMomentum(Optimizer):
    """Adagrad whose steps pass through a momentum.

        a <- a + g^2;  m <- momentum m - rate g / sqrt(a + epsilon);  w <- w + m

    With a row-sparse gradient all three are done for its rows only: a row that a batch does not touch stays as it is, momentum
    included. With every row touched it is the dense optimizer.

    Args:
        params: parameters or groups of them; `weight_decay` of a group is added to its dense gradients.
        lr: rate.
        momentum: share of the last step that is taken again.
        eps: epsilon.

    Source: Duchi et al. 2011; `IndexedAdagradM` of github.com/hidasib/GRU4Rec_PyTorch_Official.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float = 0.0, eps: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return result

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["sum"] = torch.zeros_like(parameter)
            if group["momentum"]:
                state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        if not gradient.is_sparse:
            if group["weight_decay"]:
                gradient = gradient.add(parameter, alpha=group["weight_decay"])
            step = state["sum"].addcmul_(gradient, gradient).add(group["eps"]).rsqrt_().mul_(gradient).mul_(-group["lr"])
            parameter.add_(state["momentum"].mul_(group["momentum"]).add_(step) if group["momentum"] else step)
            return
        gradient = gradient.coalesce()  # each row once: a square of a sum is no sum of squares
        rows, values = gradient._indices()[0], gradient._values()
        sums = state["sum"].index_select(0, rows).addcmul_(values, values)
        state["sum"].index_copy_(0, rows, sums)
        step = sums.add_(group["eps"]).rsqrt_().mul_(values).mul_(-group["lr"])
        if group["momentum"]:
            step.add_(state["momentum"].index_select(0, rows), alpha=group["momentum"])
            state["momentum"].index_copy_(0, rows, step)
        parameter.index_add_(0, rows, step)
