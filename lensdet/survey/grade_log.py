"""The log of a grader: what a session of grading is, and each grade, appended and synced before the next picture shows.

``OUTPUT/grades/<grader>.csv`` has a row an event, ``<grader>.json`` beside it what the session is.  Two tabs, notebooks
or processes of one grader may write at once.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from astropy.coordinates import angular_separation
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from lensdet import storage
from lensdet.survey import grade_rows
from lensdet.survey.grade_rows import COLUMNS
from lensdet.survey.tables import as_before, inert

CLASSES = {"A": [], "B": [], "C": [], "X": ["ring", "spiral", "merger", "artefact", "star", "other"]}
GAP = 100  # pictures between the two showings, where there are so many: more than a mosaic has
FAR = 1.0  # arcsec: a candidate that is further from where it was graded is another
LONGEST = 100_000  # characters of a cell: readers of CSV take no more
DEFAULTS = {"classes": CLASSES, "order": "rank", "repeats": 0.05, "first": None, "controls": []}
TEXTS = ("id", "grade", "subclass", "note", "view")
_NAME = re.compile(r"(?!merged$)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")  # "merged" is a row of the table of agreement

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
    output, grader, classes, order, seed, repeats, first
        As `lensdet.grade` takes them.
    controls : list of dict, optional
        ``id``, ``kind`` (``known lens`` or ``painted arc``), ``host`` (id of the galaxy that an arc is painted on).

    Returns
    -------
    dict
        These, with `DEFAULTS` filled in.

    Raises
    ------
    FileNotFoundError
        There are grades, but not what their session was.
    ValueError
        Where the session that is there was begun with something else, naming the parameter; or a value that cannot be.
    """
    asked = {"classes": classes, "order": order, "seed": seed, "repeats": repeats, "first": first, "controls": controls}
    asked = {name: value for name, value in json.loads(json.dumps(asked)).items() if value is not None}
    _check(asked)
    path = _path(output, grader, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(output, grader):
        if not path.exists():
            if len(read(output, grader)):
                raise FileNotFoundError(_lacks(path))
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
            grade_rows.append(log, grade_rows.line(COLUMNS))
    return there


def session(output: str | os.PathLike, grader: str) -> dict[str, Any]:
    """What the session of a grader is: grader, classes, order, seed, repeats, first, controls.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        The file is no session, or another grader's.
    """
    path = _path(output, grader, ".json")
    if not path.exists():
        if len(read(output, grader)):
            raise FileNotFoundError(_lacks(path))
        raise FileNotFoundError(
            f"{path} is not there: {grader} has not begun; lensdet.grade({str(output)!r}, {grader!r}) begins"
        )
    try:
        made = json.loads(path.read_text())
        made["classes"] = {name: made["classes"][name] for name in made.pop("majors", made["classes"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no session of grading ({error!r}); take it from a copy, the grades in "
                         f"{path.stem}.csv are whole") from error  # fmt: skip
    if made.get("grader") != grader:
        raise ValueError(f"{path} is the session of {made.get('grader')!r}, not of {grader}: its order and controls "
                         "are others; give both files the name of their grader")  # fmt: skip
    return made


def lock(output: str | os.PathLike, grader: str) -> FileLock:
    """What is held while a grader's files are read or written; the same one may be taken again within itself."""
    return FileLock(_path(output, grader, ".csv").with_name(f".{grader}.lock"))


def size(output: str | os.PathLike, grader: str) -> int:
    """Bytes of the log."""
    return _path(output, grader, ".csv").stat().st_size


def append(
    output: str | os.PathLike, grader: str, *events: Mapping[str, Any], held: FileLock | None = None
) -> tuple[int, int]:
    """Append events to the log, and sync them to the disk.

    Parameters
    ----------
    output, grader
        Who began by `start`.
    *events : dict
        ``id`` and ``grade`` (one of the major classes, or "" for none: set aside, taken back, or a note alone), and
        perhaps ``ra`` and ``dec`` (degrees), ``showing`` (1, or 2 for the second time), ``subclass``, ``note``,
        ``view``, ``seconds`` and ``time`` (now: the same for all of them).
    held : FileLock, optional
        From `lock`, where it is held already.

    Returns
    -------
    tuple of int
        Bytes of the log before and after: where another wrote in between, more than the last time's.

    Raises
    ------
    ValueError
        A grade that is no class of the session, a name that is no column, or a damaged log.
    """
    classes = session(output, grader)["classes"]
    with held or lock(output, grader):
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        lines = [_checked(event, classes, now, grader) for event in events]
        return grade_rows.append(_path(output, grader, ".csv"), "".join(lines))


def read(output: str | os.PathLike, grader: str, since: int = 0) -> pd.DataFrame:
    """All events of a grader in their order; a last row that was cut off, by a kill, is left out.

    ``ra``, ``dec`` and ``seconds`` are NaN where they are not known.  With ``since``, bytes of the log by `size` or
    `append`, only what was appended after them.

    Raises
    ------
    ValueError
        The file is no log, or its rows are damaged; names the row.
    """
    path = _path(output, grader, ".csv")
    found = path.read_bytes() if path.exists() else b""
    rows, _ = grade_rows.whole(found, path)
    known = len(grade_rows.whole(found[:since], path)[0]) if since else 1  # the header
    table = pd.DataFrame(rows[known:], columns=list(COLUMNS), dtype=object)
    table[list(TEXTS)] = table[list(TEXTS)].map(as_before)
    numbers = table[["ra", "dec", "seconds"]].replace("", "nan").astype(float)
    return table.assign(**numbers).astype({"showing": int})


def current(output: str | os.PathLike, grader: str) -> pd.DataFrame:
    """The last event of each id and showing, in the order of these; what was set aside or taken back is left out."""
    last = read(output, grader).drop_duplicates(["id", "showing"], keep="last")
    return last[last["grade"] != ""].reset_index(drop=True)


def are_others(events: pd.DataFrame, places: ArrayLike) -> NDArray[np.bool_]:
    """Whether ids of `read` are other candidates by now: further than `FAR` from where they were when they were graded.

    ``places`` (n, 2) are right ascension and declination of each now, in degrees; NaN, as in the events, where they are
    not known: such an id is no other.
    """
    then, now = (np.radians(np.reshape(of, (-1, 2)).T) for of in (events[["ra", "dec"]], places))
    return np.degrees(angular_separation(*then, *now)) * 3600 > FAR


def order(
    ids: Iterable[str], how: Order, seed: int, repeats: float = 0, controls: Iterable[str] = ()
) -> list[tuple[str, int]]:
    """What is shown, one after another: pairs of id and showing.

    It follows from each id and the seed, so that a list with more candidates keeps the order of those that it had.

    Parameters
    ----------
    ids : list of str
        By rank.
    how, seed
    repeats : float
        Share that is shown again, some `GAP` pictures later or more; of a short list half of it later, so that a screen
        of the mosaic may have both.
    controls : list of str
        Ids that are mixed in, unless they are among the others.
    """
    ids = list(ids)
    others = set(controls).difference(ids)
    mixed = [(len(ids) * _unit(seed, name, "control"), name) for name in dict.fromkeys(controls) if name in others]
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


def _checked(event, classes, now, grader):
    """The line of an event."""
    if unknown := set(event) - set(COLUMNS):
        raise ValueError(f"event {sorted(unknown)}: columns of the log are {', '.join(COLUMNS)}")
    if event["grade"] not in ("", *classes):
        raise ValueError(f"grade {event['grade']!r} is none of {', '.join(classes)}, the classes of {grader}")
    row = dict.fromkeys(COLUMNS, "") | {"time": now, "showing": 1, "view": "single"} | dict(event)
    row |= {name: inert(str(row[name])) for name in TEXTS}
    for name in ("ra", "dec", "seconds"):
        number = float("nan") if row[name] in ("", None) else float(row[name])
        row[name] = "" if number != number else f"{max(0, number):.2f}" if name == "seconds" else repr(number)
    if any(len(str(value)) > LONGEST or grade_rows.has_rows(str(value)) for value in row.values()):
        raise ValueError(f"event of {str(event['id'])[:80]}: a text of more than {LONGEST:,} characters, or with rows "
                         "of a log in it; shorten it")  # fmt: skip
    return grade_rows.line(row[name] for name in COLUMNS)


def _path(output, grader, suffix):
    if not _NAME.fullmatch(grader):
        raise ValueError(
            f"grader {grader!r}: a name has Latin letters, digits and _ . - alone, begins with no dot and is not merged"
        )
    return Path(output) / "grades" / f"{grader}{suffix}"


def _lacks(path):
    return f"{path} is not there, but grades are: copy it beside {path.stem}.csv, from where these were given"


def _unit(seed, *words):
    """A number from 0 to 1 that follows from seed and words."""
    words = json.dumps([seed, *words]).encode()
    return int.from_bytes(blake2b(words, digest_size=7).digest()) / 2**56
