"""Text that comes out of a language model, from Python and the command line."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from jobs import ENVIRONMENT
from recurra.cli import main
from recurra.decoding import sequence_log_probabilities
from recurra.errors import EmptyData, SettingsError
from recurra.model.language.generation import TokenSteps
from recurra.model.language.model import LanguageModel

TEXT = "".join(f"The {a} saw a {b}, and the {b} ran.\n" for _ in range(6) for a in ("cat", "dog", "owl") for b in ("mouse", "bird", "fox"))
SMALL: dict[str, Any] = {
    "head.task": "language",
    "embedding.size": 8,
    "encoder.hidden_size": 24,
    "training.epochs": 3,
    "training.batch_size": 4,
    "language.window": 16,
    "optimizer.learning_rate": 0.02,
    "evaluation.bootstrap_samples": 20,
    "evaluation.baselines": False,
    "logging.tensorboard": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("language")
    (path / "text.txt").write_text(TEXT)
    return recurra.train(path / "text.txt", settings=SMALL).save(path / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    loaded = recurra.load(folder)
    assert isinstance(loaded, LanguageModel)
    return loaded


def text(model: LanguageModel, prompt: str = "The cat", **options: Any) -> str:
    return "".join(model.generate(prompt, **{"most": 30, **options}))


def test_the_same_seed_writes_the_same_text(model: LanguageModel) -> None:
    assert text(model, seed=1) == text(model, seed=1)
    assert len({text(model, seed=seed) for seed in range(5)}) == 5
    assert len({text(model) for _ in range(5)}) > 1


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.3}, {"min_p": 0.5}, {"repetition_penalty": 3.0}, {"beam": 3}, {"most": 7}],
    ids=str,
)
def test_every_option_does_something(model: LanguageModel, options: dict[str, Any]) -> None:
    assert text(model, seed=1) != text(model, **{**({} if "beam" in options else {"seed": 1}), **options})


def test_greedy_is_a_beam_of_one_and_the_coldest_draw(model: LanguageModel) -> None:
    greedy = text(model, temperature=0)
    assert greedy == text(model, beam=1) == text(model, top_k=1, seed=4) == text(model, temperature=1e-3, seed=7)


def test_a_wide_beam_finds_a_text_at_least_as_probable(model: LanguageModel) -> None:
    def total(continuation: str) -> float:
        prompt = model.codec.encode("The cat").tolist()
        steps = TokenSteps(model.network)
        steps.read([prompt[:-1]])
        tokens = torch.tensor([model.codec.encode(continuation).tolist()])
        return float(sequence_log_probabilities(steps.follow, (), torch.tensor(prompt[-1:]), tokens).sum())

    assert total(text(model, beam=8, most=12)) >= total(text(model, temperature=0, most=12))


def test_texts_side_by_side_are_those_of_each_alone(model: LanguageModel) -> None:
    prompts = ["The cat", "", "The owl saw", "and"]
    together = model.generate_many(prompts, most=25, seed=5)
    assert together == [text(model, prompt, most=25, seed=5 + number) for number, prompt in enumerate(prompts)]
    assert model.generate_many([]) == []


def test_pieces_come_one_by_one(model: LanguageModel) -> None:
    pieces = model.generate("The", most=10, seed=0)
    first = next(pieces)
    assert len(first) == 1
    assert len(first + "".join(pieces)) == 10


def test_what_the_vocabulary_lacks_is_passed_over(model: LanguageModel) -> None:
    assert model.unknown("The ¿cat") == ["¿"]
    assert text(model, "The ¿cat", seed=2) == text(model, "The cat", seed=2)
    assert text(model, "¿", seed=2) == text(model, "", seed=2) == text(model, "\n", seed=2)


def test_words_outside_of_the_vocabulary_are_read_as_unknown() -> None:
    corpus = [{"text": line} for line in ["The zebra ran.", *TEXT.splitlines()]]
    model: Any = recurra.train(corpus, settings={**SMALL, "text.tokenizer": "word", "training.epochs": 1})
    assert model.knows_unknown
    assert text(model, "The unicorn", seed=2) == text(model, "The griffin", seed=2)
    assert "unk" not in text(model, "The unicorn", seed=2, most=200)


def test_numbers_out_of_range_and_idle_ones_are_refused(model: LanguageModel) -> None:
    for options in (
        {"most": 0},
        {"most": 3.5},
        {"most": True},
        {"temperature": "warm"},
        {"seed": 1.5},
        {"beam": "wide"},
        {"top_p": None},
        {"temperature": -1.0},
        {"temperature": float("inf")},
        {"seed": 2**70},
        {"top_p": 0.0},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"top_k": -1},
        {"beam": -1},
    ):
        with pytest.raises(SettingsError, match=next(iter(options))):
            model.generate("The", **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="top_k does nothing beside a beam search"):
        model.generate("The", beam=2, top_k=3)
    for nothing_drawn in ({"beam": 2}, {"temperature": 0}):
        with pytest.raises(SettingsError, match="seed does nothing beside"):
            model.generate("The", seed=1, **nothing_drawn)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="A prompt is a text, not 3"):
        model.generate(3)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"seed is 0\.5"):
        model.generate_many(["The"], seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="a list, also of one"):
        model.generate_many("The cat")
    with pytest.raises(SettingsError, match="temperature 0"):
        model.generate("The", temperature=0, top_p=0.5)


def test_a_text_is_measured_as_given_or_as_a_file(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TEXT[:200])
    given, file = model.evaluate(TEXT[:200]), model.evaluate(tmp_path / "t.txt")
    assert given["tokens"] == 199
    assert file["tokens"] == 200  # a file ends with a line end
    assert given["perplexity"] == pytest.approx(2.0 ** given["bits_per_character"], rel=1e-9)
    for unknown in ("\u4e2d\u6587", "\u4e2d" + TEXT[:9]):  # what stands for an unknown character is one, however it is written
        found = model.evaluate(unknown)
        assert found["perplexity"] == pytest.approx(2.0 ** found["bits_per_character"], rel=1e-9)
    for short in ("T", ""):  # no text at all is no name of a file either
        with pytest.raises(EmptyData, match="fewer than two tokens in the given text"):
            model.evaluate(short)
    lines = TEXT[:200].strip().replace(" ", "\r\n") + "\r\n"
    (tmp_path / "lines.txt").write_bytes(lines.encode())
    assert model.evaluate(lines) == model.evaluate(tmp_path / "lines.txt")
    with_cache = model.evaluate(TEXT[:400], options=model.settings.language.model_copy(update={"cache": 100, "dynamic_rate": 0.1}))
    assert {"cache_perplexity", "dynamic_perplexity"} <= set(with_cache)


# --- the command line ------------------------------------------------------------------------------------------------


def run(*arguments: str) -> None:
    """A command that goes well: it ends with the exit status 0."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code in (0, None)


def test_the_command_writes_prompt_and_text(folder: Path, model: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    run("generate", str(folder), "The cat", "--most", "20", "--seed", "3", "--temperature", "0.8", "--top-k", "5")
    assert capsys.readouterr().out == "The cat" + text(model, most=20, seed=3, temperature=0.8, top_k=5) + "\n"


def test_the_command_reads_standard_input_and_tells_what_it_passes_over(
    folder: Path, model: LanguageModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The ¿owl\n"))
    run("generate", str(folder), "-", "--most", "5", "--seed", "3")
    shown = capsys.readouterr()
    assert shown.out == "The ¿owl" + text(model, "The owl", most=5, seed=3) + "\n"
    assert "not in the vocabulary, passed over: '¿'" in shown.err


def test_the_command_refuses_what_it_cannot_use(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], models: dict[str, Any]
) -> None:
    for arguments, message in (
        (["generate", str(folder), "x", "--top-p", "3"], "top_p is 3"),
        (["generate", str(models["classify"].save(tmp_path / "c")), "x"], "no language model"),
        (["predict", str(folder), "x"], "recurra generate"),
        (["generate", str(folder), "--stop"], "There is no option '--stop': see `recurra generate --help`"),
        (["generate", str(folder), "x", "--beam", "2", "--seed", "1"], "seed does nothing beside a beam search"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 1
        assert message in capsys.readouterr().err


def test_the_command_measures_with_a_cache(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.txt").write_text(TEXT[:300])
    run("evaluate", str(folder), str(tmp_path / "t.txt"), "--json", "--set", "language.cache=50")
    assert '"cache_perplexity"' in capsys.readouterr().out


def test_ctrl_c_ends_the_text_and_not_with_a_traceback(folder: Path) -> None:
    # Tests that run in the background may inherit that the signal is ignored.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from recurra.cli import main; main()"
    command = [sys.executable, "-c", heard, "generate", str(folder), "The cat", "--most", "10000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        written = process.stdout.read(20)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    assert written.startswith(b"The cat")
    assert rest.endswith(b"\n")
    assert process.returncode == 130
    assert error == b"interrupted\n"
