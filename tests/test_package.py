"""The package: its public names, and that each is what it says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import recurra
from jobs import ENVIRONMENT

ROOT = Path(recurra.__path__[0])
SOURCES = sorted(ROOT.rglob("*.py"))
MODULES = [
    ".".join(("recurra", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCES
    if path.name != "__main__.py"
]


def test_public_names() -> None:
    assert set(recurra.__all__) <= set(dir(recurra))
    assert sorted(recurra.__all__) == recurra.__all__ or set(recurra.__all__) == {*recurra._HOMES, "__version__"}
    for name in recurra.__all__:
        assert getattr(recurra, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = recurra.trian


def test_importing_costs_nothing() -> None:
    program = "import sys, recurra; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout.split()
    assert {"torch", "triton", "polars", "numpy", "lightning"} & set(loaded) == set()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_is_in_it_and_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    public = getattr(module, "__all__", None)
    if public is None:
        assert Path(str(module.__file__)).name == "__init__.py"
        return
    assert [item for item in public if not hasattr(module, item)] == []
    assert len(public) == len(set(public))


def test_every_error_is_a_recurra_error() -> None:
    from recurra import errors

    kinds = [getattr(errors, name) for name in errors.__all__ if name != "nearest"]
    assert all(issubclass(kind, recurra.RecurraError) for kind in kinds)
    assert str(errors.RowError("bad", source="a.csv", line=3)) == "a.csv:3: bad"
    assert str(errors.RowError("bad", line=3)) == "row 3: bad"
    assert str(errors.RowError("bad")) == "bad"


def test_no_pickle_is_read() -> None:
    """Files of others are never executed: `torch.load` only with weights_only, and no pickle.load."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not called.startswith(("pickle.load", "joblib.load")), path
                if called == "torch.load":
                    assert any(keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in node.keywords), path
