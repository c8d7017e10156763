"""A training of text to text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import torch

from recurra.config import Settings
from recurra.data.batch import Batch
from recurra.data.split import Part
from recurra.heads.translate import Decoded
from recurra.metrics.translation import text_metrics
from recurra.model.translate.model import Translator
from recurra.model.translate.network import TranslateNetwork
from recurra.model.translate.search import Search, search
from recurra.model.translate.wording import names_unknown, worded
from recurra.training.fit import FitResult, fit
from recurra.training.job import Job
from recurra.training.output import WORK
from recurra.training.seeds import seed_everything
from recurra.training.translate.loaders import loaders
from recurra.training.translate.prepare import PreparedPairs, prepare
from recurra.training.translate.results import fill_run, measure, translate_report

__all__ = ["TranslateJob"]


class TranslateJob(Job[PreparedPairs, TranslateNetwork]):
    """One text is written from another."""

    def prepare(self) -> PreparedPairs:
        """Read, split, learn the vocabulary, encode."""
        prepared = prepare(self.tables(), self.settings, cache=None if self.keep else self.folder / "encoded", say=self.say)
        source, target = prepared.columns
        self.say(f"from {source!r} ({prepared.reason}) to {target!r}; {prepared.codec.describe()} ({prepared.codec.reason})")
        self.say("rows: " + ", ".join(f"{count:,} {part}" for part, count in prepared.sizes.items()))
        self.require_given_parts(prepared.sizes)
        for reason, count in prepared.left_out.items():
            self.say(f"left out: {count:,} rows ({reason})")
        for column, count in prepared.cut.items():
            self.say(f"cut: {count:,} texts of {column!r} are longer than {self.settings.text.max_length:,} tokens (text.max_length)")
        for part, share in prepared.unknown.items():
            self.say(f"not in the vocabulary: {share:.2%} of the tokens of {part}")
        for part, count in prepared.overlap.items():
            self.say(f"warning: {count:,} {part} rows have the same source as a training row; figures on them flatter the model")
        return prepared

    def build(self, prepared: PreparedPairs) -> TranslateNetwork:
        """The network, from the run's seed."""
        settings = prepared.settings
        seed_everything(settings.training.seed)
        network = TranslateNetwork(len(prepared.codec), settings)
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        return network

    def fit(self, prepared: PreparedPairs, network: TranslateNetwork, *, resume: bool) -> FitResult:
        """Train the network on the training rows, selected on the validation rows."""
        settings = prepared.settings
        train_loader, validation_loader = loaders(prepared)
        self.warn_of_few_steps(len(train_loader))
        self.require_validation(validation_loader)
        return fit(
            network,
            train_loader,
            validation_loader,
            settings=settings,
            folder=self.folder / WORK,
            validate=None if validation_loader is None else _Validation(prepared, network),
            resume=resume,
            begin=self.begin,
            progress=self.show is not None,
        )

    def fingerprint(self, prepared: PreparedPairs) -> str:
        """Hash of the content of the tables."""
        return prepared.fingerprint

    def finish(self, prepared: PreparedPairs, network: TranslateNetwork, result: FitResult) -> Translator:
        """Measure beside the baselines, write the model folder and its report."""
        model = Translator(prepared.settings, prepared.codec, network=network.cpu(), longest=prepared.longest)
        with self.timings.stage("evaluate"):
            measured = measure(model, prepared)
        values = measured.metrics[measured.part]
        between = f" ({values['bleu_low']:.2f} to {values['bleu_high']:.2f})" if "bleu_low" in values else ""
        self.say(f"{measured.part} BLEU: {values['bleu']:.2f}{between}, chrF {values['chrf']:.2f}, beam {model.settings.translate.beam}")
        baselines = fill_run(model, prepared, result, measured, timings=self.timings)
        for name, baseline in baselines.items():
            self.say(f"  {name}, {baseline.description}: {baseline.metrics['bleu']:.2f}")
        self.write(model, lambda: translate_report(self.folder, model, prepared, result, measured, baselines=baselines))
        return model

    def facts(self, prepared: PreparedPairs, network: TranslateNetwork) -> dict[str, Any]:
        """Settings, task, columns, vocabulary, rows by part, parameters."""
        source, target = prepared.columns
        return {
            "settings": prepared.settings.model_dump(mode="json"),
            "task": "translate",
            "columns": [
                {"name": source, "type": "text", "reason": prepared.reason},
                {"name": target, "type": "text", "reason": "is written"},
            ],
            "vocabulary": len(prepared.codec),
            "rows": prepared.sizes,
            "parameters": network.parameter_count,
        }


class _Validation:
    """The figures of an epoch: probable tokens of all validation rows, and what is written greedily for the first of them."""

    def __init__(self, prepared: PreparedPairs, network: TranslateNetwork) -> None:
        self.prepared, self.network = prepared, network
        self.settings: Settings = prepared.settings
        self.rows = prepared.part(Part.VALIDATION)[: self.settings.translate.validation_rows]
        self.texts = pl.DataFrame()

    def __call__(self, outputs: Iterator[tuple[Decoded, Batch]]) -> dict[str, float]:
        losses, hits = [], []
        for found, batch in outputs:
            each, right = self.network.losses(found, batch)
            losses.append(each.double().cpu())
            hits.append(right.cpu())
        mean = float(torch.cat(losses).mean())
        metrics = {
            "loss": mean,  # over tokens, not the mean of the batches' means
            "perplexity": float(np.exp(min(mean, 700.0))),
            "token_accuracy": float(torch.cat(hits).double().mean()),
        }
        if not len(self.rows):
            return metrics
        codec, (source, target) = self.prepared.codec, self.prepared.columns
        if self.texts.is_empty():
            self.texts = self.prepared.rows.gather(self.rows, [source, target]).cast(pl.String)
        chosen = Search(1, most=2 * self.prepared.longest + 1, unknown=names_unknown(codec, self.settings.translate))
        sources = self.prepared.sources.take(self.rows)
        texts = worded(self.network, codec, self.texts[source], sources, search(self.network, sources, chosen))
        scores = text_metrics([each[0] for each in texts], self.texts[target].to_list())
        return {**metrics, "bleu": scores["bleu"], "chrf": scores["chrf"]}
