"""Fitting a network: the way in, the way back after an interruption, and what comes out.

Here: the set-up of Lightning's trainer around `fitting.Fitting`, which holds the steps. Not here: data, features and
evaluation on the test part (see `train`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import nn

from recurra.config import Settings
from recurra.errors import ModelFolderError, SettingsError
from recurra.training.batches import BatchLoader, TrainingBatches
from recurra.training.checkpoints import best_path, last_path, read_checkpoint
from recurra.training.devices import choose_device
from recurra.training.fitting import Fitting
from recurra.training.layer_groups import LayerGroups
from recurra.training.learning_rate import find_learning_rate
from recurra.training.monitor import choose_metric
from recurra.training.seeds import seed_everything
from recurra.training.validation import Validate

__all__ = ["FitResult", "Validate", "fit"]

MAY_CHANGE = (
    "training.epochs",
    "training.patience",
    "training.checkpoint_seconds",
    "training.divergence_factor",
    "training.device",
    "logging",
    "evaluation",
)
"""Settings (and groups of them) that a resumed run may have otherwise than the interrupted one."""

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


@dataclass(frozen=True)
class FitResult:
    """What came of a fit.

    Attributes:
        history: one record an epoch: epoch (from 1), step, train_loss, learning_rate, seconds and tokens_per_second of
            its training, loss and metrics of its validation.
        monitor: the metric that selected the weights.
        best_epoch: epoch of the selected weights.
        best_metric: the metric there.
        seconds: of training and validation, all sessions of a resumed run together.
        steps: optimizer steps.
        tokens_per_second: real steps in time (tokens) trained on in a second of training.
        waiting_share: share of the training time in which the network waited for a batch.
        stopped: why training ended.
        learning_rate: at its largest, as set or found.
        gradient_flow: `{"epoch", "layer", "norm"}` and `{"epoch", "layer", "distance", "norm"}`; see `GradientFlow`.
        learning_rate_curve: `{"learning_rate", "loss"}` of the finder, empty without it.
    """

    history: list[dict[str, float]]
    monitor: str
    best_epoch: int
    best_metric: float
    seconds: float
    steps: int
    tokens_per_second: float
    waiting_share: float
    stopped: str
    learning_rate: float
    gradient_flow: list[dict[str, Any]] = field(default_factory=list)
    learning_rate_curve: list[dict[str, float]] = field(default_factory=list)


def fit(
    network: nn.Module,
    train_loader: BatchLoader,
    validation_loader: BatchLoader | None,
    *,
    settings: Settings,
    folder: Path,
    validate: Validate | None = None,
    resume: bool = False,
    begin: Callable[[], None] | None = None,
    progress: bool = True,
    layers: LayerGroups | None = None,
) -> FitResult:
    """Train a network; afterwards it holds the weights that were best on the validation part, on the CPU.

    The same seed and settings give the same weights bit by bit on the CPU, also over interruptions: Ctrl-C, SIGTERM,
    `kill -9` and power cuts lose at most the work since the last checkpoint.

    Args:
        network: `network(batch) -> outputs`, `network.loss(outputs, batch) -> scalar`. Its weights are the start.
        train_loader: batches of the training part.
        validation_loader: batches of the validation part; None selects by the training loss.
        settings: `optimizer`, `schedule`, `training` and `logging` are read here.
        folder: gets `checkpoints/last.pt` and `best.pt`, and `logs/`.
        validate: metrics from an iterator of (outputs, batch), which gives every validation batch once and in order,
            outputs in float32, both on the network's device; `loss` is added to them. The network is in evaluation
            mode, holds the averaged weights where there are any, and records no gradients.
        resume: continue from `checkpoints/last.pt`.
        begin: called once, when nothing is in the way of a new training and before it writes anything.
        progress: show a bar or lines on standard error.
        layers: of a network that begins with a trained one; None where all parameters learn alike.

    Raises:
        SettingsError: a setting does not fit the network, the device, the metrics, or the run to be resumed.
        TrainingDiverged: the loss or the gradient is not a number or explodes.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
        ModelFolderError: there is nothing to resume, or the checkpoint is damaged.
        RecurraError: the disk is full.
    """
    training = settings.training
    device = choose_device(training)
    if training.monitor != "auto":
        choose_metric(training.monitor)
    state = read_checkpoint(last_path(folder)) if resume else None
    if layers is not None and layers.unfreezing and training.devices > 1:
        raise SettingsError(
            "Layers that begin to learn one after the other need one process: set transfer.unfreezing=0 or training.devices=1."
        )
    batches = TrainingBatches(train_loader)
    fitting = Fitting(network, batches, validation_loader, settings=settings, folder=folder, validate=validate, visible=progress)
    fitting.layers = layers
    if state is None:
        fitting.begin = begin
        _begin(fitting, train_loader)
    else:
        if not {"settings", "course", "network"} <= state.keys():
            raise ModelFolderError(f"{str(last_path(folder))!r} is not the checkpoint of a training. Start anew with --overwrite.")
        _check_settings(state["settings"], settings)
        _continue(fitting, state)
    if not fitting.course.stopped:
        _run(fitting, device.type)
    if layers is not None:
        layers.unfreeze(network)
    network.load_state_dict(read_checkpoint(best_path(folder))["network"])
    return _result(fitting)


def _begin(fitting: Fitting, loader: BatchLoader) -> None:
    """A fresh run: find the learning rate where it is "auto", then seed."""
    settings = fitting.settings
    rate = settings.optimizer.learning_rate
    if rate == "auto":
        if settings.training.devices > 1:
            raise SettingsError("optimizer.learning_rate=auto works on one device: find it with training.devices=1, then set it.")
        rate, fitting.course.learning_rate_curve = find_learning_rate(fitting.network, loader, settings=settings, factors=fitting.factors)
    fitting.course.learning_rate = rate
    seed_everything(settings.training.seed)


def _continue(fitting: Fitting, state: dict[str, Any]) -> None:
    """Counters and records now; weights, optimizer and random numbers when the network is on its device."""
    course, batches = fitting.course, fitting.batches
    course.load_state_dict(state["course"])
    fitting.monitor.load_state_dict(state["monitor"])
    fitting.saved_state = state
    batches.epoch = course.epoch + course.epoch_trained
    batches.position = state["loader"]
    course.stopped = "" if course.epoch_trained else fitting.reason_to_stop()


def _check_settings(before: Mapping[str, Any], settings: Settings) -> None:
    changed = [
        f"{name} (was {old!r}, is {new!r})"
        for name, old, new in _differences(before, settings.model_dump(mode="json"), Settings().model_dump(mode="json"))
        if not any(name == free or name.startswith(f"{free}.") for free in MAY_CHANGE)
    ]
    if changed:
        raise SettingsError(
            f"The interrupted run had other settings: {'; '.join(changed)}. Resume with the same settings, or start anew with --overwrite."
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], defaults: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ. One that an older version of the package did not have yet is the same where it is at its default."""
    for key in dict.fromkeys([*before, *now]):
        default = defaults.get(key) if isinstance(defaults, Mapping) else None
        old, new = before.get(key, default), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, default, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", old, new


def _run(fitting: Fitting, device: str) -> None:
    training = fitting.settings.training
    with _quiet(), fitting.interruption:
        trainer = lightning.Trainer(
            accelerator=device,
            devices=training.devices,
            strategy="ddp" if training.devices > 1 else "auto",
            precision=PRECISIONS[training.precision],
            max_epochs=max(1, training.epochs - fitting.course.epoch),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            use_distributed_sampler=False,
            log_every_n_steps=0,
        )
        try:
            trainer.fit(fitting, fitting.batches)
        finally:
            fitting.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's banners and its advice on what we do on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        # torch deprecates a class that Lightning 2.6 still asks for
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _result(fitting: Fitting) -> FitResult:
    course, monitor = fitting.course, fitting.monitor
    seconds = max(course.training_seconds, 1e-9)
    return FitResult(
        history=course.history,
        monitor=monitor.metric,
        best_epoch=monitor.best_epoch,
        best_metric=monitor.best,
        seconds=course.seconds,
        steps=course.step,
        tokens_per_second=course.tokens / seconds,
        waiting_share=min(1.0, course.waiting_seconds / seconds),
        stopped=course.stopped,
        learning_rate=course.learning_rate,
        gradient_flow=course.gradient_flow,
        learning_rate_curve=course.learning_rate_curve,
    )
