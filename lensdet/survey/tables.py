"""Tables in any usual format: the names of their columns, and some of these as a DataFrame.

Nothing in a file is executed, and nothing that it names is fetched or opened.
"""

import contextlib
import csv
import gzip
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.io import fits, votable
from astropy.table import Column, Table
from pyarrow import parquet

from lensdet.data.fits import open_checked
from lensdet.survey import headers

FORMATS = dict.fromkeys((".csv", ".tsv", ".txt", ".cat", ".dat", ".tab", ".asc"), "text")
FORMATS |= dict.fromkeys((".fits", ".fit", ".fts", ".ldac"), "fits") | {".ecsv": "ascii.ecsv", ".tbl": "ascii.ipac"}
FORMATS |= dict.fromkeys((".vot", ".votable", ".xml"), "votable") | dict.fromkeys((".parquet", ".pq"), "parquet")
_BEGINS = {b"SIMPLE": "fits", b"PAR1": "parquet", b"# %ECSV": "ascii.ecsv", b"<?xml": "votable", b"<VOTABLE": "votable"}
# What a spreadsheet would compute: at the beginning, or behind what a spreadsheet of another language takes for the end
# of a cell; apostrophes before it are kept.
_FORMULA = r"(^\s*|[;|\t\r\n]\s*){}(?='*[=+\-@])"
_SEPARATORS = (",", ";", "\t", "|", r"\s+")
_HEAD = 1 << 18  # bytes in which the names of the columns are looked for
_ROWS = 200_000  # of text at a time: of other columns than those that are wanted none is kept


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """While a file is read: whatever a library says of it becomes a ValueError with the file's name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such catalogue{', but a folder' if path.is_dir() else ''}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units and versions that are not quite to the letter
            yield
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{path}: not a catalogue that can be read: {kind}{str(error).strip()}") from error


def open_table(
    path: Path, complete: Callable[[Sequence[str]], bool]
) -> tuple[list[str], Callable[[list[str]], tuple[pd.DataFrame, dict[str, Any]]]]:
    """Open a table, whose format its suffix (`FORMATS`, and these with ``.gz``) and its first bytes say.

    Parameters
    ----------
    path : Path
    complete : function
        Whether names are those of the columns that are wanted: by it the table of a FITS file, and the line of text
        with the names and its separator are found.

    Returns
    -------
    names : list of str
    load : function
        Takes some of the names; returns a DataFrame of these columns (of text files, text) and the units that are
        stated, by name.  It raises as the libraries do; ValueError where rows are longer than the line of names.
    """
    kind = FORMATS.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if kind is None:
        raise ValueError(f"its name ends in none of {', '.join(FORMATS)}, nor in one of these and .gz")
    with _unpacked(path) as file:
        head = file.read(_HEAD)
    kind = next((other for begin, other in _BEGINS.items() if head.startswith(begin)), kind)
    if kind == "text":
        return _open_text(path, head, complete)
    if kind == "parquet":
        with _unpacked(path) as file:
            schema = parquet.read_schema(file)
            if b"table_meta_yaml" in (schema.metadata or {}):  # written by astropy, with units
                return _of_table(Table.read(file, format=kind))
        return schema.names, lambda chosen: (_parquet(path, chosen), {})
    if kind == "fits":
        headers.peek(path)
        with open_checked(path) as file, fits.open(file, memmap=False, character_as_bytes=True) as hdus:
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise ValueError("no table in it")
            chosen = next((hdu for hdu in tables if complete(hdu.columns.names)), tables[0])
            return _of_table(Table.read(chosen))
    if kind == "votable":
        _refuse_links(path)
        with _unpacked(path) as file:
            tables = [each.to_table(use_names_over_ids=True) for each in votable.parse(file).iter_tables()]
        if not tables:
            raise ValueError("no table in it")
        return _of_table(next((each for each in tables if complete(each.colnames)), tables[0]))
    return _of_table(Table.read(path, format=kind))


def _unpacked(path):
    """A file to read from, unpacked where it is gzipped."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return (gzip.open if gzipped else open)(path, "rb")


def _parquet(path, chosen):
    with _unpacked(path) as file:
        return parquet.read_table(file, columns=chosen).to_pandas(ignore_metadata=True, integer_object_nulls=True)


def _of_table(table):
    for name in table.colnames:
        if isinstance(table[name], SkyCoord):
            place = table[name].icrs
            for what in ("ra", "dec"):
                table[f"{name}.{what}"] = Column(np.ma.filled(getattr(place, what).deg, np.nan), unit="deg")
    stated = {name: getattr(table[name], "unit", None) for name in table.colnames}
    return table.colnames, lambda chosen: (table[chosen].to_pandas(), stated)


def _refuse_links(path):
    """A VOTable may name another file or address, which astropy would open."""

    def start(name, attributes):
        if name.split(":")[-1] == "STREAM" and "href" in attributes:
            raise ValueError(f"its data lie elsewhere ({attributes['href']}), which is not followed; put them in it")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with _unpacked(path) as file:
        parser.ParseFile(file)


def _open_text(path, head, complete):
    if not head.strip():
        raise ValueError("the file is empty")
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = re.split(r"\r\n|\n|\r", head.decode(encoding, "replace"))
    names, separator, skip = _header(lines, complete)
    if not complete(names) and sum(bool(re.fullmatch(r"[+-]?\d+\.?\d*", name)) for name in names) > 1:
        raise ValueError("its first line is a row, not the names of the columns; put these first, as id,ra,dec")
    if not all(name.isprintable() for name in names):
        raise ValueError("it is no text; save a spreadsheet as CSV")
    names = [name if names.index(name) == k else f"{name}.{k}" for k, name in enumerate(names)]

    def load(chosen):
        # Not by astropy, which makes numbers of ids.
        options = {"sep": separator, "names": names, "skiprows": skip, "dtype": str, "skipinitialspace": True,
                   "keep_default_na": False, "chunksize": _ROWS}  # fmt: skip
        for tried in (encoding, "latin-1"):
            with contextlib.suppress(UnicodeDecodeError), _unpacked(path) as file:
                return pd.concat(_whole(chunk)[chosen] for chunk in pd.read_csv(file, encoding=tried, **options)), {}
        raise ValueError(f"its text is not {encoding}")

    return names, load


def _whole(chunk):
    if not isinstance(chunk.index, pd.RangeIndex):  # pandas takes what is too much for an index
        raise ValueError("its rows have more values than there are names, which would shift them; end the line of "
                         "names in a separator, too, or take it away from the rows")  # fmt: skip
    return chunk


def _header(lines, complete):
    """Names of columns, the separator, and how many lines stand before the rows."""
    first = next((k for k, line in enumerate(lines) if line.strip() and line.lstrip()[0] != "#"), len(lines))
    numbered = [m for m in (re.match(r"#\s*(\d+)\s+(\S+)", line) for line in lines[:first]) if m]
    if numbered and numbered[0][1] == "1":  # SExtractor's; of an array only the first column has a name
        named = {int(m[1]): m[2] for m in numbered}
        width = max([*named, len("".join(lines[first : first + 1]).split())])
        return [named.get(k, f"column_{k}") for k in range(1, width + 1)], r"\s+", first
    tried = []
    # comments may have the names, as in: # id ra dec; or lines with a title, or sep=, stand before them
    for k in (first, *range(first - 1, -1, -1), *range(first + 1, first + 4)):
        line = lines[k].lstrip("# \t") if k < len(lines) else ""
        for separator in _SEPARATORS:
            split = line.split() if separator == r"\s+" else next(csv.reader([line], delimiter=separator), [])
            tried.append(([name.strip() for name in split], separator, max(first, k + 1)))
            if complete(tried[-1][0]):
                return tried[-1]
    return max(tried[: len(_SEPARATORS)], key=lambda found: len(found[0]))


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula: with an apostrophe before ``=``, ``+``, ``-`` or ``@``."""
    return re.sub(_FORMULA.format(""), r"\1'", text)


def as_before(text: str) -> str:
    """A text as it was before `inert`."""
    return re.sub(_FORMULA.format("'"), r"\1", text)
