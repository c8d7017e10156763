"""How to build every kernel, cell, layer, feature and head, once: the contracts run over these dictionaries.

What a package exports and the catalogue lacks fails `tests/contracts/test_catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn

from recurra.cells import CELLS as CELL_CLASSES
from recurra.cells import (
    Cell,
    ElmanCell,
    ElmanReluCell,
    ElmanState,
    GRUCell,
    GRUResetBeforeCell,
    GRUState,
    IndRNNCell,
    Initialization,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    LSTMState,
    MinGRUCell,
    MinLSTMCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
    QRNNCell,
    RGLRUCell,
    SLSTMCell,
    SLSTMState,
    SRUCell,
    StandardCell,
)
from recurra.config import Settings, load_settings
from recurra.features import CategoryFeature, NumberFeature, TextFeature, TokensFeature
from recurra.heads import ClassifyHead, LabelsHead, RegressHead, TagHead
from recurra.kernels import (
    LayerNormGRUWeights,
    LayerNormLSTMWeights,
    PeepholeLSTMWeights,
    ProjectedLSTMWeights,
    RecurrentWeights,
    elementwise_scan_recurrence,
    elman_recurrence,
    gru_recurrence,
    gru_reset_before_recurrence,
    layernorm_gru_recurrence,
    layernorm_lstm_recurrence,
    linear_scan_recurrence,
    lstm_recurrence,
    peephole_lstm_recurrence,
    projected_lstm_recurrence,
    slstm_recurrence,
)
from recurra.kernels.backend import OPERATIONS, available_backends
from recurra.layers import (
    GRU,
    LSTM,
    RNN,
    Attention,
    AttentionPooling,
    CharacterNgrams,
    Embedding,
    LastPooling,
    LinearChainCRF,
    MaxMeanPooling,
    MaxPooling,
    MeanPooling,
    NgramLinear,
    Regularization,
    Spelling,
    Stack,
    StepDropout,
    TokenNgrams,
    VariationalDropout,
)

__all__ = [
    "ATTENTIONS",
    "CELLS",
    "FEATURES",
    "HEADS",
    "KERNELS",
    "MODULES",
    "POOLINGS",
    "STACKS",
    "Column",
    "Kernel",
    "LeakyCell",
    "SCANS",
    "SCAN_CELLS",
    "TAGS",
    "Stacking",
]

F, H = 3, 4
"""Features of the input and hidden units of everything built here."""


class Kernel(NamedTuple):
    """A recurrence, and what it is called with.

    Attributes:
        function: the recurrence.
        gates: G.
        state_type: NamedTuple of its state.
        torch_layer: the torch.nn layer that computes the same; None where there is none.
        options: more arguments.
        weights_type: NamedTuple of its weights.
        parts: what H is divided by for the units that one recurrent weight's row reads: heads, or a projection to H/parts.
    """

    function: Callable[..., tuple[Tensor, Any]]
    gates: int
    state_type: type[Any]
    torch_layer: Callable[..., nn.RNNBase] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012
    weights_type: type[Any] = RecurrentWeights
    parts: int = 1

    @property
    def operation(self) -> str:
        """Its name in `recurra.kernels.backend`."""
        return self.function.__name__.removesuffix("_recurrence") + ("_relu" if self.options else "")

    @property
    def backends(self) -> list[str]:
        """Names of all that can run it on this machine."""
        return [name for name in OPERATIONS[self.operation] if name in available_backends()]

    @property
    def free_backends(self) -> list[str]:
        """Those that have noise inside the recurrence, and resets."""
        return [name for name in self.backends if name != "aten"]

    @property
    def fused(self) -> bool:
        """Whether torch has a fused operation for it."""
        return "aten" in OPERATIONS[self.operation]

    def weight_shapes(self, features: int, hidden: int) -> dict[str, tuple[int, ...]]:
        wide, read = self.gates * hidden, max(hidden // self.parts, 1)
        matrices = {"w_ih": (wide, features), "w_hh": (wide, read), "w_hr": (read, hidden)}
        vectors = {**dict.fromkeys(("b_ih", "b_hh", "gain_ih", "gain_hh"), (wide,)), **matrices}
        return {name: vectors.get(name, (hidden,)) for name in self.weights_type._fields}

    def state_sizes(self, hidden: int) -> dict[str, int]:
        sizes = dict.fromkeys(self.state_type._fields, hidden)
        return {**sizes, "h": max(hidden // self.parts, 1)} if "w_hr" in self.weights_type._fields else sizes


KERNELS: dict[str, Kernel] = {
    "elman": Kernel(elman_recurrence, 1, ElmanState, nn.RNN),
    "elman_relu": Kernel(
        elman_recurrence, 1, ElmanState, lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options), {"nonlinearity": "relu"}
    ),
    "lstm": Kernel(lstm_recurrence, 4, LSTMState, nn.LSTM),
    "gru": Kernel(gru_recurrence, 3, GRUState, nn.GRU),
    "layernorm_lstm": Kernel(layernorm_lstm_recurrence, 4, LSTMState, weights_type=LayerNormLSTMWeights),
    "layernorm_gru": Kernel(layernorm_gru_recurrence, 3, GRUState, weights_type=LayerNormGRUWeights),
    "gru_reset_before": Kernel(gru_reset_before_recurrence, 3, GRUState),
    "projected_lstm": Kernel(
        projected_lstm_recurrence,
        4,
        LSTMState,
        lambda features, hidden, **options: nn.LSTM(features, hidden, proj_size=hidden // 2, **options),
        weights_type=ProjectedLSTMWeights,
        parts=2,
    ),
    "peephole_lstm": Kernel(peephole_lstm_recurrence, 4, LSTMState, weights_type=PeepholeLSTMWeights),
    "slstm": Kernel(slstm_recurrence, 4, SLSTMState),
    "slstm, two heads": Kernel(slstm_recurrence, 4, SLSTMState, parts=2),
}


SCANS = {"linear_scan": linear_scan_recurrence, "elementwise_scan": elementwise_scan_recurrence}
"""Recurrences that are called with other arguments."""


class LeakyCell(Cell):
    """A user's cell: what the documentation promises in 15 lines, with an output wider than its state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.output_size = hidden_size + 1
        self.read = nn.Linear(input_size, hidden_size)
        self.rate = nn.Parameter(torch.zeros(hidden_size))

    def step(self, x: Tensor, state: ElmanState) -> tuple[Tensor, ElmanState]:
        rate = self.rate.sigmoid()
        h = rate * state.h + (1 - rate) * self.read(x).tanh()
        return torch.cat([h, h.sum(1, keepdim=True)], 1), ElmanState(h)


LEARNED = Initialization("orthogonal", learn_state=True)

PROJECTED = partial(ProjectedLSTMCell, proj_size=2)
HEADS = partial(SLSTMCell, heads=2)
STANDARD = {name: make for name, make in CELL_CLASSES.items() if issubclass(make, StandardCell)}
BUILT_IN: dict[str, Any] = {**STANDARD, "projected_lstm": PROJECTED, "slstm, two heads": HEADS}

SCAN_CELLS: dict[str, Any] = {
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "sru": SRUCell,
    "qrnn": QRNNCell,
    "qrnn, one step": partial(QRNNCell, window=1),
    "rg_lru": RGLRUCell,
    "indrnn": IndRNNCell,
    "indrnn, tanh": partial(IndRNNCell, nonlinearity="tanh"),
}
"""Cells whose units read only themselves."""

CELLS: dict[str, Callable[[], Cell]] = {
    "elman": partial(ElmanCell, F, H),
    "elman_relu": partial(ElmanReluCell, F, H),
    "lstm": partial(LSTMCell, F, H),
    "gru": partial(GRUCell, F, H),
    "layernorm_lstm": partial(LayerNormLSTMCell, F, H),
    "layernorm_gru": partial(LayerNormGRUCell, F, H),
    "gru_reset_before": partial(GRUResetBeforeCell, F, H),
    "peephole_lstm": partial(PeepholeLSTMCell, F, H),
    "projected_lstm": partial(PROJECTED, F, H),
    "slstm": partial(SLSTMCell, F, H),
    "slstm, two heads": partial(HEADS, F, H),
    **{name: partial(make, F, H) for name, make in SCAN_CELLS.items()},
    "sru, as many features as units": partial(SRUCell, H, H),
    "rg_lru, as many features as units": partial(RGLRUCell, H, H),
    **{f"{name}, reference": partial(make, F, H, backend="reference") for name, make in SCAN_CELLS.items()},
    **{f"{name}, learned state": partial(make, F, H, initialization=LEARNED) for name, make in SCAN_CELLS.items()},
    "a user's cell": partial(LeakyCell, F, H),
    **{f"{name}, reference": partial(make, F, H, backend="reference") for name, make in BUILT_IN.items()},
    **{f"{name}, zoneout": partial(make, F, H, zoneout=0.2) for name, make in BUILT_IN.items()},
    **{f"{name}, learned state": partial(make, F, H, initialization=LEARNED) for name, make in BUILT_IN.items()},
}


class Stacking(NamedTuple):
    """A stack, and what it is made of, so that contracts can change one option."""

    cell: Any
    options: dict[str, Any]

    def build(self, **changes: Any) -> Stack:
        return Stack(self.cell, F, H, **{**self.options, **changes})


STACKS: dict[str, Stacking] = {
    **{f"{name}, two layers": Stacking(name, {"layers": 2}) for name in CELL_CLASSES},
    **{f"{name}, bidirectional": Stacking(name, {"layers": 2, "bidirectional": True}) for name in CELL_CLASSES},
    "residual and normalized": Stacking("lstm", {"layers": 3, "residual": True, "layer_norm": True, "bidirectional": True}),
    "learned state": Stacking("lstm", {"initialization": Initialization("orthogonal", forget_bias=1.0, learn_state=True)}),
    "all noise": Stacking("lstm", {"layers": 2, "regularization": Regularization(0.1, 0.2, True, 0.3, 0.2, 0.1)}),
    "projected": Stacking(partial(PROJECTED, zoneout=0.1, recurrent_dropout=0.3), {"layers": 2, "bidirectional": True}),
    "heads": Stacking(partial(HEADS, zoneout=0.1, recurrent_dropout=0.3), {"layers": 2, "bidirectional": True}),
    "a user's cell": Stacking(LeakyCell, {"layers": 2, "bidirectional": True}),
}

POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "last": lambda: LastPooling(H),
    "last, bidirectional": lambda: LastPooling(H, bidirectional=True),
    "mean": lambda: MeanPooling(H),
    "max": lambda: MaxPooling(H),
    "max_mean": lambda: MaxMeanPooling(H),
    "attention": lambda: AttentionPooling(H),
}

ATTENTIONS: dict[str, Callable[[], Attention]] = {
    "additive": partial(Attention, F, H, 5),
    "additive with coverage": partial(Attention, F, H, 5, coverage=True),
    "multiplicative": partial(Attention, F, H, 5, score="multiplicative"),
}
"""Attention of queries of F features over steps of H."""

MODULES: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: Embedding(7, F),
    "character n-grams": lambda: CharacterNgrams(["<padding>", "<unknown>", "cat", "dog"], 50, F),
    "token n-grams": lambda: TokenNgrams(2, 50, F),
    "step dropout": lambda: StepDropout(0.5),
    "linear model on n-grams": lambda: NgramLinear(5, 2, order=2, vocabulary_size=7),
    "conditional random field": lambda: LinearChainCRF(4),
    "spelling": lambda: Spelling(50, 9, way="recurrent", size=F),
    "variational dropout": lambda: VariationalDropout(0.5),
    "torch.nn.LSTM's drop-in": partial(LSTM, F, H),
    "torch.nn.GRU's drop-in": partial(GRU, F, H),
    "torch.nn.RNN's drop-in": partial(RNN, F, H),
}
"""Layers that are none of the above."""


class Column(NamedTuple):
    """A feature or head: its class, the values it is fitted on, settings, and a value that it cannot use (None: it uses any)."""

    kind: Any
    values: pl.Series
    settings: dict[str, Any]
    wrong: Any

    def fit(self, **changes: Any) -> Any:
        """Fitted in two chunks, as a table is read."""
        half = len(self.values) // 2
        return self.kind.fit("column", [self.values[:half], self.values[half:]], self.chosen(**changes))

    def chosen(self, **changes: Any) -> Settings:
        common = {"text.min_frequency": 1, "embedding.size": 3, "embedding.dropout": 0.0, "embedding.buckets": 50}
        return load_settings({**common, **self.settings, **{name.replace("__", "."): value for name, value in changes.items()}})


TEXTS = pl.Series(["a b b", "b c", None, "zebra", "", "A Ä b", "c"])
NUMBERS = pl.Series([1.5, 2.0, None, 4.0, -3.0, 1e6])

FEATURES: dict[str, Column] = {
    "text, words": Column(TextFeature, TEXTS, {"text.tokenizer": "word"}, None),
    "text, characters": Column(TextFeature, TEXTS, {"text.tokenizer": "character"}, None),
    "text, byte pairs": Column(TextFeature, TEXTS, {"text.tokenizer": "bpe"}, None),
    "text, n-grams": Column(
        TextFeature, TEXTS, {"embedding.character_ngrams": [2, 3], "embedding.token_ngrams": 2, "embedding.buckets": 50}, None
    ),
    "text of numbers": Column(TextFeature, NUMBERS, {}, None),
    "tokens": Column(TokensFeature, pl.Series([["a", "b"], ["new york"], None, [], ["b"]]), {}, None),
    "tokens of a string": Column(TokensFeature, TEXTS, {}, None),
    "tokens that are tagged": Column(TokensFeature, TEXTS, {"tag.tokens": "column", "tag.cut": "word", "tag.character_size": 3}, None),
    "tokens that are tagged, n-grams": Column(
        TokensFeature, TEXTS, {"tag.tokens": "column", "tag.cut": "character", "tag.characters": "ngrams", "tag.shape": False}, None
    ),
    "category": Column(CategoryFeature, pl.Series(["x", "y", "x", None, "z"]), {}, None),
    "category of truth values": Column(CategoryFeature, pl.Series([True, False, None]), {}, None),
    "number": Column(NumberFeature, NUMBERS, {}, float("inf")),
    "number of a string": Column(NumberFeature, pl.Series(["1.5", " 2 ", None, "4", "n/a"]), {}, "many"),
}

HEADS: dict[str, Column] = {
    "classify": Column(ClassifyHead, pl.Series(["spam", "ham", "ham", "eggs", "spam"]), {}, "hamm"),
    "classify, whole numbers": Column(ClassifyHead, pl.Series([3, 10, 2, 3, 10]), {}, 4),
    "classify, truth values": Column(ClassifyHead, pl.Series([True, False, True, True]), {}, None),
    "classify, weighted": Column(
        ClassifyHead, pl.Series(["a", "b", "b", "b"]), {"head.class_weights": "balanced", "head.label_smoothing": 0.1}, "c"
    ),
    "labels": Column(LabelsHead, pl.Series(["a,b", "b", "", "c, a", "a"]), {}, "a,x"),
    "labels of lists": Column(LabelsHead, pl.Series([["a", "b"], [], ["c"], ["a"]]), {"head.class_weights": "balanced"}, ["x"]),
    "regress": Column(RegressHead, pl.Series([1.0, 2.0, 4.0, -3.0, 9.0]), {}, float("inf")),
    "regress, strings": Column(RegressHead, pl.Series(["1", "2.5", "-4"]), {}, "many"),
}

TAGGED = {"head.task": "tag", "tag.tokens": "tokens", "tag.cut": "word"}

TAGS: dict[str, Column] = {
    "tag, spans": Column(TagHead, pl.Series([["B-PER", "I-PER"], ["O", "B-LOC", "O"], [], ["B-PER", "B-LOC"]]), TAGGED, ["PERSON"]),
    "tag, one token spans": Column(
        TagHead, pl.Series([["S-PER"], ["B-PER", "E-PER"], ["O"]]), {**TAGGED, "tag.scheme": "bio"}, ["O", None]
    ),
    "tag, parts of speech": Column(TagHead, pl.Series(["NN VB", "", "NN", "DT NN"]), TAGGED, None),
}
"""Heads with an output for each step."""
