"""Every exported class stands in the catalogue, and every list of names agrees with it."""

import inspect

import pytest
from torch import nn

import catalogue
from recurra import cells, kernels, layers

ABSTRACT = {cells.Cell, cells.ScanCell, cells.StandardCell, layers.HashedTable, layers.Pooling}


def exported_modules(package):
    found = {name: getattr(package, name) for name in package.__all__}
    return {value for value in found.values() if inspect.isclass(value) and issubclass(value, nn.Module)} - ABSTRACT


@pytest.mark.parametrize("package", [cells, layers, kernels], ids=lambda package: package.__name__)
def test_everything_in_all_exists(package):
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_every_exported_cell_is_in_the_catalogue():
    assert exported_modules(cells) <= {type(build()) for build in catalogue.CELLS.values()}


def test_every_exported_layer_is_in_the_catalogue():
    built = {type(build()) for build in (catalogue.POOLINGS | catalogue.ATTENTIONS | catalogue.MODULES).values()}
    built |= {type(stack.build()) for stack in catalogue.STACKS.values()}
    assert exported_modules(layers) <= built


def test_every_exported_recurrence_is_in_the_catalogue():
    exported = {getattr(kernels, name) for name in kernels.__all__ if name.endswith("_recurrence")}
    assert exported == {kernel.function for kernel in catalogue.KERNELS.values()} | set(catalogue.SCANS.values())


def test_names_of_settings_are_the_names_of_cells_and_poolings():
    from typing import get_args, get_type_hints

    from recurra.config import EncoderSettings

    hints = get_type_hints(EncoderSettings)
    assert set(get_args(hints["cell"])) == set(cells.CELLS)
    assert set(get_args(hints["pooling"])) == set(layers.POOLINGS)
    # Settings know built-in cells only, and "compile" is for cells of one's own.
    assert set(get_args(hints["backend"])) == {"auto", *kernels.BACKENDS} - {"compile"}
