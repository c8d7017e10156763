"""What the documentation says is there: commands, options, settings, links, and Python that runs."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import shlex
from functools import partial
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
import yaml

import recurra
from recurra.cli import app, main
from recurra.config import Settings, load_settings, parse_assignment

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
MODULES = " ".join(f"{path.parent.name}.{path.stem}." for path in (ROOT / "src" / "recurra").rglob("*.py"))
"""Names of modules, which look like settings."""
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GROUPS = {name: field.annotation for name, field in Settings.model_fields.items() if hasattr(field.annotation, "model_fields")}
SETTINGS = [f"{group}.{name}" for group, model in GROUPS.items() for name in model.model_fields]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of every `recurra` command of a page."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    found = [part.strip() for line in lines for part in re.split(r"&&|;|\bdo\b", line)]
    return [shlex.split(part) for part in found if part.startswith("recurra ")]


def generator() -> ModuleType:
    """docs/generate.py, as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_commands_to_check() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist_with_their_options_and_settings(page: Path) -> None:
    for words in commands(page):
        filled = ["0" if word.startswith("$") else word for word in words[1:]]
        _, bound, _ = app.parse_args(filled, exit_on_error=False, print_error=False)
        assigned = [parse_assignment(one) for one in bound.arguments.get("set_") or []]
        begun = {"transfer.model": bound.arguments["from_"]} if "from_" in bound.arguments else {}
        assert load_settings(begun, *({name: value} for name, value in assigned)), words


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_named_in_backticks_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(GROUPS)})\.[a-z_]+)(=[^`]*)?`", page.read_text(encoding="utf-8"))
    settings = [(name, value) for name, value in named if not name.endswith(".py") and f"{name}." not in MODULES]
    unknown = [name for name, _ in settings if name not in SETTINGS]
    assert not unknown
    assert all(load_settings(dict([parse_assignment(name + value)])) for name, value in settings if value)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.name)
def test_settings_files_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert load_settings(yaml.safe_load(block))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert not re.findall(r"@[A-Z]+@", page.read_text(encoding="utf-8"))


def test_the_site_has_every_page_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"[\w/-]+\.md", text[text.index("\nnav:") :])
    generated = {"reference/settings.md", "reference/command-line.md", *(f"reference/api/{name}.md" for name in generator().API)}
    written = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(written | generated)


def test_every_setting_stands_in_the_reference_with_its_meaning() -> None:
    page = generator().settings_page()
    rows = {match[1]: match[2] for match in re.finditer(r"^\| `([\w.]+)` \| .* \| (.*) \|$", page, re.MULTILINE)}
    assert list(rows) == SETTINGS
    assert all(len(meaning) > 10 for meaning in rows.values())


def test_every_command_and_option_stands_in_the_reference_with_its_meaning() -> None:
    page = generator().command_page()
    for command in app.resolved_commands():
        if command.startswith("-"):
            continue
        section = page.split(f"## recurra {command}\n")[1].split("\n## ")[0]
        for argument in app[command].assemble_argument_collection(parse_docstring=True):
            assert all(f"`{name}`" in section for name in argument.names)
            assert argument.parameter.help, f"{command} {argument.names[0]} has no help"


def test_the_python_pages_name_what_exists() -> None:
    import pydoc

    missing = [name for _, names in generator().API.values() for name in names if pydoc.locate(name) is None]
    assert not missing


def small_table(path: Path) -> pl.DataFrame:
    """Tickets with the columns of the tutorial, in so few rows that a network trains in a second."""
    say = {"card_lost": "my card was swallowed", "password": "i forgot my password", "transfer_late": "where is my money"}
    rows = [
        {"title": text, "description": f"{text} again", "product": ("basic", "gold")[row % 2], "amount": row * 1.5, "intent": intent}
        for row in range(20)
        for intent, text in say.items()
    ]
    frame = pl.DataFrame(rows)
    frame.write_csv(path)
    return frame


def tagged_table() -> list[dict[str, list[str]]]:
    """Sentences with the columns of the page on tags."""
    return [
        {"tokens": ["Ada", name, "saw", place, "."], "tags": ["B-PER", "I-PER", "O", "B-LOC", "O"]}
        for name in ("Hopper", "Lovelace", "Smith", "Jones")
        for place in ("Paris", "London", "Rome", "Oslo", "Ulm")
    ]


def test_the_commands_on_tags_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of the page on a table of twenty rows; what they print is the promised JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    for name in ("entities.jsonl", "test.jsonl", "slots.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in tagged_table()))
    tiny = ["training.epochs=1", "encoder.hidden_size=4", "embedding.size=4", "logging.tensorboard=false", "evaluation.baselines=false"]
    for words in commands(ROOT / "docs" / "how-to" / "tag-tokens.md"):
        more = [part for one in tiny for part in ("--set", one)] if words[1] == "train" else []
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            main([*words[1:], *more])
        if words[1] == "predict":
            found = json.loads(capsys.readouterr().out)
            assert len(found["tags"]) == 6
            assert isinstance(found["spans"], list)


def requests_table() -> list[dict[str, object]]:
    """Requests with the columns of the pages on several targets and on dialogue."""
    return [
        {"tokens": ["my", kind, "is", how], "intent": label, "tags": ["O", "B-THING", "O", "O"]}
        for kind, label in (("card", "card"), ("money", "money"), ("song", "other"))
        for how in ("lost", "late", "gone", "here", "there", "old", "new")
    ]


def write_dialogues(folder: Path) -> None:
    """The files that the page on dialogue begins with."""
    turns = [["My card is lost", "I have blocked it.", "Thank you", "You are welcome."], ["Hello", "Good morning"]] * 12
    (folder / "talks.jsonl").write_text("".join(json.dumps({"turns": each}) + "\n" for each in turns))
    for name in ("requests.jsonl", "train.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in requests_table()))
    (folder / "talk.txt").write_text("My card is lost. Where is my money?\n" * 80)
    (folder / "answers.yaml").write_text("card: I have blocked your card.\n")


@pytest.mark.parametrize("name", ["several-targets.md", "dialogue.md"])
def test_the_commands_on_requests_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of the pages, one after another, on a table of some rows; what they print tells who answered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    write_dialogues(tmp_path)
    tiny = ["training.epochs=1", "encoder.hidden_size=4", "embedding.size=4", "logging.tensorboard=false", "evaluation.baselines=false"]
    printed = {}
    for words in commands(ROOT / "docs" / "how-to" / name):
        more = [part for one in tiny for part in ("--set", one)] if words[1] == "train" else []
        monkeypatch.setattr("sys.stdin", io.StringIO("my card is lost\n"))
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            main([*words[1:], *more])
        printed[" ".join(words[1:])] = capsys.readouterr().out
    if name == "dialogue.md":
        found = json.loads(printed["chat runs/requests --answers answers.yaml --json"])
        assert found["source"] in {"answer", "hand over"}
        assert "intent: " in printed["chat runs/replies runs/requests"]
    else:
        [said] = [out for command, out in printed.items() if command.startswith("predict")]
        assert "intent.label" in said


RUN = [page for page in PAGES if blocks(page, "python") and page.name != "tutorial-customer-service.md"]
"""Pages whose Python runs by itself; that of the service desk runs between its commands, in test_customer_service_page.py."""


@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(ROOT)) for page in RUN])
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    frame = small_table(tmp_path / "tickets.csv")
    small_table(tmp_path / "test.csv")
    tiny = {"training.epochs": 1, "encoder.hidden_size": 8, "embedding.size": 8, "embedding.buckets": 100, "logging.tensorboard": False}
    if page.name == "README.md":  # there the title is the only input, and the network as small as may be
        monkeypatch.setattr(recurra, "train", partial(recurra.train, settings={**tiny, "data.columns": ["title"]}))
    if page.name == "tutorial-recommendation.md":
        columns = {"recommend": {"session": "session_id", "item": "item_id"}, "data.time": "ts", "head.task": "recommend"}
        clicks = [
            {"session_id": s, "item_id": f"brand1-{(s + n) % 6}" if n else "cart", "ts": 10 * s + n} for s in range(40) for n in range(5)
        ]
        recurra.train(
            clicks, output="runs/clicks", settings={**columns, "encoder.hidden_size": 8, "embedding.size": 8, "training.epochs": 1}
        )
    if page.name == "tutorial.md":
        recurra.train(frame, target="intent", output="runs/small", settings=tiny)
    if page.name == "streaming.md":  # what its own command trains can be streamed
        [words] = commands(page)
        with contextlib.suppress(SystemExit):
            main([*words[1:], *(part for name, value in tiny.items() for part in ("--set", f"{name}={json.dumps(value)}"))])
    if page.name == "dialogue.md":
        sizes = {name: value for name, value in tiny.items() if name != "embedding.buckets"}
        turns = [{"history": "my card is lost", "reply": "I have blocked it."}, {"history": "hello", "reply": "good morning"}] * 12
        recurra.train(turns, target="reply", output="runs/replies", settings={"translate.source": "history", **sizes})
        recurra.train(requests_table(), target=["intent", "tags"], output="runs/requests", settings=sizes)
    if page.name == "translate.md":
        sizes = {name: value for name, value in tiny.items() if name != "embedding.buckets"}
        pairs = [{"en": f"A {word} sleeps.", "de": f"{name} schläft."} for word, name in (("cat", "Katze"), ("dog", "Hund")) * 12]
        recurra.train(pairs, target="de", output="runs/en-de", settings={"translate.source": "en", "text.vocabulary_size": 300, **sizes})
    if page.name == "tag-tokens.md":
        recurra.train(tagged_table(), target="tags", output="runs/entities", settings=tiny)
    if page.name == "answer-questions.md":
        from questions import SMALL, questions

        recurra.train(questions(), output="runs/questions", settings=SMALL)
    if page.name == "language-models.md":
        sizes = {"training.epochs": 1, "encoder.hidden_size": 8, "embedding.size": 8, "logging.tensorboard": False}
        lines = [{"text": f"The {word} ran. A {word} sat."} for word in ("cat", "dog", "owl", "fox") * 8]
        recurra.train(lines, output="runs/corpus", settings={"head.task": "language", "evaluation.baselines": False, **sizes})
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    assert len(names) > 1


def test_the_readme_keeps_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- main job -->\n```sh\npip install '.[demo]' && recurra train languages --output runs/languages\n```\n" in text
    assert "<!-- tests -->\n```sh\npip install '.[test]' && pytest\n```\n" in text
