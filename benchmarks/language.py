"""`python -m benchmarks language`: training a word language model beside plain torch.nn.LSTM, and text written by one stream and by many."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.kernels.machine import busy_cores, describe_machine
from benchmarks.kernels.options import Effort
from benchmarks.kernels.timing import interleave, pair_ratios
from recurra.cells.state import detach
from recurra.config import Settings, load_settings
from recurra.decoding import Shaping, generate
from recurra.layers.conversions import load_torch_weights
from recurra.model.language.generation import TokenSteps
from recurra.model.language.network import LanguageNetwork
from recurra.training.language.loaders import train_loader
from recurra.training.optimizers import build_optimizer, clip_gradients

__all__ = ["PlainLanguageModel", "draw_tokens", "language", "plain_writing", "same_weights", "training_steps", "writing"]

PLAIN, OURS = "plain nn.LSTM", "recurra"
DROPOUT, RATE, CLIP = 0.4, 2e-3, 0.25


def language(
    *,
    vocabulary: int = 10_000,
    units: int = 512,
    layers: int = 2,
    batch_size: int = 20,
    window: int = 35,
    characters: int = 65,
    streams: tuple[int, ...] = (1, 64),
    written: int = 200,
    threads: int = 1,
    repeats: int = 7,
    seconds: float = 60.0,
    quick: bool = False,
    output: Path = Path("runs/benchmarks"),
) -> None:
    """Tokens a second of training and of generation, of the same network with the same weights.

    Tokens are drawn at random, as many different ones as the Penn Treebank has words: which ones come does not change the time. The
    plain model is what most tutorials build: nn.Embedding, nn.LSTM with dropout, a softmax with the same vectors, Adam, the state
    carried. It writes by one call of nn.LSTM a token.

    Parameters
    ----------
    vocabulary
        Different tokens.
    units
        Hidden units of a layer, and numbers of a token's vector.
    layers
        Layers of the LSTM.
    batch_size
        Streams that are trained on side by side.
    window
        Steps of back-propagation through time.
    characters
        Different tokens of a second, smaller model that writes character by character.
    streams
        Texts that are written side by side.
    written
        Tokens of each text of a sample.
    threads
        Threads of every contender.
    repeats
        Samples of each contender.
    seconds
        A case takes no further samples after this many seconds.
    quick
        One small case: to see that all runs, not for figures.
    output
        Folder for the JSON file.
    """
    if quick:
        vocabulary, units, layers, batch_size, window, characters, written, repeats, seconds = 50, 8, 2, 3, 5, 20, 4, 3, 0.5
    torch.set_num_threads(threads)
    # As a training of recurra computes: numbers under 1e-38 count as zero, for every contender.
    torch.set_flush_denormal(True)
    console = Console()
    found: dict[str, Any] = {"machine": describe_machine(), "busy_cores_before": busy_cores(), "threads": threads}
    settings = _settings(units, layers, batch_size, window)
    effort = Effort(repeats, seconds, 0.5)
    found["training"] = _train(draw_tokens(4 * batch_size * window + 1, vocabulary), vocabulary, settings, effort)
    console.print(_training_table(found["training"]))
    found["generation"] = [_write(tokens, settings, count, written, effort) for tokens in (vocabulary, characters) for count in streams]
    console.print(_generation_table(found["generation"]))
    found["busy_cores_after"] = busy_cores()
    output.mkdir(parents=True, exist_ok=True)
    (output / "language.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(f"All samples: {output / 'language.json'}")


def draw_tokens(count: int, vocabulary: int, *, seed: int = 0) -> np.ndarray:
    """Tokens whose frequency falls as 1 / rank; 0 is padding and never drawn."""
    weights = 1.0 / np.arange(1, vocabulary)
    return np.random.default_rng(seed).choice(np.arange(1, vocabulary), count, p=weights / weights.sum()).astype(np.int32)


class PlainLanguageModel(nn.Module):
    """nn.Embedding, nn.LSTM, and a softmax over the same vectors."""

    def __init__(self, vocabulary: int, settings: Settings) -> None:
        super().__init__()
        torch.manual_seed(0)
        units, layers = settings.encoder.hidden_size, settings.encoder.layers
        self.embedding = nn.Embedding(vocabulary, units)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.recurrence = nn.LSTM(units, units, layers, dropout=DROPOUT, batch_first=True)
        self.dropout, self.bias = nn.Dropout(DROPOUT), nn.Parameter(torch.zeros(vocabulary))
        with torch.no_grad():
            self.bias[0] = -1e4  # padding is no answer

    def forward(self, tokens: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """(B, T, V) logits of (B, T) tokens, and the state after them."""
        outputs, state = self.recurrence(self.dropout(self.embedding(tokens)), state)
        return nn.functional.linear(self.dropout(outputs), self.embedding.weight, self.bias), state


def same_weights(plain: PlainLanguageModel, settings: Settings) -> LanguageNetwork:
    """The network of a language model with the plain model's weights."""
    network = LanguageNetwork(plain.embedding.num_embeddings, settings)
    load_torch_weights(network.encoder, plain.recurrence.state_dict())
    with torch.no_grad():
        network.embedding.weight.copy_(plain.embedding.weight)
    return network


def training_steps(
    tokens: np.ndarray, vocabulary: int, settings: Settings
) -> tuple[dict[str, Callable[[], torch.Tensor]], nn.Module, nn.Module]:
    """Functions that train on one window and return its loss, by name of the contender; and the two models."""
    plain = PlainLanguageModel(vocabulary, settings)
    network = same_weights(plain, settings)
    plain_optimizer = torch.optim.Adam(plain.parameters(), lr=RATE)
    optimizer = build_optimizer(network, settings.optimizer, learning_rate=RATE, steps=1_000_000)
    plain_batches, batches = _without_end(tokens, settings), _without_end(tokens, settings)
    plain_state, state = None, None

    def plain_step() -> torch.Tensor:
        nonlocal plain_state
        batch = next(plain_batches)
        logits, after = plain(batch.tokens, plain_state)
        plain_state = tuple(each.detach() for each in after)
        loss = cross_entropy(logits.flatten(0, 1), batch.answers.flatten())
        plain_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), CLIP)
        plain_optimizer.step()
        return loss

    def step() -> torch.Tensor:
        nonlocal state
        batch = next(batches)
        outputs, after = network.carry(batch, state)
        state = detach(after)
        loss = network.loss(outputs, batch)
        loss.backward()
        clip_gradients(network.parameters(), norm=CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return {PLAIN: plain_step, OURS: step}, plain, network


def _settings(units: int, layers: int, batch_size: int, window: int) -> Settings:
    return load_settings(
        {
            "head": {"task": "language", "dropout": DROPOUT},
            "embedding": {"size": units},
            "encoder": {"hidden_size": units, "layers": layers, "input_dropout": DROPOUT, "between_dropout": DROPOUT},
            "language": {"window": window},
            "optimizer": {"name": "adam"},
            "training": {"batch_size": batch_size},
        }
    )


def _without_end(tokens: np.ndarray, settings: Settings) -> Iterator[Any]:
    loader, epoch = train_loader(tokens, settings), 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def _train(tokens: np.ndarray, vocabulary: int, settings: Settings, effort: Effort) -> dict[str, Any]:
    calls, plain, network = training_steps(tokens, vocabulary, settings)
    # The gate before the clock: without dropout the same weights have the same loss, whatever kernels compute it.
    plain.eval()
    network.eval()
    losses = {name: call().item() for name, call in calls.items()}
    if abs(losses[PLAIN] - losses[OURS]) > 1e-4 * losses[PLAIN]:
        raise SystemExit(f"The two models disagree: losses {losses[PLAIN]:.6f} and {losses[OURS]:.6f}.")
    plain.train()
    network.train()
    samples = interleave(calls, effort=effort)
    size = settings.training.batch_size * settings.language.window
    return {
        "vocabulary": vocabulary,
        "units": settings.encoder.hidden_size,
        "layers": settings.encoder.layers,
        "samples": samples,
        "tokens_per_second": {name: size / statistics.median(values) for name, values in samples.items()},
        "ratio": {name: statistics.median(pair_ratios(values, samples[PLAIN])) for name, values in samples.items()},
    }


def writing(network: LanguageNetwork, streams: int, count: int) -> torch.Tensor:
    """(streams, count) tokens that are drawn as `recurra generate` draws them."""
    shaping = Shaping(forbidden=((0,),), temperature=0.8)
    start = torch.ones(streams, dtype=torch.int64)
    steps = TokenSteps(network, streams=streams)
    return generate(steps.follow, (), start, most=count, shaping=shaping, seeds=range(streams)).tokens


@torch.inference_mode()
def plain_writing(plain: PlainLanguageModel, streams: int, count: int) -> torch.Tensor:
    """The same by one call of the plain model a token."""
    token, state, found = torch.ones(streams, 1, dtype=torch.int64), None, []
    for _ in range(count):
        logits, state = plain(token, state)
        logits = logits[:, -1] / 0.8
        logits[:, 0] = -torch.inf
        token = torch.multinomial(logits.softmax(1), 1)
        found.append(token)
    return torch.cat(found, 1)


def _write(vocabulary: int, settings: Settings, streams: int, count: int, effort: Effort) -> dict[str, Any]:
    plain = PlainLanguageModel(vocabulary, settings).eval()
    network = same_weights(plain, settings).eval()
    calls: dict[str, Callable[[], object]] = {
        PLAIN: lambda: plain_writing(plain, streams, count),
        OURS: lambda: writing(network, streams, count),
    }
    samples = interleave(calls, effort=effort)
    return {
        "vocabulary": vocabulary,
        "units": settings.encoder.hidden_size,
        "layers": settings.encoder.layers,
        "streams": streams,
        "samples": samples,
        "tokens_per_second": {name: streams * count / statistics.median(values) for name, values in samples.items()},
        "ratio": {name: statistics.median(pair_ratios(values, samples[PLAIN])) for name, values in samples.items()},
    }


def _training_table(case: dict[str, Any]) -> Table:
    table = Table(
        "contender", "tokens/s", "times plain nn.LSTM", title=f"Training, {case['layers']} x {case['units']}, {case['vocabulary']:,} tokens"
    )
    for name in case["samples"]:
        table.add_row(name, f"{case['tokens_per_second'][name]:,.0f}", f"{case['ratio'][name]:.2f}")
    return table


def _generation_table(cases: list[dict[str, Any]]) -> Table:
    table = Table("vocabulary", "streams", "contender", "tokens/s", "times plain nn.LSTM", title="Generation")
    for case in cases:
        for name in case["samples"]:
            figures = (f"{case['tokens_per_second'][name]:,.0f}", f"{case['ratio'][name]:.2f}")
            table.add_row(f"{case['vocabulary']:,}", str(case["streams"]), name, *figures)
    return table
