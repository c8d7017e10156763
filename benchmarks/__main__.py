"""`python -m benchmarks NAME` measures and prints tables."""

from __future__ import annotations

from cyclopts import App, Parameter

from benchmarks.forecasting import forecasting
from benchmarks.gpu import gpu
from benchmarks.language import language
from benchmarks.rankings import rankings
from benchmarks.recipes import recipes
from benchmarks.recommendation import recommendation
from benchmarks.recurrences import recurrences

app = App(
    name="benchmarks",
    help="Measurements that stand in the documentation.",
    default_parameter=Parameter(negative=(), consume_multiple=True),
)
app.command(recipes)
app.command(recurrences)
app.command(forecasting)
app.command(recommendation)
app.command(language)
app.command(rankings)
app.command(gpu)

if __name__ == "__main__":
    app()
