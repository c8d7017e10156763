"""What a user says about a run of `python -m benchmarks recurrences`. No torch here: the help must not wait for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["Effort", "Options"]


@dataclass(frozen=True)
class Effort:
    """How long a case is measured.

    Attributes:
        repeats: samples of each contender.
        seconds: no further round of samples begins when a case has taken this long; `LEAST_ROUNDS` are always made.
        sample: seconds a sample lasts at least: a short call is repeated within one.
    """

    repeats: int = 7
    seconds: float = 6.0
    sample: float = 0.01


@dataclass(frozen=True)
class Options:
    """How and what to measure.

    Attributes:
        threads: Threads of every contender; torch's own number when not given.
        repeats: Samples of each contender in each case.
        seconds: A case takes no further samples after this many seconds (three of each contender are always taken).
        quick: Two shapes, few samples, under a minute: to see that all runs, not for figures.
        backend: Backends of Recurra to measure; the first is the one that is compared. "auto" when not given.
        contenders: Others to measure: torch, packed, onnxruntime, loop, compiled. The first three when not given, as the
            other two are slow.
        cells: Cells to measure: lstm, gru, elman; all when not given.
        shapes: Shapes as B,T,I,H in place of the grid's.
        lengths: Which lengths: full, varied (uniform from T/3 to T); both when not given.
        directions: Which directions: forward, both; both of these when not given.
        modes: Which modes: forward (no gradients), training (forward and backward); both when not given.
        output: Folder for the JSON files and charts.
    """

    threads: int | None = None
    repeats: int = 7
    seconds: float = 6.0
    quick: bool = False
    backend: tuple[str, ...] = ()
    contenders: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    output: Path = Path("runs/benchmarks")

    @property
    def effort(self) -> Effort:
        """How long a case is measured; briefly when `quick`."""
        effort = Effort(self.repeats, self.seconds)
        return replace(effort, repeats=min(self.repeats, 3), seconds=0.5, sample=0.002) if self.quick else effort
