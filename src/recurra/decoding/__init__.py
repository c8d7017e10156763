"""From a step function to sequences: greedy, sampling, beam search. Nothing here knows a model.

A step function reads one token a row and says how likely each token comes next: `step(tokens, state) -> (logits, state)`.
A state is what `recurra.cells.state` handles: NamedTuples of batch-first tensors, nested as one likes.
"""

from __future__ import annotations

from recurra.decoding.beam import Hypothesis, beam_search
from recurra.decoding.generation import Generated, generate, generate_tokens
from recurra.decoding.shaping import Shaping
from recurra.decoding.step import Step, sequence_log_probabilities

__all__ = ["Generated", "Hypothesis", "Shaping", "Step", "beam_search", "generate", "generate_tokens", "sequence_log_probabilities"]
