"""The ranked list: matched with known lenses, written as tables, and shown on a page."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray
from scipy.special import expit

from lensdet import storage
from lensdet.data import stamps
from lensdet.network import gradcam
from lensdet.network.finders import Finder
from lensdet.survey import cutouts

ENSEMBLE = "ensemble"
LAYER = "add_5"  # of the heat maps: the finest, with cells of 16 pixels
SHOWN = 512  # stamps of the page at a time: 20 MB, and one compilation of the heat maps


def match(ranked: pd.DataFrame, known: pd.DataFrame, radius: float) -> pd.DataFrame:
    """The nearest known lens within a radius of each candidate.

    Parameters
    ----------
    ranked : pandas.DataFrame
        With ``ra`` and ``dec`` in degrees, NaN where not known.
    known : pandas.DataFrame
        From `catalogues.read_known`.
    radius : float
        arcsec.

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
    these as ``logit_...``, since probabilities tie where they saturate; ``filled``, ``match``, ``separation``,
    ``reference``.  What was left out comes last, without rank and scores, with ``rejected`` (the reason) and
    ``detail``.

    Parameters
    ----------
    folder : path-like
    ranked : pandas.DataFrame
        From `ranking.rank`, perhaps with the columns of `match`.
    rejections : list of lensdet.data.stamps.Rejection
    finders : dict, or list of str
        By name, or the names.
    about : dict
        Kept in the tables' header: what made them.
    """
    stamps.write_rejections(Path(folder) / "rejected.csv", rejections)
    names = [ENSEMBLE, *finders]
    n, m = len(ranked), len(rejections)
    bad = np.arange(n + m) >= n

    def column(values, name, fill, **more):
        return MaskedColumn([*values, *[fill] * m], name=name, mask=bad, **more)

    table = Table(masked=True, meta=about)
    table["rank"] = column(ranked["rank"], "rank", 0)
    table["id"] = [_text(i) for i in (*ranked["id"], *(r.file for r in rejections))]
    for name in ("ra", "dec"):
        table[name] = MaskedColumn([*ranked[name], *[np.nan] * m], mask=[*ranked[name].isna(), *[True] * m], unit="deg")
    for name in names:
        table[f"p_{name}"] = column(expit(ranked[name]), name, np.nan)
        table[f"logit_{name}"] = column(ranked[name], name, np.nan)
    table["filled"] = column(ranked["filled"], "filled", 0)
    if "match" in ranked:
        for name in ("match", "reference"):
            table[name] = [*map(_text, ranked[name]), *[""] * m]
        table["separation"] = MaskedColumn([*ranked["separation"], *[np.nan] * m], unit="arcsec",
                                           mask=[*ranked["separation"].isna(), *[True] * m])  # fmt: skip
    table["rejected"] = [*[""] * n, *(r.reason for r in rejections)]
    table["detail"] = [*[""] * n, *(_text(r.detail) for r in rejections)]
    for name, form in (("ranked.ecsv", "ascii.ecsv"), ("ranked.fits", "fits")):
        with storage.atomic(Path(folder) / name) as beside:
            _printable(table, form).write(beside, format=form, overwrite=True)


def _text(value):
    """As text that can be written: a file name need not be valid Unicode."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _printable(table, form):
    """FITS tables have ASCII alone: other characters of an id as in a URL."""
    if form != "fits":
        return table
    made = table.copy()
    made.meta = {"comments": [f"{name}: {value}" for name, value in table.meta.items()]}
    for name in made.colnames:
        if made[name].dtype.kind in "UO":
            made[name] = [
                quote(str(value), safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~").encode("ascii") for value in made[name]
            ]
    return made


def pictures(
    job: cutouts.Plan, ranked: pd.DataFrame, finder: Finder
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Stamps of the ranked, in their order, with their heat maps: batches for `page.write`.

    Parameters
    ----------
    job : lensdet.survey.cutouts.Plan
        That the ranked are of; their files are read again.
    ranked : pandas.DataFrame
        With ``id``.
    finder : lensdet.network.finders.Finder
        That the heat maps are of.

    Yields
    ------
    pixels : float32 array (k, 101, 101)
        Normalised, not stretched.
    heat : float32 array (k, u, u)
        Grad-CAM at `LAYER`, of the logit.
    """
    for first in range(0, len(ranked), SHOWN):
        ids = ranked["id"].iloc[first : first + SHOWN].tolist()
        pixels = stamps.normalise(read_again(job, ids))
        maps = gradcam.heat_maps(finder.network, np.sqrt(pixels)[..., None], layers=(LAYER,))
        yield pixels, maps.heat[LAYER]


def read_again(job: cutouts.Plan, ids: Sequence[str]) -> NDArray[np.float32]:
    """Stamps of a plan float32 (k, 101, 101) by their ids, in that order, as read."""
    rows = pd.Index(job.ids, dtype=object).get_indexer(ids)
    batch = cutouts.read(job.unit(np.sort(rows)))  # those of a file together
    if batch.rejections:
        raise stamps.StampError(*batch.rejections[0])
    return batch.pixels[np.argsort(np.argsort(rows))]


def page_rows(ranked: pd.DataFrame, finders: Collection[str], by: str = ENSEMBLE) -> Iterator[dict[str, Any]]:
    """Rows of a ranked table as `page.write` takes them, with the score that they are ranked by.

    Parameters
    ----------
    ranked : pandas.DataFrame
        From `ranking.rank`, perhaps with the columns of `match`.
    finders : dict, or list of str
        By name, or the names.
    by : str
        The ensemble, or one of the finders.
    """
    texts = {"match": "", "separation": np.nan, "reference": ""}
    for row in ranked.to_dict("records"):
        yield {
            **{name: row[name] for name in ("rank", "id", "ra", "dec", "filled")},
            **{name: row.get(name, empty) for name, empty in texts.items()},
            "flag": row.get("flag", ""),
            "score": float(expit(row[by])),
            "scores": {name: float(expit(row[name])) for name in finders},
        }
