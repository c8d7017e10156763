"""Training text to text: end to end, resumed in the middle, refused where nothing can come of it; and the model that comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recurra
from recurra.data.codec import TextCodec
from recurra.data.tokenize import UNKNOWN
from recurra.decoding import Hypothesis
from recurra.errors import DataError, EmptyData, MissingColumn, ModelFolderError, RowError, SettingsError, TrainingInterrupted
from recurra.model.translate.model import Translator
from recurra.model.translate.wording import worded

SMALL: dict[str, Any] = {
    "target": "de",
    "translate.source": "en",
    "text.tokenizer": "word",
    "text.min_frequency": 1,
    "embedding.size": 8,
    "embedding.init_range": 0.3,
    "encoder.hidden_size": 8,
    "training.epochs": 2,
    "training.batch_size": 8,
    "evaluation.bootstrap_samples": 20,
    "evaluation.baselines": False,
    "logging.tensorboard": False,
}
WHO = {"a man": "ein Mann", "a cat": "eine Katze", "two dogs": "zwei Hunde", "a boy": "ein Junge"}
DOES = {"sees": "sieht", "has": "hat", "likes": "mag"}
WHAT = {"a bike": "ein Rad", "a ball": "einen Ball", "it": "es"}
ROWS = [
    {"en": f"{who} {does} {what}", "de": f"{WHO[who]} {DOES[does]} {WHAT[what]}", "who": who, "day": f"2024-01-{number % 28 + 1:02d}"}
    for number, (who, does, what) in enumerate((who, does, what) for who in WHO for does in DOES for what in WHAT)
]


def train(data: Any = None, **settings: Any) -> Translator:
    options = {name: settings.pop(name) for name in ("output", "validation", "test", "resume", "show", "overwrite") if name in settings}
    named = {name.replace("__", "."): value for name, value in settings.items()}
    model = recurra.train(ROWS if data is None else data, settings={**SMALL, **named}, **options)
    assert isinstance(model, Translator)
    return model


def weights(model: Translator) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def same(first: Translator, second: Translator) -> bool:
    return all(torch.equal(one, weights(second)[name]) for name, one in weights(first).items())


@pytest.fixture(autouse=True)
def _quiet_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the page, which takes most of the time of a tiny training and has a test of its own."""
    monkeypatch.setattr("recurra.training.results.write_report", lambda path, report: path.write_text(report.title))


@pytest.fixture(scope="module")
def learnt() -> Translator:
    """A model that knows the table by heart."""
    return train(
        validation=ROWS,
        data__test_share=0.0,
        translate__validation_rows=0,
        training__epochs=50,
        encoder__cell="gru",
        encoder__hidden_size=16,
        embedding__size=32,
        embedding__init_range=1.0,
        optimizer__learning_rate=0.02,
        embedding__dropout=0.0,
        head__dropout=0.0,
        head__label_smoothing=0.0,
    )


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_given_part_without_both_texts_is_refused(part: str) -> None:
    with pytest.raises(EmptyData, match=f"No row of the given {part} table"):
        train(**{part: [{"en": "a cat", "de": ""}]})


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_a_table_is_learnt_by_heart(learnt: Translator) -> None:
    figures = learnt.run["metrics"]["validation"]
    assert figures["exact_match"] == 1.0
    assert figures["bleu"] == pytest.approx(100.0)
    assert learnt.translate(["two dogs have it", "a cat likes a ball"])[1].text == "eine Katze mag einen Ball"
    assert learnt.evaluate(ROWS)["exact_match"] == 1.0


def test_beams_n_best_and_scores(learnt: Translator) -> None:
    (found,) = learnt.translate(["a cat likes it"], beam=4, n_best=3)
    assert found.text == "eine Katze mag es"
    assert [found.score, *(other.score for other in found.alternatives)] == sorted(
        (found.score, *(other.score for other in found.alternatives)), reverse=True
    )
    assert len({found.text, *(other.text for other in found.alternatives)}) == 3
    greedy = learnt.translate(["a cat likes it"], beam=1)[0]
    assert greedy.text == found.text
    assert greedy.log_probability == pytest.approx(found.log_probability, rel=1e-4)
    plain = learnt.translate(["a cat likes it"], length_power=0.0)[0]
    assert plain.score == plain.log_probability


def test_forbidden_and_forced_words(learnt: Translator) -> None:
    assert "mag" not in learnt.translate(["a cat likes it"], forbidden=["mag"])[0].text
    assert "eine Katze" not in learnt.translate(["a cat likes it"], forbidden=["eine Katze"])[0].text
    forced = learnt.translate(["a cat likes it"], forced=["zwei Hunde", "Rad"], beam=8)[0].text
    assert "zwei Hunde" in forced
    assert "Rad" in forced
    with pytest.raises(SettingsError, match="Elefant"):
        learnt.translate(["a cat"], forced=["Elefant"])
    with pytest.raises(SettingsError, match="empty"):
        learnt.translate(["a cat"], forbidden=[" "])
    with pytest.raises(SettingsError, match="list"):
        learnt.translate(["a cat"], forbidden="mag")
    with pytest.raises(SettingsError, match="'zwei Hunde' cannot be forced where 'Hunde' is forbidden"):
        learnt.translate(["a cat"], forbidden=["Hunde"], forced=["zwei Hunde"])
    with pytest.raises(SettingsError, match="a list, also of one"):
        learnt.translate("a cat")


@pytest.mark.parametrize(
    "options",
    [{"beam": 0}, {"beam": 2.5}, {"n_best": "2"}, {"n_best": 0}, {"most": 3.5}, {"length_power": "long"}, {"length_power": -1.0}],
    ids=str,
)
def test_numbers_that_are_none_are_refused(options: dict[str, Any], learnt: Translator) -> None:
    [name] = options
    with pytest.raises(SettingsError, match=f"{name} is {options[name]!r}"):
        learnt.translate(["a cat"], **options)


def test_half_characters_are_read_as_signs(learnt: Translator) -> None:
    """Bytes that were no UTF-8 reach Python as half characters, also from the command line."""
    assert learnt.translate(["a cat"], forbidden=["\udcff"]) == learnt.translate(["a cat"], forbidden=["\ufffd"])
    with pytest.raises(SettingsError, match="cannot be forced where"):
        learnt.translate(["a cat"], forbidden=["\ufffd"], forced=["a \udcff"])
    assert learnt.attention("a \udcff").source == learnt.attention("a \ufffd").source


def test_a_text_depends_on_itself_alone(learnt: Translator) -> None:
    texts = ["a cat likes it", "two dogs", "", "a boy has a ball and a cat and it", "it"]
    together = learnt.translate(texts, n_best=2)
    assert [each.text for each in together] == [learnt.translate([text], n_best=2)[0].text for text in texts]


def test_sources_of_nothing_of_too_much_and_of_strange_bytes(learnt: Translator) -> None:
    empty, blank, missing, long, strange = learnt.translate(["", " \t", None, "a cat " * 5_000, "a \udcff cat"])
    assert (empty.text, empty.score, blank.text, missing.text) == ("", 0.0, "", "")
    assert long.source_cut
    assert not strange.source_cut
    assert len(learnt.codec.encode(long.text)) <= learnt.most
    assert learnt.translate([]) == []


def test_outputs_are_cut_off_at_the_most(learnt: Translator) -> None:
    found = learnt.translate(["a cat likes it"], most=2)[0]
    assert found.text == "eine Katze"
    assert not found.ended


def test_unknown_words_are_taken_from_the_source(learnt: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: Any) -> list[list[Hypothesis]]:
        return [[Hypothesis([UNKNOWN], -1.0, -0.5, ended=True)]]

    monkeypatch.setattr("recurra.model.translate.model.search", search)
    assert learnt.translate(["zebra zebra"])[0].text == "zebra"
    assert "<unk>" in learnt.codec.decode([UNKNOWN])


def test_a_known_word_is_not_taken_for_an_unknown_one_that_was_copied() -> None:
    """Whatever is attended to most: of the source's words only those that are unknown can have been copied as an unknown token."""
    model = train(translate__copying=True, training__epochs=1)
    written = [[Hypothesis([UNKNOWN], -1.0, -1.0, ended=True)]]
    given = pl.Series(["a man zebra has it"])
    for favourite in range(5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recurra.model.translate.wording.alignments", lambda *_, at=favourite: [np.eye(5)[at][None]])
            assert worded(model.network, model.codec, given, model.codec.encode_rows(given), written) == [["zebra"]]


def test_words_that_no_target_has_are_copied() -> None:
    """Names that the vocabulary knows from other sources alone: only what is copied can write them."""
    names = [f"name{number}" for number in range(40)]
    rows = [{"en": f"please call {name} now", "de": f"rufe {name} an"} for name in names[:32] * 6]
    rows += [{"en": f"{name} rings", "de": "es klingelt"} for name in names * 2]
    sizes = {"embedding.size": 16, "encoder.hidden_size": 16}
    settings = {"training.epochs": 12, "optimizer.learning_rate": 0.02, "head.label_smoothing": 0.0, "data.test_share": 0.0, **sizes}
    held_out = [f"please call {name} now" for name in names[32:]]
    wanted = [f"rufe {name} an" for name in names[32:]]
    right = {
        copying: sum(
            written.text == text
            for written, text in zip(train(rows, **settings, translate__copying=copying).translate(held_out), wanted, strict=True)
        )
        for copying in (False, True)
    }
    assert right[True] >= 6 > 1 >= right[False]


def test_attention_names_the_tokens(learnt: Translator) -> None:
    found = learnt.attention("a cat likes it")
    assert found.source == ["a", "cat", "likes", "it"]
    assert found.output[:-1] == ["eine", "Katze", "mag", "es"]
    assert found.weights.shape == (5, 4)


def test_rows_of_any_kind_are_predicted(learnt: Translator, tmp_path: Path) -> None:
    frame = pl.DataFrame({"number": [1, 2, 3], "en": ["a cat likes it", None, "two dogs"]})
    found = learnt.predict(frame, n_best=2)
    assert found.columns == ["text", "score", "alternatives", "alternative_scores"]
    assert found["text"][:2].to_list() == ["eine Katze mag es", ""]
    frame.write_csv(tmp_path / "rows.csv")
    assert learnt.predict(str(tmp_path / "rows.csv"))["text"].to_list() == found["text"].to_list()
    assert learnt.predict("a cat likes it")["text"].to_list() == ["eine Katze mag es"]
    assert learnt.predict({"en": "a cat likes it"})["text"].to_list() == ["eine Katze mag es"]
    assert learnt.predict(pl.Series(["a cat likes it", None]))["text"].to_list() == ["eine Katze mag es", ""]
    assert learnt.predict(("a cat likes it",))["text"].to_list() == ["eine Katze mag es"]
    with pytest.raises(DataError, match="There is no file 'a cat likes it'"):
        learnt.evaluate("a cat likes it")
    with pytest.raises(MissingColumn):
        learnt.predict([{"english": "a cat"}])


def test_what_cannot_be_measured_is_told(learnt: Translator) -> None:
    with pytest.raises(EmptyData, match="'de'"):
        learnt.evaluate([{"en": "a cat", "de": ""}])
    assert learnt.evaluate([*ROWS, {"en": "", "de": "es"}, {"en": "it", "de": None}])["rows_left_out"] == 2


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["word", "bpe", "character"])
def test_a_folder_gives_the_same_model(kind: str, tmp_path: Path) -> None:
    model = train(output=tmp_path / "model", text__tokenizer=kind, text__vocabulary_size=300)
    loaded = recurra.load(tmp_path / "model")
    assert isinstance(loaded, Translator)
    assert loaded.translate(["a cat", "two"], beam=2) == model.translate(["a cat", "two"], beam=2)
    assert loaded.evaluate(ROWS) == model.evaluate(ROWS)
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert run["metrics"]["test"]["bleu"] == model.run["metrics"]["test"]["bleu"]
    assert "nrefs:1" in run["signatures"]["bleu"]
    assert "write `de` from `en`" in (tmp_path / "model" / "README.md").read_text()


def test_a_damaged_folder_says_so(tmp_path: Path) -> None:
    train(output=tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFolderError):
        recurra.load(tmp_path / "model")


# --- the training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [{}, {"translate__sampling": 0.5, "translate__sampling_batches": 5, "encoder__input_dropout": 0.1}])
def test_interrupted_and_resumed_is_uninterrupted(extra: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recurra.training.fitting import Fitting

    whole = train(**extra)
    original = Fitting.training_step

    def interrupted(self: Fitting, item: Any, index: int) -> None:
        original(self, item, index)
        if self.course.step == 5:
            self.interruption.requested = True

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "training_step", interrupted)
        with pytest.raises(TrainingInterrupted):
            train(output=tmp_path / "model", **extra)
    resumed = train(output=tmp_path / "model", resume=True, **extra)
    assert same(whole, resumed)
    assert whole.run["metrics"] == resumed.run["metrics"]


def test_the_same_seed_is_the_same_training() -> None:
    first, second, other = train(), train(), train(training__seed=1)
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize(
    "extra",
    [
        {"translate__input_feeding": True},
        {"translate__attention": "additive", "translate__coverage": True},
        {"encoder__cell": "gru", "encoder__layers": 2, "translate__decoder_layers": 2},
        {"translate__validation_rows": 0, "data__join": {"both": ["en", "who"]}, "translate__source": "both"},
        {"data__group": "who", "training__average": 0.9},
        {"data__time": "day", "data__test_share": 0.0},
    ],
)
def test_every_way_of_training_gives_a_model(extra: dict[str, Any]) -> None:
    model = train(**extra)
    figures = next(iter(model.run["metrics"].values()))
    assert 0 <= figures["bleu"] <= 100
    assert figures["perplexity_low"] <= figures["perplexity"] <= figures["perplexity_high"]
    assert model.run["training"]["monitor"] == ("loss" if "translate__validation_rows" in extra else "bleu")


def test_rows_without_a_text_are_left_out_and_counted() -> None:
    shown: list[str] = []
    train([*ROWS, {"en": "x", "de": None}, {"en": " ", "de": "y"}, {"en": None, "de": None}], show=shown.append)
    assert "left out: 2 rows (no target)" in shown
    assert "left out: 1 rows (no source)" in shown
    with pytest.raises(RowError, match="the target is missing"):
        train([*ROWS, {"en": "x", "de": ""}], data__missing_targets="fail")


def test_numbers_are_texts_too() -> None:
    model = train([{"en": f"number {n % 7}", "de": n % 7} for n in range(40)])
    assert model.evaluate([{"en": "number 3", "de": 3}])["rows"] == 1


def test_long_texts_are_cut_and_told() -> None:
    shown: list[str] = []
    model = train([*ROWS, {"en": "a cat " * 10_000, "de": "es"}], text__max_length=20, show=shown.append)
    assert any("1 texts of 'en' are longer than 20 tokens" in line for line in shown)
    assert model.run["data"]["cut"] == {"en": 1}


def test_the_vocabulary_is_that_of_the_training_rows() -> None:
    test = [{"en": "a zebra", "de": "ein Zebra"}]
    model = train(test=test, data__validation_share=0.2)
    assert isinstance(model.codec, TextCodec)
    assert model.codec.unknown("a zebra sees Zebra") == ["zebra", "Zebra"]
    assert set(model.run["data"]["unknown"]) >= {"test en", "test de"}


def test_sources_that_stand_in_two_parts_are_told() -> None:
    shown: list[str] = []
    train(test=ROWS[:3], show=shown.append, data__validation_share=0.1)
    assert any("test rows have the same source as a training row" in line for line in shown)


def test_what_cannot_be_learnt_is_refused() -> None:
    with pytest.raises(SettingsError, match="--target"):
        recurra.train(ROWS, settings={"head.task": "translate"})
    with pytest.raises(EmptyData, match="No row is left"):
        train([{"en": "", "de": "x"}] * 20)
    with pytest.raises(DataError, match="--source"):
        recurra.train(
            [{"en": f"one {n} text here now", "fr": f"un {n} texte ici", "de": "x"} for n in range(20)],
            settings={**SMALL, "translate.source": None, "head.task": "translate"},
        )
    with pytest.raises(SettingsError, match="augmentation"):
        train(augmentation__swap=0.5)
    with pytest.raises(SettingsError, match="additive"):
        train(translate__coverage=True)
    with pytest.raises(SettingsError, match="translate"):
        recurra.train(ROWS, target="who", settings={"head.task": "classify", "translate.beam": 2})


def test_a_dry_run_tells_what_would_happen() -> None:
    from recurra.training.train import plan

    facts = plan(ROWS, settings=SMALL)
    assert facts["task"] == "translate"
    assert [column["name"] for column in facts["columns"]] == ["en", "de"]
    assert sum(facts["rows"].values()) == len(ROWS)


def test_baselines_copy_and_look_up() -> None:
    model = train(test=ROWS[:5], evaluation__baselines=True, data__validation_share=0.1)
    assert model.run["baselines"]["copy"]["test"]["exact_match"] == 0.0
    assert model.run["baselines"]["nearest"]["test"]["bleu"] > model.run["baselines"]["copy"]["test"]["bleu"]
