"""The self-test finds a wrong kernel, whatever is wrong about it, and finds nothing where nothing is."""

import pytest
import torch

from recurra.cells import CELLS
from recurra.kernels import directions
from recurra.kernels.backend import available_backends
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.lstm import operator
from recurra.kernels.lstm.aten import lstm_aten
from recurra.testing.rounding import allowed_error, assert_rounds_like, rounding_error
from recurra.testing.selftest import CASES, SUBJECTS, run_selftest

EVERYTHING = {option for case in CASES for option in case}


def test_all_cells_are_right_on_this_machine():
    findings = list(run_selftest())
    assert {each.cell for each in findings} == set(SUBJECTS) == {*CELLS, "projected_lstm"}
    assert {each.backend for each in findings} >= set(available_backends()) - {"reference", "compile"}
    wrong = [each for each in findings if not each.within]
    assert not wrong
    # Errors so small that nothing can have been compared would be as wrong as large ones.
    assert all(each.float32 > 0.01 and each.float64 > 0.01 for each in findings if each.float32 is not None)


@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
def test_the_compiled_kernels_are_tested_with_every_option():
    (found,) = (each for each in run_selftest(["slstm"]) if each.backend == "cpu")
    assert set(found.options) == EVERYTHING


def test_the_fused_operation_is_tested_with_what_it_has():
    (found,) = (each for each in run_selftest(["lstm"]) if each.backend == "aten")
    assert set(found.options) == {"lengths", "initial state", "both directions"}


def slightly_more(x):
    return x * (1 + 1e-5)


def right_value_wrong_gradient(x):
    return x.detach() + (x - x.detach()) * (1 + 1e-5)


def not_a_number(x):
    return torch.where(torch.arange(len(x))[:, None, None] == 1, torch.nan, x)


def not_zero_in_the_padding(x):
    return x + 1e-5 * (x == 0)


@pytest.mark.parametrize("damage", [slightly_more, right_value_wrong_gradient, not_a_number, not_zero_in_the_padding])
def test_a_wrong_kernel_is_found(damage, monkeypatch):
    def wrong(*arguments, **options):
        output, state = lstm_aten(*arguments, **options)
        return damage(output), state

    monkeypatch.setattr(operator, "lstm_aten", wrong)
    assert {each.backend: each.within for each in run_selftest(["lstm"]) if each.backend == "aten"} == {"aten": False}


def test_a_kernel_that_raises_is_told(monkeypatch):
    def wrong(x, state, *_, **__):
        return x.new_zeros(*x.shape[:2], state.h.shape[1]), state  # without a gradient

    monkeypatch.setattr(operator, "lstm_aten", wrong)
    (found,) = (each for each in run_selftest(["lstm"]) if each.backend == "aten")
    assert not found.within
    assert "does not require grad" in found.problem


def test_a_kernel_that_reads_the_lengths_wrong_is_found(monkeypatch):
    def wrong(*arguments, lengths=None, **options):
        return lstm_aten(*arguments, lengths=None if lengths is None else (lengths - 1).clamp_min(0), **options)

    monkeypatch.setattr(operator, "lstm_aten", wrong)
    assert [each.within for each in run_selftest(["lstm"]) if each.backend == "aten"] == [False]


@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
def test_a_wrong_compiled_kernel_is_found(monkeypatch):
    right = directions.recurrence

    def wrong(*arguments):
        output, last, saved = right(*arguments)
        return output, last * (1 + 1e-5), saved

    monkeypatch.setattr(directions, "recurrence", wrong)
    assert {each.backend: each.within for each in run_selftest(["gru"])} == {"aten": True, "cpu": False}


def test_without_another_backend_there_is_nothing_to_compare(monkeypatch):
    monkeypatch.setattr("recurra.kernels.backend.UNAVAILABLE", "no compiler")
    assert [(each.backend, each.float32, each.within) for each in run_selftest(["slstm"])] == [("reference", None, True)]


def test_numbers_that_are_none_and_zeros_that_are_not_round_like_nothing():
    exact = [torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    right = [torch.ones(3), torch.zeros(3)]
    assert rounding_error(right, exact) == 0.0
    assert allowed_error(right, exact) == 8 * torch.finfo(torch.float32).eps
    assert allowed_error(right, exact, torch.float64) == 16 * torch.finfo(torch.float64).eps
    assert_rounds_like(right, right, exact)
    for wrong in ([torch.full((3,), torch.nan), right[1]], [right[0], torch.full((3,), 1e-30)], [1.0001 * right[0], right[1]]):
        with pytest.raises(AssertionError, match="is allowed"):
            assert_rounds_like(wrong, right, exact)
