"""A survey of one's own as stamps: from a folder of FITS stamps, or from a catalogue and the tiles that it was made of.

A plan is made first, from names and headers alone; it consists of units, each of which `read` makes a batch of, in any
process and order.  Memory is that of one batch, however many stamps there are.  What cannot be used is left out by
name, with a reason of `headers.REASONS`; nothing that a file holds ends the job.

Pixels at which a tile has no data are known by NaN or BLANK alone: zeros, as some surveys write there, are pixels.
"""

import contextlib
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.utils.exceptions import AstropyWarning

from lensdet.data.images import band_of
from lensdet.data.stamps import SHAPE, Rejection, StampError, fits_below, read_stamp
from lensdet.survey import catalogues, headers
from lensdet.survey import tiles as tile_files

_VERSION = 2  # part of the digest: raise it when a pixel of a stamp changes


class Wanted(NamedTuple):
    """What a finder takes; from the preprocessing that travels with its weights."""

    size: tuple = SHAPE  # rows, columns
    pixel_scale: float = 0.2  # arcsec
    band: str = "r"


_USUAL = Wanted()


class Batch(NamedTuple):
    """What `read` returns: n usable stamps in the order of the unit, and the others by name."""

    ids: list  # of str
    ra: np.ndarray  # degrees (ICRS), (n,); NaN where not known
    dec: np.ndarray
    pixels: np.ndarray  # float32 (n, rows, columns), in the units of the file; finite, not constant
    filled: np.ndarray  # int (n,): masked or missing pixels that were filled
    rejections: list  # of lensdet.data.stamps.Rejection; its `file` is the id


class Plan(NamedTuple):
    """What there is to read."""

    units: list  # for `read`, in a fixed order
    rejections: list  # of lensdet.data.stamps.Rejection; its `file` is the id
    total: int  # stamps asked for, those that are rejected included
    digest: str  # hexadecimal; another for other files, rows, wishes or options


class FolderUnit(NamedTuple):
    """Some stamps of a folder."""

    folder: str
    ids: tuple  # paths below the folder
    wanted: Wanted
    pixel_scale: float | None
    band: str | None


class TileUnit(NamedTuple):
    """Some positions on one tile."""

    path: str
    hdu: int
    ids: tuple
    ra: tuple  # degrees
    dec: tuple
    x: tuple  # pixels of the tile, from 0
    y: tuple
    wanted: Wanted
    max_filled: float


def plan_folder(
    folder: str | os.PathLike,
    wanted: Wanted = _USUAL,
    pixel_scale: float | None = None,
    band: str | None = None,
    batch: int = 256,
) -> Plan:
    """Stamps of a folder and those below it.

    Parameters
    ----------
    folder : path-like
        An id is the path of a file below it, with ``/``.
    wanted : Wanted
    pixel_scale : float, optional
        Arcsec a pixel of stamps whose headers do not say.
    band : str, optional
        Band of stamps whose headers name none, or one that is not understood.
    batch : int
        Stamps a unit, at most.

    Returns
    -------
    Plan
        Nothing is opened yet: it has no rejections.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        It has no FITS file; the stated scale or band is not the wanted one.
    """
    _check(wanted, band, batch)
    if pixel_scale is not None and not headers.near([pixel_scale], wanted.pixel_scale):
        raise ValueError(
            f"pixel_scale: stamps of {pixel_scale} arcsec a pixel, but the finder takes {wanted.pixel_scale}; give a "
            "catalogue and the tiles, which are resampled"
        )
    folder = Path(folder)
    paths = _files(folder, "stamps")
    ids = [path.relative_to(folder).as_posix() for path in paths]
    some = [tuple(ids[i : i + batch]) for i in range(0, len(ids), batch)]
    found = [FolderUnit(str(folder), names, wanted, pixel_scale, band) for names in some]
    digest = _digest("folder", _stats(ids, paths), wanted, pixel_scale, band, batch)
    return Plan(found, [], len(ids), digest)


def plan_tiles(
    catalogue: str | os.PathLike,
    tiles: str | os.PathLike | Iterable[str | os.PathLike],
    wanted: Wanted = _USUAL,
    columns: Mapping[Literal["id", "ra", "dec"], str] | None = None,
    pixel_scale: float | None = None,
    band: str | None = None,
    max_filled: float = 0.02,
    batch: int = 256,
) -> Plan:
    """Stamps at the positions of a catalogue, from the tiles that hold them.

    A unit has positions on one tile, in the order of its rows.  A position on several is cut from that in which it is
    farthest from the edge.  A tile that cannot be used is named with each position that no other tile has.

    Parameters
    ----------
    catalogue, columns
        As in `catalogues.read_catalogue`.
    tiles : path-like or list of them
        FITS files, or folders of them: plain, ``.gz``, or tile-compressed; of each one image with a celestial WCS
        counts (`sky_images`).  A gzipped tile is unzipped from its beginning once a unit: gunzip large ones.
    pixel_scale : float, optional
        Arcsec a pixel of all tiles; one whose WCS says otherwise is not used.
    band : str, optional
        Band of tiles whose headers name none, or one that is not understood.
    max_filled : float
        Share of a stamp's pixels that may be filled.
    wanted, batch
        As in `plan_folder`.

    Raises
    ------
    FileNotFoundError
        The catalogue or a file or folder of tiles is not there.
    ValueError
        As `catalogues.read_catalogue`; a folder has no FITS file; the stated band is not the wanted one.
    lensdet.data.stamps.StampError
        No tile can be used: that of the first.
    """
    _check(wanted, band, batch)
    if not 0 <= max_filled < 1:
        raise ValueError(f"max_filled is a share from 0 up to 1, not {max_filled}")
    listed = catalogues.read_catalogue(catalogue, columns)
    ids, ra, dec = listed[:3]
    tiles = [tiles] if isinstance(tiles, str | os.PathLike) else list(tiles)
    paths = list(dict.fromkeys(path for given in tiles for path in _files(Path(given), "tiles")))
    bad = _without_place(listed)
    rows = np.array([row for row in range(len(ids)) if row not in bad], int)
    sky = SkyCoord(ra[rows], dec[rows], unit="deg")
    cut, refused = _choose_tiles(paths, sky, wanted, pixel_scale, band)
    bad |= {int(rows[i]): said for i, said in refused.items()}
    placed = [ids[row] for row in rows], ra[rows], dec[rows]
    found = [
        TileUnit(str(paths[k]), cut.hdus[k], *some, wanted, max_filled) for k, some in _by_tile(placed, cut, batch)
    ]
    rejections = [Rejection(ids[row], *bad[row]) for row in sorted(bad)]
    of_files = _stats([path.name for path in paths], paths)
    of_rows = [ids, [repr(v) for v in ra.tolist()], [repr(v) for v in dec.tolist()]]
    digest = _digest("tiles", of_files, of_rows, wanted, pixel_scale, band, max_filled, batch)
    return Plan(found, rejections, len(ids), digest)


def _without_place(listed):
    """Rows of a catalogue that nothing can be cut for: reason and detail by row."""
    bad, seen, (ids, ra, dec) = {}, set(), listed[:3]
    for row, name in enumerate(ids):
        if name in seen:
            bad[row] = "duplicate id", f"row {row + 1}"
        elif not (-180 <= ra[row] <= 360 and -90 <= dec[row] <= 90):
            bad[row] = "no position", f"row {row + 1}: {listed.lost.get(row, f'RA {ra[row]:g}, Dec {dec[row]:g}')}"
        seen.add(name)
    return bad


class _Cut(NamedTuple):
    """Where each of n positions is cut."""

    tile: np.ndarray  # int (n,): index of a path; -1 where no tile can be used
    x: np.ndarray  # pixels of that tile, from 0, (n,)
    y: np.ndarray
    hdus: dict  # number of the image's HDU, by index of a path


def _choose_tiles(paths, sky, wanted, pixel_scale, band):
    """For each position the tile in which it is farthest from the edge.

    Returns
    -------
    cut : _Cut
    refused : dict
        Reason and detail by position that is cut from no tile.

    Raises
    ------
    lensdet.data.stamps.StampError
        No tile can be used: that of the first.
    """
    cut = _Cut(np.full(len(sky), -1), np.zeros(len(sky)), np.zeros(len(sky)), {})
    far, whole = np.full(len(sky), -np.inf), np.zeros(len(sky), bool)  # integers: perhaps a mask
    refused, failures = {}, []  # reason and detail by position, of tiles that cannot be used; errors
    for k, path in enumerate(paths):
        error, where = tile_files.look_over(path, sky, wanted, pixel_scale, band)
        failures += [error] if error else []
        if where is None:
            continue
        cut.hdus[k], inside, at_x, at_y, distance, integers = where
        if error:
            detail = f"{path.name}: {error.detail}"
            refused |= {int(i): (error.reason, detail) for i in inside if i not in refused}
            continue
        better = (distance > far[inside]) | ((distance == far[inside]) & whole[inside] & (not integers))
        chosen = inside[better]
        cut.tile[chosen], far[chosen], cut.x[chosen], cut.y[chosen] = k, distance[better], at_x[better], at_y[better]
        whole[chosen] = integers
    if failures and len(failures) == len(paths):
        raise failures[0]
    lost = "".join(f"; not usable: {Path(e.file).name}, {e.reason}" for e in failures[:3])
    lost += f" and {len(failures) - 3} more" if len(failures) > 3 else ""
    off = "off the tiles", f"{len(paths) - len(failures)} tiles looked at{lost}"
    return cut, {int(i): refused.get(int(i), off) for i in np.flatnonzero(cut.tile < 0)}


def _by_tile(placed, cut, batch):
    """Yield the index of a tile, and ids, RA, Dec, x and y of at most ``batch`` positions on it, in its rows' order."""
    ids, ra, dec = placed
    for k in np.unique(cut.tile[cut.tile >= 0]):
        here = np.flatnonzero(cut.tile == k)
        here = here[np.lexsort((cut.x[here], cut.y[here]))]
        for some in (here[i : i + batch] for i in range(0, len(here), batch)):
            numbers = (tuple(a[some].tolist()) for a in (ra, dec, cut.x, cut.y))
            yield k, (tuple(ids[i] for i in some), *numbers)


def _check(wanted, band, batch):
    if batch < 1:
        raise ValueError(f"batch is 1 or more stamps, not {batch}")
    if band is not None and band_of(band) != band_of(wanted.band):
        raise ValueError(f"band: images of {band!r}, but the finder takes {wanted.band!r}; give images of that band")


def _files(path, what):
    """A file, or the FITS files of a folder."""
    if path.is_file() and what == "tiles":
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such {'file or ' if what == 'tiles' else ''}folder of {what}")
    if not (found := fits_below(path)):
        raise ValueError(f"{path}: no FITS file in it (.fits, .fit, and these with .gz or .fz)")
    return found


def _stats(names, paths):
    """Name, size and time of files; None for one that is not there."""
    stats = [path.stat() if path.exists() else None for path in paths]
    return [(os.fsencode(n).hex(), s and s.st_size, s and s.st_mtime_ns) for n, s in zip(names, stats, strict=True)]


def _digest(*of):
    return hashlib.sha256(json.dumps([_VERSION, *of]).encode("utf-8", "surrogateescape")).hexdigest()


def read(unit: FolderUnit | TileUnit) -> Batch:
    """Read a unit of a plan; in any process.

    Returns
    -------
    Batch
        With n = 0 where no stamp of the unit can be used.  What a file holds raises nothing.
    """
    pixels = np.empty((len(unit.ids), *unit.wanted.size), np.float32)
    kept, rejections = [], []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", AstropyWarning)  # of oddities that do no harm; the others are checked
        each = _from_folder(unit) if isinstance(unit, FolderUnit) else tile_files.read(unit)
        for name, got in zip(unit.ids, each, strict=True):
            if isinstance(got, StampError):
                rejections.append(Rejection(name, got.reason, got.detail))
            else:
                pixels[len(kept)], *rest = got
                kept.append((name, *rest))
    ids, ra, dec, filled = zip(*kept, strict=True) if kept else ((),) * 4
    ra, dec = (np.array(degrees, float) for degrees in (ra, dec))
    return Batch(list(ids), ra, dec, pixels[: len(kept)], np.array(filled, int), rejections)


def _from_folder(unit):
    """Of each stamp: pixels, RA, Dec, 0; or a StampError."""
    for name in unit.ids:
        try:
            path = os.path.join(unit.folder, name)
            headers.peek(path)
            pixels, header = read_stamp(path, tuple(unit.wanted.size), unit.wanted.band)
            try:
                wcs = headers.celestial(header)
            except Exception:  # a WCS that cannot be made sense of: none
                wcs = None
            scales = headers.scales_of(header, wcs)
            if scales is None and unit.pixel_scale is None:
                raise StampError(name, "no scale", "no WCS, CD, CDELT or PIXSCALE")
            if scales is not None and not headers.near(scales, unit.wanted.pixel_scale):
                said = " x ".join(f"{s:.4g}" for s in scales)
                raise StampError(name, "scale", f"{said} arcsec a pixel, not {unit.wanted.pixel_scale:g}")
            headers.check_band(name, header, unit.wanted, unit.band)
            headers.check_plateau(name, pixels, header)
            yield pixels, *_centre(wcs, pixels.shape), 0
        except Exception as error:
            yield headers.as_stamp_error(name, error)


def _centre(wcs, shape):
    """RA and Dec of the middle of a stamp, NaN where not known."""
    if wcs is not None:
        with contextlib.suppress(Exception):
            sky = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
            return float(sky.ra.deg), float(sky.dec.deg)
    return math.nan, math.nan
