from __future__ import annotations

import math

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from standin import TinyLoader, TinyNetwork, network, run
from torch import nn

from recurra.data.batch import Batch, Sequence
from recurra.layers import Stack
from recurra.training.checkpoints import last_path, read_checkpoint
from recurra.training.gradient_flow import GradientFlow


class StackNetwork(nn.Module):
    """A residual stack that reads from both ends, so that an input has several readers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.stack = Stack("lstm", 8, 4, layers=2, bidirectional=True, residual=True)
        self.output = nn.Linear(8, 3)

    def forward(self, batch):
        text = batch.inputs["text"]
        output, _ = self.stack(self.embedding(text.values), lengths=text.lengths)
        return self.output(output.sum(dim=1))

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch.targets["label"])


def stack_network():
    torch.manual_seed(0)
    return StackNetwork()


def test_watching_changes_nothing(tmp_path):
    watched, result = run(tmp_path / "on", model=stack_network(), training__gradient_flow_batches=6)
    unwatched, other = run(tmp_path / "off", model=stack_network(), training__gradient_flow_batches=0)
    for name, value in watched.state_dict().items():
        assert torch.equal(value, unwatched.state_dict()[name]), name
    assert result.gradient_flow
    assert not other.gradient_flow


def test_records_name_layers_and_distances(tmp_path):
    _, result = run(tmp_path, model=stack_network())
    layers = {record["layer"] for record in result.gradient_flow if "distance" not in record}
    assert {"embedding", "stack.cells.0", "stack.cells.3", "output"} <= layers
    distances = {(record["layer"], record["distance"]) for record in result.gradient_flow if "distance" in record}
    assert distances == {(f"stack.cells.{cell}", distance) for cell in range(4) for distance in (0, 1, 2, 4)}
    assert {record["epoch"] for record in result.gradient_flow} == {1, 2, 3}
    assert (tmp_path / "logs" / "gradient_flow.csv").read_text().startswith("epoch,layer,norm,distance\n")


class LastStep(nn.Module):
    """A linear recurrence h' = w h + x, read at its last real step: d h_last / d x at distance d is w ** d."""

    def __init__(self, weight, *, reverse=False):
        super().__init__()
        cell = nn.RNN(1, 1, batch_first=True, bias=False)
        with torch.no_grad():
            cell.weight_ih_l0.fill_(1.0)
            cell.weight_hh_l0.fill_(weight)
        self.layer = cell

    def forward(self, batch):
        text = batch.inputs["text"]
        output, _ = self.layer(text.values * 1e-4)  # tanh is the identity here, to 1e-8
        return output[torch.arange(len(batch)), text.lengths - 1, 0]


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_norm_at_each_distance_is_that_of_the_recurrence(scale):
    lengths = torch.tensor([7, 7, 7])
    batch = Batch({"text": Sequence(torch.ones(3, 7, 1), lengths)}, {}, torch.arange(3))
    model = LastStep(0.5)
    flow = GradientFlow(model, batches=1)
    flow.start()
    (model(batch).mean() * scale).backward()
    flow.collect(scale=scale)
    found = {record["distance"]: record["norm"] for record in flow.end_epoch(1) if "distance" in record}
    squares = [0.25**distance for distance in range(7)]
    expected = {0: squares[0], 1: squares[1], 2: sum(squares[2:4]) / 2, 4: sum(squares[4:7]) / 3}
    # relative error of float32 over seven steps and of tanh'(1e-4) = 1 - 1e-8
    assert found == {distance: pytest.approx(mean**0.5, rel=1e-5) for distance, mean in expected.items()}


def test_padding_and_direction():
    """Steps beyond a row's length do not count, and a layer that reads backwards counts from the first step."""
    gradient = torch.full((2, 4, 1), float("nan"))
    gradient[0, :, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    gradient[1, 0, 0] = 5.0
    lengths = torch.tensor([4, 1])
    flow = GradientFlow(nn.Linear(1, 1), batches=1)
    flow._add("forward", gradient, lengths, reverse=False)
    flow._add("backward", gradient, lengths, reverse=True)
    norms = {(record["layer"], record["distance"]): record["norm"] ** 2 for record in flow.end_epoch(1)}
    assert norms == {
        ("forward", 0): pytest.approx((16 + 25) / 2),
        ("forward", 1): pytest.approx(9),
        ("forward", 2): pytest.approx((4 + 1) / 2),
        ("backward", 0): pytest.approx((1 + 25) / 2),
        ("backward", 1): pytest.approx(4),
        ("backward", 2): pytest.approx((9 + 16) / 2),
    }


@pytest.mark.parametrize(("batches", "steps", "expected"), [(4, 100, [0, 25, 50, 75]), (4, 3, [0, 1, 2]), (0, 5, []), (1, 5, [0])])
def test_watched_steps_are_spread_over_the_epoch(batches, steps, expected):
    flow = GradientFlow(network(), batches=batches)
    assert [step for step in range(steps) if flow.wants(step, steps)] == expected


def test_a_layer_that_reads_raw_numbers_is_watched():
    """Its input has no gradient of its own."""
    layer = nn.GRU(1, 2, batch_first=True)
    flow = GradientFlow(layer, batches=1)
    flow.start()
    layer(torch.ones(2, 3, 1))[0].sum().backward()
    flow.collect()
    assert any("distance" in record for record in flow.end_epoch(1))


def test_steps_that_the_loss_scaler_skips_are_no_measurement(tmp_path, monkeypatch):
    """float16, here with the scaler of the CPU: it begins too large, as it does by design, and the first gradients overflow."""

    def trainer(*, precision, **options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
        return Trainer(plugins=[MixedPrecision(precision, "cpu", scaler=scaler)], **options)

    monkeypatch.setattr("recurra.training.fit.choose_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr("recurra.training.fit.lightning.Trainer", trainer)
    _, result = run(tmp_path, training__precision="float16", training__gradient_flow_batches=6, training__epochs=6)
    scale = read_checkpoint(last_path(tmp_path))["scaler"]["scale"]
    assert scale < 2.0**30
    assert {record["epoch"] for record in result.gradient_flow} >= {5, 6}
    assert all(math.isfinite(record["norm"]) for record in result.gradient_flow)


def test_hooks_are_gone_afterwards(tmp_path):
    model, _ = run(tmp_path, model=TinyNetwork(), train=TinyLoader(16))
    assert not model.layer._forward_pre_hooks
