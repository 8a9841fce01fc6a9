"""Catalogues: ids and positions from a table, whatever its columns are called."""

import gzip
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from xml.parsers import expat

import numpy as np
import pandas as pd
from astropy import units
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from lensdet.data.fits import open_checked
from lensdet.survey import headers

_COLUMNS = {
    "id": "id objid obj_id object_id objectid source_id sourceid ident name object object_name number",
    "ra": "ra raj2000 ra_j2000 _raj2000 alpha_j2000 alphaj2000 ra_icrs ra_deg radeg alpha right_ascension",
    "dec": "dec de dej2000 de_j2000 dec_j2000 decj2000 _dej2000 delta_j2000 deltaj2000 de_icrs dec_icrs dec_deg decdeg "
    "dedeg delta declination",
}
_FORMATS = {".csv": "csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits"} | dict.fromkeys(
    (".vot", ".votable", ".xml"), "votable"
)


def read_catalogue(
    path: str | os.PathLike, columns: Mapping[Literal["id", "ra", "dec"], str] | None = None
) -> tuple[list[str], NDArray, NDArray]:
    """Ids and positions.

    Parameters
    ----------
    path : path-like
        FITS, ECSV, CSV (with commas) or VOTable, by its suffix (``.fits``, ``.ecsv``, ``.csv``, ``.vot``, ``.votable``,
        ``.xml``, and these with ``.gz``).  Nothing in it is executed, fetched or opened.
    columns : dict, optional
        Names of columns by "id", "ra" and "dec", where they are not the usual.  Case does not matter, and a unit in
        brackets (``RA [deg]``) needs not be given.

    Returns
    -------
    ids : list of str
        Of CSV as written (007 stays 007).  Without such a column the number of the row, from 1.
    ra, dec : numpy.ndarray, (n,)
        Degrees, by the unit of the column (none: degrees; hours are converted); NaN where missing.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It cannot be read, a column is missing (it lists what there is), or has a unit that is no angle.
    """
    table, names = _table(Path(path))
    found = {what: _find_column(path, names, what, (columns or {}).get(what)) for what in _COLUMNS}
    ids = [str(row + 1) for row in range(len(table))]
    if found["id"] is not None:
        ids = [given or f"row {row}" for given, row in zip(_text(table[found["id"]]), ids, strict=True)]
    return ids, *(_degrees(path, table[found[what]], found[what]) for what in ("ra", "dec"))


def read_known(path: str | os.PathLike) -> pd.DataFrame:
    """Known lenses: names, positions and references.

    Parameters
    ----------
    path : path-like
        As in `read_catalogue`.  A column of names is preferred to one of ids; one of references (``ref``,
        ``reference``, ``bibcode``) needs not be there.

    Returns
    -------
    pandas.DataFrame
        ``name``, ``ra``, ``dec`` (degrees) and ``reference``, a row a lens that has a position.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_catalogue`.
    """
    table, names = _table(Path(path))
    plain = {_plain(name)[0]: name for name in reversed(names)}
    named = next((plain[word] for word in ("name", "object", "object_name") if word in plain), None)
    ids, ra, dec = read_catalogue(path, named and {"id": named})
    referred = next(
        (plain[word] for word in ("ref", "reference", "references", "refs", "bibcode") if word in plain), None
    )
    references = [""] * len(ids) if referred is None else _text(table[referred])
    known = pd.DataFrame({"name": ids, "ra": ra, "dec": dec, "reference": references})
    return known[np.isfinite(ra) & (np.abs(dec) <= 90)].reset_index(drop=True)


def _table(path):
    """A table, and the names of its columns."""
    kind = _FORMATS.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such catalogue")
    if kind is None:
        raise ValueError(f"{path}: a catalogue is one of {', '.join(_FORMATS)}, or these with .gz")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units and versions that are not quite to the letter
            if kind == "csv":
                # Not by astropy, which makes numbers of ids.
                table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
            else:
                if kind == "votable":
                    _refuse_links(path)
                if kind == "fits":
                    headers.peek(path)
                    with open_checked(path) as file, fits.open(file, memmap=False, character_as_bytes=True) as hdus:
                        table = Table.read(hdus, format=kind)
                else:
                    table = Table.read(path, format=kind)
    except Exception as error:
        raise ValueError(f"{path}: not a catalogue that can be read: {type(error).__name__}: {error}") from error
    return table, [str(name) for name in table.columns]


def _refuse_links(path):
    """A VOTable may name another file or address, which astropy would open."""

    def start(name, attributes):
        if name.split(":")[-1] == "STREAM" and "href" in attributes:
            raise ValueError(f"its data lie elsewhere ({attributes['href']}), which is not followed; put them in it")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        parser.ParseFile(gzip.GzipFile(fileobj=file) if gzipped else file)


def _plain(name):
    """A column's name in lower case without a unit in brackets, and that unit."""
    name, unit = re.fullmatch(r"[#\s]*(.*?)\s*(?:[\[(]([^\[\]()]*)[\])])?\s*", name, re.DOTALL).groups()
    return re.sub(r"\s+", "_", name.lower()), unit


def _find_column(path, names, what, given):
    there = {}
    for name in names:
        there.setdefault(_plain(name)[0], name)
    if given in names:
        return given
    for candidate in [_plain(given)[0]] if given is not None else _COLUMNS[what].split():
        if candidate in there:
            return there[candidate]
    if what == "id" and given is None:
        return None
    asked = f"column {given!r}" if given is not None else f"column of {what} by any usual name"
    raise ValueError(f"{path}: no {asked}; there are: {', '.join(names)}.  Say which by columns={{{what!r}: ...}}")


def _text(column):
    """Values as text, empty where masked."""
    if isinstance(column, pd.Series):
        return [value.strip() for value in column]
    masked = np.ma.getmaskarray(column).tolist()
    values = np.ma.getdata(column).tolist()
    decoded = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)
    return ["" if gone else value.strip() for gone, value in zip(masked, decoded, strict=True)]


def _degrees(path, column, name):
    unit = getattr(column, "unit", None) or _plain(name)[1]
    try:
        if str(unit or "").lower() in ("", "none", "j2000", "j2000.0", "icrs", "fk5"):
            unit = units.deg
        unit = units.Unit(re.sub(r"(degree|hour|radian)s$", r"\1", unit.lower()) if isinstance(unit, str) else unit)
        factor = (units.hourangle if unit == units.hour else unit).to(units.deg)
    except (ValueError, TypeError, units.UnitConversionError):
        raise ValueError(f"{path}: unit {str(unit)!r} of column {name!r} is no angle; give degrees") from None
    if getattr(column, "dtype", np.dtype(object)).kind in "fiu" and np.ndim(column) == 1:
        return factor * np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    text = pd.Series(_text(column), dtype=object)
    values = pd.to_numeric(text, errors="coerce").to_numpy(float)
    if np.isnan(values).all() and (text != "").any():
        raise ValueError(f"{path}: column {name!r} has no number but {text[text != ''].iloc[0]!r}; give degrees")
    return factor * values
