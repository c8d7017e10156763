"""Outputs of a forecast: order, likelihoods beside scipy's, samples beside quantiles, missing answers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config import load_settings
from recurra.heads.forecast import OUTPUTS, ForecastHead

LEVELS = [0.05, 0.25, 0.5, 0.9]


def head(output: str, **changes: object) -> ForecastHead:
    chosen = load_settings(
        {"forecast.output": output, "forecast.levels": LEVELS, **{f"forecast.{name}": value for name, value in changes.items()}}
    )
    return OUTPUTS[output](chosen.forecast)


def parameters(output: str, rows: int = 5, seed: int = 0) -> tuple[ForecastHead, torch.Tensor]:
    made = head(output)
    raw = torch.randn(rows, made.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    counts = output == "negative_binomial"
    center = torch.zeros(rows, 1) if counts else torch.full((rows, 1), 3.0)
    return made, made.parameters(raw * (3.0 if output == "quantiles" else 1.0), center, torch.full((rows, 1), 4.0, dtype=torch.float64))


@pytest.mark.parametrize("output", OUTPUTS)
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_quantiles_never_cross(output: str, seed: int) -> None:
    made, found = parameters(output, rows=20, seed=seed)
    quantiles = made.quantiles(found, [0.05, 0.1, 0.5, 0.7, 0.9])
    assert bool((quantiles.diff(dim=-1) >= 0).all())


def test_the_likelihoods_are_those_of_scipy() -> None:
    answers = torch.tensor([0.0, 1.0, 4.0, 7.0, 30.0], dtype=torch.float64)
    made, found = parameters("gaussian")
    mean, deviation = found.numpy().T
    np.testing.assert_allclose(made.losses(found, answers), -scipy.stats.norm.logpdf(answers, mean, deviation), rtol=1e-10)
    made, found = parameters("student_t")
    location, scale, freedom = found.numpy().T
    np.testing.assert_allclose(made.losses(found, answers), -scipy.stats.t.logpdf(answers, freedom, location, scale), rtol=1e-10)
    made, found = parameters("negative_binomial")
    mean, dispersion = found.numpy().T
    expected = -scipy.stats.nbinom.logpmf(answers, 1 / dispersion, 1 / (1 + dispersion * mean))
    np.testing.assert_allclose(made.losses(found, answers), expected, rtol=1e-8)


@pytest.mark.parametrize("dispersion", [1e-2, 1e-4, 1e-6])
def test_counts_that_are_nearly_those_of_poisson_keep_their_loss_and_its_gradient(dispersion: float) -> None:
    """In single precision, as networks are trained. The gradient is compared with differences of scipy's likelihood.

    The parameters are rounded to 6e-8 of themselves, and a loss of 6 to 4e-7: 1e-6 of the loss are allowed for both. A step of a hundredth of
    the dispersion makes an error of at most 1e-4 in a central difference, and the likelihoods of numbers near 1e7 bring theirs: 1e-2.
    """
    mean, answer = 1_000.0, 950.0
    found = torch.tensor([[mean, dispersion]], requires_grad=True)
    loss = head("negative_binomial").losses(found, torch.tensor([answer]))[0]
    (gradient,) = torch.autograd.grad(loss, found)

    def expected(dispersion: float) -> float:
        return -float(scipy.stats.nbinom.logpmf(answer, 1 / dispersion, 1 / (1 + dispersion * mean)))

    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(expected(dispersion), rel=1e-6)
    step = dispersion / 100
    assert float(gradient[0, 1]) == pytest.approx((expected(dispersion + step) - expected(dispersion - step)) / (2 * step), rel=1e-2)


@pytest.mark.parametrize("output", ["gaussian", "student_t", "negative_binomial"])
def test_samples_come_from_the_distribution_of_the_quantiles(output: str) -> None:
    """Of n = 40,000 draws the share under a quantile of level a has a deviation of sqrt(a (1 - a) / n) < 0.0025; 4 of them are 0.01.

    Counts lie under or at a quantile with at least its level, and under it with at most its level.
    """
    made, found = parameters(output, rows=1)
    drawn = made.sample(found.expand(40_000, -1), np.random.default_rng(0))
    for level, quantile in zip([0.1, 0.5, 0.9], made.quantiles(found, [0.1, 0.5, 0.9])[0], strict=True):
        assert float((drawn <= quantile).double().mean()) >= level - 0.01
        assert float((drawn < quantile).double().mean()) <= level + 0.01


def test_the_quantile_loss_is_least_at_the_quantiles() -> None:
    """The pinball loss over a sample is least where the forecast is the sample's quantiles."""
    made = head("quantiles")
    answers = torch.from_numpy(np.random.default_rng(0).standard_normal(4_001))
    best = torch.from_numpy(np.quantile(answers.numpy(), LEVELS))
    least = made.losses(best.expand(4_001, -1), answers).mean()
    for number in range(len(LEVELS)):
        for shift in (-0.2, 0.2):
            moved = best.clone()
            moved[number] += shift
            assert made.losses(moved.expand(4_001, -1), answers).mean() > least


@pytest.mark.parametrize("output", OUTPUTS)
def test_missing_answers_bring_neither_loss_nor_gradient(output: str) -> None:
    made, found = parameters(output)
    found = found.detach().requires_grad_()
    answers = torch.tensor([1.0, float("nan"), 2.0, 0.0, float("nan")], dtype=torch.float64)
    known = answers.isfinite()
    torch.testing.assert_close(made.loss(found, answers), made.losses(found[known], answers[known]).mean())
    (gradient,) = torch.autograd.grad(made.loss(found, answers), found)
    assert bool(gradient.isfinite().all())
    assert not gradient[~known].any()
    assert float(made.loss(found, answers * float("nan")).detach()) == 0.0


@pytest.mark.parametrize(("loss", "expected"), [("mse", 4.0), ("mae", 2.0), ("huber", 1.5)])
def test_the_loss_of_a_point_is_the_one_that_was_set(loss: str, expected: float) -> None:
    made = head("point", loss=loss)
    assert float(made.loss(torch.tensor([[3.0]]), torch.tensor([1.0]))) == expected
