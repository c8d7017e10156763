"""`python -m benchmarks recipes --data DIR` runs the recipes and prints their table."""

from __future__ import annotations

from cyclopts import App

from benchmarks.recipes import recipes

app = App(name="benchmarks", help="Measurements that stand in the documentation.")
app.command(recipes)

if __name__ == "__main__":
    app()
