"""What a person sees of a training: a live bar in a terminal or notebook, plain lines in a log file.

Everything goes to standard error, so that standard output stays free for results.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["ProgressDisplay"]

SECONDS_BETWEEN_LINES = 10.0
HIDDEN = ("epoch", "step", "train_loss", "learning_rate", "seconds", "tokens_per_second")
SHOWN_METRICS = 4


class ProgressDisplay:
    """Epoch, step, loss, tokens a second, the time left, and each epoch's validation metrics.

    Args:
        steps: optimizer steps of the whole run.
        done: steps done by an earlier session.
        visible: False shows nothing.
        console: standard error when not given.
    """

    def __init__(self, steps: int, *, done: int = 0, visible: bool = True, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.visible = visible
        self.steps = steps
        self._done = done
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if visible and (self.console.is_terminal or self.console.is_jupyter):
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed}/{task.total} steps  {task.fields[figures]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                refresh_per_second=4,
                transient=True,
            )
            self._task = self._bar.add_task("epoch 1", total=steps, completed=done, figures="")
            self._bar.start()

    def step(self, *, epoch: int, step: int, loss: float, tokens_per_second: float) -> None:
        """After an optimizer step; cheap enough to be called each time."""
        if self._bar is not None:
            figures = f"loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s"
            self._bar.update(self._task, completed=step, description=f"epoch {epoch}", figures=figures)
        elif self.visible and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            left = (self._last_line - self._started) / max(1, step - self._done) * max(0, self.steps - step)
            self.message(
                f"epoch {epoch}  step {step}/{self.steps}  loss {loss:.4f}  {tokens_per_second:,.0f} tokens/s  {_clock(left)} left at most"
            )

    def epoch(self, record: Mapping[str, Any], *, best: bool) -> None:
        """After an epoch's validation.

        Args:
            record: of the history.
            best: the monitored metric was never better.
        """
        metrics = [(name, value) for name, value in record.items() if name not in HIDDEN][:SHOWN_METRICS]
        figures = "  ".join(f"{name} {value:.4f}" for name, value in metrics)
        self.message(
            f"epoch {record['epoch']:>3}  train loss {record['train_loss']:.4f}  {figures}"
            f"  {record['seconds']:.1f} s  {record['tokens_per_second']:,.0f} tokens/s{'  best' if best else ''}"
        )

    def message(self, text: str) -> None:
        """A line that stays."""
        if self.visible:
            self.console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
