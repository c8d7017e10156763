"""From a prompt to text, token by token, through compiled steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recurra.config.numbers import require_number, require_whole
from recurra.data.codec import TextCodec
from recurra.data.tokenize import PADDING, UNKNOWN
from recurra.decoding import Shaping, beam_search, generate_tokens
from recurra.errors import SettingsError
from recurra.layers import Stepper
from recurra.model.language.network import LanguageNetwork
from recurra.shapes import Float, Int, Tensor

__all__ = ["Choice", "TokenSteps", "continued", "searched"]


@dataclass(frozen=True)
class Choice:
    """How tokens are chosen.

    Attributes:
        most: tokens at most.
        temperature: below 1 safer, above 1 wilder; 0 takes the most probable token.
        top_k: only the most probable so many; 0 for all.
        top_p: only the most probable that together reach this probability.
        min_p: only those at least this share as probable as the most probable one.
        repetition_penalty: above 1, tokens that were generated before become less probable.
        beam: sequences that a beam search follows; 0 for none.

    Raises:
        SettingsError: a number is none or out of range, or would do nothing because nothing is drawn.
    """

    most: int = 500
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    beam: int = 0

    def __post_init__(self) -> None:
        for name, least in (("most", 1), ("beam", 0), ("top_k", 0)):
            require_whole(name, getattr(self, name), least=least)
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            require_number(name, getattr(self, name))
        if self.temperature < 0:
            raise SettingsError(f"temperature is {self.temperature}: give 0 or more.")
        drawn_by = (*(["temperature"] if self.beam else []), "top_k", "top_p", "min_p")
        self.refuse_where_nothing_is_drawn([name for name in drawn_by if getattr(self, name) != getattr(Choice, name)])
        self.shaping()

    def refuse_where_nothing_is_drawn(self, names: Sequence[str]) -> None:
        """Refuse what only draws depend on, where there are none.

        Raises:
            SettingsError: names are given beside a beam or temperature 0.
        """
        if names and (self.beam or not self.temperature):
            what = "a beam search" if self.beam else "temperature 0, which takes the most probable token"
            raise SettingsError(f"{', '.join(names)} does nothing beside {what}: leave it out.")

    def shaping(self) -> Shaping:
        """What is done to the logits. Padding never comes, nor a token that stands for unknown ones.

        Raises:
            SettingsError: a number is out of range.
        """
        try:
            return Shaping(
                forbidden=((PADDING,), (UNKNOWN,)),
                repetition_penalty=self.repetition_penalty,
                temperature=self.temperature or 1.0,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error


class TokenSteps:
    """The network one token at a time, as decoding asks for it.

    Args:
        network: in evaluation mode; its weights are copied.
        streams: texts at the same time.
    """

    def __init__(self, network: LanguageNetwork, *, streams: int = 1) -> None:
        self._network = network
        self.stepper = Stepper(network.encoder, streams=streams, embedding=network.embedding)

    def follow(self, tokens: Int[Tensor, " N"], state: tuple[Any, ...]) -> tuple[Float[Tensor, "N V"], tuple[Any, ...]]:
        """One step of all streams, each from where it is: the state is inside, and what is given is handed back."""
        return self._scores(self.stepper.step(tokens)), state

    def search(self, tokens: Int[Tensor, " N"], state: tuple[Any, ...]) -> tuple[Float[Tensor, "N V"], tuple[Any, ...]]:
        """One step from the state given."""
        if len(tokens) != self.stepper.streams:
            self.stepper = self.stepper.fork([0] * len(tokens))
        self.stepper.restore(state)
        return self._scores(self.stepper.step(tokens)), self.stepper.snapshot()

    @torch.no_grad()
    def _scores(self, steps: Tensor) -> Tensor:
        network = self._network
        return network.head.scores(steps.to(network.device), network.embedding.weight)

    def read(self, rows: Sequence[Sequence[int]]) -> None:
        """Bring each stream behind a row of tokens."""
        if len(rows) == 1 or len({len(row) for row in rows}) == 1:
            self.stepper.run(torch.tensor(rows, dtype=torch.int64).view(len(rows), -1))
            return
        for number, row in enumerate(rows):
            alone = self.stepper.fork([number])
            alone.run(torch.tensor([row], dtype=torch.int64).view(1, -1))
            self.stepper.restore(alone.snapshot(), [number])


def continued(
    network: LanguageNetwork, codec: TextCodec, rows: Sequence[Sequence[int]], choice: Choice, seeds: Sequence[int]
) -> Iterator[list[str]]:
    """What each row goes on with, piece by piece; see `LanguageModel.generate`.

    Args:
        network: in evaluation mode.
        codec: its vocabulary.
        rows: tokens of the prompts, at least one each.
        choice: how tokens are chosen; no beam.
        seeds: of the draws, one for each row.
    """
    steps = TokenSteps(network, streams=len(rows))
    steps.read([row[:-1] for row in rows])
    decoders = [codec.decoder() for _ in rows]
    for decoder, row in zip(decoders, rows, strict=True):
        for token in row:
            decoder.text(token)
    start = torch.tensor([row[-1] for row in rows])
    tokens = generate_tokens(
        steps.follow, (), start, most=choice.most, shaping=choice.shaping(), seeds=seeds if choice.temperature else None
    )
    for chosen, _ in tokens:
        yield [decoder.text(token) for decoder, token in zip(decoders, chosen.tolist(), strict=True)]
    yield [decoder.end() for decoder in decoders]


def searched(network: LanguageNetwork, codec: TextCodec, row: Sequence[int], choice: Choice) -> str:
    """The continuation that a beam search finds best."""
    steps = TokenSteps(network)
    steps.read([row[:-1]])
    state = steps.stepper.snapshot()
    # No token ends a stream: every hypothesis is as long as allowed.
    found = beam_search(steps.search, state, torch.tensor([row[-1]]), width=choice.beam, end=-1, most=choice.most, shaping=choice.shaping())
    return codec.decode([*row, *found[0][0].tokens])[len(codec.decode(row)) :]
