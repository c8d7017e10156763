"""A training of a language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from recurra.data.texts import read_texts
from recurra.metrics.language import token_metrics
from recurra.model.language.batch import TokenBatch
from recurra.model.language.model import LanguageModel
from recurra.model.language.network import LanguageNetwork, Outputs
from recurra.training.fit import FitResult, fit
from recurra.training.job import Job
from recurra.training.language.loaders import train_loader, validation_loader
from recurra.training.language.prepare import PreparedText, prepare
from recurra.training.language.results import fill_run, language_report, measure
from recurra.training.layer_groups import LayerGroups
from recurra.training.output import WORK
from recurra.training.seeds import seed_everything
from recurra.training.transfer import Pretrained, adapted, read_pretrained, with_model
from recurra.training.weight_transfer import begin_language

__all__ = ["LanguageJob"]


class LanguageJob(Job[PreparedText, LanguageNetwork]):
    """One stream of tokens, of which the next one is predicted.

    Attributes:
        pretrained: the language model that the network begins with.
        layers: how its layers learn.
    """

    pretrained: Pretrained | None = None
    layers: LayerGroups | None = None

    def prepare(self) -> PreparedText:
        """Read, split, learn the vocabulary, encode."""
        self.pretrained = read_pretrained(self.settings)
        if self.pretrained is not None:
            self.settings = adapted(self.settings, self.pretrained)
        settings = self.settings
        column, on_error, join = settings.language.text, settings.data.on_error, settings.data.join
        text = read_texts(self.data, column=column, on_error=on_error, join=join)
        given = {
            part: read_texts(source, column=column, on_error=on_error, join=join)
            for part, source in (("validation", self.validation), ("test", self.test))
            if source is not None
        }
        known = None if self.pretrained is None else self.pretrained.codec
        prepared = prepare(text, given, settings, known=known, cache=None if self.keep else self.folder / "encoded", say=self.say)
        self._tell(prepared)
        return prepared

    def _tell(self, prepared: PreparedText) -> None:
        self.say(f"text: {prepared.codec.describe()} ({prepared.codec.reason})")
        self.say("tokens: " + ", ".join(f"{len(tokens):,} {part}" for part, tokens in prepared.tokens.items()))
        for part, count in prepared.unknown.items():
            if count:
                self.say(f"not in the vocabulary: {count:,} of the {part} tokens ({count / len(prepared.tokens[part]):.2%})")
        if prepared.left_out:
            self.say(f"left out: {prepared.left_out:,} lines that cannot be read")
        if len(prepared.tokens["train"]) <= self.settings.language.window:
            self.say(
                f"note: the training text is shorter than a window of {self.settings.language.window} tokens: it is one window, and very little"
            )

    def build(self, prepared: PreparedText) -> LanguageNetwork:
        """The network, from the run's seed."""
        seed_everything(self.settings.training.seed)
        network = LanguageNetwork(len(prepared.codec), self.settings)
        if self.pretrained is not None:
            self.layers = begin_language(network, self.pretrained, self.settings)
            self.say(f"begins with {self.pretrained.path}; {self.pretrained.describe(len(prepared.codec))}")
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        return network

    def fit(self, prepared: PreparedText, network: LanguageNetwork, *, resume: bool) -> FitResult:
        """Train the network on the training part, selected on the validation part."""
        settings = self.settings
        loader = train_loader(prepared.tokens["train"], settings)
        self.warn_of_few_steps(len(loader))
        held_out = prepared.tokens.get("validation")
        self.require_validation(held_out)

        def validate(outputs: Iterator[tuple[Outputs, TokenBatch]]) -> dict[str, float]:
            losses = torch.cat([network.losses(found, batch).double().cpu() for found, batch in outputs])
            found = token_metrics(losses.numpy())
            return {name: found[name] for name in ("perplexity",)}

        return fit(
            network,
            loader,
            None if held_out is None else validation_loader(held_out, settings),
            settings=settings,
            folder=self.folder / WORK,
            validate=validate,
            resume=resume,
            begin=self.begin,
            progress=self.show is not None,
            layers=self.layers,
        )

    def fingerprint(self, prepared: PreparedText) -> str:
        """Hash of the text, and of the model that the training begins with."""
        return with_model(prepared.fingerprint, self.pretrained)

    def finish(self, prepared: PreparedText, network: LanguageNetwork, result: FitResult) -> LanguageModel:
        """Measure beside the baselines, write the model folder and its report."""
        model = LanguageModel(self.settings, prepared.codec, network=network.cpu())
        model.run = {"data": {"unknown": prepared.unknown}}
        with self.timings.stage("evaluate"):
            measured = measure(model, prepared)
        values = measured.metrics[measured.part]
        per_character = f", {values['bits_per_character']:.4f} bits per character" if "bits_per_character" in values else ""
        self.say(f"{measured.part} perplexity: {values['perplexity']:.3f} ({values['loss']:.4f} nats a token{per_character})")
        baselines = fill_run(model, prepared, result, measured, timings=self.timings)
        for name, baseline in baselines.items():
            self.say(f"  {name}, {baseline.description}: {baseline.metrics['perplexity']:.3f}")
        self.write(model, lambda: language_report(self.folder, model, prepared, result, measured, baselines=baselines))
        return model

    def facts(self, prepared: PreparedText, network: LanguageNetwork) -> dict[str, Any]:
        """Settings, task, vocabulary, tokens by part, parameters."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "task": "language",
            "vocabulary": len(prepared.codec),
            "tokens": {part: len(tokens) for part, tokens in prepared.tokens.items()},
            "parameters": network.parameter_count,
        }
