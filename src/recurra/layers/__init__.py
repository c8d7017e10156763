"""What is built around cells: stacks, directions, dropouts, pooling, embedding, torch's weights."""

from __future__ import annotations

from recurra.cells.initialization import Initialization
from recurra.layers.conversions import load_torch_weights, torch_weights
from recurra.layers.dropout import StepDropout, VariationalDropout
from recurra.layers.embedding import Embedding
from recurra.layers.hashed import CharacterNgrams, HashedTable, TokenNgrams
from recurra.layers.pooling import POOLINGS, AttentionPooling, LastPooling, MaxMeanPooling, MaxPooling, MeanPooling, Pooling, build_pooling
from recurra.layers.stack import Regularization, Stack

__all__ = [
    "POOLINGS",
    "AttentionPooling",
    "CharacterNgrams",
    "Embedding",
    "HashedTable",
    "Initialization",
    "LastPooling",
    "MaxMeanPooling",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "Regularization",
    "Stack",
    "StepDropout",
    "TokenNgrams",
    "VariationalDropout",
    "build_pooling",
    "load_torch_weights",
    "torch_weights",
]
