"""Stamps in one HDF5 file: an array of images, and perhaps their ids, positions, pixel scale and band."""

import io
import math
import os

import h5py
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

SUFFIXES = (".h5", ".hdf5", ".hdf")
_IDS = ("id", "ids", "object_id", "name", "names")


def is_array(path: str | os.PathLike) -> bool:
    """Whether a path is named as an HDF5 file."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def listed(path: str | os.PathLike) -> tuple[list[str], NDArray, NDArray]:
    """Ids, RA and Dec (degrees, NaN where not given) of the n stamps of a file.

    Its stamps are the one dataset of three axes (n, rows, columns); beside it lie, of n entries, ``id``, ``ra`` and
    ``dec``, or none.  Without ids they are numbered from 1.

    Raises
    ------
    ValueError
        There is not one such dataset, or another has other than n entries; names the file.
    """
    with h5py.File(path) as file:
        images = _images(path, file)
        n, found = len(images), {}
        for name in (*_IDS, "ra", "dec"):
            if name in file and file[name].shape != (n,):
                raise ValueError(f"{path}: {name} has the shape {file[name].shape}, not ({n},) as the stamps have")
            if name in file:
                found.setdefault("id" if name in _IDS else name, file[name][()])
    nowhere = np.full(n, math.nan)
    given = found.get("id", np.arange(1, n + 1)).tolist()
    ids = [i.decode("utf-8", "replace") if isinstance(i, bytes) else str(i) for i in given]
    return ids, found.get("ra", nowhere).astype(float), found.get("dec", nowhere).astype(float)


def as_fits(path: str | os.PathLike, row: int) -> io.BytesIO:
    """A stamp of a file as FITS, with its scale and band by the attributes ``pixel_scale`` (arcsec) and ``band``."""
    with h5py.File(path) as file:
        images = _images(path, file)
        about = {**file.attrs, **images.attrs}
        header = fits.Header()
        if "pixel_scale" in about:
            header["PIXSCALE"] = float(about["pixel_scale"])
        if "band" in about:
            header["FILTER"] = str(about["band"])
        stream = io.BytesIO()
        fits.PrimaryHDU(np.asarray(images[row], np.float32), header).writeto(stream)
    stream.seek(0)
    return stream


def _images(path, file):
    own = [file[name] for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    found = [item.name for item in own if isinstance(item, h5py.Dataset) and item.ndim == 3]
    if len(found) != 1 or file[found[0]].external:  # pixels of another file are not opened
        raise ValueError(f"{path}: of datasets of three axes (stamps, rows, columns) there is not one but {len(found)}")
    return file[found[0]]
