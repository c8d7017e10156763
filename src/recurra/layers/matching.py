"""Two sequences read beside each other: each step of one with what the other holds for it.

Not inside: attention of a decoder's single step (`recurra.layers.attention`).
"""

from __future__ import annotations

import torch
from torch import nn

from recurra.data.batch import padding_mask
from recurra.shapes import Float, Int, Tensor

__all__ = ["AlignedAttention", "BidirectionalAttention"]


class AlignedAttention(nn.Module):
    """For each step of one sequence, the mean of the other's steps weighted by how alike they are.

    With x_i and y_j, and W shared by both: a_ij = softmax_j(relu(W x_i) . relu(W y_j)), output_i = sum_j a_ij y_j; zero where the other
    sequence has no steps.

    Source: Chen et al. 2017, section 3.2 ("aligned question embedding").

    Args:
        size: F, features of the steps of both.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.projection = nn.Linear(size, size)

    def forward(self, steps: Float[Tensor, "B T F"], other: Float[Tensor, "B S F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T F"]:
        """The other sequence, step by step of the first.

        Args:
            steps: of the first.
            other: steps of the other.
            lengths: real steps of the other, 0 allowed.
        """
        real = padding_mask(lengths, other.shape[1])
        other = other.masked_fill(~real[..., None], 0.0)
        scores = self.projection(steps).relu() @ self.projection(other).relu().transpose(1, 2)
        return _weights(scores, real[:, None], 2) @ other


class BidirectionalAttention(nn.Module):
    """Context and question attend to each other.

    With h_i of the context and u_j of the question: s_ij = w_h . h_i + w_u . u_j + w . (h_i * u_j). For each step of the context the
    question, r_i = sum_j softmax_j(s_ij) u_j; and the step that is most like any of the question, c = sum_i softmax_i(max_j s_ij) h_i.
    Output: [h_i; r_i; h_i * r_i; h_i * c].

    Source: Seo et al. 2017, section 2, layer 4.

    Args:
        size: D, features of the steps of both.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.output_size = 4 * size
        self.context = nn.Linear(size, 1, bias=False)
        self.question = nn.Linear(size, 1, bias=False)
        self.both = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))

    def forward(
        self,
        context: Float[Tensor, "B T D"],
        question: Float[Tensor, "B S D"],
        *,
        context_lengths: Int[Tensor, " B"],
        question_lengths: Int[Tensor, " B"],
    ) -> Float[Tensor, "B T 4*D"]:
        """The context's steps beside what the question has for them.

        Args:
            context: its steps.
            question: its steps.
            context_lengths: real steps, 0 allowed.
            question_lengths: real steps, 0 allowed.
        """
        read, asked = padding_mask(context_lengths, context.shape[1]), padding_mask(question_lengths, question.shape[1])
        context, question = context.masked_fill(~read[..., None], 0.0), question.masked_fill(~asked[..., None], 0.0)
        scores = self.context(context) + self.question(question).transpose(1, 2) + (context * self.both) @ question.transpose(1, 2)
        found = _weights(scores, asked[:, None], 2) @ question
        most = scores.masked_fill(~asked[:, None], -torch.inf).amax(2) if question.shape[1] else scores.new_full(read.shape, -torch.inf)
        named = _weights(most, read & asked.any(1, keepdim=True), 1)[:, None] @ context
        return torch.cat([context, found, context * found, context * named], 2)


def _weights(scores: Tensor, real: Tensor, dimension: int) -> Tensor:
    """Softmax over what is real; zeros where nothing is."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~real, lowest).softmax(dimension).masked_fill(~real, 0.0)
