"""Losses of a recommendation: every answer against every item, or against those drawn for its batch.

Not here: the cross-entropy itself (`layers.linear_cross_entropy`), which items are drawn (`training.recommend.negatives`), and how items
become vectors (`model.recommend.network`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch.nn.functional import elu, logsigmoid

from recurra.config import Settings
from recurra.layers.linear_cross_entropy import Added, linear_cross_entropy
from recurra.shapes import Float, Int, Tensor

__all__ = ["RecommendHead", "bpr_max", "top1_max"]


class RecommendHead:
    """What a recommendation is trained by and selected by.

    Args:
        settings: `recommend.loss` with its options, and `head.label_smoothing`.

    Attributes:
        task: its name in `head.task`.
        monitor: the validation metric that selects the model when none is named.
    """

    task: ClassVar[str] = "recommend"
    monitor: ClassVar[str] = "ndcg_at_10"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.recommend
        self.smoothing = settings.head.label_smoothing

    def loss(
        self,
        vectors: Float[Tensor, "N D"],
        items: Float[Tensor, "K D"],
        bias: Float[Tensor, " K"] | None,
        answers: Int[Tensor, " N"],
        log_weights: Float[Tensor, " K"] | None = None,
        *,
        added: Added | None = None,
    ) -> Float[Tensor, ""]:
        """Mean loss of N answers.

        Args:
            vectors: one for each answer.
            items: vectors of the items that are compared.
            bias: of these items' scores.
            answers: rows of `items`.
            log_weights: of the items as negatives; see `recurra.layers.linear_cross_entropy`; pairwise losses have none.
            added: what is added to single scores.
        """
        if self.settings.loss == "cross_entropy":
            return linear_cross_entropy(vectors, items, bias, answers, log_weights, added=added, smoothing=self.smoothing)
        scores = vectors @ items.T if bias is None else torch.addmm(bias, vectors, items.T)
        if added is not None:
            scores = scores.index_put((added.rows, added.columns), added.values[added.kinds].to(scores.dtype), accumulate=True)
        if len(items) == 1:  # the answer itself was drawn each time: there is nothing that it could stand before
            return 0.0 * scores.sum()
        if self.settings.loss == "bpr_max":
            return bpr_max(scores, answers, regularization=self.settings.regularization, alpha=self.settings.elu)
        return top1_max(scores, answers)


def bpr_max(
    scores: Float[Tensor, "N K"], answers: Int[Tensor, " N"], *, regularization: float = 1.0, alpha: float = 0.5
) -> Float[Tensor, ""]:
    """BPR-max: -log(sum_j p_j sigmoid(s_y - s_j)) + regularization * sum_j p_j s_j^2, p the softmax of the negatives' scores.

    Args:
        scores: of K different items for each answer; they pass ELU first where `alpha` is not 0.
        answers: column of each answer.
        regularization: weight of the squared scores.
        alpha: of the ELU.

    Source: Hidasi & Karatzoglou 2018, section 3.4, equation 10.
    """
    if alpha:
        scores = elu(scores, alpha=alpha)
    own, log_share = _negatives(scores, answers)
    wins = torch.logsumexp(log_share + logsigmoid(own - scores), dim=1)
    return (regularization * (log_share.exp() * scores.square()).sum(1) - wins).mean()


def top1_max(scores: Float[Tensor, "N K"], answers: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    """TOP1-max: sum_j p_j (sigmoid(s_j - s_y) + sigmoid(s_j^2)), p the softmax of the negatives' scores.

    Source: Hidasi & Karatzoglou 2018, section 3.3, equation 7.
    """
    own, log_share = _negatives(scores, answers)
    return (log_share.exp() * (torch.sigmoid(scores - own) + torch.sigmoid(scores.square()))).sum(1).mean()


def _negatives(scores: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 1) the answers' scores, and (N, K) the log of the softmax over all columns but the answer, -inf there."""
    own = scores.gather(1, answers[:, None])
    return own, scores.scatter(1, answers[:, None], -torch.inf).log_softmax(1)
