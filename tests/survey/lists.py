"""A small ranked list as `lensdet rank` leaves it, made without a network: for tests of grading."""

from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from lensdet.survey import candidate_list, cutouts, grading_pictures

SCALE = 0.2  # arcsec a pixel
NASTY = "<img src=x onerror=alert(1)>"


def stamp(k: int) -> np.ndarray:
    """A galaxy with an arc at an angle that follows from k, over noise."""
    y, x = np.indices((101, 101)) - 50.0
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    galaxy = 300 * np.exp(-((r / 6) ** 0.8))
    arc = 15 * np.exp(-(((r - 12) / 2) ** 2) - ((np.angle(np.exp(1j * (angle - k)))) / 0.7) ** 2)
    return (galaxy + arc + np.random.default_rng(k).normal(0, 2, r.shape)).astype(np.float32)


def header(k: int, band: str) -> fits.Header:
    """Of a stamp: north is up."""
    made = fits.Header({"FILTER": band, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 51.0, "CRPIX2": 51.0})
    made.update({"CRVAL1": 150 + k / 100, "CRVAL2": 2.0, "CDELT1": -SCALE / 3600, "CDELT2": SCALE / 3600})
    return made


def ranked(folder: Path, n: int, bands: str = "r") -> Path:
    """Stamps ``0000_r.fits`` ... in ``folder/stamps``, and the output folder of their list, which is returned.

    The third candidate has a name and a cell that look like HTML; the first two are matched with known lenses.
    """
    (folder / "stamps").mkdir(parents=True)
    names = [f"{k:04d}" for k in range(n)]
    names[2:3] = ["<b>0002 &amp;"] if n > 2 else []
    for k, name in enumerate(names):
        for j, band in enumerate(bands):
            file = fits.PrimaryHDU(stamp(k) * (1 + j / 4), header(k, band))
            file.writeto(folder / "stamps" / f"{name}_{band}.fits")
    ids = [f"{name}_r.fits" for name in names]
    order = np.arange(n)
    table = pd.DataFrame({"rank": order + 1, "id": ids, "ra": 150 + order / 100, "dec": 2.0, "filled": 0})
    table["bce"] = table["ensemble"] = np.linspace(5, -5, n)
    table = table.assign(tile=[str(folder / "stamps" / name) for name in ids], hdu=0, x=50.0, y=50.0, flag="")
    table = table.assign(centre_snr=100.0, catalogue_name=[f"object {k}" for k in order])
    table = table.assign(match=["lens one", "lens two", *[""] * n][:n], separation=np.nan, reference="")
    table.loc[2:2, "catalogue_name"] = NASTY
    candidate_list.write(folder / "out", table, [], ["bce"], {"rank_by": "ensemble"})
    job = cutouts.plan_folder(folder / "stamps")
    grading_pictures.describe(folder / "out", job, True, ["thesis/bce"])
    return folder / "out"
