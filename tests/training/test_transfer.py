"""Trainings that begin with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import recurra
from jobs import SMALL, rows
from recurra.config import load_settings
from recurra.errors import SettingsError
from recurra.training.layer_groups import LayerGroups
from recurra.training.tables.job import TableJob

SIZES = ("embedding.size", "embedding.character_ngrams", "embedding.token_ngrams", "encoder.hidden_size")
TINY = {name: value for name, value in SMALL.items() if name not in SIZES}
TEXT = "".join(f"The {a} saw a {b} , and the {b} ran .\n" for _ in range(6) for a in ("cat", "dog") for b in ("superb", "poor", "fine"))


def language_model(**settings: Any) -> Any:
    chosen = {
        **TINY,
        "head.task": "language",
        "text.tokenizer": "word",
        "text.lowercase": True,
        "embedding.size": 6,
        "encoder.hidden_size": 5,
        "encoder.layers": 2,
        "training.epochs": 1,
        "training.batch_size": 4,
        "language.window": 16,
    }
    return recurra.train(pl.DataFrame({"text": TEXT.splitlines()}), settings={**chosen, **settings})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model().save(tmp_path_factory.mktemp("pretrained") / "lm")  # type: ignore[no-any-return]


def untrained(data: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The network of a table as its training begins, and the job."""
    job = TableJob(data, load_settings({**TINY, **settings}), Path("nowhere"), keep=True)
    prepared = job.prepare()
    return job.build(prepared), job


def begun(path: Path, **settings: Any) -> dict[str, Any]:
    return {"transfer.model": str(path), "target": "label", "data.columns": ["text"], **settings}


def test_what_is_known_is_taken_over(pretrained: Path) -> None:
    """Every weight of the language model is found again; new tokens begin as the mean of all vectors, for the text had no unknown one."""
    network, _ = untrained(rows(), begun(pretrained))
    model: Any = recurra.load(pretrained)
    saved = model.network.state_dict()
    own = network.state_dict()
    known = len(model.codec)
    weight = own["embeddings.column_text.embedding.weight"]
    assert torch.equal(weight[:known], saved["embedding.weight"])
    assert len(weight) > known
    assert torch.equal(weight[known:], saved["embedding.weight"][2:].mean(0).expand(len(weight) - known, -1))
    recurrent = [name for name in saved if name.startswith("encoder.cells")]
    assert len(recurrent) == 8
    assert all(torch.equal(own[name.replace("encoder.", "encoders.column_text.")], saved[name]) for name in recurrent)


def test_the_same_word_has_the_same_number(pretrained: Path, tmp_path: Path) -> None:
    """The table's model reads a text as the language model does: outputs of the recurrent layers agree."""
    trained = recurra.train(rows(), settings={**TINY, **begun(pretrained), "optimizer.learning_rate": 1e-12})
    model: Any = recurra.load(pretrained)
    again: Any = recurra.load(trained.save(tmp_path / "again"))
    text = pl.Series(["the cat saw a superb dog"])
    numbers = again.features[0].encode(text).values
    assert numbers.tolist() == model.codec.encode(text[0]).tolist()
    with torch.no_grad():
        tokens = torch.from_numpy(numbers).long()[None]
        language = model.network.encoder(model.network.embedding(tokens))[0]
        table = again.network.encoders["column_text"](again.network.embeddings["column_text"].embedding(tokens))[0]
    torch.testing.assert_close(table, language, rtol=0.0, atol=1e-6)  # Adam's steps at the rate above are under 1e-10 in all


def test_unknown_tokens_teach_new_ones(tmp_path: Path) -> None:
    """Where the text had unknown tokens, a new token begins as these."""
    folder = language_model(**{"text.vocabulary_size": 6}).save(tmp_path / "lm")
    network, job = untrained(rows(), begun(folder))
    model: Any = job.pretrained.model
    assert model.knows_unknown
    weight = network.state_dict()["embeddings.column_text.embedding.weight"]
    assert torch.equal(weight[-1], model.network.embedding.weight[1])


@pytest.mark.parametrize(("columns", "same"), [(None, [True, True]), (["title"], [True, False])])
def test_columns_that_begin_with_the_model(pretrained: Path, columns: list[str] | None, same: list[bool]) -> None:
    network, _ = untrained(rows(), begun(pretrained, **{"data.columns": ["title", "text", "price"], "transfer.columns": columns}))
    model: Any = recurra.load(pretrained)
    cells = [network.encoders[f"column_{name}"].cells[1].weight_hh for name in ("title", "text")]
    assert [torch.equal(cell, model.network.encoder.cells[1].weight_hh) for cell in cells] == same


def test_second_direction_and_ngrams_beside_it(tmp_path: Path) -> None:
    """Over one layer a direction may be added, and n-grams: their tables begin with zeros."""
    folder = language_model(**{"encoder.layers": 1}).save(tmp_path / "lm")
    network, job = untrained(rows(), begun(folder, **{"encoder.bidirectional": True, "embedding.character_ngrams": [2, 3]}))
    model: Any = job.pretrained.model
    stack = network.encoders["column_text"]
    assert torch.equal(stack.cells[0].weight_hh, model.network.encoder.cells[0].weight_hh)
    assert not torch.equal(stack.cells[1].weight_hh, model.network.encoder.cells[0].weight_hh)
    assert not network.embeddings["column_text"].ngrams[0].weight.any()
    assert {job.layers.depths.get(f"encoders.column_text.cells.{number}.weight_hh", 0) for number in (0, 1)} == {0, 1}


def test_table_model_goes_on_where_it_was(tmp_path: Path) -> None:
    """A model of the same table and the same labels, at a rate of nothing, predicts as before."""
    first = recurra.train(rows(), settings={**SMALL, "target": "label", "data.columns": ["text"], "embedding.character_ngrams": [2, 3]})
    folder = first.save(tmp_path / "first")
    chosen = {**TINY, **begun(folder), "optimizer.learning_rate": 1e-12}
    second = recurra.train(rows(), settings=chosen)
    before, after = first.predict(rows(9, seed=5)), second.predict(rows(9, seed=5))
    assert before["label"].to_list() == after["label"].to_list()
    # Adam's steps at the rate above change no weight by more than 1e-10; probabilities are printed with float32's 24 bits.
    assert before["probability"].to_list() == pytest.approx(after["probability"].to_list(), abs=1e-6)


def tagged(kind: str) -> pl.DataFrame:
    return pl.DataFrame(
        {"tokens": [["Ada", "saw", "a", "dog"], ["a", "cat", "ran"]] * 8, "tags": [[f"B-{kind}", "O", "O", "O"], ["O"] * 3] * 8}
    )


@pytest.mark.parametrize(("size", "same"), [(4, True), (3, False)])
def test_tagger_begins_with_a_tagger_of_other_labels(size: int, same: bool, tmp_path: Path) -> None:
    """Its vectors, its layers, and how it reads the spelling of tokens, where the new one reads that alike."""
    first: Any = recurra.train(tagged("PER"), target="tags", settings={**SMALL, "tag.character_size": 4})
    folder = first.save(tmp_path / "first")
    network, job = untrained(tagged("NAME"), {"target": "tags", "transfer.model": str(folder), "tag.character_size": size})
    own, saved = network.state_dict(), first.network.state_dict()
    spelt = [name for name in saved if ".spelling." in name and saved[name].shape == own[name].shape and "reader" in name]
    assert bool(spelt) is same
    assert all(torch.equal(own[name], saved[name]) for name in spelt)
    assert all((".spelling." in name) <= same for name in job.layers.depths)
    columns = saved["embeddings.column_tokens.embedding.weight"].shape[1]
    recurrent = "encoders.column_tokens.cells.0.weight_ih"
    assert torch.equal(own[recurrent][:, :columns], saved[recurrent][:, :columns])


def test_classifier_begins_with_a_tagger(tmp_path: Path) -> None:
    """It has no spelling: of the weights of the first layer, those of the tokens' own vectors are taken over."""
    first: Any = recurra.train(tagged("PER"), target="tags", settings={**SMALL, "tag.character_size": 4})
    folder = first.save(tmp_path / "first")
    network, _ = untrained(rows(), begun(folder))
    own, saved = network.state_dict(), first.network.state_dict()
    wide = own["encoders.column_text.cells.0.weight_ih"].shape[1]
    assert torch.equal(own["encoders.column_text.cells.0.weight_ih"], saved["encoders.column_tokens.cells.0.weight_ih"][:, :wide])
    assert wide < saved["encoders.column_tokens.cells.0.weight_ih"].shape[1]


@pytest.mark.parametrize("settings", [{}, {"language.cutoffs": [9]}, {"language.tied": False}])
def test_language_model_goes_on_with_another_text(settings: dict[str, Any], tmp_path: Path) -> None:
    """The probabilities of known tokens among each other are at first those of the model before; new tokens are added below."""
    folder = language_model(**settings).save(tmp_path / "lm")
    before: Any = recurra.load(folder)
    chosen = {"head.task": "language", "transfer.model": str(folder), "optimizer.learning_rate": 1e-12, "training.epochs": 1}
    text = pl.DataFrame({"text": (TEXT + "An entirely new sentence stands here now.\n" * 9).splitlines()})
    after: Any = recurra.train(text, settings={**TINY, **settings, **chosen})
    known = len(before.codec)
    assert len(after.codec) > known
    assert [after.codec.tokenizer.tokens[number] for number in range(known)] == before.codec.tokenizer.tokens
    steps = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = before.network.log_probabilities(steps)[:, 2:], after.network.log_probabilities(steps)[:, 2:known]
    if not settings.get("language.cutoffs"):
        torch.testing.assert_close(first.log_softmax(1), second.log_softmax(1), rtol=1e-5, atol=1e-5)
    assert torch.isfinite(second).all()


def test_layers_learn_one_after_the_other(pretrained: Path) -> None:
    """In the first epoch only the head changes, in the second the upper layer too."""

    def changed(epochs: int) -> set[str]:
        settings = {
            **TINY,
            **begun(pretrained),
            "transfer.unfreezing": 1.0,
            "training.epochs": epochs,
            "training.patience": 0,
            "training.monitor": "train_loss",
        }
        before, job = untrained(rows(), {**settings, "training.epochs": epochs})
        model: Any = recurra.train(rows(), settings={**settings, "optimizer.learning_rate": 0.05})
        after = model.network.state_dict()
        assert all(parameter.requires_grad for parameter in model.network.parameters())
        assert job.layers.unfreezing == 1.0
        return {
            name.split(".weight")[0].split(".bias")[0] for name, value in before.state_dict().items() if not torch.equal(value, after[name])
        }

    assert changed(1) == {"output.output"}
    assert changed(2) == {"output.output", "encoders.column_text.cells.1"}
    assert changed(4) == {
        "output.output",
        "encoders.column_text.cells.1",
        "encoders.column_text.cells.0",
        "embeddings.column_text.embedding",
    }


def test_rates_by_depth() -> None:
    """A plain step moves each layer in proportion to its share of the rate."""
    from recurra.config import OptimizerSettings
    from recurra.training.optimizers import build_optimizer

    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    layers = LayerGroups({"0.weight": 2, "0.bias": 2, "1.weight": 1}, decay=0.5, unfreezing=0.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = OptimizerSettings(name="sgd", momentum=0.0, weight_decay=0.0)
    optimizer = build_optimizer(network, settings, learning_rate=1.0, steps=9, factors=layers.factors)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name: float((before[name] - value).mean()) for name, value in network.state_dict().items()}
    assert moved == pytest.approx({"0.weight": 0.25, "0.bias": 0.25, "1.weight": 0.5, "1.bias": 1.0}, abs=1e-6)


def test_parameters_that_never_learn_are_not_woken() -> None:
    """As those of the conditional random field with tag.crf=false."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    network[2].requires_grad_(False)
    layers = LayerGroups({"0.weight": 2, "1.weight": 1}, decay=0.5, unfreezing=1.0)

    def learning() -> list[str]:
        return [name for name, parameter in network.named_parameters() if parameter.requires_grad]

    layers.freeze(network, epochs=1.5)
    assert learning() == ["0.bias", "1.weight", "1.bias"]
    layers.unfreeze(network)
    assert learning() == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("stop", [1, 5, 9])
def test_interrupted_and_resumed_is_uninterrupted(stop: int, pretrained: Path, tmp_path: Path, quiet_report: None) -> None:
    """Bit for bit, wherever the interruption comes: before, while and after layers begin to learn."""
    from recurra.training import fitting

    settings = {**TINY, **begun(pretrained), "training.epochs": 4, "transfer.unfreezing": 0.6}
    whole: Any = recurra.train(rows(), settings=settings, output=tmp_path / "whole")
    count = 0

    def interrupted(self: Any) -> bool:
        nonlocal count
        count += 1
        return count == stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Fitting, "_interrupted", interrupted)
        with pytest.raises(recurra.RecurraError):
            recurra.train(rows(), settings=settings, output=tmp_path / "cut")
    resumed: Any = recurra.train(rows(), settings=settings, output=tmp_path / "cut", resume=True)
    first, second = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder.hidden_size": 9}, "does not fit the model"),
        ({"encoder.bidirectional": True}, "does not fit the model"),
        ({"text.vectors": "vectors.txt"}, "give one of them"),
        ({"transfer.columns": ["txt"]}, "Did you mean 'text'"),
        ({"data.columns": ["price"]}, "No column is text"),
        ({"training.devices": 2, "transfer.unfreezing": 1.0}, "transfer.unfreezing=0"),
        ({"transfer.model": "nowhere"}, "no model folder"),
        ({"transfer.model": None, "transfer.layer_decay": 0.9}, "has no effect without transfer.model"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(recurra.RecurraError, match=message):
        recurra.train(rows(), settings={**TINY, **begun(pretrained), **settings}, output=tmp_path / "out")


def test_language_model_does_not_begin_with_a_table(models: dict[str, Any], tmp_path: Path) -> None:
    folder = models["classify"].save(tmp_path / "classify")
    with pytest.raises(SettingsError, match="of its own kind"):
        recurra.train(pl.DataFrame({"text": TEXT.splitlines()}), settings={"head.task": "language", "transfer.model": str(folder)})
