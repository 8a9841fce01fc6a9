"""Galaxies of a user's own survey, as hosts of simulated sources: read, graded, and split by position.

They become a bank of stamps beside the broad survey, which is simulated at their scale and around their PSF, so that
`lensdet.network.training` trains on both as on any survey.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from filelock import FileLock
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from tqdm import tqdm

from lensdet import storage
from lensdet.data import bank, images, stamps
from lensdet.data.bank import Bank
from lensdet.data.random import stream
from lensdet.parameters import Parameters
from lensdet.storage import digest
from lensdet.survey import catalogues, cutouts, quality, reading, tables

SHARES = {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.2}  # of the hosts
FEWEST = 20  # hosts: with fewer nothing can be said of a finder, and hardly one can be trained
SAMPLE = 40  # stamps whose headers say scale and band
AROUND = 1.5  # the broad survey's PSFs go from the hosts' over this to that many times it
WITHIN = 0.3  # of a stamp's width, the largest Einstein radius: arcs beyond the edges would be lenses without any
LENS, NO_LENS = ("lens", "a", "b", "1"), ("non-lens", "nonlens", "x", "0")  # grades, in lower case
_FIRST = -1_000_000_000  # ids of a user's own stamps: none is simulated


class Own(NamedTuple):
    """Stamps of a user's own, n of them that can be used."""

    ids: list  # of str
    pixels: np.ndarray  # float32 (n, 101, 101), in the units of the files
    ra: np.ndarray  # degrees, (n,); NaN where not known
    dec: np.ndarray

    def some(self, which: NDArray) -> "Own":
        """Those of some indices, or where a mask is true."""
        places = np.arange(len(self.ids))[which]
        return Own([self.ids[i] for i in places], *(array[places] for array in self[1:]))


NONE = Own([], np.zeros((0, *stamps.SHAPE), np.float32), np.zeros(0), np.zeros(0))


def wanted(folder: Path, parameters: Parameters) -> cutouts.Wanted:
    """Scale and band of the stamps of a folder, as most headers of a sample say them; ``pixel_scale`` and ``band`` win.

    Of a folder of several bands r is taken, unless another has twice as many stamps.

    Raises
    ------
    ValueError
        Where headers do not say the scale, or the folder cannot be used.
    """
    p = parameters
    if p.band and p.pixel_scale:
        return cutouts.Wanted(stamps.SHAPE, p.pixel_scale, p.band)
    found, unread = {}, {}
    for band in [p.band] if p.band else ["r", *sorted(images.LETTERS - {"r"})]:
        # of any size: the scale that says how many pixels are needed is not known yet
        job = cutouts.plan_folder(folder, cutouts.Wanted(band=band), band=p.band, max_filled=0.999, plane=p.plane)
        # drawn: every third of a sorted folder may be of one band
        rows = np.sort(stream(0, "hosts/sample").permutation(len(job.ids))[:SAMPLE])
        found[band], unread[band] = _scales(job, rows)
    most = max(found, key=lambda band: len(found[band]))
    band = "r" if 2 * len(found.get("r", ())) >= len(found[most]) > 0 else most
    scales = [scale for scale in found[band] if scale is not None]
    if p.pixel_scale:
        return cutouts.Wanted(stamps.SHAPE, p.pixel_scale, band)
    if not scales:
        why = f" ({unread[band][0].reason}: {unread[band][0].detail})" if unread[band] else ""
        raise ValueError(f"hosts {folder}: no header of {len(rows)} says the pixel scale{why}; add "
                         "-p pixel_scale ARCSEC")  # fmt: skip
    # one that there is, where two are as frequent
    return cutouts.Wanted(stamps.SHAPE, float(f"{np.quantile(scales, 0.5, method='lower'):.4g}"), band)


def _scales(job, rows):
    """Arcsec a pixel by the header of each stamp of the band, None where it does not say; and errors of the others."""
    found, unread = [], []
    for image, scales in reading.look(job.unit(rows)):
        if isinstance(image, stamps.StampError) and image.reason != "no scale":
            unread.append(image)
        else:
            found.append(None if scales is None else float(np.mean(scales)))
    return found, unread


def read(
    folder: Path, what: str, asked: cutouts.Wanted, parameters: Parameters, every: bool = False
) -> tuple[Own, list[stamps.Rejection]]:
    """The stamps of a folder or HDF5 file as `rank` reads them, without those that have no galaxy or a bad pixel.

    Parameters
    ----------
    folder, asked, parameters
    what : str
        What the progress bar calls them.
    every : bool
        Also what `quality` flags: a negative may be just that, such as an empty stamp.

    Returns
    -------
    Own
    list of lensdet.data.stamps.Rejection
        What could not be read, and without ``every`` what is flagged.
    """
    p = parameters
    job = cutouts.plan_folder(folder, asked, p.pixel_scale, p.band, p.max_filled, p.plane)
    chunks = [np.arange(len(job.ids))[i : i + cutouts.BATCH] for i in range(0, len(job.ids), cutouts.BATCH)]
    parts = []
    with tqdm(total=len(job.ids), desc=what, unit="stamp", disable=len(job.ids) < 200) as bar:
        for part in reading.batches(job, chunks, p.workers):
            parts.append(part)
            bar.update(len(part.ids) + len(part.rejections))
    batch = reading.joined(parts)
    flags = quality.flags(batch.measures, {}, {})
    good = np.isin(flags, ["", "low contrast"]) | every  # shallow is what a survey may be
    known = quality.reasons({})
    flagged = [stamps.Rejection(batch.ids[i], flags[i], known[flags[i]]) for i in np.flatnonzero(~good)]
    own = Own(batch.ids, batch.pixels, batch.ra, batch.dec).some(good)
    return own, [*job.rejections, *batch.rejections, *flagged]


def splits(ra: NDArray, dec: NDArray, pixels: NDArray, apart: float, kinds: NDArray | None = None) -> NDArray[np.str_]:
    """The split of each stamp; those that show the same sky are in the same.

    Parameters
    ----------
    ra, dec : float arrays (n,)
        Degrees; NaN where not known.
    pixels : array (n, rows, columns)
        The same pixels twice are in the same split, too.
    apart : float
        arcsec between centres, below which two stamps overlap.
    kinds : int array (n,), optional
        From 0; each kind is split by `SHARES`.

    Returns
    -------
    array of str (n,)
        Names of splits, by `SHARES` as near as groups allow; another order of the stamps gives the same.
    """
    n = len(pixels)
    sums = np.array([hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for x in pixels])
    pairs = []
    placed = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(placed):
        sky = SkyCoord(ra[placed], dec[placed], unit="deg")
        tree = cKDTree(np.stack(sky.cartesian.xyz.value, axis=-1))
        reach = 2 * np.sin(np.deg2rad(apart / 3600) / 2)
        pairs.append(placed[tree.query_pairs(reach, output_type="ndarray")])
    same = pd.Series(np.arange(n)).groupby(sums).transform("min").to_numpy()
    pairs.append(np.stack([np.arange(n), same], 1))
    pairs = np.concatenate(pairs)
    group = connected_components(coo_array((np.ones(len(pairs)), pairs.T), (n, n)), directed=False)[1]
    of = pd.Series(sums).groupby(group).min()  # a group by the least of its sums, whatever the order of the stamps
    names = np.empty(n, "U11")
    kinds = np.zeros(n, int) if kinds is None else kinds
    left = {split: share * np.bincount(kinds) for split, share in SHARES.items()}
    drawn = of.sort_values().index[stream(0, "hosts/split").permutation(len(of))]
    counts = np.bincount(group)
    for name in drawn[np.argsort(-counts[drawn], kind="stable")]:  # large groups first: the others even them out
        members = np.flatnonzero(group == name)
        some = np.bincount(kinds[members], minlength=kinds.max() + 1)
        split = max(SHARES, key=lambda split: some @ left[split])  # where most of these kinds is missing
        names[members] = split
        left[split] -= some
    return names


def grades(path: Path) -> dict[str, int]:
    """What people said of stamps, by id: 1 a lens, 0 none; grades that are neither `LENS` nor `NO_LENS` say nothing.

    Parameters
    ----------
    path : Path
        A table as `tables.open_table` reads it, such as ``labels.csv`` of ``lensdet grades``.  Case and blanks do not
        matter, but for the case of ids.  Where an id has several rows, as of several people, those that say something
        must agree, or nothing is said of it.

    Raises
    ------
    ValueError
        Without columns id and grade; names the file and what it has.
    FileNotFoundError
        There is no such file.
    """
    ids, said, _ = _labels(path)
    known = {**dict.fromkeys(LENS, 1), **dict.fromkeys(NO_LENS, 0)}
    grade = said.str.lower().map(known)
    told = grade.groupby(ids).agg(["min", "max"]).dropna()
    told = told.loc[[i for i in ids.drop_duplicates() if i and i in told.index]]  # in the order of the file
    return told["min"][told["min"] == told["max"]].astype(int).to_dict()


def classes(path: Path) -> dict[str, str]:
    """What kind of no lens people took stamps for, by id, such as spiral: the column ``class``, where there is one.

    The file is as `grades` takes it.  Of several rows of an id the first that says something counts.
    """
    ids, said, kind = _labels(path)
    some = said.str.lower().isin(NO_LENS) & (kind != "") & (ids != "")
    return dict(zip(ids[some][::-1], kind[some][::-1], strict=True))


def _labels(path):
    """Ids, grades and classes of a table, Series of text; classes are empty where it has none."""

    def columns(names):
        plain = {name.strip(" #").lower(): name for name in reversed(names)}
        return [plain.get(name) for name in ("id", "grade", "class")]

    with tables.named(path):
        names, load = tables.open_table(path, lambda names: None not in columns(names)[:2])
    *wanted, kind = columns(names)
    if None in wanted:
        raise ValueError(f"labels {path}: needs columns id and grade, and has {', '.join(map(str, names))}")
    with tables.named(path):
        frame, _ = load([*wanted, *([kind] if kind else [])])
    ids, said = (catalogues.text_of(frame[name]) for name in wanted)
    found = catalogues.text_of(frame[kind]) if kind else pd.Series("", index=frame.index)
    return ids.map(tables.as_before), said, found.map(tables.as_before)


def around(parameters: Parameters, asked: cutouts.Wanted, psf: float) -> Parameters:
    """Parameters of the broad survey at the hosts' scale and around their PSF, with arcs that a stamp can hold."""
    low, high = parameters.einstein_radius
    high = min(high, WITHIN * min(asked.size) * asked.pixel_scale)
    about = max(round(psf, 1), 0.1)  # so that some more hosts do not make another survey
    update = {"simulated_scale": asked.pixel_scale, "seeing": (about / AROUND, about * AROUND),
              "einstein_radius": (min(low, high / 2), high)}  # fmt: skip
    return parameters.model_copy(update=update)


def open_bank(folder: Path, own: dict[str, Own], split: dict[str, NDArray], psf: float, parameters: Parameters) -> Bank:
    """The bank of one's own stamps beside the broad survey, in a folder; built where it is not there.

    In each class one's own stamps come first, with ``own`` true.  The simulated ones are those of `bank.open_bank`.

    Parameters
    ----------
    folder
    own, split : dict
        Of ``lrg``, ``contaminant`` and ``graded``: stamps, and the split of each from `splits`.
    psf : float
        arcsec, FWHM.
    parameters : lensdet.parameters.Parameters
        As from `around`.
    """
    p = parameters
    sums = hashlib.sha256()
    for cls, some in own.items():
        sums.update(f"{cls} {' '.join(split[cls])}".encode() + np.ascontiguousarray(some.pixels).tobytes())
    key = digest({"own": sums.hexdigest(), "psf": psf, "share": p.simulated_share, **p.simulated()})
    path = folder / f"bank-{key}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            for half in path.parent.glob(f".????????.{path.name}"):  # left by a build that was killed
                half.unlink()
            with storage.atomic(path) as beside, h5py.File(beside, "w") as file:
                _fill(file, own, split, psf, p)
    return Bank(path, key)


def _fill(file, own, split_of, psf, p):
    survey = bank.open_bank(p)  # simulated once for all finders at this scale and about this PSF
    for cls in (*bank.CLASSES, "graded"):
        next_own, some = _FIRST, own.get(cls, NONE).pixels
        for split in SHARES:
            ours = some[split_of[cls] == split] if len(some) else some
            n = survey.count(cls, split) if survey.has(cls, split) else 0
            if not len(ours) + n:
                continue
            tables = []
            if len(ours):
                ids = np.arange(next_own, next_own + len(ours))
                table = pd.DataFrame({"id": ids, "kind": "own", "own": True, "seeing": psf, "peak_snr": np.nan})
                tables.append(table.assign(**bank.measured(ours)))
                next_own += len(ours)
            if n:
                table = survey.catalogue(cls, split)
                tables.append(table if cls == "source" else table.assign(own=False))
            group = file.create_group(f"{cls}/{split}")
            data = group.create_dataset("pixels", (len(ours) + n, *stamps.SHAPE), np.float16, chunks=(1, *stamps.SHAPE))
            data[: len(ours)] = bank.sixteen_bits(ours)
            for i in range(0, n, bank.READ):
                block = survey.pixels(cls, split, slice(i, i + bank.READ))
                data[len(ours) + i : len(ours) + i + len(block)] = block
            group.create_dataset("catalogue", data=bank.records(pd.concat(tables, ignore_index=True)))


def by_grade(own: dict[str, Own], said: dict[str, int]) -> tuple[dict[str, Own], list[str]]:
    """Hosts (``lrg``) and negatives (``contaminant``) by `grades`: lenses apart, non-lenses among the negatives.

    Returns
    -------
    dict of Own
        ``lrg``, ``contaminant`` and ``graded``.
    list of str
        Ids of grades that no stamp has.
    """
    grade = {cls: np.array([said.get(i, -1) for i in some.ids], int) for cls, some in own.items()}
    found = {
        "lrg": own["lrg"].some(grade["lrg"] == -1),
        "contaminant": joined([own["lrg"].some(grade["lrg"] == 0), own["contaminant"].some(grade["contaminant"] != 1)]),
        "graded": joined([some.some(grade[cls] == 1) for cls, some in own.items()]),
    }
    known = {i for some in own.values() for i in some.ids}
    return found, [i for i in said if i not in known]


def joined(parts: list[Own]) -> Own:
    """Several as one."""
    ids, *arrays = zip(*parts, strict=True)
    return Own([i for some in ids for i in some], *map(np.concatenate, arrays))
