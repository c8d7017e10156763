"""A training that begins with a trained model: what is read of it, and which settings it decides.

Not inside: what of it the new network takes over (`weight_transfer`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recurra.config import Settings
from recurra.config.transfer import TRANSFER_TAKEN
from recurra.data.codec import TextCodec
from recurra.data.tokenize import UNKNOWN, Tokenizer
from recurra.data.words import Kind
from recurra.errors import SettingsError, nearest
from recurra.features.text import TextFeature, TokenEmbedding
from recurra.layers import Stack
from recurra.layers.hashed import HashedTable
from recurra.layers.spelling import Spelling
from recurra.model.language.model import LanguageModel
from recurra.model.load import load
from recurra.model.model import Model
from recurra.shapes import Float, Tensor

__all__ = ["Pretrained", "Source", "adapted", "columns_to_begin", "read_pretrained", "with_model"]

FREE = ("embedding.character_ngrams", "embedding.token_ngrams", "embedding.buckets")
"""Settings that a language model has nothing to say on: n-gram tables may be added to its vectors."""


@dataclass(frozen=True)
class Source:
    """What a text column can begin with.

    Attributes:
        tokenizer: the vocabulary.
        kind: how its texts were cut; "tokens" where they came as lists.
        weight: (V, F) vectors of the tokens.
        tables: of n-grams.
        spelling: how its tokens are spelt, where it tags them.
        stack: the recurrent layers.
        new: (F,) what the vector of a token that is not in the vocabulary begins with.
    """

    tokenizer: Tokenizer
    kind: Kind
    weight: Float[Tensor, "V F"]
    tables: Sequence[HashedTable]
    spelling: Spelling | None
    stack: Stack
    new: Float[Tensor, " F"]

    def vocabulary(self, column_type: str) -> Tokenizer:
        """The vocabulary for a column: one of text is cut as the model's was, or by itself where that came as lists; one of tokens comes as lists."""
        return replace(self.tokenizer, kind="tokens" if column_type == "tokens" else self.kind)


@dataclass(frozen=True)
class Pretrained:
    """A trained model to begin with.

    Attributes:
        path: its folder, as the user named it.
        model: the model.
        sources: by column of the model's own table; a language model has one, of no column.
    """

    path: str
    model: LanguageModel | Model
    sources: Mapping[str, Source]

    @property
    def codec(self) -> TextCodec | None:
        """The vocabulary of a language model."""
        return self.model.codec if isinstance(self.model, LanguageModel) else None

    def describe(self, size: int, column: str = "") -> str:
        """How much of a vocabulary is new.

        Args:
            size: tokens of the vocabulary.
            column: that begins with the model.
        """
        known = len(self.source(column).weight)
        return f"{known:,} of its {size:,} tokens are known" if size > known else f"all {size:,} tokens are known"

    def source(self, column: str) -> Source:
        """What a column begins with: the column of its name, or the only one that there is.

        Raises:
            SettingsError: the model has read several columns, and none of this name.
        """
        if column in self.sources:
            return self.sources[column]
        if len(self.sources) > 1:
            raise SettingsError(
                f"The model {self.path!r} has read the columns {', '.join(self.sources)}, and none is called {column!r}: "
                f"name the columns that begin with it in transfer.columns.{nearest(column, self.sources)}"
            )
        return next(iter(self.sources.values()))


def with_model(fingerprint: str, pretrained: Pretrained | None) -> str:
    """The hash of the data and of the weights that a training begins with; of the data alone where it begins without.

    Args:
        fingerprint: of the data.
        pretrained: the trained model.
    """
    if pretrained is None:
        return fingerprint
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
    for tensor in pretrained.model.network.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_pretrained(settings: Settings) -> Pretrained | None:
    """The model that `transfer.model` names; None where it names none.

    Raises:
        ModelFolderError: it cannot be loaded.
        SettingsError: nothing can begin with a model of its task, or of its tokens; or word vectors are given too.
    """
    path = settings.transfer.model
    if path is None:
        return None
    if settings.text.vectors is not None:
        raise SettingsError("transfer.model and text.vectors both say what the vectors of tokens begin with: give one of them.")
    model = load(path)
    if isinstance(model, LanguageModel):
        return Pretrained(path, model, {"": _language_source(path, model, settings)})
    if isinstance(model, Model):
        sources = {feature.name: _table_source(model, feature) for feature in model.features if isinstance(feature, TextFeature)}
        if sources and settings.head.task != "language":
            return Pretrained(path, model, sources)
        found = "no text" if not sources else f"a {model.head.task} model, and a language model begins with one of its own kind"
        raise SettingsError(f"{path!r} has {found}: give --from the folder of a language model.")
    raise SettingsError(f"{path!r} holds a {type(model).__name__}: give --from the folder of a language model or of one that reads text.")


def _language_source(path: str, model: LanguageModel, settings: Settings) -> Source:
    codec, network = model.codec, model.network
    if codec.tokenizer is None:
        if settings.head.task != "language":
            raise SettingsError(
                f"The language model {path!r} writes byte-pair pieces of bytes, which the text of a table is not cut into: "
                "train one with text.tokenizer=word, whitespace or character."
            )
        tokenizer = Tokenizer("bpe", [""] * len(codec), codec.settings, [], codec.reason)
    else:
        tokenizer = codec.tokenizer
    weight = network.embedding.weight.detach()
    new = weight[UNKNOWN] if model.knows_unknown else weight[UNKNOWN + 1 :].mean(0)
    return Source(tokenizer, codec.kind, weight, [], None, network.encoder, new)


def _table_source(model: Model, feature: TextFeature) -> Source:
    module = model.network.embedding_of(feature.name)
    assert isinstance(module, TokenEmbedding)
    weight = module.embedding.weight.detach()
    tables = [table for table in module.ngrams if isinstance(table, HashedTable)]
    stack = model.network.encoder_of(feature.name)
    return Source(feature.tokenizer, feature.tokenizer.kind, weight, tables, module.spelling, stack, weight[UNKNOWN])


def adapted(settings: Settings, pretrained: Pretrained) -> Settings:
    """The settings with what the trained model decides.

    Raises:
        SettingsError: the user has set something else.
    """
    decided = _decided(pretrained)
    groups: dict[str, dict[str, Any]] = {}
    for name, value in decided.items():
        group, _, field = name.partition(".")
        inner = getattr(settings, group)
        given = getattr(inner, field)
        if field not in inner.model_fields_set or given == "auto":
            groups.setdefault(group, {})[field] = value
        elif given != value and not _may_differ(name, given, decided, pretrained):
            raise SettingsError(
                f"{name}={given!r} does not fit the model {pretrained.path!r}, which has {value!r}: leave the setting out, or train without --from."
            )
    return settings.model_copy(update={group: getattr(settings, group).model_copy(update=values) for group, values in groups.items()})


def _decided(pretrained: Pretrained) -> dict[str, Any]:
    """By dotted name, what the trained model decides."""
    settings = pretrained.model.settings
    decided = {name: getattr(getattr(settings, name.partition(".")[0]), name.partition(".")[2]) for name in TRANSFER_TAKEN}
    kinds = {source.kind for source in pretrained.sources.values()} - {"tokens"}
    rows = {len(table.weight) for source in pretrained.sources.values() for table in source.tables}
    decided["text.tokenizer"] = kinds.pop() if len(kinds) == 1 else "auto"
    decided["embedding.buckets"] = rows.pop() if len(rows) == 1 else "auto"
    if isinstance(pretrained.model, LanguageModel):
        decided |= {"embedding.character_ngrams": "none", "embedding.token_ngrams": 1}
    return decided


def _may_differ(name: str, given: Any, decided: Mapping[str, Any], pretrained: Pretrained) -> bool:
    """N-grams beside a language model's vectors, and a second direction beside its only layer, which both begin anew."""
    if name == "encoder.bidirectional":
        return given is True and decided["encoder.layers"] == 1
    return name in FREE and isinstance(pretrained.model, LanguageModel)


def columns_to_begin(features: Sequence[Any], settings: Settings) -> list[Any]:
    """The columns, or features, of text that begin with the trained model.

    Args:
        features: with `name` and `type`.
        settings: of the run.

    Raises:
        SettingsError: `transfer.columns` names one that is no text, or there is none.
    """
    texts = [feature for feature in features if feature.type in ("text", "tokens")]
    names = [feature.name for feature in texts]
    wanted = settings.transfer.columns
    for name in wanted or []:
        if name not in names:
            raise SettingsError(
                f"transfer.columns names {name!r}, which is no text column (they are: {', '.join(names) or 'none'}).{nearest(name, names)}"
            )
    if not texts:
        raise SettingsError(
            "No column is text, so nothing can begin with a trained model: leave out --from, or set a type, as --type title=text."
        )
    return [feature for feature in texts if wanted is None or feature.name in wanted]
