"""Settings of forecasting: what a series is, which windows of it are learnt from, and the model of a window."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from recurra.config.group import Group, Positive, Text

__all__ = ["FORECAST_DEFAULTS", "FORECAST_UNUSED", "ForecastSettings"]

Level = Annotated[float, Field(gt=0.0, lt=1.0)]


class ForecastSettings(Group):
    """Series, windows of history and horizon, and how a window is forecast. Naming any of these makes the task a forecast."""

    horizon: Positive = 24
    """Steps that are forecast at once."""
    input_length: Positive = 336
    """Steps of history that a forecast reads; a shorter history is filled up with missing values in front."""
    targets: list[Text] = []
    """Columns to forecast, where they are several; ["*"] for all columns of numbers that have no other meaning."""
    series: list[Text] = []
    """Columns whose values name the series that a row belongs to (long form); none: all rows are one series."""
    past: list[Text] = []
    """Columns that help and are known up to the present only."""
    known: list[Text] = []
    """Columns that help and are known for the horizon too, when a forecast is made (prices set, holidays)."""
    static: list[Text] = []
    """Columns with one value for a whole series (the region of a store)."""
    frequency: Text = "auto"
    """Distance of two steps: a number and s, min, h, d, b (working day), w, mo, q or y, as 15min; auto: inferred and shown."""
    time_zone: Text | None = None
    """Zone, as Europe/Berlin, whose wall clock calendar features follow, and that times without a zone are in."""
    parts: tuple[Positive, Positive, Positive] | None = None
    """Steps of a series to train on, to validate on and to test on, from its beginning; the shares of `data` when not given."""
    stride: Positive = 1
    """Steps between the beginnings of two training windows; every window is validated and tested."""
    calendar: Literal["auto", "none"] = "none"
    """auto: the places of a step in its hour, day, week, month and year, as far as the frequency has them, are inputs too."""
    model: Literal["segments", "autoregressive"] = "segments"
    """segments: reads segments and puts out all steps of the horizon in parallel (Lin et al. 2023). autoregressive: one step
    after the other, each reading the one before, as sample paths (Salinas et al. 2020)."""
    channels: Literal["independent", "joint"] = "independent"
    """independent: each target column is a series of its own under shared weights. joint: a step holds all of them."""
    segment: Positive = 24
    """Steps of a segment of the segments model."""
    scaling: Literal["last", "mean", "mean_std", "revin", "none"] = "last"
    """What a window is freed of, so that levels may drift: its last value; the mean of its sizes (as a divisor, for counts); its
    mean and deviation; these with learnt gain and bias (Kim et al. 2022). none: only the series' mean and deviation in training."""
    identity: bool = True
    """A learnt vector for each series and target column, the mean of all for a series that training did not see."""
    linear: Literal["auto", "none"] = "auto"
    """auto: the segments model adds a linear map from history to horizon (a ridge in closed form, its strength chosen on the validation
    part) to the point or the middle of its quantiles, and the recurrent network learns what is left; not for counts."""
    output: Literal["point", "quantiles", "gaussian", "student_t", "negative_binomial"] = "quantiles"
    """point: one number a step. quantiles: those of `levels`, which cannot cross. gaussian, student_t, negative_binomial (counts):
    a distribution a step."""
    loss: Literal["mse", "mae", "huber"] = "mse"
    """What a point forecast minimizes, on the scale of the series' deviation in training."""
    levels: list[Level] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    """Levels of the quantiles that are put out; ascending, with 0.5 among them."""
    calibrate: bool = True
    """Shift the quantiles by horizon so that on the validation part each covers its share (conformal; Romano et al. 2019)."""
    samples: Positive = 200
    """Sample paths behind the quantiles of an autoregressive forecast."""

    @field_validator("levels")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if sorted(set(value)) != value or 0.5 not in value:
            raise ValueError(f"{value} must be ascending, without repeats, and hold 0.5, the middle")
        return value


FORECAST_DEFAULTS: dict[str, Any] = {
    "head.task": "forecast",
    "head.dropout": 0.2,
    "encoder.cell": "gru",
    "encoder.bidirectional": False,
    "optimizer.learning_rate": 1e-3,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "cosine",
    "schedule.warmup": 0.05,
    "training.epochs": 15,
    "training.patience": 4,
    "training.batch_size": 256,
    "training.gradient_flow_batches": 0,
}
"""What forecasting sets where the user sets nothing."""
FORECAST_UNUSED = (
    "data.types",
    "data.join",
    "data.columns",
    "data.group",
    "data.missing_targets",
    "data.ignore_labels",
    "data.label_separator",
    "text",
    "embedding",
    "augmentation",
    "encoder.pooling",
    "encoder.shared",
    "head.label_smoothing",
    "head.class_weights",
    "training.batch_tokens",
)
"""What forecasting does not read, beside the groups of other tasks."""
