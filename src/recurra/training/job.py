"""One training, whatever it learns: the stages in order. What each stage does, a family of tasks says (`tables`, ...)."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from recurra.config import Settings
from recurra.data.read import Table, read, resolve
from recurra.data.split import Part
from recurra.errors import EmptyData, SettingsError, TrainingInterrupted
from recurra.evaluation.report import Report
from recurra.model.trained import TrainedModel
from recurra.training.devices import process_rank
from recurra.training.fit import FitResult
from recurra.training.logs import require_loggers
from recurra.training.monitor import choose_metric
from recurra.training.output import begin_output, check_plan
from recurra.training.results import write_results
from recurra.training.seeds import random_state, restore_random_state
from recurra.training.timings import Timings

__all__ = ["Job", "Show"]

Show = Callable[[str], None]
Prepared = TypeVar("Prepared")
Network = TypeVar("Network", bound=nn.Module)
FEW_STEPS = 100
"""Optimizer steps of a run under which the user is told that they are few."""


class Job(ABC, Generic[Prepared, Network]):
    """One training: what the user gave, and the stages in order.

    Args:
        data: whatever the user gave to train on.
        settings: of the run.
        folder: the output folder.
        validation: what selects the model, where the user gave it.
        test: what measures the model, where the user gave it.
        show: called with lines on the course of the work; silent when not given.
        keep: False where nothing is to stay on disk, neither results nor encoded data.

    Attributes:
        timings: of the stages so far.
        begin: makes the output folder ours; `fit` calls it when it can train. None where a training goes on.
    """

    def __init__(
        self,
        data: Any,
        settings: Settings,
        folder: Path,
        *,
        validation: Any = None,
        test: Any = None,
        show: Show | None = None,
        keep: bool = True,
    ) -> None:
        self.data = data
        self.settings = settings
        self.folder = folder
        self.validation = validation
        self.test = test
        self.show = show
        self.keep = keep
        self.timings = Timings()
        self.begin: Callable[[], None] | None = None

    def run(self, *, resume: bool) -> TrainedModel:
        """All stages.

        Args:
            resume: go on with the interrupted training in the output folder.
        """
        with _callers_random_numbers():
            return self._run(resume=resume)

    def _run(self, *, resume: bool) -> TrainedModel:
        with self.timings.stage("prepare data"):
            prepared = self._prepare()
        fingerprint = self.fingerprint(prepared)
        if resume:
            check_plan(self.folder, fingerprint)
        else:
            self.begin = partial(begin_output, self.folder, fingerprint)
        with self.timings.stage("build model"):
            network = self.build(prepared)
        with self.timings.stage("train"):
            result = self.fit(prepared, network, resume=resume)
        if process_rank() > 0:
            sys.exit(0)  # the first process does the rest
        try:
            return self.finish(prepared, network, result)
        except KeyboardInterrupt:
            if not self.keep:
                raise
            raise TrainingInterrupted(
                f"The training is done and saved in {str(self.folder)!r}; what is measured after it was stopped. Go on with the same command and --resume."
            ) from None

    def _prepare(self) -> Prepared:
        require_loggers(self.settings.logging)
        if self.settings.training.monitor != "auto":
            choose_metric(self.settings.training.monitor, task=self.settings.head.task)
        return self.prepare()

    @abstractmethod
    def prepare(self) -> Prepared:
        """Read, infer, split, encode; what can be refused is refused here."""

    @abstractmethod
    def fingerprint(self, prepared: Prepared) -> str:
        """Hash of the data that is trained on."""

    @abstractmethod
    def build(self, prepared: Prepared) -> Network:
        """The network, from the run's seed."""

    @abstractmethod
    def fit(self, prepared: Prepared, network: Network, *, resume: bool) -> FitResult:
        """Train the network on the training part, selected on the validation part."""

    @abstractmethod
    def finish(self, prepared: Prepared, network: Network, result: FitResult) -> TrainedModel:
        """Measure the network beside the baselines; write model folder and report where they are kept."""

    @abstractmethod
    def facts(self, prepared: Prepared, network: Network) -> dict[str, Any]:
        """What a dry run tells: resolved settings, task, columns, sizes of the parts, parameters."""

    def plan(self) -> dict[str, Any]:
        """A dry run: everything up to the built network; see `facts`."""
        prepared = self._prepare()
        return self.facts(prepared, self.build(prepared))

    def tables(self) -> list[tuple[Table, Part | None]]:
        """The given tables with the part that each is: the first one is trained on, and rows are held out of it where its part is None."""
        data = self.settings.data
        found = resolve(self.data, on_error=data.on_error, join=data.join)
        tables: list[tuple[Table, Part | None]] = [(found["train"], None)]
        for part, given in ((Part.VALIDATION, self.validation), (Part.TEST, self.test)):
            if given is not None:
                tables.append((read(given, on_error=data.on_error, join=data.join), part))
            elif part.name.lower() in found:
                tables.append((found[part.name.lower()], part))
        return tables

    def say(self, line: str) -> None:
        """Show a line, once, whatever the number of processes."""
        if self.show is not None and line and process_rank() == 0:
            self.show(line)

    def write(self, model: TrainedModel, report: Callable[[], Report]) -> None:
        """Write model folder and report, where anything is to stay on disk.

        Args:
            model: the trained model, its `run` filled in.
            report: makes the report.
        """
        if self.keep:
            write_results(self.folder, model, report, timings=self.timings)
            self.say(f"model folder: {self.folder}")

    def require_given_parts(self, rows: Mapping[str, int]) -> None:
        """Refuse a validation or test table of which nothing is left: another part, or none, would take its place in silence.

        Args:
            rows: that are used, by part.

        Raises:
            EmptyData: a table was given and none of its rows is used.
        """
        for part, given in (("validation", self.validation), ("test", self.test)):
            if given is not None and not rows.get(part):
                raise EmptyData(f"No row of the given {part} table has a target and values that can be used: give another table, or none.")

    def require_validation(self, loader: object | None) -> None:
        """Refuse a metric that selects the model where there is nothing to measure it on.

        Args:
            loader: of the validation part; None where there is none.

        Raises:
            SettingsError: `training.monitor` names a metric of the validation part.
        """
        monitor = self.settings.training.monitor
        if loader is None and monitor not in {"auto", "train_loss"}:
            raise SettingsError(
                f"training.monitor={monitor!r} needs a validation part, and there is none: give some, "
                "or leave the setting out, and the training loss selects the model."
            )

    def warn_of_few_steps(self, batches: int) -> None:
        """Say so where a training will be short.

        Args:
            batches: of an epoch.
        """
        steps = -(-batches // self.settings.training.accumulate) * self.settings.training.epochs
        if steps < FEW_STEPS:
            self.say(f"note: {steps} steps in all are few to learn from: raise training.epochs or lower training.batch_size")


@contextmanager
def _callers_random_numbers() -> Iterator[None]:
    """A training seeds all generators; the caller's go on afterwards as if nothing had been."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
