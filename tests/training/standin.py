"""A small network and loader with the interfaces that `fit` asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recurra.config import Settings, load_settings
from recurra.data.batch import Batch, Sequence
from recurra.shapes import Tensor

VOCABULARY, CLASSES, STEPS = 12, 3, 7


class TinyNetwork(nn.Module):
    """Embedding, GRU, dropout, linear. The label of a row is its first token modulo the classes."""

    def __init__(self, *, sparse: bool = False, cell: type[nn.RNNBase] = nn.GRU, hidden: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 6, padding_idx=0, sparse=sparse)
        self.layer = cell(6, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(hidden, CLASSES)

    def forward(self, batch: Batch) -> Tensor:
        text = batch.inputs["text"]
        assert isinstance(text, Sequence)
        output, _ = self.layer(self.embedding(text.values))
        return self.output(self.dropout((output * text.mask[:, :, None]).amax(dim=1)))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch.targets["label"])


class TinyLoader:
    """Random rows, shuffled by (seed, epoch)."""

    def __init__(self, rows: int = 48, *, batch_size: int = 8, seed: int = 0, shuffle: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(1, STEPS + 1, (rows,), generator=generator)
        values = torch.randint(1, VOCABULARY, (rows, STEPS), generator=generator)
        self.values = values * (torch.arange(STEPS) < self.lengths[:, None])
        self.targets = self.values[:, 0] % CLASSES
        self.batch_size, self.shuffle = batch_size, shuffle
        self.epoch = self.position = 0
        self.handed_out = 0

    def __len__(self) -> int:
        return (len(self.targets) + self.batch_size - 1) // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Any) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[Batch]:
        rows = len(self.targets)
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(self.epoch)) if self.shuffle else torch.arange(rows)
        for chosen in order.split(self.batch_size)[self.position :]:
            self.position += 1
            self.handed_out += 1
            yield Batch({"text": Sequence(self.values[chosen], self.lengths[chosen])}, {"label": self.targets[chosen]}, chosen)


def accuracy(pairs: Iterator[tuple[Any, Batch]]) -> dict[str, float]:
    right = torch.cat([(outputs.argmax(dim=1) == batch.targets["label"]) for outputs, batch in pairs])
    return {"accuracy": float(right.float().mean())}


def network(**options: Any) -> TinyNetwork:
    torch.manual_seed(0)
    return TinyNetwork(**options)


def settings(**assignments: Any) -> Settings:
    """Settings of a small run; names with a double underscore for the dot."""
    chosen: dict[str, Any] = {"training.epochs": 3, "logging.tensorboard": False, "optimizer.learning_rate": 0.02, "training.patience": 0}
    chosen |= {name.replace("__", "."): value for name, value in assignments.items()}
    return load_settings(chosen)


def run(
    folder: Path, *, resume: bool = False, model: TinyNetwork | None = None, train: TinyLoader | None = None, **assignments: Any
) -> Any:
    """(network, result) of a small fit."""
    from recurra.training.fit import fit

    model = model or network()
    result = fit(
        model,
        train or TinyLoader(),
        TinyLoader(24, seed=1, shuffle=False),
        settings=settings(**assignments),
        folder=folder,
        validate=accuracy,
        resume=resume,
        progress=False,
    )
    return model, result
