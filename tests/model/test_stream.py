"""Rows that come piece by piece: the same prediction as of the whole row, whatever the pieces; what cannot be streamed."""

from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from jobs import rows
from recurra.config import load_settings
from recurra.errors import SettingsError
from recurra.features import TextFeature, TokensFeature
from recurra.kernels import compiled
from recurra.model import stream as stream_module
from recurra.model.model import Model
from recurra.model.network import Network

TEXTS = [row["text"] for row in rows(3, seed=5)] + ["", "lovely and never seen before"]


def make(models: dict[str, Any], *, feature: Any = None, **encoder: Any) -> Model:
    """A model of other settings with drawn weights, large ones so that the classes differ."""
    trained = models["classify"]
    values = trained.settings.model_dump(mode="json")
    values["embedding"]["token_ngrams"] = encoder.pop("token_ngrams", 1)
    values["embedding"]["character_ngrams"] = encoder.pop("character_ngrams", "none")
    values["encoder"] |= {"bidirectional": False, "pooling": "last", **encoder}
    settings = load_settings(values)
    features = [feature or trained.features[0]]
    torch.manual_seed(0)
    network = Network(features, trained.head, settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    return Model(settings, features, trained.head, network=network)


def pieces(text: str) -> list[str | None]:
    words: list[str | None] = [*text.split()]
    return [*words, *[None] * (12 - len(words))]


def assert_same(mine: pl.DataFrame, whole: pl.DataFrame) -> None:
    # float32 vectors of a few units through one layer; the softmax takes logits of some tens.
    assert_frame_equal(mine, whole, abs_tol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "last"},
        {"pooling": "mean", "cell": "gru", "layers": 2},
        {"pooling": "max", "cell": "elman", "learn_initial_state": True},
        {"pooling": "max_mean", "token_ngrams": 3, "character_ngrams": (3, 4)},
        {"pooling": "max_mean", "cell": "slstm", "layer_norm": True, "layers": 2},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_pieces_predict_as_the_whole_row(options: dict[str, Any], models: dict[str, Any]) -> None:
    model = make(models, **options)
    whole = model.predict(TEXTS, top=2)
    assert whole["probability"].n_unique() > 2
    single = model.stream()
    for number, text in enumerate(TEXTS):
        single.reset()
        for piece in text.split():
            single.feed(piece)
        assert_same(single.predict(top=2), whole[number])
    together = model.stream(len(TEXTS))
    for step in zip(*(pieces(text) for text in TEXTS), strict=True):
        found = together.feed(step, top=2)
    assert_same(found, whole)
    assert together.steps.tolist() == [len(text.split()) for text in TEXTS]
    at_once = model.stream(len(TEXTS))
    assert_same(at_once.feed(TEXTS, top=2), whole)  # of different lengths


def test_a_prediction_after_every_piece(models: dict[str, Any]) -> None:
    model = make(models, pooling="mean")
    words = TEXTS[0].split()
    stream = model.stream()
    for number, word in enumerate(words):
        assert_same(stream.feed(word), model.predict([" ".join(words[: number + 1])]))


def test_lists_of_tokens(models: dict[str, Any]) -> None:
    feature = TokensFeature(
        "text", TokensFeature.fit("text", [pl.Series([text.split() for text in TEXTS])], make(models).settings).tokenizer
    )
    model = make(models, feature=feature)
    whole = model.predict([{"text": text.split()} for text in TEXTS])
    stream = model.stream(len(TEXTS))
    stream.feed([text.split()[:1] for text in TEXTS])
    assert_same(stream.feed([text.split()[1:] or None for text in TEXTS]), whole)


def test_pieces_are_kept_while_there_is_room(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(models)
    monkeypatch.setattr(stream_module, "MOST_PIECES", 40)
    stream = model.stream(2)
    cut = []
    encode = TextFeature.encode

    def counted(feature: Any, values: pl.Series) -> Any:
        cut.append(values.to_list())
        return encode(feature, values)

    monkeypatch.setattr(TextFeature, "encode", counted)
    stream.read(["new one", "superb"])  # the vocabulary is known
    stream.read(["new one", "new one"])
    assert cut == [["new one"]]
    for number in range(60):  # more than there is room for
        stream.read([f"{number}", None])
    stream.reset()
    stream.read(["superb new one", "lovely"])
    stream.read([None, "superb " * 20])  # too long to be kept
    stream.read([None, "superb " * 20])
    assert cut[-2:] == [["superb " * 20]] * 2
    assert_same(stream.predict(), model.predict(["superb new one", "lovely " + "superb " * 40]))


def test_half_characters_and_other_things(models: dict[str, Any]) -> None:
    model = make(models)
    stream = model.stream(2)
    assert_same(stream.feed(["superb \udc80", None]), model.predict(["superb \ufffd", ""]))
    stream.reset()
    assert_same(stream.feed([["superb", "\udc80"], None]), model.predict(["superb \ufffd", ""]))
    for wrong in (3, {"text": "superb"}.items(), b"superb"):
        with pytest.raises(TypeError, match="A piece is a text, a list of tokens or None"):
            stream.read(["superb", wrong])


def test_streams_fork_and_begin_anew(models: dict[str, Any]) -> None:
    model = make(models, token_ngrams=2)
    first, second = TEXTS[0], TEXTS[1]
    stream = model.stream(2)
    stream.feed([first, second])
    forked = stream.fork([1, 0, 1])
    assert_same(forked.feed(["superb", "awful", "so"]), model.predict([f"{second} superb", f"{first} awful", f"{second} so"]))
    assert_same(stream.predict(), model.predict([first, second]))
    stream.reset([0])
    assert_same(stream.feed([second, None]), model.predict([second, second]))
    assert "compiled steps" in stream.explain_backend() or "the stack itself" in stream.explain_backend()
    with pytest.raises(IndexError, match="no stream 2"):
        stream.fork([2])
    with pytest.raises(IndexError, match="no stream 2"):
        stream.reset([2])


@pytest.mark.skipif(compiled.UNAVAILABLE is not None, reason=f"compiled kernels: {compiled.UNAVAILABLE}")
def test_half_weights_are_those_of_a_rounded_model(models: dict[str, Any]) -> None:
    model = make(models, cell="gru", layers=2)
    stream, exact = model.stream(half_weights=True), model.stream().feed(TEXTS[0])
    assert "packed weights in 16 bits" in stream.explain_backend()
    with torch.no_grad():
        for cell in next(iter(model.network.encoders.values())).cells:
            for weight in (cell.weight_ih, cell.weight_hh):
                weight.copy_(weight.half())
    found = stream.feed(TEXTS[0])
    assert_frame_equal(found, model.stream().feed(TEXTS[0]), check_exact=True)
    assert found["probability"][0] != exact["probability"][0]


def test_what_cannot_be_streamed_says_why(models: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"Only a model of one text.*price \(number\)"):
        models["labels"].stream()
    with pytest.raises(SettingsError, match=r"train one with encoder.bidirectional=false"):
        make(models, bidirectional=True).stream()
    with pytest.raises(SettingsError, match=r"'attention' weighs all steps anew.*last, mean, max, max_mean"):
        make(models, pooling="attention").stream()
    with pytest.raises(SettingsError, match="streams is 0"):
        make(models).stream(0)
    stream = make(models).stream(2)
    with pytest.raises(ValueError, match="one piece for each of the 2 streams, None for nothing new; these are 1"):
        stream.feed("superb")
    for top in (0, 1.5):
        with pytest.raises(SettingsError, match=f"top is {top}"):
            stream.predict(top=top)  # type: ignore[arg-type]
