"""Every setting of a run: the only home of defaults.

One tree of pydantic models. It is read from a YAML file, from `--set encoder.hidden_size=256` and from Python
dictionaries, saved in every model folder, and exported as a JSON schema for editors (`recurra settings --schema`).
Unknown keys are errors with the nearest name. This room knows no other room but the errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from recurra.errors import SettingsError, nearest

if TYPE_CHECKING:
    import yaml

__all__ = [
    "AugmentationSettings",
    "ColumnType",
    "DataSettings",
    "EmbeddingSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "HeadSettings",
    "LoggingSettings",
    "OptimizerSettings",
    "ScheduleSettings",
    "Settings",
    "TextSettings",
    "TrainingSettings",
    "load_settings",
    "parse_assignment",
]

ColumnType = Literal["text", "tokens", "category", "number", "ignore"]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


def _as_text(value: Any) -> Any:
    """A name or label that Python holds as a number or a truth value, as the text it has in a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


Text = Annotated[str, BeforeValidator(_as_text)]
"""A column, a label or another name: 1 and true are names too."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class DataSettings(_Group):
    """Which columns are used, how rows are split, what happens to rows that cannot be used."""

    types: dict[Text, ColumnType] = {}
    """Column types that replace the inferred ones: text, tokens, category, number or ignore."""
    join: dict[Text, list[Text]] = {}
    """New text columns made of others, joined by a space: {"text": ["title", "description"]}."""
    columns: list[Text] | None = None
    """Input columns to use; all but the target when not given."""
    group: Text | None = None
    """Column whose rows stay together on one side of the split (a customer, a document)."""
    time: Text | None = None
    """Column that orders rows in time: the latest rows are held out."""
    validation_share: Share = 0.1
    """Share of the rows held out to select the model, when no validation file is given."""
    test_share: Share = 0.1
    """Share of the rows held out to measure the model, when no test file is given."""
    missing_targets: Literal["drop", "fail"] = "drop"
    """What happens to rows without a target: left out and counted, or an error."""
    ignore_labels: list[Text] = []
    """Rows with one of these labels are left out of training and evaluation (by class), or the label is not learnt (several labels)."""
    label_separator: Text = ","
    """What stands between the labels of one row when the target holds several labels as text."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to rows of a file that cannot be read: an error that names file and line, or left out and counted."""


class TextSettings(_Group):
    """How text becomes tokens."""

    tokenizer: Literal["auto", "word", "character", "bpe", "whitespace", "jieba"] = "auto"
    """auto: character for mostly Chinese, Japanese, Korean or Thai text, word for all other."""
    lowercase: bool = True
    """Fold upper case into lower case."""
    normalization: Literal["nfc", "nfkc", "none"] = "nfkc"
    """Unicode normalization form applied first."""
    strip_accents: bool = False
    """Remove accents and other combining marks."""
    vocabulary_size: Positive = 30_000
    """Most tokens kept, the most frequent first."""
    min_frequency: Positive = 2
    """Tokens seen less often in the training rows are unknown. Not for characters, where every one seen is kept."""
    max_length: Positive = 1_000
    """Tokens of one text that are read; the rest is cut off and the number of cut texts reported."""
    vectors: Text | None = None
    """Path of a GloVe or fastText text file (may be gzipped) that initialises the embedding."""


class EmbeddingSettings(_Group):
    """How tokens become vectors."""

    size: Positive = 128
    """Features of one token's vector; that of the file when word vectors are given."""
    init_range: Annotated[float, Field(gt=0.0)] = 0.05
    """Vectors start uniform in plus and minus this."""
    dropout: Probability = 0.4
    """Share of the features of an embedded step set to zero, drawn anew at each step."""
    token_dropout: Probability = 0.0
    """Share of the vocabulary whose vectors are set to zero in a batch (Gal & Ghahramani 2016)."""
    character_ngrams: tuple[Positive, Positive] | Literal["auto", "none"] = "auto"
    """Shortest and longest character n-grams of a token whose vectors are added to its own, as [3, 5] (fastText).
    auto: [3, 5] for words, none for characters and byte-pair pieces."""
    token_ngrams: Annotated[int, Field(ge=1, le=8)] | Literal["auto"] = "auto"
    """Longest n-grams of neighbouring tokens whose vectors are added at the step where they end; 1 for none.
    auto: 4 for characters, 1 for all other tokens."""
    buckets: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Vectors shared, by hash, by all n-grams of one kind. auto: four times the vocabulary and at most 20,000 for words;
    50,000 for characters."""
    sparse: bool = False
    """Row-sparse gradients and optimizer updates of the embedding: pays for large vocabularies."""

    @field_validator("character_ngrams")
    @classmethod
    def _shortest_first(cls, value: tuple[int, int] | str) -> tuple[int, int] | str:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"{list(value)} has the longest n-gram first: write the shortest first, [{value[1]}, {value[0]}]")
        return value


class EncoderSettings(_Group):
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


class HeadSettings(_Group):
    """What the model puts out."""

    task: Literal["auto", "classify", "labels", "regress"] = "auto"
    """classify: one class. labels: several at once. regress: a number. auto: inferred from the target and shown."""
    hidden_size: Annotated[int, Field(ge=0)] = 0
    """Units of a hidden layer before the output; 0 for none."""
    dropout: Probability = 0.5
    """Dropout of the vector that the head reads."""
    label_smoothing: Probability = 0.0
    """Probability mass moved from the target to all classes alike."""
    class_weights: Literal["none", "balanced"] | dict[Text, Annotated[float, Field(gt=0.0)]] = "none"
    """balanced: inverse to a class's share of the training rows; or a weight by label (1 where not named)."""


class OptimizerSettings(_Group):
    """The optimizer, by its name in torch.optim."""

    name: Literal["sgd", "adam", "adamw", "adafactor", "rmsprop", "adagrad", "nadam", "radam", "asgd", "muon"] = "adamw"
    """Muon updates the matrices of the recurrence and AdamW all other parameters."""
    learning_rate: Annotated[float, Field(gt=0.0)] | Literal["auto"] = 2e-3
    """Step size at its largest; auto runs the learning-rate finder first."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Decay of the weight matrices; biases and normalization gains are never decayed."""
    embedding_factor: Annotated[float, Field(gt=0.0)] = 3.0
    """Learning rate of the embeddings in multiples of that of all else: each of their rows is met in few batches only."""
    momentum: Probability = 0.9
    """Momentum of sgd, rmsprop and muon."""
    beta1: Probability = 0.9
    """Decay of the gradient's running mean (Adam's family)."""
    beta2: Probability = 0.99
    """Decay of the squared gradient's running mean (Adam's family)."""


class ScheduleSettings(_Group):
    """How the learning rate moves."""

    name: Literal["constant", "linear", "cosine", "one_cycle", "plateau"] = "cosine"
    """Shape after the warm-up; plateau divides by ten when the monitored metric stalls."""
    warmup: Share = 0.1
    """Share of all steps in which the rate rises from zero."""
    floor: Share = 0.0
    """Share of the learning rate at which linear and cosine end."""
    patience: Positive = 2
    """Epochs without improvement before plateau lowers the rate."""


class AugmentationSettings(_Group):
    """Noise on the tokens of the training rows, drawn anew each epoch."""

    word_dropout: Probability = 0.1
    """Share of tokens replaced by the unknown token."""
    swap: Probability = 0.0
    """Share of tokens exchanged with their right neighbour."""
    character_noise: Probability = 0.0
    """Share of tokens in which one character is dropped, doubled, replaced or exchanged with its neighbour."""


class TrainingSettings(_Group):
    """How long, in which batches, and what guards it."""

    epochs: Positive = 10
    """Most passes over the training rows."""
    patience: Annotated[int, Field(ge=0)] = 3
    """Epochs without improvement of the monitored metric before training stops; 0 never stops early."""
    monitor: Text = "auto"
    """Validation metric that selects the model; auto: accuracy, micro F1 or RMSE by task."""
    batch_size: Positive = 64
    """Most rows of a batch."""
    batch_tokens: Positive = 16_384
    """Most steps of a batch, padding included: long texts make batches of fewer rows."""
    accumulate: Positive = 1
    """Batches whose gradients are added before a step."""
    clip_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest norm of the whole gradient; 0 does not clip."""
    clip_value: Annotated[float, Field(ge=0.0)] = 0.0
    """Largest absolute value of a gradient's element; 0 does not clip."""
    average: Probability = 0.0
    """Decay of the running average of the weights that validation and the saved model use; 0 for none."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the forward and backward pass; below float32 it is automatic mixed precision."""
    divergence_factor: Annotated[float, Field(gt=1.0)] = 100.0
    """Training stops with advice when a batch's loss is this many times that of the first batches."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """Time between checkpoints in the middle of an epoch; one is written after every epoch anyway."""
    gradient_flow_batches: Annotated[int, Field(ge=0)] = 4
    """Batches an epoch on which the gradient is measured by layer and by distance in time; 0 for none."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the split, the initial weights, the order of the batches and all noise."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs."""
    devices: Positive = 1
    """Processes or accelerators that share the work."""


class EvaluationSettings(_Group):
    """What is measured at the end."""

    baselines: bool = True
    """Train the majority (or mean) and the TF-IDF linear baseline on the same split."""
    baseline_rows: Positive = 200_000
    """Most training rows the linear baseline sees, so that its memory stays bounded."""
    bootstrap_samples: Annotated[int, Field(ge=0)] = 1_000
    """Resamples behind the confidence intervals; 0 for none."""
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """Level of the confidence intervals."""


class LoggingSettings(_Group):
    """Where the course of the training is written, besides the CSV file."""

    tensorboard: bool = True
    """Event files for TensorBoard under logs/ of the output folder."""
    wandb: Text | None = None
    """Weights & Biases project (needs the extra `wandb`)."""
    mlflow: Text | None = None
    """MLflow experiment (needs the extra `mlflow`)."""


class Settings(_Group):
    """All settings of a run."""

    target: Text | None = None
    """The column to predict."""
    data: DataSettings = DataSettings()
    text: TextSettings = TextSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    encoder: EncoderSettings = EncoderSettings()
    head: HeadSettings = HeadSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.data.validation_share + self.data.test_share >= 1.0:
            raise ValueError("data.validation_share and data.test_share leave no rows to train on: their sum must be under 1")
        if self.data.group and self.data.time:
            raise ValueError("data.group and data.time cannot both decide the split: give one of them")
        return self


_AS_WRITTEN = (
    "target",
    "data.types",
    "data.join",
    "data.columns",
    "data.group",
    "data.time",
    "data.ignore_labels",
    "data.label_separator",
    "text.vectors",
    "training.monitor",
    "logging.wandb",
    "logging.mlflow",
)
"""Settings that hold names or labels: in YAML, too, they are the text that was written, be it 1e5, 007 or True."""
_MERGED = (("data", "types"), ("data", "join"))
"""Dictionaries that a later source adds to; all others it replaces."""


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """`"encoder.hidden_size=256"` as `("encoder.hidden_size", 256)`; the value is read as YAML, names and labels as they are written.

    Raises:
        SettingsError: there is no `=`, or the value is not YAML.
    """
    import yaml

    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"{assignment!r} is not a setting: write it as group.name=value, for example encoder.hidden_size=256.")
    try:
        return key.strip(), _load_yaml(value, key.strip())
    except yaml.YAMLError as error:
        raise SettingsError(f"The value of {key!r} cannot be read as YAML: {value!r} ({error}).") from error


def load_settings(*sources: str | Path | Mapping[str, Any] | Settings | None) -> Settings:
    """Settings from files and dictionaries; what comes later replaces what came before.

    Args:
        sources: paths of YAML (or JSON) files, nested dictionaries, flat ones with dotted keys
            (`{"encoder.hidden_size": 256}`), or `Settings`. None is skipped.

    Raises:
        SettingsError: a file is missing or not YAML, a key is unknown (with the nearest name), a value is out of range.
    """
    merged: dict[str, Any] = {}
    for source in sources:
        if source is None:
            continue
        if isinstance(source, Settings):
            given: Mapping[str, Any] = source.model_dump(exclude_unset=True)
        elif isinstance(source, (str, Path)):
            given = _read_yaml(Path(source))
        elif isinstance(source, Mapping):
            given = source
        else:
            raise SettingsError(f"Settings are a dictionary, a `Settings` or the path of a YAML file, not {source!r}.")
        _merge(merged, _nested(given))
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = _load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {str(path)!r} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {str(path)!r} is not YAML: {error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {str(path)!r} must hold `group: {{name: value}}`, not a {type(content).__name__}.")
    return content


def _load_yaml(text: str, path: str = "") -> Any:
    """YAML with the numbers and truth values of version 1.2 (core schema); `path` is the setting that the text is the value of.

    Version 1.1, PyYAML's own, takes `on` and `no` for truth values, `2024-01-01` for a date and `1e-3` for a text.
    """
    loader = _yaml_loader()(text)
    try:
        node = loader.get_single_node()
        _keep_text(node, path, set())
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


@cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2, core schema, and merge keys."""

        yaml_implicit_resolvers = {}  # noqa: RUF012 # as the base class has it; not its own, which are those of 1.1

        def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
            return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    for kind, pattern, first in (
        ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
        ("merge", "<<", ["<"]),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), first)
    return Loader


def _keep_text(node: yaml.Node | None, path: str, seen: set[int]) -> None:
    """Make text of all keys, and of the values of settings that hold names. `seen`: an alias may lead back or be met very often."""
    import yaml

    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
            _keep_text(value, f"{path}.{key.value}".lstrip("."), seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _keep_text(value, path, seen)
    elif node.tag != "tag:yaml.org,2002:null" and any(f"{path}.".startswith(f"{name}.") for name in _AS_WRITTEN):
        node.tag = "tag:yaml.org,2002:str"


def _nested(source: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys at the top level become nested dictionaries."""
    nested: dict[str, Any] = {}
    for key, value in source.items():
        group, dot, rest = str(key).partition(".")
        _merge(nested, {group: _nested({rest: value})} if dot else {group: value})
    return nested


def _merge(into: dict[str, Any], other: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
    """`other` over `into`, groups key by key, and the dictionaries of columns too: any other dictionary that is a value replaces."""
    for key, value in other.items():
        here = (*path, key)
        if isinstance(value, Mapping) and (here in _MERGED or (not path and key in Settings.model_fields)):
            known = into.get(key)
            into[key] = dict(known) if isinstance(known, Mapping) else {}
            _merge(into[key], value, here)
        else:
            into[key] = value


def _explain(error: ValidationError) -> str:
    """Pydantic's errors in one line each, with the nearest name for an unknown key."""
    lines = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            lines.append(f"There is no setting {'.'.join(path)!r}.{_nearest_setting(path)}")
        else:
            given = "" if item["type"] == "value_error" or not path else f" (given: {json.dumps(item['input'], default=str)})"
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{'.'.join(path)}: {message}{given}." if path else message)
    return "\n".join(dict.fromkeys(lines))


def _nearest_setting(path: list[str]) -> str:
    model: type[BaseModel] = Settings
    for part in path[:-1]:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        model = annotation
    group = ".".join(path[:-1])
    hint = nearest(path[-1], model.model_fields)
    if hint:
        return hint.replace("'", f"'{group}.", 1) if group else hint
    homes = [f"{group}.{path[-1]}" for group in _groups() if path[-1] in _groups()[group]]
    if homes:
        return f" Did you mean {homes[0]!r}?"
    return f" Known here: {', '.join(model.model_fields)}."


def _groups() -> dict[str, Iterable[str]]:
    return {
        name: field.annotation.model_fields
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
