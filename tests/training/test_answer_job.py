"""Training models of answers: end to end, resumed bit for bit, split by contexts, refused where nothing can come of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from questions import SMALL, questions, squad
from recurra.config import AnswerSettings, EvaluationSettings, load_settings
from recurra.data.cooccurrence import cooccurrence_vectors
from recurra.data.questions import CharacterSpan, Question, read_questions
from recurra.errors import EmptyData, OutputExists, SettingsError, TrainingInterrupted
from recurra.evaluation.answer.baselines import answer_baselines
from recurra.model.answer.model import Answerer
from recurra.training.answer.prepare import prepare


def train(data: Any, **settings: Any) -> Answerer:
    options = {name: settings.pop(name) for name in ("output", "validation", "test", "resume", "show", "target") if name in settings}
    named = {name.replace("__", "."): value for name, value in settings.items()}
    model = recurra.train(data, settings={**SMALL, **named}, **options)
    assert isinstance(model, Answerer)
    return model


def weights(model: Answerer) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def same(first: Answerer, second: Answerer) -> bool:
    return all(torch.equal(one, weights(second)[name]) for name, one in weights(first).items())


def test_questions_become_a_model_with_its_report(tmp_path: Path) -> None:
    lines: list[str] = []
    model = train(questions(), output=tmp_path / "model", show=lines.append, evaluation__baselines=True)
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert set(run["data"]["rows"]) == {"train", "validation", "test"}
    assert sum(run["data"]["rows"].values()) == 120
    assert sum(run["data"]["unanswered"].values()) == 30
    for figures in (run["metrics"]["test"], run["baselines"]["no_answer"]["test"], run["baselines"]["sliding_window"]["test"]):
        assert {"f1", "exact_match"} <= figures.keys()
    assert run["metrics"]["test"]["f1_low"] <= run["metrics"]["test"]["f1"] <= run["metrics"]["test"]["f1_high"]
    report = (tmp_path / "model" / "report.html").read_text()
    assert "Sliding window" in report
    assert "<mark>" in report or "<u>" in report
    assert any("no answer from a probability of" in line for line in lines)
    loaded = recurra.load(tmp_path / "model")
    assert isinstance(loaded, Answerer)
    assert loaded.threshold == model.threshold
    assert loaded.predict(questions(9, seed=1)).equals(model.predict(questions(9, seed=1)))
    assert "Answers to questions" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(OutputExists):
        train(questions(), output=tmp_path / "model")


@pytest.mark.usefixtures("quiet_report")
def test_resume_is_bit_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(questions())
    from recurra.training.fitting import Fitting

    original = Fitting.on_train_batch_end

    def interrupt(self: Fitting, *arguments: Any) -> None:
        if self.course.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "on_train_batch_end", interrupt)
        with pytest.raises(TrainingInterrupted):
            train(questions(), output=tmp_path / "model")
    assert same(train(questions(), output=tmp_path / "model", resume=True), whole)


def test_one_seed_is_one_training_and_all_forms_of_the_data_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "squad.json").write_text(json.dumps(squad(questions())))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions()))
    first = train(questions())
    assert same(train(tmp_path / "squad.json"), first)
    assert same(train(tmp_path / "rows.jsonl"), first)
    assert not same(train(questions(), training__seed=1), first)


def test_questions_about_one_context_stay_together() -> None:
    rows = questions(60)
    table = [{**row, "question": f"{row['question']} {again}"} for row in rows for again in ("Now?", "Still?")]
    parts = train(table, data__validation_share=0.2, data__test_share=0.2).run["data"]
    assert sum(parts["rows"].values()) == 120
    assert all(count % 2 == 0 for count in parts["rows"].values())
    assert set(parts["overlap"].values()) == {0}
    assert 20 <= parts["rows"]["test"] <= 26


def test_contexts_of_which_one_question_is_asked_stay_together() -> None:
    def split(by: str) -> dict[str, set[str]]:
        rows = questions(60)
        given = {"train": read_questions([*rows, *({**row, "question": row["question"].upper()} for row in rows)], AnswerSettings())}
        shares = {"data.validation_share": 0.2, "data.test_share": 0.2}
        found = prepare(given, load_settings({**SMALL, **shares, "answer.hold_out": by})).questions
        assert sum(map(len, found.values())) == 120
        assert all(len(found[part]) >= 24 for part in found)
        return {part: {each.question.lower() for each in some} for part, some in found.items()}

    parts = split("questions")
    assert not parts["train"] & (parts["validation"] | parts["test"])
    assert not parts["validation"] & parts["test"]
    by_context = split("contexts")
    assert by_context["train"] & by_context["test"], "by context the same is asked in several parts"


def test_held_out_files_and_what_they_share_with_the_training(tmp_path: Path) -> None:
    lines: list[str] = []
    model = train(questions(60), validation=questions(20, seed=1), test=questions(60)[:10], show=lines.append)
    assert model.run["data"]["rows"] == {"train": 60, "validation": 20, "test": 10}
    assert model.run["data"]["overlap"] == {"validation": 0, "test": 10}
    assert any("flatter the model" in line for line in lines)


@pytest.mark.parametrize(("share", "threshold"), [(0.0, 0.5), (0.3, None)])
def test_without_validation_questions_the_threshold_is_a_half(share: float, threshold: float | None) -> None:
    model = train(questions(40), data__validation_share=share, data__test_share=0.2)
    assert threshold is None or model.threshold == threshold
    assert 0.0 <= model.threshold <= 1.0
    assert train(questions(40), answer__threshold=0.25).threshold == 0.25


def test_where_all_questions_have_answers_all_are_answered() -> None:
    rows = [row for row in questions(80) if row["answer"]]
    model = train(rows, evaluation__baselines=True)
    assert model.threshold == 1.0
    assert set(model.run["baselines"]) == {"sliding_window"}
    assert "unanswered_accuracy" not in model.run["metrics"]["test"]


def test_where_all_questions_have_answers_the_sliding_window_answers_all() -> None:
    """Also one that shares no word with its context."""
    asked = [
        Question("Where is it?", "The cat sat.", (CharacterSpan(0, 12),), ""),
        Question("Cat?", "The cat sat.", (CharacterSpan(4, 7),), ""),
    ]
    found = answer_baselines(asked, asked, cut="word", settings=EvaluationSettings(bootstrap_samples=0))
    assert all(found["sliding_window"].answers)


def test_long_contexts_are_learnt_in_windows() -> None:
    rows = [{**row, "context": "Day and night. " * 9 + row["context"]} for row in questions(40)]
    model = train(rows, answer__window=24, answer__stride=12, answer__longest_answer=5)
    assert model.run["data"]["windows"]["train"] > 2 * model.run["data"]["rows"]["train"]


def test_what_cannot_be_learnt_is_refused() -> None:
    with pytest.raises(EmptyData, match=r"No question of .* has an answer"):
        train([{**row, "answer": None} for row in questions(20)])
    with pytest.raises(EmptyData, match="too few to hold any out"):
        train(questions(1))
    with pytest.raises(SettingsError, match=r"encoder\.pooling has no effect"):
        train(questions(8), encoder__pooling="last")
    with pytest.raises(SettingsError, match="step over text"):
        train(questions(8), answer__window=10, answer__stride=11, answer__longest_answer=5)
    with pytest.raises(SettingsError, match="needs a validation part"):
        train(questions(20), data__validation_share=0.0, training__monitor="f1")


def test_a_dry_run_tells_what_would_be_learnt() -> None:
    from recurra.training.train import plan

    facts = plan(questions(40), settings=SMALL)
    assert facts["task"] == "answer"
    assert sum(facts["questions"].values()) == 40
    assert facts["parameters"] > 0


def test_word_vectors_begin_the_embedding(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("garden 1 2 3\ncat 3 2 1\n")
    lines: list[str] = []
    model = train(questions(40), text__vectors=str(tmp_path / "vectors.txt"), show=lines.append, training__epochs=1)
    assert model.settings.embedding.size == 3
    assert any("word vectors for" in line for line in lines)


def test_counts_of_the_training_texts_begin_the_embedding() -> None:
    frozen = {"optimizer__learning_rate": 1e-12, "optimizer__weight_decay": 0.0, "training__epochs": 1}
    rows = questions(40)
    model = train(rows, embedding__start="cooccurrence", data__validation_share=0.0, data__test_share=0.0, **frozen)
    texts = model.encoder.numbers(dict.fromkeys([row[name] for name in ("question", "context") for row in rows]))
    wanted = cooccurrence_vectors(texts, vocabulary=len(model.encoder.tokenizer), size=8)
    weight = model.network.embedding.embedding.weight.detach()
    torch.testing.assert_close(weight[2:], torch.from_numpy(wanted.matrix[2:]), rtol=0, atol=1e-6)  # a rate of 1e-12 moves nothing more


def test_chinese_is_cut_into_characters() -> None:
    rows = [
        {"question": f"{animal}在哪里？", "context": f"{animal}在{place}里。第{number}天。", "answer": place}
        for number in range(5)
        for animal in ("猫", "狗", "鸟")
        for place in ("花园", "厨房", "旧谷仓")
    ]
    model = train(rows)
    assert model.by_character
    found = model.answer("猫在哪里？", "猫在厨房里。")
    assert found.text is None or found.text in "猫在厨房里。"
