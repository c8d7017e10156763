"""Ctrl-C and SIGTERM: the first asks, the second insists."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from recurra.errors import TrainingInterrupted

__all__ = ["Interruption"]


class Interruption:
    """While active, the first SIGINT or SIGTERM sets `requested`; the second raises at once, wherever the program is.

    Outside the main thread signals cannot be caught, and nothing is done.

    Attributes:
        requested: name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.take_over()
        return self

    def take_over(self) -> None:
        """Catch the signals, also from a handler that was set meanwhile: Lightning's would end the program without a word."""
        for number in self._previous:
            signal.signal(number, self._receive)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.requested is not None:
            raise TrainingInterrupted("Training was stopped at once. Continue from the last complete checkpoint with --resume.")
        self.requested = signal.Signals(number).name
