from __future__ import annotations

import time

import pytest
import torch
from standin import TinyLoader, network, run, settings
from torch import nn

from recurra.errors import DataError, SettingsError
from recurra.training.fit import fit
from recurra.training.monitor import HIGHER_IS_BETTER, Monitor, choose_metric


def test_it_learns(tmp_path):
    _, result = run(tmp_path, train=TinyLoader(256), training__epochs=8)
    assert result.best_metric > 0.9
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    assert result.stopped == "all 8 epochs are done"
    assert result.steps == 256
    assert result.tokens_per_second > 0
    assert 0 <= result.waiting_share <= 1


def test_same_seed_same_weights_and_another_seed_others(tmp_path):
    first, _ = run(tmp_path / "1", training__epochs=1)
    torch.manual_seed(99)
    model = network()
    torch.rand(5)
    again, _ = run(tmp_path / "2", model=model, training__epochs=1)
    other, _ = run(tmp_path / "3", training__epochs=1, training__seed=5)
    assert torch.equal(first.output.weight, again.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)


def test_the_best_weights_are_kept(tmp_path):
    values = iter([0.1, 0.7, 0.5, 0.6])
    weights = []
    model = network()

    def validate(pairs):
        list(pairs)
        weights.append(model.output.weight.detach().clone())
        return {"accuracy": next(values)}

    result = fit(
        model, TinyLoader(), TinyLoader(8), settings=settings(training__epochs=4), folder=tmp_path, validate=validate, progress=False
    )
    assert (result.monitor, result.best_epoch, result.best_metric) == ("accuracy", 2, 0.7)
    assert torch.equal(model.output.weight, weights[1])


def test_patience(tmp_path):
    values = iter([0.5, 0.4, 0.6, 0.5, 0.55, 0.9])
    result = fit(
        network(),
        TinyLoader(),
        TinyLoader(8),
        settings=settings(training__epochs=6, training__patience=2),
        folder=tmp_path,
        validate=lambda pairs: {"accuracy": next(values) + 0 * len(list(pairs))},
        progress=False,
    )
    assert result.stopped == "accuracy has not improved for 2 epochs"
    assert (len(result.history), result.best_epoch) == (5, 3)


@pytest.mark.parametrize(("metric", "better"), HIGHER_IS_BETTER.items())
def test_directions(metric, better):
    monitor = Monitor(metric, patience=1)
    assert monitor.update(1, 0.5)
    assert monitor.update(2, 0.6) is better
    assert monitor.exhausted is not better


def test_choosing_a_metric():
    assert choose_metric("auto", {"loss": 1.0, "micro_f1": 1.0}) == "micro_f1"
    assert choose_metric("auto", {"loss": 1.0}) == "loss"
    with pytest.raises(SettingsError, match="Did you mean 'accuracy'"):
        choose_metric("acuracy")
    with pytest.raises(SettingsError, match="'rmse' is not a metric for this task"):
        choose_metric("rmse", {"accuracy": 1.0, "loss": 1.0})


def test_a_metric_that_the_task_does_not_measure_is_known_before_training(tmp_path):
    loader = TinyLoader()
    with pytest.raises(SettingsError, match=r"'rmse' is not a metric for this task.* Known for this task: accuracy, loss, train_loss"):
        run(tmp_path, train=loader, training__monitor="rmse")
    assert loader.handed_out <= 1, "the batch that Lightning asks for ahead"


def test_a_head_names_its_metric(tmp_path):
    model = network()
    model.head = type("Head", (), {"monitor": "macro_f1"})()
    result = fit(
        model,
        TinyLoader(),
        TinyLoader(8),
        settings=settings(training__epochs=1),
        folder=tmp_path,
        validate=lambda pairs: {"accuracy": 1.0, "macro_f1": 0.5 + 0 * len(list(pairs))},
        progress=False,
    )
    assert result.monitor == "macro_f1"


def test_without_a_validation_part_the_training_loss_selects(tmp_path):
    result = fit(network(), TinyLoader(), None, settings=settings(), folder=tmp_path, progress=False)
    assert result.monitor == "train_loss"
    assert result.best_metric == min(record["train_loss"] for record in result.history)


def test_validation_loss_is_the_mean_over_rows(tmp_path):
    model = network()
    loader = TinyLoader(20, batch_size=8, seed=1)
    result = fit(model, TinyLoader(), loader, settings=settings(training__epochs=1), folder=tmp_path, progress=False)
    loader = TinyLoader(20, batch_size=20, seed=1)
    batch = next(iter(loader))
    # float32 means of 8, 8 and 4 rows against one of 20
    assert result.history[0]["loss"] == pytest.approx(float(model.eval().loss(model(batch), batch).detach()), rel=1e-5)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_equal_one_large_batch(tmp_path, accumulate):
    """Without dropout; 6 batches of 8, the last group of 4 holding only 2."""
    options = {"optimizer__name": "sgd", "training__epochs": 1, "schedule__name": "constant", "schedule__warmup": 0.0}
    pieces, large = network(), network()
    pieces.dropout.p = large.dropout.p = 0.0
    _, result = run(tmp_path / "pieces", model=pieces, train=Ordered(48, batch_size=8), training__accumulate=accumulate, **options)
    run(tmp_path / "large", model=large, train=Ordered(48, batch_size=8 * accumulate), **options)
    assert result.steps == -(-6 // accumulate)
    for one, other in zip(pieces.parameters(), large.parameters(), strict=True):
        # sums of 48 float32 gradients in another order, over three steps
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Ordered(TinyLoader):
    def __init__(self, rows, *, batch_size):
        super().__init__(rows, batch_size=batch_size, shuffle=False)


def test_bfloat16_on_the_cpu(tmp_path):
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, batch):
            outputs = self.inner(batch)
            seen.append(outputs.dtype)
            return outputs

        def loss(self, outputs, batch):
            return self.inner.loss(outputs, batch)

    _, result = run(tmp_path, model=Watching(), train=TinyLoader(256), training__precision="bfloat16", training__epochs=6)
    assert set(seen) == {torch.bfloat16}
    assert result.best_metric > 0.8


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training__precision": "float16", "training__device": "cpu"}, "'float16' needs a CUDA device"),
        ({"training__device": "cuda"}, "sees no such device"),
    ],
)
def test_what_the_device_cannot_do(tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        run(tmp_path, **options)


def test_a_loader_that_miscounts(tmp_path):
    class Wrong(TinyLoader):
        def __len__(self):
            return super().__len__() + self.error

    for error, message in ((1, "gave 6 batches in an epoch of 7"), (-1, "gave more than the 5 batches")):
        loader = Wrong()
        loader.error = error
        with pytest.raises(DataError, match=message):
            run(tmp_path, train=loader)


def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "run", training__epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert capfd.readouterr() == ("", "")


def test_frozen_parameters_stay(tmp_path):
    model = network()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    run(tmp_path, model=model, training__epochs=1, training__average=0.9)
    assert torch.equal(model.embedding.weight, before)


def test_epochs_may_have_different_numbers_of_batches(tmp_path):
    class Uneven(TinyLoader):
        def __len__(self):
            return super().__len__() - self.epoch

        def __iter__(self):
            for _, batch in zip(range(len(self)), super().__iter__(), strict=False):
                yield batch

    _, result = run(tmp_path, train=Uneven())
    assert result.steps == 6 + 5 + 4


def test_overhead_of_the_trainer(tmp_path):
    """What a step costs beside its mathematics: bounded loosely, as machines are busy; benchmarks/ measures it well."""
    steps = 300
    _, result = run(tmp_path / "fit", train=TinyLoader(steps, batch_size=1), training__epochs=1, training__gradient_flow_batches=0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    started = time.perf_counter()
    for batch in TinyLoader(steps, batch_size=1):
        optimizer.zero_grad()
        model.loss(model(batch), batch).backward()
        optimizer.step()
    plain = time.perf_counter() - started
    overhead = (result.history[0]["seconds"] - plain) / steps
    assert overhead < 0.02
