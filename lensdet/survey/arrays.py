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

    Its stamps are the one dataset of three axes (n, rows, columns), or with a fourth of length 1; beside it lie,
    of n entries, ``id``, ``ra`` and ``dec``, or none.  Without ids they are numbered from 1.

    Raises
    ------
    ValueError
        There is not one such dataset, or another has other than n entries; names the file.
    """
    found = {}
    try:
        with h5py.File(path) as file:
            images = _images(file)
            n = len(images)
            for name in (*_IDS, "ra", "dec"):
                if isinstance(beside := _own(file, name), h5py.Dataset):
                    if beside.shape != (n,):
                        raise ValueError(f"{name} has the shape {beside.shape}, not ({n},) as the stamps have")
                    kind = "id" if name in _IDS else name
                    found.setdefault(kind, beside[()] if kind == "id" else beside[()].astype(float))
            about = _about(file, images)
            if "pixel_scale" in about and not 0 < float(about["pixel_scale"]) < math.inf:
                raise ValueError("pixel_scale has to be a positive number")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: no HDF5 file of stamps: {error}") from error
    nowhere = np.full(n, math.nan)
    given = found.get("id", np.arange(1, n + 1)).tolist()
    ids = [i.decode("utf-8", "replace") if isinstance(i, bytes) else str(i) for i in given]
    return ids, found.get("ra", nowhere), found.get("dec", nowhere)


def _own(file, name):
    """What lies in a file under a name, and in no other file or place; None where nothing does."""
    return file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None


def _about(file, images):
    """Attributes of a file and its images: single values, of which text is no bytes."""
    both = {**file.attrs, **images.attrs}
    values = {name: np.ravel(both[name])[0] for name in ("pixel_scale", "band") if name in both}
    return {name: v.decode("latin-1") if isinstance(v, bytes) else v for name, v in values.items()}


def as_fits(path: str | os.PathLike, row: int) -> io.BytesIO:
    """A stamp of a file as FITS, with its scale and band by the attributes ``pixel_scale`` (arcsec) and ``band``."""
    with h5py.File(path) as file:
        images = _images(file)
        about, header = _about(file, images), fits.Header()
        if "pixel_scale" in about:
            header["PIXSCALE"] = float(about["pixel_scale"])
        if "band" in about:
            header["FILTER"] = str(about["band"])
        stream = io.BytesIO()
        fits.PrimaryHDU(np.squeeze(np.asarray(images[row], np.float32)), header).writeto(stream)
    stream.seek(0)
    return stream


def _images(file):
    sets = [item for name in file if isinstance(item := _own(file, name), h5py.Dataset)]
    found = [item for item in sets if item.ndim == 3 or (item.ndim == 4 and 1 in (item.shape[1], item.shape[3]))]
    elsewhere = any(item.external or item.is_virtual for item in found)  # pixels of another file are not opened
    if len(found) != 1 or elsewhere or not len(found[0]) or found[0].dtype.kind not in "iuf":
        there = ", ".join(f"{item.name} {item.shape}" for item in sets[:20]) or "none"
        raise ValueError(
            f"not one dataset of numbers (stamps, rows, columns) in it, outside of groups; there are: {there}"
        )
    return found[0]
