"""The network: what it is made of, and that a row's outputs are its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recurra.cells import Cell
from recurra.config import load_settings
from recurra.data.batch import Batch, Sequence
from recurra.errors import DataError, SettingsError
from recurra.features import FEATURES, Feature, TextFeature
from recurra.heads import HEADS, Head
from recurra.model.encode import encode_columns
from recurra.model.inference import row_lengths, run_network
from recurra.model.network import Network

TEXTS = ["a b c", "b", "", "c c a b a b", "a"]
FRAME = pl.DataFrame({"one": TEXTS, "two": TEXTS[::-1], "kind": list("xyxyx"), "price": [1.0, 2.0, None, 4.0, 5.0], "y": list("pqpqr")})
SMALL = {"embedding.size": 3, "embedding.buckets": 50, "encoder.hidden_size": 4, "text.min_frequency": 1}


def built(*names: str, **changes: Any) -> tuple[list[Feature], Head, Network]:
    settings = load_settings(SMALL, {name.replace("__", "."): value for name, value in changes.items()})
    kinds = {"one": "text", "two": "text", "kind": "category", "price": "number"}
    features = [FEATURES[kinds[name]].fit(name, [FRAME[name]], settings) for name in names]
    head = HEADS["classify"].fit("y", [FRAME["y"]], settings)
    torch.manual_seed(0)
    return features, head, Network(features, head, settings)


def batch(features: list[Feature], head: Head, rows: list[int], *, steps: int | None = None, padding: int = 0) -> Batch:
    inputs: dict[str, Any] = {}
    for name, encoded in encode_columns(FRAME[rows], features).items():
        if isinstance(encoded, np.ndarray):
            inputs[name] = torch.from_numpy(encoded)
        else:
            values, lengths = encoded.pad(padding)
            values = np.pad(values, ((0, 0), (0, max(0, (steps or 0) - values.shape[1]))), constant_values=padding)
            inputs[name] = Sequence(torch.from_numpy(values).long(), torch.from_numpy(lengths))
    return Batch(inputs, {"y": torch.from_numpy(head.encode(FRAME["y"][rows]))}, torch.tensor(rows))


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_a_batch_equals_its_single_rows(cell: str, pooling: str) -> None:
    features, head, network = built("one", "two", "kind", "price", encoder__cell=cell, encoder__pooling=pooling, encoder__layers=2)
    network.eval()
    together = network(batch(features, head, [0, 1, 2, 3, 4], steps=9, padding=1))
    assert together.shape == (5, 3)
    for row in range(5):
        alone = network(batch(features, head, [row]))
        # A few float32 operations in another order: 1e-6 is some ten rounding errors of values below one.
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)


def test_every_parameter_learns() -> None:
    features, head, network = built(
        "one", "two", "kind", "price", encoder__layers=2, head__hidden_size=5, encoder__learn_initial_state=True
    )
    inputs = batch(features, head, [0, 1, 2, 3, 4])
    for _ in range(8):  # dropout may hide a unit in one call
        network.loss(network(inputs), inputs).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


def test_noise_is_for_training_only() -> None:
    features, head, network = built("one", embedding__dropout=0.5, head__dropout=0.5)
    inputs = batch(features, head, [0, 1, 3])
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))


def test_parts_and_parameter_count() -> None:
    _, _, network = built("one", "two", "kind", "price")
    assert len(network.encoders) == len(network.poolings) == 2
    assert len(network.embeddings) == 4
    assert network.parameter_count == sum(parameter.numel() for parameter in network.parameters())
    assert "LSTMCell runs on" in network.explain_backend()


def test_modules_are_called_by_their_columns_and_layers() -> None:
    _, _, network = built("one", encoder__layers=2, encoder__bidirectional=True, encoder__layer_norm=True)
    cells = [name for name, module in network.named_modules() if isinstance(module, Cell)]
    ways = ("forward", "backward")
    assert [network.describe_module(name) for name in cells] == [f"one, layer {layer}, {way}" for layer in (1, 2) for way in ways]
    assert network.describe_module("encoders.column_one.norms.1") == "one, layer 2, norm"
    assert network.describe_module("embeddings.column_one") == "one, embedding"
    assert network.describe_module("output.output") == "output layer"


def test_static_inputs_alone_need_no_recurrence() -> None:
    features, head, network = built("kind", "price")
    assert len(network.encoders) == 0
    assert network.explain_backend() == "no recurrence: there is no sequence input"
    assert network(batch(features, head, [0, 2])).isfinite().all()


def test_a_shared_encoder_reads_every_text() -> None:
    features, head, network = built("one", "two", encoder__shared=True)
    assert list(network.encoders) == ["shared"]
    assert network(batch(features, head, [0, 1])).shape == (2, 3)
    settings = load_settings(SMALL, {"encoder.shared": True})

    class Wide(TextFeature):
        def build(self, settings: Any) -> Any:
            return super().build(load_settings(SMALL, {"embedding.size": 7}))

    features[1] = Wide("two", features[1].tokenizer)  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match=r"'one' has 3 and 'two' 7.*encoder\.shared=false"):
        Network(features, head, settings)


def test_no_input_is_an_error() -> None:
    _, head, _ = built("one")
    with pytest.raises(DataError, match="--type title=text"):
        Network([], head, load_settings())


@pytest.mark.parametrize("name", ["a.b", "a/b", "100%", "100%2E", "type", "forward", "training", "weight", "shared", "é ü", "", "a" * 300])
def test_any_column_name_can_be_a_module(name: str) -> None:
    settings = load_settings(SMALL)
    features = [TextFeature.fit(other, [FRAME["one"]], settings) for other in (name, "100.", "shared ")]
    network = Network(features, HEADS["classify"].fit("y", [FRAME["y"]], settings), settings)
    assert len(network.embeddings) == 3
    again = Network(features, network.head, settings)
    again.load_state_dict(network.state_dict())
    assert network.embedding_of(name) is not network.embedding_of("100.")


def test_running_keeps_the_order_and_the_mode() -> None:
    features, _, network = built("one", "two", "price")
    network.train()
    columns = encode_columns(FRAME, features)
    settings = load_settings({"training.batch_size": 1, "training.batch_tokens": 8}).training
    whole = run_network(network, columns, settings)
    assert network.training
    np.testing.assert_allclose(run_network(network, columns, settings, np.array([1, 3])), whole[[1, 3]], rtol=0, atol=1e-6)
    assert run_network(network, columns, settings, np.array([], np.int64)).shape == (0, 3)
    assert row_lengths(columns).tolist() == [3, 6, 1, 6, 3]
