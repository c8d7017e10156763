"""What a training on clicks leaves behind: figures beside the baselines, `run.json`, the report and the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurra.evaluation.recommend.baselines import RankingBaseline, measure_baselines
from recurra.metrics.ranking import Ranking
from recurra.model.recommend.model import Recommender
from recurra.training.fit import FitResult
from recurra.training.recommend.prepare import Prepared
from recurra.training.results import run_record
from recurra.training.timings import Timings

__all__ = ["Measured", "fill_run", "measure"]


@dataclass(frozen=True, eq=False)
class Measured:
    """The network on the held-out parts.

    Attributes:
        metrics: flat metrics by part, validation before test.
        part: the part that the report is about.
        ranking: of that part; None where nothing was held out.
    """

    metrics: dict[str, dict[str, float]]
    part: str
    ranking: Ranking | None


def measure(model: Recommender, prepared: Prepared) -> Measured:
    """Rank all items for every held-out question."""
    metrics: dict[str, dict[str, float]] = {}
    ranking, last = None, "train"
    for part, asked in (("validation", prepared.validation), ("test", prepared.test)):
        if asked is not None:
            ranking, last = model.rank(asked.cases, gaps=asked.gaps), part
            metrics[part] = model.measure(ranking)
    return Measured(metrics, last, ranking)


def fill_run(
    model: Recommender, prepared: Prepared, result: FitResult, measured: Measured, *, timings: Timings
) -> dict[str, RankingBaseline]:
    """Train the baselines where they are wanted, and fill in `model.run`.

    Returns:
        The baselines by name.
    """
    baselines: dict[str, RankingBaseline] = {}
    asked = prepared.test if measured.part == "test" else prepared.validation
    if model.settings.evaluation.baselines and asked is not None:
        with timings.stage("baselines"):
            baselines = measure_baselines(
                prepared.train.items,
                asked.cases,
                items=len(prepared.items),
                validation=prepared.validation.cases if measured.part == "test" and prepared.validation is not None else None,
                settings=model.settings.evaluation,
                seed=model.settings.training.seed,
            )
    model.run = _run(model, prepared, result, measured, baselines)
    model.run["timings"] = timings.rounded()
    return baselines


def _run(
    model: Recommender, prepared: Prepared, result: FitResult, measured: Measured, baselines: Mapping[str, RankingBaseline]
) -> dict[str, Any]:
    """What `run.json` holds."""
    return run_record(
        model.settings,
        result,
        data={
            "source": prepared.source,
            "fingerprint": prepared.fingerprint,
            "rows": prepared.rows,
            "left_out": prepared.left_out,
            "overlap": prepared.overlap,
            "items": len(prepared.items),
            "sessions": len(prepared.train),
            "notes": prepared.facts,
        },
        parameters=model.network.parameter_count,
        metrics=measured.metrics,
        baselines={name: {measured.part: baseline.metrics} for name, baseline in baselines.items()},
    )
