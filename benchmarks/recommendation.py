"""`python -m benchmarks recommendation`: training on sessions beside a plain PyTorch GRU, and a session in service among very many items."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
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
from recurra.data.sessions import Sessions
from recurra.data.store import Ragged, offsets_of
from recurra.errors import MissingDependency
from recurra.features.items import ItemVocabulary
from recurra.model.recommend.model import Recommender
from recurra.model.recommend.network import RecommendNetwork
from recurra.training.optimizers import build_optimizer
from recurra.training.recommend.loaders import StreamLoader

__all__ = ["PlainGRU", "draw_sessions", "recommendation", "recurra_steps"]

NEGATIVES, ALPHA, RATE = 2_048, 0.5, 0.05


def recommendation(
    *,
    batch_sizes: tuple[int, ...] = (32, 128),
    units: tuple[int, ...] = (100, 512),
    items: int = 12_000,
    sessions: int = 22_000,
    serve: int = 1_000_000,
    threads: int = 1,
    repeats: int = 7,
    seconds: float = 10.0,
    quick: bool = False,
    output: Path = Path("runs/benchmarks"),
) -> None:
    """Minibatches and clicks a second of training, and milliseconds of a click and of its recommendation in service.

    Sessions are drawn at random: as many items, sessions and clicks as Amazon Beauty has; what is clicked does not change the time.
    All contenders train a GRU with tied item vectors by cross-entropy against 2,048 negatives drawn by popularity to the power 0.5.

    Parameters
    ----------
    batch_sizes
        Rows of a minibatch.
    units
        Hidden units, and numbers of an item's vector.
    items
        Items of the catalogue that is trained on.
    sessions
        Sessions that are trained on.
    serve
        Items of the catalogue in service; 0 leaves that part out.
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
        batch_sizes, units, items, sessions, serve, repeats, seconds = (8,), (16,), 500, 300, 2_000, 3, 0.5
    torch.set_num_threads(threads)
    console = Console()
    found: dict[str, Any] = {"machine": describe_machine(), "busy_cores_before": busy_cores(), "training": [], "service": []}
    clicks = draw_sessions(sessions, items)
    effort = Effort(repeats, seconds, 0.5)
    for size in units:
        for rows in batch_sizes:
            found["training"].append(_train(clicks, items, rows=rows, units=size, effort=effort))
    console.print(_training_table(found["training"]))
    if serve:
        found["service"] = _serve(serve, units[0], clicks=200 if not quick else 20)
        console.print(_service_table(found["service"]))
    found["busy_cores_after"] = busy_cores()
    output.mkdir(parents=True, exist_ok=True)
    (output / "recommendation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(f"All samples: {output / 'recommendation.json'}")


def draw_sessions(count: int, items: int, *, seed: int = 0) -> Sessions:
    """Sessions of 3 clicks and more, 7 on average, of items whose popularity falls as 1 / rank."""
    random = np.random.default_rng(seed)
    lengths = 3 + random.geometric(0.2, count) - 1
    weights = 1.0 / np.arange(10, items + 10)
    values = random.choice(items, int(lengths.sum()), p=weights / weights.sum())
    values[:items] = np.arange(items)  # every item is there
    offsets = offsets_of(lengths)
    names = pl.Series([str(number) for number in range(items)])
    return Sessions(Ragged(values, offsets), np.arange(len(values), dtype=np.float64), names, pl.Series([str(n) for n in range(count)]))


class PlainGRU(nn.Module):
    """Session-parallel training as one writes it with torch alone: nn.GRU, nn.Embedding with dense gradients, torch.optim.Adagrad.

    One click a row and minibatch, the state carried over and set to zero where a session begins.
    """

    def __init__(self, clicks: Sessions, items: int, *, rows: int, units: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.recurrence, self.bias = nn.Embedding(items, units), nn.GRU(units, units), nn.Parameter(torch.zeros(items))
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        self.optimizer = torch.optim.Adagrad(self.parameters(), lr=RATE)
        counts = np.bincount(clicks.items.values, minlength=items)
        self.shares = torch.from_numpy(counts**ALPHA / (counts**ALPHA).sum()).float()
        self.log_shares = (NEGATIVES * self.shares).log()
        self.batches = _clicks_side_by_side(clicks, rows)
        self.state = torch.zeros(1, rows, units)

    def step(self) -> torch.Tensor:
        """One minibatch; returns its loss."""
        item, answer, starts = next(self.batches)
        state = self.state.masked_fill(starts[None, :, None], 0.0)
        output, state = self.recurrence(self.embedding(item)[None], state)
        self.state = state.detach()
        drawn = torch.multinomial(self.shares, NEGATIVES, replacement=True)
        own = (output[0] * self.embedding(answer)).sum(1) + self.bias[answer]
        others = output[0] @ self.embedding(drawn).T + self.bias[drawn] - self.log_shares[drawn]
        loss = cross_entropy(torch.cat([own[:, None], others], 1), torch.zeros_like(answer))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def _clicks_side_by_side(clicks: Sessions, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Item, answer, and whether a session begins, of each row; without an end."""
    values, offsets = torch.from_numpy(clicks.items.values), clicks.items.offsets
    following = rows
    place, end = offsets[:rows].copy(), offsets[1 : rows + 1] - 1
    starts = np.ones(rows, bool)
    while True:
        yield values[place], values[place + 1], torch.from_numpy(starts.copy())
        place += 1
        starts = place >= end
        for row in np.flatnonzero(starts):
            place[row], end[row] = offsets[following], offsets[following + 1] - 1
            following = (following + 1) % len(clicks)


def recurra_steps(clicks: Sessions, items: int, *, rows: int, units: int, window: int) -> tuple[Callable[[], Any], list[int]]:
    """A function that trains on one minibatch and returns its loss, and a list that it adds each minibatch's clicks to."""
    settings = _settings(rows, units, window)
    vocabulary = ItemVocabulary(clicks.names, np.bincount(clicks.items.values, minlength=items))
    torch.manual_seed(0)
    network = RecommendNetwork(vocabulary, settings)
    optimizer = build_optimizer(network, settings.optimizer, learning_rate=RATE, steps=1_000_000)
    loader = StreamLoader(clicks, vocabulary, settings)
    batches, state, read = _without_end(loader), None, []

    def step() -> torch.Tensor:
        nonlocal state
        batch = next(batches)
        outputs, after = network.carry(batch, state if state is None or len(batch.items) == len(state[0][0]) else None)
        state = detach(after)
        loss = network.loss(outputs, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        read.append(batch.steps)
        return loss

    return step, read


def _settings(rows: int, units: int, window: int) -> Settings:
    return load_settings(
        {
            "recommend": {"session": "s", "item": "i", "window": window, "negatives": NEGATIVES, "alpha": ALPHA, "repeats": False},
            "encoder": {"hidden_size": units},
            "embedding": {"size": units, "dropout": 0.0, "init_range": 0.05},
            "head": {"dropout": 0.0},
            "optimizer": {"name": "adagrad_momentum", "momentum": 0.0, "learning_rate": RATE},
            "training": {"batch_size": rows},
        }
    )


def _without_end(loader: StreamLoader) -> Iterator[Any]:
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def _train(clicks: Sessions, items: int, *, rows: int, units: int, effort: Effort) -> dict[str, Any]:
    plain = PlainGRU(clicks, items, rows=rows, units=units)
    single, single_clicks = recurra_steps(clicks, items, rows=rows, units=units, window=1)
    window, window_clicks = recurra_steps(clicks, items, rows=rows, units=units, window=8)
    calls = {"plain PyTorch, 1 click": plain.step, "recurra, 1 click": single, "recurra, 8 clicks": window}
    for name, call in calls.items():
        # Before anything is learnt the loss is that of a guess among all items, whatever is drawn: the gate before the clock.
        loss = call().item()
        if abs(loss - np.log(items)) > 0.5:
            raise SystemExit(f"{name}: the first loss is {loss:.3f}, not {np.log(items):.3f}.")
    samples = interleave(calls, effort=effort)
    size = {
        "plain PyTorch, 1 click": rows,
        "recurra, 1 click": statistics.mean(single_clicks),
        "recurra, 8 clicks": statistics.mean(window_clicks),
    }
    per_click = {name: [value / size[name] for value in values] for name, values in samples.items()}
    return {
        "rows": rows,
        "units": units,
        "items": items,
        "samples": samples,
        "minibatches_per_second": {name: 1 / statistics.median(values) for name, values in samples.items()},
        "clicks_per_second": {name: 1 / statistics.median(values) for name, values in per_click.items()},
        "ratio": {name: statistics.median(pair_ratios(values, per_click["plain PyTorch, 1 click"])) for name, values in per_click.items()},
    }


def _serve(items: int, units: int, *, clicks: int) -> list[dict[str, Any]]:
    """A session of many clicks among very many items: each click, and the twenty best items after it."""
    settings = _settings(32, units, 8)
    random = np.random.default_rng(0)
    vocabulary = ItemVocabulary(pl.Series([str(number) for number in range(items)]), np.ones(items, np.int64))
    network = RecommendNetwork(vocabulary, settings)
    with torch.no_grad():
        # Vectors like trained ones: items of the same theme lie together, and they are of different lengths.
        themes = torch.randn(max(items // 500, 1), units)
        vectors = themes[torch.from_numpy(random.integers(0, len(themes), items))] + torch.randn(items, units)
        network.scoring.weight.copy_(vectors * (0.5 + torch.rand(items, 1)) / units**0.5)
    model = Recommender(settings, vocabulary, network=network.eval())
    chosen = [str(item) for item in random.integers(0, items, clicks)]
    exact, found = _session(model, chosen, approximate=False)
    exact["recall"] = 1.0
    rows = [exact]
    try:
        fast, other = _session(model, chosen, approximate=True)
    except MissingDependency as error:
        Console().print(f"Approximate search is left out: {error}", markup=False)
        return rows
    fast["recall"] = statistics.mean(len(set(a) & set(b)) / len(a) for a, b in zip(found, other, strict=True))
    return [*rows, fast]


def _session(model: Recommender, chosen: list[str], *, approximate: bool) -> tuple[dict[str, Any], list[list[str]]]:
    started = time.perf_counter()
    session = model.session(approximate=approximate)
    session.click(chosen[0])
    built = time.perf_counter() - started
    clicks, searches, found = [], [], []
    for item in chosen:
        started = time.perf_counter()
        session.click(item)
        middle = time.perf_counter()
        found.append(session.recommend(20)["item"].to_list())
        clicks.append(1000 * (middle - started))
        searches.append(1000 * (time.perf_counter() - middle))
    return {
        "search": "graph (usearch)" if approximate else "exact, by blocks",
        "items": len(model.items),
        "first_session_seconds": built,
        "click_ms": statistics.median(clicks),
        "top_20_ms": statistics.median(searches),
        "top_20_ms_99": float(np.percentile(searches, 99)),
    }, found


def _training_table(cases: list[dict[str, Any]]) -> Table:
    table = Table("rows", "units", "contender", "minibatches/s", "clicks/s", "times the clicks of plain PyTorch", title="Training")
    for case in cases:
        for name in case["samples"]:
            figures = (
                f"{case['minibatches_per_second'][name]:.1f}",
                f"{case['clicks_per_second'][name]:,.0f}",
                f"{case['ratio'][name]:.2f}",
            )
            table.add_row(str(case["rows"]), str(case["units"]), name, *figures)
    return table


def _service_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("search", "items", "click, ms", "top 20, ms", "of 99%", "found of the best 20", "first session, s", title="Service")
    for row in rows:
        figures = (f"{row['click_ms']:.2f}", f"{row['top_20_ms']:.2f}", f"{row['top_20_ms_99']:.2f}", f"{row['recall']:.3f}")
        table.add_row(row["search"], f"{row['items']:,}", *figures, f"{row['first_session_seconds']:.1f}")
    return table
