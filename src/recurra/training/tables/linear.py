"""The linear model beside a text classifier's network: it sees the same tokens, errs on other rows, and is added where that helps.

A support vector machine on the TF-IDF of single tokens and their n-grams is fitted to the training rows when the network is trained.
How much either counts is chosen on the validation rows, by the cross-entropy of the sum. Not inside: what computes the scores
(`recurra.layers.ngram_linear`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from recurra.config import Settings
from recurra.data.split import Part
from recurra.data.store import Ragged
from recurra.errors import SettingsError
from recurra.evaluation.baselines import Baseline
from recurra.features import Feature
from recurra.features.text import TextFeature
from recurra.heads import ClassifyHead, Output
from recurra.layers import NgramLinear
from recurra.model.inference import run_network
from recurra.model.model import Model
from recurra.training.results import split_intervals
from recurra.training.tables.prepare import Prepared

__all__ = ["add_linear", "read_column"]

ORDERS = {"character": 4}
"""Longest n-gram by kind of tokens, in tokens; pairs where none is named."""
LEAST_ROWS = 2
"""Training rows that an n-gram stands in at least: of those seen once there are more than of all others, and no figure was better with them."""
MOST_BYTES = 20_000_000
"""What keys, frequencies and weights take in the model folder, at most: n-grams of many classes are fewer."""
MOST_TOKENS, MOST_WORK = 20_000_000, 100_000_000
"""Tokens of the training rows that are fitted at most, because they lie in memory, and tokens times classes, which take some minutes."""
LEAST_GAIN = 1.0
"""Nats by which the log-likelihood of all validation rows must rise for the one number more that is chosen (Akaike 1974)."""


def read_column(settings: Settings, features: Sequence[Feature], head: Output, *, validation_rows: int) -> TextFeature | None:
    """The text that the linear model reads; None where there is none.

    Args:
        settings: of the run; `head.linear` decides.
        features: fitted inputs.
        head: fitted output.
        validation_rows: rows that the weights can be chosen on.

    Raises:
        SettingsError: `head.linear=ngrams` asks for one where there can be none.
    """
    chosen = settings.head.linear
    if chosen == "none" or (chosen == "auto" and not settings.encoder.bidirectional):
        return None
    texts = [feature for feature in features if isinstance(feature, TextFeature)]
    missing = None
    if not isinstance(head, ClassifyHead):
        missing = "predicts one class a row, and this one does not"
    elif len(texts) != 1:
        missing = f"reads one column of text or tokens, and this one has {len(texts)}: join them with data.join"
    elif not validation_rows:
        missing = (
            "is weighed on validation rows, and there are none: give some with --validation, or let data.validation_share hold some out"
        )
    if missing is None:
        return texts[0]
    if chosen == "auto":
        return None
    raise SettingsError(f"head.linear=ngrams needs a model that {missing}; or set head.linear=none.")


def add_linear(model: Model, prepared: Prepared) -> dict[str, Baseline]:
    """Fit the linear model, and put it beside the network where the validation rows say that it helps.

    Args:
        model: with the trained network; its network has a linear model beside it afterwards, or none.
        prepared: the data it was trained on.

    Returns:
        Where it was added, what network and linear model are alone on the part that the report is about: `network_alone` and
        `linear_alone`.
    """
    validation = prepared.part(Part.VALIDATION)
    feature = read_column(model.settings, model.features, model.head, validation_rows=len(validation))
    if feature is None:
        return {}
    head, column = model.head, prepared.inputs[feature.name]
    assert isinstance(head, ClassifyHead)
    assert isinstance(column, Ragged)
    targets = head.in_scope(np.asarray(prepared.targets))
    started = time.perf_counter()
    most = min(MOST_TOKENS, MOST_WORK // len(head.labels))
    rows = some_rows(prepared.part(Part.TRAIN), column.lengths, targets, most=most, seed=model.settings.training.seed)
    linear = fit_linear(column, rows, targets[rows], head, feature=feature)
    if linear is None:
        return {}
    seconds = time.perf_counter() - started
    outputs, scores = _outputs(model, prepared, validation), _scores(linear, column, validation)
    known = targets[validation] >= 0
    factors = choose_factors(outputs[known], scores[known], targets[validation][known], weights=head.weights)
    if factors is None:
        return {}
    network = _alone(
        model,
        prepared,
        lambda rows: _outputs(model, prepared, rows),
        name="network_alone",
        description="without the linear model beside it",
    )
    linear.scale *= factors[0]
    linear.weight *= factors[1]
    linear.bias *= factors[1]
    what = f"linear support vector machine on TF-IDF of {len(linear.keys):,} n-grams of 1 to {linear.order} tokens of the network"
    found = _alone(model, prepared, lambda rows: _scores(linear, column, rows), name="linear_alone", description=what)
    model.network.put_beside(linear, feature.name)
    return {network.name: network, found.name: replace(found, seconds=seconds, rows=len(rows))}


def fit_linear(column: Ragged, rows: np.ndarray, targets: np.ndarray, head: ClassifyHead, *, feature: TextFeature) -> NgramLinear | None:
    """A support vector machine on the TF-IDF of n-grams, one class against all others.

    Args:
        column: the tokens of all rows.
        rows: (N,) those to learn from, ascending.
        targets: (N,) their classes.
        head: number and weights of the classes.
        feature: kind and number of the tokens.

    Returns:
        None where there is nothing to learn: one class only, or no n-gram in `LEAST_ROWS` rows.
    """
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    classes = len(head.labels)
    linear = NgramLinear(0, classes, order=ORDERS.get(feature.tokenizer.kind, 2), vocabulary_size=len(feature.tokenizer))
    tokens, numbers = _end_to_end(column, rows)
    linear.learn(tokens, numbers, len(rows), least=LEAST_ROWS, most=MOST_BYTES // (12 + 4 * classes))
    if not len(linear.keys) or len(np.unique(targets)) < 2:
        return None
    row, place, value = (part.numpy() for part in linear.features(tokens, numbers))
    weights = None if head.weights is None else dict(enumerate(head.weights.tolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped at the iteration limit it is as good for the purpose
        matrix = csr_matrix((value, (row, place)), shape=(len(rows), len(linear.keys)))
        fitted = LinearSVC(C=1.0, random_state=0, class_weight=weights).fit(matrix, targets)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # one plane: half of the distance from it for the one class, half of it against the other
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    linear.bias.fill_(-1.0)  # the far side of the margin, for a class of which no row is among those
    linear.bias[fitted.classes_] = torch.from_numpy(bias).to(linear.bias)
    linear.weight[:, fitted.classes_] = torch.from_numpy(weight.T).to(linear.weight)
    return linear


def choose_factors(
    outputs: np.ndarray, scores: np.ndarray, targets: np.ndarray, *, weights: torch.Tensor | None = None
) -> tuple[float, float] | None:
    """The factors of outputs and scores whose sum has the least cross-entropy; neither is negative.

    The targets are smoothed by 2 / (N + 2), so that a few rows that are all right do not make the factors grow without end
    (Platt 1999, Probabilistic outputs for support vector machines, section 2.2; there by class).

    Args:
        outputs: (N, C) of the network.
        scores: (N, C) of the linear model.
        targets: (N,) classes.
        weights: (C,) of the classes; 1 where not given.

    Returns:
        None where the network's outputs alone, scaled, are as good but for `LEAST_GAIN`.
    """
    each = np.ones(len(targets)) if weights is None else weights.numpy()[targets]
    smoothing = 2.0 / (len(targets) + 2.0)
    aims = np.full(outputs.shape, smoothing / outputs.shape[1])
    aims[np.arange(len(targets)), targets] += 1.0 - smoothing
    parts = np.stack([outputs, scores]).astype(np.float64)
    scaled, _ = _least_loss(parts[:1], aims, each)
    both, factors = _least_loss(parts, aims, each)
    return (float(factors[0]), float(factors[1])) if scaled - both > LEAST_GAIN else None


def _least_loss(parts: np.ndarray, aims: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The smallest sum of cross-entropies of a sum of logits with factors from 0 on, and the factors. It is convex in them.

    Args:
        parts: (P, N, C) logits.
        aims: (N, C) probabilities that are aimed at.
        weights: (N,) of the rows.
    """
    from scipy.optimize import minimize

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.tensordot(factors, parts, 1)
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1, keepdims=True)
        errors = weights[:, None] * (powers / sums - aims)
        return float(weights @ (np.log(sums[:, 0]) - (aims * logits).sum(axis=1))), np.tensordot(parts, errors, 2)

    found = minimize(loss, np.ones(len(parts)), jac=True, bounds=[(0.0, None)] * len(parts), method="L-BFGS-B")
    return float(found.fun), found.x


def some_rows(rows: np.ndarray, lengths: np.ndarray, targets: np.ndarray, *, most: int, seed: int) -> np.ndarray:
    """Those of the rows that have a class, ascending; a random choice of them where they have more tokens than `most`.

    Args:
        rows: numbers of rows.
        lengths: (N,) tokens of each row of the table.
        targets: (N,) classes of the rows of the table, -1 for none.
        most: tokens.
        seed: of the choice.
    """
    rows = rows[targets[rows] >= 0]
    if lengths[rows].sum() <= most:
        return rows
    drawn = np.random.default_rng(seed).permutation(rows)
    return np.sort(drawn[np.cumsum(lengths[drawn]) <= most])


def _end_to_end(column: Ragged, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of some rows, and which of them each belongs to, as `NgramLinear` reads them."""
    taken = column.take(rows)
    numbers = np.repeat(np.arange(len(taken)), taken.lengths)
    return torch.from_numpy(taken.values.astype(np.int64)), torch.from_numpy(numbers)


def _scores(linear: NgramLinear, column: Ragged, rows: np.ndarray) -> np.ndarray:
    """(N, C) of the linear model."""
    found: np.ndarray = linear.scores(*_end_to_end(column, rows), len(rows)).numpy()
    return found


def _outputs(model: Model, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """(N, C) of the network."""
    found = run_network(model.network, prepared.inputs, model.settings.training, rows)
    assert isinstance(found, np.ndarray)
    return found


def _alone(model: Model, prepared: Prepared, outputs: Callable[[np.ndarray], np.ndarray], *, name: str, description: str) -> Baseline:
    """Figures of outputs by row, on the part that the report is about; what is chosen on the validation rows is chosen for them."""
    head, targets = model.head, np.asarray(prepared.targets)
    assert isinstance(head, ClassifyHead)
    validation, test = prepared.part(Part.VALIDATION), prepared.part(Part.TEST)
    chosen = outputs(validation)
    head.settle(chosen, targets[validation])
    rows, found = (test, outputs(test)) if len(test) else (validation, chosen)
    metrics, intervals = split_intervals(model.measure(found, targets[rows]))
    predictions = head.said(found).argmax(axis=1)
    return Baseline(name, description, metrics, intervals, predictions, None, len(prepared.part(Part.TRAIN)))
