"""FITS stamps in, float32 arrays out; Eq. 4.1; quarantine of what cannot be used."""

import contextlib
import csv
import errno
import math
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from lensdet import storage
from lensdet.data import images
from lensdet.data.fits import check_compressed, open_checked

OnBad = Literal["quarantine", "raise"]  # leave out what cannot be used, or stop at it
SHAPE = (101, 101)  # pixels, of 0.2 arcsec (section 4.2)
SPLITS = ("train", "validation", "test")
FOLDERS = {"lenses": "lrg", "sources": "source", "negatives": "contaminant"}  # folder of the thesis' layout: our class

# Header keyword of a lensed source: column of the catalogue.
KEYWORDS = {
    "LENSER": "einstein_radius",  # arcsec
    "LENSAR": "lens_axis_ratio",
    "LENSAA": "lens_angle",  # degrees
    "LENSSH": "shear",
    "LENSSA": "shear_angle",  # degrees
    "SRCER": "source_radius",  # arcsec, effective radius
    "SRCX": "source_x",  # arcsec
    "SRCY": "source_y",  # arcsec
    "SRCAR": "source_axis_ratio",
    "SRCAA": "source_angle",  # degrees
    "SRCSI": "source_sersic",
}
CATALOGUE = np.dtype([(column, np.float64) for column in KEYWORDS.values()])

_BATCH = 128  # files a task: 5 MB of pixels, some 50 ms of work, against about 1 ms to hand it to a worker
FITS_NAME = re.compile(r"[^.].*\.(fits?|fts)(\.(gz|bz2|xz|fz))?", re.IGNORECASE | re.DOTALL)  # no hidden files


class StampError(ValueError):
    """A file or folder that cannot be used.

    It has attributes file, reason and detail.  The reason is one of: unreadable, empty, not FITS, truncated, corrupt,
    no image, companion, shape, non-finite, constant, keyword; of a folder: empty class.
    """

    def __init__(self, file: str | os.PathLike, reason: str, detail: object) -> None:
        super().__init__(str(file), reason, str(detail))
        self.file, self.reason, self.detail = self.args

    def __str__(self):
        return f"{self.file}: {self.reason} ({self.detail})"


class Rejection(NamedTuple):
    """A file that was left out, and why; a row of ``rejected.csv``."""

    file: str
    reason: str
    detail: str


class Stamps(NamedTuple):
    """What `read_stamps` returns: the n usable files, in the order of the paths, and the others."""

    pixels: np.ndarray  # float32 (n, 101, 101), as in the file: not normalised
    catalogue: np.ndarray  # of dtype CATALOGUE, (n,); NaN where the header has no such keyword
    paths: list  # n of the paths given
    rejections: list  # of Rejection


def normalise(image: ArrayLike) -> NDArray[np.float32]:
    """Scale each image to [0, 1] by its own minimum and maximum (Eq. 4.1).

    Parameters
    ----------
    image : array_like, (..., 101, 101)
        Finite, with at least two values in each image; any size of the last two axes.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape; the minimum of each image is exactly 0, its maximum exactly 1.

    Raises
    ------
    ValueError
        An image, named by its index, is constant or has NaN or infinite pixels.  (The thesis has no such guard: a
        constant image became NaN.)
    """
    with np.errstate(over="ignore"):  # what overflows float32 is infinite, and refused below
        image = np.asarray(image, np.float32)
    out = np.empty_like(image)
    for index in np.ndindex(image.shape[:-2]):
        stamp = image[index].astype(np.float64)  # one image at a time: the range cannot overflow, memory stays small
        low, high = stamp.min(), stamp.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"image {index or ''} has NaN or infinite pixels and cannot be normalised")
        if low == high:
            raise ValueError(f"image {index or ''} is constant ({low:g}) and cannot be normalised")
        out[index] = (stamp - low) / (high - low)
    return out


def read_stamp(
    path: str | os.PathLike, shape: tuple[int, int] = SHAPE, band: str | None = None
) -> tuple[NDArray[np.float32], fits.Header]:
    """Read the image of the sky in a FITS file: no weight, mask or the like, see `lensdet.data.images.sky_images`.

    Parameters
    ----------
    path : path-like
        Plain, gzipped or tile-compressed; any number type, byte order and scaling (BZERO, BSCALE).
    shape : tuple of int
        Rows and columns that the image must have; an axis of length 1 before or after them is dropped.
    band : str, optional
        Taken of several images, or of the planes of a cube, where the header says which it is.

    Returns
    -------
    pixels : numpy.ndarray
        float32, C-contiguous, of `shape`; in the units of the file, not normalised.  All finite, not all equal: a file
        with NaN, infinite or blank (BLANK) pixels is refused.
    header : astropy.io.fits.Header
        Of the image; where that is an extension, with what the primary header adds.

    Raises
    ------
    StampError
        The file cannot be used; it says why.  A file that is shorter than its header says is refused as truncated even
        where only padding is missing.
    """
    try:
        with open_checked(path) as file, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", AstropyWarning)  # of oddities that do no harm; the others are checked here
            return _read(path, file, shape, band)
    except StampError:
        raise
    except Exception as error:  # whatever a spoilt file makes of the reader, 100,000 others are waiting
        # EINVAL is what a negative size in the header leads to; every other number is the file system's.
        reason = "corrupt" if getattr(error, "errno", None) in (None, errno.EINVAL) else "unreadable"
        # A header that is cut off ends in one of two messages; FITS comes in blocks of 2880 bytes.
        if "END card" in str(error) or ("Empty or corrupt" in str(error) and os.path.getsize(path) % 2880):
            reason = "truncated"
        raise StampError(path, reason, f"{type(error).__name__}: {error}") from error


def _read(path, stream, shape, band):
    # To the end first: gives the size, and of a gzipped file checks length and CRC (in pieces, not in memory).
    try:
        size = stream.seek(0, os.SEEK_END)
    except EOFError as error:
        raise StampError(path, "truncated", error) from error
    stream.seek(0)
    if size == 0:
        raise StampError(path, "empty", "0 bytes")
    if stream.read(6) != b"SIMPLE":
        raise StampError(path, "not FITS", "does not begin with SIMPLE")
    stream.seek(0)
    with fits.open(stream, memmap=False, uint=False) as hdus:  # uint=False: BLANK counts in unsigned integers, too
        numbers, other = images.sky_images(hdus, path, band, shape)
        if not numbers:
            reason = "companion" if other else "truncated" if size % 2880 else "no image"
            raise StampError(path, reason, other or f"{size} bytes with {len(hdus)} HDU and no pixels")
        hdu = hdus[numbers[0]]
        # Everything that the header tells is checked before a pixel is read: the file may be a whole survey tile.
        if (plane := images.plane_of(hdu, band, shape)) is None:
            raise StampError(path, "shape", f"{hdu.shape}, not {shape}")
        # astropy warns of a short file only where it happens to look beyond the data.
        where = hdu.fileinfo()
        if size < (expected := where["datLoc"] + where["datSpan"]):
            raise StampError(path, "truncated", f"{size} bytes, not {expected}")
        if isinstance(hdu, fits.CompImageHDU):
            check_compressed(hdu, stream)
        pixels = np.ascontiguousarray(hdu.data[plane].reshape(shape), np.float32)
        header = images.header_of(hdu, hdus)
    if not np.isfinite(pixels).all():
        raise StampError(path, "non-finite", f"{np.count_nonzero(~np.isfinite(pixels))} NaN or infinite pixels")
    if pixels.min() == pixels.max():
        raise StampError(path, "constant", f"all pixels are {pixels.flat[0]:g}")
    return pixels, header


def _catalogue_row(path, header):
    row = []
    for keyword in KEYWORDS:
        try:
            value = header.get(keyword)
            row.append(math.nan if value is None or isinstance(value, fits.card.Undefined) else float(value))
        except Exception as error:  # a text, a complex number, a card that cannot be parsed
            raise StampError(path, "keyword", f"{keyword} is not a number: {error}") from None
    return tuple(row)


@contextlib.contextmanager
def _reading(paths, workers):
    """What `_read_batch` returns, batch by batch in the order of the paths, from worker processes."""
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    # loky, since a notebook run as a script has no importable __main__; one batch is not worth a second process.
    pool = Parallel(max(1, min(effective_n_jobs(workers), len(batches))), backend="loky", return_as="generator")
    batches_read = pool(delayed(_read_batch)(batch) for batch in batches)
    try:
        yield batches_read
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib's, of work that is given up
            batches_read.close()  # after an error or Ctrl-C no worker goes on reading


def _read_batch(paths):
    """The usable of some files: pixels (k, 101, 101), catalogue (k,), paths; and the rejections."""
    pixels = np.empty((len(paths), *SHAPE), np.float32)
    rows, kept, rejections = [], [], []
    for path in paths:
        try:
            pixels[len(kept)], header = read_stamp(path)
            rows.append(_catalogue_row(path, header))
            kept.append(path)
        except StampError as error:
            rejections.append(Rejection(*error.args))
    return pixels[: len(kept)], np.array(rows, CATALOGUE), kept, rejections


def read_stamps(
    paths: Sequence[str | os.PathLike],
    on_bad: OnBad = "quarantine",
    workers: int = -1,
    rejected: str | os.PathLike | None = None,
    description: str | None = "stamps",
) -> Stamps:
    """Read many stamps, on all cores, and leave out by name what cannot be used.

    Parameters
    ----------
    paths : sequence of path-like
    on_bad : {"quarantine", "raise"}
        Leave out a bad file and go on, or stop at the first one in the order of `paths`.
    workers : int
        Processes; -1: all cores.  The result does not depend on it.
    rejected : path-like, optional
        CSV file that takes the rejections, see `write_rejections`; written also when there are none.
    description : str, optional
        What the progress bar and the line that counts rejections call the files; None: no progress bar.

    Returns
    -------
    Stamps
        With n = 0 where no file can be used: what that means is for the caller to say.

    Raises
    ------
    StampError
        With ``on_bad="raise"``, at a bad file.
    """
    if on_bad not in ("quarantine", "raise"):
        raise ValueError(f"on_bad is 'quarantine' or 'raise', not {on_bad!r}")
    paths = list(paths)
    pixels = np.empty((len(paths), *SHAPE), np.float32)
    catalogue = np.empty(len(paths), CATALOGUE)
    kept, rejections = [], []
    quiet = description is None or len(paths) < 200
    with (
        _reading(paths, workers) as batches,
        tqdm(total=len(paths), desc=description, unit="file", file=sys.stderr, disable=quiet) as bar,
    ):
        for some_pixels, some_rows, some_paths, bad in batches:
            if bad and on_bad == "raise":
                raise StampError(*bad[0])
            place = slice(len(kept), len(kept) + len(some_paths))
            pixels[place], catalogue[place] = some_pixels, some_rows
            kept += some_paths
            rejections += bad
            bar.update(len(some_paths) + len(bad))
    if rejected is not None:
        write_rejections(rejected, rejections)
    if rejections:
        _say_left_out(rejections, len(paths), description or "stamps", rejected)
    return Stamps(pixels[: len(kept)], catalogue[: len(kept)], kept, rejections)


def _say_left_out(rejections, total, name, rejected):
    """One line on stderr: how many files were left out for each reason, and where the list of them is."""
    counts = Counter(r.reason for r in rejections).most_common()
    summary = ", ".join(f"{n} {reason}" for reason, n in counts) + (f"; see {rejected}" if rejected else "")
    print(f"{name}: {len(rejections)} of {total} files left out: {summary}", file=sys.stderr)


def write_rejections(path: str | os.PathLike, rejections: Iterable[Rejection]) -> None:
    """Write ``rejected.csv``: columns file, reason, detail; atomic.  Rejections of several reads can be joined."""
    # surrogateescape: a file name need not be valid Unicode.
    text = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with storage.atomic(path) as beside, open(beside, "w", **text) as file:
        csv.writer(file, lineterminator="\n").writerows([Rejection._fields, *rejections])


def write_stamp(path: str | os.PathLike, pixels: ArrayLike, keywords: Mapping[str, float] | None = None) -> None:
    """Write one stamp as float32 FITS (gzipped where the name ends in ``.gz``); atomic, and makes the folders.

    Parameters
    ----------
    path : path-like
    pixels : array_like, (101, 101)
    keywords : mapping, optional
        Values by column of the catalogue (`KEYWORDS`), such as ``{"einstein_radius": 1.5}``; NaN is not written.
    """
    header = fits.Header()
    names = {column: keyword for keyword, column in KEYWORDS.items()}
    for column, value in (keywords or {}).items():
        if not math.isnan(value):
            header[names[column]] = (float(value), column.replace("_", " "))
    with storage.atomic(path) as beside:
        fits.PrimaryHDU(np.asarray(pixels, np.float32), header).writeto(beside, overwrite=True)


def fits_below(folder: str | os.PathLike) -> list[Path]:
    """Every FITS file (by `FITS_NAME`) in a folder and those below it, sorted by path."""
    return sorted(path for path in Path(folder).rglob("*") if FITS_NAME.fullmatch(path.name))


def find_stamps(folder: str | os.PathLike) -> dict[tuple[str, str], list[Path]]:
    """The files of a folder in the thesis' layout: ``train|validation|test`` / ``lenses|sources|negatives``.

    Lenses and negatives lie flat; where names have ``_r_`` in them only these are taken (the r band), and files one
    level down count where the folder has none with ``_r_``.  A source has its own folder, ``sources/17/17.fits``, or
    lies flat.  ``.fits``, ``.fit``, and these with ``.gz`` or ``.fz``, in any case; hidden files do not count.
    A split ``calibration`` is taken where that folder is there.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    dict
        Lists of paths by (split, class), class being "lrg", "source" or "contaminant"; in natural order (2 before 10),
        never in that of the file system.

    Raises
    ------
    StampError
        A class is missing or has no FITS file; names the folder and what is expected there.
    """
    folder = Path(folder)
    splits = (*SPLITS, "calibration") if (folder / "calibration").is_dir() else SPLITS
    return {(split, cls): _find(folder / split / name) for split in splits for name, cls in FOLDERS.items()}


def _find(folder):
    form = "17/17.fits or 17.fits" if folder.name == "sources" else "*_r_*.fits, or *.fits"
    if not folder.is_dir():
        raise StampError(folder, "empty class", f"no such folder; expected in it: {form} (.fit, .gz, .fz too)")
    flat, nested = _list(folder)
    if folder.name == "sources":
        found = list(flat)
        for inner in nested:
            files = _list(inner)[0]
            found += [f for f in files if f.name.split(".")[0] == inner.name] or files
    else:
        found = [f for f in flat if "_r_" in f.name.lower()]
        if not found:
            flat += [f for inner in nested for f in _list(inner)[0]]
            found = [f for f in flat if "_r_" in f.name.lower()] or flat
        if len(found) < len(flat):
            print(f"{folder}: {len(flat) - len(found)} files without '_r_' in their name left out", file=sys.stderr)
    if not found:
        raise StampError(folder, "empty class", f"no FITS file; expected: {form} (.fit, .gz, .fz too)")
    return sorted(found, key=_natural)


def _list(folder):
    """FITS files and folders in a folder."""
    entries = [e for e in os.scandir(folder) if not e.name.startswith(".")]
    folders = [Path(e.path) for e in entries if e.is_dir()]
    return [Path(e.path) for e in entries if FITS_NAME.fullmatch(e.name) and not e.is_dir()], folders


def _natural(path):
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)
