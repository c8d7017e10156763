"""The model card: what a model folder's README.md says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.config import Settings
from recurra.features import Feature
from recurra.heads import Output

__all__ = ["card_page", "figures", "model_card"]


def card_page(
    title: str, said: Sequence[str], *, code: str, run: Mapping[str, Any], settings: Settings, measured: Sequence[str], pipeline: str = ""
) -> str:
    """The page that every task's card is; its header is the hub's.

    Args:
        title: what is predicted from what.
        said: lines of Markdown about the model.
        code: Python that uses `model`.
        run: what `run.json` holds; may be empty.
        settings: of the run.
        measured: lines of Markdown with the figures; see `figures`.
        pipeline: the hub's name of the task, where it has one.
    """
    lines = [
        "---",
        "library_name: recurra",
        *([f"pipeline_tag: {pipeline}"] if pipeline else []),
        "tags: [recurrent-neural-network, recurra]",
        "---",
        "",
        f"# {title}",
        "",
        *said,
        "",
        *measured,
        "## Use",
        "",
        "```python",
        "import recurra",
        "",
        'model = recurra.load("path/of/this/folder")',
        code,
        "```",
        "",
        (
            f"Trained with Recurra {run.get('versions', {}).get('recurra', '')}, seed {settings.training.seed}. "
            "`run.json` holds versions, data fingerprint, metrics and timings; `report.html` the report."
        ),
        "",
    ]
    return "\n".join(lines)


def model_card(settings: Settings, features: Sequence[Feature], head: Output, run: Mapping[str, Any], *, ngrams: int = 0) -> str:
    """The card of a model of a table's rows: its inputs, its output, the figures.

    Args:
        settings: of the run.
        features: inputs.
        head: output.
        run: what `run.json` holds; may be empty.
        ngrams: of the linear model beside the network; 0 where there is none.
    """
    encoder = settings.encoder
    said = [
        (
            f"A {encoder.title} network ({encoder.layers} x {encoder.hidden_size} units, {encoder.pooling} pooling) "
            f"that predicts {' and '.join(f'`{name}`' for name in head.columns)} ({head.describe()})."
            f"{f' A linear model on {ngrams:,} n-grams of the same tokens stands beside it, and its scores are added.' if ngrams else ''}"
        ),
        "",
        "| input | type | learnt |",
        "| --- | --- | --- |",
        *(f"| {feature.name} | {feature.type} | {feature.describe()} |" for feature in features),
    ]
    title = f"{head.name} from {', '.join(feature.name for feature in features)}"
    code = f"model.predict({_example(features)})"
    return card_page(title, said, code=code, run=run, settings=settings, measured=figures(run))


def figures(run: Mapping[str, Any]) -> list[str]:
    """The metrics of a run by part, as lines of Markdown; none where there are none."""
    parts = {part: values for part, values in run.get("metrics", {}).items() if values}
    if not parts:
        return []
    names = list(dict.fromkeys(name for values in parts.values() for name in values if not name.endswith(("_low", "_high"))))
    rows = ["| metric | " + " | ".join(parts) + " |", "| --- |" + " --- |" * len(parts)]
    for name in names:
        cells = [f"{values[name]:.4f}" if isinstance(values.get(name), float) else str(values.get(name, "")) for values in parts.values()]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return ["## Figures", "", *rows, ""]


def _example(features: Sequence[Feature]) -> str:
    if len(features) == 1 and features[0].type == "text":
        return '["a text"]'
    values = {"text": '"a text"', "tokens": '["some", "tokens"]', "category": '"a value"', "number": "1.5"}
    return "[{" + ", ".join(f'"{feature.name}": {values[feature.type]}' for feature in features) + "}]"
