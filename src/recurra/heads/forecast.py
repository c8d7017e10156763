"""What a forecast puts out for a step: a point, quantiles that cannot cross, or the parameters of a distribution.

The network's raw numbers (..., O) become parameters in the unit of the series, by the center and spread of the window they were read
from; losses leave out missing answers. Not here: which steps are forecast together, and sample paths (`model.forecast`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from recurra.config import ForecastSettings
from recurra.shapes import Float, Tensor

__all__ = [
    "OUTPUTS",
    "ForecastHead",
    "GaussianHead",
    "NegativeBinomialHead",
    "PointHead",
    "QuantileHead",
    "StudentTHead",
]

SMALLEST = 1e-4
"""Of a scale or a dispersion: no answer is certain, and none brings an infinite loss."""


class ForecastHead(ABC):
    """The output of a forecast.

    Args:
        settings: of the run.

    Attributes:
        task: its name in `head.task`.
        monitor: the validation metric that selects the model when none is named.
        size: O, raw numbers of a step and channel.
        middle: which of them a linear map is added to.
        samples: whether values can be drawn, so that paths can.
    """

    task: ClassVar[str] = "forecast"
    samples: ClassVar[bool] = True
    size: int = 2
    middle: int = 0

    def __init__(self, settings: ForecastSettings) -> None:
        self.settings = settings
        self.monitor = "loss"

    @abstractmethod
    def parameters(self, raw: Float[Tensor, "... O"], center: Tensor, spread: Tensor) -> Float[Tensor, "... O"]:
        """The parameters in the unit of the series.

        Args:
            raw: what the network puts out.
            center: (..., 1) of the window.
            spread: (..., 1) of the window, positive.
        """

    @abstractmethod
    def losses(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The loss of each answer; all answers are numbers."""

    def loss(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, ""]:
        """The mean loss of the answers that are known; zero when none is."""
        known = answers.isfinite()
        losses = self.losses(parameters, answers.masked_fill(~known, 0.0)).masked_fill(~known, 0.0)
        return losses.sum() / known.sum().clamp(min=1)

    @abstractmethod
    def point(self, parameters: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
        """The forecast as one number."""

    @abstractmethod
    def quantiles(self, parameters: Float[Tensor, "... O"], levels: Sequence[float]) -> Float[Tensor, "... Q"]:
        """The quantiles of levels, ascending."""

    def sample(self, parameters: Float[Tensor, "... O"], generator: np.random.Generator) -> Float[Tensor, "..."]:
        """One value of each."""
        raise NotImplementedError


class PointHead(ForecastHead):
    """One number a step; see `forecast.loss`."""

    samples = False
    size = 1

    def __init__(self, settings: ForecastSettings) -> None:
        super().__init__(settings)
        self.monitor = {"mse": "mse", "mae": "mae"}.get(settings.loss, "loss")

    def parameters(self, raw: Float[Tensor, "... O"], center: Tensor, spread: Tensor) -> Float[Tensor, "... O"]:
        """The number."""
        return center + spread * raw

    def losses(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Squared, absolute or Huber's error (Huber 1964, with a threshold of one deviation)."""
        match self.settings.loss:
            case "mse":
                return (parameters[..., 0] - answers).square()
            case "mae":
                return (parameters[..., 0] - answers).abs()
            case "huber":
                return functional.huber_loss(parameters[..., 0], answers, reduction="none")

    def point(self, parameters: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
        """The number."""
        return parameters[..., 0]

    def quantiles(self, parameters: Float[Tensor, "... O"], levels: Sequence[float]) -> Float[Tensor, "... Q"]:
        """The number for every level: what calibration shifts."""
        return parameters.expand(*parameters.shape[:-1], len(levels))


class QuantileHead(ForecastHead):
    """Quantiles that cannot cross: the median, and what lies between neighbours, which is positive.

    q_m = r_m;  q_{i+1} = q_i + softplus(r_{i+1}) above, q_{i-1} = q_i - softplus(r_{i-1}) below. The loss is the pinball loss, twice the
    mean over levels of max(a (y - q), (a - 1)(y - q)), of which the mean over all levels is the CRPS.

    Source: Koenker & Bassett 1978, equation 2.1.
    """

    samples = False

    def __init__(self, settings: ForecastSettings) -> None:
        super().__init__(settings)
        self.levels = tuple(settings.levels)
        self.size = len(self.levels)
        self.middle = self.levels.index(0.5)

    def parameters(self, raw: Float[Tensor, "... O"], center: Tensor, spread: Tensor) -> Float[Tensor, "... O"]:
        """The quantiles of the head's own levels."""
        middle = raw[..., self.middle : self.middle + 1]
        steps = functional.softplus(raw)
        below = -steps[..., : self.middle].flip(-1).cumsum(-1).flip(-1)
        above = steps[..., self.middle + 1 :].cumsum(-1)
        return center + spread * torch.cat([middle + below, middle, middle + above], -1)

    def losses(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The pinball loss, over the levels."""
        levels = torch.tensor(self.levels, dtype=parameters.dtype, device=parameters.device)
        errors = answers[..., None] - parameters
        pinball: Tensor = torch.maximum(levels * errors, (levels - 1.0) * errors)
        mean: Tensor = 2.0 * pinball.mean(-1)
        return mean

    def point(self, parameters: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
        """The median."""
        return parameters[..., self.middle]

    def quantiles(self, parameters: Float[Tensor, "... O"], levels: Sequence[float]) -> Float[Tensor, "... Q"]:
        """Between two levels by interpolation, beyond the last ones these."""
        places = torch.from_numpy(np.interp(levels, self.levels, range(self.size))).to(parameters)
        lower = places.long()
        upper = (lower + 1).clamp(max=self.size - 1)
        between: Tensor = torch.lerp(parameters[..., lower], parameters[..., upper], places - lower)
        return between


class GaussianHead(ForecastHead):
    """A normal distribution: mean and deviation.

    Source: Salinas et al. 2020, section 3.1, equation 3.
    """

    def parameters(self, raw: Float[Tensor, "... O"], center: Tensor, spread: Tensor) -> Float[Tensor, "... O"]:
        """Mean and deviation."""
        deviation = spread * (functional.softplus(raw[..., 1:2]) + SMALLEST)
        return torch.cat([center + spread * raw[..., :1], deviation], -1)

    def losses(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Negative log likelihood."""
        mean, deviation = parameters.unbind(-1)
        return 0.5 * ((answers - mean) / deviation).square() + deviation.log() + 0.5 * math.log(2 * math.pi)

    def point(self, parameters: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
        """The mean."""
        return parameters[..., 0]

    def quantiles(self, parameters: Float[Tensor, "... O"], levels: Sequence[float]) -> Float[Tensor, "... Q"]:
        """Mean and deviation times the normal quantile."""
        places: Tensor = torch.special.ndtri(torch.tensor(levels, dtype=parameters.dtype, device=parameters.device))
        return parameters[..., :1] + parameters[..., 1:] * places

    def sample(self, parameters: Float[Tensor, "... O"], generator: np.random.Generator) -> Float[Tensor, "..."]:
        """One value of each."""
        noise = torch.from_numpy(generator.standard_normal(tuple(parameters.shape[:-1]), dtype=np.float32))
        return parameters[..., 0] + parameters[..., 1] * noise.to(parameters)


class StudentTHead(ForecastHead):
    """Student's t with location, scale and degrees of freedom over 2 (so that it has a variance): for heavy tails."""

    size = 3

    def parameters(self, raw: Float[Tensor, "... O"], center: Tensor, spread: Tensor) -> Float[Tensor, "... O"]:
        """Location, scale, degrees of freedom."""
        scale = spread * (functional.softplus(raw[..., 1:2]) + SMALLEST)
        return torch.cat([center + spread * raw[..., :1], scale, 2.0 + SMALLEST + functional.softplus(raw[..., 2:])], -1)

    def losses(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Negative log likelihood."""
        location, scale, freedom = parameters.unbind(-1)
        squared = ((answers - location) / scale).square()
        constant = torch.lgamma((freedom + 1) / 2) - torch.lgamma(freedom / 2) - 0.5 * (math.pi * freedom).log()
        return scale.log() - constant + (freedom + 1) / 2 * (squared / freedom).log1p()

    def point(self, parameters: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
        """The location, which is the mean."""
        return parameters[..., 0]

    def quantiles(self, parameters: Float[Tensor, "... O"], levels: Sequence[float]) -> Float[Tensor, "... Q"]:
        """Location and scale times the quantile of Student's t."""
        from scipy.stats import t

        places = t.ppf(np.array(levels), parameters[..., 2:].detach().double().cpu().numpy())
        return parameters[..., :1] + parameters[..., 1:2] * torch.from_numpy(places).to(parameters)

    def sample(self, parameters: Float[Tensor, "... O"], generator: np.random.Generator) -> Float[Tensor, "..."]:
        """One value of each."""
        noise = generator.standard_t(parameters[..., 2].detach().double().cpu().numpy())
        return parameters[..., 0] + parameters[..., 1] * torch.from_numpy(np.asarray(noise)).to(parameters)


class NegativeBinomialHead(ForecastHead):
    """Counts: mean m and dispersion a, so that the variance is m + a m^2.

    m = s softplus(r_1), a = softplus(r_2) / sqrt(s), with the window's spread s.

    Source: Salinas et al. 2020, section 3.1, equation 4, and section 3.3 for the scale.
    """

    def parameters(self, raw: Float[Tensor, "... O"], center: Tensor, spread: Tensor) -> Float[Tensor, "... O"]:
        """Mean and dispersion."""
        mean = center + spread * (functional.softplus(raw[..., :1]) + SMALLEST)
        return torch.cat([mean, (functional.softplus(raw[..., 1:]) + SMALLEST) / spread.sqrt()], -1)

    def losses(self, parameters: Float[Tensor, "... O"], answers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Negative log likelihood."""
        # In double precision: where counts are nearly Poisson's, the terms are so much larger than their sum that single precision would
        # turn the gradient of the dispersion around. MPS has no other.
        mean, dispersion = (parameters if parameters.device.type == "mps" else parameters.double()).unbind(-1)
        answers, size, product = answers.to(mean), 1.0 / dispersion, dispersion * mean
        likelihood = torch.lgamma(answers + size) - torch.lgamma(answers + 1) - torch.lgamma(size)
        loss = -(likelihood - size * product.log1p() + answers * (product / (1 + product)).log())
        return loss.to(parameters.dtype)

    def point(self, parameters: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
        """The mean."""
        return parameters[..., 0]

    def quantiles(self, parameters: Float[Tensor, "... O"], levels: Sequence[float]) -> Float[Tensor, "... Q"]:
        """Whole numbers."""
        from scipy.stats import nbinom

        size, share = self._trials(parameters[..., None, :])
        return torch.from_numpy(nbinom.ppf(np.array(levels), size, share)).to(parameters)

    def sample(self, parameters: Float[Tensor, "... O"], generator: np.random.Generator) -> Float[Tensor, "..."]:
        """One count of each."""
        return torch.from_numpy(generator.negative_binomial(*self._trials(parameters)).astype(np.float32)).to(parameters)

    def _trials(self, parameters: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The parameters as numpy and scipy take them."""
        mean, dispersion = parameters.detach().double().cpu().numpy().clip(1e-9, 1e15).transpose(-1, *range(parameters.ndim - 1))
        return 1.0 / dispersion, 1.0 / (1.0 + dispersion * mean)


OUTPUTS: dict[str, type[ForecastHead]] = {
    "point": PointHead,
    "quantiles": QuantileHead,
    "gaussian": GaussianHead,
    "student_t": StudentTHead,
    "negative_binomial": NegativeBinomialHead,
}
"""The head of each `forecast.output`."""
