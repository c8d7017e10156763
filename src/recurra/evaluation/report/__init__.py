"""The report of a run: its content as plain data, the sentences that read it, and one offline HTML page."""

from __future__ import annotations

from recurra.evaluation.report.content import (
    AnswerExample,
    AnswerResults,
    AttentionMap,
    ClassResults,
    ColumnSummary,
    DataSummary,
    ForecastResults,
    LabelResults,
    LanguageResults,
    NumberResults,
    RankingExample,
    RankingResults,
    Report,
    SeveralResults,
    TagResults,
    Training,
    TranslateResults,
    WrittenExample,
)
from recurra.evaluation.report.page import render_report, write_report
from recurra.evaluation.results import ErrorExample, Result

__all__ = [
    "AnswerExample",
    "AnswerResults",
    "AttentionMap",
    "ClassResults",
    "ColumnSummary",
    "DataSummary",
    "ErrorExample",
    "ForecastResults",
    "LabelResults",
    "LanguageResults",
    "NumberResults",
    "RankingExample",
    "RankingResults",
    "Report",
    "Result",
    "SeveralResults",
    "TagResults",
    "Training",
    "TranslateResults",
    "WrittenExample",
    "render_report",
    "write_report",
]
