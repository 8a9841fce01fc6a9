"""The ranked list: matched with known lenses, written as tables, and shown on a page."""

import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow
import yaml
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, Table
from numpy.typing import NDArray
from pyarrow import csv
from scipy.special import expit

from lensdet import storage
from lensdet.data import stamps
from lensdet.survey import cutouts, reading

if TYPE_CHECKING:
    from lensdet.network.finders import Finder

ENSEMBLE = "ensemble"
LAYER = "add_5"  # of the heat maps: the finest, with cells of 16 pixels
SHOWN = 512  # stamps of the page at a time: 20 MB, and one compilation of the heat maps
_FIRST, _AFTER, _LAST = (
    ("rank", "id", "ra", "dec"),
    ("filled", "match", "reference", "separation"),
    ("rejected", "detail"),
)
UNITS = {"ra": "deg", "dec": "deg", "separation": "arcsec"}
_ROWS = 100_000  # of the list at a time
_NO_INTEGER = -(2**63)
_SAFE = " !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"  # of a URL
# What ends a line for astropy, which keeps a line feed within a text, but not one before a comment or an empty line.
_BREAKS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]|\n(?=\s*(?:[#\n]|$))")


def match(ranked: pd.DataFrame, known: pd.DataFrame, radius: float) -> pd.DataFrame:
    """The nearest known lens, of `catalogues.read_known`, within a radius (arcsec) of each candidate.

    Returns
    -------
    pandas.DataFrame
        ``match`` (its name), ``separation`` (arcsec) and ``reference``, a row a candidate; "" and NaN without a match.
    """
    empty = {"match": "", "separation": np.nan, "reference": ""}
    found = pd.DataFrame(empty, index=ranked.index).astype({"match": object, "reference": object})
    placed = np.flatnonzero(np.isfinite(ranked["ra"]) & np.isfinite(ranked["dec"]))
    if not len(placed) or not len(known):
        return found
    here = SkyCoord(ranked["ra"].to_numpy()[placed], ranked["dec"].to_numpy()[placed], unit="deg")
    there = SkyCoord(known["ra"].to_numpy(), known["dec"].to_numpy(), unit="deg")
    nearest, separation, _ = here.match_to_catalog_sky(there)
    near = separation.arcsec <= radius
    rows = ranked.index[placed[near]]
    for column, name in (("match", "name"), ("reference", "reference")):
        found.loc[rows, column] = known[name].to_numpy()[nearest[near]]
    found.loc[rows, "separation"] = separation.arcsec[near]
    return found


def write(
    folder: str | os.PathLike,
    ranked: pd.DataFrame,
    rejections: Sequence[stamps.Rejection],
    finders: Collection[str],
    about: dict[str, str],
) -> None:
    """Write ``ranked.ecsv`` and ``ranked.fits``, every stamp that was asked for in both, and ``rejected.csv``.

    Columns: ``rank``, ``id``, ``ra``, ``dec``, ``p_ensemble`` and ``p_...`` of each finder, from calibrated logits, and
    these as ``logit_...``, since probabilities tie where they saturate; ``filled``, ``match``, ``reference``,
    ``separation``, and whatever else the ranked have.  What was left out comes last, without rank and scores, with
    ``rejected`` (the reason) and ``detail``.  A number that is missing or NaN is masked.

    Parameters
    ----------
    folder, rejections
    ranked : pandas.DataFrame
        From `ranking.rank`, perhaps with the columns of `match`, and others.
    finders : dict, or list of str
        By name, or the names.
    about : dict
        Kept in the tables' header: what made them.
    """
    stamps.write_rejections(Path(folder) / "rejected.csv", rejections)
    names = [ENSEMBLE, *finders]
    kinds = _kinds(ranked, names)
    for name, form in (("ranked.ecsv", _write_ecsv), ("ranked.fits", _write_fits)):
        with storage.atomic(Path(folder) / name) as beside:
            form(beside, lambda: _blocks(ranked, rejections, names, kinds), kinds, about)


def read_list(folder: str | os.PathLike, numbers: bool = True) -> pd.DataFrame:
    """What is ranked of the list that `write` left in a folder, by rank; empty texts are "".

    Without ``numbers`` all columns are text, as it stands there.  Not by astropy, which takes a minute for a million
    rows.

    Raises
    ------
    FileNotFoundError
        There is no list.
    """
    path = Path(folder) / "ranked.ecsv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the output folder of `lensdet rank`")
    header = []
    with open(path, encoding="utf-8") as file:
        while (line := file.readline()).startswith("#"):
            header.append(line[2:])
    table = pd.read_csv(path, skiprows=len(header), dtype=str, keep_default_na=False)
    table = table[table["rank"] != ""].reset_index(drop=True)
    if numbers:
        columns = yaml.safe_load("".join(header[1:]))["datatype"]
        names = [column["name"] for column in columns if column["datatype"] != "string"]
        table[names] = table[names].apply(lambda column: pd.to_numeric(column.where(column != "")))
    return table


def _kinds(ranked, names):
    """Columns of the list in their order, and the type of each: float, integer or text."""
    types = ranked.dtypes.rename({name: f"logit_{name}" for name in names}).to_dict()
    scores = [f"{of}_{name}" for name in names for of in ("p", "logit")]
    types |= dict.fromkeys(scores, np.dtype(float)) | dict.fromkeys(_LAST, np.dtype(object))
    first = [name for name in (*_FIRST, *scores, *_AFTER) if name in types]
    order = [*first, *(name for name in types if name not in (*first, *_LAST)), *_LAST]

    def kind(dtype):
        if pd.api.types.is_float_dtype(dtype):
            return "f4" if dtype.itemsize == 4 else "f8"
        return "i8" if pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_bool_dtype(dtype) else "U"

    return {name: kind(types[name]) for name in order}


def _blocks(ranked, rejections, names, kinds):
    """Yield the rows of the list, some at a time, in its columns."""
    for first in range(0, len(ranked), _ROWS):
        some = ranked.iloc[first : first + _ROWS].rename(columns={name: f"logit_{name}" for name in names})
        some = some.assign(**{f"p_{name}": expit(some[f"logit_{name}"]) for name in names})
        yield _block(some, kinds)
    for first in range(0, len(rejections), _ROWS):
        yield _block(pd.DataFrame(rejections[first : first + _ROWS], columns=["id", *_LAST], dtype=object), kinds)


def _block(some, kinds):
    """Some rows in the columns of the list, what they lack among them."""
    made = {}
    for name, column in some.reindex(columns=list(kinds)).items():
        if kinds[name] == "U":
            made[name] = column.astype(object).where(column.notna(), "").map(as_text)
        else:
            made[name] = column.astype("Int64" if kinds[name] == "i8" else kinds[name])
    return pd.DataFrame(made)


def as_text(value: object) -> str:
    """As text that can be written, and read again: a file name need not be valid Unicode, nor one line."""
    value = str(value)
    if value.isprintable():
        return value
    value = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), value)


def _write_ecsv(path, blocks, kinds, about):
    """The header by astropy, of a table without rows; the rows by pyarrow, a hundred times as fast."""
    empty = {name: Column([], dtype=str if kind == "U" else kind, unit=UNITS.get(name)) for name, kind in kinds.items()}
    header = io.StringIO()
    Table(empty, meta=about).write(header, format="ascii.ecsv", delimiter=",")
    with open(path, "wb") as file:
        file.write(header.getvalue().encode())
        for block in blocks():
            rows = pyarrow.Table.from_pandas(block, preserve_index=False)
            csv.write_csv(rows, file, csv.WriteOptions(include_header=False))


def _write_fits(path, blocks, kinds, about):
    """The header by astropy, of a table without rows; the rows as FITS has them, some at a time."""
    widths, n = dict.fromkeys((name for name, kind in kinds.items() if kind == "U"), 1), 0
    for block in blocks():
        n += len(block)
        widths = {name: max(width, _ascii(block[name]).itemsize) for name, width in widths.items()}
    named = {name: quote(name, safe=_SAFE) for name in kinds}
    row = np.dtype([(named[name], f"S{widths[name]}" if kind == "U" else f">{kind}") for name, kind in kinds.items()])
    header = fits.BinTableHDU(np.zeros(0, row)).header
    header["NAXIS2"] = n
    for k, (name, kind) in enumerate(kinds.items(), 1):
        if name in UNITS:
            header.set(f"TUNIT{k}", UNITS[name], after=f"TFORM{k}")
        if kind == "i8":
            header.set(f"TNULL{k}", _NO_INTEGER, after=f"TFORM{k}")
    for name, value in about.items():
        header["COMMENT"] = f"{name}: {value}"
    with open(path, "wb") as file:
        file.write((fits.PrimaryHDU().header.tostring() + header.tostring()).encode("ascii"))
        for block in blocks():
            rows = np.zeros(len(block), row)
            for name, kind in kinds.items():
                values = block[name].fillna(_NO_INTEGER) if kind == "i8" else block[name]
                rows[named[name]] = _ascii(values) if kind == "U" else values
            file.write(rows.tobytes())
        file.write(bytes(-file.tell() % 2880))


def _ascii(values):
    """Text as FITS tables have it, ASCII alone: other characters as in a URL."""
    return np.array([quote(text, safe=_SAFE).encode("ascii") for text in values], "S")


def pictures(
    job: cutouts.Plan, ranked: pd.DataFrame, finder: "Finder"
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Stamps of the ranked, read again by their plan, with heat maps of a finder: batches for `page.write`, in order.

    Yields
    ------
    pixels : float32 array (k, 101, 101)
        Normalised, not stretched.
    heat : float32 array (k, u, u)
        Grad-CAM at `LAYER`, of the logit.
    """
    from lensdet.network import gradcam  # a list alone needs no TensorFlow, which takes half a gigabyte

    for first in range(0, len(ranked), SHOWN):
        ids = ranked["id"].iloc[first : first + SHOWN].tolist()
        pixels = stamps.normalise(read_again(job, ids))
        maps = gradcam.heat_maps(finder.network, np.sqrt(pixels)[..., None], layers=(LAYER,))
        yield pixels, maps.heat[LAYER]


def read_again(job: cutouts.Plan, ids: Sequence[str]) -> NDArray[np.float32]:
    """Stamps of a plan float32 (k, 101, 101) by their ids, in that order, as read."""
    rows = pd.Index(job.ids, dtype=object).get_indexer(ids)
    batch = reading.read(job.unit(np.sort(rows)))  # those of a file together
    if batch.rejections:
        raise stamps.StampError(*batch.rejections[0])
    return batch.pixels[np.argsort(np.argsort(rows))]


def page_rows(ranked: pd.DataFrame, finders: Collection[str], by: str = ENSEMBLE) -> Iterator[dict[str, Any]]:
    """Rows of a table of `ranking.rank` as `page.write` takes them, with the score that they are ranked by.

    ``finders`` is a dict by name, or the names; ``by`` the ensemble, or one of them.
    """
    texts = {"match": "", "separation": np.nan, "reference": "", "flag": ""}
    for row in ranked.to_dict("records"):
        yield {
            **{name: row[name] for name in ("rank", "id", "ra", "dec", "filled")},
            **{name: row.get(name, empty) for name, empty in texts.items()},
            "score": float(expit(row[by])),
            "scores": {name: float(expit(row[name])) for name in finders},
        }
