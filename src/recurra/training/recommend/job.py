"""A training on clicks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recurra.errors import SettingsError
from recurra.metrics.ranking import Ranking, ranking_metrics
from recurra.model.recommend.model import Recommender
from recurra.model.recommend.network import Answered, RecommendNetwork
from recurra.training.fit import FitResult, fit
from recurra.training.job import Job
from recurra.training.output import WORK
from recurra.training.recommend.loaders import QuestionLoader, StreamLoader
from recurra.training.recommend.prepare import Prepared, prepare
from recurra.training.recommend.report import recommend_report
from recurra.training.recommend.results import fill_run, measure
from recurra.training.seeds import seed_everything

__all__ = ["RecommendJob"]


class RecommendJob(Job[Prepared, RecommendNetwork]):
    """Clicks of sessions or users: which item comes next?"""

    def prepare(self) -> Prepared:
        """Read, put in order, split, number."""
        if self.settings.training.devices > 1:
            raise SettingsError("Streams of sessions are not shared among processes: leave training.devices out.")
        loss = self.settings.recommend.loss
        if self.settings.head.label_smoothing and loss != "cross_entropy":
            raise SettingsError(f"head.label_smoothing has no effect with recommend.loss={loss}: leave it out.")
        prepared = prepare(self.data, self.settings, validation=self.validation, test=self.test)
        lengths = prepared.train.items.lengths
        self.say(
            f"training part: {prepared.train.clicks:,} clicks on {len(prepared.items):,} items in {len(lengths):,} sessions of "
            f"{lengths.mean():.1f} clicks on average"
        )
        self.say("to be foreseen: " + ", ".join(f"{count:,} {part}" for part, count in prepared.rows.items() if part != "train"))
        for reason, count in prepared.left_out.items():
            self.say(f"left out: {count:,} rows ({reason})")
        for line in prepared.facts:
            self.say(f"note: {line}")
        for part, count in prepared.overlap.items():
            self.say(
                f"warning: {count:,} {part} sessions of three clicks or more are training sessions too; figures on them flatter the model"
            )
        return prepared

    def fingerprint(self, prepared: Prepared) -> str:
        """Hash of the content of the tables."""
        return prepared.fingerprint

    def build(self, prepared: Prepared) -> RecommendNetwork:
        """The network, from the run's seed."""
        seed_everything(self.settings.training.seed)
        network = RecommendNetwork(prepared.items, self.settings)
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        return network

    def fit(self, prepared: Prepared, network: RecommendNetwork, *, resume: bool) -> FitResult:
        """Train on windows of streams, selected by the ranking of the validation answers among all items."""
        asked = prepared.validation
        if asked is None and self.settings.training.monitor not in {"auto", "train_loss"}:
            raise SettingsError(
                f"training.monitor={self.settings.training.monitor!r} needs clicks held out, and there are none: raise data.validation_share."
            )

        def validate(outputs: Iterator[tuple[Any, Any]]) -> dict[str, float]:
            found = np.concatenate([answered.ranks for answered, _ in outputs if isinstance(answered, Answered)])
            nothing = np.zeros((len(found), 0), np.int64)
            metrics = ranking_metrics(Ranking(found, None, nothing, np.zeros(len(found), np.int64), np.arange(len(found))))
            chosen = self.settings.training.monitor
            shown = [chosen if chosen in metrics else network.head.monitor, "recall_at_20", "mrr_at_20"]
            return {name: metrics[name] for name in dict.fromkeys([*shown, *metrics])}

        loader = StreamLoader(prepared.train, prepared.items, self.settings)
        self.warn_of_few_steps(len(loader))
        return fit(
            network,
            loader,
            None if asked is None else QuestionLoader(asked.cases, asked.gaps),
            settings=self.settings,
            folder=self.folder / WORK,
            validate=validate,
            resume=resume,
            begin=self.begin,
            progress=self.show is not None,
        )

    def finish(self, prepared: Prepared, network: RecommendNetwork, result: FitResult) -> Recommender:
        """Measure beside the baselines, write the model folder and its report."""
        with self.timings.stage("evaluate"):
            model = Recommender(self.settings, prepared.items, network=network.cpu())
            measured = measure(model, prepared)
        part, values = next(reversed(measured.metrics.items()), ("", {}))
        for name in ("recall_at_10", "ndcg_at_10", "recall_at_20", "mrr_at_20") if values else ():
            between = f" ({values[f'{name}_low']:.4f} to {values[f'{name}_high']:.4f})" if f"{name}_low" in values else ""
            self.say(f"{part} {name}: {values[name]:.4f}{between}")
        baselines = fill_run(model, prepared, result, measured, timings=self.timings)
        for name, baseline in baselines.items():
            self.say(
                f"  {name}, {baseline.description}: {baseline.metrics.get(network.head.monitor, float('nan')):.4f} {network.head.monitor}"
            )
        self.write(
            model,
            lambda: recommend_report(
                self.folder, model, prepared, result, part=measured.part, ranking=measured.ranking, baselines=baselines
            ),
        )
        return model

    def facts(self, prepared: Prepared, network: RecommendNetwork) -> dict[str, Any]:
        """Settings, task, items, clicks by part, parameters."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "task": "recommend",
            "items": len(prepared.items),
            "sessions": len(prepared.train),
            "rows": prepared.rows,
            "parameters": network.parameter_count,
        }
