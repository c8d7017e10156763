"""The report page: everything escaped, nothing requested, every kind of run on it, and written whole or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from recurra.config import EvaluationSettings
from recurra.data.cases import Cases
from recurra.data.store import Ragged
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.recommend.baselines import compare_rankings, measure_baselines
from recurra.evaluation.recommend.details import ranking_results
from recurra.evaluation.report import (
    ClassResults,
    ColumnSummary,
    DataSummary,
    ErrorExample,
    LabelResults,
    NumberResults,
    Report,
    Result,
    Training,
    render_report,
    write_report,
)

EVIL = "<script>alert('x')</script>&\"<img src=x onerror=alert(1)>"
NETWORK = Result("network", "BiLSTM", {"accuracy": 0.912, "log_loss": 0.3}, {"accuracy": (0.9, 0.92)}, 61.0)
LINEAR = Result("tfidf_linear", "linear support vector machine", {"accuracy": 0.897}, {"accuracy": (0.89, 0.9)}, 3.0)
BETTER = Comparison("accuracy", 0.015, 0.004, 0.021, 0.95)
DISTANCES = [{"epoch": 2, "layer": "text.0", "distance": d, "norm": 0.95**d} for d in range(30)]
HISTORY = [{"epoch": e, "train_loss": 1 / e, "validation_loss": 1.2 / e, "validation_accuracy": 0.9} for e in (1, 2, 3)]

FULL = Report(
    title="ag_news",
    task="classify",
    target="label",
    model=NETWORK,
    baselines=[Result("majority", "most frequent class", {"accuracy": 0.25}), LINEAR],
    comparison=BETTER,
    data=DataSummary(
        source="train.csv",
        columns=[ColumnSummary("title", "text", "many distinct words", "A headline")],
        rows={"train": 900, "test": 100},
        left_out={"without a target": 2},
        overlap={"test": 3},
        truncated={"title": 4},
        padding_waste=0.07,
        lengths={"title": np.arange(1, 40)},
        max_length=30,
    ),
    training=Training(HISTORY, "accuracy", 2, [{"epoch": 1, "layer": "text.0", "norm": 0.3}], DISTANCES),
    results=ClassResults(
        ["a", "b"], np.array([[40, 10], [5, 45]]), [{"low": 0.8, "high": 0.87, "confidence": 0.85, "accuracy": 0.85, "count": 100}]
    ),
    errors=[ErrorExample("test.csv:7", "Some text", "a", "b", 0.98)],
    settings="encoder:\n  cell: lstm\n",
    timings={"training": 61.0, "report": 1.5},
    facts={"seed": "0"},
    summary="bidirectional LSTM",
)


class Reader(HTMLParser):
    """Collects the tags, the addresses they name and the visible text; unbalanced tags fail."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in {"src", "href", "xlink:href", "action", "data"}]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(FULL)


def test_the_page_asks_for_nothing(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert all(address.startswith("#") for address in reader.addresses)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", page)
    assert set(re.findall(r"https?://[^\"'<> ]+", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in page


def test_every_section_and_its_link(page: str) -> None:
    reader = Reader(page)
    sections = set(re.findall(r'<section id="([a-z]+)"', page))
    assert sections == {
        "result", "data", "lengths", "training", "gradients", "confusion", "classes", "calibration", "errors", "timings", "settings",
    }  # fmt: skip
    assert {address.removeprefix("#") for address in reader.addresses} == sections


@pytest.mark.parametrize(
    "text",
    [
        "91.2%",
        "90.0–92.0%",
        "89.7%",
        "25.0%",
        "The recurrent network pays: 1.5 points of accuracy more than the linear model (95% interval 0.4 to 2.1, on the same rows).",
        "3 of 100 test rows have an input that also stands in the training part",
        "many distinct words",
        "without a target",
        "cut at 30 tokens (title)",
        "7.0%",
        "The weights of epoch 2 of 3 were kept by validation accuracy.",
        "neither vanishes nor explodes",
        "15 of 100 rows are wrong; most often “a” is taken for “b” (10 rows).",
        "test.csv:7",
        "98.0%",
        "cell: lstm",
        "1 min 02 s",
        "on the whole the probabilities can be taken at their word",
    ],
)
def test_what_the_page_says(page: str, text: str) -> None:
    assert text in Reader(page).text


def test_everything_from_outside_is_escaped() -> None:
    evil = Report(
        title=EVIL,
        task="classify",
        target=EVIL,
        model=Result(EVIL, EVIL, {"accuracy": 0.5, EVIL: 1.0}),
        baselines=[Result(EVIL, EVIL, {"accuracy": 0.4})],
        data=DataSummary(
            EVIL, [ColumnSummary(EVIL, "text", EVIL, EVIL)], {EVIL: 1}, {EVIL: 1}, {EVIL: 1}, {EVIL: 1}, lengths={EVIL: [1, 2]}
        ),
        training=Training(HISTORY, EVIL, 1, [{"epoch": 1, "layer": EVIL, "norm": 1.0}], [{**r, "layer": EVIL} for r in DISTANCES]),
        results=ClassResults([EVIL, "b"], np.array([[4, 1], [5, 4]]), roc={EVIL: [(0.0, 0.0), (1.0, 1.0)]}),
        errors=[ErrorExample(EVIL, EVIL, EVIL, EVIL, 0.9)],
        settings=EVIL,
        timings={EVIL: 1.0},
        facts={EVIL: EVIL},
        summary=EVIL,
    )
    reader = Reader(render_report(evil))
    assert not {"script", "img"} & set(reader.tags)
    assert reader.text.count("alert('x')") > 15


def test_right_to_left_chinese_long_and_broken_text() -> None:
    texts = ["שלום עולם", "今天天气很好", "a" * 5_000, "word " * 100_000, "NUL \x00 ESC \x1b and \ud800", ""]
    errors = [ErrorExample(str(i), text, "א", "中", 0.9) for i, text in enumerate(texts)]
    page = render_report(replace(FULL, errors=errors))
    assert len(page.encode("utf-8")) < len(render_report(FULL)) + 5_000
    text = Reader(page).text
    assert "שלום עולם" in text
    assert "今天天气很好" in text
    assert "(empty)" in text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", page)
    assert page.count('class="text" dir="auto"') == len(texts)


@pytest.mark.parametrize("part", ["validation", "train"])
def test_no_test_part_is_said(part: str) -> None:
    text = Reader(render_report(replace(FULL, part=part))).text
    assert {"validation": "There is no test part", "train": "Nothing was held out"}[part] in text


def test_next_to_nothing_known() -> None:
    reader = Reader(render_report(Report("run", "classify", "y", Result("network", "", {"accuracy": 0.5}))))
    assert "50.0%" in reader.text
    assert "No linear model was trained" in reader.text
    assert "svg" not in reader.tags
    assert reader.addresses == ["#result"]


def test_one_epoch() -> None:
    text = Reader(render_report(replace(FULL, training=Training(HISTORY[:1], "accuracy", 1)))).text
    assert "One epoch draws no curve" in text


def test_many_classes() -> None:
    names = [f"intent_{i}" for i in range(150)]
    counts = np.eye(150, dtype=np.int64) * 28
    counts[4, 9] = 20
    page = render_report(replace(FULL, results=ClassResults(names, counts)))
    text = Reader(page).text
    assert "The 15 weakest of 150" in text
    assert "intent_4\u200e → \u200eintent_9" in text
    assert page.count("intent_77") == 1  # only in the table of all classes
    assert len(page) < 400_000


def test_labels() -> None:
    figures = {
        "billing": {"precision": 0.8, "recall": 0.6, "f1": 0.686, "support": 30, "predicted": 20},
        "never": {"support": 0, "predicted": 0},
    }
    report = Report(
        "tickets",
        "labels",
        "topics",
        Result("network", "", {"micro_f1": 0.8}),
        baselines=[Result("tfidf_linear", "", {"micro_f1": 0.85})],
        comparison=Comparison("micro_f1", -0.05, -0.07, -0.03, 0.95),
        results=LabelResults(figures),
    )
    text = Reader(render_report(report)).text
    assert "Label by label" in text
    assert "does not pay here: 5.0 points of micro F1 less than the linear model (95% interval 3.0 to 7.0, on the same rows)" in text


def test_regression() -> None:
    targets = np.linspace(0, 100, 50)
    report = Report(
        "prices",
        "regress",
        "price",
        Result("network", "", {"mae": 3.0, "rmse": 4.1, "r2": 0.9}),
        baselines=[Result("mean", "", {"rmse": 20.0}), Result("tfidf_linear", "", {"rmse": 4.2})],
        comparison=Comparison("rmse", 0.1, -0.2, 0.4, 0.95),
        results=NumberResults(targets + 1, targets, "EUR"),
        errors=[ErrorExample("3", "A wine", "10", "90", -80.0)],
    )
    text = Reader(render_report(report)).text
    assert "cannot be told apart: RMSE better by 0.100 than the linear model’s (95% interval −0.200 to 0.400, on the same rows)" in text
    assert "true price (EUR)" in text
    assert "−80" in text
    assert "Largest errors" in text


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(tmp_path / "new" / "report.html", FULL)
    before = path.read_bytes()
    assert before.decode("utf-8") == render_report(FULL)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, replace(FULL, title="other"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_same_report_same_bytes() -> None:
    assert render_report(FULL) == render_report(FULL)


def test_a_recommender() -> None:
    """Best baseline first, pictures, examples with the answer marked; names from the data are escaped."""
    sessions = Ragged.from_rows([np.arange(start, start + 6) % 90 for start in range(180)], np.int64)
    cases = Cases.every_step(sessions)
    found = measure_baselines(sessions, cases, items=90, settings=EvaluationSettings(bootstrap_samples=50))
    network = found["markov"].ranking
    names = [EVIL, *(f"item {number}" for number in range(1, 90))]
    popularity = np.bincount(sessions.values, minlength=90)
    report = Report(
        title="clicks",
        task="recommend",
        target="item",
        model=Result("network", "GRU", found["markov"].metrics, found["markov"].intervals),
        baselines=[baseline.result() for baseline in found.values()],
        comparison=compare_rankings(network, found["popularity"]),
        data=DataSummary(rows={"train": 1_080, "test": len(cases)}, overlap={"test": 60}, notes=["a note"]),
        results=ranking_results(
            {"Recurrent network": network, **{name: baseline.ranking for name, baseline in found.items()}},
            cases,
            popularity=popularity,
            names=names,
        ),
    )
    reader = Reader(render_report(report))
    sections = {address.removeprefix("#") for address in reader.addresses}
    assert {"result", "ranking", "catalogue", "examples", "data"} <= sections
    assert "The recurrent network pays" in reader.text
    assert "of recall at 20 more than what is popular" in reader.text
    assert "60 test sessions of three clicks or more are, click for click, training sessions too" in reader.text
    assert "a note" in reader.text
    assert "The same with the items that a session already holds taken out" in reader.text
    assert "mark" in reader.tags  # what always follows stands first
    assert "script" not in reader.tags
    assert reader.tags.count("svg") >= 5


def test_details_of_a_ranking() -> None:
    """Recall by cutoff ends at that of the metrics; groups have all their clicks; shares sum to one."""
    sessions = Ragged.from_rows([np.arange(start, start + 6) % 30 for start in range(60)], np.int64)
    cases = Cases.every_step(sessions)
    found = measure_baselines(sessions, cases, items=30, settings=EvaluationSettings(bootstrap_samples=0))["popularity"]
    details = ranking_results({"network": found.ranking}, cases, popularity=np.bincount(sessions.values), names=[str(n) for n in range(30)])
    curve = {record["k"]: record["recall"] for record in details.curve}
    assert curve[20] == found.metrics["recall_at_20"]
    assert curve[100] == 1.0
    assert [record["group"] for record in details.by_known] == ["1", "2", "3", "4", "5–6"]
    for records in (details.by_known, details.by_clicked):
        weighted = sum(float(record["value"]) * float(record["count"]) for record in records)
        assert weighted / len(cases) == pytest.approx(found.metrics["recall_at_20"])
    for name in ("what came next", "network"):
        assert sum(float(record["value"]) for record in details.shares if record["model"] == name) == pytest.approx(1.0)
    for example in details.examples:
        assert len(example.known) <= 8
        assert len(example.recommended) == 8
