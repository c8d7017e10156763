"""Settings of the training: optimizer, schedule, course, evaluation, logs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recurra.config.group import Group, Positive, Probability, Share, Text

__all__ = ["EvaluationSettings", "LoggingSettings", "OptimizerSettings", "ScheduleSettings", "TrainingSettings"]


class OptimizerSettings(Group):
    """The optimizer, by its name in torch.optim."""

    name: Literal["sgd", "adam", "adamw", "adafactor", "rmsprop", "adagrad", "nadam", "radam", "asgd", "muon", "adagrad_momentum"] = "adamw"
    """Muon updates the matrices of the recurrence and AdamW all other parameters. adagrad_momentum is the optimizer of the official
    GRU4Rec."""
    learning_rate: Annotated[float, Field(gt=0.0)] | Literal["auto"] = 2e-3
    """Step size at its largest; auto runs the learning-rate finder first."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Decay of the weight matrices: decoupled from the gradient (Loshchilov & Hutter 2019) but for sgd, adam, rmsprop, adagrad, asgd and
    adagrad_momentum, which add it to the gradient. Biases, normalization gains, initial states and embeddings are never decayed."""
    embedding_factor: Annotated[float, Field(gt=0.0)] = 3.0
    """Learning rate of the embeddings in multiples of that of all else: each of their rows is met in few batches only."""
    averaging: Literal["half", "stalled"] = "half"
    """From when on asgd averages the weights. half: the second half of all steps. stalled: from the end of the epoch in which the
    monitored metric has not improved for `schedule.patience` epochs (the non-monotonic trigger of Merity et al. 2018)."""
    momentum: Probability = 0.9
    """Momentum of sgd, rmsprop, muon and adagrad_momentum."""
    beta1: Probability = 0.9
    """Decay of the gradient's running mean (Adam's family)."""
    beta2: Probability = 0.99
    """Decay of the squared gradient's running mean (Adam's family)."""


class ScheduleSettings(Group):
    """How the learning rate moves."""

    name: Literal["constant", "linear", "cosine", "one_cycle", "plateau", "slanted_triangular"] = "cosine"
    """Shape after the warm-up; plateau divides by ten when the monitored metric stalls. slanted_triangular rises and falls in straight
    lines, from the floor and to it (Howard & Ruder 2018)."""
    warmup: Share = 0.1
    """Share of all steps in which the rate rises from zero, or from where the schedule begins."""
    floor: Share = 0.0
    """Share of the learning rate at which linear and cosine end, and slanted_triangular begins and ends."""
    patience: Positive = 2
    """Epochs without improvement before plateau lowers the rate."""


class TrainingSettings(Group):
    """How long, in which batches, and what guards it."""

    epochs: Positive = 10
    """Most passes over the training rows."""
    patience: Annotated[int, Field(ge=0)] = 3
    """Epochs without improvement of the monitored metric before training stops; 0 never stops early."""
    monitor: Text = "auto"
    """Validation metric that selects the model; auto: accuracy, micro F1 or RMSE by task."""
    batch_size: Positive = 64
    """Most rows of a batch."""
    batch_tokens: Positive = 16_384
    """Most steps of a batch, padding included: long texts make batches of fewer rows."""
    accumulate: Positive = 1
    """Batches whose mean gradient a step takes, each batch counting alike."""
    clip_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest norm of the whole gradient; 0 does not clip."""
    clip_value: Annotated[float, Field(ge=0.0)] = 0.0
    """Largest absolute value of a gradient's element; 0 does not clip."""
    average: Probability = 0.0
    """Decay of the running average of the weights that validation and the saved model use; 0 for none."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the forward and backward pass; below float32 it is automatic mixed precision."""
    divergence_factor: Annotated[float, Field(gt=1.0)] = 100.0
    """Training stops with advice when a batch's loss is this many times that of the first batches, signs left out."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """Time between checkpoints in the middle of an epoch; one is written after every epoch anyway."""
    gradient_flow_batches: Annotated[int, Field(ge=0)] = 4
    """Batches an epoch on which the gradient is measured by layer and by distance in time; 0 for none."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the split, the initial weights, the order of the batches and all noise."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs."""
    devices: Positive = 1
    """Processes or accelerators that share the work."""


class EvaluationSettings(Group):
    """What is measured at the end."""

    baselines: bool = True
    """Train the majority (or mean) and the TF-IDF linear baseline on the same split."""
    baseline_rows: Positive = 200_000
    """Most training rows the linear baseline sees, so that its memory stays bounded."""
    bootstrap_samples: Annotated[int, Field(ge=0)] = 1_000
    """Resamples behind the confidence intervals; 0 for none."""
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """Level of the confidence intervals."""


class LoggingSettings(Group):
    """Where the course of the training is written, besides the CSV file."""

    tensorboard: bool = True
    """Event files for TensorBoard under logs/ of the output folder."""
    wandb: Text | None = None
    """Weights & Biases project (needs the extra `wandb`)."""
    mlflow: Text | None = None
    """MLflow experiment (needs the extra `mlflow`)."""
