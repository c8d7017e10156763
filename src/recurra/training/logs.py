"""Where the course of a training is written: CSV files always, TensorBoard, Weights & Biases and MLflow when set.

`logs/steps.csv` has a row for the first optimizer step and every 20th, `logs/epochs.csv` one an epoch, `logs/gradient_flow.csv` the records
of the gradient-flow diagnosis.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.config import LoggingSettings
from recurra.errors import MissingDependency, RecurraError
from recurra.training.checkpoints import write_atomically

__all__ = ["Logs", "STEPS_BETWEEN_ROWS", "require_loggers"]

STEPS_BETWEEN_ROWS = 20


class Logs:
    """Writes the records of a run.

    Args:
        folder: of the run; files go to `logs/` in it.
        settings: which loggers beside CSV.
        step: optimizer step at which the run starts or goes on: rows written after it by an interrupted run are removed.
        configuration: the run's settings, shown by Weights & Biases and MLflow.

    Raises:
        MissingDependency: Weights & Biases or MLflow is asked for and not installed.
    """

    def __init__(self, folder: Path, settings: LoggingSettings, *, step: int = 0, configuration: Mapping[str, Any] | None = None) -> None:
        self.folder = folder / "logs"
        self._loggers = _loggers(self.folder, settings, step)
        for logger in self._loggers:
            logger.log_hyperparams(dict(configuration or {}))
        self._steps = self.folder / "steps.csv"
        kept = _rows_until(self._steps, step) if step else []
        self._write(self._steps, kept)

    def step(self, record: Mapping[str, float]) -> None:
        """One row of steps.csv: epoch, step, loss, learning_rate, gradient_norm, tokens_per_second."""
        try:
            new = self._steps.stat().st_size == 0
            with self._steps.open("a", encoding="utf-8", newline="") as file:
                _write_rows(file, [record], header=new)
        except OSError as error:
            raise RecurraError(
                f"{str(self._steps)!r} could not be written: {error.strerror}. Free some space and continue with --resume."
            ) from error
        self._log("step/", record)

    def epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """The whole epochs.csv; the last record also goes to the other loggers."""
        self._write(self.folder / "epochs.csv", history)
        if history:
            self._log("epoch/", history[-1])

    def gradient_flow(self, records: Sequence[Mapping[str, Any]], *, step: int) -> None:
        """The whole gradient_flow.csv; the last epoch's records also go to the other loggers."""
        self._write(self.folder / "gradient_flow.csv", records)
        last = [record for record in records if record["epoch"] == records[-1]["epoch"]]
        norms = {}
        for record in last:
            place = f"/distance_{record['distance']:05d}" if "distance" in record else ""
            norms[f"{record['layer']}{place}"] = record["norm"]
        self._log("gradient_norm/", norms, step=step)

    def close(self) -> None:
        """Finish the other loggers."""
        for logger in self._loggers:
            logger.finalize("success")

    def _log(self, prefix: str, record: Mapping[str, float], step: int | None = None) -> None:
        metrics = {prefix + name: value for name, value in record.items() if name not in ("step", "epoch")}
        for logger in self._loggers:
            logger.log_metrics(metrics, step=int(record["step"]) if step is None else step)

    def _write(self, path: Path, records: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO(newline="")
        _write_rows(text, records, header=True)
        write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _write_rows(file: Any, records: Sequence[Mapping[str, Any]], *, header: bool) -> None:
    if not records:
        return
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(file, names, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(records)


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """Rows of an earlier session up to a step; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdigit() and int(row["step"]) <= step]


def _loggers(folder: Path, settings: LoggingSettings, step: int) -> list[Any]:
    loggers: list[Any] = []
    if settings.tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(
            TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=step + 1 if step else None)
        )
    require_loggers(settings)
    if settings.wandb is not None:
        from lightning.pytorch.loggers import WandbLogger

        folder.mkdir(parents=True, exist_ok=True)
        loggers.append(WandbLogger(project=settings.wandb, save_dir=folder))
    if settings.mlflow is not None:
        from lightning.pytorch.loggers import MLFlowLogger

        # MLflow no longer starts a folder of files, so without a server of the user's it is a database in the run's folder
        folder.mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.resolve() / 'mlflow.db'}")
        artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else str(folder.resolve() / "mlflow")
        loggers.append(MLFlowLogger(experiment_name=settings.mlflow, tracking_uri=address, artifact_location=artifacts))
    return loggers


def require_loggers(settings: LoggingSettings) -> None:
    """Check that the packages behind the chosen logs are there.

    Raises:
        MissingDependency: one is not installed.
    """
    if settings.wandb is not None:
        _require("wandb", "logging.wandb")
    if settings.mlflow is not None:
        _require("mlflow", "logging.mlflow")


def _require(package: str, setting: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingDependency(f"{setting} needs the package {package}: pip install 'recurra[{package}]', or leave the setting out.")
