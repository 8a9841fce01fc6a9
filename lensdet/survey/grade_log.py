"""The log of a grader: what a session of grading is, and each grade, appended and synced before the next picture shows.

``OUTPUT/grades/<grader>.csv`` has a row an event, ``<grader>.json`` beside it what the session is.  Two tabs, notebooks
or processes of one grader may write at once.
"""

import csv
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from filelock import FileLock

from lensdet import storage

COLUMNS = ("time", "id", "showing", "grade", "subclass", "note", "view", "seconds")
CLASSES = {"A": [], "B": [], "C": [], "X": ["ring", "spiral", "merger", "artefact", "star", "other"]}
REPEATS = 0.05  # share that is shown a second time, unmarked
GAP = 100  # pictures between the two showings, where there are so many: more than a mosaic has
LONGEST = 100_000  # characters of a cell: readers of CSV take no more
DEFAULTS = {"classes": CLASSES, "order": "rank", "repeats": REPEATS, "first": None, "controls": []}
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")

Order = Literal["rank", "shuffled"]


def graders(output: str | os.PathLike) -> list[str]:
    """Names of those whose log lies in an output folder, sorted."""
    return sorted(path.stem for path in (Path(output) / "grades").glob("*.csv") if _NAME.fullmatch(path.stem))


def exists(output: str | os.PathLike, grader: str) -> bool:
    """Whether a grader has begun."""
    return _path(output, grader, ".json").exists()


def seed_of(grader: str) -> int:
    """The seed that a grader's name gives."""
    return zlib.crc32(grader.encode())


def start(
    output: str | os.PathLike,
    grader: str,
    classes: Mapping[str, Sequence[str]] | None = None,
    order: Order | None = None,
    seed: int | None = None,
    repeats: float | None = None,
    first: int | None = None,
    controls: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Begin a session, or take up the one that is there: what it is was written once, before the first grade.

    Parameters
    ----------
    output : path-like
        The folder of a ranked list.
    grader : str
        Letters, digits and ``_ . -``.
    classes : dict of lists of str, optional
        Subclasses by major class, the last of which is that of no lens; `CLASSES` by default.
    order : {"rank", "shuffled"}, optional
    seed : int, optional
        Of the shuffle and of what is shown twice; by default the grader's name gives one.
    repeats : float, optional
        Share that is shown twice, unmarked; 0.05 by default.
    first : int, optional
        Candidates of the list, by rank, that are graded; all by default.
    controls : list of dict, optional
        ``id``, ``kind`` (``known lens`` or ``painted arc``), ``host`` (id of the galaxy that an arc is painted on).

    Returns
    -------
    dict
        These, with defaults filled in.

    Raises
    ------
    ValueError
        Where the session that is there was begun with something else, naming the parameter; or a value that cannot be.
    """
    asked = {"classes": classes, "order": order, "seed": seed, "repeats": repeats, "first": first, "controls": controls}
    asked = {name: value for name, value in json.loads(json.dumps(asked)).items() if value is not None}
    _check(asked)
    path = _path(output, grader, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(output, grader):
        if not path.exists():
            made = DEFAULTS | {"seed": seed_of(grader), "grader": grader} | asked
            storage.write_json(path, made | {"majors": list(made["classes"])})  # keys of JSON are sorted, majors not
        there = session(output, grader)
        for name, value in asked.items():
            if there[name] != value or (name == "classes" and list(there[name]) != list(value)):
                raise ValueError(
                    f"{path}: {grader} began with {name} {there[name]!r}, not {value!r}; leave {name} out "
                    "to go on, or take another name of grader"
                )
        if not (log := _path(output, grader, ".csv")).exists():
            _write(log, _line(COLUMNS))
    return there


def session(output: str | os.PathLike, grader: str) -> dict[str, Any]:
    """What the session of a grader is: grader, classes, order, seed, repeats, first, controls.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    path = _path(output, grader, ".json")
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: {grader} has not begun; lensdet.grade({str(output)!r}, {grader!r}) begins"
        )
    try:
        made = json.loads(path.read_text())
        made["classes"] = {name: made["classes"][name] for name in made.pop("majors", made["classes"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no session of grading ({error!r}); take it from a copy, the grades in "
                         f"{path.stem}.csv are whole") from error  # fmt: skip
    return made


def append(output: str | os.PathLike, grader: str, *events: Mapping[str, Any]) -> tuple[int, int]:
    """Append events to the log, and sync them to the disk.

    Parameters
    ----------
    output : path-like
    grader : str
        Who began by `start`.
    *events : dict
        ``id`` and ``grade`` (one of the major classes, or "" for none: set aside, or taken back), and perhaps
        ``showing`` (1, or 2 for the second time), ``subclass``, ``note``, ``view``, ``seconds`` and ``time`` (now).

    Returns
    -------
    tuple of int
        Bytes of the log before and after: where another wrote in between, more than the last time's.

    Raises
    ------
    ValueError
        A grade that is no class of the session, or a name of a column that there is not.
    """
    classes = session(output, grader)["classes"]
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    text = ""
    for event in events:
        if unknown := set(event) - set(COLUMNS):
            raise ValueError(f"event {sorted(unknown)}: columns of the log are {', '.join(COLUMNS)}")
        if event["grade"] not in ("", *classes):
            raise ValueError(f"grade {event['grade']!r} is none of {', '.join(classes)}, the classes of {grader}")
        row = {"time": now, "showing": 1, "subclass": "", "note": "", "view": "single", "seconds": 0} | dict(event)
        row["seconds"] = f"{max(0, float(row['seconds'])):.2f}"
        if any(len(str(value)) > LONGEST for value in row.values()):
            raise ValueError(
                f"event of {str(event['id'])[:80]}: a text of more than {LONGEST:,} characters; shorten it"
            )
        text += _line([row[name] for name in COLUMNS])
    with _lock(output, grader):
        return _write(_path(output, grader, ".csv"), text)


def read(output: str | os.PathLike, grader: str) -> pd.DataFrame:
    """All events of a grader in their order; a last row that was cut off, by a kill, is left out.

    Raises
    ------
    ValueError
        The file is no log; names the row.
    """
    path = _path(output, grader, ".csv")
    found = path.read_bytes() if path.exists() else b""
    rows = list(csv.reader(io.StringIO(found[: _whole(found)].decode("utf-8", "replace"), newline="")))
    header, rows = (rows[0], rows[1:]) if rows else (list(COLUMNS), [])
    if header != list(COLUMNS):
        raise ValueError(f"{path}: columns are {', '.join(header)}, not {', '.join(COLUMNS)}; take it from a copy")
    for number, row in enumerate(rows, 2):
        if len(row) != len(COLUMNS) or row[2] not in ("1", "2") or not _is_number(row[7]):
            raise ValueError(f"{path}: row {number} is no event ({row}); mend it or take it out")
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return table.astype({"showing": int, "seconds": float})


def current(output: str | os.PathLike, grader: str) -> pd.DataFrame:
    """The last event of each id and showing, in the order of these; what was set aside or taken back is left out."""
    last = read(output, grader).drop_duplicates(["id", "showing"], keep="last")
    return last[last["grade"] != ""].reset_index(drop=True)


def order(
    ids: Iterable[str], how: Order, seed: int, repeats: float = 0, controls: Iterable[str] = ()
) -> list[tuple[str, int]]:
    """What is shown, one after another: pairs of id and showing.

    It follows from each id and the seed, so that a list with more candidates keeps the order of those that it had.

    Parameters
    ----------
    ids : list of str
        By rank.
    how : {"rank", "shuffled"}
    seed : int
    repeats : float
        Share that is shown again, some `GAP` pictures later or more.
    controls : list of str
        Ids that are mixed in, unless they are among the others.
    """
    ids = list(ids)
    mixed = [(len(ids) * _unit(seed, name, "control"), name) for name in dict.fromkeys(controls) if name not in {*ids}]
    placed = sorted([*((k + 0.5, name) for k, name in enumerate(ids)), *mixed])
    first = [name for _, name in placed]
    if how == "shuffled":
        first.sort(key=lambda name: _unit(seed, name, "shuffle"))
    gap = min(GAP, len(first) // 2)
    early = dict(zip(first[: len(first) - gap], range(len(first)), strict=False))
    again = sorted(early, key=lambda name: _unit(seed, name, "twice"))[: round(repeats * len(first))]
    earliest = {name: early[name] + gap for name in again}
    later = [(k + (len(first) - k) * _unit(seed, name, "later"), name) for name, k in earliest.items()]
    shown = [*((k, 0, name, 1) for k, name in enumerate(first)), *((at, 1, name, 2) for at, name in later)]
    return [(name, showing) for _, _, name, showing in sorted(shown)]


def _check(asked):
    """ValueError for a value that cannot be."""
    classes = asked.get("classes", CLASSES)
    if len(classes) < 2 or not all(name and name == name.strip() for name in classes):
        raise ValueError(f"classes {classes!r}: two or more majors with their subclasses, as {{A: [], X: [ring]}}; "
                         "the last is that of no lens")  # fmt: skip
    if asked.get("order", "rank") not in ("rank", "shuffled"):
        raise ValueError(f"order {asked['order']!r}: it is rank or shuffled")
    if not 0 <= asked.get("repeats", 0) <= 0.5:
        raise ValueError(f"repeats {asked['repeats']}: the share that is shown twice is from 0 to 0.5")
    if asked.get("first", 1) < 1:
        raise ValueError(f"first {asked['first']}: it is 1 or more")


def _path(output, grader, suffix):
    if not _NAME.fullmatch(grader):
        raise ValueError(f"grader {grader!r}: a name has Latin letters, digits and _ . - alone, and begins with no dot")
    return Path(output) / "grades" / f"{grader}{suffix}"


def _lock(output, grader):
    return FileLock(_path(output, grader, ".csv").with_name(f".{grader}.lock"))


def _line(values):
    made = io.StringIO()
    bare = any("\r" in str(value) for value in values)  # which the module quotes only where it ends lines
    csv.writer(made, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(values)
    return made.getvalue()


def _write(path, text):
    """Append to a file in one piece and sync; what a kill left of a row is cut off first.  Bytes before and after."""
    with open(path, "ab+") as file:
        file.seek(0)
        found = file.read()
        if (whole := _whole(found)) < len(found):
            file.truncate(whole)
        if not whole and text != _line(COLUMNS):
            text = _line(COLUMNS) + text
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
        return whole, file.tell()


def _whole(found):
    """Bytes up to the end of the last whole row: a line feed that no open quotation mark precedes."""
    end = len(found)
    while end and (found[end - 1] != ord("\n") or found.count(b'"', 0, end) % 2):
        end = found.rfind(b"\n", 0, end - 1) + 1
    return end


def _unit(seed, *words):
    """A number from 0 to 1 that follows from seed and words."""
    words = json.dumps([seed, *words]).encode()
    return int.from_bytes(blake2b(words, digest_size=7).digest()) / 2**56


def _is_number(text):
    try:
        return float(text) >= 0
    except ValueError:
        return False
