"""What is built around cells: stacks, their steps, torch.nn's layers, directions, dropouts, pooling, attention, conditional random fields, embedding, torch's weights."""

from __future__ import annotations

from recurra.cells.initialization import Initialization
from recurra.layers.acceleration import Acceleration, accelerate
from recurra.layers.attention import ATTENTIONS, Attended, Attention, AttentionMemory
from recurra.layers.conversions import load_torch_weights, torch_weights
from recurra.layers.crf import LinearChainCRF, Path, Transitions
from recurra.layers.drop_in import GRU, LSTM, RNN
from recurra.layers.dropout import StepDropout, VariationalDropout
from recurra.layers.embedding import Embedding
from recurra.layers.gates import GRUGates, LSTMGates
from recurra.layers.hashed import CharacterNgrams, HashedTable, TokenNgrams
from recurra.layers.ngram_linear import NgramLinear
from recurra.layers.pooling import POOLINGS, AttentionPooling, LastPooling, MaxMeanPooling, MaxPooling, MeanPooling, Pooling, build_pooling
from recurra.layers.spelling import Spelling
from recurra.layers.stack import Regularization, Stack
from recurra.layers.stepper import Stepper

__all__ = [
    "ATTENTIONS",
    "GRU",
    "LSTM",
    "POOLINGS",
    "RNN",
    "Acceleration",
    "Attended",
    "Attention",
    "AttentionMemory",
    "AttentionPooling",
    "CharacterNgrams",
    "Embedding",
    "GRUGates",
    "HashedTable",
    "Initialization",
    "LSTMGates",
    "LastPooling",
    "LinearChainCRF",
    "MaxMeanPooling",
    "MaxPooling",
    "MeanPooling",
    "NgramLinear",
    "Path",
    "Pooling",
    "Regularization",
    "Spelling",
    "Stack",
    "StepDropout",
    "Stepper",
    "TokenNgrams",
    "Transitions",
    "VariationalDropout",
    "accelerate",
    "build_pooling",
    "load_torch_weights",
    "torch_weights",
]
