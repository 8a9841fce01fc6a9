"""A survey of one's own as stamps: from a folder of FITS stamps, or from a catalogue and the tiles that it was made of.

A plan is made first, from names and headers alone: where each stamp is cut, and a key of all that decides its pixels.
Any part of it is read in any process and order.  Memory is that of a part, however many stamps there are.  What cannot
be used is left out by name, with a reason of `headers.REASONS`; nothing that a file holds ends the job.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lensdet.data.images import band_of
from lensdet.data.stamps import Rejection
from lensdet.survey import arrays, catalogues, files, headers
from lensdet.survey import tiles as tile_files
from lensdet.survey.cutting import OPEN, Place
from lensdet.survey.headers import Options, Wanted

_VERSION = 3  # part of the keys: raise it when a pixel of a stamp changes
BATCH = 256  # stamps that are read together
FEW = 50  # tiles whose headers are read before a process to help would have started
_ALIKE = (
    "{} tiles have the same pixels of the sky as another, such as {} and {}: where one is a weight or a mask, take it "
    "out of the folder; the first by name is cut, or that of floats"
)
_PLACES = np.dtype([("file", np.int32), ("hdu", np.int32), ("x", float), ("y", float)])
_USUAL = Wanted()


class Unit(NamedTuple):
    """Some stamps of a plan."""

    ids: tuple
    ra: tuple  # degrees; NaN: that of the header
    dec: tuple
    places: tuple  # of tuples of Place: where each can be cut, the best first
    options: Options


class Plan(NamedTuple):
    """What there is to read: n stamps in a fixed order, those of a file together."""

    ids: list  # of str
    ra: np.ndarray  # degrees, (n,); NaN: that of the header
    dec: np.ndarray
    files: list  # paths
    places: np.ndarray  # of dtype _PLACES (n, k): where each stamp can be cut, the best first; file -1: nowhere else
    keys: np.ndarray  # bytes (n,): of what decides the pixels of each
    options: Options
    rejections: list  # of lensdet.data.stamps.Rejection; its `file` is the id
    total: int  # stamps asked for, those that are rejected included
    passed_over: tuple = ()  # names of files that are not those of FITS
    notes: tuple = ()  # of str: what a user should know of the catalogue
    kept: pd.DataFrame | None = None  # further columns of the catalogue, n rows

    @property
    def digest(self) -> str:
        """Hexadecimal; another for other files, rows or options."""
        named = "\0".join([*self.ids, *(f"{r.file} {r.reason}" for r in self.rejections), repr(self.options)])
        return hashlib.sha256(self.keys.tobytes() + named.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the catalogue, and of files that are passed over."""
        some = ", ".join(map(repr, self.passed_over[:3])) + (", ..." if len(self.passed_over) > 3 else "")
        n = len(self.passed_over)
        words = "file whose name is not that of FITS is" if n == 1 else "files whose names are not those of FITS are"
        said = f"{n:,} {words} passed over: {some}"
        return [*self.notes, *([said] if self.passed_over else [])]

    @property
    def units(self) -> list[Unit]:
        """All of it, for `reading.read`."""
        rows = np.arange(len(self.ids))
        return [self.unit(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]

    def unit(self, rows: Sequence[int] | NDArray) -> Unit:
        """The stamps of some rows, for `reading.read`."""
        places = tuple(
            tuple(Place(self.files[file], hdu, x, y) for file, hdu, x, y in some if file >= 0)
            for some in self.places[rows].tolist()
        )
        ids = tuple(self.ids[row] for row in rows)
        return Unit(ids, tuple(self.ra[rows].tolist()), tuple(self.dec[rows].tolist()), places, self.options)


def plan_folder(
    folder: str | os.PathLike,
    wanted: Wanted = _USUAL,
    pixel_scale: float | None = None,
    band: str | None = None,
    max_filled: float = 0.02,
    plane: int | None = None,
) -> Plan:
    """Stamps of a folder and those below it, links to folders included, or of an HDF5 file (`arrays.listed`).

    Parameters
    ----------
    folder : path-like
        An id is the path of a file below it, with ``/``; of an HDF5 file what that gives.
    wanted
    pixel_scale : float, optional
        Arcsec a pixel of stamps whose headers do not say.
    band : str, optional
        Band of stamps whose headers name none, or one that is not understood.
    max_filled : float
        Share of a stamp's pixels that may be filled.
    plane : int, optional
        Of cubes, from 0, where headers do not name it.

    Returns
    -------
    Plan
        Nothing is opened yet: its rejections are folders that cannot be listed.

    Raises
    ------
    FileNotFoundError, ValueError
        As `files.listed`; ValueError also where the stated scale or band cannot be.
    """
    options = _checked(wanted, pixel_scale, band, max_filled, plane)
    folder = Path(folder)
    if folder.is_file() and arrays.is_array(folder):
        return _plan_array(folder, options)
    ids, passed, closed = files.listed(folder, "stamps")
    paths = [os.path.join(folder, name) for name in ids]
    places = np.zeros((len(ids), 1), _PLACES)
    places["file"], places["hdu"], places["x"], places["y"] = np.arange(len(ids))[:, None], -1, np.nan, np.nan
    nowhere = np.full(len(ids), np.nan)
    keys = _keys(files.stats(ids, paths), places)
    total = len(ids) + len(closed)
    return Plan(ids, nowhere, nowhere, paths, places, keys, options, closed, total, tuple(passed))


def _plan_array(path, options):
    ids, ra, dec = arrays.listed(path)
    places = np.zeros((len(ids), 1), _PLACES)
    places["hdu"], places["x"], places["y"] = np.arange(len(ids))[:, None], np.nan, np.nan
    keys = _keys(files.stats([path.name], [path]), places)
    if len({*ids}) < len(ids):
        ids = [f"{name} {row}" for row, name in enumerate(ids, 1)]
    return Plan(ids, ra, dec, [str(path)], places, keys, options, [], len(ids))


def plan_tiles(
    catalogue: str | os.PathLike,
    tiles: str | os.PathLike | Iterable[str | os.PathLike],
    wanted: Wanted = _USUAL,
    columns: Mapping[Literal["id", "ra", "dec"], str] | None = None,
    pixel_scale: float | None = None,
    band: str | None = None,
    max_filled: float = 0.02,
    plane: int | None = None,
    workers: int = 1,
    keep: Sequence[str] = (),
) -> Plan:
    """Stamps at the positions of a catalogue, from the tiles that hold them.

    Stamps are in the order of their tiles, and within them of their rows.  A position on several is cut from that in
    which it is farthest from the edge; where that has no data, from the next.  A tile that cannot be used is named with
    each position that no other tile has.

    Parameters
    ----------
    catalogue, columns
        As in `catalogues.read_catalogue`.
    tiles : path-like or list of them
        FITS files, or folders of them: plain, packed, or tile-compressed; of each the images of the sky with a
        celestial WCS (`lensdet.data.images.sky_images`).  A packed tile is unpacked from its beginning: unpack large
        ones.
    pixel_scale : float, optional
        Arcsec a pixel of all tiles; one whose WCS says otherwise is not used.
    band : str, optional
        Band of tiles whose headers name none, or one that is not understood.
    workers : int
        Processes that read headers; -1: all cores.
    keep : sequence of str
        Further columns of the catalogue that are wanted.
    wanted, max_filled, plane
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
    options = _checked(wanted, pixel_scale, band, max_filled, plane)
    listed = catalogues.read_catalogue(catalogue, columns, keep)
    ids, ra, dec = listed[:3]
    given = [tiles] if isinstance(tiles, str | os.PathLike) else list(tiles)
    paths, passed, closed = files.of_tiles(map(Path, given))
    bad = _without_place(listed)
    rows = np.array([row for row in range(len(ids)) if row not in bad], int)
    places, refused, alike = _places(paths, ra[rows], dec[rows], options, workers)
    bad |= {int(rows[i]): said for i, said in refused.items()}
    rejections = [Rejection(ids[row], *bad[row]) for row in sorted(bad)]
    order = np.lexsort([places[name][:, 0] for name in ("x", "y", "hdu", "file")])
    order = order[places["file"][order, 0] >= 0]
    rows, places = rows[order], places[order]
    keys = _keys(files.stats([os.path.basename(path) for path in paths], paths), places)
    named, notes = [ids[row] for row in rows], (*listed.notes, *closed, *alike)
    asked = Plan(named, ra[rows], dec[rows], paths, places, keys, options, rejections, len(ids), tuple(passed), notes)
    return asked._replace(kept=listed.kept.iloc[rows].reset_index(drop=True)) if keep else asked


def _checked(wanted, pixel_scale, band, max_filled, plane):
    if band is not None and band_of(band) != band_of(wanted.band):
        raise ValueError(f"band: images of {band!r}, but the finder takes {wanted.band!r}; give images of that band")
    if pixel_scale is not None and not headers.FINEST <= pixel_scale / wanted.pixel_scale <= headers.COARSEST:
        low, high = headers.FINEST * wanted.pixel_scale, headers.COARSEST * wanted.pixel_scale
        raise ValueError(f"pixel_scale: {pixel_scale} arcsec a pixel; from {low:g} to {high:g} can be resampled")
    if not 0 <= max_filled < 1:
        raise ValueError(f"max_filled is a share from 0 up to 1, not {max_filled}")
    return Options(wanted, pixel_scale, band, max_filled, plane)


def _without_place(listed):
    """Rows of a catalogue that nothing can be cut for: reason and detail by row."""
    ids, ra, dec = listed[:3]
    bad = {
        int(row): ("no position", f"row {row + 1}: {listed.lost.get(int(row), f'RA {ra[row]:g}, Dec {dec[row]:g}')}")
        for row in np.flatnonzero(~((ra >= -180) & (ra <= 360) & (dec >= -90) & (dec <= 90)))
    }
    twice = np.flatnonzero(pd.Series(ids, dtype=object).duplicated())
    return bad | {int(row): ("duplicate id", f"row {row + 1}") for row in twice}


def _places(paths, ra, dec, options, workers):
    """Where each of n positions can be cut; StampError, that of the first tile, where none can be used.

    Returns
    -------
    places : array of _PLACES (n, k)
        The images in which it is farthest from the edge first, at most `OPEN`; file -1 where there is none.
    refused : dict
        Reason and detail by position that is cut from no tile.
    alike : list of str
        A note where several files have images of the same pixels of the sky: one may be a weight or the like.
    """
    sky = SkyCoord(ra, dec, unit="deg")
    vectors = cKDTree(np.stack(sky.cartesian.xyz.value, axis=-1)) if len(ra) else None
    hits, refused, failures, used, first, alike = [], {}, [], 0, {}, []
    pool = Parallel(workers if len(paths) > FEW else 1, return_as="generator")
    looks = pool(delayed(tile_files.look_over)(path, options) for path in paths)
    for k, (path, found) in enumerate(zip(paths, looks, strict=True)):
        used += any(image.error is None for image in found)
        failures += [found[0].error] if all(image.error for image in found) else []
        for image in found:
            if image.wcs is None or vectors is None:
                continue
            if not image.error:
                other = first.setdefault((image.shape, image.middle.round(8).tobytes()), path)
                alike += [(other, path)] if other != path else []
            close = np.sort(np.array(vectors.query_ball_point(image.middle, image.reach), int))
            inside, x, y, distance = _inside(image, close, sky)
            if image.error:
                said = image.error.reason, f"{os.path.basename(path)}: {image.error.detail}"
                refused |= {int(i): said for i in inside if i not in refused}
            elif len(inside):
                columns = np.full(len(inside), k), np.full(len(inside), image.hdu), x, y
                hits.append(np.stack([inside, -distance, np.full(len(inside), image.integers), *columns]))
    if paths and not used:
        raise failures[0]
    # of a position the farthest from an edge first; of images that lie alike a mask of integers last
    table = np.concatenate(hits, axis=1) if hits else np.zeros((7, 0))
    table = table[:, np.lexsort(table[[2, 1, 0]])]
    which = table[0].astype(int)
    turn = np.arange(len(which)) - np.searchsorted(which, which)
    some = turn < OPEN
    places = np.zeros((len(ra), int(turn[some].max(initial=0)) + 1), _PLACES)
    places["file"] = -1
    for name, values in zip(_PLACES.names, table[3:], strict=True):
        places[name][which[some], turn[some]] = values[some]
    lost = "".join(f"; not usable: {os.path.basename(e.file)}, {e.reason}" for e in failures[:3])
    lost += f" and {len(failures) - 3} more" if len(failures) > 3 else ""
    off = "off the tiles", f"{used} tiles looked at{lost}"
    refused = {int(i): refused.get(int(i), off) for i in np.flatnonzero(places["file"][:, 0] < 0)}
    return places, refused, [_ALIKE.format(len(alike), *map(os.path.basename, alike[0]))] if alike else []


def _inside(image, close, sky):
    """Of positions that are close those on an image: indices, x, y, distance from the nearest edge (arcsec)."""
    if not len(close):
        return close, *np.zeros((3, 0))
    (rows, columns), (x, y) = image.shape, (np.atleast_1d(p) for p in image.wcs.world_to_pixel(sky[close]))
    distance = np.min([x + 0.5, columns - 0.5 - x, y + 0.5, rows - 0.5 - y], axis=0)
    on = distance > 0
    return close[on], x[on], y[on], distance[on] * image.scale


def _keys(stats, places):
    """A key of each stamp: of its files, and where it is cut, to a thousandth of a pixel."""
    rounded = places.copy()
    rounded["file"] = places["file"] >= 0  # not which: that changes where files are added
    for name in ("x", "y"):
        rounded[name] = np.round(places[name], 3)
    keys = np.zeros(len(places), "S16")
    for i, (some, at) in enumerate(zip(rounded, places["file"].tolist(), strict=True)):
        named = b"".join(stats[file] for file in at if file >= 0)
        keys[i] = hashlib.blake2b(b"%d" % _VERSION + some.tobytes() + named, digest_size=8).hexdigest()
    return keys
