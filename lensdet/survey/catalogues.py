"""Catalogues: ids and positions from a table, whatever its format and its columns are called."""

import contextlib
import functools
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from astropy import units
from numpy.typing import NDArray

from lensdet.survey import tables

# Usual names of columns: each pair of words in each of the forms.
_WORDS = (("ra", "dec"), ("ra", "de"), ("alpha", "delta"), ("right_ascension", "declination"), ("x", "y"))
_FORMS = """{} {}j2000 {}_j2000 _{}j2000 {}_icrs {}deg {}win_j2000 {}peak_j2000 {}psf_j2000 {}_sky {}win_sky {}2000
    coord_{} {}_gal target_{} {}mean {}stack {}_mean {}_stack mean_{} {}_psf {}psf {}_psf_fitting {}_obj {}_object
    obj_{} object_{} {}_target i_{} r_{} g_{} z_{} y_{} pos_{} s_{} _{} {}_1 {}_mag_gal cat_{} gal_{} galaxy_{}
    source_{} {}_world {}win_world plug_{} fiber_{}""".split()
_USUAL = [(f.format(ra), f.format(dec)) for f in _FORMS for ra, dec in _WORDS if ra != "x" or "world" in f]
_IDS = """id source_id object_id objectid obj_id targetid coadd_object_id coadd_objects_id ls_id kids_name kids_id
    id_kids iauname iau_name sourceid diaobjectid unique_gal_id unique_id galaxy_id gal_id halo_id specobjid uid uuid
    designation main_id objid brick_objid ident name object object_name obj_name target_name number seqnr""".split()
_GROUPS = """brickid brickname brick_name brick tileid tile_id tilename tile_name tile kids_tile field fieldid
    pointing tract patch ccd ccdnum image filename file run release""".split()  # within which objects are numbered
_NUMBERED = [(group, name) for group in _GROUPS[:10] for name in ("objid", "number", "seqnr")]
_OPTION = "-p columns '{{ra: {}, dec: {}}}'"  # as the command line takes it
_MISSING = ("", "nan", "null", "none", "na", "n/a", "<na>", "--", "-", "masked")
_PLACEHOLDERS = (-99, -99.9, -99.99, -999, -9999)
_NO_UNITS = ("", "none", "j2000", "j2000.0", "icrs", "fk5", "h:m:s", "hms", "d:m:s", "dms", "sexagesimal")
_BY_NAME = dict.fromkeys(("deg", "degree", "degrees"), "deg") | dict.fromkeys(("rad", "radian", "radians"), "rad")
_BY_NAME |= dict.fromkeys(("h", "hr", "hour", "hours"), "hour")
_ANGLE = (  # sign, degrees or hours, what follows them, minutes, seconds
    r"([+\-−]?) *(\d+(?:\.\d*)?) *(h|d|deg|°|:| ) *"
    r"""(?:(\d\d?(?:\.\d*)?) *(?:[m:'′]| |$) *(?:(\d\d?(?:\.\d*)?) *(?:s|"|″|''|))?)?"""
)


class Catalogue(NamedTuple):
    """What `read_catalogue` returns, of n rows."""

    ids: list  # of str
    ra: NDArray  # degrees (n,); NaN where there is none
    dec: NDArray
    kept: pd.DataFrame  # (n rows) of the columns that were asked for
    notes: list  # of str: what a user should know of how it was read
    lost: dict  # of str, by row from 0: what stands where there is no position


def read_catalogue(
    path: str | os.PathLike,
    columns: Mapping[Literal["id", "ra", "dec"], str] | None = None,
    keep: Sequence[str] = (),
) -> Catalogue:
    """Ids and positions.

    Parameters
    ----------
    path : path-like
        FITS (of several tables, as in LDAC, the first with positions), VOTable, ECSV, IPAC, Parquet, or text with
        commas, semicolons, tabs, bars or blanks, in UTF-8, UTF-16 or Latin-1, see `tables.open_table`.
    columns : dict, optional
        Names of columns by "id", "ra" and "dec", where they are not the usual.  Case does not matter, and a unit in
        brackets (``RA [deg]``) needs not be given.
    keep : sequence of str
        Other columns that are wanted.

    Returns
    -------
    Catalogue
        Ids as written (007 stays 007), of the first usual column, or brick or tile and number, whose values are unique;
        else row numbers from 1.  RA and Dec by the unit that header or name state (none: degrees, or 10:00:01.9).

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It cannot be read or has no row; a column is missing (it lists what there is), has a unit that is no angle, or
        no number; rows are longer than the header; or RA and Dec are swapped.
    """
    path, columns = Path(path), columns or {}
    with tables.named(path):
        names, load = tables.open_table(path, lambda names: None not in _position(names, columns))
    place, kept = _position(names, columns), [_known(names, name) for name in keep]
    ids = _id_columns(names, columns)
    _require(path, names, place, columns, keep)
    with tables.named(path):
        frame, stated = load(list(dict.fromkeys([*place, *itertools.chain(*ids), *kept])))
    if not len(frame):
        raise ValueError(f"{path}: the catalogue has no row")
    (ra, known), (dec, _) = (_degrees(path, frame[name], stated.get(name), name is place[0]) for name in place)
    ra = np.where((ra > 360) & (ra <= 720), ra - 360, ra)
    found, notes = _unique(frame, ids, "id" in columns)
    notes += _doubts(path, place, ra, dec, known)
    rows = np.flatnonzero(np.isnan(ra) | np.isnan(dec))
    said = zip(rows.tolist(), *(text_of(frame[name].iloc[rows]) for name in place), strict=True)
    lost = {row: f"RA {at_ra!r}, Dec {at_dec!r}" for row, at_ra, at_dec in said}
    return Catalogue(found, ra, dec, frame[kept].apply(_numbers), notes, lost)


def read_known(path: str | os.PathLike) -> pd.DataFrame:
    """Known lenses, of any table that `read_catalogue` takes: a row a lens that has a position.

    A column of names is preferred to one of ids; one of references (``ref``, ``reference``, ``bibcode``) needs not be
    there.

    Returns
    -------
    pandas.DataFrame
        ``name``, ``ra``, ``dec`` (degrees) and ``reference``.
    """
    path = Path(path)
    with tables.named(path):
        names, _ = tables.open_table(path, lambda names: None not in _position(names, {}))
    words = ("name", "object", "object_name"), ("ref", "reference", "references", "refs", "bibcode")
    named, referred = (next(filter(None, (_known(names, word) for word in some)), None) for some in words)
    found = read_catalogue(path, named and {"id": named}, [referred] if referred else [])
    references = text_of(found.kept[referred]) if referred else ""
    known = pd.DataFrame({"name": found.ids, "ra": found.ra, "dec": found.dec, "reference": references})
    return known[np.isfinite(found.ra) & (np.abs(found.dec) <= 90)].reset_index(drop=True)


# ---- columns


def _plain(name):
    """A column's name in lower case without its unit, in brackets or after _, and that unit."""
    name, unit = re.fullmatch(r"[#\s]*(.*?)\s*(?:[\[(]([^\[\]()]*)[\])])?\s*", name, re.DOTALL).groups()
    name = re.sub(r"\s+", "_", name.lower())
    bare, _, last = name.rpartition("_")
    return (bare, unit or _BY_NAME[last]) if bare and last in _BY_NAME else (name, unit)


def _by_plain_name(names):
    plain = {_plain(name)[0]: name for name in reversed(names)}
    return {name.rpartition(".")[2]: there for name, there in plain.items()} | plain  # coord.ra of a SkyCoord


def _known(names, name):
    """The column that is called so, case and unit aside; None where there is none."""
    return name if name in names else _by_plain_name(names).get(_plain(name)[0])


def _position(names, columns):
    """Columns of RA and Dec, None where there is none."""
    there = _by_plain_name(names)
    asked = [columns.get(what) for what in ("ra", "dec")]
    usual = ([there.get(name) for name in pair] for pair in _USUAL)
    best = max(usual, key=lambda pair: sum(bool(name) and not given for name, given in zip(pair, asked, strict=True)))
    return [_known(names, given) if given else name for name, given in zip(best, asked, strict=True)]


def _require(path, names, place, columns, keep):
    """Raise ValueError where a column is not there: it lists those that are."""
    there = f"there are: {', '.join(names[:60])}" + (f" and {len(names) - 60} more" if len(names) > 60 else "")
    unknown = [name for name in (*columns.values(), *keep) if _known(names, name) is None]
    missing = " or ".join(what for what, name in zip(("ra", "dec"), place, strict=True) if name is None)
    if unknown or missing:
        no = f"column {unknown[0]!r}" if unknown else f"column of {missing} by any usual name"
        remedy = f".  Say which: {_OPTION.format(*(name or 'NAME' for name in place))}" if missing else ""
        raise ValueError(f"{path}: no {no}; {there}{remedy}")


def _id_columns(names, columns):
    """Columns of ids, alone or to be joined, as far as they are there, the best first."""
    if "id" in columns:
        return [(_known(names, columns["id"]),)]
    there = _by_plain_name(names)
    tried = [*_NUMBERED, ("release", "brickid", "objid"), *zip(_IDS, strict=True), *itertools.product(_GROUPS, _IDS)]
    return [tuple(there[name] for name in some) for some in tried if {*some} <= {*there}]


def _unique(frame, ids, asked):
    """Ids from the first columns that tell all rows apart, and a note where there are none."""
    rows = pd.Series(np.arange(1, len(frame) + 1)).astype(str)
    for chosen in ids:
        parts = [text_of(frame[name]) for name in chosen]
        there = parts[-1] != ""
        joined = functools.reduce(lambda left, right: left + "_" + right, parts)
        if asked or (there.any() and not joined[there].duplicated().any()):
            return joined.where(there, "row " + rows).tolist(), []
    repeated = " and ".join(chosen[0] for chosen in ids if len(chosen) == 1)
    why = f"values of {repeated} occur more than once" if repeated else "there is no usual column of ids"
    return rows.tolist(), [f"ids are row numbers: {why}; name a column by -p columns '{{id: NAME}}'"]


# ---- values


def text_of(values: pd.Series) -> pd.Series:
    """A column as text, empty where a value is missing; whole numbers without a decimal point."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")  # whole numbers, of which some are missing
    found = values.astype(object).where(values.notna(), "")
    return found.map(lambda v: v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v)).str.strip()


def _numbers(values):
    """A column that is kept: text that is numbers as numbers, but for ids (007, or long ones)."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    text = text_of(values)
    with contextlib.suppress(ValueError):
        if not text.str.fullmatch(r"[+-]?0\d+|[+-]?\d{16,}").any():
            return pd.to_numeric(text.mask(text.str.lower().isin(_MISSING)))
    return text


def _degrees(path, values, unit, is_ra):
    """Degrees, NaN where there are none, and whether their unit is known."""
    numeric = pd.api.types.is_numeric_dtype(values)
    text = values if numeric else text_of(values)
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(float, na_value=np.nan)
    unit = unit or _plain(values.name)[1]
    if not numeric and not unit:
        unit = _BY_NAME.get(text.iloc[0].lower())  # a line of units below that of names
    factor, known = _factor(path, values.name, unit)
    degrees = factor * np.where(np.isin(numbers, _PLACEHOLDERS), np.nan, numbers)
    odd = np.isnan(numbers) & (np.zeros(len(text), bool) if numeric else ~text.str.lower().isin(_MISSING).to_numpy())
    if not odd.any():
        return degrees, known
    degrees[odd] = _sexagesimal(text[odd], is_ra)
    if np.isnan(degrees).all():
        comma = " (with a point, not a comma)" if text[odd].str.fullmatch(r"[+-]?\d+,\d+").any() else ""
        raise ValueError(f"{path}: column {values.name!r} has no number but {text[odd].iloc[0]!r}; give degrees{comma} "
                         "or hours and degrees as 10:00:01.9 and +02:03:04")  # fmt: skip
    return degrees, known or bool(np.isfinite(degrees[odd]).any())


def _factor(path, name, unit):
    """Degrees that a unit is, and whether one is stated."""
    try:
        if str(unit or "").lower().strip('"') in _NO_UNITS:
            return 1.0, False
        if isinstance(unit, str | units.UnrecognizedUnit):
            unit = re.match(r"[^\s(\[,]*", str(unit).lower())[0]  # of: deg (J2000)
            unit = _BY_NAME.get(unit, unit)
        known = units.Unit(unit)
        return (units.hourangle if known == units.hour else known).to(units.deg), True
    except (ValueError, TypeError, units.UnitConversionError):
        raise ValueError(f"{path}: unit {str(unit)!r} of column {name!r} is no angle; give degrees") from None


def _sexagesimal(text, is_ra):
    """Degrees of 10:00:01.9, 10h00m01.9s, 10 00 01.9, +02d03m04s or 150.1d; NaN for other text."""
    found = text.str.lower().str.extract(f"^{_ANGLE}$")  # astropy's Angle takes a second for 5000
    whole, minutes, seconds = (found[k].astype(float) for k in (1, 3, 4))
    good = minutes.isna() | ((whole % 1 == 0) & (minutes < 60) & (seconds.fillna(0) <= 60))
    size = (whole + minutes.fillna(0) / 60 + seconds.fillna(0) / 3600).where(good)
    hours = (found[2] == "h") | (is_ra & found[2].isin([":", " "]) & ~(whole >= 24).any())
    return (size * np.where(hours, 15, 1) * np.where(found[0].isin(["-", "−"]), -1, 1)).to_numpy()


def _doubts(path, place, ra, dec, known):
    """Notes on units that may be wrong; raises ValueError where RA and Dec are swapped."""
    there = np.isfinite(ra) & np.isfinite(dec)
    ra, dec = ra[there], dec[there]
    if not len(ra):
        return ["no row has a position"]
    if np.mean((np.abs(dec) > 90) & (np.abs(ra) <= 90)) > 0.5:
        raise ValueError(f"{path}: Dec ({place[1]}) is beyond 90 in most rows: RA and Dec are swapped; say "
                         + _OPTION.format(*(_plain(name)[0] for name in place[::-1])))  # fmt: skip
    if known or ra.min() < 0 or ra.max() >= 24:
        return []
    radians = ra.max() <= 2 * np.pi and np.abs(dec).max() <= np.pi / 2
    remedy = (
        f"radians, call the columns {place[0]}_rad and {place[1]}_rad" if radians else f"hours, call it {place[0]}_h"
    )
    return [f"all RA lie from {ra.min():.4g} to {ra.max():.4g}, below 24, and no unit is stated: taken as degrees; if "
            f"they are {remedy}"]  # fmt: skip
