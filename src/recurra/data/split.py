"""Which rows train, which select and which test a model, and whether the same input stands on both sides.

Everything works on whole numpy columns at once (ten million rows take seconds) and depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.data.columns import missing_words
from recurra.errors import DataError, RowError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Overlap", "Part", "assign_parts", "overlap", "row_hashes", "time_keys"]

_ISO_TIME = (
    r"^(?P<date>\d{4}-\d{2}-\d{2})(?:[T ](?P<minute>\d{2}:\d{2})(?P<second>:\d{2})?(?P<fraction>\.\d+)?)?"
    r"\s?(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?$"
)
_LARGEST_EXACT = 2.0**53  # floats do not tell larger whole numbers (long identifiers) apart; those are compared as text
_PARTS_BY_ROOM = 10_000  # largest groups, placed one by one; the many small ones fill up what is left


class Part(IntEnum):
    """What a row is used for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Overlap(NamedTuple):
    """Held-out rows whose input also stands in a training row."""

    validation: int
    test: int


def assign_parts(
    rows: int,
    *,
    validation_share: float,
    test_share: float,
    seed: int = 0,
    stratify: pl.Series | None = None,
    group: pl.Series | None = None,
    time: pl.Series | None = None,
) -> NDArray[np.int8]:
    """The part of every row, as a number of `Part`.

    Args:
        rows: N, how many there are.
        validation_share: share held out to select the model. A part with a share gets at least one row.
        test_share: share held out to measure the model.
        seed: of all random choices; the same seed gives the same parts.
        stratify: (N,) classes. Every class is divided in the same shares (largest remainders), as exactly as whole rows
            allow, and keeps at least one training row. A missing class counts as one.
        group: (N,) groups whose rows stay in one part; a missing group makes a row its own. Goes before `stratify`.
        time: (N,) times (dates, ISO text, numbers). The latest rows are the test, those before them the validation part;
            rows without a time, and those that come first, train. Rows of equal time follow their order.

    Raises:
        DataError: there are too few rows, groups or repeated classes to hold any out, or a time cannot be read.
    """
    sizes = _part_sizes(rows, validation_share, test_share)
    random = np.random.default_rng(seed)
    if time is not None:
        return _by_order(np.argsort(time_keys(time), kind="stable"), sizes)
    if group is not None:
        return _by_group(_codes(group, missing_alone=True), sizes, random)
    if stratify is not None:
        return _by_class(_codes(stratify), sizes, random)
    return _by_order(random.permutation(rows), sizes)


def time_keys(values: pl.Series, *, place: Callable[[int], str] | None = None, skip: bool = False) -> NDArray[np.float64]:
    """Numbers that order times: numbers as they are, dates as microseconds since 1970 whatever unit they are stored in, text as the ISO
    dates or else as the numbers that it holds.

    A missing time (null, blank text, words such as `NaN` and `n/a`, infinity) is minus infinity, before all others.

    Args:
        values: the column.
        place: file and line of a row, for the error.
        skip: a text that cannot be read as most of the others are is a missing time, not an error.

    Raises:
        DataError: text that is neither; a `RowError` where there is a place.
    """
    import polars as pl

    present = values.drop_nulls()
    if values.dtype == pl.String:
        text = values.str.strip_chars().replace("", None)
        text = text.set(text.str.to_lowercase().is_in(list(missing_words)), None)
        present = text.drop_nulls()
        if not len(present):
            return np.full(len(values), -np.inf)
        for read in (_numbers, _plain_dates, _dates):
            keys = read(text) if read(present.head(1)).count() else text.clear()
            if keys.count() == len(present):
                return _missing_first(keys)
        keys = max((_numbers(text), _dates(text)), key=lambda found: found.count())
        if skip and 2 * keys.count() > len(present):
            return _missing_first(keys)
        row = int((keys.is_null() & text.is_not_null()).arg_true()[0])
        message = (
            f"The time column {values.name!r} holds {text[row]!r}, which is no time. "
            "Write times as 2026-01-31, 2026-01-31 14:05:00 or as numbers (seconds, years)."
        )
        raise DataError(message) if place is None else RowError(message, source=place(row))
    if values.dtype.is_temporal() or values.dtype.is_numeric():
        return _missing_first(values.to_physical().cast(pl.Float64) * _microseconds(values.dtype))
    raise DataError(f"The time column {values.name!r} holds {values.dtype}, which has no order in time.")


def row_hashes(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.uint64]:
    """(N,) hashes of the cells of `columns`: equal rows have equal hashes, in this process.

    Rows are equal whatever types their file gave them: `1`, `1.0`, `"1"` and `" 1.0 "` are the same number, blanks around text do
    not count, and blank text is missing.
    """
    cells: list[pl.Expr] = []
    for index, name in enumerate(columns):
        number, text = _number_and_text(name, frame.schema[name])
        cells += [number.alias(f"number {index}"), text.alias(f"text {index}")]
    return np.asarray(frame.select(cells).hash_rows(seed=0).to_numpy())


def _number_and_text(name: str, dtype: pl.DataType) -> tuple[pl.Expr, pl.Expr]:
    """A cell as a number, or else as text; both are null where it is missing."""
    import polars as pl

    cell, nothing = pl.col(name), pl.lit(None, pl.Float64)
    if isinstance(dtype, (pl.List, pl.Array)) and not dtype.inner.is_nested():
        return nothing, cell.cast(pl.List(pl.String)).list.join("\x1f", ignore_nulls=True)
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return nothing, cell
    text = (cell.fill_nan(None) if dtype.is_float() else cell).cast(pl.String).str.strip_chars().replace("", None)
    if not dtype.is_numeric() and dtype != pl.String:
        return nothing, text
    number = (cell if dtype.is_numeric() else text).cast(pl.Float64, strict=False)
    exact = number.abs() <= _LARGEST_EXACT  # false of infinity; NaN is left out with the missing ones
    exact = (exact & number.is_not_nan()).fill_null(value=False)
    return pl.when(exact).then(number + 0.0), pl.when(~exact).then(text)  # + 0.0: minus zero is zero


def overlap(hashes: NDArray[np.uint64], parts: NDArray[np.int8]) -> Overlap:
    """How many held-out rows have an input that also stands in a training row.

    Args:
        hashes: (N,) hashes of the input columns, from `row_hashes`.
        parts: (N,) numbers of `Part`.
    """
    train = np.unique(hashes[parts == Part.TRAIN])
    counts = [int(np.isin(hashes[parts == part], train).sum()) for part in (Part.VALIDATION, Part.TEST)]
    return Overlap(*counts)


def _microseconds(kind: pl.DataType) -> float:
    """Of what a column of this type counts: days, or thousandths, millionths or billionths of a second; 1 for numbers."""
    import polars as pl

    if kind == pl.Date:
        return 86_400e6
    unit = "ns" if kind == pl.Time else getattr(kind, "time_unit", "us")
    return {"ns": 1e-3, "us": 1.0, "ms": 1e3}[unit]


def _missing_first(keys: pl.Series) -> NDArray[np.float64]:
    import polars as pl

    times = keys.cast(pl.Float64)
    return np.asarray(times.set(~times.is_finite(), None).fill_null(-np.inf).to_numpy())


def _numbers(text: pl.Series) -> pl.Series:
    import polars as pl

    return text.cast(pl.Float64, strict=False)


def _plain_dates(text: pl.Series) -> pl.Series:
    """What `_dates` reads, for the two plainest forms, ten times faster."""
    first = str(text.drop_nulls().first())
    form = "%Y-%m-%d" if len(first) == len("2026-01-31") else f"%Y-%m-%d{first[10:11]}%H:%M:%S"
    return text.str.to_datetime(form, time_unit="us", strict=False).to_physical()


def _dates(text: pl.Series) -> pl.Series:
    """Microseconds of ISO dates and times; null where a text is none. Times without a zone are taken as UTC."""
    import polars as pl

    part = pl.col("text").str.extract_groups(_ISO_TIME).struct
    zone = part.field("zone").str.replace_all(":", "", literal=True).replace({"Z": "+0000", "UTC": "+0000"}).fill_null("+0000")
    full = pl.format(
        "{} {}{}{}{}",
        part.field("date"),
        part.field("minute").fill_null("00:00"),
        part.field("second").fill_null(":00"),
        part.field("fraction").fill_null(".0"),
        zone,
    )
    times = full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
    return pl.DataFrame({"text": text}).select(times.dt.epoch("us")).to_series()


def _part_sizes(rows: int, validation_share: float, test_share: float) -> tuple[int, int]:
    """Rows of the validation and the test part."""
    if not (0 <= validation_share < 1 and 0 <= test_share < 1 and validation_share + test_share < 1):
        raise DataError(f"The shares of validation ({validation_share}) and test ({test_share}) must be at least 0 and sum to less than 1.")
    validation = max(1, round(rows * validation_share)) if validation_share else 0
    test = max(1, round(rows * test_share)) if test_share else 0
    if validation + test >= rows:
        raise DataError(
            f"{rows} rows are too few to hold out a validation and a test part and still train. "
            "Add rows, or set data.validation_share or data.test_share to 0 and pass files of their own."
        )
    return validation, test


def _by_order(order: NDArray[np.int64], sizes: tuple[int, int]) -> NDArray[np.int8]:
    """The last rows of `order` test, those before them validate."""
    validation, test = sizes
    parts = np.zeros(len(order), np.int8)
    parts[order[len(order) - test :]] = Part.TEST
    parts[order[len(order) - test - validation : len(order) - test]] = Part.VALIDATION
    return parts


def _by_class(codes: NDArray[np.int64], sizes: tuple[int, int], random: np.random.Generator) -> NDArray[np.int8]:
    """The shares of every class, by largest remainders."""
    counts = np.bincount(codes)
    validation, test = sizes
    spare = int((counts - 1).clip(0).sum())
    tests = _apportion(counts, min(test, max(spare - min(1, validation), 0)), counts - 1, random)
    validations = _apportion(counts, validation, counts - 1 - tests, random)
    if tests.sum() < min(1, test) or validations.sum() < min(1, validation):
        raise DataError(
            f"{len(codes)} rows in {np.count_nonzero(counts)} classes are too few to hold out a validation and a test part: "
            "every class must keep a row to train on. Add rows, or pass validation and test files of their own."
        )
    # Rows in random order, sorted by class: the first rows of a class test, the next ones validate.
    shuffled = random.permutation(len(codes))
    small = codes.astype(np.uint16) if len(counts) <= 2**16 else codes.astype(np.uint32)
    order = shuffled[np.argsort(small[shuffled], kind="stable")]
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    ordered = np.repeat(np.arange(len(counts)), counts)
    parts = np.zeros(len(codes), np.int8)
    parts[order[rank < (tests + validations)[ordered]]] = Part.VALIDATION
    parts[order[rank < tests[ordered]]] = Part.TEST
    return parts


def _apportion(counts: NDArray[np.int64], seats: int, most: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """`seats` divided in proportion to `counts`, at most `most` each: floors, then largest remainders, ties at random."""
    most = np.maximum(most, 0)
    quotas = counts * (seats / counts.sum())
    given: NDArray[np.int64] = np.minimum(np.floor(quotas + 1e-9).astype(np.int64), most)
    while (left := min(seats, int(most.sum())) - int(given.sum())) > 0:
        order = np.lexsort((random.random(len(counts)), given - quotas))  # largest remainder first
        takers = order[(given < most)[order]][:left]
        given[takers] += 1
    return given


def _by_group(codes: NDArray[np.int64], sizes: tuple[int, int], random: np.random.Generator) -> NDArray[np.int8]:
    """Whole groups, the largest first, each to the part that lacks most rows."""
    counts = np.bincount(codes)
    validation, test = sizes
    wanted = 1 + (validation > 0) + (test > 0)
    if len(counts) < wanted:
        raise DataError(
            f"The group column has only {len(counts)} group(s); {wanted} parts need at least {wanted}. "
            "Split by another column, or not by groups."
        )
    order = np.lexsort((random.random(len(counts)), -counts))
    room = np.array([len(codes) - validation - test, validation, test], np.int64)
    place = np.zeros(len(counts), np.int8)
    for chosen in order[:_PARTS_BY_ROOM].tolist():
        part = int(np.argmax(room))
        place[chosen] = part
        room[part] -= counts[chosen]
    rest = order[_PARTS_BY_ROOM:]
    ends = np.cumsum(counts[rest])
    test_room, validation_room = max(0, int(room[Part.TEST])), max(0, int(room[Part.VALIDATION]))
    place[rest[ends <= test_room + validation_room]] = Part.VALIDATION
    place[rest[ends <= test_room]] = Part.TEST
    _fill_empty(place, order, sizes)
    return place[codes]


def _fill_empty(place: NDArray[np.int8], order: NDArray[np.int64], sizes: tuple[int, int]) -> None:
    """Few large groups may leave a small part empty: it gets the smallest group of a part that has two."""
    for part, size in ((Part.VALIDATION, sizes[0]), (Part.TEST, sizes[1])):
        if size and not (place == part).any():
            groups = np.bincount(place, minlength=3)
            givers = [g for g in order[::-1].tolist() if groups[place[g]] > 1]
            place[givers[0]] = part


def _codes(values: pl.Series, *, missing_alone: bool = False) -> NDArray[np.int64]:
    """Numbers 0, 1, ... of the distinct values in sorted order, so that they do not depend on the order of the rows."""
    import polars as pl

    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    distinct = values.drop_nulls().unique().sort().alias("value").to_frame().with_row_index("code")
    joined = values.alias("value").to_frame().join(distinct, on="value", how="left", maintain_order="left")
    found = joined["code"].cast(pl.Int64)
    missing = found.is_null().to_numpy()
    codes = found.fill_null(0).to_numpy().copy()
    codes[missing] = distinct.height + (np.arange(int(missing.sum())) if missing_alone else 0)
    return codes
