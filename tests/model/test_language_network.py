"""What a language model's network owes: windows carry state, no leak of the future, probabilities that sum to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recurra.cells.state import detach
from recurra.config import Settings, load_settings
from recurra.data.streams import Streams
from recurra.errors import SettingsError
from recurra.model.language.batch import TokenBatch
from recurra.model.language.generation import TokenSteps
from recurra.model.language.measuring import measure_dynamic, measure_plain, measure_with_cache
from recurra.model.language.network import LanguageNetwork
from recurra.training.language.loaders import TokenLoader, train_loader

V = 23
TINY = {"head.task": "language", "embedding.size": 6, "encoder.hidden_size": 8, "encoder.layers": 2, "head.dropout": 0.0}
QUIET = {**TINY, "encoder.input_dropout": 0.0}


def chosen(**settings: Any) -> Settings:
    return load_settings(QUIET, {name.replace("__", "."): value for name, value in settings.items()})


def network(settings: Settings | None = None) -> LanguageNetwork:
    torch.manual_seed(0)
    return LanguageNetwork(V, settings or chosen())


def text(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, V, count).astype(np.int32)


def batch(tokens: np.ndarray, *, rows: int = 1) -> TokenBatch:
    streams = Streams([0], [len(tokens) - 1], rows=rows, window=len(tokens), whole=False, shuffle=False)
    return next(iter(TokenLoader(tokens, streams)))


WAYS = {
    "tied, projected": {},
    "tied": {"encoder__hidden_size": 6},
    "untied": {"language__tied": False},
    "adaptive": {"language__cutoffs": [4, 12], "encoder__hidden_size": 32},
}


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_sum_to_one_and_are_those_of_the_loss(way: str) -> None:
    made = network(chosen(**WAYS[way])).double().eval()
    window = batch(text(30))
    with torch.no_grad():
        outputs = made(window)
        found = made.log_probabilities(outputs.dropped[0])
        losses = made.losses(outputs, window)
    # Each of the sums has V terms of at most one, each rounded once: 1e-12 is far above that in float64.
    torch.testing.assert_close(found.exp().sum(1), torch.ones(29, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(losses, -found.gather(1, window.answers[0][:, None])[:, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_later_tokens_change_no_earlier_output(way: str) -> None:
    made = network(chosen(**WAYS[way])).eval()
    tokens, other = text(40), text(40)
    other[25:] = text(15, seed=1)
    with torch.no_grad():
        first, second = (made.log_probabilities(made(batch(each)).dropped[0]) for each in (tokens, other))
    assert torch.equal(first[:25], second[:25])
    assert not torch.equal(first[25:], second[25:])


def gradients(made: LanguageNetwork) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in made.parameters() if parameter.grad is not None]


def test_a_window_that_covers_the_text_is_full_back_propagation() -> None:
    """The loader's one window against one stream by hand, in float64: the same sums in another order."""
    tokens = text(60)
    made = network().double()
    loader = train_loader(tokens, chosen(language__window=100))
    windows = list(loader)
    assert len(windows) == 1
    made.loss(made.carry(windows[0], None)[0], windows[0]).backward()
    found = gradients(made)
    made.zero_grad()
    state, logits = made.initial_state(1), []
    for token in tokens[:-1]:
        steps, state = made.encoder(made.embedding(torch.tensor([[int(token)]])), state)
        logits.append(made.log_probabilities(steps[0]))
    answers = torch.from_numpy(tokens[1:].astype(np.int64))
    torch.nn.functional.nll_loss(torch.cat(logits), answers).backward()
    for ours, whole in zip(found, gradients(made), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-9, atol=1e-12)


def test_windows_carry_the_state_and_cut_the_gradient() -> None:
    tokens = text(61)
    made = network().double().eval()
    state, losses = None, []
    for window in TokenLoader(tokens, Streams([0], [60], rows=1, window=7, whole=False, shuffle=False)):
        outputs, state = made.carry(window, state)
        losses.append(made.losses(outputs, window).detach())
        state = detach(state)
        assert all(not field.requires_grad for part in state for field in part)
    window = batch(tokens)
    torch.testing.assert_close(torch.cat(losses), made.losses(made(window), window).detach(), rtol=1e-10, atol=1e-12)


def test_every_token_is_predicted_once_an_epoch() -> None:
    tokens = np.arange(1, 202, dtype=np.int32)
    for settings in (chosen(language__window=7), chosen(language__window=7, language__random_windows=True)):
        loader = train_loader(tokens, settings)
        for epoch in range(2):
            loader.set_epoch(epoch)
            answers = torch.cat([window.answers[window.answers >= 0] for window in loader])
            assert sorted(answers.tolist()) == list(range(2, 202))


def test_random_windows_scale_the_learning_rate() -> None:
    loader = train_loader(text(3_000), chosen(language__window=20, language__random_windows=True, training__batch_size=4))
    windows = list(loader)
    assert len({window.tokens.shape[1] for window in windows}) > 5
    assert all(window.rate == window.tokens.shape[1] / 20 for window in windows)
    assert {window.rate for window in train_loader(text(3_000), chosen())} == {1.0}


def test_streamed_steps_are_the_outputs_under_teacher_forcing() -> None:
    made = network().eval()
    tokens = text(30)
    steps = TokenSteps(made)
    with torch.no_grad():
        whole = made.log_probabilities(made(batch(tokens)).dropped[0])
    for position, token in enumerate(tokens[:-1]):
        scores, _ = steps.follow(torch.tensor([int(token)]), ())
        # Two orders of adding up the same products in float32.
        torch.testing.assert_close(scores.log_softmax(1)[0], whole[position], rtol=1e-4, atol=1e-5)


def test_prompts_of_several_lengths_are_read_as_alone() -> None:
    made = network().eval()
    rows = [[1, 2, 3], [4], [], [5, 6]]
    together = TokenSteps(made, streams=4)
    together.read(rows)
    for number, row in enumerate(rows):
        alone = TokenSteps(made)
        alone.read([row])
        for ours, theirs in zip(together.stepper.snapshot(), alone.stepper.snapshot(), strict=True):
            assert all(torch.equal(field[number], other[0]) for field, other in zip(ours, theirs, strict=True))


# --- measuring -------------------------------------------------------------------------------------------------------


def test_dynamic_evaluation_leaves_the_model_as_it_was() -> None:
    made = network().eval()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    tokens = np.tile(text(12), 30)
    settings = chosen(language__dynamic_rate=0.5, language__dynamic_window=5).language
    learnt, plain = measure_dynamic(made, tokens, settings), measure_plain(made, tokens)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())
    # The first window is measured before anything is learnt from it; a text that repeats itself is then learnt.
    np.testing.assert_allclose(learnt.losses[:5], plain.losses[:5], rtol=1e-5)
    assert learnt.losses[180:].mean() < plain.losses[180:].mean()


def test_dynamic_evaluation_goes_back_to_the_start_with_a_full_decay() -> None:
    made, tokens = network().eval(), text(100)
    settings = chosen(language__dynamic_rate=0.5, language__dynamic_decay=1.0).language
    # Two window lengths add up in another order in float32.
    np.testing.assert_allclose(measure_dynamic(made, tokens, settings).losses, measure_plain(made, tokens).losses, rtol=1e-4)


def test_a_cache_is_what_the_paper_says() -> None:
    """Against the sum over the past, step by step."""
    made, tokens = network().double().eval(), np.tile(text(9), 12)
    settings = chosen(language__cache=20, language__cache_weight=0.3, language__cache_flatness=0.7).language
    window = batch(tokens)
    with torch.no_grad():
        steps = made(window).dropped[0]
        model = made.log_probabilities(steps).exp()
    answers, expected = tokens[1:], []
    for t in range(len(answers)):
        past = range(max(0, t - 20), t)
        weights = {i: float(torch.exp(0.7 * steps[t] @ steps[i])) for i in past}
        cached = sum(weight for i, weight in weights.items() if answers[i] == answers[t]) / max(sum(weights.values()), 1e-300)
        expected.append(-np.log(0.7 * float(model[t, answers[t]]) + 0.3 * cached if weights else float(model[t, answers[t]])))
    found = measure_with_cache(made, tokens, settings).losses
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.mean() < measure_plain(made, tokens).losses.mean()


def test_figures_do_not_depend_on_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    made, tokens = network().double().eval(), text(300)
    settings = chosen(language__cache=50).language
    found = [measure(made, tokens).losses for measure in (measure_plain, lambda *x: measure_with_cache(*x, settings))]
    monkeypatch.setattr("recurra.model.language.measuring.WINDOW", 17)
    again = [measure(made, tokens).losses for measure in (measure_plain, lambda *x: measure_with_cache(*x, settings))]
    np.testing.assert_allclose(found, again, rtol=1e-9)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="both ends"):
        network(chosen(encoder__bidirectional=True))
    with pytest.raises(SettingsError, match="23 tokens"):
        network(chosen(language__cutoffs=[30]))
    with pytest.raises(SettingsError, match="fewer cutoffs"):
        network(chosen(language__cutoffs=[4, 12]))
    with pytest.raises(SettingsError, match="ascending"):
        chosen(language__cutoffs=[5, 5])
    with pytest.raises(SettingsError, match="tied"):
        chosen(language__cutoffs=[5], language__tied=True)
    with pytest.raises(SettingsError, match="no effect without"):
        chosen(language__cache_weight=0.5)
    with pytest.raises(SettingsError, match="no effect on the task 'language'"):
        chosen(text__max_length=5)
