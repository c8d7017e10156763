"""Training language models: end to end, resumed in the middle of a stream, refused where nothing can come of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from jobs import ENVIRONMENT
from recurra.config import load_settings
from recurra.errors import EmptyData, RowError, SettingsError, TrainingInterrupted
from recurra.model.language.model import LanguageModel

SMALL: dict[str, Any] = {
    "head.task": "language",
    "embedding.size": 8,
    "encoder.hidden_size": 16,
    "training.epochs": 2,
    "training.batch_size": 4,
    "language.window": 16,
    "evaluation.bootstrap_samples": 20,
    "evaluation.baselines": False,
    "logging.tensorboard": False,
}
TEXT = "".join(f"The {a} saw a {b}, and the {b} ran.\n" for _ in range(6) for a in ("cat", "dog", "owl") for b in ("mouse", "bird", "fox"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT)
    return path


def train(data: Any, **settings: Any) -> LanguageModel:
    options = {name: settings.pop(name) for name in ("output", "validation", "test", "resume", "show") if name in settings}
    named = {name.replace("__", "."): value for name, value in settings.items()}
    model = recurra.train(data, settings={**SMALL, **named}, **options)
    assert isinstance(model, LanguageModel)
    return model


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


@pytest.fixture(autouse=True)
def _quiet_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the charts and samples of the report, which take most of the time of a tiny training and have a test of their own."""
    monkeypatch.setattr("recurra.training.language.results.SAMPLES", ())
    monkeypatch.setattr("recurra.training.results.write_report", lambda path, report: path.write_text(report.title))


@pytest.mark.parametrize("kind", ["character", "word", "whitespace", "bpe"])
def test_a_text_becomes_a_model_that_writes(kind: str, corpus: Path, tmp_path: Path) -> None:
    model = train(corpus, output=tmp_path / "model", text__tokenizer=kind, text__vocabulary_size=300, optimizer__learning_rate=0.02)
    figures = model.run["metrics"]["test"]
    assert figures["perplexity"] < len(model.codec)
    assert figures["perplexity_low"] <= figures["perplexity"] <= figures["perplexity_high"]
    assert ("bits_per_character" in figures) == model.codec.exact
    assert model.run["data"]["rows"].keys() == {"train", "validation", "test"}
    loaded = recurra.load(tmp_path / "model")
    assert isinstance(loaded, LanguageModel)
    options: dict[str, Any] = {"most": 20, "seed": 3, "temperature": 0.8}
    assert list(loaded.generate("The cat", **options)) == list(model.generate("The cat", **options))
    assert loaded.evaluate(TEXT)["perplexity"] == model.evaluate(corpus)["perplexity"]


def test_the_vocabulary_is_that_of_the_training_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b a b\n" * 50 + "a z\n" * 10)
    model = train(tmp_path / "a.txt", data__validation_share=0.1, data__test_share=0.1)
    assert "z" not in model.codec.tokenizer.tokens  # type: ignore[union-attr]
    assert model.run["data"]["unknown"]["test"] > 0
    assert model.run["data"]["unknown"]["train"] == 0


def test_parts_are_shares_from_the_end_cut_behind_line_ends(corpus: Path, tmp_path: Path) -> None:
    characters = train(corpus).run["data"]["characters"]
    assert sum(characters.values()) == len(TEXT)
    longest = max(map(len, TEXT.splitlines())) + 1
    assert abs(characters["test"] - 0.1 * len(TEXT)) <= longest
    end = characters["train"]
    assert TEXT[end - 1] == TEXT[end + characters["validation"] - 1] == "\n"
    (tmp_path / "v.txt").write_text("The cat ran.\n")
    given = train(corpus, validation=tmp_path / "v.txt", data__test_share=0.0).run["data"]["characters"]
    assert given == {"train": len(TEXT), "validation": 13}
    (tmp_path / "t.txt").write_text("The dog sat on it.\n")
    both = train(corpus, validation=tmp_path / "v.txt", test=tmp_path / "t.txt").run["data"]["characters"]
    assert both == {"train": len(TEXT), "validation": 13, "test": 19}


def test_a_table_and_a_file_of_the_same_lines_are_the_same_text(corpus: Path) -> None:
    rows = [{"line": line, "number": 1} for line in TEXT.splitlines()]
    first, second = train(rows), train(corpus)
    assert all(torch.equal(one, weights(second)[name]) for name, one in weights(first).items())


def test_the_same_seed_is_the_same_training(corpus: Path) -> None:
    first, second, other = train(corpus), train(corpus), train(corpus, training__seed=1)
    assert all(torch.equal(one, weights(second)[name]) for name, one in weights(first).items())
    assert not torch.equal(first.network.embedding.weight, other.network.embedding.weight)


@pytest.mark.parametrize("random_windows", [False, True])
def test_resume_in_the_middle_of_a_stream_is_bit_exact(
    random_windows: bool, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"language__random_windows": random_windows, "head__dropout": 0.3, "encoder__weight_dropout": 0.2}
    whole = train(corpus, **settings)
    from recurra.training.fitting import Fitting

    original = Fitting.on_train_batch_end

    def interrupt(self: Fitting, *arguments: Any) -> None:
        if self.course.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "on_train_batch_end", interrupt)
        with pytest.raises(TrainingInterrupted):
            train(corpus, output=tmp_path / "model", **settings)
    state = torch.load(tmp_path / "model" / "training" / "checkpoints" / "last.pt", weights_only=True)
    assert state["loader"]["position"] > 0
    assert state["carried"] is not None
    resumed = train(corpus, output=tmp_path / "model", resume=True, **settings)
    assert all(torch.equal(one, weights(resumed)[name]) for name, one in weights(whole).items())


def test_the_state_is_carried_over_windows(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that forgets at every window comes out otherwise."""
    carried = train(corpus)
    from recurra.model.language.network import LanguageNetwork

    original = LanguageNetwork.carry
    monkeypatch.setattr(LanguageNetwork, "carry", lambda self, batch, state: original(self, batch, None))
    assert not torch.equal(carried.network.head.projection.weight, train(corpus).network.head.projection.weight)  # type: ignore[union-attr]


MEMORY = """
import resource, sys
import numpy as np, torch
from recurra.cells.state import detach
from recurra.config import load_settings
from recurra.model.language.network import LanguageNetwork
from recurra.training.language.loaders import train_loader
settings = load_settings({"head.task": "language", "encoder.hidden_size": 64, "embedding.size": 32, "language.window": 32})
network = LanguageNetwork(50, settings)
def run(count):
    tokens, state = np.random.default_rng(0).integers(2, 50, count).astype(np.int32), None
    for window in train_loader(tokens, settings):
        outputs, state = network.carry(window, state)
        network.loss(outputs, window).backward()
        state = detach(state)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(20_000)
print(run(20_000), run(200_000))
"""


def test_memory_does_not_grow_with_the_stream() -> None:
    found = subprocess.run([sys.executable, "-c", MEMORY], env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout
    short, long = map(int, found.split())
    unit = 1024 if sys.platform != "darwin" else 1
    # Ten times the text is 180,000 numbers more, 4 bytes each and 8 on their way; a kept graph of it would be 1 GB.
    assert (long - short) * unit < 8_000_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >= long


def test_too_little_text_is_refused_or_told(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("")
    with pytest.raises(EmptyData, match="empty"):
        train(path)
    path.write_text("a")
    with pytest.raises(EmptyData, match="2 are needed"):
        train(path)
    path.write_text("ab\n" * 12)
    lines: list[str] = []
    model = train(path, show=lines.append, language__window=100)
    assert any("shorter than a window" in line for line in lines)
    assert np.isfinite(model.run["metrics"]["test"]["loss"])


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"abc abc\n" * 20 + b"caf\xe9\n" + b"abc\n" * 20)
    with pytest.raises(RowError, match=r"t\.txt:21"):
        train(path)
    assert train(path, data__on_error="skip").run["data"]["left_out"] == {"lines that cannot be read": 1}


def test_settings_of_other_tasks_are_refused() -> None:
    with pytest.raises(SettingsError, match="no effect on the task 'language'"):
        load_settings({"language.window": 5, "encoder.pooling": "last"})
    with pytest.raises(SettingsError, match=r"language\.window has no effect"):
        load_settings({"head.task": "classify", "language.window": 5})


def test_a_dry_run_tells_what_there_is(corpus: Path) -> None:
    from recurra.training.train import plan

    facts = plan(corpus, settings=SMALL)
    assert facts["task"] == "language"
    assert facts["vocabulary"] == len(train(corpus).codec)
    assert set(facts["tokens"]) == {"train", "validation", "test"}
