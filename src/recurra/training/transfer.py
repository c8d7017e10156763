"""A training that begins with a trained model: what is read of it, which settings it decides, what of it the new network takes over.

What tokens, recurrent layers and heads have in common is copied. A token that the trained model does not know begins as its unknown
token does where that has learnt to stand for rare ones, and else as the mean of all vectors; everything else that is new begins as it
does without a trained model, but for n-gram tables, which begin with zeros, so that the vectors are at first those that were learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from recurra.config import Settings
from recurra.config.transfer import TRANSFER_TAKEN
from recurra.data.codec import TextCodec
from recurra.data.tokenize import UNKNOWN, Tokenizer
from recurra.data.words import Kind
from recurra.errors import DataError, SettingsError, nearest
from recurra.features import Feature
from recurra.features.text import TextFeature, TokenEmbedding
from recurra.layers import CharacterNgrams, Stack
from recurra.layers.hashed import HashedTable
from recurra.layers.spelling import Spelling
from recurra.model.language.model import LanguageModel
from recurra.model.language.network import LanguageNetwork
from recurra.model.load import load
from recurra.model.model import Model
from recurra.model.network import Network
from recurra.shapes import Float, Tensor
from recurra.training.layer_groups import LayerGroups

__all__ = ["Pretrained", "Source", "adapted", "begin_language", "begin_table", "columns_to_begin", "read_pretrained", "with_model"]

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


# --- settings -----------------------------------------------------------------------------------------------------------


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


# --- networks -----------------------------------------------------------------------------------------------------------


def begin_table(network: Network, features: Sequence[Feature], pretrained: Pretrained, settings: Settings) -> LayerGroups:
    """Take the trained model over into the network of a table.

    Args:
        network: as it begins without.
        features: fitted, those of `settings.transfer.columns` with the model's vocabulary.
        pretrained: the trained model.
        settings: `adapted`.

    Returns:
        How its layers learn.

    Raises:
        SettingsError: no column begins with the model.
    """
    depths: dict[str, int] = {}
    names = {id(module): name for name, module in network.named_modules()}
    for feature in columns_to_begin(features, settings):
        source = pretrained.source(feature.name)
        module, stack = network.embedding_of(feature.name), network.encoder_of(feature.name)
        assert isinstance(module, TokenEmbedding)
        with torch.no_grad():
            module.embedding.weight.copy_(grown(source.weight, len(module.embedding.weight), source.new))
            _begin_tables(module, source.tables)
        spelt = _begin_spelling(module, source.spelling)
        depths |= _copy_stack(stack, source.stack, names[id(stack)])
        prefix = names[id(module)]
        below = stack.layers + 1
        depths |= {f"{prefix}.{name}": below for name, _ in module.named_parameters() if spelt or not name.startswith("spelling")}
    if isinstance(pretrained.model, Model):
        _begin_head(network, pretrained.model)
    return LayerGroups(depths, settings.transfer.layer_decay, settings.transfer.unfreezing)


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


def begin_language(network: LanguageNetwork, pretrained: Pretrained, settings: Settings) -> LayerGroups:
    """Take a language model over into the network of another one, whose vocabulary goes on with its own.

    Args:
        network: as it begins without.
        pretrained: a language model.
        settings: `adapted`.

    Raises:
        SettingsError: the softmax is of another form.
    """
    assert isinstance(pretrained.model, LanguageModel)
    source, before = pretrained.source(""), pretrained.model.network
    size = len(network.embedding.weight)
    with torch.no_grad():
        network.embedding.weight.copy_(grown(source.weight, size, source.new))
    depths = _copy_stack(network.encoder, source.stack, "encoder")
    depths["embedding.weight"] = network.encoder.layers + 1
    state, wanted = before.head.state_dict(), network.head.state_dict()
    if state.keys() != wanted.keys():
        raise SettingsError(
            f"The softmax of the model {pretrained.path!r} is of another form: leave language.tied and language.cutoffs as they are there."
        )
    network.head.load_state_dict({name: _grown_output(state[name], like, pretrained.path) for name, like in wanted.items()})
    return LayerGroups(depths, settings.transfer.layer_decay, settings.transfer.unfreezing)


def grown(weight: Float[Tensor, "V F"], size: int, new: Float[Tensor, " F"]) -> Float[Tensor, "N F"]:
    """A table of vectors with rows below it for tokens that are new.

    Args:
        weight: of the tokens that are known.
        size: N, rows in all.
        new: what the others begin with.
    """
    return torch.cat([weight, new.expand(size - len(weight), -1)])


def _grown_output(saved: Tensor, like: Tensor, path: str) -> Tensor:
    """Weights of a softmax with rows below it for new tokens: the mean of the others, and their smallest bias."""
    if saved.shape == like.shape:
        return saved
    if saved.shape[1:] != like.shape[1:] or len(saved) > len(like):
        raise SettingsError(
            f"The softmax of the model {path!r} has other sizes ({tuple(saved.shape)} in place of {tuple(like.shape)}): leave language.tied "
            "and language.cutoffs as they are there."
        )
    row = saved.min() if saved.ndim == 1 else saved.mean(0)
    return torch.cat([saved, row.expand(len(like) - len(saved), *saved.shape[1:])])


def _copy_stack(stack: Stack, source: Stack, prefix: str) -> dict[str, int]:
    """Copy the recurrent layers; a backward direction that the source lacks stays as it begins.

    Returns:
        Depth below the output of each parameter copied, under its name in the network.
    """
    depths: dict[str, int] = {}
    for number, cell in enumerate(stack.cells):
        layer, direction = divmod(number, stack.directions)
        if direction < source.directions:
            _copy_weights(cell, source.cells[layer * source.directions + direction])
            depths |= {f"{prefix}.cells.{number}.{name}": stack.layers - layer for name, _ in cell.named_parameters()}
    for layer, norm in enumerate(stack.norms):
        if stack.directions == source.directions:
            norm.load_state_dict(source.norms[layer].state_dict())
            depths |= {f"{prefix}.norms.{layer}.{name}": stack.layers - layer for name, _ in norm.named_parameters()}
    return depths


def _copy_weights(cell: nn.Module, source: nn.Module) -> None:
    """Copy a cell; where one of the two reads more features than the other (a token's spelling), the first ones are what both read."""
    saved = source.state_dict()
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            known = saved[name]
            if known.shape == parameter.shape:
                parameter.copy_(known)
            elif known.ndim == parameter.ndim == 2 and len(known) == len(parameter):
                both = min(known.shape[1], parameter.shape[1])
                parameter[:, :both].copy_(known[:, :both])
            else:
                raise DataError(f"The layer {type(cell).__name__} of the trained model has another form ({name}: {tuple(known.shape)}).")


def _begin_tables(module: TokenEmbedding, sources: Sequence[HashedTable]) -> None:
    """N-gram tables as the source has them; those that it lacks with zeros."""
    for table in module.ngrams:
        assert isinstance(table, HashedTable)
        alike = [known for known in sources if isinstance(known, CharacterNgrams) == isinstance(table, CharacterNgrams)]
        if alike and alike[0].weight.shape == table.weight.shape:
            table.weight.copy_(alike[0].weight)
        else:
            table.weight.zero_()


def _begin_spelling(module: TokenEmbedding, source: Spelling | None) -> bool:
    """How tokens are spelt as the source has it, where it is of the same form; whether it was taken over."""
    if module.spelling is None or source is None:
        return False
    saved, wanted = source.state_dict(), module.spelling.state_dict()
    if not _alike(saved, wanted):
        return False
    module.spelling.load_state_dict(saved)
    return True


def _begin_head(network: Network, model: Model) -> None:
    """The output layer, where both models tell the same labels apart and read vectors of one size."""
    saved, wanted = model.network.output.state_dict(), network.output.state_dict()
    same = type(network.head) is type(model.head) and network.head.state() == model.head.state()
    if same and _alike(saved, wanted):
        network.output.load_state_dict(saved)


def _alike(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether two modules have parameters of the same names and sizes."""
    return {name: value.shape for name, value in saved.items()} == {name: value.shape for name, value in wanted.items()}
