"""What the network of a training takes over from the trained model that it begins with.

What tokens, recurrent layers and heads have in common is copied. A token that the trained model does not know begins as its unknown
token does where that has learnt to stand for rare ones, and else as the mean of all vectors; everything else that is new begins as it
does without a trained model, but for n-gram tables, which begin with zeros, so that the vectors are at first those that were learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from recurra.config import Settings
from recurra.errors import DataError, SettingsError
from recurra.features import Feature
from recurra.features.text import TokenEmbedding
from recurra.layers import CharacterNgrams, Stack
from recurra.layers.hashed import HashedTable
from recurra.layers.spelling import Spelling
from recurra.model.language.model import LanguageModel
from recurra.model.language.network import LanguageNetwork
from recurra.model.model import Model
from recurra.model.network import Network
from recurra.shapes import Float, Tensor
from recurra.training.layer_groups import LayerGroups
from recurra.training.transfer import Pretrained, columns_to_begin

__all__ = ["begin_language", "begin_table", "grown"]


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
