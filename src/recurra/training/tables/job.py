"""A training on the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recurra.config import Settings
from recurra.data.batch import Batch
from recurra.data.cooccurrence import cooccurrence_vectors
from recurra.data.split import Part
from recurra.data.store import join_rows, take_rows
from recurra.data.vectors import vector_size
from recurra.errors import SettingsError
from recurra.features.text import TextFeature, TokenEmbedding
from recurra.heads import ClassifyHead, Head
from recurra.model.model import Model
from recurra.model.network import Network
from recurra.training.fit import FitResult, fit
from recurra.training.job import Job
from recurra.training.layer_groups import LayerGroups
from recurra.training.output import WORK
from recurra.training.seeds import seed_everything
from recurra.training.tables.linear import add_linear, read_column
from recurra.training.tables.loaders import loaders, train_rows
from recurra.training.tables.plan import Plan, make_plan
from recurra.training.tables.prepare import Prepared, prepare
from recurra.training.tables.results import fill_run, measure, table_report
from recurra.training.transfer import Pretrained, adapted, columns_to_begin, read_pretrained, with_model
from recurra.training.weight_transfer import begin_table

__all__ = ["TableJob"]


class TableJob(Job[Prepared, Network]):
    """Rows of a table, each with a target, or several: one class, several labels, a number, a tag a token.

    Attributes:
        pretrained: the trained model that the network begins with.
        layers: how its layers learn.
    """

    pretrained: Pretrained | None = None
    layers: LayerGroups | None = None

    def prepare(self) -> Prepared:
        """Read, infer, split, fit features, encode; what can be refused is refused before."""
        tables = self.tables()
        self.pretrained = read_pretrained(self.settings)
        settings = self.settings if self.pretrained is None else adapted(self.settings, self.pretrained)
        planned = self._with_vocabularies(make_plan(tables, _with_vector_size(settings)))
        for line in _columns_table(planned):
            self.say(line)
        prepared = prepare(tables, planned, cache=None if self.keep else self.folder / "encoded", show=self.say)
        facts = prepared.facts
        self.say("rows: " + ", ".join(f"{count:,} {part}" for part, count in facts.rows.items()))
        for reason, count in facts.left_out.items():
            self.say(f"left out: {count:,} rows ({reason})")
        self.require_given_parts(facts.rows)
        for part, count in facts.overlap.items():
            self.say(f"warning: {count:,} {part} rows have the same inputs as a training row; figures on them flatter the model")
        return prepared

    def _with_vocabularies(self, planned: Plan) -> Plan:
        """The plan with the vocabularies of the trained model that columns begin with."""
        if self.pretrained is None:
            return planned
        columns = columns_to_begin(planned.inputs, planned.settings)
        vocabularies = {column.name: self.pretrained.source(column.name).vocabulary(column.type) for column in columns}
        return replace(planned, vocabularies=vocabularies)

    def build(self, prepared: Prepared) -> Network:
        """The network, from the run's seed."""
        settings = prepared.plan.settings
        seed_everything(settings.training.seed)
        network = Network(prepared.features, prepared.head, settings)
        if self.pretrained is not None:
            self.layers = begin_table(network, prepared.features, self.pretrained, settings)
            for feature in columns_to_begin(prepared.features, settings):
                self.say(
                    f"{feature.name}: begins with {self.pretrained.path}; {self.pretrained.describe(len(feature.tokenizer), feature.name)}"
                )
        if settings.text.vectors is not None:
            for feature in prepared.features:
                if isinstance(feature, TextFeature):
                    module = network.embedding_of(feature.name)
                    assert isinstance(module, TokenEmbedding)
                    share = feature.load_vectors(module, Path(settings.text.vectors))
                    self.say(f"{feature.name}: word vectors for {share:.1%} of the vocabulary")
        if settings.embedding.start == "cooccurrence":
            rows = train_rows(prepared)
            for feature in prepared.features:
                if isinstance(feature, TextFeature):
                    module, texts = network.embedding_of(feature.name), prepared.inputs[feature.name].take(rows)
                    assert isinstance(module, TokenEmbedding)
                    module.begin_with(cooccurrence_vectors(texts, vocabulary=len(feature.tokenizer), size=settings.embedding.size))
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        return network

    def fit(self, prepared: Prepared, network: Network, *, resume: bool) -> FitResult:
        """Train the network on the training rows, selected on the validation rows."""
        settings = prepared.plan.settings
        head = prepared.head

        def validate(outputs: Iterator[tuple[Any, Batch]]) -> dict[str, float]:
            found, rows = [], []
            for values, batch in outputs:
                found.append(network.results(values, batch))
                rows.append(batch.rows.cpu().numpy())
            return head.metrics(join_rows(found), take_rows(prepared.targets, np.concatenate(rows)))

        train_loader, validation_loader = loaders(prepared)
        self.warn_of_few_steps(len(train_loader))
        self.require_validation(validation_loader)
        if validation_loader is None and any(_needs_validation(each) for each in head.heads):
            raise SettingsError(
                "out_of_scope.by=threshold chooses its threshold on validation rows, and there are none: give some with --validation, or let "
                "data.validation_share hold some out."
            )
        read_column(settings, prepared.features, head, validation_rows=len(prepared.part(Part.VALIDATION)))  # refuses what cannot be
        return fit(
            network,
            train_loader,
            validation_loader,
            settings=settings,
            folder=self.folder / WORK,
            validate=validate,
            resume=resume,
            begin=self.begin,
            progress=self.show is not None,
            layers=self.layers,
        )

    def fingerprint(self, prepared: Prepared) -> str:
        """Hash of the content of the tables, and of the model that the training begins with."""
        return with_model(prepared.facts.fingerprint, self.pretrained)

    def finish(self, prepared: Prepared, network: Network, result: FitResult) -> Model:
        """Measure, train the baselines, write the model folder and its report."""
        model = Model(prepared.plan.settings, prepared.features, prepared.head, network=network.cpu())
        with self.timings.stage("linear model"):
            alone = add_linear(model, prepared)
        with self.timings.stage("evaluate"):
            measured = measure(model, prepared)
        for line in _headlines(model, measured.metrics):
            self.say(line)
        baselines = fill_run(model, prepared, result, measured, alone=alone, timings=self.timings)
        for name, baseline in baselines.items():
            owner = next((head for head in model.head.heads if name.startswith(f"{head.name}.")), model.head.heads[0])
            self.say(f"  {name}, {baseline.description}: {baseline.metrics.get(owner.monitor, float('nan')):.4f}")
        self.write(model, lambda: table_report(self.folder, model, prepared, result, measured, baselines=baselines))
        return model

    def facts(self, prepared: Prepared, network: Network) -> dict[str, Any]:
        """Settings, task, columns with types and reasons, rows by part, parameters."""
        return {
            "settings": prepared.plan.settings.model_dump(mode="json"),
            "task": prepared.plan.task,
            "targets": [{"name": target.name, "task": target.task, "reason": target.reason} for target in prepared.plan.targets],
            "columns": [{"name": column.name, "type": column.type, "reason": column.reason} for column in prepared.plan.columns],
            "rows": prepared.facts.rows,
            "parameters": network.parameter_count,
        }


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
        if column.name not in planned.target_names
    ]
    return ["columns:", *lines, *(f"target: {target.name}, {target.task} ({target.reason})" for target in planned.targets)]


def _needs_validation(head: Head) -> bool:
    return isinstance(head, ClassifyHead) and head.out_of_scope is not None and head.out_of_scope.by == "threshold"


def _headlines(model: Model, metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The main figure of the last part measured, and that of each of several heads."""
    part, values = list(metrics.items())[-1]
    names = [model.head.monitor, "in_scope_accuracy", "out_of_scope_recall"]
    if len(model.head.heads) > 1:
        names += ["all_right", *(f"{head.name}.{head.monitor}" for head in model.head.heads)]
    lines = []
    for name in [name for name in names if name in values]:
        between = f" ({values[f'{name}_low']:.4f} to {values[f'{name}_high']:.4f})" if f"{name}_low" in values else ""
        lines.append(f"{part} {name}: {values[name]:.4f}{between}")
    return lines
