"""The whole job: from what the user gave to a model folder with its report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from recurra.config import Settings, load_settings
from recurra.data.batch import Batch
from recurra.data.hub import HUB_DATA_SETS
from recurra.data.read import Table, read, resolve
from recurra.data.split import Part
from recurra.data.vectors import vector_size
from recurra.errors import DataError, OutputExists, SettingsError
from recurra.features.text import TextFeature, TokenEmbedding
from recurra.model.folder import holds_model, write_file
from recurra.model.model import Model
from recurra.model.network import Network
from recurra.training.checkpoints import last_path
from recurra.training.fit import FitResult, fit
from recurra.training.loaders import loaders, process_rank
from recurra.training.logs import require_loggers
from recurra.training.monitor import choose_metric
from recurra.training.prepare import Plan, Prepared, make_plan, prepare
from recurra.training.results import Timings, fill_run, measure, write_results
from recurra.training.seeds import random_state, restore_random_state, seed_everything

__all__ = ["plan", "print_line", "train"]

Show = Callable[[str], None]
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
    **{name: {"target": "label"} for name in HUB_DATA_SETS},
}
"""What is set for data known by name, where the user sets nothing else."""
FEW_STEPS = 100
"""Optimizer steps of a run under which the user is told that they are few."""
WORK = "training"
"""Folder inside the output where checkpoints and logs live."""
PLAN = "plan.json"
"""File in it that tells what is trained, and that the output folder is ours."""


def print_line(line: str) -> None:
    """Show a line to the person at the keyboard; standard output stays free for results."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def train(
    data: Any,
    *,
    target: str | None = None,
    output: str | Path | None = None,
    validation: Any = None,
    test: Any = None,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    show: Show | None = None,
) -> Model:
    """Train a model on a table, measure it, and write its folder and report.

    Args:
        data: path of a table (or several, or a glob, hf://, s3://), the name of a hub data set, `"languages"`, a frame
            (polars, pandas, Arrow), or a list of dicts.
        target: column to predict.
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
    chosen = load_settings(_known_settings(data), settings, {"target": target} if target else None)
    if output is None:
        if resume:
            raise SettingsError("resume goes on with a training in an output folder: name it.")
        if chosen.training.devices > 1:
            raise SettingsError("Several processes (training.devices) meet in the output folder: name it.")
        with TemporaryDirectory(prefix="recurra-", ignore_cleanup_errors=True) as temporary:  # Windows keeps mapped files
            return _Job(data, chosen, Path(temporary), validation=validation, test=test, show=show, keep=False).run(resume=False)
    folder = Path(output)
    if process_rank() == 0:
        _check_output(folder, resume=resume, overwrite=overwrite)
    return _Job(data, chosen, folder, validation=validation, test=test, show=show).run(resume=resume)


@contextmanager
def _callers_random_numbers() -> Iterator[None]:
    """A training seeds all generators; the caller's go on afterwards as if nothing had been."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def plan(data: Any, *, validation: Any = None, test: Any = None, settings: Any = None, show: Show | None = None) -> dict[str, Any]:
    """What a training would do: resolved settings, columns with types and reasons, rows by part, parameter count.

    The rows are read and encoded (and stay in the cache for the training), so that what is told is what will happen.
    """
    with TemporaryDirectory(prefix="recurra-") as folder:
        job = _Job(data, load_settings(_known_settings(data), settings), Path(folder), validation=validation, test=test, show=show)
        prepared = job.prepare()
        network = job.build(prepared)
    if show is not None:
        import yaml

        show(yaml.safe_dump(prepared.plan.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    return {
        "settings": prepared.plan.settings.model_dump(mode="json"),
        "task": prepared.plan.task,
        "columns": [{"name": column.name, "type": column.type, "reason": column.reason} for column in prepared.plan.columns],
        "rows": prepared.facts.rows,
        "parameters": network.parameter_count,
    }


def _known_settings(data: Any) -> Mapping[str, Any] | None:
    return KNOWN_SETTINGS.get(data) if isinstance(data, str) else None


RESULTS = ("model.json", "weights.safetensors", "run.json", "README.md", "report.html")
"""Files of a model folder, the one that makes it complete first."""


def _check_output(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Whether the output folder may be used, before any work is done.

    Raises:
        OutputExists: it holds something, and neither `resume` nor `overwrite` is set.
    """
    name = repr(str(folder))
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputExists(f"The output folder {name} cannot be made: {str(nearest)!r} is a file. Choose another one.")
    complete, started = holds_model(folder), last_path(folder / WORK).is_file()
    if resume and complete:
        raise OutputExists(f"{name} holds a complete model: there is nothing to go on with. Use --overwrite to train anew.")
    if resume and not started:
        raise OutputExists(f"{name} holds no interrupted training: leave out --resume.")
    if resume or not folder.exists() or not any(folder.iterdir()):
        return
    if not (complete or (folder / WORK / PLAN).is_file()):
        raise OutputExists(f"{name} holds other things than a model: choose another output folder.")
    if complete and not overwrite:
        raise OutputExists(f"{name} holds a model already: choose another --output, or replace it with --overwrite.")
    if started and not overwrite:
        raise OutputExists(f"{name} holds an interrupted training: go on with --resume, or start anew with --overwrite.")


def _open_output(folder: Path, *, resume: bool) -> None:
    """Make the output folder ours: what an earlier run left goes, unless this one resumes it.

    Raises:
        DataError: the folder cannot be made.
    """
    try:
        if not resume:
            for name in RESULTS:
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / WORK, ignore_errors=True)
        (folder / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The output folder {str(folder)!r} cannot be made: {error.strerror or error}. Choose another one.") from error


@dataclass
class _Job:
    """One training: its inputs, and the stages in order."""

    data: Any
    settings: Settings
    folder: Path
    validation: Any = None
    test: Any = None
    show: Show | None = None
    keep: bool = True
    """False: nothing is to stay on disk, neither results nor encoded columns."""
    timings: Timings = field(default_factory=Timings)

    def run(self, *, resume: bool) -> Model:
        """All stages."""
        with _callers_random_numbers():
            return self._run(resume=resume)

    def _run(self, *, resume: bool) -> Model:
        with self.timings.stage("prepare data"):
            prepared = self.prepare()
        if process_rank() == 0:
            _open_output(self.folder, resume=resume)
            self._keep_plan(prepared, resume=resume)
        with self.timings.stage("build model"):
            network = self.build(prepared)
        with self.timings.stage("train"):
            result = self.fit(prepared, network, resume=resume)
        if process_rank() > 0:
            sys.exit(0)  # the first process does the rest
        with self.timings.stage("evaluate"):
            model = Model(prepared.plan.settings, prepared.features, prepared.head, network=network.cpu())
            measured = measure(model, prepared)
        self.say(_headline(model, measured.metrics))
        baselines = fill_run(model, prepared, result, measured, timings=self.timings)
        for name, baseline in baselines.items():
            self.say(f"  {name}, {baseline.description}: {baseline.metrics.get(model.head.monitor, float('nan')):.4f}")
        if self.keep:
            write_results(self.folder, model, prepared, result, measured, baselines=baselines, timings=self.timings)
            self.say(f"model folder: {self.folder}" if (self.folder / "model.json").is_file() else "")
        return model

    def say(self, line: str) -> None:
        if self.show is not None and line and process_rank() == 0:
            self.show(line)

    def prepare(self) -> Prepared:
        """Read, infer, split, fit features, encode; what can be refused is refused before."""
        require_loggers(self.settings.logging)
        if self.settings.training.monitor != "auto":
            choose_metric(self.settings.training.monitor)
        tables = self._tables()
        planned = make_plan(tables, _with_vector_size(self.settings))
        for line in _columns_table(planned):
            self.say(line)
        prepared = prepare(tables, planned, cache=None if self.keep else self.folder / "encoded", show=self.say)
        facts = prepared.facts
        self.say("rows: " + ", ".join(f"{count:,} {part}" for part, count in facts.rows.items()))
        for reason, count in facts.left_out.items():
            self.say(f"left out: {count:,} rows ({reason})")
        for part, count in facts.overlap.items():
            self.say(f"warning: {count:,} {part} rows have the same inputs as a training row; figures on them flatter the model")
        return prepared

    def _tables(self) -> list[tuple[Table, Part | None]]:
        data = self.settings.data
        found = resolve(self.data, on_error=data.on_error, join=data.join)
        tables: list[tuple[Table, Part | None]] = [(found["train"], None)]
        for part, given in ((Part.VALIDATION, self.validation), (Part.TEST, self.test)):
            if given is not None:
                tables.append((read(given, on_error=data.on_error, join=data.join), part))
            elif part.name.lower() in found:
                tables.append((found[part.name.lower()], part))
        return tables

    def build(self, prepared: Prepared) -> Network:
        """The network, from the run's seed."""
        settings = prepared.plan.settings
        seed_everything(settings.training.seed)
        network = Network(prepared.features, prepared.head, settings)
        if settings.text.vectors is not None:
            for feature in prepared.features:
                if isinstance(feature, TextFeature):
                    module = network.embedding_of(feature.name)
                    assert isinstance(module, TokenEmbedding)
                    share = feature.load_vectors(module, Path(settings.text.vectors))
                    self.say(f"{feature.name}: word vectors for {share:.1%} of the vocabulary")
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        return network

    def fit(self, prepared: Prepared, network: Network, *, resume: bool) -> FitResult:
        """Train the network on the training rows, selected on the validation rows."""
        settings = prepared.plan.settings
        head = prepared.head

        def validate(outputs: Iterator[tuple[Any, Batch]]) -> dict[str, float]:
            pairs = [(values.float().cpu().numpy(), batch.targets[head.name].cpu().numpy()) for values, batch in outputs]
            return head.metrics(np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs]))

        train_loader, validation_loader = loaders(prepared)
        steps = len(train_loader) * settings.training.epochs // settings.training.accumulate
        if steps < FEW_STEPS:
            self.say(f"note: {steps} steps in all are few to learn from: raise training.epochs or lower training.batch_size")
        if validation_loader is None and settings.training.monitor not in {"auto", "train_loss"}:
            raise SettingsError(
                f"training.monitor={settings.training.monitor!r} needs validation rows, and there are none: give some, "
                "or leave the setting out, and the training loss selects the model."
            )
        return fit(
            network,
            train_loader,
            validation_loader,
            settings=settings,
            folder=self.folder / WORK,
            validate=validate,
            resume=resume,
            progress=self.show is not None,
        )

    def _keep_plan(self, prepared: Prepared, *, resume: bool) -> None:
        """Note down what is trained, so that it is not resumed with other data; `fit` compares the settings."""
        path = self.folder / WORK / PLAN
        now = {"fingerprint": prepared.facts.fingerprint}
        if resume and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["fingerprint"] != now["fingerprint"]:
                raise OutputExists(
                    f"The training in {str(self.folder)!r} was started on other data: give the same data, or start anew with --overwrite."
                )
        write_file(path, (json.dumps({**now, "started": datetime.now(UTC).isoformat()}, indent=1) + "\n").encode())


def _with_vector_size(settings: Settings) -> Settings:
    """The embedding takes the size of the word vectors it starts from."""
    if settings.text.vectors is None:
        return settings
    size = vector_size(Path(settings.text.vectors))
    return settings.model_copy(update={"embedding": settings.embedding.model_copy(update={"size": size})})


def _columns_table(planned: Plan) -> list[str]:
    """Lines that show the columns with their types and the reasons."""
    width = max(len(column.name) for column in planned.columns)
    lines = [
        f"  {column.name:<{width}}  {column.type:<8}  {column.reason}"
        for column in planned.columns
        if column.name != planned.settings.target
    ]
    return ["columns:", *lines, f"target: {planned.settings.target}, {planned.task} ({planned.reason})"]


def _headline(model: Model, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """The main figure of the last part measured."""
    part, values = list(metrics.items())[-1]
    name = model.head.monitor
    between = f" ({values[f'{name}_low']:.4f} to {values[f'{name}_high']:.4f})" if f"{name}_low" in values else ""
    return f"{part} {name}: {values[name]:.4f}{between}"
