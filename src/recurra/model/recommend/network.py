"""The network of a recommendation: clicked items -> vectors -> stack of cells -> a score for each item.

Training reads and scores the rows of the item tables that a batch touches, and no others: its cost does not grow with the number
of items where negatives are drawn.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, embedding

from recurra.cells.noise import drop
from recurra.config import Settings
from recurra.errors import SettingsError
from recurra.features.items import GAPS, UNKNOWN_ITEM, ItemVocabulary
from recurra.heads.recommend import RecommendHead
from recurra.layers.item_table import ItemTable
from recurra.layers.linear_cross_entropy import Added
from recurra.metrics.ranking import ranks
from recurra.model.network import build_stack
from recurra.model.recommend.batch import DISTANCES, ClickBatch, Seen
from recurra.model.recurrent import RecurrentNetwork
from recurra.shapes import Float, Int, Tensor

__all__ = ["SCORES", "Answered", "Asked", "RecommendNetwork"]

REPEATS = 5.0
"""How much faster the numbers of repeats move than other parameters: they are few, and end far from zero."""
SCORES = 2**23
"""Most scores that are in memory at once where all items are scored without gradients."""


class Asked(NamedTuple):
    """What the loss of a training batch takes.

    Attributes:
        vectors: (N, D) one for each question.
        answers: (N,) rows of `items`.
        items: (K, D) vectors of the items that are compared.
        bias: (K,) of these; None where there is none.
        added: what earlier clicks add to single scores; None where they do not.
    """

    vectors: Tensor
    answers: Tensor
    items: Tensor
    bias: Tensor | None
    added: Added | None


class Answered(NamedTuple):
    """What comes of a batch in evaluation, where all items are compared.

    Attributes:
        ranks: (N,) of the answers, from 1; infinite where an answer is not known.
        loss: mean over the known answers.
    """

    ranks: np.ndarray
    loss: Tensor


class RecommendNetwork(RecurrentNetwork):
    """The trainable part of a recommender.

    With x_t the vector of the item clicked at step t (the vectors of its attributes and of the time gap added, where there are any),
    h_t = stack(x_1 ... x_t), projected where its size is not that of an item's vector: the score of item i as the next one is
    s_i = e_i . h_t + b_i, and r_d more for each click on i among the session's last 64, d clicks ago. Tied, e_i is also what is read when i is clicked. Before any known click h_t is zero.

    Args:
        items: V of them, with their attributes.
        settings: of the run.

    Attributes:
        embedding: (V, D) what is read.
        output: (V, D) what scores; None where that is `embedding` (tied).
        bias: (V, 1) of the scores, or None.
        repeats: (8,) what is added, times `REPEATS`, to the score of an item for each earlier click on it, by how long ago; or None.
        encoder: the stack of cells.
        head: the loss, and the metric that selects.

    Raises:
        SettingsError: the encoder reads both ways.
    """

    words: ClassVar[dict[str, str]] = {"encoder": "clicks", "embedding": "items", "output": "items as answers", "bias": "items' bias"}

    def __init__(self, items: ItemVocabulary, settings: Settings) -> None:
        super().__init__()
        if settings.encoder.bidirectional:
            raise SettingsError("The next item cannot be known from both ends: leave encoder.bidirectional out, or set it to false.")
        chosen, size = settings.recommend, settings.embedding.size
        sparse, spread = chosen.negatives != "all", settings.embedding.init_range
        self.head = RecommendHead(settings)
        self.embedding = ItemTable(len(items), size, init_range=spread, sparse=sparse)
        self.output = None if chosen.tied else ItemTable(len(items), size, init_range=spread, sparse=sparse)
        self.bias = ItemTable(len(items), 1, init_range=0.0, sparse=sparse) if chosen.bias else None
        self.attributes = nn.ModuleList()
        for number, attribute in enumerate(items.attributes.values()):
            self.attributes.append(ItemTable(len(attribute.values) + 1, size, init_range=spread))
            self.register_buffer(f"attribute_of_items_{number}", torch.from_numpy(attribute.numbers), persistent=False)
        self.repeats = nn.Parameter(torch.zeros(DISTANCES)) if chosen.repeats else None
        self.gaps = ItemTable(GAPS, size, init_range=spread) if chosen.time_gaps else None
        self.encoder = build_stack(size, settings.encoder)
        self.projection = nn.Linear(self.encoder.output_size, size) if self.encoder.output_size != size else None
        self._dropout = settings.head.dropout
        self._embedding_dropout = settings.embedding.dropout
        self._item_dropout = settings.embedding.token_dropout

    def initial_state(self, rows: int) -> tuple[Any, ...]:
        """The state before a session's first click."""
        return self.encoder.initial_state(rows)

    def carry(self, batch: ClickBatch, state: tuple[Any, ...] | None) -> tuple[Asked, tuple[Any, ...]]:
        """A training batch that goes on where another one ended.

        Args:
            batch: its resets say where sessions begin.
            state: after the batch before; None for the first.

        Returns:
            What `loss` takes, and the state after the batch.
        """
        rows = batch.rows
        if rows is None:
            table, inside = self.embedding.weight, batch.items
        elif self.output is None:
            table, inside = self.embedding(rows), torch.searchsorted(rows, batch.items)
        else:
            read, inside = torch.unique(batch.items, return_inverse=True)
            table = self.embedding(read)
        vectors, after = self._vectors(batch, table, inside, state)
        if rows is None:
            return Asked(vectors, batch.answers, self.scoring.weight, self._bias, self._added(batch.seen)), after
        bias = None if self.bias is None else self.bias(rows)[:, 0]
        items, added = table if self.output is None else self.output(rows), self._added(batch.seen, rows)
        return Asked(vectors, torch.searchsorted(rows, batch.answers), items, bias, added), after

    def _added(self, seen: Seen | None, rows: Tensor | None = None) -> Added | None:
        """What earlier clicks add to scores of all items, or of `rows`."""
        if self.repeats is None or seen is None:
            return None
        columns = seen.items if rows is None else torch.searchsorted(rows, seen.items)
        return Added(seen.questions, columns, seen.distances, self.repeat_scores)

    @property
    def repeat_scores(self) -> Float[Tensor, " R"]:
        """What each earlier click on an item adds to its score, by the number of how long ago."""
        if self.repeats is None:
            return self.scoring.weight.new_zeros(DISTANCES)
        return REPEATS * self.repeats

    def forward(self, batch: ClickBatch) -> Asked | Answered:
        """What `loss` takes of a batch that begins from nothing."""
        if self.training:
            return self.carry(batch, None)[0]
        vectors = self.vectors(batch)
        size = max(1, SCORES // len(self.scoring.weight))
        placed, total, known = [], vectors.new_zeros(()), (batch.answers != UNKNOWN_ITEM).sum()
        for begin in range(0, len(vectors), size):
            part = slice(begin, begin + size)
            seen = None if batch.seen is None else batch.seen.part(begin, begin + size)
            scores, answers = self.scores(vectors[part], seen), batch.answers[part]
            placed.append(ranks(scores.detach().float().cpu().numpy(), answers.cpu().numpy()))
            total = total + cross_entropy(scores, answers, reduction="sum", ignore_index=UNKNOWN_ITEM)
        return Answered(np.concatenate(placed) if placed else np.zeros(0), total / known.clamp(min=1))

    def loss(self, outputs: Asked | Answered, batch: ClickBatch) -> Float[Tensor, ""]:
        """Mean loss of the batch's answers: against the batch's items in training, else the cross-entropy of all items."""
        if isinstance(outputs, Answered):
            return outputs.loss
        return self.head.loss(outputs.vectors, outputs.items, outputs.bias, outputs.answers, batch.log_weights, added=outputs.added)

    def vectors(self, batch: ClickBatch) -> Float[Tensor, "N D"]:
        """What scores the items at each question; zeros where no known click came before."""
        vectors, _ = self._vectors(batch, self.embedding.weight, batch.items, None)
        return vectors.masked_fill((batch.asked < 0)[:, None], 0.0)

    def _vectors(self, batch: ClickBatch, table: Tensor, inside: Tensor, state: Any) -> tuple[Tensor, tuple[Any, ...]]:
        """(N, D) for the questions, and the state after; `inside` are the rows of `table` that are read."""
        steps, after = self.encoder(self._read(batch, table, inside), state, lengths=batch.lengths, reset=batch.reset)
        steps = steps.flatten(0, 1)[batch.asked]
        if self.training and self._dropout:
            steps = drop(steps, self._dropout)
        return (steps if self.projection is None else self.projection(steps)), after

    def _read(self, batch: ClickBatch, table: Tensor, inside: Tensor) -> Float[Tensor, "B T D"]:
        """What the stack reads of each click."""
        x = embedding(inside, table)
        if self.training and self._item_dropout:
            x = x * drop(table.new_ones(len(table)), self._item_dropout)[inside][..., None]
        for number, attribute in enumerate(self.attributes):
            assert isinstance(attribute, ItemTable)
            x = x + embedding(self.get_buffer(f"attribute_of_items_{number}")[batch.items], attribute.weight)
        if self.gaps is not None:
            assert batch.gaps is not None
            x = x + embedding(batch.gaps, self.gaps.weight)
        return drop(x, self._embedding_dropout) if self.training and self._embedding_dropout else x

    @property
    def scoring(self) -> ItemTable:
        """The table whose vectors score: `output`, or `embedding` where they are tied."""
        return self.embedding if self.output is None else self.output

    def scores(self, vectors: Float[Tensor, "N D"], seen: Seen | None = None) -> Float[Tensor, "N V"]:
        """Of all items.

        Args:
            vectors: of the questions.
            seen: the clicks before each.
        """
        weight, bias = self.scoring.weight, self._bias
        scores = vectors @ weight.T if bias is None else torch.addmm(bias, vectors, weight.T)
        if (added := self._added(seen)) is not None:
            scores.index_put_((added.rows, added.columns), added.values[added.kinds].to(scores.dtype), accumulate=True)
        return scores

    @property
    def _bias(self) -> Float[Tensor, " V"] | None:
        """Of all items."""
        return None if self.bias is None else self.bias.weight[:, 0]

    def item_vectors(self, items: Int[Tensor, "B T"], gaps: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B T D"]:
        """What the stack reads of clicks; for serving."""
        nothing = items.new_zeros(0)
        return self._read(ClickBatch(items, nothing, nothing, nothing, gaps=gaps), self.embedding.weight, items)
