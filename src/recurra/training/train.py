"""The whole job: from what the user gave to a model folder with its report."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recurra.config import Settings, load_settings, target_settings
from recurra.data.hub import HUB_DATA_SETS
from recurra.errors import SettingsError
from recurra.model.trained import TrainedModel
from recurra.training.answer.job import AnswerJob
from recurra.training.devices import process_rank
from recurra.training.forecast.job import ForecastJob
from recurra.training.job import Job, Show
from recurra.training.language.job import LanguageJob
from recurra.training.output import check_at_rest, check_output, locked_output
from recurra.training.recommend.job import RecommendJob
from recurra.training.tables.job import TableJob
from recurra.training.translate.job import TranslateJob

__all__ = ["plan", "print_line", "train"]

KNOWN_SETTINGS: dict[str, dict[str, Any]] = {
    "languages": {
        "target": "language",
        "text.tokenizer": "character",
        "embedding.dropout": 0.3,
        "head.label_smoothing": 0.1,
        "augmentation.word_dropout": 0.0,
        "training.epochs": 4,
        "training.monitor": "loss",
    },
    "chatterbot": {
        "target": "reply",
        "translate.source": "history",
        "data.group": "dialogue",
        "text.vocabulary_size": 2_000,
        "training.epochs": 20,
        "training.monitor": "loss",
    },
    **{name: {"target": "label"} for name in HUB_DATA_SETS},
}
"""What is set for data known by name, where the user sets nothing else."""
JOBS: dict[str, type[Job[Any, Any]]] = {
    **dict.fromkeys(("auto", "classify", "labels", "regress", "tag", "several"), TableJob),
    "answer": AnswerJob,
    "language": LanguageJob,
    "forecast": ForecastJob,
    "recommend": RecommendJob,
    "translate": TranslateJob,
}
"""What trains each task."""


def print_line(line: str) -> None:
    """Show a line to the person at the keyboard; standard output stays free for results."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def train(
    data: Any,
    *,
    target: str | Sequence[str] | None = None,
    output: str | Path | None = None,
    validation: Any = None,
    test: Any = None,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    show: Show | None = None,
) -> TrainedModel:
    """Train a model on a table, measure it, and write its folder and report.

    Args:
        data: path of a table (or several, or a glob, hf://, s3://), the name of a hub data set, `"languages"`, a frame
            (polars, pandas, Arrow), or a list of dicts.
        target: column to predict; several to learn a head for each on one network, or, of series, to forecast them
            ("*" for all columns of numbers).
        output: folder to write; nothing is kept on disk when not given.
        validation: table that selects the model; a share of the rows is held out when not given.
        test: table that measures the model; a share of the rows is held out when not given.
        settings: a `Settings`, a dictionary (`{"encoder.hidden_size": 256}`), or the path of a YAML file.
        resume: go on with an interrupted training in `output`.
        overwrite: replace a model that is in `output`.
        show: called with lines on the course of the work, such as `print`; silent when not given.

    Returns:
        The trained model; `model.run` holds its metrics.

    Raises:
        RecurraError: see `recurra.errors`; the message says what to do.
    """
    if resume and overwrite:
        raise SettingsError("resume goes on with a training and overwrite begins anew: give one of them.")
    chosen = load_settings(_known_settings(data), settings, target_settings(target))
    if output is None:
        if resume:
            raise SettingsError("resume goes on with a training in an output folder: name it.")
        if overwrite:
            raise SettingsError("overwrite replaces a model in an output folder: name it.")
        if chosen.training.devices > 1:
            raise SettingsError("Several processes (training.devices) meet in the output folder: name it.")
        with TemporaryDirectory(prefix="recurra-", ignore_cleanup_errors=True) as temporary:  # Windows keeps mapped files
            return _job(chosen)(data, chosen, Path(temporary), validation=validation, test=test, show=show, keep=False).run(resume=False)
    folder = Path(output)
    job = _job(chosen)(data, chosen, folder, validation=validation, test=test, show=show)
    if process_rank() > 0:
        return job.run(resume=resume)
    check_at_rest(folder)
    check_output(folder, resume=resume, overwrite=overwrite)
    with locked_output(folder):
        check_output(folder, resume=resume, overwrite=overwrite)  # another training may have come to its end in between
        return job.run(resume=resume)


def plan(data: Any, *, validation: Any = None, test: Any = None, settings: Any = None, show: Show | None = None) -> dict[str, Any]:
    """What a training would do: resolved settings, columns with types and reasons, rows by part, parameter count.

    The rows are read and encoded (and stay in the cache for the training), so that what is told is what will happen.
    """
    chosen = load_settings(_known_settings(data), settings)
    with TemporaryDirectory(prefix="recurra-") as folder:
        facts = _job(chosen)(data, chosen, Path(folder), validation=validation, test=test, show=show).plan()
    if show is not None:
        import yaml

        show(yaml.safe_dump(facts["settings"], sort_keys=False, allow_unicode=True))
    return facts


def _job(settings: Settings) -> type[Job[Any, Any]]:
    """The family of tasks that the settings name."""
    return JOBS[settings.head.task]


def _known_settings(data: Any) -> Mapping[str, Any] | None:
    return KNOWN_SETTINGS.get(data) if isinstance(data, str) else None
