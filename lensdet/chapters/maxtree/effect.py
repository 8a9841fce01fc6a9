"""What the Max-Tree segmentation does to lenses, without any training (sections 4.7 and 5.5).

Of mock lenses the arc, and in the embedded survey the neighbours, are known pixel by pixel: how much of both does the
mask remove?  What runs on segmented stamps find is in `lensdet.chapters.maxtree.summary`.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.ndimage import label

from lensdet.data import frozen_sets, maxtree, mocklens, stamps
from lensdet.data.bank import Bank, simulated_again
from lensdet.evaluation import statistics
from lensdet.parameters import Parameters

NONE = dict(area=None, box=None, rectangularity=None, broken_rectangularity=False)  # without the filters
SHARES = ("pixels", "light", "neighbours")  # of the arc, of its light, of neighbours' pixels


class Lenses(NamedTuple):
    """Mock lenses with what is known of their pixels, (n, 101, 101) each; see `lenses`."""

    truth: pd.DataFrame  # n rows, from `frozen_sets.truth`
    images: np.ndarray  # float32, stretched, in [0, 1]
    light: np.ndarray  # float32, of the lensed source, in units of the lens' peak
    arcs: np.ndarray  # bool
    neighbours: np.ndarray | None  # bool; None where the stamps are not simulated


def lenses(parameters: Parameters, name: str) -> Lenses:
    """The mock lenses of a frozen set ("validation", "test" or another of `frozen_sets.FROZEN`) as `Lenses`."""
    split = frozen_sets.FROZEN[name]
    bank, rows = frozen_sets.frozen_bank(parameters, name)
    rows = rows[rows["label"] == 1]
    light = rows["alpha"][:, None, None] * bank.pixels("source", split)[rows["source"]]
    arcs = mocklens.arc_pixels(bank, split, rows)
    beside = neighbours(parameters, bank, split, rows, arcs)
    images = mocklens.images(bank, split, rows, parameters.renormalise)[..., 0]
    return Lenses(frozen_sets.truth(bank, split, rows), images, light, arcs, beside)


def examples(parameters: Parameters, found: Lenses) -> dict[str, NDArray | None]:
    """The stamps of Figure 5.19, stretched, by title; of the test set, each chosen by a rule.

    The mock lens of the largest area above the noise, among Einstein radii between 1.5 and 2.5 arcsec where they are
    known; the LRG with the largest area of neighbours, or the first; the spiral of the brightest surroundings (1.5 to
    6 arcsec), or None where there is none.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    found : Lenses
        Of the test set.
    """
    truth, beside = found.truth, found.neighbours
    clear = truth[truth["einstein_radius"].between(1.5, 2.5)] if "einstein_radius" in truth else truth
    clearest = (clear if len(clear) else truth)["area_fraction"].idxmax()
    bank, rows = frozen_sets.frozen_bank(parameters, "test")
    lrg = rows[rows["label"] == 1][[0 if beside is None else beside.sum((1, 2)).argmax()]]
    lrg["alpha"] = 0  # the LRG of a mock lens, without its arc
    kind = frozen_sets.truth(bank, "test", rows).get("kind", np.array(""))
    again = parameters.renormalise
    spirals = mocklens.images(bank, "test", rows[np.broadcast_to(kind == "spiral", len(rows))], again)[..., 0]
    radius = 0.2 * np.hypot(*(np.indices(stamps.SHAPE) - 50))
    around = spirals[:, (radius > 1.5) & (radius < 6)].mean(1)
    return {
        "mock lens": found.images[clearest],
        "LRG with neighbours" if beside is not None else "LRG": mocklens.images(bank, "test", lrg, again)[0, ..., 0],
        "spiral": spirals[around.argmax()] if len(spirals) else None,
    }


def neighbours(
    parameters: Parameters, bank: Bank, split: str, rows: NDArray, arcs: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Where mock lenses show neighbours alone: bool (n, 101, 101), or None where the stamps are not simulated.

    Each LRG is simulated again with and without them (`bank.simulated_again`): a pixel is a neighbour's
    where their light is at or above twice the noise, outside the arc, and outside the central galaxy, which is the
    component around the centre at or above twice the noise without neighbours.

    Parameters
    ----------
    bank : lensdet.data.bank.Bank
        That has the stamps of the split.
    split : str
    rows : structured array (n,), of dtype `mocklens.ROW`
        Mock lenses.
    arcs : bool array (n, 101, 101)
        From `mocklens.arc_pixels`.
    """
    if parameters.data is not None:
        return None
    places, of = np.unique(rows["stamp"], return_inverse=True)
    lrg = bank.catalogue("lrg", split).iloc[places]
    found = Parallel(n_jobs=parameters.workers)(
        delayed(_beside)(ident, noise, parameters) for ident, noise in zip(lrg["id"], lrg["noise"], strict=True)
    )
    return np.stack(found)[of] & ~arcs


def _beside(ident, noise, parameters):
    light, bare = simulated_again("lrg", ident, parameters)
    return (light >= 2 * noise) & ~_central(bare >= 2 * noise)


def _central(bright):
    """The 8-connected component of an image (ny, nx) of true and false that has its central pixel, if that is true."""
    components = label(bright, np.ones((3, 3)))[0]
    centre = components[bright.shape[0] // 2, bright.shape[1] // 2]
    return (components == centre) & (centre > 0)


def share(of: NDArray[np.bool_], masks: NDArray[np.bool_], weights: NDArray | None = None) -> NDArray:
    """Share of the pixels ``of`` (bool), by weight, that ``masks`` leave, (n, ny, nx) each: (n,); NaN without any."""
    where = np.nonzero(of)
    weight = np.ones(len(where[0])) if weights is None else weights[where]
    whole, left = (np.bincount(where[0], w, len(of)) for w in (weight, weight * masks[where]))
    with np.errstate(invalid="ignore"):
        return left / whole


def sky(images: NDArray) -> NDArray:
    """8-bit grey level of the background of stamps (n, ny, nx): the median beyond 0.8 of half a side of the centre."""
    far = _distance(images.shape[1:]) > 0.4 * min(images.shape[1:])
    return np.median((images[:, far] * 255.0).astype(np.uint8), axis=1)


def _distance(shape):
    """Distance of each pixel from the true centre, in pixels."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.hypot(y[:, None], x)


def masks_of(images: NDArray, how: maxtree.Settings | float) -> NDArray[np.bool_]:
    """What is left of stamps (n, ny, nx): by `maxtree.Settings`, or a plain disc of ``how`` pixels' radius."""
    if isinstance(how, maxtree.Settings):
        return maxtree.masks(images, how)
    return np.broadcast_to(_distance(images.shape[1:]) <= how, images.shape)


def arc_removed(found: Lenses, how: maxtree.Settings | float) -> pd.DataFrame:
    """How much of each mock lens is removed.

    Parameters
    ----------
    found : Lenses
    how : lensdet.data.maxtree.Settings or float
        As in `masks_of`.

    Returns
    -------
    pandas.DataFrame
        A row a mock lens: ``einstein_radius`` (arcsec; NaN where unknown), ``alpha``, ``sky`` (`sky`); ``arc``, the
        number of its arc pixels; and the removed shares of these, ``pixels``, of the source's light in them, ``light``,
        and of the pixels of neighbours, ``neighbours``: NaN where there are none, or they are not known.
    """
    masks, unknown = masks_of(found.images, how), np.full(len(found.images), np.nan)
    return pd.DataFrame({
        "einstein_radius": found.truth.get("einstein_radius", unknown),
        "alpha": found.truth["alpha"],
        "sky": sky(found.images),
        "arc": found.arcs.sum((1, 2)),
        "pixels": 1 - share(found.arcs, masks),
        "light": 1 - share(found.arcs, masks, found.light),
        "neighbours": unknown if found.neighbours is None else 1 - share(found.neighbours, masks),
    })  # fmt: skip


def resamples(truth: pd.DataFrame, draws: int = 2000, seed: int = 0) -> NDArray:
    """Resamples (B, n) of mock lenses by LRG, and by source where one is used twice (`statistics.resample`)."""
    return statistics.resample(truth["stamp_id"], truth["source_id"], np.zeros(len(truth)), draws, seed)


def totals(removed: dict[str, pd.DataFrame], weights: NDArray) -> pd.DataFrame:
    """Mean of each removed share over mock lenses.

    Parameters
    ----------
    removed : dict of pandas.DataFrame
        From `arc_removed`, by name of the settings.
    weights : array (B, n)
        From `resamples`.

    Returns
    -------
    pandas.DataFrame
        A row a setting and share (`SHARES`): mean, its 95 % interval over LRGs, and n, the mock lenses that have any.
    """
    rows = []
    for name, table in removed.items():
        for column in SHARES:
            mean, low, high = statistics.mean_interval(table[column].to_numpy(), weights)
            rows.append({"settings": name, "share": column, "mean": mean, "low": low, "high": high,
                         "n": int(table[column].notna().sum())})  # fmt: skip
    return pd.DataFrame(rows)


def by_radius(removed: dict[str, pd.DataFrame], weights: NDArray, bins: int = 8) -> pd.DataFrame:
    """Removed shares of arc pixels against Einstein radius.

    Parameters
    ----------
    removed, weights
        As in `totals`.
    bins : int
        Logarithmic, as radii are drawn, from 1 to 5 arcsec or further where the lenses go.

    Returns
    -------
    pandas.DataFrame
        A row a setting and bin: its edges ``radius_low``, ``radius_high`` (arcsec); n, mean and 95 % interval over
        LRGs (NaN below two mock lenses); ``gone``, how many lose more than half of their arc, with the Clopper-Pearson
        interval ``gone_low``, ``gone_high`` of their share.  No rows where no radius is known.
    """
    rows = []
    for name, table in removed.items():
        table = table.reset_index(drop=True)
        known = table[table["einstein_radius"].notna() & table["pixels"].notna()]
        if not len(known):
            continue
        radius = known["einstein_radius"]
        edges = np.geomspace(min(1, radius.min()), max(5, radius.max()), bins + 1)
        place = np.clip(np.searchsorted(edges, radius, "right") - 1, 0, bins - 1)
        for k in range(bins):
            inside = known.index[place == k]
            values, n = known.loc[inside, "pixels"].to_numpy(), len(inside)
            gone = int((values > 0.5).sum())
            mean, low, high = statistics.mean_interval(values, weights[:, inside])
            low, high = (low, high) if n > 1 else (np.nan, np.nan)
            ends = statistics.clopper_pearson(gone, n) if n else (np.nan, np.nan)
            rows.append({"settings": name, "radius_low": edges[k], "radius_high": edges[k + 1], "n": n,
                         "mean": mean, "low": low, "high": high, "gone": gone, "gone_low": ends[0],
                         "gone_high": ends[1]})  # fmt: skip
    return pd.DataFrame(rows)


def by_settings(total: pd.DataFrame) -> dict[str, pd.Series]:
    """Mean removed shares by settings, of `totals`; by name of the share."""
    return {column: rows.set_index("settings")["mean"] for column, rows in total.groupby("share")}


def hardest_bin(binned: pd.DataFrame, how: str) -> dict[str, float]:
    """The row of `by_radius` where some settings remove the largest share of the arcs, of bins with two lenses or more.

    NaN where no radius is known.
    """
    columns = ["settings", "radius_low", "radius_high", "n", "mean", "low", "gone"]
    rows = binned.reindex(columns=columns)
    rows = rows[(rows["settings"] == how) & rows["low"].notna()]
    return dict.fromkeys(columns, np.nan) if rows.empty else rows.loc[rows["mean"].idxmax()].to_dict()


def disc(images: NDArray, settings: maxtree.Settings) -> pd.DataFrame:
    """What decay and flood fill alone leave, a disc about the centre, against the level of the sky.

    The decayed sky is I exp(-d / alpha) and the flood takes what is within the tolerance of (nearly) nothing, so that
    it should stop at d = alpha ln(sky / tolerance): a crop whose radius goes by the brightness of the sky, and so by
    the lens' signal-to-noise (8 bit, square root, normalised to the peak: fainter lenses have a brighter sky).

    The radius is that at which less than half of a ring, one pixel wide, is left, interpolated between rings.  A count
    of pixels connected to the centre would grow with every neighbour that touches the disc; a neighbour rarely covers
    half a ring.

    Parameters
    ----------
    images : float array (n, ny, nx)
        Stretched stamps.
    settings : lensdet.data.maxtree.Settings
        With a decay and a tolerance; its filters are left out.

    Returns
    -------
    pandas.DataFrame
        A row a stamp: ``sky`` (grey levels), ``radius`` and ``predicted`` (pixels), both at the most half a side.
    """
    masks = maxtree.masks(images, settings._replace(**NONE))
    ring = np.rint(_distance(images.shape[1:])).astype(int)
    half = (min(images.shape[1:]) - 1) // 2
    size = np.bincount(ring.ravel())[: half + 1]
    left = np.stack([np.bincount(ring.ravel(), mask.ravel())[: half + 1] for mask in masks]) / size  # (n, half + 1)
    level = sky(images)
    with np.errstate(divide="ignore"):
        predicted = settings.decay * np.log(level / settings.tolerance)
    radius = np.array([_falls(shares) for shares in left])
    return pd.DataFrame({"sky": level, "radius": radius, "predicted": np.clip(predicted, 0, half)})


def by_sky(discs: dict[str, pd.DataFrame], bins: int = 5) -> pd.DataFrame:
    """Radii of `disc` in bins of the sky's level, with as many stamps in each as ties allow.

    Parameters
    ----------
    discs : dict of pandas.DataFrame
        By name of the settings.
    bins : int

    Returns
    -------
    pandas.DataFrame
        A row a setting and bin: ``sky_low``, ``sky_high``, n, the median ``radius`` and where 68 % of them lie,
        ``radius_16`` and ``radius_84``, and the median ``predicted``.
    """
    rows = []
    for name, table in discs.items():
        inner = np.quantile(table["sky"], np.arange(1, bins) / bins)
        for _, part in table.groupby(np.searchsorted(np.unique(inner), table["sky"])):
            low, middle, high = part["radius"].quantile([0.16, 0.5, 0.84])
            rows.append({"settings": name, "sky_low": part["sky"].min(), "sky_high": part["sky"].max(), "n": len(part),
                         "radius": middle, "radius_16": low, "radius_84": high,
                         "predicted": part["predicted"].median()})  # fmt: skip
    return pd.DataFrame(rows)


def _falls(shares):
    """Where shares (k,) of rings 0, 1, ... first fall below one half; the last ring where they do not."""
    below = np.flatnonzero(shares < 0.5)
    if not len(below):
        return float(len(shares) - 1)
    k = below[0]
    return float(k - 1 + (shares[k - 1] - 0.5) / (shares[k - 1] - shares[k])) if k else 0.0
