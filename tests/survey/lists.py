"""Small ranked lists as `lensdet rank` leaves them, made without a network: for tests of grading."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from astropy.io import fits

from lensdet.survey import candidate_list, cutouts, cutting, grading_pictures, reading
from tests.survey import cases

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
    batch = {"ids": [f"{name}_r.fits" for name in names], "ra": 150 + np.arange(n) / 100, "dec": np.full(n, 2.0)}
    places = [cutting.Place(str(folder / "stamps" / name), 0, 50.0, 50.0) for name in batch["ids"]]
    return _written(folder / "out", cutouts.plan_folder(folder / "stamps"), True, **batch, places=places)


def ranked_tiles(folder: Path, n: int, bands: str = "r") -> Path:
    """Two large images in each band, those of other bands on another grid; a catalogue of n galaxies; and their list.

    A third image of g is missing, and the catalogue's last galaxy is on its image of r.
    """
    (folder / "tiles").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for tile, (of, turn) in enumerate(((n // 2, 0), ((n - 1) // 2, 30), (1, 0))):
        shapes = cases.sky((700, 700), turn=turn, ra=150 + tile, dec=2.0)
        at = [(110 + 120 * (k % 5), 110 + 120 * (k // 5)) for k in range(of)]
        for band in bands if tile < 2 else bands.replace("g", ""):
            moved = 0 if band == "r" else 9
            pixels = rng.normal(0, 2, (700, 700)).astype(np.float32)
            for k, (x, y) in enumerate(at):
                pixels[y - 50 - moved : y + 51 - moved, x - 50 + moved : x + 51 + moved] += stamp(100 * tile + k)
            header = shapes.copy()
            header.update(FILTER=band, CRPIX1=header["CRPIX1"] + moved, CRPIX2=header["CRPIX2"] - moved)
            fits.writeto(folder / "tiles" / f"tile{tile}_{band}.fits", pixels, header)
        rows += [cases.position(shapes, xy) for xy in at]
    cases.catalogue(folder / "c.csv", {f"galaxy {k}": xy for k, xy in enumerate(rows)})
    job = cutouts.plan_tiles(folder / "c.csv", folder / "tiles")
    return _written(folder / "out", job, False, **_read(job))


def ranked_array(folder: Path, n: int) -> Path:
    """An HDF5 file of n stamps with ids and positions, and the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "stamps.h5", "w") as file:
        file["images"] = np.array([stamp(k) for k in range(n)])
        file["id"], file["ra"], file["dec"] = [f"object {k}" for k in range(n)], 150 + np.arange(n) / 100, np.full(n, 2)
        file["images"].attrs.update(pixel_scale=SCALE, band="r")
    job = cutouts.plan_folder(folder / "stamps.h5")
    return _written(folder / "out", job, True, **_read(job))


def _read(job):
    batch = reading.joined(map(reading.read, job.units))
    assert not batch.rejections
    order = np.argsort(batch.ids)
    return {name: [getattr(batch, name)[k] for k in order] for name in ("ids", "ra", "dec", "places")}


def _written(folder, job, whole, ids, ra, dec, places):
    """The output folder of a list in this order."""
    n, order = len(ids), np.arange(len(ids))
    table = pd.DataFrame({"rank": order + 1, "id": ids, "ra": ra, "dec": dec, "filled": 0})
    table["bce"] = table["ensemble"] = np.linspace(5, -5, n)
    paths, hdu, x, y = zip(*places, strict=True)
    table = table.assign(tile=paths, hdu=hdu, x=x, y=y, flag="", centre_snr=100.0)
    table = table.assign(catalogue_name=[f"object {k}" for k in order])
    table = table.assign(match=["lens one", "lens two", *[""] * n][:n], separation=np.nan, reference="")
    table.loc[2:2, "catalogue_name"] = NASTY
    candidate_list.write(folder, table, [], ["bce"], {"rank_by": "ensemble"})
    grading_pictures.describe(folder, job, whole, ["thesis/bce"])
    return folder
