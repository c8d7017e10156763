"""Writes the golden model folder of the present format: `python tests/golden/make.py`, once for each new format.

What is written is committed and stays: later versions must read it and predict the same.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))


def main() -> None:
    """Train a tiny model with an input of every type, save it, and note down what it predicts."""
    import torch

    from jobs import rows, train
    from recurra.model.folder import FORMAT

    torch.set_num_threads(1)
    path = HERE / f"format-{FORMAT}"
    if path.exists():
        sys.exit(f"{path} is there already, and is never written again.")
    table = [{**row, "words": row["title"].split()} for row in rows(80)]
    columns = ["text", "words", "category", "price"]
    settings = {
        "data.columns": columns,
        "encoder.layers": 2,
        "encoder.layer_norm": True,
        "encoder.pooling": "attention",
        "encoder.learn_initial_state": True,
        "head.hidden_size": 3,
        "training.epochs": 10,
        "optimizer.learning_rate": 0.03,
    }
    model = train(table, settings=settings)
    shown = [
        {name: row[name] for name in columns}
        for row in [*table[:6], {**table[0], "text": "", "price": None}, {**table[1], "category": "opera"}]
    ]
    found = model.predict(shown)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        shutil.copytree(Path(folder) / "model", path)
    expected = {
        "rows": shown,
        "labels": found["label"].to_list(),
        "probabilities": found["probability"].to_list(),
        "accuracy": model.run["metrics"]["test"]["accuracy"],
    }
    (path / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}: {sum(file.stat().st_size for file in path.iterdir()):,} bytes\n")


if __name__ == "__main__":
    main()
