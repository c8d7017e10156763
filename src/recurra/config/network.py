"""Settings of the network between input and output: the stack of cells, and the head."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recurra.config.group import Group, Positive, Probability, Text

__all__ = ["EncoderSettings", "HeadSettings"]


class EncoderSettings(Group):
    """The stack of recurrent cells and the pooling of its steps."""

    cell: Literal[
        "elman",
        "elman_relu",
        "lstm",
        "gru",
        "layernorm_lstm",
        "layernorm_gru",
        "gru_reset_before",
        "peephole_lstm",
        "slstm",
        "min_gru",
        "min_lstm",
        "sru",
        "qrnn",
        "rg_lru",
        "indrnn",
    ] = "lstm"
    """The recurrent unit: elman (tanh), elman_relu, lstm, gru; layernorm_lstm and layernorm_gru (normalized inside the
    recurrence), gru_reset_before (Cho et al. 2014), peephole_lstm (Graves 2013), slstm (Beck et al. 2024). Without a
    recurrent matrix, fast over long sequences: min_gru and min_lstm (Feng et al. 2024), sru (Lei et al. 2017), qrnn (Bradbury et
    al. 2017), rg_lru (De et al. 2024), indrnn (Li et al. 2018)."""
    hidden_size: Positive = 128
    """Units of a layer and direction."""
    layers: Positive = 1
    """Layers on top of each other."""
    bidirectional: bool = True
    """Read from both ends; each layer then has two outputs of hidden_size."""
    residual: bool = False
    """Add a layer's input to its output where the widths agree."""
    layer_norm: bool = False
    """Normalize each layer's output over its features (Ba et al. 2016)."""
    input_dropout: Probability = 0.0
    """Dropout of the first layer's input with one mask for all steps (variational)."""
    between_dropout: Probability = 0.0
    """Dropout between the layers."""
    variational: bool = False
    """One mask for all steps of a sequence between the layers (Gal & Ghahramani 2016), not one a step."""
    recurrent_dropout: Probability = 0.0
    """Dropout of the hidden state that the recurrence reads, one mask for all steps."""
    weight_dropout: Probability = 0.0
    """DropConnect of the recurrent weights, one mask a batch (Merity et al. 2017)."""
    zoneout: Probability = 0.0
    """Share of units that keep their previous state at a step (Krueger et al. 2016)."""
    learn_initial_state: bool = False
    """Train the state before the first step instead of zeros."""
    forget_bias: float | Literal["auto"] = "auto"
    """Start of the forget-gate bias of every kind of LSTM; auto: 1 with orthogonal initialization, else torch's own."""
    initialization: Literal["torch", "orthogonal"] = "orthogonal"
    """torch: uniform in 1/sqrt(hidden_size). orthogonal: orthogonal recurrent, Glorot input weights, zero biases."""
    pooling: Literal["last", "mean", "max", "max_mean", "attention"] = "max_mean"
    """How the steps of a sequence become one vector."""
    shared: bool = False
    """One stack for all sequence inputs (parameter sharing) instead of one each."""
    backend: Literal["auto", "reference", "aten", "cpu", "triton"] = "auto"
    """What computes the recurrence; a named backend runs or raises with the reason."""

    @property
    def title(self) -> str:
        """What reads, in words: `"bidirectional LSTM"`."""
        return f"{'bidirectional ' if self.bidirectional else ''}{self.cell.upper()}"


class HeadSettings(Group):
    """What the model puts out."""

    task: Literal["auto", "classify", "labels", "regress", "forecast", "language", "recommend", "tag", "several", "translate", "answer"] = (
        "auto"
    )
    """classify: one class. labels: several at once. regress: a number. forecast: the next steps of series. recommend: the next item
    of a session. language: the next token of a text. tag: one tag a token. several: a head for each of several targets. translate:
    another text. answer: the span of a text that answers a question. auto: inferred from the target and shown; forecast, language,
    recommend, tag, several, translate or answer where a setting of that group is given."""
    hidden_size: Annotated[int, Field(ge=0)] = 0
    """Units of a hidden layer before the output; 0 for none."""
    dropout: Probability = 0.5
    """Dropout of the vector that the head reads."""
    label_smoothing: Probability = 0.0
    """Probability mass moved from the target to all classes alike."""
    class_weights: Literal["none", "balanced"] | dict[Text, Annotated[float, Field(gt=0.0)]] = "none"
    """balanced: inverse to a class's share of the training rows; or a weight by label (1 where not named)."""
    linear: Literal["auto", "ngrams", "none"] = "auto"
    """A linear model beside the network of a text classifier, on the TF-IDF of the same tokens and their n-grams: fitted to the training rows
    after the network, its scores added with a weight that is chosen on the validation rows, and left out where it does not help. auto: where
    the network reads one text from both ends; one that reads forward can be streamed, and with a linear model it could not. ngrams: wherever it
    reads one text, or it is an error."""
