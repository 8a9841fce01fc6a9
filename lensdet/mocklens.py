"""Mock lenses and negatives (Eq. 4.2): drawing rows, merging pixels, the frozen sets.

An example is a row of numbers: which stamp, which source, which alpha, which warp.  Rows are drawn on the host; pixels
are merged on the device by `merge`, from a bank that stays there.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed

from lensdet import augmentation, maxtree, results
from lensdet import bank as bank_room
from lensdet.parameters import digest
from lensdet.streams import stream

ROW = np.dtype([("stamp", np.int32), ("source", np.int32), ("alpha", np.float32), ("label", np.float32)])
# The frozen sets: the split each is drawn from.
FROZEN = {"validation": "validation", "calibration": "calibration", "test": "test", "information": "test"}
LARGE = "large"  # the large test set, of stamps in no split; of the embedded survey alone
OF_LARGE = ["label", "host", "stamp_id", "kind", "source_id", "alpha", "einstein_radius", "area_fraction"]  # kept of it
BLOCK = 2048  # stamps of the large test set on the device at once


def device_bank(bank, split):
    """The stamps of a split for `merge`: (LRGs followed by contaminants, sources), float16 (n, 101, 101) each."""
    hosts = np.concatenate([bank.pixels("lrg", split), bank.pixels("contaminant", split)])
    return hosts, bank.pixels("source", split)


def sizes(bank, split):
    """Number of LRGs, contaminants and sources in a split."""
    return tuple(bank.count(cls, split) for cls in ("lrg", "contaminant", "source"))


def _rows(rng, n_positive, n_negative, size, parameters, pick):
    """Positives followed by negatives; ``pick(n, k)`` draws k indices below n."""
    n_lrg, n_contaminant, n_source = size
    rows = np.zeros(n_positive + n_negative, ROW)
    positive, negative = rows[:n_positive], rows[n_positive:]
    positive["stamp"] = pick(n_lrg, n_positive)
    positive["source"] = pick(n_source, n_positive)
    positive["alpha"] = rng.uniform(*parameters.alpha, n_positive)
    positive["label"] = 1
    contaminant = rng.random(n_negative) < parameters.contaminant_fraction
    negative["stamp"][contaminant] = n_lrg + pick(n_contaminant, contaminant.sum())
    negative["stamp"][~contaminant] = pick(n_lrg, (~contaminant).sum())
    return rows


def training_rows(parameters, run, chunk, size):
    """Rows and warps of a training chunk, shuffled (sections 4.2 and 4.2.1).

    Half are mock lenses of an LRG and a source drawn with replacement, half are negatives, of which each is a
    contaminant with probability ``contaminant_fraction`` and else an LRG.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    run, chunk : int
        With the seed, the key of the stream: the same rows for every loss, and for a run that is taken up again.
    size : tuple of int
        As from `sizes`.

    Returns
    -------
    rows : structured array (chunk_size,) of dtype `ROW`
    warps : float32 array (chunk_size, 6)
    """
    rng = stream(parameters.seed, "training rows", run, chunk)
    half = parameters.chunk_size // 2
    rows = _rows(rng, half, half, size, parameters, lambda n, k: rng.integers(0, n, k))
    rng.shuffle(rows)
    p = parameters
    return rows, augmentation.draw_warps(rng, len(rows), p.shift, p.zoom, p.zoom_direction)


def frozen_rows(parameters, name, size, redraw=()):
    """Rows of a frozen set: positives, then negatives; without warps.  Nothing is drawn twice before all were once.

    Parameters
    ----------
    name : {"validation", "calibration", "test", "information", "large"}
        The information set has mock lenses only.
    size : tuple of int
        As from `sizes`, of the split in `FROZEN`; of the large test set, ``(large_size,) * 3``.
    redraw : tuple of int
        Further words for the key, for a validation set drawn anew at every chunk (the ``code`` protocol's).
    """
    rng = stream(parameters.data_seed, f"frozen/{name}", *redraw)

    def pick(n, k):
        rounds = [rng.permutation(n) for _ in range(-(-k // n))]
        return np.concatenate([*rounds, np.zeros(0, np.int64)])[:k].astype(np.int32)

    if name == "information":
        return _rows(rng, parameters.information_size, 0, size, parameters, pick)
    n = parameters.large_size if name == LARGE else parameters.frozen_size
    return _rows(rng, n, n, size, parameters, pick)


def frozen_bank(parameters, name):
    """A `lensdet.bank.Bank` that has the stamps of a frozen set, and the set's rows for that bank, (N,) of dtype `ROW`.

    The rows are those of `frozen_rows` without a redraw.  Of a simulated survey no others are simulated, where the
    whole bank is not there yet: the test set needs some 550 of 10,000 sources.  Pixels are the same either way, and so
    is what `truth` says.
    """
    split = LARGE if name == LARGE else FROZEN[name]
    if split == LARGE:
        size = (parameters.large_size,) * 3
    elif parameters.data is not None or bank_room.is_built(parameters):
        opened = bank_room.open_bank(parameters)
        return opened, frozen_rows(parameters, name, sizes(opened, split))
    else:
        counts = parameters.n_lrg, parameters.n_contaminant, parameters.n_source
        size = tuple(bank_room.split_sizes(n)[split] for n in counts)
    rows = frozen_rows(parameters, name, size)
    stamps, rows["stamp"] = np.unique(rows["stamp"], return_inverse=True)
    sources, rows["source"] = np.unique(rows["source"], return_inverse=True)
    lrg = stamps < size[0]
    places = {"lrg": stamps[lrg], "contaminant": stamps[~lrg] - size[0], "source": sources}
    if not len(places["contaminant"]):  # mock lenses alone; a bank has all classes
        places["contaminant"] = np.arange(1)
    return bank_room.open_bank(parameters, (split, places)), rows


def large_rows(parameters):
    """Rows of the large test set: of all that may be drawn, where those of `frozen_bank` are of what it simulates."""
    return frozen_rows(parameters, LARGE, (parameters.large_size,) * 3)


def blocks(bank, split, rows):
    """Rows of a split and their stamps, a block at a time: rows for these stamps, LRGs with contaminants, sources.

    Of 30,000 stamps at once there would be 600 MB on the host, and as many on the device.
    """
    n_lrg = bank.count("lrg", split)
    for i in range(0, len(rows), BLOCK):
        part = rows[i : i + BLOCK].copy()
        stamps, part["stamp"] = np.unique(part["stamp"], return_inverse=True)
        used, part["source"] = np.unique(part["source"], return_inverse=True)
        lrg = stamps < n_lrg
        hosts = bank.pixels("lrg", split, stamps[lrg]), bank.pixels("contaminant", split, stamps[~lrg] - n_lrg)
        yield part, np.concatenate(hosts), bank.pixels("source", split, used)


def merge(hosts, sources, stamp, source, alpha):
    """Mock lenses and negatives on the device: Eq. 4.2, square root, clip.

    Both stamps are normalised, so that m = l + alpha s.  There is no second normalisation: where l + alpha s passes 1
    it is cut, and the peak of a mock lens is 1 or saturated, as in the published runs.  A negative has alpha = 0.

    Parameters
    ----------
    hosts, sources : tensors (n, 101, 101), float16
    stamp, source : int tensors (N,)
    alpha : float tensor (N,)

    Returns
    -------
    float32 tensor (N, 101, 101, 1)
    """
    from keras import ops  # which takes seconds to import, and rows alone do not need it

    host = ops.cast(ops.take(hosts, stamp, axis=0), "float32")
    light = ops.cast(ops.take(sources, source, axis=0), "float32")
    return ops.clip(ops.sqrt(host + alpha[:, None, None] * light), 0.0, 1.0)[..., None]


def masker(settings, hosts, sources, threads=None):
    """What masks the stamps of some rows by Max-Tree (section 4.7), on the host: a function of rows.

    It goes between merging and warp.  LRGs and contaminants are the same in every chunk and are segmented once, here;
    only mock lenses are new.

    Parameters
    ----------
    settings : lensdet.maxtree.Settings
    hosts, sources : float16 arrays (n, 101, 101)
        As from `device_bank`.
    threads : int, optional
        All cores where not given.

    Returns
    -------
    callable
        Of rows (N,); it returns a bool array (N, 101, 101), False where a stamp is to be zero.
    """

    def part(of):
        stamp, source, alpha = of
        return maxtree.masks(_merged(hosts[stamp], sources[source], alpha), settings, threads=1)

    def merged(stamp, source, alpha):
        parts = [(stamp[i : i + 64], source[i : i + 64], alpha[i : i + 64]) for i in range(0, len(stamp), 64)]
        with ThreadPoolExecutor(threads or cpu_count()) as pool:
            return np.concatenate([np.zeros((0, *hosts.shape[1:]), bool), *pool.map(part, parts)])

    every = np.arange(len(hosts))
    fixed = merged(every, np.zeros_like(every), np.zeros(len(hosts), np.float32))

    def masks(rows):
        found, mock = fixed[rows["stamp"]], rows["alpha"] > 0
        found[mock] = merged(*(rows[name][mock] for name in ("stamp", "source", "alpha")))
        return found

    return masks


def images(bank, split, rows):
    """The merged stamps of some rows as a float32 array (N, 101, 101, 1), made on the host: what `merge` makes."""
    hosts, sources = device_bank(bank, split)
    return _merged(hosts[rows["stamp"]], sources[rows["source"]], rows["alpha"])[..., None]


def _merged(hosts, sources, alpha):
    host, light = hosts.astype(np.float32), sources.astype(np.float32)
    return np.clip(np.sqrt(host + alpha[:, None, None] * light), 0, 1)


def without_neighbours(parameters, bank, split, rows):
    """The merged stamps of some rows, as `images`, without their neighbours: same galaxy, arc, noise, normalisation.

    Each stamp is simulated again (`lensdet.simulation.render`), with and without, and the difference taken away from
    the bank's; Eq. 4.1 keeps the stamp's own minimum and maximum, so that nothing else changes.
    """
    hosts, sources = device_bank(bank, split)
    catalogue = pd.concat([bank.catalogue(cls, split).assign(cls=cls) for cls in ("lrg", "contaminant")])
    stamps, of = np.unique(rows["stamp"], return_inverse=True)
    chosen = catalogue.iloc[stamps]
    light = Parallel(n_jobs=parameters.workers)(
        delayed(bank_room.simulated_again)(cls, ident, parameters)
        for cls, ident in zip(chosen["cls"], chosen["id"], strict=True)
    )
    span = (chosen["maximum"] - chosen["minimum"]).to_numpy()[:, None, None]
    bare = np.maximum(
        hosts[stamps].astype(np.float32) - np.stack([neighbours for neighbours, _ in light]) / span, 0
    ).astype(np.float32)
    return _merged(bare[of], sources[rows["source"]], rows["alpha"])[..., None]


def arc_pixels(bank, split, rows):
    """Where the source of mock lenses is at or above twice the noise of its lens image: bool (n, 101, 101).

    The pixels that ``area_fraction`` counts, see `truth`.  All rows must be mock lenses.
    """
    lens = bank.catalogue("lrg", split).iloc[rows["stamp"]]
    limit = (2 * lens["noise"] / lens["maximum"]).to_numpy(np.float32)[:, None, None]
    return rows["alpha"][:, None, None] * bank.pixels("source", split)[rows["source"]] >= limit


def truth(bank, split, rows):
    """What is known of each row, a pandas data frame: class, ids, label, alpha, and the stamps' catalogue columns.

    ``area_fraction`` is the fraction of the stamp where the source is above twice the noise of its lens image, which is
    measured from the median absolute deviation (section 5.3; the published runs took 1.66 times as much).
    """
    lrg, contaminant, source = (bank.catalogue(cls, split) for cls in ("lrg", "contaminant", "source"))
    hosts = pd.concat([lrg.assign(host="lrg"), contaminant.assign(host="contaminant")], ignore_index=True)
    table = hosts.iloc[rows["stamp"]].reset_index(drop=True).rename(columns={"id": "stamp_id", "file": "stamp_file"})
    table.insert(0, "host", table.pop("host"))
    table.insert(0, "label", rows["label"].astype(int))
    table["alpha"] = rows["alpha"]
    positive = rows["label"] == 1
    light = (
        source.iloc[rows["source"]].reset_index(drop=True).rename(columns={"id": "source_id", "file": "source_file"})
    )
    light = light.drop(columns=["noise", "minimum", "maximum"])
    table = pd.concat([table, light.where(np.broadcast_to(positive[:, None], light.shape))], axis=1)
    pixels = bank.pixels("source", split)
    limit = 2 * table["noise"] / table["maximum"]
    fraction = [(a * pixels[s] >= k).mean() for a, s, k in zip(rows["alpha"], rows["source"], limit, strict=True)]
    table["area_fraction"] = np.where(positive, fraction, np.nan)
    return table


def truth_folder(parameters, data_key):
    """Where the truth tables of the frozen sets lie: ``results/<profile>/truth-<key>``."""
    return results.results_dir() / parameters.profile / f"truth-{data_key}"


def has_truth(parameters, data_key):
    """Whether the truth table of every frozen set is there."""
    return all((truth_folder(parameters, data_key) / f"{name}.csv").exists() for name in FROZEN)


def large_key(parameters):
    """Eight hexadecimal digits that name the large test set, of any profile that simulates so."""
    return digest(parameters.large())


def large_folder(parameters):
    """Where truth and rows of the large test set lie: ``results/large-<key>``."""
    return results.results_dir() / f"large-{large_key(parameters)}"


def has_large(parameters):
    """Whether there is a large test set: of the embedded survey, where one is asked for."""
    return bool(parameters.large_size) and parameters.data is None


def large_set(parameters):
    """The large test set as `frozen_bank` has it; its rows and what is known of them are left in `large_folder`."""
    bank, rows = frozen_bank(parameters, LARGE)
    folder = large_folder(parameters)
    paths = folder / "rows.h5", folder / "truth.csv"
    if not all(path.exists() for path in paths):
        with results.sealing(*paths):
            results.write_rows(paths[0], large_rows(parameters))
            results.write_csv(paths[1], truth(bank, LARGE, rows)[OF_LARGE].round(5))
    return bank, rows


def write_truth(parameters, bank):
    """Write `truth` of every frozen set to `truth_folder`, ``<set>.csv``, where it is not there yet."""
    for name, split in FROZEN.items():
        path = truth_folder(parameters, bank.data_key) / f"{name}.csv"
        if not path.exists():
            table = truth(bank, split, frozen_rows(parameters, name, sizes(bank, split)))
            with results.sealing(path):
                results.write_csv(path, table)
