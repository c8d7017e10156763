"""The training loop's body, as Lightning calls it: a step, an epoch's end, checkpoints.

Lightning gives devices, precision, distribution and the loop around; optimization is manual and every counter is our
own (`Course`), so that what a checkpoint must hold is all in `Fitting._state`, and nothing of Lightning's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn
from torch.optim import Optimizer

from recurra.cells.state import detach
from recurra.config import Settings
from recurra.errors import DataError, TrainingDiverged, TrainingInterrupted
from recurra.shapes import Tensor
from recurra.training.averaging import WeightAverage, exchanged
from recurra.training.batches import AnyBatch, BatchLoader, TrainingBatches
from recurra.training.checkpoints import best_path, last_path, write_checkpoint
from recurra.training.course import Course
from recurra.training.divergence import DivergenceGuard
from recurra.training.gradient_flow import GradientFlow
from recurra.training.interruption import Interruption
from recurra.training.layer_groups import LayerGroups
from recurra.training.logs import STEPS_BETWEEN_ROWS, Logs
from recurra.training.monitor import Monitor, choose_metric
from recurra.training.optimizers import asgd_average, build_optimizer, clip_gradients, set_learning_rate, start_averaging
from recurra.training.progress import ProgressDisplay
from recurra.training.schedules import Schedule
from recurra.training.seeds import random_state, restore_random_state
from recurra.training.validation import Validate, validation_metrics

__all__ = ["Fitting"]


class Fitting(lightning.LightningModule):
    """Trains a network.

    Args:
        network: with `network(batch) -> outputs` and `network.loss(outputs, batch) -> scalar`.
        batches: of the training part.
        validation_loader: None selects by the training loss.
        settings: of the run.
        folder: of the run.
        validate: metrics of the validation part; None measures the loss alone.
        visible: show the progress.

    Attributes:
        course: how far the run has come.
        monitor: the metric that selects the weights.
        layers: of a network that begins with a trained one; None where all parameters learn alike.
        begin: called before a new training writes anything.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: TrainingBatches,
        validation_loader: BatchLoader | None,
        *,
        settings: Settings,
        folder: Path,
        validate: Validate | None,
        visible: bool,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.batches = batches
        self.validation_loader = validation_loader
        self.settings = settings
        self.folder = folder
        self.validate = validate
        self.visible = visible
        self.course = Course()
        training = settings.training
        self.monitor = Monitor(training.monitor, patience=training.patience)
        self.guard = DivergenceGuard(training.divergence_factor, scaled=training.precision == "float16")
        self.flow = GradientFlow(network, batches=training.gradient_flow_batches)
        self.interruption = Interruption()
        self.layers: LayerGroups | None = None
        self.begin: Callable[[], None] | None = None
        self.saved_state: dict[str, Any] | None = None
        self.steps_per_epoch = -(-len(batches.loader) // training.accumulate)
        self.average: WeightAverage | None = None
        self.logs: Logs | None = None
        self.progress: ProgressDisplay | None = None
        self._position: Mapping[str, Any] | None = None
        self._step_losses: list[float] = []
        self._watched = False
        self._norm = 0.0
        self._scale = 1.0
        self._carried: Any = None

    # --- set-up ---------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Optimizer:
        """Lightning's call, after the network has come to its device."""
        training, rate = self.settings.training, self.course.learning_rate
        steps = self.steps_per_epoch * training.epochs
        self.schedule = Schedule(self.settings.schedule, learning_rate=rate, steps=steps)
        return build_optimizer(
            self.network,
            self.settings.optimizer,
            learning_rate=rate,
            steps=steps,
            scaled=training.precision == "float16",
            factors=self.factors,
        )

    @property
    def factors(self) -> Mapping[str, float]:
        """Shares of the learning rate by the parameters' names, where they are not all one."""
        return {} if self.layers is None else self.layers.factors

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """A pair of batch and position; on the CPU the batch stays as it is."""
        return batch if device.type == "cpu" else (batch[0].to(device), batch[1])

    def on_train_start(self) -> None:
        """Continue from the saved state, or save the first one."""
        self.interruption.take_over()
        self.parameters_in_training = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if self.settings.training.average:
            self.average = WeightAverage(self.parameters_in_training, decay=self.settings.training.average)
        if self.saved_state is not None:
            self._load(self.saved_state)
            self.saved_state = None
        else:
            self._begin()
        if self.trainer.is_global_zero:
            configuration = self.settings.model_dump(mode="json")
            self.logs = Logs(self.folder, self.settings.logging, step=self.course.step, configuration=configuration)
        steps = self.steps_per_epoch * self.settings.training.epochs
        self.progress = ProgressDisplay(steps, done=self.course.step, visible=self.visible and self.trainer.is_global_zero)
        self._clock = self._last_checkpoint = time.perf_counter()
        if self.course.step == 0:
            self._checkpoint()
        elif self.course.epoch_trained:
            self._finish_epoch()

    def _begin(self) -> None:
        """Refuse what cannot be trained; only then does what an earlier run left go."""
        if self.validation_loader is not None and self.monitor.metric not in ("auto", "loss", self._head_metric()):
            # a metric that this task does not measure is better known before the first epoch than after it
            with suppress(TrainingInterrupted):  # the first step will see the signal, when there is something to go on with
                choose_metric(self.monitor.metric, {**self._measured(), "train_loss": 0.0})
        self.guard.check_weights(self.network, step=0, learning_rate=self._present_rate())
        if self.trainer.is_global_zero:
            if self.begin is not None:
                self.begin()
            best_path(self.folder).unlink(missing_ok=True)

    # --- a step ---------------------------------------------------------------------------------------------------

    def training_step(self, item: tuple[AnyBatch, Mapping[str, Any]], index: int) -> None:  # noqa: ARG002
        """Forward and backward; every `training.accumulate` batches, and at the epoch's end, an optimizer step."""
        batch, self._position = item
        self._scale = getattr(batch, "rate", 1.0)
        course, accumulate = self.course, self.settings.training.accumulate
        course.batches = self.batches.count
        if course.batch == course.batches:
            raise DataError(f"The loader gave more than the {course.batches} batches that it announced for an epoch.")
        if self.layers is not None and course.batch % accumulate == 0:
            self.layers.freeze(self.network, epochs=course.epoch + course.batch / course.batches)
        last = (course.batch + 1) % accumulate == 0 or course.batch + 1 == course.batches
        # the last group of an epoch may be smaller; its mean is over what it has
        size = min(accumulate, course.batches - course.batch // accumulate * accumulate)
        self._watched = last and self.flow.wants(course.batch // accumulate, -(-course.batches // accumulate))
        if self._watched:
            self.flow.start()
        outputs = self._outputs(batch)
        self.flow.seen()
        loss: Tensor = self.network.loss(outputs, batch)  # type: ignore[operator]  # what a network must have
        self.manual_backward(loss / size)
        self._step_losses.append(float(loss.detach()))
        course.batch += 1
        course.rows += len(batch)
        course.loss_sum += self._step_losses[-1] * len(batch)
        course.epoch_tokens += batch.steps
        if last:
            self._update()

    def _outputs(self, batch: AnyBatch) -> Any:
        """What the network makes of a batch; where it has `carry`, from the state after the batch before, cut off from its graph."""
        if not hasattr(self.network, "carry"):
            return self.network(batch)
        outputs, state = self.network.carry(batch, self._carried)  # type: ignore[operator]  # what such a network has
        self._carried = detach(state)
        return outputs

    def _update(self) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, Optimizer)
        self._rate = self.schedule.apply(optimizer, self.course.step) * self._scale
        if self._scale != 1.0:
            set_learning_rate(optimizer, self._rate)
        optimizer.step()  # calls on_before_optimizer_step when the gradients are complete and unscaled
        optimizer.zero_grad()
        self.course.step += 1
        if self.average is not None:
            self.average.update()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002
        """Look at the gradient, then clip it."""
        training = self.settings.training
        self._norm = clip_gradients(self.parameters_in_training)
        if self._watched and math.isfinite(self._norm):
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            self.flow.collect(scale=(scaler.get_scale() if scaler is not None else 1.0) / len(self._step_losses))
        self.flow.stop()  # what is not finite is no measurement: the loss scaler skips the step, or the guard stops the training
        self._loss = self._mean_over_processes(sum(self._step_losses) / len(self._step_losses))
        self._step_losses.clear()
        self.guard.check(self.network, step=self.course.step + 1, loss=self._loss, norm=self._norm, learning_rate=self._rate)
        clip_gradients(self.parameters_in_training, norm=training.clip_norm, value=training.clip_value, total=self._norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """After a step: show it, log it, stop when asked to, save when it is time."""
        if self._step_losses:
            return
        self._tick()
        course = self.course
        speed = course.epoch_tokens / max(course.epoch_seconds, 1e-9)
        assert self.progress is not None
        self.progress.step(epoch=course.epoch + 1, step=course.step, loss=self._loss, tokens_per_second=speed)
        if self.logs is not None and (course.step == 1 or course.step % STEPS_BETWEEN_ROWS == 0):
            self.logs.step(
                {
                    "epoch": course.epoch + 1,
                    "step": course.step,
                    "loss": self._loss,
                    "learning_rate": self._rate,
                    "gradient_norm": self._norm,
                    "tokens_per_second": speed,
                }
            )
        if self._interrupted():
            self._checkpoint()
            raise self._interruption()
        if time.perf_counter() - self._last_checkpoint >= self.settings.training.checkpoint_seconds:
            self._checkpoint()

    # --- the end of an epoch --------------------------------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        """Validate, select, and say whether to go on."""
        if self.course.batch != self.batches.count:
            raise DataError(f"The loader gave {self.course.batch} batches in an epoch of {self.batches.count}.")
        self._finish_epoch()

    def _finish_epoch(self) -> None:
        course = self.course
        self._tick()
        tokens = round(self._mean_over_processes(course.epoch_tokens) * self.trainer.world_size)
        record: dict[str, float] = {
            "epoch": course.epoch + 1,
            "step": course.step,
            "train_loss": self._mean_over_processes(course.loss_sum / max(1, course.rows)),
            "learning_rate": self.schedule.learning_rate * self.schedule.factor(max(0, course.step - 1)),
        }
        metrics = self._measured_or_interrupted() if self.validation_loader is not None else {}
        course.seconds += self._lap()
        record |= {"seconds": course.epoch_seconds, "tokens_per_second": tokens / max(course.epoch_seconds, 1e-9), **metrics}
        better = self._select(record)
        course.tokens += tokens
        course.history.append(record)
        course.gradient_flow += self.flow.end_epoch(course.epoch + 1)
        self.schedule.end_epoch(improved=better)
        if self.settings.optimizer.averaging == "stalled" and self.monitor.stalled >= self.settings.schedule.patience:
            start_averaging(self.trainer.optimizers[0], step=course.step)
        assert self.progress is not None
        self.progress.epoch(record, best=better)
        if self.logs is not None:
            self.logs.epochs(course.history)
            if course.gradient_flow:
                self.logs.gradient_flow(course.gradient_flow, step=course.step)
        course.begin_next_epoch()
        self._carried = None
        self.batches.epoch = course.epoch
        course.stopped = self.reason_to_stop()
        self.trainer.should_stop = bool(course.stopped)
        self._checkpoint()
        if self._interrupted() and not course.stopped:
            raise self._interruption()

    def _select(self, record: Mapping[str, float]) -> bool:
        """Remember the weights when the monitored metric was never better."""
        if self.monitor.metric == "auto" and self._head_metric() in record:
            self.monitor.metric = self._head_metric()
        self.monitor.metric = choose_metric(self.monitor.metric, record)
        value = record[self.monitor.metric]
        if math.isnan(value):
            raise TrainingDiverged(
                f"The validation metric {self.monitor.metric!r} is not a number after epoch {int(record['epoch'])}: look for NaN or huge values "
                "in the number columns and targets of the validation rows, or lower optimizer.learning_rate."
            )
        better = self.monitor.update(int(record["epoch"]), value, loss=record.get("loss", math.nan))
        if better and self.trainer.is_global_zero:
            with self._averaged():
                self.guard.check_weights(self.network, step=self.course.step, learning_rate=self._present_rate())
                state = {"epoch": int(record["epoch"]), "metric": self.monitor.metric, "value": value, "network": self.network.state_dict()}
                write_checkpoint(best_path(self.folder), state)
        return better

    def reason_to_stop(self) -> str:
        """Why no epoch follows the present one; empty when one does."""
        training = self.settings.training
        if self.course.epoch >= training.epochs:
            return f"all {training.epochs} epochs are done"
        if self.monitor.exhausted:
            return f"{self.monitor.metric} has not improved for {training.patience} epochs"
        return ""

    def _head_metric(self) -> str:
        """The metric that the network's head selects models by, where it says so."""
        return str(getattr(getattr(self.network, "head", None), "monitor", ""))

    # --- validation -----------------------------------------------------------------------------------------------

    def _measured_or_interrupted(self) -> dict[str, float]:
        try:
            return self._measured()
        except TrainingInterrupted:
            # the epoch's training is done: the checkpoint says so, and resuming starts with this validation
            self._checkpoint()
            raise

    def _measured(self) -> dict[str, float]:
        """The validation metrics, measured by the first process for all."""
        metrics: dict[str, float] = {}
        if self.trainer.is_global_zero:
            assert self.validation_loader is not None
            stop = self._stop_validation if self.trainer.world_size == 1 else None
            with self._averaged(), self.trainer.precision_plugin.forward_context():
                metrics = validation_metrics(self.network, self.validation_loader, self.validate, device=self.device, before_batch=stop)
        result: dict[str, float] = self.trainer.strategy.broadcast(metrics)
        return result

    def _stop_validation(self) -> None:
        if self.interruption.requested:
            raise self._interruption()

    def _averaged(self) -> AbstractContextManager[None]:
        if self.average is not None:
            return exchanged(self.average.parameters, self.average.averages)
        optimizer = self.trainer.optimizers[0]
        own = asgd_average(optimizer)
        return exchanged(*own) if own is not None else nullcontext()

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        if self.trainer.is_global_zero:
            self.guard.check_weights(self.network, step=self.course.step, learning_rate=self._present_rate())
            write_checkpoint(last_path(self.folder), self._state())
        self._last_checkpoint = time.perf_counter()

    def _state(self) -> dict[str, Any]:
        return {
            "version": 1,
            "settings": self.settings.model_dump(mode="json"),
            "network": self.network.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "scaler": self.trainer.precision_plugin.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "monitor": self.monitor.state_dict(),
            "guard": self.guard.state_dict(),
            "flow": self.flow.state_dict(),
            "random": random_state(),
            "carried": None if self._carried is None else [list(part) for part in self._carried],
            "loader": self._position if 0 < self.course.batch < self.course.batches else None,
            "course": self.course.state_dict(),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.trainer.optimizers[0].load_state_dict(state["optimizer"])
        self.trainer.precision_plugin.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.guard.load_state_dict(state["guard"])
        self.flow.load_state_dict(state["flow"])
        restore_random_state(state["random"])
        if state.get("carried") is not None:
            device, rows = self.device, len(state["carried"][0][0])
            like = self.network.initial_state(rows)  # type: ignore[operator]  # what a network with `carry` has
            self._carried = tuple(
                type(part)(*(field.to(device) for field in saved)) for part, saved in zip(like, state["carried"], strict=True)
            )

    def close(self) -> None:
        """Take the progress bar away, finish the logs, drop the hooks."""
        self.flow.stop()
        if self.progress is not None:
            self.progress.close()
        if self.logs is not None:
            self.logs.close()

    # --- time, processes and signals ------------------------------------------------------------------------------

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._clock = now - self._clock, now
        return passed

    def _tick(self) -> None:
        """Book the time since the last call as training time."""
        passed = self._lap()
        self.course.epoch_seconds += passed
        self.course.training_seconds += passed
        self.course.seconds += passed
        self.course.waiting_seconds += self.batches.waiting
        self.batches.waiting = 0.0

    def _present_rate(self) -> float:
        return self.schedule.learning_rate * self.schedule.factor(max(0, self.course.step - 1))

    def _mean_over_processes(self, value: float) -> float:
        if self.trainer.world_size == 1:
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, device=self.device), reduce_op="mean"))

    def _interrupted(self) -> bool:
        requested = self.interruption.requested is not None
        if self.trainer.world_size == 1:
            return requested
        return bool(self.trainer.strategy.reduce_boolean_decision(requested, all=False))

    def _interruption(self) -> TrainingInterrupted:
        return TrainingInterrupted(
            f"Training was stopped by {self.interruption.requested or 'a signal'} after step {self.course.step} (epoch {self.course.epoch + 1}). "
            f"Everything is saved in {str(last_path(self.folder))!r}: continue with the same command and --resume."
        )
