"""Mock lenses and negatives (Eq. 4.2): drawing rows, merging pixels.

An example is a row of numbers: which stamp, which source, which alpha, which warp.  Rows are drawn on the host; pixels
are merged on the device by `merge`, from a bank that stays there; on the host by `merged`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from numpy.typing import ArrayLike, NDArray

from lensdet.data import augmentation, maxtree, stamps
from lensdet.data.augmentation import Tensor
from lensdet.data.bank import Bank, simulated_again
from lensdet.data.random import stream
from lensdet.parameters import Parameters

ROW = np.dtype([("stamp", np.int32), ("source", np.int32), ("alpha", np.float32), ("label", np.float32)])
MOST_GRADED, GRADED = 0.25, 400  # of the positives, graded lenses: one in GRADED for each, up to a quarter
ALIKE = 0.05  # of all sources, on either side in order of their PSF, that a host's source is drawn from


class Sizes(NamedTuple):
    """How many stamps of a split there are to draw from; where PSFs differ, what is paired by them."""

    lrg: int
    contaminant: int
    source: int
    seeing: NDArray | None = None  # arcsec, FWHM of the PSF of each LRG, (lrg,)
    source_seeing: NDArray | None = None  # of each source, (source,)
    own: tuple[int, int] = (0, 0)  # LRGs and contaminants of a user's own, the first of each; the others are simulated
    graded: int = 0  # lenses that people graded, after the contaminants


def device_bank(bank: Bank, split: str) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """The stamps of a split for `merge`, float16 (n, 101, 101) each: LRGs, contaminants, graded lenses; and sources."""
    hosts = ["lrg", "contaminant", *(["graded"] if bank.has("graded", split) else [])]
    return np.concatenate([bank.pixels(cls, split) for cls in hosts]), bank.pixels("source", split)


def sizes(bank: Bank, split: str) -> Sizes:
    """Number of LRGs, contaminants and sources in a split, and their PSFs where sources have more than one."""
    counts = (bank.count(cls, split) for cls in ("lrg", "contaminant", "source"))
    source = bank.catalogue("source", split)
    if "source_seeing" not in source:
        return Sizes(*counts)
    lrg, contaminant = (bank.catalogue(cls, split) for cls in ("lrg", "contaminant"))
    own = tuple(int(table["own"].sum()) if "own" in table else 0 for table in (lrg, contaminant))
    graded = bank.count("graded", split) if bank.has("graded", split) else 0
    return Sizes(*counts, lrg["seeing"].to_numpy(), source["source_seeing"].to_numpy(), own, graded)


def pairs(rng: np.random.Generator, seeing: NDArray, source_seeing: NDArray) -> NDArray[np.int64]:
    """A source for each host whose PSF is like the host's: one of the `ALIKE` share next to it on either side.

    A sharp arc on a blurred galaxy would give mock lenses away.

    Parameters
    ----------
    rng : numpy.random.Generator
    seeing : float array (n,)
        FWHM of the hosts' PSFs, arcsec.
    source_seeing : float array (k,)
        Of all sources.

    Returns
    -------
    int array (n,)
        Indices of sources.
    """
    order, k = np.argsort(source_seeing, kind="stable"), len(source_seeing)
    most = min(max(4, round(ALIKE * k)), (k - 1) // 2)
    place = np.clip(np.searchsorted(source_seeing[order], seeing), most, k - 1 - most)
    return order[place + rng.integers(-most, most + 1, len(seeing))]


def draw_rows(
    rng: np.random.Generator,
    n_positive: int,
    n_negative: int,
    size: Sizes,
    parameters: Parameters,
    pick: Callable[[int, int], NDArray],
) -> np.ndarray:
    """Positives followed by negatives, (n_positive + n_negative,) of dtype `ROW`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws alpha, and which negatives are contaminants.
    n_positive, n_negative : int
    size : Sizes
        As from `sizes`.
    parameters : lensdet.parameters.Parameters
    pick : callable
        ``pick(n, k)`` draws k indices below n.
    """
    n_lrg, n_contaminant, n_source = size[:3]
    rows = np.zeros(n_positive + n_negative, ROW)
    positive, negative = rows[:n_positive], rows[n_positive:]

    def chosen(n, own, k):
        if not own:
            return pick(n, k)
        found, ours = np.zeros(k, np.int64), rng.random(k) >= (parameters.simulated_share if own < n else 0)
        found[ours] = pick(own, ours.sum())
        found[~ours] = own + pick(n - own, k - ours.sum()) if own < n else 0
        return found

    positive["stamp"] = chosen(n_lrg, size.own[0], n_positive)
    if size.source_seeing is None:
        positive["source"] = pick(n_source, n_positive)
    else:
        positive["source"] = pairs(rng, size.seeing[positive["stamp"]], size.source_seeing)
    positive["alpha"] = rng.uniform(*parameters.alpha, n_positive)
    positive["label"] = 1
    contaminant = rng.random(n_negative) < parameters.contaminant_fraction
    negative["stamp"][contaminant] = n_lrg + chosen(n_contaminant, size.own[1], contaminant.sum())
    negative["stamp"][~contaminant] = chosen(n_lrg, size.own[0], (~contaminant).sum())
    if size.graded:  # lenses as they are: nothing is added
        graded = rng.random(n_positive) < min(MOST_GRADED, size.graded / GRADED)
        positive["stamp"][graded] = n_lrg + n_contaminant + pick(size.graded, graded.sum())
        positive["alpha"][graded] = 0
    return rows


def training_rows(parameters: Parameters, run: int, chunk: int, size: Sizes) -> tuple[np.ndarray, NDArray[np.float32]]:
    """Rows and warps of a training chunk, shuffled (sections 4.2 and 4.2.1).

    Half are mock lenses of an LRG and a source drawn with replacement, half are negatives, of which each is a
    contaminant with probability ``contaminant_fraction`` and else an LRG.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    run, chunk : int
        With the seed, the key of the stream: the same rows for every loss, and for a run that is taken up again.
    size : Sizes
        As from `sizes`.

    Returns
    -------
    rows : structured array (chunk_size,) of dtype `ROW`
    warps : float32 array (chunk_size, 6)
    """
    rng = stream(parameters.seed, "training rows", run, chunk)
    half = parameters.chunk_size // 2
    rows = draw_rows(rng, half, half, size, parameters, lambda n, k: rng.integers(0, n, k))
    rng.shuffle(rows)
    p = parameters
    return rows, augmentation.draw_warps(rng, len(rows), p.shift, p.zoom, p.zoom_direction)


def added(hosts: ArrayLike, sources: ArrayLike, alpha: ArrayLike) -> NDArray:
    """Eq. 4.2: m = l + alpha s, neither cut nor stretched.

    Parameters
    ----------
    hosts, sources : array_like, (..., 101, 101)
        Both normalised (Eq. 4.1), or the sources scaled to the hosts; taken as float32.
    alpha : array_like, (...)
        Its type is that of the sum: float32, or float64.  0 for a negative.

    Returns
    -------
    numpy.ndarray
        (..., 101, 101)
    """
    return np.asarray(hosts, np.float32) + np.asarray(alpha)[..., None, None] * np.asarray(sources, np.float32)


def stretched(images: ArrayLike) -> NDArray:
    """What a network sees of normalised stamps, of their shape and type: cut to [0, 1], square root."""
    return np.sqrt(np.clip(images, 0, 1))


def merged(hosts: ArrayLike, sources: ArrayLike, alpha: ArrayLike, renormalise: bool = False) -> NDArray:
    """Mock lenses and negatives on the host, `added` and then `stretched`: the pixels of `merge`.

    Parameters are those of `added` and of `merge`.
    """
    mocks = added(hosts, sources, alpha)
    return stretched(stamps.normalise(mocks) if renormalise else mocks)


def merge(
    hosts: Tensor, sources: Tensor, stamp: Tensor, source: Tensor, alpha: Tensor, renormalise: bool = False
) -> Tensor:
    """Mock lenses and negatives on the device: Eq. 4.2, square root, clip.

    Both stamps are normalised, so that m = l + alpha s.  Without a second normalisation the peak of a mock lens is 1 or
    saturated where l + alpha s passes 1, as in the published runs, and its darkest pixel is not 0: a network can tell
    mock lenses by that alone.  A negative has alpha = 0.

    Parameters
    ----------
    hosts, sources : tensors (n, 101, 101), float16
    stamp, source : int tensors (N,)
    alpha : float tensor (N,)
    renormalise : bool
        Normalise each merged stamp again by its own minimum and maximum (Eq. 4.1), as every stamp of a survey is.

    Returns
    -------
    float32 tensor (N, 101, 101, 1)
    """
    from keras import ops  # which takes seconds to import, and rows alone do not need it

    host = ops.cast(ops.take(hosts, stamp, axis=0), "float32")
    light = ops.cast(ops.take(sources, source, axis=0), "float32")
    mock = host + alpha[:, None, None] * light
    if renormalise:
        low, high = (find(mock, axis=(1, 2), keepdims=True) for find in (ops.min, ops.max))
        mock = (mock - low) / (high - low)
    return ops.clip(ops.sqrt(mock), 0.0, 1.0)[..., None]


def masker(
    settings: maxtree.Settings,
    hosts: NDArray,
    sources: NDArray,
    renormalise: bool = False,
    threads: int | None = None,
) -> Callable[[np.ndarray], NDArray[np.bool_]]:
    """What masks the stamps of some rows by Max-Tree (section 4.7), on the host: a function of rows.

    It goes between merging and warp.  LRGs and contaminants are the same in every chunk and are segmented once, here;
    only mock lenses are new.

    Parameters
    ----------
    settings : lensdet.data.maxtree.Settings
    hosts, sources : float16 arrays (n, 101, 101)
        As from `device_bank`.
    renormalise : bool
        As in `merged`.
    threads : int, optional
        All cores where not given.

    Returns
    -------
    callable
        Of rows (N,); it returns a bool array (N, 101, 101), False where a stamp is to be zero.
    """

    def part(of):
        stamp, source, alpha = of
        return maxtree.masks(merged(hosts[stamp], sources[source], alpha, renormalise), settings, threads=1)

    def masked(stamp, source, alpha):
        parts = [(stamp[i : i + 64], source[i : i + 64], alpha[i : i + 64]) for i in range(0, len(stamp), 64)]
        with ThreadPoolExecutor(threads or cpu_count()) as pool:
            return np.concatenate([np.zeros((0, *hosts.shape[1:]), bool), *pool.map(part, parts)])

    every = np.arange(len(hosts))
    fixed = masked(every, np.zeros_like(every), np.zeros(len(hosts), np.float32))

    def masks(rows):
        found, mock = fixed[rows["stamp"]], rows["alpha"] > 0
        found[mock] = masked(*(rows[name][mock] for name in ("stamp", "source", "alpha")))
        return found

    return masks


def images(bank: Bank, split: str, rows: np.ndarray, renormalise: bool = False) -> NDArray[np.float32]:
    """The merged stamps of some rows as a float32 array (N, 101, 101, 1), made on the host: what `merge` makes.

    Parameters
    ----------
    bank : lensdet.data.bank.Bank
    split : str
        Of the bank.
    rows : structured array (N,) of dtype `ROW`
        Of that split, such as from `frozen_sets.frozen_bank`.
    renormalise : bool
        As in `merge`.
    """
    hosts, sources = device_bank(bank, split)
    return merged(hosts[rows["stamp"]], sources[rows["source"]], rows["alpha"], renormalise)[..., None]


def without_neighbours(parameters: Parameters, bank: Bank, split: str, rows: np.ndarray) -> NDArray[np.float32]:
    """The merged stamps of some rows, as `images`, without their neighbours: same galaxy, arc, noise, normalisation.

    Each stamp is simulated again (`simulation.render`), with and without, and the difference taken away from
    the bank's; Eq. 4.1 keeps the stamp's own minimum and maximum, so that nothing else changes.

    Parameters are those of the bank, which must be of a simulated survey, and those of `images`.
    """
    hosts, sources = device_bank(bank, split)
    catalogue = pd.concat([bank.catalogue(cls, split).assign(cls=cls) for cls in ("lrg", "contaminant")])
    stamps, of = np.unique(rows["stamp"], return_inverse=True)
    chosen = catalogue.iloc[stamps]
    light = Parallel(n_jobs=parameters.workers)(
        delayed(simulated_again)(cls, ident, parameters) for cls, ident in zip(chosen["cls"], chosen["id"], strict=True)
    )
    span = (chosen["maximum"] - chosen["minimum"]).to_numpy()[:, None, None]
    bare = np.maximum(
        hosts[stamps].astype(np.float32) - np.stack([neighbours for neighbours, _ in light]) / span, 0
    ).astype(np.float32)
    return merged(bare[of], sources[rows["source"]], rows["alpha"], parameters.renormalise)[..., None]


def arc_pixels(bank: Bank, split: str, rows: np.ndarray) -> NDArray[np.bool_]:
    """Where the source of mock lenses is at or above twice the noise of its lens image: bool (n, 101, 101).

    The pixels that ``area_fraction`` counts, see `frozen_sets.truth`.  All rows must be mock lenses; parameters are
    otherwise those of `images`.
    """
    lens = bank.catalogue("lrg", split).iloc[rows["stamp"]]
    limit = (2 * lens["noise"] / lens["maximum"]).to_numpy(np.float32)[:, None, None]
    return rows["alpha"][:, None, None] * bank.pixels("source", split)[rows["source"]] >= limit
