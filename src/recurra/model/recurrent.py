"""What every network here tells of itself."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from recurra.layers import Stack

__all__ = ["RecurrentNetwork"]


class RecurrentNetwork(nn.Module):
    """A network with stacks of recurrent cells in it."""

    words: ClassVar[dict[str, str]] = {}
    """What a person calls those of its modules whose names do not say it."""

    @property
    def parameter_count(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def explain_backend(self) -> str:
        """What computes the recurrences, and why."""
        reasons = dict.fromkeys(stack.explain_backend() for stack in self.modules() if isinstance(stack, Stack))
        return "; ".join(reasons) or "no recurrence: there is no sequence input"

    def describe_module(self, name: str) -> str:
        """A module's name in a person's words: `"context, layer 1, backward"` for `"context.cells.1"`."""
        names = name.split(".")
        for place in range(1, len(names)):
            outer, inner = ".".join(names[:place]), ".".join(names[place:])
            stack = self.get_submodule(outer)
            if isinstance(stack, Stack):
                return f"{self.words.get(outer, outer)}, {stack.describe_module(inner)}"
        return self.words.get(name, name)
