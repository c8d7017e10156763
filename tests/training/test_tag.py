"""Tagging, from the table to predictions with offsets: trained, measured, saved, loaded, interrupted, and told what is wrong."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recurra
from jobs import SMALL
from recurra.config import TagSettings, load_settings
from recurra.data.read import read
from recurra.data.store import Ragged
from recurra.data.tagged import find_tagged
from recurra.data.words import cut_tokens, places
from recurra.errors import DataError, EmptyData, RowError, SettingsError
from recurra.features import TokensFeature
from recurra.features.spelling import WIDTH, spell
from recurra.heads import TagHead
from recurra.model.load import load

NAMES = {"PER": ["Ada", "Grace", "Alan", "Barbara"], "LOC": ["Paris", "Ulm", "Oslo"]}
LEARN = {"training.epochs": 12, "optimizer.learning_rate": 0.03, "head.dropout": 0.0, "embedding.dropout": 0.0, "training.patience": 0}


def rows(count: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    """Sentences of names (one or two tokens) and places among other words, in the scheme bio."""
    draw = random.Random(seed)
    table = []
    for _ in range(count):
        tokens, tags = [], []
        for _ in range(draw.randint(1, 4)):
            tokens += (words := draw.choices(["went", "to", "and", "saw", "."], k=draw.randint(1, 3)))
            tags += ["O"] * len(words)
            kind = draw.choice(list(NAMES))
            length = 1 if kind == "LOC" else draw.randint(1, 2)
            tokens += draw.choices(NAMES[kind], k=length)
            tags += [f"B-{kind}", f"I-{kind}"][:length]
        table.append({"tokens": tokens, "tags": tags})
    return table


def train(data: Any, target: str = "tags", *, output: Path | None = None, **changes: Any) -> Any:
    return recurra.train(
        data, target=target, output=output, settings={**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return recurra.train(rows(160), target="tags", settings={**SMALL, **LEARN, "tag.character_size": 4})


def test_it_is_inferred_learnt_and_measured(model: Any) -> None:
    assert model.settings.head.task == "tag"
    assert model.settings.tag.tokens == "tokens"
    assert model.settings.training.patience == 0
    assert model.settings.augmentation.word_dropout == 0.05  # tagging's own default
    assert model.run["metrics"]["test"]["f1"] > 0.95
    found = model.evaluate(rows(40, seed=9))
    assert found["f1_low"] <= found["f1"] <= found["f1_high"]
    assert found["rows"] == 40


def test_predictions_of_lists_and_of_texts_stand_where_they_say(model: Any) -> None:
    text = "Then\tAda  Grace\u00a0went to Oslo, and saw Ulm."
    [row] = model.predict(text).to_dicts()
    spans = [(span["label"], span["text"]) for span in row["spans"]]
    assert spans == [("PER", "Ada  Grace"), ("LOC", "Oslo"), ("LOC", "Ulm")]
    assert all(text[span["start"] : span["end"]] == span["text"] for span in row["spans"])
    assert all(0.0 < span["probability"] <= 1.0 for span in row["spans"])
    assert len(row["tags"]) == len(cut_tokens(pl.Series([text]), "word")[0])
    tokens = ["Ada", "Grace", "went", "to", "Oslo"]
    [row] = model.predict([{"tokens": tokens}]).to_dicts()
    assert row["tags"] == ["B-PER", "I-PER", "O", "O", "B-LOC"]
    assert [tokens[span["start"] : span["end"]] for span in row["spans"]] == [["Ada", "Grace"], ["Oslo"]]
    assert model.predict(["", "Ada"])["tags"].to_list()[0] == []
    with pytest.raises(SettingsError, match="top is for labels"):
        model.predict(text, top=2)
    with pytest.raises(SettingsError, match="whole row"):
        model.stream()


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_offsets_hold_for_any_text(model: Any, texts: list[str]) -> None:
    clean = [text.encode(errors="replace").decode() for text in texts]
    for text, row in zip(clean, model.predict(pl.DataFrame({"tokens": clean})).to_dicts(), strict=True):
        assert all(text[span["start"] : span["end"]] == span["text"] for span in row["spans"])


@given(text=st.text(max_size=60), kind=st.sampled_from(["whitespace", "word", "character"]))
def test_tokens_are_found_in_their_text(text: str, kind: Any) -> None:
    text = text.encode(errors="replace").decode()
    tokens = cut_tokens(pl.Series([text]), kind)[0].to_list()
    where = places(text, tokens)
    assert [text[start:end] for start, end in where] == tokens
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(where))
    between = [text[before[1] : after[0]] for before, after in zip([(0, 0), *where], [*where, (len(text), 0)], strict=True)]
    assert all(not gap.strip() for gap in between)


def test_saved_and_loaded_it_predicts_the_same(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    given_rows = rows(20, seed=4)
    assert again.predict(given_rows).equals(model.predict(given_rows))
    one_by_one = pl.concat([model.predict([row]) for row in given_rows])
    assert one_by_one["tags"].to_list() == model.predict(given_rows)["tags"].to_list()
    assert "spans of 2 kinds" in (tmp_path / "model" / "README.md").read_text()


def test_an_interrupted_training_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recurra.errors import TrainingInterrupted
    from recurra.training.fitting import Fitting

    whole = train(rows(40), training__epochs=3, head__task="tag")
    calls = iter([False] * 4 + [True] * 99)
    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "_interrupted", lambda self: next(calls))
        with pytest.raises(TrainingInterrupted):
            train(rows(40), output=tmp_path / "m", training__epochs=3, head__task="tag")
    resumed = recurra.train(
        rows(40), target="tags", output=tmp_path / "m", resume=True, settings={**SMALL, "training.epochs": 3, "head.task": "tag"}
    )
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_the_report_shows_kinds_and_marked_errors(tmp_path: Path) -> None:
    train(rows(60), output=tmp_path / "m", evaluation__baselines=True)
    page = (tmp_path / "m" / "report.html").read_text()
    run = json.loads((tmp_path / "m" / "run.json").read_text())
    assert set(run["baselines"]) == {"frequent_tag", "window_linear"}
    for part in ("By kind", "PER", "LOC", "Most frequent tag", "Window linear"):
        assert part in page


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokens": ["one"], "tags": ["O", "O"]}, "2 tags for the 1 tokens"),
        ({"tokens": ["one"], "tags": ["PERSON"]}, "'PERSON' in column 'tags' is no tag"),
        ({"tokens": ["one", "two"], "tags": ["O", None]}, "null"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "rows.jsonl"
    table = rows(30)
    table[17] = change
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    chosen = {"head__task": "tag", "tag__tokens": "tokens", "training__epochs": 1}
    with pytest.raises(RowError, match=told) as caught:
        train(str(path), **chosen)
    assert f"{path}:18" in str(caught.value)
    skipped = train(str(path), **chosen, data__on_error="skip")
    assert skipped.run["data"]["left_out"] == {"unusable value": 1}


def test_empty_sentences_missing_tags_and_invalid_sequences_are_taken_as_stated() -> None:
    table = [
        *rows(40),
        {"tokens": [], "tags": []},
        {"tokens": ["Ada"], "tags": None},
        *[{"tokens": ["Ada", "Ulm"], "tags": ["I-PER", "I-LOC"]}] * 20,
    ]
    trained = train(table, head__task="tag", training__epochs=1)
    assert trained.run["data"]["left_out"] == {"no target": 1}
    assert 0 < trained.head.invalid <= 20
    assert "broke its rules" in trained.head.describe()
    numbers = trained.head.encode(pl.Series([["I-PER", "I-LOC"]]))
    assert [trained.head.taught.names[number] for number in numbers.values] == ["S-PER", "S-LOC"]
    assert trained.predict([{"tokens": []}, {"tokens": ["Ada"]}])["tags"].list.len().to_list() == [0, 1]


def test_kinds_that_training_lacks_count_as_missed(model: Any) -> None:
    table = [{"tokens": ["Ada", "saw", "Acme"], "tags": ["B-PER", "O", "B-ORG"]}] * 3
    found = model.evaluate(table)
    assert found["unknown_tags"] == 3.0
    assert found["recall"] <= 0.5
    assert found["rows"] == 3


def test_text_columns_and_chinese_characters_can_be_tagged() -> None:
    table = [
        {"text": f"{name}去{place}。", "tags": "B-P I-P O B-L I-L O"}
        for name in ("王明", "李红", "张伟")
        for place in ("北京", "上海", "广州")
    ] * 6
    trained = train(table, head__task="tag", **{key.replace(".", "__"): value for key, value in LEARN.items()})
    assert trained.settings.tag.cut == "character"
    text = "张伟 去上海。"
    [row] = trained.predict(text).to_dicts()
    assert [span["text"] for span in row["spans"]] == ["张伟", "上海"]
    assert all(text[span["start"] : span["end"]] == span["text"] for span in row["spans"])
    lists = [{"tokens": list(row["text"]), "tags": row["tags"].split()} for row in table]
    assert train(lists, training__epochs=1).settings.tag.cut == "character"


def test_tags_of_no_scheme_have_probabilities_in_place_of_spans() -> None:
    table = [{"tokens": row["tokens"], "pos": ["NAME" if tag != "O" else "WORD" for tag in row["tags"]]} for row in rows(60)]
    trained = train(table, "pos", **{key.replace(".", "__"): value for key, value in LEARN.items()})
    assert trained.run["training"]["monitor"] == "token_accuracy"
    prediction = trained.predict([{"tokens": ["Ada", "went"]}])
    assert prediction["tags"].to_list() == [["NAME", "WORD"]]
    assert all(0.5 < p <= 1.0 for p in prediction["probabilities"].to_list()[0])


def test_other_columns_stand_beside_every_token_and_other_taggings_are_left_out() -> None:
    table = [{**row, "pos": ["X"] * len(row["tags"]), "source": "mail" if n % 2 else "chat"} for n, row in enumerate(rows(120))]
    trained = train(table, training__epochs=1)
    assert [feature.name for feature in trained.features] == ["tokens", "source"]
    assert len(trained.predict(table[:3])) == 3


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="has a token for every tag"):
        train([{"words": ["a", "b"], "tags": ["O"]}] * 20, head__task="tag")
    with pytest.raises(DataError, match="same tag"):
        train([{"tokens": ["a"], "tags": ["O"]}] * 20)
    with pytest.raises(SettingsError, match=r"head\.label_smoothing has no effect"):
        train(rows(), head__task="tag", head__label_smoothing=0.1)
    with pytest.raises(SettingsError, match=r"tag\.shape has no effect"):
        load_settings({"head.task": "classify", "tag.shape": False})


@pytest.mark.parametrize("chosen", [{}, {"head__task": "tag"}])
def test_a_row_with_a_tag_too_few_does_not_make_another_task(chosen: dict[str, Any]) -> None:
    table = rows(30)
    table[17] = {"tokens": ["one", "two"], "tags": ["O"]}
    with pytest.raises(RowError, match="rows:18: column 'tags' has 1 tags for the 2 tokens of column 'tokens'"):
        train(table, **chosen)


def test_lists_of_labels_are_still_labels() -> None:
    table = [{"tokens": ["a", "b", "c"][: 1 + n % 3], "topics": ["x", "y"][: n % 3]} for n in range(30)]
    assert find_tagged(read(table), "topics", TagSettings()) is None
    assert train(table, "topics").settings.head.task == "labels"


def test_padding_and_neighbours_change_no_loss_and_no_result(model: Any) -> None:
    from recurra.data.batch import Batch, Sequence
    from recurra.model.encode import encode_columns

    table = pl.DataFrame(rows(6, seed=5))
    encoded = encode_columns(table, model.features)["tokens"]
    targets = model.head.encode(table["tags"])
    network = model.network

    def batch(chosen: list[int], extra: int) -> Batch:
        values, lengths = encoded.rows(chosen)
        values = np.pad(values, ((0, 0), (0, extra), (0, 0)), constant_values=7)
        tags, _ = targets.rows(chosen, fill=-1)
        return Batch(
            {"tokens": Sequence(torch.from_numpy(values).long(), torch.from_numpy(lengths))},
            {"tags": torch.from_numpy(tags).long()},
            torch.tensor(chosen),
        )

    with torch.no_grad():
        whole, wide = batch(list(range(6)), 0), batch(list(range(6)), 3)
        # The same sums in float32, in another order where the padding is wider: a few roundings of numbers of size ten.
        torch.testing.assert_close(network.loss(network(whole), whole), network.loss(network(wide), wide), rtol=1e-5, atol=1e-6)
        together = network.results(network(wide), wide)
        for row in range(6):
            one = batch([row], 0)
            alone = network.results(network(one), one)
            np.testing.assert_allclose(alone.values, together[row], rtol=1e-4, atol=1e-5)


def test_a_token_is_spelt_with_its_case_whatever_the_vocabulary() -> None:
    spelt = spell(pl.Series(["Ulm", "ulm", "ULM", "U", "uLm", "2001", "a1", "...", "", "x" * 40]))
    assert spelt.shape == (10, WIDTH)
    assert spelt[:, 0].tolist() == [3, 1, 4, 2, 5, 6, 7, 8, 8, 1]
    assert (spelt[0, 2:] == spelt[1, 2:]).all()
    assert spelt[0, 1] != spelt[1, 1]
    chosen = load_settings({"tag.tokens": "t", "tag.cut": "word", "text.min_frequency": 1})
    feature = TokensFeature.fit("t", [pl.Series([["a", "b"]])], chosen)
    unknown = feature.encode(pl.Series([["Zug", "zug"]]))
    assert isinstance(unknown, Ragged)
    assert unknown.values[0, 0] == unknown.values[1, 0] == 1
    assert (unknown.values[0, 1:] != unknown.values[1, 1:]).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tag.scheme", "bio"),
        ("tag.crf", False),
        ("tag.constrain", False),
        ("tag.characters", "ngrams"),
        ("tag.characters", "none"),
        ("tag.character_size", 3),
        ("tag.shape", False),
        ("embedding.start", "cooccurrence"),
    ],
)
def test_every_setting_of_tagging_changes_the_weights(name: str, value: Any) -> None:
    base = {"tag.character_size": 5, "training.epochs": 1}
    first, second = (recurra.train(rows(30), target="tags", settings={**SMALL, **base, **more}) for more in ({}, {name: value}))
    one, other = first.network.state_dict(), second.network.state_dict()
    assert one.keys() != other.keys() or any(not torch.equal(one[key], other[key]) for key in one)


def test_column_and_cut_are_settings_too() -> None:
    table = [{**row, "other": [token.lower() for token in row["tokens"]], "text": " ".join(row["tokens"])} for row in rows(30)]
    assert train(table, tag__tokens="other", training__epochs=1).head.steps == "other"
    trained = train(table, tag__tokens="text", tag__cut="whitespace", training__epochs=1)
    assert (trained.head.steps, trained.head.cut) == ("text", "whitespace")
    assert set(TagSettings.model_fields) == {
        "tokens",
        "cut",
        "scheme",
        "crf",
        "constrain",
        "characters",
        "character_size",
        "shape",
    }


def test_rows_beyond_the_longest_read_are_outside() -> None:
    trained = train(rows(40), text__max_length=3, training__epochs=1)
    prediction = trained.predict([{"tokens": ["Ada"] * 6}])["tags"][0].to_list()
    assert len(prediction) == 6
    assert prediction[3:] == ["O"] * 3
    assert trained.evaluate(rows(5))["rows"] == 5


def test_evaluation_needs_tags(model: Any) -> None:
    with pytest.raises(EmptyData):
        model.evaluate(pl.DataFrame({"tokens": [["a"]], "tags": [None]}, schema={"tokens": pl.List(pl.String), "tags": pl.List(pl.String)}))
    assert isinstance(model.head, TagHead)
