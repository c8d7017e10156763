"""Folds of a backtest, what they say together, and finished ones on disk, so that an interrupted backtest goes on with the next (arrays in one file,
nothing pickled).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from recurra.evaluation.comparison import Comparison
from recurra.metrics.forecast import ForecastErrors
from recurra.model.folder import write_file

__all__ = ["Backtest", "Fold", "Refit", "keep_fold", "kept_fold"]

Refit = Literal["never", "each"]

SEPARATOR = "/"
"""Between the name of a model, the kind of sum and the name of the sum."""


@dataclass(frozen=True)
class Fold:
    """One fold of a backtest.

    Attributes:
        begin: first origin, as text.
        end: last step that is forecast, as text.
        errors: of the model.
        baselines: errors by name.
        origins: (N,) origin of each window on one clock for all series.
        series: (N,) number of each window's series.
        seconds: time it took.
    """

    begin: str
    end: str
    errors: ForecastErrors
    baselines: Mapping[str, ForecastErrors]
    origins: np.ndarray
    series: np.ndarray
    seconds: float


def keep_fold(path: Path, fold: Fold) -> None:
    """Write a fold, as a whole or not at all."""
    facts = {"begin": fold.begin, "end": fold.end, "seconds": fold.seconds, "baselines": list(fold.baselines), "levels": fold.errors.levels}
    arrays = {"facts": np.array(json.dumps(facts)), "origins": fold.origins, "series": fold.series}
    for model, errors in (("network", fold.errors), *fold.baselines.items()):
        for kind in ("by_window", "by_step", "by_column"):
            arrays |= {SEPARATOR.join((model, kind, name)): values for name, values in getattr(errors, kind).items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    write_file(path, file.getvalue())


def kept_fold(path: Path) -> Fold:
    """Read a fold."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    facts = json.loads(str(arrays["facts"]))

    def errors(model: str) -> ForecastErrors:
        kinds: dict[str, dict[str, np.ndarray]] = {"by_window": {}, "by_step": {}, "by_column": {}}
        for key, values in arrays.items():
            owner, _, rest = key.partition(SEPARATOR)
            kind, _, name = rest.partition(SEPARATOR)
            if owner == model and name:
                kinds[kind][name] = values
        return ForecastErrors(**kinds, levels=tuple(facts["levels"]))

    baselines = {name: errors(name) for name in facts["baselines"]}
    return Fold(facts["begin"], facts["end"], errors("network"), baselines, arrays["origins"], arrays["series"], facts["seconds"])


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    Attributes:
        folds: oldest first.
        refit: whether the model was trained before each of them.
        horizon: steps ahead.
        metric: the main one.
        metrics: over all folds, each with its interval as `NAME_low` and `NAME_high`.
        baselines: likewise by name.
        comparison: with the best baseline; None where there is none or too little to draw from.
        notes: what one should know to read the figures.
    """

    folds: Sequence[Fold]
    refit: Refit
    horizon: int
    metric: str
    metrics: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    comparison: Comparison | None = None
    notes: Sequence[str] = field(default=())

    def table(self) -> pl.DataFrame:
        """A row for each fold: where it lies, its windows, the model's metrics, and the main metric of each baseline."""
        rows = []
        for number, fold in enumerate(self.folds, 1):
            metrics = fold.errors.metrics()
            others = {f"{self.metric}_{name}": errors.metrics().get(self.metric) for name, errors in fold.baselines.items()}
            rows.append({"fold": number, "begin": fold.begin, "end": fold.end, "windows": fold.errors.windows, **metrics, **others})
        return pl.DataFrame(rows, infer_schema_length=None)

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        comparison = self.comparison
        return {
            "refit": self.refit,
            "horizon": self.horizon,
            "metric": self.metric,
            "metrics": dict(self.metrics),
            "baselines": {name: dict(metrics) for name, metrics in self.baselines.items()},
            "comparison": None if comparison is None else {**comparison.__dict__, "verdict": comparison.verdict},
            "folds": [{**row, "seconds": round(fold.seconds, 3)} for row, fold in zip(self.table().to_dicts(), self.folds, strict=True)],
            "notes": list(self.notes),
        }
