"""How well a language model predicts a text: token by token through one stream, plainly, with a cache, or learning on the way."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from recurra.cells.state import detach
from recurra.config import LanguageSettings
from recurra.metrics.language import token_intervals, token_metrics
from recurra.model.language.batch import TokenBatch
from recurra.model.language.network import LanguageNetwork
from recurra.shapes import Float, Int, Tensor

__all__ = ["Measured", "measure_dynamic", "measure_plain", "measure_with_cache"]

WINDOW = 256
"""Steps that are computed at once; the figures do not depend on it."""
LARGEST_UPDATE = 0.25
"""Norm that a gradient of dynamic evaluation is clipped to, times the rate."""


class Measured(NamedTuple):
    """A text, token by token; the first one, which nothing comes before, is not predicted.

    Attributes:
        losses: (N - 1,) minus the log-probability of each token after those before it.
        hits: (N - 1,) whether it was the most probable one.
    """

    losses: Float[np.ndarray, " N"]
    hits: Int[np.ndarray, " N"]

    def metrics(self, characters: int | None, *, samples: int, confidence: float, seed: int) -> dict[str, float]:
        """Flat metrics with intervals.

        Args:
            characters: of the text; None where tokens do not give it back, and bits per character mean nothing.
            samples: resamples of blocks.
            confidence: share of them that an interval spans.
            seed: of the draws.
        """
        found = token_metrics(self.losses, self.hits, characters=characters)
        bounds = token_intervals(self.losses, self.hits, characters=characters, samples=samples, confidence=confidence, seed=seed)
        for name, (low, high) in bounds.items():
            found[f"{name}_low"], found[f"{name}_high"] = low, high
        return found


def measure_plain(network: LanguageNetwork, tokens: Int[np.ndarray, " N"]) -> Measured:
    """The network as it is."""
    losses, hits = [], []
    with torch.no_grad():
        for _, batch, found in _stream(network, tokens, WINDOW):
            answers = batch.answers[0]
            losses.append(-found.gather(1, answers[:, None])[:, 0])
            hits.append(found.argmax(1) == answers)
    return _joined(losses, hits)


def measure_with_cache(network: LanguageNetwork, tokens: Int[np.ndarray, " N"], settings: LanguageSettings) -> Measured:
    r"""The network beside a continuous cache of its last steps.

    With \(x_{i+1}\) the token that came after step i: \(p_c(w) \propto \sum_{i<t} [x_{i+1} = w] \exp(\theta h_t^T h_i)\) over the
    last `cache` steps, and \(p = (1 - \lambda) p_{network} + \lambda p_c\).

    Source: Grave et al. 2017, "Improving neural language models with a continuous cache", section 3.
    """
    share = settings.cache_weight
    losses, hits = [], []
    kept, kept_answers = None, torch.zeros(0, dtype=torch.int64, device=network.device)
    with torch.no_grad():
        for steps, batch, found in _stream(network, tokens, min(WINDOW, max(settings.cache, 1))):
            answers = batch.answers[0]
            past = steps if kept is None else torch.cat([kept, steps])
            past_answers = torch.cat([kept_answers, answers])
            distance = (
                torch.arange(len(steps), device=steps.device)[:, None]
                + (len(past) - len(steps))
                - torch.arange(len(past), device=steps.device)
            )
            seen = (distance > 0) & (distance <= settings.cache)
            weights = (settings.cache_flatness * steps @ past.T).masked_fill(~seen, -torch.inf).softmax(1).nan_to_num(0.0)
            cached = torch.zeros_like(found).index_add_(1, past_answers, weights)
            mixed = torch.where(seen.any(1)[:, None], (1 - share) * found.exp() + share * cached, found.exp())
            losses.append(-mixed.gather(1, answers[:, None])[:, 0].log())
            hits.append(mixed.argmax(1) == answers)
            kept, kept_answers = past[-settings.cache :], past_answers[-settings.cache :]
    return _joined(losses, hits)


def measure_dynamic(network: LanguageNetwork, tokens: Int[np.ndarray, " N"], settings: LanguageSettings) -> Measured:
    r"""A copy of the network that learns from what it has been measured on; the network itself stays as it is.

    After each `dynamic_window` of steps: \(\theta \leftarrow \theta - \eta \nabla L + \lambda (\theta_0 - \theta)\), the gradient
    clipped; its norm is not scaled by that of training as the paper's second form does.

    Source: Krause et al. 2018, "Dynamic evaluation of neural sequence models", section 3.
    """
    learner = copy.deepcopy(network).eval()
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    origin = [parameter.detach().clone() for parameter in parameters]
    losses, hits = [], []
    with torch.enable_grad():
        for _, batch, found in _stream(learner, tokens, settings.dynamic_window):
            answers = batch.answers[0]
            nll = -found.gather(1, answers[:, None])[:, 0]
            losses.append(nll.detach())
            hits.append(found.argmax(1) == answers)
            gradients = torch.autograd.grad(nll.mean(), parameters, allow_unused=True)
            _move(parameters, gradients, origin, settings)
    return _joined(losses, hits)


@torch.no_grad()
def _move(parameters: list[Any], gradients: tuple[Tensor | None, ...], origin: list[Tensor], settings: LanguageSettings) -> None:
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None))
    scale = settings.dynamic_rate * min(1.0, LARGEST_UPDATE / max(norm, 1e-12))
    for parameter, gradient, start in zip(parameters, gradients, origin, strict=True):
        if gradient is not None:
            parameter.sub_(gradient, alpha=scale)
        if settings.dynamic_decay:
            parameter.lerp_(start, settings.dynamic_decay)


def _stream(network: LanguageNetwork, tokens: Int[np.ndarray, " N"], window: int) -> Iterator[tuple[Tensor, TokenBatch, Tensor]]:
    """Windows of one stream: outputs (T, D), the window, and log-probabilities (T, V)."""
    state, device = None, network.device
    for start in range(0, len(tokens) - 1, window):
        piece = torch.from_numpy(np.asarray(tokens[start : start + window + 1], np.int64)).to(device)
        count = len(piece) - 1
        batch = TokenBatch(piece[None, :-1], piece[None, 1:], torch.tensor([count]), torch.zeros(1, count, dtype=torch.bool, device=device))
        outputs, state = network.carry(batch, state)
        state = detach(state)
        yield outputs.dropped[0], batch, network.log_probabilities(outputs.dropped[0])


def _joined(losses: list[Tensor], hits: list[Tensor]) -> Measured:
    return Measured(torch.cat(losses).double().cpu().numpy(), torch.cat(hits).cpu().numpy().astype(np.int64))
