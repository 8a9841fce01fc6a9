"""Rows of a log of grades as a file has them: told whole from cut off, from damaged, and appended."""

import csv
import io
import math
import os
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

COLUMNS = ("time", "id", "ra", "dec", "showing", "grade", "subclass", "note", "view", "seconds")
# Of a row: its beginning or its end, within a text that has swallowed it.
_SWALLOWED = re.compile(r"\n\d{4}-\d\d-\d\dT[\d:.]+\+00:00,|,(single|mosaic),[\d.]*\r?\n")
_END = ["", "the end"]


def has_rows(text: str) -> bool:
    """Whether a text has what looks like rows of a log in it: such a text cannot be told from a spoilt log."""
    return bool(_SWALLOWED.search(text))


def line(values: Iterable[Any]) -> str:
    """A row, ready to be written."""
    values = list(values)
    made = io.StringIO()
    bare = any("\r" in str(value) for value in values)  # which the module quotes only where it ends lines
    csv.writer(made, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(values)
    return made.getvalue()


def append(path: str | os.PathLike, text: str) -> tuple[int, int]:
    """Append lines of `line` to a log in one piece and sync; what a kill left of a row is cut off first.

    Returns the bytes before and after; raises as `whole`.
    """
    with open(path, "ab+") as file:
        file.seek(0)
        found = file.read()
        rows, n = whole(found, path)
        if n < len(found):
            file.truncate(n)
        if n and found[n - 1 : n] != b"\n":  # saved by an editor
            text = "\n" + text
        if not rows and text != line(COLUMNS):
            text = line(COLUMNS) + text
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
        return n, file.tell()


def whole(found: bytes, path: str | os.PathLike) -> tuple[list[list[str]], int]:
    """Rows of a log, the header among them, and the bytes that they take: less where a kill cut the last row off.

    A row that lacks its line feed alone is whole: of its seconds digits may be missing, of its grade none.  Nothing
    else is passed over: a quotation mark that opens a text by mistake would take the rows after it along.

    Raises
    ------
    ValueError
        The file is no log, or its rows are damaged; names the row.
    """
    begins, rows, closed = _parsed(found, path)
    if not closed and _SWALLOWED.search(rows[-1][-1]):
        raise ValueError(f"{path}: a quotation mark in row {len(rows)} opens a text that takes what comes after it "
                         "along; close it, or take it out")  # fmt: skip
    ended = closed and found.endswith(b"\n")
    if rows and not ended and not (closed and _is_row(rows[-1], header=len(rows) == 1)):
        found = found[: begins[-1]]
        rows.pop()
    if rows and rows[0] != list(COLUMNS):
        raise ValueError(f"{path}: columns are {', '.join(rows[0])}, not {', '.join(COLUMNS)}; take it from a copy")
    for number, row in enumerate(rows[1:], 2):
        if row and (not _is_row(row) or any(_SWALLOWED.search(text) for text in row if "\n" in text)):
            raise ValueError(f"{path}: row {number} is no event ({str(row)[:300]}); mend it or take it out")
    return [row for row in rows if row], len(found)


def _parsed(found, path):
    """Of the bytes of a log: where each row begins, its texts, and whether the last text is closed.

    One row more is parsed, the end: a text that is not closed takes it along.
    """
    lines = io.BytesIO(found).readlines()
    starts = [0, *accumulate(map(len, lines))]
    reader = csv.reader([*(line.decode("utf-8", "replace") for line in lines), ",".join(_END)])
    begins, rows = [0], []
    try:
        for row in reader:
            rows.append(row)
            begins.append(starts[min(reader.line_num, len(lines))])
    except csv.Error as error:
        raise ValueError(f"{path}: row {len(rows) + 1} is no event ({error}); mend it or take it out") from error
    closed = rows[-1] == _END
    rows = rows[:-1] if closed else rows
    return begins[: len(rows)], rows, closed


def _is_row(row, header=False):
    if header:
        return row == list(COLUMNS) or not ",".join(COLUMNS).startswith(",".join(row))
    if len(row) != len(COLUMNS):
        return False
    _, _, ra, dec, showing, *_, seconds = row
    return showing in ("1", "2") and all(map(_is_number, (ra, dec, seconds))) and not seconds.startswith("-")


def _is_number(text):
    try:
        return text == "" or math.isfinite(float(text))
    except ValueError:
        return False
