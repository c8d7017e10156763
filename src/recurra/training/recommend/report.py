"""The report of a training on clicks: figures, details, data and course, put together for the page. Not inside: the page itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from recurra.data.cases import Cases
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.recommend.baselines import RankingBaseline, compare_rankings
from recurra.evaluation.recommend.details import ranking_results
from recurra.evaluation.report import ColumnSummary, DataSummary, RankingResults, Report
from recurra.evaluation.results import MAIN_METRIC
from recurra.metrics.ranking import Ranking
from recurra.model.recommend.model import Recommender
from recurra.training.fit import FitResult
from recurra.training.recommend.prepare import Prepared
from recurra.training.results import begin_report

__all__ = ["recommend_report"]


def recommend_report(
    folder: Path,
    model: Recommender,
    prepared: Prepared,
    result: FitResult,
    *,
    part: str,
    ranking: Ranking | None,
    baselines: Mapping[str, RankingBaseline],
) -> Report:
    """All that the report says.

    Args:
        folder: the model folder, which gives the title.
        model: the trained model, its `run` filled in.
        prepared: the data it was trained on.
        result: the course of the training.
        part: that the figures are of.
        ranking: the network's, of that part; None where nothing was held out.
        baselines: on the same clicks.
    """
    questions = prepared.test if part == "test" else prepared.validation
    target, metrics = model.settings.recommend.item or "item", model.run["metrics"].get(part, {})
    report = begin_report(folder, model, result, task="recommend", target=target, part=part, metrics=metrics, unit="clicks")
    return replace(
        report,
        baselines=[baseline.result() for baseline in baselines.values()],
        comparison=_comparison(model, ranking, baselines),
        data=_data(model, prepared),
        results=None if ranking is None or questions is None else _details(model, ranking, questions.cases, baselines),
    )


def _comparison(model: Recommender, ranking: Ranking | None, baselines: Mapping[str, RankingBaseline]) -> Comparison | None:
    """Against the baseline with the best figure."""
    if ranking is None or not baselines:
        return None
    best = max(baselines.values(), key=lambda baseline: baseline.metrics[MAIN_METRIC["recommend"]])
    return compare_rankings(ranking, best, settings=model.settings.evaluation, seed=model.settings.training.seed)


def _details(model: Recommender, ranking: Ranking, cases: Cases, baselines: Mapping[str, RankingBaseline]) -> RankingResults:
    rankings = {"Recurrent network": ranking, **{name: baseline.ranking for name, baseline in baselines.items()}}
    return ranking_results(
        rankings, cases, popularity=model.items.counts, names=model.items.names.to_list(), seed=model.settings.training.seed
    )


def _data(model: Recommender, prepared: Prepared) -> DataSummary:
    settings = model.settings
    columns = [
        ColumnSummary(settings.recommend.session or "", "session", f"{len(prepared.train):,} in the training part"),
        ColumnSummary(settings.recommend.item or "", "item", f"{len(prepared.items):,} in the training part", prepared.items.names[0]),
    ]
    if settings.data.time is not None:
        columns.append(ColumnSummary(settings.data.time, "time", "puts the clicks of a session in order"))
    columns += [ColumnSummary(name, "attribute", "of the item") for name in settings.recommend.attributes]
    return DataSummary(
        source=prepared.source,
        columns=columns,
        rows=prepared.rows,
        left_out=prepared.left_out,
        overlap={part: prepared.overlap.get(part, 0) for part in prepared.rows if part != "train"},
        lengths={"Clicks of a training session": prepared.train.items.lengths},
        length_unit="click",
        notes=prepared.facts,
    )
