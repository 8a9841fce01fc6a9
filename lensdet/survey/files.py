"""Files of a survey: the FITS files of folders, and what is passed over."""

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lensdet import storage
from lensdet.data.stamps import FITS_NAME, Rejection


def output_folder(output: Path | None, kind: str, given: Path, read: Iterable[Path]) -> Path:
    """Where what is made goes: ``output``, or a folder of ``build/<kind>`` that is called as what was given.

    Raises
    ------
    ValueError
        Where it lies in a folder that is read: its files would be taken for stamps.
    """
    name = given.name if given.is_dir() else given.stem  # of a folder all: DR4.1 is not DR4.2
    called = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".") or "survey"
    folder = output or storage.build_dir() / kind / called
    for stamps in read:
        if folder.resolve().is_relative_to(stamps):
            raise ValueError(f"output {folder}: lies in {stamps}, whose files are read; add -p output FOLDER")
    return folder


def listed(folder: Path, what: str) -> tuple[list[str], list[str], list[Rejection]]:
    """Names of the FITS files below a folder, of its other files, and rejections of what cannot be listed; sorted.

    Links to folders are entered, each folder once; hidden files and folders are not.

    Raises
    ------
    FileNotFoundError
        There is no such folder of ``what``.
    ValueError
        It has no FITS file.
    """
    if not folder.is_dir():
        hint = "; a file: give the folder that it lies in" if folder.exists() else ""
        raise FileNotFoundError(f"{folder}: no such {'file or ' if what == 'tiles' else ''}folder of {what}{hint}")
    found, passed, closed, entered = [], [], [], set()

    def refused(error):
        closed.append(Rejection(os.path.relpath(error.filename, folder), "unreadable", str(error)))

    for here, below, names in os.walk(folder, onerror=refused, followlinks=True):
        if (real := os.path.realpath(here)) in entered:  # a link to where it is
            below.clear()
            continue
        entered.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = Path(os.path.relpath(here, folder))
        # a folder called .fits cannot be read, and is named
        for name in (*names, *(name for name in below if FITS_NAME.fullmatch(name))):
            if not name.startswith("."):
                (found if FITS_NAME.fullmatch(name) else passed).append((inside / name).as_posix())
    if not found:
        raise ValueError(
            f"{folder}: no FITS file in it (.fits, .fit, .fts, and these with .gz, .bz2, .xz or .fz)"
            + (f"; {len(passed)} other files, such as {passed[0]}" if passed else "")
            + (f"; {len(closed)} folders cannot be listed, such as {closed[0].detail}" if closed else "")
        )
    return sorted(found), sorted(passed), sorted(closed)


def of_tiles(given: Iterable[Path]) -> tuple[list[str], list[str], list[str]]:
    """Paths of tiles given as files and folders, each once; names of other files; notes on what cannot be listed."""
    files, passed, notes = [], [], []
    for path in given:
        if path.is_file():
            files.append(str(path))
            continue
        found, others, closed = listed(path, "tiles")
        notes += [f"a folder of tiles cannot be listed: {one.detail}" for one in closed]
        files += [os.path.join(path, name) for name in found]
        passed += others
    once = {}
    for path in files:
        once.setdefault(os.path.realpath(path), path)  # not by a link again
    return [*once.values()], passed, notes


def stats(names: Iterable[str], paths: Sequence[str | os.PathLike]) -> list[bytes]:
    """Name, size and time of files, as bytes; without the latter two for one that is not there."""
    found = []
    for name, path in zip(names, paths, strict=True):
        there = None
        with contextlib.suppress(OSError):
            there = os.stat(path)
        found.append(os.fsencode(name) + (f" {there.st_size} {there.st_mtime_ns}".encode() if there else b""))
    return found
