"""One case, measured: through the gate, then on the clock; and what its samples say."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.kernels.cases import GATES, Case, Data, Unable, count_flops
from benchmarks.kernels.contenders import SLOW, Call, Contender, make_stack, timed_call
from benchmarks.kernels.gate import Finding, Oracle, check, refuse
from benchmarks.kernels.options import Effort
from benchmarks.kernels.timing import interleave, pair_ratios

__all__ = ["Record", "measure"]


class Record(NamedTuple):
    """What was measured of a case.

    Attributes:
        case: what was computed.
        training: forward and backward, or forward alone.
        samples: seconds of a call, by contender.
        left_out: contenders without samples, and why.
        notes: what is to be known of a contender's samples.
        findings: of the gate, for the first contender.
        flops: see `count_flops`; None for cells whose products are not counted here.
        path: what computed the first contender, in words.
    """

    case: Case
    training: bool
    samples: dict[str, list[float]]
    left_out: dict[str, str]
    notes: dict[str, str]
    findings: list[Finding]
    flops: int | None
    path: str

    def seconds(self, name: str) -> float | None:
        """Median of a contender's samples; None when it has none."""
        return statistics.median(self.samples[name]) if self.samples.get(name) else None

    def ratios(self, name: str, mine: str = "recurra") -> list[float]:
        """How many times longer a contender takes, round by round; empty when one of the two has no samples."""
        return pair_ratios(self.samples.get(mine, []), self.samples.get(name, []))

    def ratio(self, name: str, mine: str = "recurra") -> float | None:
        """Median of the ratios."""
        ratios = self.ratios(name, mine)
        return statistics.median(ratios) if ratios else None

    def share(self, name: str, rate: float) -> float | None:
        """The share of the matrix-multiply rate that a contender reaches."""
        seconds = self.seconds(name)
        return self.flops / seconds / rate if self.flops is not None and seconds is not None else None

    def describe(self, rate: float) -> dict[str, Any]:
        """Plain values with every sample, for JSON."""
        mine = next((name for name in self.samples if name.startswith("recurra")), "recurra")
        worst = max(self.findings, key=lambda finding: finding.error / (finding.allowed or 1.0), default=None)
        return {
            **self.case.describe(),
            "mode": "training" if self.training else "forward",
            "flops": self.flops,
            "path": self.path,
            "gate": None if worst is None else worst._asdict(),
            "samples": self.samples,
            "median": {name: self.seconds(name) for name in self.samples},
            "ratios": {name: {"pairs": self.ratios(name, mine), "median": self.ratio(name, mine)} for name in self.samples if name != mine},
            "share": {name: self.share(name, rate) for name in self.samples},
            "left_out": self.left_out,
            "notes": self.notes,
        }


def measure(case: Case, data: Data, oracle: Oracle, *, contenders: Mapping[str, Contender], training: bool, effort: Effort) -> Record:
    """Check the contenders and time them.

    Raises:
        RedGate: a backend of Recurra is further off than allowed.
    """
    calls: dict[str, Call] = {}
    left_out, notes = {}, {}
    found: list[Finding] = []
    for name, contender in contenders.items():
        try:
            trusted = _trusted(name, case)
            if trusted:
                notes[name] = trusted
            else:
                findings = check(contender, oracle, training=training)
                if name.startswith("recurra"):
                    refuse(name, oracle.case, findings)
                    found = found or findings
                elif not all(finding.passed for finding in findings):
                    left_out[name] = "its values are wrong: " + next(str(finding) for finding in findings if not finding.passed)
                    continue
            calls[name] = timed_call(contender(case, data), data, training=training)
        except Unable as error:
            left_out[name] = str(error)
    samples = interleave(calls, effort=effort, slow=SLOW) if calls else {}
    flops = count_flops(case, data.real_steps, training=training) if case.cell in GATES else None
    return Record(case, training, samples, left_out, notes, found, flops, _path(case, data, contenders))


def _path(case: Case, data: Data, contenders: Mapping[str, Contender]) -> str:
    """What the first of our backends says of itself."""
    name = next(iter(contenders))
    try:
        return make_stack(case, data, name.removeprefix("recurra").strip() or "auto").explain_backend()
    except Unable as error:
        return str(error)


def _trusted(name: str, case: Case) -> str | None:
    """Why a contender is timed without a look at its values; None when they are looked at."""
    if name == "torch" and case.varied:
        ends = "wrong at every row's end, as the backward direction begins in the padding" if case.bidirectional else "wrong in the padding"
        return f"padded: {ends}"
    if case.noisy and not name.startswith("recurra"):
        return "draws its noise in another order, so its values are its own"
    return None
